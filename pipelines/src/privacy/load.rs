//! Rows of people who were erased, as a vendor brings them again: blanked before any sink sees them.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::DataType;
use catalog::store::erasures::{Erased, PART};
use catalog::{Reject, Result, datasets};
use serde_json::Value;
use transforms::functions::email_canonical;

use super::shape;

/// Blanks what is of erased people in the rows of a slice and in what was refused. Rows of a dataset that the catalog does
/// not know are left out when they name one. Gives how many rows were met.
///
/// # Errors
/// When a batch has lost a column.
pub fn blank(erased: &Erased, tables: &mut BTreeMap<String, Vec<RecordBatch>>, rejects: &mut [Reject]) -> Result<u64> {
    let who = |kind: &str, value: &str| erased.knows(kind, value);
    let mut met = 0;
    for (name, batches) in tables.iter_mut() {
        let shape = shape::find(name);
        if shape.is_none() && datasets::find(name).is_some() {
            continue;
        }
        for batch in batches {
            let rows = match shape {
                Some(shape) => shape.matches(batch, &who)?,
                None => naming(batch, &|text| names(erased, text))?,
            };
            let count = rows.true_count() as u64;
            if count > 0 {
                met += count;
                *batch = match shape {
                    Some(shape) => {
                        // Which guest a booking has is computed anew, and names nobody.
                        let ties = !datasets::bookings::is_settled(name);
                        shape.blanked(batch, &rows, ties)?
                    }
                    None => filter_record_batch(batch, &arrow::compute::not(&rows)?)?,
                };
            }
        }
    }
    for reject in rejects {
        if told_of(&reject.payload, erased) {
            reject.payload = Value::Object(serde_json::Map::new());
            met += 1;
        }
    }
    Ok(met)
}

/// The rows with a text that a test finds.
pub(super) fn naming(batch: &RecordBatch, test: &dyn Fn(&str) -> bool) -> Result<BooleanArray> {
    let mut found = vec![false; batch.num_rows()];
    for column in batch.columns() {
        if !matches!(column.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) {
            continue;
        }
        let column = cast(column, &DataType::Utf8)?;
        let column = column.as_string::<i32>();
        for (row, found) in found.iter_mut().enumerate() {
            *found |= column.is_valid(row) && test(column.value(row));
        }
    }
    Ok(found.into())
}

/// Whether a text, as a whole, is an address or a phone of an erased person.
fn names(erased: &Erased, text: &str) -> bool {
    (text.contains('@') && email_canonical(text).is_some_and(|e| erased.knows("email", &e)))
        || (text.starts_with('+') && erased.knows("phone", text))
}

fn told_of(payload: &Value, erased: &Erased) -> bool {
    let text = |name: &str| payload[name].as_str();
    let tied = |kind: &str, name: &str| {
        text("connection")
            .zip(text(name))
            .is_some_and(|(connection, id)| erased.knows(kind, &format!("{connection}{PART}{id}")))
    };
    tied("vendor", "guest_id") || tied("booking", "reservation_id") || leaves(payload, &|t| names(erased, t))
}

/// Whether a test finds one of the texts in a document.
pub(super) fn leaves(value: &Value, test: &dyn Fn(&str) -> bool) -> bool {
    match value {
        Value::String(text) => {
            // Lists of addresses come as JSON in a text.
            test(text)
                || (text.starts_with(['[', '{'])
                    && serde_json::from_str::<Value>(text).is_ok_and(|inner| leaves(&inner, test)))
        }
        Value::Array(items) => items.iter().any(|v| leaves(v, test)),
        Value::Object(fields) => fields.values().any(|v| leaves(v, test)),
        _ => false,
    }
}
