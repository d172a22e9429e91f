//! Generated datasets and rows, for tests of sinks.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use catalog::{Dataset, Kind};

/// One value of any kind.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// Nothing.
    Null,
    /// Text or JSON.
    Text(String),
    /// A whole number, a day, an instant in microseconds.
    Int(i64),
    /// Hundredths.
    Decimal(i128),
    /// A float.
    Float(f64),
    /// A flag.
    Flag(bool),
}

/// Rows of cells as a batch of the dataset.
pub fn batch(dataset: &Dataset, rows: &[Vec<Cell>]) -> RecordBatch {
    let columns = dataset
        .columns
        .iter()
        .enumerate()
        .map(|(at, column)| {
            let cells = rows.iter().map(|row| &row[at]);
            let int = |c: &Cell| if let Cell::Int(v) = c { Some(*v) } else { None };
            match column.kind {
                Kind::Text | Kind::Json => Arc::new(
                    cells.map(|c| if let Cell::Text(v) = c { Some(v.as_str()) } else { None }).collect::<StringArray>(),
                ) as ArrayRef,
                Kind::Int => Arc::new(cells.map(int).collect::<Int64Array>()),
                Kind::Date => {
                    Arc::new(cells.map(|c| int(c).map(|v| i32::try_from(v).unwrap())).collect::<Date32Array>())
                }
                Kind::Instant => Arc::new(cells.map(int).collect::<TimestampMicrosecondArray>().with_timezone("UTC")),
                Kind::Money | Kind::Count => Arc::new(
                    cells
                        .map(|c| if let Cell::Decimal(v) = c { Some(*v) } else { None })
                        .collect::<Decimal128Array>()
                        .with_data_type(column.kind.arrow()),
                ),
                Kind::Float => Arc::new(
                    cells.map(|c| if let Cell::Float(v) = c { Some(*v) } else { None }).collect::<Float64Array>(),
                ),
                Kind::Flag => Arc::new(
                    cells.map(|c| if let Cell::Flag(v) = c { Some(*v) } else { None }).collect::<BooleanArray>(),
                ),
            }
        })
        .collect();
    RecordBatch::try_new(dataset.schema(), columns).unwrap()
}
