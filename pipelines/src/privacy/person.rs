//! Who somebody is: everything that the tables tie to an address or a phone.

use std::collections::{BTreeMap, BTreeSet};

use catalog::store::erasures::{OptOuts, PART, Salt};
use catalog::store::pg::fault;
use catalog::{Fault, Result};
use serde_json::Value;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, PgConnection, Postgres, Row};
use transforms::functions::{email_canonical, email_is_alias, phone_e164};
use uuid::Uuid;

use super::shape::{KINDS, SHAPES, Shape};
use super::words::Words;

/// Rounds after which a search ends in any case: each follows one tie more.
const ROUNDS: usize = 16;
const WHAT: &str = "cannot look for a person";

/// Everything that is known to be one person.
#[derive(Clone, Default)]
pub struct Person {
    /// The address or phone that was asked for, in canonical form, with its kind.
    pub asked: Vec<(&'static str, String)>,
    pub(super) emails: BTreeSet<String>,
    pub(super) phones: BTreeSet<String>,
    pub(super) names: BTreeSet<String>,
    /// Marks by kind: vendor, booking, guest, stay, lead, person.
    pub(super) links: BTreeMap<&'static str, BTreeSet<String>>,
    pub(super) contacts: BTreeSet<Uuid>,
    pub(super) opt_outs: OptOuts,
}

impl std::fmt::Debug for Person {
    /// Says nothing of who it is.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Person({} contacts)", self.contacts.len())
    }
}

impl Person {
    /// The person of these addresses and phones; nobody has been looked for yet.
    ///
    /// # Errors
    /// When one of them is no address or no phone, or there is none.
    pub fn asked(emails: &[String], phones: &[String], region: &str) -> Result<Self> {
        let mut person = Self::default();
        for email in emails {
            let email = email_canonical(email).ok_or_else(|| {
                Fault::user("`--email` is not an e-mail address").hint("Write it as `name@host.example`.")
            })?;
            person.asked.push(("email", email.clone()));
            person.emails.insert(email);
        }
        for phone in phones {
            let phone = phone_e164(phone, region).ok_or_else(|| {
                Fault::user("`--phone` is not a phone number")
                    .hint("Write it with its country code, as `+1 512 555 0100`, or name the country with `--region`.")
            })?;
            person.asked.push(("phone", phone.clone()));
            person.phones.insert(phone);
        }
        if person.asked.is_empty() {
            return Err(Fault::user("nobody is named").hint("Name the person with `--email` or `--phone`."));
        }
        Ok(person)
    }

    /// Follows every tie in the tables, until there is nothing new.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn find(mut self, connection: &mut PgConnection) -> Result<Self> {
        for _ in 0..ROUNDS {
            let before = self.size();
            for shape in SHAPES.iter().filter(|s| s.can_be_found()) {
                self.look(connection, shape).await?;
            }
            self.follow_stays(connection).await?;
            self.look_into_contacts(connection).await?;
            if self.size() == before {
                break;
            }
        }
        Ok(self)
    }

    fn size(&self) -> usize {
        let links: usize = self.links.values().map(BTreeSet::len).sum();
        self.emails.len() + self.phones.len() + self.names.len() + self.contacts.len() + links
    }

    pub(super) fn values(&self, kind: &str) -> Vec<String> {
        match kind {
            "email" => self.emails.iter().cloned().collect(),
            "phone" => self.phones.iter().cloned().collect(),
            kind => self.links.get(kind).into_iter().flatten().cloned().collect(),
        }
    }

    pub(super) fn is(&self, kind: &str, value: &str) -> bool {
        match kind {
            "email" => self.emails.contains(value),
            "phone" => self.phones.contains(value),
            kind => self.links.get(kind).is_some_and(|known| known.contains(value)),
        }
    }

    /// A statement over [conditions](Shape::condition) with the person's values as its parameters.
    pub(super) fn query(&self, sql: String) -> Query<'static, Postgres, PgArguments> {
        KINDS.iter().fold(sqlx::query(AssertSqlSafe(sql)), |query, kind| query.bind(self.values(kind)))
    }

    /// What such a statement gives, each row of one JSON value.
    pub(super) async fn rows(&self, connection: &mut PgConnection, sql: String) -> Result<Vec<Value>> {
        let rows = self.query(sql).fetch_all(connection).await.map_err(|e| fault(WHAT, e))?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    async fn look(&mut self, connection: &mut PgConnection, shape: &Shape) -> Result<()> {
        let condition = shape.condition(&|kind| self.values(kind))?;
        if condition == "false" {
            return Ok(());
        }
        let sql = format!("select to_jsonb(t) from core.\"{}\" t where {condition}", shape.dataset);
        for row in &self.rows(connection, sql).await? {
            let text = |name: &String| row[name].as_str().map(str::to_owned);
            let known = |names: &[String]| names.iter().filter_map(text).collect::<Vec<_>>();
            self.emails.extend(known(&shape.own).iter().chain(&known(&shape.aliases)).map(|e| e.to_lowercase()));
            self.phones.extend(known(&shape.phones));
            self.names.extend(known(&shape.names).into_iter().filter(|n| n.contains(' ')));
            self.names.extend(full_name(row));
            for (kind, columns) in &shape.links {
                let parts: Option<Vec<String>> = columns.iter().map(text).collect();
                if let Some(parts) = parts {
                    self.links.entry(*kind).or_default().insert(parts.join(&PART.to_string()));
                }
            }
        }
        Ok(())
    }

    /// From source rows to their bookings, and back to every source of those.
    async fn follow_stays(&mut self, connection: &mut PgConnection) -> Result<()> {
        let rows = sqlx::query(
            "select distinct o.booking_id, concat_ws(chr(31), o.connection, o.source_booking_id) as source \
             from core.booking_sources s join core.booking_sources o on o.booking_id = s.booking_id and o.role <> 'echo' \
             where s.role <> 'echo' and (concat_ws(chr(31), s.connection, s.source_booking_id) = any($1) or s.booking_id = any($2))",
        )
        .bind(self.values("booking"))
        .bind(self.values("stay"))
        .fetch_all(connection)
        .await
        .map_err(|e| fault(WHAT, e))?;
        for row in rows {
            self.links.entry("stay").or_default().insert(row.get("booking_id"));
            self.links.entry("booking").or_default().insert(row.get("source"));
        }
        Ok(())
    }

    async fn look_into_contacts(&mut self, connection: &mut PgConnection) -> Result<()> {
        let known: Vec<Uuid> = self.contacts.iter().copied().collect();
        let rows: Vec<Value> = sqlx::query_scalar(
            "select to_jsonb(c) || jsonb_build_object('leads', (select coalesce(jsonb_agg(jsonb_build_object( \
               'lead', s.resman_contact_id, 'person', s.resman_person_id)), '[]') from sync.contact_sync s where s.user_id = c.id)) \
             from sync.contacts c \
             where c.id = any($1) or c.merged_into = any($1) \
               or c.id in (select m.merged_into from sync.contacts m where m.id = any($1)) \
               or c.id in (select s.user_id from sync.contact_sync s where s.resman_contact_id = any($4)) \
               or lower(c.email) = any($2) or (c.email is null and c.phone = any($3)) \
               or exists (select from jsonb_path_query(c.aliases, '$.email[*]') a where lower(a #>> '{}') = any($2))",
        )
        .bind(&known)
        .bind(self.values("email"))
        .bind(self.values("phone"))
        .bind(self.values("lead"))
        .fetch_all(connection)
        .await
        .map_err(|e| fault(WHAT, e))?;
        for row in &rows {
            let text = |name: &str| row[name].as_str().map(str::to_owned);
            let list = |name: &str| -> Vec<String> {
                serde_json::from_value(row["aliases"][name].clone()).unwrap_or_default()
            };
            self.contacts.extend(text("id").and_then(|id| id.parse::<Uuid>().ok()));
            self.emails.extend(text("email").into_iter().chain(list("email")).map(|e| e.to_lowercase()));
            self.phones.extend(text("phone").into_iter().chain(list("phone")));
            self.names.extend(full_name(row));
            self.opt_outs.email |= row["email_opt_out"] == true;
            self.opt_outs.phone |= row["phone_opt_out"] == true;
            self.opt_outs.text |= row["text_opt_out"] == true;
            for lead in row["leads"].as_array().into_iter().flatten() {
                for kind in ["lead", "person"] {
                    let id = lead[kind].as_str().map(str::to_owned);
                    self.links.entry(kind).or_default().extend(id);
                }
            }
        }
        Ok(())
    }

    /// Addresses, phones and names, for text that is the person's own.
    pub(super) fn words(&self) -> Words {
        Words::new(self.emails.iter().cloned(), self.phones.iter().cloned(), self.names.iter().cloned())
    }

    /// Addresses, and the phones that nobody else has, for text of others.
    pub(super) fn mentions(&self, shared: &BTreeSet<String>) -> Words {
        Words::new(self.emails.iter().cloned(), self.phones.difference(shared).cloned(), [])
    }

    /// By what the person is known when they are brought again.
    pub(super) fn marks(&self, salt: &Salt) -> Vec<(&'static str, Vec<u8>)> {
        let mut marks = Vec::new();
        let mut add = |kind: &'static str, value: &str| marks.push((kind, salt.mark(kind, value).to_vec()));
        self.emails.iter().for_each(|e| add("email", e));
        self.phones.iter().for_each(|p| add("phone", p));
        for (kind, values) in &self.links {
            values.iter().for_each(|v| add(kind, v));
        }
        marks
    }

    /// The marks that an opt-out is kept under: own addresses and phones.
    pub(super) fn reach(&self, salt: &Salt) -> Vec<Vec<u8>> {
        let emails = self.emails.iter().filter(|e| !email_is_alias(e)).map(|e| salt.mark("email", e).to_vec());
        emails.chain(self.phones.iter().map(|p| salt.mark("phone", p).to_vec())).collect()
    }
}

/// Given and family name as they are written together.
fn full_name(row: &Value) -> Option<String> {
    let text = |names: [&str; 2]| {
        names.iter().find_map(|n| row[*n].as_str()).map(str::trim).filter(|t| !t.is_empty()).map(str::to_owned)
    };
    let (first, last) = (text(["first_name", "guest_first_name"])?, text(["last_name", "guest_last_name"])?);
    Some(format!("{first} {last}"))
}
