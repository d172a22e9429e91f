//! What sinks do with rows before they write them: bring a batch into the dataset's own shape, tell rows apart.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::buffer::NullBuffer;
use arrow::compute::{CastOptions, cast_with_options, take_record_batch};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float64Type, Int64Type, SchemaRef, TimeUnit, TimestampMicrosecondType,
};
use catalog::{Dataset, Fault, Result};
use xxhash_rust::xxh3::xxh3_64;

/// Brings a batch into the dataset's schema: columns by name, values in the column's own Arrow type. A model that
/// answers in another text encoding is served; a value that would be lost is a fault.
pub(crate) fn conform(dataset: &Dataset, schema: &SchemaRef, batch: &RecordBatch) -> Result<RecordBatch> {
    let what = |problem: String| Fault::us(format!("rows for `{}`: {problem}", dataset.name));
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let Some(array) = batch.column_by_name(field.name()) else {
            return Err(what(format!("the column `{}` is missing", field.name())));
        };
        let array = if array.data_type() == field.data_type() {
            Arc::clone(array)
        } else {
            cast_with_options(array, field.data_type(), &options)
                .map_err(|e| what(format!("column `{}` does not fit {}", field.name(), field.data_type())).because(e))?
        };
        if !field.is_nullable() && array.null_count() > 0 {
            return Err(what(format!("the required column `{}` has rows without a value", field.name())));
        }
        columns.push(array);
    }
    if batch.num_columns() != columns.len() {
        let extra: Vec<_> = batch
            .schema_ref()
            .fields()
            .iter()
            .filter(|f| schema.field_with_name(f.name()).is_err())
            .map(|f| format!("`{}`", f.name()))
            .collect();
        return Err(what(format!("unknown columns: {}", extra.join(", "))));
    }
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

/// A 64-bit hash of some columns, row by row. Stable across processes and versions: it is stored.
///
/// Equal hashes mean equal rows but for one chance in 2^64. Zero has no sign and there is one NaN, as in PostgreSQL, so
/// that a key read back from there hashes as it did.
pub(crate) fn hash(seed: u64, columns: &[ArrayRef]) -> Vec<u64> {
    let rows = columns.first().map_or(0, |c| c.len());
    let mut hashes = vec![mix(seed, 0x9E37_79B9_7F4A_7C15); rows];
    for column in columns {
        let nulls = column.nulls().filter(|n| n.null_count() > 0);
        match column.data_type() {
            DataType::Utf8 => {
                let a = column.as_string::<i32>();
                // Rows of one owner share many a word with the row before them.
                let mut last = (&b""[..], xxh3_64(b""));
                fold(&mut hashes, nulls, |row| {
                    let text = a.value(row).as_bytes();
                    if text != last.0 {
                        last = (text, xxh3_64(text));
                    }
                    last.1
                });
            }
            DataType::Int64 => {
                let a = column.as_primitive::<Int64Type>().values();
                fold(&mut hashes, nulls, |row| a[row].cast_unsigned());
            }
            DataType::Float64 => {
                let a = column.as_primitive::<Float64Type>().values();
                fold(&mut hashes, nulls, |row| float_bits(a[row]));
            }
            DataType::Boolean => {
                let a = column.as_boolean();
                fold(&mut hashes, nulls, |row| u64::from(a.value(row)) + 1);
            }
            DataType::Date32 => {
                let a = column.as_primitive::<Date32Type>().values();
                fold(&mut hashes, nulls, |row| i64::from(a[row]).cast_unsigned());
            }
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                let a = column.as_primitive::<TimestampMicrosecondType>().values();
                fold(&mut hashes, nulls, |row| a[row].cast_unsigned());
            }
            DataType::Decimal128(..) => {
                let a = column.as_primitive::<Decimal128Type>().values();
                fold(&mut hashes, nulls, |row| {
                    let v = a[row].cast_unsigned();
                    (v as u64) ^ mix((v >> 64) as u64, NULL)
                });
            }
            // `conform` lets no other type through.
            other => debug_assert!(false, "no hash for {other}"),
        }
    }
    hashes
}

fn fold(hashes: &mut [u64], nulls: Option<&NullBuffer>, mut value: impl FnMut(usize) -> u64) {
    match nulls {
        None => hashes.iter_mut().enumerate().for_each(|(row, hash)| *hash = mix(*hash, value(row))),
        Some(nulls) => hashes.iter_mut().enumerate().for_each(|(row, hash)| {
            *hash = mix(*hash, if nulls.is_null(row) { NULL } else { value(row) });
        }),
    }
}

fn float_bits(value: f64) -> u64 {
    if value == 0.0 {
        0
    } else if value.is_nan() {
        f64::NAN.to_bits()
    } else {
        value.to_bits()
    }
}

/// What a null hashes to; as good as any value that no one would write.
const NULL: u64 = 0xD6E8_FEB8_6659_FD93;

/// Folded multiplication, the step of the wyhash family: each bit of both words moves every bit of the result.
fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a ^ 0xA076_1D64_78BD_642F) * u128::from(b ^ 0xE703_7ED1_A0B4_28DB);
    let folded = (product as u64) ^ ((product >> 64) as u64);
    // The row's position in the chain matters, a zero must not swallow what came before.
    folded.wrapping_add(a.rotate_left(23))
}

/// The seed of a dataset's row hashes: another set of columns gives other hashes.
pub(crate) fn seed(dataset: &Dataset) -> u64 {
    let text: Vec<String> = dataset.columns.iter().map(|c| format!("{}:{}", c.name, c.kind.as_str())).collect();
    xxh3_64(text.join("\u{1f}").as_bytes())
}

/// The columns of that name, in the order of the names.
pub(crate) fn pick(batch: &RecordBatch, names: &[&str]) -> Vec<ArrayRef> {
    names.iter().filter_map(|n| batch.column_by_name(n).cloned()).collect()
}

/// Hashes of each row's key.
pub(crate) fn key_hashes(dataset: &Dataset, batch: &RecordBatch) -> Vec<u64> {
    hash(1, &pick(batch, &dataset.key()))
}

/// Keeps the last row of each key, in the order of the batch. `None` when no key is there twice.
pub(crate) fn last_of_each_key(dataset: &Dataset, batch: &RecordBatch) -> Result<Option<RecordBatch>> {
    let hashes = key_hashes(dataset, batch);
    let mut last: HashMap<u64, usize> = HashMap::with_capacity(hashes.len());
    for (row, hash) in hashes.iter().enumerate() {
        last.insert(*hash, row);
    }
    if last.len() == hashes.len() {
        return Ok(None);
    }
    let rows: UInt32Array = hashes
        .iter()
        .enumerate()
        .filter(|(row, hash)| last[*hash] == *row)
        .map(|(row, _)| u32::try_from(row).unwrap_or(u32::MAX))
        .collect();
    Ok(Some(take_record_batch(batch, &rows)?))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Decimal128Array, Int64Array, StringArray};

    use super::*;

    #[test]
    fn hashes_are_those_that_are_stored() {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec![Some("101"), None, Some("")])),
            Arc::new(Int64Array::from(vec![Some(0), Some(-1), None])),
            Arc::new(Decimal128Array::from(vec![Some(120_000), None, Some(0)])),
        ];
        // Another value here makes every stored digest useless: everything would be sent once more.
        assert_eq!(hash(7, &columns), PINNED);
    }

    const PINNED: [u64; 3] = [8_183_460_363_244_476_923, 14_406_068_434_949_642_504, 11_101_463_427_947_604_536];

    #[test]
    fn swapped_values_and_nulls_hash_apart() {
        let hash = |a: Option<&str>, b: Option<&str>| {
            let columns: Vec<ArrayRef> =
                vec![Arc::new(StringArray::from(vec![a])), Arc::new(StringArray::from(vec![b]))];
            hash(0, &columns)[0]
        };
        let all = [
            hash(Some("a"), Some("b")),
            hash(Some("b"), Some("a")),
            hash(None, Some("a")),
            hash(Some("a"), None),
            hash(Some(""), None),
            hash(None, Some("")),
            hash(None, None),
        ];
        let distinct: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
    }
}
