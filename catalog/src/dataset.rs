//! Datasets as values: what a table holds, column by column.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

/// Field metadata: one line on what the column means.
pub const ABOUT: &str = "propflow.about";
/// Field metadata, present on columns that hold personal data.
pub const SENSITIVE: &str = "propflow.sensitive";
/// Schema metadata: the dataset's name.
pub const DATASET: &str = "propflow.dataset";
/// Schema metadata: the dataset's schema version.
pub const VERSION: &str = "propflow.version";
/// Schema metadata: the key columns, joined by commas.
pub const KEY: &str = "propflow.key";

/// Digits of a money amount, and how many of them stand behind the point.
pub const MONEY: DataType = DataType::Decimal128(14, 2);
/// Room counts go in halves and quarters.
pub const COUNT: DataType = DataType::Decimal128(6, 2);

/// The kinds of value a column can hold. Each has exactly one Arrow and one PostgreSQL type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// UTF-8 text.
    Text,
    /// A JSON document as text; `jsonb` in PostgreSQL.
    Json,
    /// A whole number.
    Int,
    /// A decimal amount of money with two places; its currency is in a column beside it.
    Money,
    /// A decimal count with two places, such as 1.50 bathrooms.
    Count,
    /// A floating-point number, for coordinates and scores.
    Float,
    /// True or false.
    Flag,
    /// A calendar day without a zone.
    Date,
    /// An instant in UTC, to the microsecond.
    Instant,
}

impl Kind {
    /// The Arrow type.
    pub fn arrow(self) -> DataType {
        match self {
            Kind::Text | Kind::Json => DataType::Utf8,
            Kind::Int => DataType::Int64,
            Kind::Money => MONEY,
            Kind::Count => COUNT,
            Kind::Float => DataType::Float64,
            Kind::Flag => DataType::Boolean,
            Kind::Date => DataType::Date32,
            Kind::Instant => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        }
    }

    /// The word for documentation.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Text => "text",
            Kind::Json => "json",
            Kind::Int => "integer",
            Kind::Money => "money",
            Kind::Count => "count",
            Kind::Float => "float",
            Kind::Flag => "flag",
            Kind::Date => "date",
            Kind::Instant => "instant",
        }
    }
}

/// One column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name, in `snake_case`.
    pub name: String,
    /// What it holds.
    pub kind: Kind,
    /// What it means, in one line.
    pub about: String,
    /// Whether it is part of the key.
    pub key: bool,
    /// Whether it must have a value. Key columns always must.
    pub required: bool,
    /// Whether it holds personal data.
    pub sensitive: bool,
}

impl Column {
    /// A nullable column.
    pub fn new(name: &str, kind: Kind, about: &str) -> Self {
        Self { name: name.to_owned(), kind, about: about.to_owned(), key: false, required: false, sensitive: false }
    }

    /// Makes it part of the key.
    #[must_use]
    pub fn key(mut self) -> Self {
        self.key = true;
        self.required = true;
        self
    }

    /// Refuses rows without a value here.
    #[must_use]
    pub fn required(mut self) -> Self {
        self.required = true;
        self
    }

    /// Marks personal data.
    #[must_use]
    pub fn sensitive(mut self) -> Self {
        self.sensitive = true;
        self
    }
}

macro_rules! column_of {
    ($($name:ident $kind:ident $doc:literal),* $(,)?) => {
        $(#[doc = $doc] pub fn $name(name: &str, about: &str) -> Column { Column::new(name, Kind::$kind, about) })*
    };
}

column_of! {
    text Text "A text column.",
    json Json "A JSON column.",
    int Int "A whole-number column.",
    money Money "An amount of money.",
    count Count "A decimal count.",
    float Float "A floating-point column.",
    flag Flag "A true-or-false column.",
    date Date "A calendar-day column.",
    instant Instant "An instant in UTC.",
}

/// How rows of a dataset meet the rows that are there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WriteMode {
    /// Every row is new.
    Append,
    /// A row replaces the one with its key.
    Upsert,
    /// As `Upsert`; and a row whose scope came whole without it is marked as deleted.
    Snapshot,
    /// A row is kept beside its former versions, but only if it differs from the newest of them. The key holds the
    /// version column.
    History,
}

/// A table as a value: its columns and the rules by which its rows are told apart, replaced and withdrawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    /// Its name: the table, the folder in the lake, the word in SQL.
    pub name: String,
    /// What one row stands for.
    pub about: String,
    /// Raised with every change of the columns.
    pub version: u32,
    /// The columns in order, key first by custom.
    pub columns: Vec<Column>,
    /// The usual way to write it.
    pub mode: WriteMode,
    /// The column by which a snapshot is whole: a property's units are read all together.
    pub scope: Option<String>,
    /// The column that names which vendor list a row came from, for datasets put together from several; see
    /// [`Scope::origins`](crate::slice::Scope::origins).
    pub origin: Option<String>,
    /// The column that orders versions of one row, newest last.
    pub version_column: Option<String>,
}

impl Dataset {
    /// A dataset without columns yet, written as a snapshot if it has a scope and else by upsert.
    pub fn new(name: &str, about: &str) -> Self {
        Self {
            name: name.to_owned(),
            about: about.to_owned(),
            version: 1,
            columns: Vec::new(),
            mode: WriteMode::Upsert,
            scope: None,
            origin: None,
            version_column: None,
        }
    }

    /// Sets the columns.
    #[must_use]
    pub fn columns(mut self, columns: impl IntoIterator<Item = Column>) -> Self {
        self.columns = columns.into_iter().collect();
        self
    }

    /// Adds columns behind those that are there.
    #[must_use]
    pub fn extend(mut self, columns: impl IntoIterator<Item = Column>) -> Self {
        self.columns.extend(columns);
        self
    }

    /// Sets the scope column, and with it the snapshot mode.
    #[must_use]
    pub fn scope(mut self, column: &str) -> Self {
        self.scope = Some(column.to_owned());
        self.mode = WriteMode::Snapshot;
        self
    }

    /// Sets the origin column.
    #[must_use]
    pub fn origin(mut self, column: &str) -> Self {
        self.origin = Some(column.to_owned());
        self
    }

    /// Sets the write mode.
    #[must_use]
    pub fn mode(mut self, mode: WriteMode) -> Self {
        self.mode = mode;
        self
    }

    /// Sets the version column.
    #[must_use]
    pub fn versioned_by(mut self, column: &str) -> Self {
        self.version_column = Some(column.to_owned());
        self
    }

    /// The names of the key columns.
    pub fn key(&self) -> Vec<&str> {
        self.columns.iter().filter(|c| c.key).map(|c| c.name.as_str()).collect()
    }

    /// The column of that name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|c| c.name == name)
    }

    /// The Arrow schema, with meanings and marks as metadata, so that they travel into Parquet.
    pub fn schema(&self) -> SchemaRef {
        let fields: Vec<Field> = self
            .columns
            .iter()
            .map(|c| {
                let mut metadata = HashMap::from([(ABOUT.to_owned(), c.about.clone())]);
                if c.sensitive {
                    metadata.insert(SENSITIVE.to_owned(), "true".to_owned());
                }
                Field::new(&c.name, c.kind.arrow(), !c.required).with_metadata(metadata)
            })
            .collect();
        let metadata = HashMap::from([
            (DATASET.to_owned(), self.name.clone()),
            (VERSION.to_owned(), self.version.to_string()),
            (KEY.to_owned(), self.key().join(",")),
        ]);
        Arc::new(Schema::new_with_metadata(fields, metadata))
    }
}
