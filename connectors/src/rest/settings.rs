//! The settings of a REST connector, and every mistake that can be seen in them.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use catalog::{Dataset, Kind, SecretRef, WriteMode};
use schemars::JsonSchema;
use serde::de::{SeqAccess, Visitor, value::SeqAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::decode::Mark;
use super::values::Format;
use crate::http::Limits;

/// Settings of `rest`: an API described in full, or the file that describes it.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// A TOML file that holds the settings below. Then none of them may stand here.
    #[serde(default)]
    pub file: Option<PathBuf>,
    /// Only this one of the streams.
    #[serde(default)]
    pub stream: Option<String>,
    /// The address that the paths of all streams follow, `http` or `https`.
    #[serde(default)]
    pub base_url: Option<String>,
    /// How calls are let in.
    #[serde(default)]
    pub auth: Auth,
    /// Headers of every call. A value `env:NAME` or `file:/path` is fetched from there.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// How the account may be called, and when calls are tried again.
    #[serde(default)]
    pub limits: Limits,
    /// What can be read.
    #[serde(default)]
    pub streams: Vec<StreamSpec>,
}

/// How calls are let in. Secrets are named by reference.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Auth {
    /// Without credentials.
    #[default]
    None,
    /// HTTP Basic.
    Basic {
        /// The user.
        user: String,
        /// The password.
        #[serde(default)]
        password: Option<SecretRef>,
    },
    /// `Authorization: Bearer …`.
    Bearer {
        /// The token.
        token: SecretRef,
    },
    /// A key in a header or in the query. Exactly one of `header` and `query`.
    ApiKey {
        /// The key.
        key: SecretRef,
        /// The header that carries it.
        #[serde(default)]
        header: Option<String>,
        /// The parameter that carries it.
        #[serde(default)]
        query: Option<String>,
        /// What stands before the key in the header, such as `Token `.
        #[serde(default)]
        prefix: String,
    },
    /// OAuth 2.0, client credentials. The token is kept until it runs out.
    Oauth2ClientCredentials {
        /// Where tokens are given.
        token_url: String,
        /// The client.
        client_id: SecretRef,
        /// Its secret.
        client_secret: SecretRef,
        /// What the token is asked for.
        #[serde(default)]
        scope: Option<String>,
        /// Further fields of the token request, such as `audience`.
        #[serde(default)]
        params: BTreeMap<String, String>,
        /// Whether the client's name and secret go into the `Authorization` header instead of the form.
        #[serde(default)]
        basic: bool,
    },
    /// OAuth 2.0, refresh token.
    Oauth2RefreshToken {
        /// Where tokens are given.
        token_url: String,
        /// The client.
        client_id: SecretRef,
        /// Its secret, if it has one.
        #[serde(default)]
        client_secret: Option<SecretRef>,
        /// The refresh token.
        refresh_token: SecretRef,
        /// A file that keeps the newest refresh token, for vendors that replace it at every use. It is read before
        /// `refresh_token` and written with the owner's rights alone.
        #[serde(default)]
        token_file: Option<PathBuf>,
        /// Whether the client's name and secret go into the `Authorization` header instead of the form.
        #[serde(default)]
        basic: bool,
    },
}

/// The method of a call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verb {
    /// Parameters go into the query.
    #[default]
    Get,
    /// Parameters go into a JSON body. The call must be one that changes nothing.
    Post,
}

/// One list of records.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StreamSpec {
    /// Its name.
    pub name: String,
    /// One line on what it brings.
    #[serde(default)]
    pub about: Option<String>,
    /// The path behind `base_url`.
    pub path: String,
    /// `GET`, or `POST` for lists that are asked for with a body.
    #[serde(default)]
    pub method: Verb,
    /// Parameters of every call: text, numbers, flags, or lists of them, which are sent once each.
    #[serde(default)]
    pub params: BTreeMap<String, Value>,
    /// Where the records are in the answer, keys joined by points; empty if the answer is the list. One object in place of
    /// a list is one record.
    #[serde(default)]
    pub records: String,
    /// How to get from a page to the next one.
    #[serde(default)]
    pub paginator: Paginator,
    /// How to read only what has changed.
    #[serde(default)]
    pub incremental: Option<Incremental>,
    /// Pages fetched ahead of the one that is being written. More than one only where pages have numbers.
    #[serde(default = "one")]
    pub concurrency: usize,
    /// The columns that tell rows apart.
    #[serde(default)]
    pub key: Vec<String>,
    /// The column that orders versions of a row, for `write = "history"`.
    #[serde(default)]
    pub version: Option<String>,
    /// The columns, or `"infer"` to take them from the first page.
    #[schemars(with = "Vec<ColumnSpec>")]
    pub columns: Columns,
    /// The table's name. Left out: the stream's.
    #[serde(default)]
    pub dataset: Option<String>,
    /// How rows meet those that are there. Left out: by key if there is one, else appended.
    #[serde(default)]
    pub write: Option<Write>,
}

fn one() -> usize {
    1
}

/// How rows meet those that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Write {
    /// Every row is new.
    Append,
    /// A row replaces the one with its key.
    Upsert,
    /// The same, and rows that are no longer in the list are marked as deleted. The list is read in one piece.
    Snapshot,
    /// A row is kept beside its former versions.
    History,
}

/// How to get from a page to the next one.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Paginator {
    /// One answer is all.
    #[default]
    None,
    /// Pages have numbers. Ends with an empty page, one shorter than `size`, or the last of `pages`.
    PageNumber {
        /// The parameter that carries the number.
        #[serde(default = "page")]
        param: String,
        /// The parameter that carries the size.
        #[serde(default)]
        size_param: Option<String>,
        /// Records on a full page.
        #[serde(default)]
        size: Option<u64>,
        /// The first number.
        #[serde(default = "first_page")]
        start: u64,
        /// Where the answer says how many pages there are.
        #[serde(default)]
        pages: Option<String>,
    },
    /// Pages begin at a record's number. Ends with an empty page, one shorter than `size`, or at `total`.
    Offset {
        /// The parameter that carries the number.
        #[serde(default = "offset")]
        param: String,
        /// The parameter that carries the size.
        #[serde(default = "limit")]
        size_param: String,
        /// Records on a full page.
        size: u64,
        /// The first number.
        #[serde(default)]
        start: u64,
        /// Where the answer says how many records there are.
        #[serde(default)]
        total: Option<String>,
    },
    /// The answer holds a text that asks for the next page. Ends when it is missing, null or empty.
    CursorInBody {
        /// Where it is.
        path: String,
        /// The parameter that carries it.
        #[serde(default = "cursor")]
        param: String,
        /// The parameter that carries the size.
        #[serde(default)]
        size_param: Option<String>,
        /// Records on a full page.
        #[serde(default)]
        size: Option<u64>,
        /// Where the answer says whether there is more; then that decides.
        #[serde(default)]
        more: Option<String>,
    },
    /// The answer holds the address of the next page, whole or behind `base_url`'s host. Another host is refused.
    NextUrlInBody {
        /// Where it is.
        path: String,
        /// The parameter that carries the size on the first call.
        #[serde(default)]
        size_param: Option<String>,
        /// Records on a full page.
        #[serde(default)]
        size: Option<u64>,
    },
    /// The address of the next page is in the header `Link`, as `rel="next"`.
    LinkHeader {
        /// The parameter that carries the size on the first call.
        #[serde(default)]
        size_param: Option<String>,
        /// Records on a full page.
        #[serde(default)]
        size: Option<u64>,
    },
    /// The next page begins behind the last record. Ends with an empty page or one shorter than `size`.
    LastId {
        /// Where a record has its id.
        #[serde(default = "id")]
        field: String,
        /// The parameter that carries the last one.
        param: String,
        /// The parameter that carries the size.
        #[serde(default)]
        size_param: Option<String>,
        /// Records on a full page.
        #[serde(default)]
        size: Option<u64>,
        /// Where the answer says whether there is more; then that decides.
        #[serde(default)]
        more: Option<String>,
    },
}

fn page() -> String {
    "page".to_owned()
}

fn first_page() -> u64 {
    1
}

fn offset() -> String {
    "offset".to_owned()
}

fn limit() -> String {
    "limit".to_owned()
}

fn cursor() -> String {
    "cursor".to_owned()
}

fn id() -> String {
    "id".to_owned()
}

/// How to read only what has changed.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Incremental {
    /// The record's field that grows with every change.
    pub field: String,
    /// The parameter that asks for records from a value on.
    pub param: String,
    /// The parameter that asks for records before a value. With it ranges of the past can be read.
    #[serde(default)]
    pub until_param: Option<String>,
    /// How the field is written: `rfc3339`, `utc` (ISO 8601 without an offset), `date`, `epoch_seconds`, `epoch_ms`,
    /// `integer`, or a `strftime` pattern.
    #[serde(default = "rfc3339")]
    pub format: String,
    /// How the parameter is written, if not like the field.
    #[serde(default)]
    pub param_format: Option<String>,
    /// How far before the greatest value the next reading begins, for records that turn up late.
    #[serde(default)]
    pub lag_secs: u64,
    /// Where the first reading begins, in the parameter's format. Left out: everything.
    #[serde(default)]
    pub initial: Option<String>,
}

fn rfc3339() -> String {
    "rfc3339".to_owned()
}

/// The columns of a stream.
#[derive(Debug, Clone)]
pub enum Columns {
    /// Those of the first page.
    Infer,
    /// These.
    List(Vec<ColumnSpec>),
}

impl<'de> Deserialize<'de> for Columns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Seen;
        impl<'de> Visitor<'de> for Seen {
            type Value = Columns;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of columns, or \"infer\"")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Columns, E> {
                match text {
                    "infer" => Ok(Columns::Infer),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Columns, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(Columns::List)
            }
        }
        deserializer.deserialize_any(Seen)
    }
}

/// One column.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ColumnSpec {
    /// Its name.
    pub name: String,
    /// Where a record has it, keys joined by points. Left out: its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// What it holds.
    #[serde(rename = "type")]
    pub kind: Type,
    /// Whether a record without it is refused. Key columns always are.
    #[serde(default)]
    pub required: bool,
    /// Whether it holds personal data.
    #[serde(default)]
    pub sensitive: bool,
    /// How a day or an instant is written: `iso` (an instant needs its offset), `utc` (without an offset),
    /// `epoch_seconds`, `epoch_ms`, or a `strftime` pattern.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// What it means, in one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
}

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Type {
    /// Text.
    Text,
    /// A whole number of 64 bits.
    #[serde(alias = "integer")]
    #[schemars(extend("aliases" = ["integer"]))]
    Int,
    /// A floating-point number.
    Float,
    /// A decimal with two places, fourteen digits in all.
    #[serde(alias = "decimal")]
    #[schemars(extend("aliases" = ["decimal"]))]
    Money,
    /// A decimal with two places, six digits in all.
    Count,
    /// True or false.
    #[serde(alias = "bool")]
    #[schemars(extend("aliases" = ["bool"]))]
    Flag,
    /// A calendar day.
    Date,
    /// An instant.
    Instant,
    /// Any JSON.
    Json,
}

impl Type {
    pub(super) fn kind(self) -> Kind {
        match self {
            Type::Text => Kind::Text,
            Type::Int => Kind::Int,
            Type::Float => Kind::Float,
            Type::Money => Kind::Money,
            Type::Count => Kind::Count,
            Type::Flag => Kind::Flag,
            Type::Date => Kind::Date,
            Type::Instant => Kind::Instant,
            Type::Json => Kind::Json,
        }
    }
}

/// A path that was written with points.
pub(super) fn path(text: &str) -> Vec<String> {
    text.split('.').filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// The column that holds the connection, for lists that are read in one piece.
pub(super) const CONNECTION: &str = "connection";

impl ColumnSpec {
    /// How its text is written.
    pub(super) fn format(&self) -> Format {
        match self.format.as_deref() {
            None | Some("iso") => Format::Iso,
            Some("utc") => Format::Utc,
            Some("epoch_seconds") => Format::EpochSeconds,
            Some("epoch_ms") => Format::EpochMillis,
            Some(pattern) => Format::Pattern(pattern.to_owned()),
        }
    }

    pub(super) fn path(&self) -> Vec<String> {
        path(self.path.as_deref().unwrap_or(&self.name))
    }
}

impl Incremental {
    /// How a format's word or pattern is read.
    pub(super) fn mark(format: &str) -> Mark {
        Mark::Time(match format {
            "integer" => return Mark::Number,
            "rfc3339" => Format::Iso,
            "utc" | "date" => Format::Utc,
            "epoch_seconds" => Format::EpochSeconds,
            "epoch_ms" => Format::EpochMillis,
            pattern => Format::Pattern(pattern.to_owned()),
        })
    }
}

impl StreamSpec {
    /// The name of what it stores: the one that is given, else the stream's, with `rest_` before it where propflow has a
    /// table of that name.
    pub(super) fn dataset_name(&self) -> Cow<'_, str> {
        match &self.dataset {
            Some(name) => Cow::Borrowed(name),
            None if catalog::datasets::find(&self.name).is_some() => Cow::Owned(format!("rest_{}", self.name)),
            None => Cow::Borrowed(&self.name),
        }
    }

    /// How its rows are written.
    pub(super) fn mode(&self) -> WriteMode {
        match self.write {
            Some(Write::Append) => WriteMode::Append,
            Some(Write::Upsert) => WriteMode::Upsert,
            Some(Write::Snapshot) => WriteMode::Snapshot,
            Some(Write::History) => WriteMode::History,
            None if self.key.is_empty() => WriteMode::Append,
            None => WriteMode::Upsert,
        }
    }

    /// The dataset of these columns.
    pub(super) fn dataset(&self, columns: &[ColumnSpec]) -> Dataset {
        let mode = self.mode();
        let about = self.about.clone().unwrap_or_else(|| format!("records of `{}`", self.path));
        let mut dataset = Dataset::new(&self.dataset_name(), &about);
        if mode == WriteMode::Snapshot {
            let column = catalog::dataset::text(CONNECTION, "the account that lists the record").key();
            dataset = dataset.extend([column]).scope(CONNECTION);
        }
        let versioned = self.version.as_deref().filter(|_| mode == WriteMode::History);
        dataset = dataset.extend(columns.iter().map(|spec| {
            let about = spec.about.clone().unwrap_or_else(|| format!("the field `{}`", spec.path().join(".")));
            let mut column = catalog::Column::new(&spec.name, spec.kind.kind(), &about);
            column.key = self.key.contains(&spec.name) || versioned == Some(spec.name.as_str());
            column.required = spec.required || column.key;
            column.sensitive = spec.sensitive;
            column
        }));
        dataset.version_column.clone_from(&self.version);
        dataset.mode(mode)
    }

    /// What is wrong with it, each with its place.
    fn problems(&self, place: &str, out: &mut Vec<String>) {
        let mut say = |at: &str, what: &str| out.push(format!("`{place}.{at}`: {what}"));
        let plain = |name: &str| {
            let mut chars = name.chars();
            chars.next().is_some_and(|c| c.is_ascii_lowercase())
                && chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
                && name.len() <= 63
        };
        const NAME: &str = "a name has lower-case letters, digits and `_`, a letter first, at most 63 in all";
        if !plain(&self.name) {
            say("name", NAME);
        }
        if !plain(&self.dataset_name()) {
            say("dataset", NAME);
        }
        if catalog::datasets::find(&self.dataset_name()).is_some() {
            say("dataset", "propflow has a table of that name; give this one another with `dataset`");
        }
        if self.path.contains(['?', '#']) || self.path.contains("://") {
            say("path", "it follows `base_url`; parameters belong into `params`");
        }
        for (name, value) in &self.params {
            let scalar = |v: &Value| !(v.is_array() || v.is_object() || v.is_null());
            if !scalar(value) && !value.as_array().is_some_and(|list| list.iter().all(scalar)) {
                say(&format!("params.{name}"), "it is neither text, a number, a flag, nor a list of them");
            }
        }
        if !(1..=16).contains(&self.concurrency) {
            say("concurrency", "it is from 1 to 16");
        }
        let mode = self.mode();
        if mode != WriteMode::Append && self.key.is_empty() {
            say("key", "rows that are not just appended need a key");
        }
        match (&self.version, mode) {
            (None, WriteMode::History) => say("version", "a history needs the column that orders versions"),
            (Some(_), WriteMode::History) | (None, _) => {}
            (Some(_), _) => say("version", "it orders the rows of `write = \"history\"` and has no use without it"),
        }
        match &self.paginator {
            Paginator::PageNumber { size: Some(0), .. } | Paginator::Offset { size: 0, .. } => {
                say("paginator.size", "a page has at least one record");
            }
            Paginator::CursorInBody { path, .. } | Paginator::NextUrlInBody { path, .. } if path.is_empty() => {
                say("paginator.path", "it is empty");
            }
            Paginator::LastId { field, .. } if field.is_empty() => say("paginator.field", "it is empty"),
            _ => {}
        }
        if let Some(incremental) = &self.incremental {
            let mut formats = vec![("format", &incremental.format)];
            formats.extend(incremental.param_format.as_ref().map(|f| ("param_format", f)));
            for (name, format) in formats {
                const WORDS: [&str; 6] = ["rfc3339", "utc", "date", "epoch_seconds", "epoch_ms", "integer"];
                if !WORDS.contains(&format.as_str()) && !is_pattern(format) {
                    say(&format!("incremental.{name}"), &format!("it is none of {}, nor a pattern", WORDS.join(", ")));
                }
            }
            let number = |f: &str| f == "integer";
            if incremental.param_format.as_deref().is_some_and(|p| number(p) != number(&incremental.format)) {
                say("incremental.param_format", "a number cannot be turned into a time, nor back");
            }
            if number(&incremental.format) && incremental.lag_secs > 0 {
                say("incremental.lag_secs", "numbers have no seconds");
            }
            if number(&incremental.format) && incremental.until_param.is_some() {
                say("incremental.until_param", "a range of the past is one of time");
            }
            let format = incremental.param_format.as_ref().unwrap_or(&incremental.format);
            if incremental
                .initial
                .as_deref()
                .is_some_and(|text| super::read_mark(text, &Incremental::mark(format)).is_none())
            {
                say("incremental.initial", "it is not in the parameter's format");
            }
            if mode == WriteMode::Snapshot {
                say("incremental", "a list that is read in one piece cannot be read by changes");
            }
        }
        if let Columns::List(columns) = &self.columns {
            self.column_problems(columns, place, out);
        }
    }

    /// What is wrong with its columns, given or inferred.
    pub(super) fn column_problems(&self, columns: &[ColumnSpec], place: &str, out: &mut Vec<String>) {
        let mut names = BTreeSet::new();
        let mut say = |at: String, what: &str| out.push(format!("`{place}.{at}`: {what}"));
        if columns.is_empty() {
            say("columns".to_owned(), "there is none");
        }
        for (at, column) in columns.iter().enumerate() {
            let here = |part: &str| format!("columns[{at}].{part}");
            if column.name.is_empty() || column.name.len() > 63 || column.name.contains('\0') {
                say(here("name"), "a name has 1 to 63 bytes");
            }
            if !names.insert(column.name.as_str()) {
                say(here("name"), &format!("`{}` is there twice", column.name));
            }
            if ["created_at", "updated_at", "deleted_at", "slice_id"].contains(&column.name.as_str()) {
                say(
                    here("name"),
                    &format!(
                        "`{}` is a name that tables keep for themselves; rename it and give its `path`",
                        column.name
                    ),
                );
            }
            if self.mode() == WriteMode::Snapshot && column.name == CONNECTION {
                say(here("name"), "a list that is read in one piece has a column `connection` of its own");
            }
            if column.path().is_empty() {
                say(here("path"), "it is empty");
            }
            let timed = matches!(column.kind, Type::Date | Type::Instant);
            match &column.format {
                Some(_) if !timed => say(here("format"), "only days and instants have a format"),
                Some(f) if !["iso", "utc", "epoch_seconds", "epoch_ms"].contains(&f.as_str()) && !is_pattern(f) => {
                    say(here("format"), "it is none of iso, utc, epoch_seconds, epoch_ms, nor a pattern");
                }
                _ => {}
            }
            if column.kind == Type::Json && self.key.contains(&column.name) {
                say(here("type"), "a JSON document cannot be a key");
            }
        }
        for (at, key) in self.key.iter().enumerate().filter(|(_, key)| !names.contains(key.as_str())) {
            say(format!("key[{at}]"), &format!("there is no column `{key}`"));
        }
        if let Some(version) = self.version.as_deref().filter(|v| !names.contains(v)) {
            say("version".to_owned(), &format!("there is no column `{version}`"));
        }
    }
}

/// Whether a text is a pattern of days and times that can be followed.
fn is_pattern(text: &str) -> bool {
    use chrono::format::{Item, StrftimeItems};
    let mut any = false;
    for item in StrftimeItems::new(text) {
        match item {
            Item::Error => return false,
            Item::Numeric(..) | Item::Fixed(..) => any = true,
            _ => {}
        }
    }
    any
}

impl Config {
    /// Everything that is wrong with settings that hold an API, each with its place.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut out = Vec::new();
        match &self.base_url {
            None => out.push("`base_url`: it is missing".to_owned()),
            Some(url) => match crate::http::address("base_url", url) {
                Err(fault) => out.push(fault.chain()),
                Ok(url) if url.query().is_some() || url.fragment().is_some() => {
                    out.push("`base_url`: it has a query; parameters belong into `params`".to_owned());
                }
                Ok(_) => {}
            },
        }
        for name in self.headers.keys() {
            if http::HeaderName::try_from(name).is_err() {
                out.push(format!("`headers.{name}`: it is not a header's name"));
            }
        }
        match &self.auth {
            Auth::ApiKey { header, query, prefix, .. } => {
                if header.is_some() == query.is_some() {
                    out.push("`auth`: a key needs exactly one of `header` and `query`".to_owned());
                }
                if header.as_ref().is_some_and(|h| http::HeaderName::try_from(h).is_err()) {
                    out.push("`auth.header`: it is not a header's name".to_owned());
                }
                if query.is_some() && !prefix.is_empty() {
                    out.push("`auth.prefix`: it is for keys in a header".to_owned());
                }
            }
            Auth::Oauth2ClientCredentials { token_url, .. } | Auth::Oauth2RefreshToken { token_url, .. } => {
                if let Err(fault) = crate::http::address("auth.token_url", token_url) {
                    out.push(fault.chain());
                }
            }
            Auth::None | Auth::Basic { .. } | Auth::Bearer { .. } => {}
        }
        if self.streams.is_empty() {
            out.push("`streams`: there is none".to_owned());
        }
        let (mut names, mut datasets) = (BTreeSet::new(), BTreeSet::new());
        for (at, stream) in self.streams.iter().enumerate() {
            let place = format!("streams[{at}]");
            if !names.insert(&stream.name) {
                out.push(format!("`{place}.name`: another stream is called `{}`", stream.name));
            }
            if !datasets.insert(stream.dataset_name()) {
                out.push(format!("`{place}.dataset`: another stream fills `{}`", stream.dataset_name()));
            }
            stream.problems(&place, &mut out);
        }
        if let Some(stream) = self.stream.as_ref().filter(|s| !self.streams.iter().any(|known| known.name == **s)) {
            let known: Vec<_> = self.streams.iter().map(|s| format!("`{}`", s.name)).collect();
            out.push(format!("`stream`: there is no stream `{stream}`, only {}", known.join(", ")));
        }
        out
    }
}
