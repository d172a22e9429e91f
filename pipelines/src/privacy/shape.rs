//! Whose a row of a dataset is, by the catalog's own words: which columns are personal, which say who, which tie it to others.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{cast, filter_record_batch, not, nullif};
use arrow::datatypes::DataType;
use catalog::store::erasures::PART;
use catalog::store::pg::fault;
use catalog::{Dataset, Kind, Result, datasets};
use sinks::postgres::quote;
use sqlx::{AssertSqlSafe, PgConnection};
use transforms::functions::{email_canonical, email_is_alias};

/// The kinds of values that say who somebody is. The place of one is the number of its parameter in a
/// [`condition`](Shape::condition), counted from 1.
pub(super) const KINDS: [&str; 8] = ["email", "phone", "vendor", "booking", "guest", "stay", "lead", "person"];

/// The parameter that holds the values of a kind.
fn parameter(kind: &str) -> String {
    // Every kind is in the list; one that is not would name a parameter that nobody binds, and the server says so.
    format!("${}", KINDS.iter().position(|k| *k == kind).map_or(0, |at| at + 1))
}

/// Tells whether a canonical value of a kind is the person's.
pub(super) type Who<'a> = &'a dyn Fn(&str, &str) -> bool;

/// How the rows of a dataset are told to be somebody's.
#[derive(Debug, Clone)]
pub struct Shape {
    /// The dataset.
    pub dataset: String,
    /// Columns with the person's own addresses.
    pub own: Vec<String>,
    /// Columns with addresses that a site made for one stay.
    pub aliases: Vec<String>,
    /// Columns with phones.
    pub phones: Vec<String>,
    /// Columns with names.
    pub names: Vec<String>,
    /// Columns with text that somebody wrote.
    pub texts: Vec<String>,
    /// The column that says that the address is an alias.
    pub alias_flag: Option<String>,
    /// What ties rows to a person: kind of mark, and the columns that make it up.
    pub links: Vec<(&'static str, Vec<String>)>,
    /// Whether the key names the person, so that the row goes and is not only blanked.
    pub goes: bool,
    /// The columns that are blanked.
    pub blank: Vec<String>,
}

/// The stored datasets that hold something of people. A dataset that the catalog marks sensitive columns in is here, without
/// being named anywhere.
pub static SHAPES: LazyLock<Vec<Shape>> = LazyLock::new(|| datasets::stored().iter().filter_map(Shape::of).collect());

/// The shape of a dataset of the catalog.
pub fn find(dataset: &str) -> Option<&'static Shape> {
    SHAPES.iter().find(|s| s.dataset == dataset)
}

impl Shape {
    /// The statement that blanks the rows of its table, called `t`, that a condition names, or takes them away. It meets
    /// those that held something.
    pub(super) fn emptying(&self, condition: &str) -> Result<String> {
        let table = format!("core.{}", quote(&self.dataset)?);
        if self.goes {
            return Ok(format!("delete from {table} t where {condition}"));
        }
        let blank = self.blank.iter().map(|c| quote(c)).collect::<Result<Vec<_>>>()?;
        let set: Vec<String> = blank.iter().map(|c| format!("{c} = null")).collect();
        let some: Vec<String> = blank.iter().map(|c| format!("t.{c}")).collect();
        Ok(format!(
            "update {table} t set {}, updated_at = now() where {condition} and num_nonnulls({}) > 0",
            set.join(", "),
            some.join(", ")
        ))
    }

    /// Runs [`emptying`](Self::emptying). Says how many rows it met.
    pub(super) async fn empty(&self, tx: &mut PgConnection, condition: &str, what: &'static str) -> Result<u64> {
        let sql = self.emptying(condition)?;
        let met =
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *tx).await.map_err(|e| fault(what, e))?.rows_affected();
        if met > 0 {
            // What was last written there is what is there no more.
            sqlx::query("delete from ops.digests where dataset = $1")
                .bind(format!("core.{}", self.dataset))
                .execute(tx)
                .await
                .map_err(|e| fault(what, e))?;
        }
        Ok(met)
    }

    /// The shape of a dataset; `None` when it holds nothing of anybody.
    pub fn of(dataset: &Dataset) -> Option<Self> {
        let names = |test: &dyn Fn(&str) -> bool| -> Vec<String> {
            let text = dataset.columns.iter().filter(|c| c.sensitive && matches!(c.kind, Kind::Text | Kind::Json));
            text.filter(|c| test(&c.name)).map(|c| c.name.clone()).collect()
        };
        let has = |name: &str| dataset.column(name).is_some();
        let keyed = |name: &str| dataset.column(name).is_some_and(|c| c.key);
        let personal = dataset.columns.iter().any(|c| c.sensitive);
        if !personal && dataset.name != "guest_identities" {
            return None;
        }
        let owned = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let mut links = Vec::new();
        if has("connection") && has("source_booking_id") {
            links.push(("booking", owned(&["connection", "source_booking_id"])));
        }
        if has("guest_id") {
            // What a connection calls a guest, or what propflow does.
            let vendor = dataset.name.starts_with("source_");
            links.push(if vendor {
                ("vendor", owned(&["connection", "guest_id"]))
            } else {
                ("guest", owned(&["guest_id"]))
            });
        }
        if keyed("booking_id") {
            links.push(("stay", owned(&["booking_id"])));
        }
        if has("person_id") {
            links.push(("person", owned(&["person_id"])));
        }
        // A lead has several people on it: where rows are of people, the lead does not say whose they are.
        if has("lead_id") && !keyed("person_id") {
            links.push(("lead", owned(&["lead_id"])));
        }
        let alias = |n: &str| n.contains("email") && n.contains("alias");
        let email = |n: &str| n.contains("email") && !n.contains("alias");
        let other = |n: &str| !n.contains("email") && !n.contains("phone") && !n.contains("name");
        let goes = keyed("guest_id") || keyed("person_id") || dataset.name == "guest_identities";
        Some(Self {
            dataset: dataset.name.clone(),
            own: names(&email),
            aliases: names(&alias),
            phones: names(&|n| n.contains("phone")),
            names: names(&|n| n.contains("name")),
            texts: names(&other),
            alias_flag: has("guest_email_is_alias").then(|| "guest_email_is_alias".to_owned()),
            links,
            goes,
            blank: (dataset.columns.iter())
                .filter(|c| !c.required && (c.sensitive || tie(&c.name)))
                .map(|c| c.name.clone())
                .collect(),
        })
    }

    /// Whether rows can be found at all.
    pub fn can_be_found(&self) -> bool {
        !self.own.is_empty() || !self.links.is_empty()
    }

    /// SQL over the alias `t` that finds a person's rows in the table, deleted ones too. The values themselves are parameters,
    /// in the order of [`KINDS`]: statements are logged, here and by the server, and their parameters are not.
    pub(super) fn condition(&self, values: &dyn Fn(&str) -> Vec<String>) -> Result<String> {
        let has = |kind: &str| !values(kind).is_empty();
        let mut any = Vec::new();
        if has("email") {
            for column in self.own.iter().chain(&self.aliases) {
                any.push(format!("lower(t.{}) = any({})", quote(column)?, parameter("email")));
            }
        }
        if has("phone") {
            let mut none = Vec::new();
            for column in &self.own {
                none.push(match &self.alias_flag {
                    Some(flag) => format!("(t.{} is null or coalesce(t.{}, false))", quote(column)?, quote(flag)?),
                    None => format!("t.{} is null", quote(column)?),
                });
            }
            for column in &self.phones {
                let mut all = vec![format!("t.{} = any({})", quote(column)?, parameter("phone"))];
                all.extend(none.iter().cloned());
                any.push(format!("({})", all.join(" and ")));
            }
        }
        for (kind, columns) in &self.links {
            if has(kind) {
                let columns = columns.iter().map(|c| Ok(format!("t.{}", quote(c)?))).collect::<Result<Vec<_>>>()?;
                any.push(format!("concat_ws(chr(31), {}) = any({})", columns.join(", "), parameter(kind)));
            }
        }
        Ok(if any.is_empty() { "false".to_owned() } else { format!("({})", any.join(" or ")) })
    }

    /// Which rows of a batch are the person's.
    pub(super) fn matches(&self, batch: &RecordBatch, who: Who<'_>) -> Result<BooleanArray> {
        let text = |name: &String| text(batch, name);
        let own = self.own.iter().filter_map(text).collect::<Result<Vec<_>>>()?;
        let aliases = self.aliases.iter().filter_map(text).collect::<Result<Vec<_>>>()?;
        let phones = self.phones.iter().filter_map(text).collect::<Result<Vec<_>>>()?;
        let mut links = Vec::new();
        for (kind, columns) in &self.links {
            let arrays = columns.iter().filter_map(text).collect::<Result<Vec<_>>>()?;
            if arrays.len() == columns.len() {
                links.push((*kind, arrays));
            }
        }
        let value = |array: &ArrayRef, row: usize| {
            let array = array.as_string::<i32>();
            array.is_valid(row).then(|| array.value(row).to_owned())
        };
        let email = |value: &str| who("email", &email_canonical(value).unwrap_or_else(|| value.to_lowercase()));
        Ok((0..batch.num_rows())
            .map(|row| {
                let address = |a: &ArrayRef| value(a, row).is_some_and(|v| email(&v));
                let has_own = own.iter().any(|a| value(a, row).is_some_and(|v| !email_is_alias(&v)));
                let phone = |a: &ArrayRef| value(a, row).is_some_and(|v| who("phone", &v));
                let tied = |(kind, arrays): &(&str, Vec<ArrayRef>)| {
                    let parts: Option<Vec<String>> = arrays.iter().map(|a| value(a, row)).collect();
                    parts.is_some_and(|parts| who(kind, &parts.join(&PART.to_string())))
                };
                Some(
                    own.iter().chain(&aliases).any(address)
                        || (!has_own && phones.iter().any(phone))
                        || links.iter().any(tied),
                )
            })
            .collect())
    }

    /// The batch without the rows, or with their personal columns blanked; with `ties` also what ties them to a guest.
    pub(super) fn blanked(&self, batch: &RecordBatch, rows: &BooleanArray, ties: bool) -> Result<RecordBatch> {
        if self.goes {
            return Ok(filter_record_batch(batch, &not(rows)?)?);
        }
        let fields = batch.schema();
        let columns = fields
            .fields()
            .iter()
            .zip(batch.columns())
            .map(|(field, column)| {
                if self.blank.contains(field.name()) && (ties || !tie(field.name())) {
                    Ok(nullif(column, rows)?)
                } else {
                    Ok(Arc::clone(column))
                }
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(RecordBatch::try_new(fields, columns)?)
    }
}

/// Whether a column says which guest or person a row belongs to.
fn tie(name: &str) -> bool {
    ["guest_id", "person_id"].contains(&name)
}

/// A column as text, if the batch has it.
pub(super) fn text(batch: &RecordBatch, name: &str) -> Option<Result<ArrayRef>> {
    batch.column_by_name(name).map(|column| Ok(cast(column, &DataType::Utf8)?))
}
