//! PostgreSQL's binary `COPY` format to Arrow.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanBuilder, Date32Builder, Decimal128Builder, Float64Builder, Int64Builder, RecordBatch,
    StringBuilder, TimestampMicrosecondBuilder,
};
use arrow::datatypes::SchemaRef;
use catalog::dataset::{COUNT, MONEY};
use catalog::store::pg::fault;
use catalog::{Dataset, Fault, Kind, Result};
use futures::TryStreamExt;
use sqlx::postgres::PgConnection;

use super::encode::{EPOCH_DAYS, EPOCH_MICROS, HEADER};

/// Rows of one answer.
const BATCH_ROWS: usize = 65_536;

enum Builder {
    Text(StringBuilder),
    Json(StringBuilder),
    Int(Int64Builder),
    Decimal(Decimal128Builder),
    Float(Float64Builder),
    Flag(BooleanBuilder),
    Date(Date32Builder),
    Instant(TimestampMicrosecondBuilder),
}

impl Builder {
    fn of(kind: Kind) -> Self {
        match kind {
            Kind::Text => Self::Text(StringBuilder::new()),
            Kind::Json => Self::Json(StringBuilder::new()),
            Kind::Int => Self::Int(Int64Builder::new()),
            Kind::Money => Self::Decimal(Decimal128Builder::new().with_data_type(MONEY)),
            Kind::Count => Self::Decimal(Decimal128Builder::new().with_data_type(COUNT)),
            Kind::Float => Self::Float(Float64Builder::new()),
            Kind::Flag => Self::Flag(BooleanBuilder::new()),
            Kind::Date => Self::Date(Date32Builder::new()),
            Kind::Instant => Self::Instant(TimestampMicrosecondBuilder::new().with_timezone("UTC")),
        }
    }

    /// Adds a field. `None` when its bytes are not what the type promises.
    fn push(&mut self, field: Option<&[u8]>) -> Option<()> {
        match (self, field) {
            (Self::Text(b), value) => b.append_option(value.map(std::str::from_utf8).transpose().ok()?),
            (Self::Json(b), None) => b.append_null(),
            (Self::Json(b), Some([1, text @ ..])) => b.append_value(std::str::from_utf8(text).ok()?),
            (Self::Json(_), Some(_)) => return None,
            (Self::Int(b), value) => b.append_option(word(value)?.map(i64::from_be_bytes)),
            (Self::Float(b), value) => b.append_option(word(value)?.map(f64::from_be_bytes)),
            (Self::Flag(b), value) => b.append_option(word::<1>(value)?.map(|v| v != [0])),
            (Self::Date(b), value) => {
                b.append_option(word(value)?.map(|v| i32::from_be_bytes(v).saturating_add(EPOCH_DAYS)));
            }
            (Self::Instant(b), value) => {
                b.append_option(word(value)?.map(|v| i64::from_be_bytes(v).saturating_add(EPOCH_MICROS)));
            }
            (Self::Decimal(b), None) => b.append_null(),
            (Self::Decimal(b), Some(bytes)) => b.append_value(hundredths(bytes)?),
        }
        Some(())
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Text(b) | Self::Json(b) => Arc::new(b.finish()),
            Self::Int(b) => Arc::new(b.finish()),
            Self::Decimal(b) => Arc::new(b.finish()),
            Self::Float(b) => Arc::new(b.finish()),
            Self::Flag(b) => Arc::new(b.finish()),
            Self::Date(b) => Arc::new(b.finish()),
            Self::Instant(b) => Arc::new(b.finish()),
        }
    }
}

fn word<const N: usize>(field: Option<&[u8]>) -> Option<Option<[u8; N]>> {
    field.map(|bytes| bytes.try_into().ok()).map_or(Some(None), |v| v.map(Some))
}

/// A finite `numeric` with at most two places.
fn hundredths(bytes: &[u8]) -> Option<i128> {
    let (words, rest) = bytes.as_chunks::<2>();
    let word = |at: usize| words.get(at).map(|w| i16::from_be_bytes(*w));
    let (digits, weight, negative) = (usize::try_from(word(0)?).ok()?, i32::from(word(1)?), word(2)?);
    if !rest.is_empty() || words.len() != 4 + digits || !matches!(negative, 0 | 0x4000) {
        return None;
    }
    let mut value = 0_i128;
    for at in 0..digits {
        let group = i128::from(word(4 + at)?);
        let power = weight - i32::try_from(at).ok()?;
        value = value.checked_add(match power {
            0.. => group.checked_mul(10_000_i128.checked_pow(u32::try_from(power).ok()?)?)?.checked_mul(100)?,
            -1 => group / 100,
            _ => 0,
        })?;
    }
    Some(if negative == 0 { value } else { -value })
}

/// Runs a `copy … to stdout (format binary)` whose columns are the dataset's, and gives its rows as batches.
pub(crate) async fn copy_out(
    connection: &mut PgConnection,
    dataset: &Dataset,
    schema: &SchemaRef,
    sql: &str,
) -> Result<Vec<RecordBatch>> {
    let what = format!("cannot read `{}`", dataset.name);
    let malformed = || Fault::us(format!("{what}: PostgreSQL answered in an unknown form"));
    let mut builders: Vec<Builder> = dataset.columns.iter().map(|c| Builder::of(c.kind)).collect();
    let mut batches = Vec::new();
    let mut rows = 0;
    let mut rest: Vec<u8> = Vec::new();
    let mut started = false;
    let mut stream = connection.copy_out_raw(sql).await.map_err(|e| fault(&what, e))?;
    while let Some(chunk) = stream.try_next().await.map_err(|e| fault(&what, e))? {
        // Messages are whole rows in practice, but the protocol does not promise it.
        rest.extend_from_slice(&chunk);
        let mut at = 0;
        if !started {
            if rest.len() < HEADER.len() {
                continue;
            }
            at = HEADER.len();
            started = true;
        }
        while let Some((fields, next)) = row(&rest, at, builders.len()).ok_or_else(malformed)? {
            for (builder, field) in builders.iter_mut().zip(fields) {
                builder.push(field).ok_or_else(malformed)?;
            }
            at = next;
            rows += 1;
            if rows == BATCH_ROWS {
                batches.push(batch(schema, &mut builders)?);
                rows = 0;
            }
        }
        rest.drain(..at);
    }
    drop(stream);
    if rows > 0 {
        batches.push(batch(schema, &mut builders)?);
    }
    Ok(batches)
}

fn batch(schema: &SchemaRef, builders: &mut [Builder]) -> Result<RecordBatch> {
    Ok(RecordBatch::try_new(Arc::clone(schema), builders.iter_mut().map(Builder::finish).collect())?)
}

type Fields<'a> = Vec<Option<&'a [u8]>>;

/// The row that starts at `at` and where the next one starts; `Some(None)` when it is not all there, or the end.
fn row(bytes: &[u8], at: usize, width: usize) -> Option<Option<(Fields<'_>, usize)>> {
    let Some(count) = bytes.get(at..at + 2) else { return Some(None) };
    if count == [0xff, 0xff] {
        return Some(None);
    }
    if usize::from(u16::from_be_bytes(count.try_into().ok()?)) != width {
        return None;
    }
    let mut at = at + 2;
    let mut fields = Vec::with_capacity(width);
    for _ in 0..width {
        let Some(size) = bytes.get(at..at + 4) else { return Some(None) };
        let size = i32::from_be_bytes(size.try_into().ok()?);
        at += 4;
        if size < 0 {
            fields.push(None);
            continue;
        }
        let end = at + usize::try_from(size).ok()?;
        let Some(value) = bytes.get(at..end) else { return Some(None) };
        fields.push(Some(value));
        at = end;
    }
    Some(Some((fields, at)))
}
