//! Record batches as text for people and programs: a table, CSV, JSON or JSON lines.
//!
//! All but the table are written as the rows come. Amounts keep their digits: a decimal is never a float on the way.

use std::borrow::Cow;
use std::io::{self, Write};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, ContentArrangement, Row, Table};

/// Field metadata that marks a text column whose values are numbers written out, for types that Arrow has no exact
/// match for.
pub const NUMBER: &str = "propflow.number";

/// The longest text that a terminal shows of one cell.
const CELL_CHARS: usize = 60;
/// The narrowest column that can still be read; with less, each row gets a block of its own.
const MIN_COLUMN: usize = 8;

/// How to print rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// A table for people.
    #[default]
    Table,
    /// Comma-separated values with a header. An empty field is null; an empty text is `""`.
    Csv,
    /// One JSON array of objects.
    Json,
    /// One JSON object a line, also called NDJSON.
    Jsonl,
}

/// Prints batches of one schema. Call [`Printer::batch`] any number of times, then [`Printer::finish`].
pub struct Printer<'a> {
    format: Format,
    schema: SchemaRef,
    /// The terminal's width; `None` when nobody looks at it, and then nothing is clipped.
    width: Option<u16>,
    out: &'a mut dyn Write,
    cells: Vec<Vec<String>>,
    rows: u64,
}

impl<'a> Printer<'a> {
    /// Starts the output; CSV writes its header now.
    pub fn new(format: Format, schema: SchemaRef, width: Option<u16>, out: &'a mut dyn Write) -> io::Result<Self> {
        match format {
            Format::Csv => {
                let names: Vec<_> = schema.fields().iter().map(|f| csv_field(f.name())).collect();
                writeln!(out, "{}", names.join(","))?;
            }
            Format::Json => write!(out, "[")?,
            Format::Table | Format::Jsonl => {}
        }
        Ok(Self { format, schema, width, out, cells: Vec::new(), rows: 0 })
    }

    /// Prints rows, or keeps them when the format is a table.
    pub fn batch(&mut self, batch: &RecordBatch) -> io::Result<()> {
        let columns: Vec<Values> = (self.schema.fields().iter().zip(batch.columns()))
            .map(|(field, array)| Values::new(field, array))
            .collect::<Result<_, _>>()
            .map_err(io::Error::other)?;
        let mut line = String::new();
        for row in 0..batch.num_rows() {
            line.clear();
            match self.format {
                Format::Table => self.cells.push(columns.iter().map(|c| c.cell(row)).collect()),
                Format::Csv => {
                    for (i, column) in columns.iter().enumerate() {
                        if i > 0 {
                            line.push(',');
                        }
                        if let Some(text) = column.text(row) {
                            line.push_str(&csv_field(&text));
                        }
                    }
                    writeln!(self.out, "{line}")?;
                }
                Format::Json | Format::Jsonl => {
                    line.push('{');
                    for (i, column) in columns.iter().enumerate() {
                        if i > 0 {
                            line.push(',');
                        }
                        push_string(&mut line, self.schema.field(i).name());
                        line.push(':');
                        column.push_json(row, &mut line);
                    }
                    line.push('}');
                    match (self.format, self.rows) {
                        (Format::Json, 0) => write!(self.out, "\n  {line}")?,
                        (Format::Json, _) => write!(self.out, ",\n  {line}")?,
                        _ => writeln!(self.out, "{line}")?,
                    }
                }
            }
            self.rows += 1;
        }
        Ok(())
    }

    /// Ends the output and flushes it. Gives the number of rows.
    pub fn finish(mut self) -> io::Result<u64> {
        match self.format {
            Format::Table => self.table()?,
            Format::Json if self.rows == 0 => writeln!(self.out, "]")?,
            Format::Json => writeln!(self.out, "\n]")?,
            Format::Csv | Format::Jsonl => {}
        }
        self.out.flush()?;
        Ok(self.rows)
    }

    fn table(&mut self) -> io::Result<()> {
        let names: Vec<String> = self.schema.fields().iter().map(|f| printable(f.name()).into_owned()).collect();
        let cells = std::mem::take(&mut self.cells);
        let needed: usize = (names.iter().enumerate())
            .map(|(i, name)| {
                let widest = cells.iter().map(|row| row[i].chars().count()).max().unwrap_or(0);
                widest.max(name.chars().count()).min(MIN_COLUMN) + 3
            })
            .sum();
        match self.width {
            Some(width) if needed + 1 > usize::from(width) => {
                for (number, row) in cells.into_iter().enumerate() {
                    let mut table = grid(self.width);
                    table.set_header(vec!["row".to_owned(), (number + 1).to_string()]);
                    table.add_rows(names.iter().zip(row).map(|(name, cell)| vec![name.clone(), self.clip(cell)]));
                    writeln!(self.out, "{table}")?;
                }
            }
            _ => {
                let mut table = grid(self.width);
                table.set_header(names);
                for row in cells {
                    let mut row = Row::from(row.into_iter().map(|cell| self.clip(cell)).collect::<Vec<_>>());
                    if self.width.is_some() {
                        row.max_height(1);
                    }
                    table.add_row(row);
                }
                for (i, field) in self.schema.fields().iter().enumerate() {
                    if is_number(field)
                        && let Some(column) = table.column_mut(i)
                    {
                        column.set_cell_alignment(CellAlignment::Right);
                    }
                }
                writeln!(self.out, "{table}")?;
            }
        }
        writeln!(self.out, "{} {}", self.rows, if self.rows == 1 { "row" } else { "rows" })
    }

    fn clip(&self, cell: String) -> String {
        if self.width.is_none() || cell.chars().count() <= CELL_CHARS {
            return cell;
        }
        cell.chars().take(CELL_CHARS - 1).chain(['…']).collect()
    }
}

/// Prints batches that are all at hand.
pub fn print(
    format: Format,
    schema: SchemaRef,
    batches: &[RecordBatch],
    width: Option<u16>,
    out: &mut dyn Write,
) -> io::Result<u64> {
    let mut printer = Printer::new(format, schema, width, out)?;
    for batch in batches {
        printer.batch(batch)?;
    }
    printer.finish()
}

fn grid(width: Option<u16>) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).force_no_tty().set_truncation_indicator("…");
    match width {
        Some(width) => table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width),
        None => table.set_content_arrangement(ContentArrangement::Disabled),
    };
    table
}

fn is_number(field: &Field) -> bool {
    field.data_type().is_numeric() || field.metadata().contains_key(NUMBER)
}

/// One column, ready to be read value by value.
struct Values<'a> {
    array: &'a ArrayRef,
    number: bool,
    plain: ArrayFormatter<'a>,
}

const FORMAT: FormatOptions<'static> = FormatOptions::new().with_display_error(true);

impl<'a> Values<'a> {
    fn new(field: &Field, array: &'a ArrayRef) -> Result<Self, arrow::error::ArrowError> {
        let number = field.metadata().contains_key(NUMBER);
        Ok(Self { array, number, plain: ArrayFormatter::try_new(array.as_ref(), &FORMAT)? })
    }

    /// The value as bare text; `None` is null. Lists and objects are JSON.
    fn text(&self, row: usize) -> Option<Cow<'a, str>> {
        if self.array.is_null(row) {
            return None;
        }
        Some(match string_at(self.array.as_ref(), row) {
            Some(text) => Cow::Borrowed(text),
            None if self.array.data_type().is_nested() => {
                let mut json = String::new();
                push_value(self.array.as_ref(), row, &mut json);
                Cow::Owned(json)
            }
            None => Cow::Owned(self.plain.value(row).to_string()),
        })
    }

    fn cell(&self, row: usize) -> String {
        self.text(row).map_or_else(|| "null".to_owned(), |text| printable(&text).into_owned())
    }

    fn push_json(&self, row: usize, out: &mut String) {
        match string_at(self.array.as_ref(), row) {
            // `NaN` and `Infinity` are numbers to PostgreSQL and none to JSON.
            Some(digits) if self.number && !self.array.is_null(row) && digits.ends_with(|c: char| c.is_ascii_digit()) => {
                out.push_str(digits);
            }
            _ => push_value(self.array.as_ref(), row, out),
        }
    }
}

fn string_at(array: &dyn Array, row: usize) -> Option<&str> {
    match array.data_type() {
        DataType::Utf8 => Some(array.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => Some(array.as_string::<i64>().value(row)),
        DataType::Utf8View => Some(array.as_string_view().value(row)),
        _ => None,
    }
}

/// Appends a value as JSON: decimals as exact numbers, instants and days as text, numbers that JSON cannot write as null.
fn push_value(array: &dyn Array, row: usize, out: &mut String) {
    if array.is_null(row) {
        out.push_str("null");
        return;
    }
    if let Some(text) = string_at(array, row) {
        push_string(out, text);
        return;
    }
    match array.data_type() {
        DataType::Null => out.push_str("null"),
        DataType::List(_) => push_list(&array.as_list::<i32>().value(row), out),
        DataType::LargeList(_) => push_list(&array.as_list::<i64>().value(row), out),
        DataType::FixedSizeList(_, _) => push_list(&array.as_fixed_size_list().value(row), out),
        DataType::Struct(fields) => {
            out.push('{');
            for (i, (field, column)) in fields.iter().zip(array.as_struct().columns()).enumerate() {
                if i > 0 {
                    out.push(',');
                }
                push_string(out, field.name());
                out.push(':');
                push_value(column.as_ref(), row, out);
            }
            out.push('}');
        }
        DataType::Map(_, _) => {
            let entries = array.as_map().value(row);
            out.push('{');
            for i in 0..entries.len() {
                if i > 0 {
                    out.push(',');
                }
                let key = ArrayFormatter::try_new(entries.column(0).as_ref(), &FORMAT);
                push_string(out, &key.map(|k| k.value(i).to_string()).unwrap_or_default());
                out.push(':');
                push_value(entries.column(1).as_ref(), i, out);
            }
            out.push('}');
        }
        kind => {
            let text = ArrayFormatter::try_new(array, &FORMAT).map(|f| f.value(row).to_string()).unwrap_or_default();
            let bare = match kind {
                DataType::Boolean => true,
                DataType::Float16 | DataType::Float32 | DataType::Float64 => {
                    if text.contains(['N', 'n', 'i']) {
                        out.push_str("null");
                        return;
                    }
                    true
                }
                kind => kind.is_numeric(),
            };
            if bare {
                out.push_str(&text);
            } else {
                push_string(out, &text);
            }
        }
    }
}

fn push_list(items: &ArrayRef, out: &mut String) {
    out.push('[');
    for i in 0..items.len() {
        if i > 0 {
            out.push(',');
        }
        push_value(items.as_ref(), i, out);
    }
    out.push(']');
}

fn push_string(out: &mut String, text: &str) {
    // A `str` always has a JSON form.
    out.push_str(&serde_json::Value::from(text).to_string());
}

/// A CSV field, quoted as RFC 4180 has it. Values are never altered: a text that a spreadsheet would take for a formula
/// stays as it is.
fn csv_field(text: &str) -> Cow<'_, str> {
    let plain = !text.is_empty()
        && !text.contains([',', '"', '\n', '\r'])
        && !text.starts_with(char::is_whitespace)
        && !text.ends_with(char::is_whitespace);
    if plain { Cow::Borrowed(text) } else { Cow::Owned(format!("\"{}\"", text.replace('"', "\"\""))) }
}

/// The text with everything escaped that could move a terminal's cursor, colour it or turn the direction of writing.
fn printable(text: &str) -> Cow<'_, str> {
    let hostile = |c: char| c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if !text.contains(hostile) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().flat_map(|c| if hostile(c) { c.escape_default().collect() } else { vec![c] }).collect())
}

/// The schema with each field marked by [`NUMBER`] that is in the list.
pub(crate) fn mark_numbers(schema: Schema, numbers: &[bool]) -> SchemaRef {
    let fields: Vec<Field> = (schema.fields().iter().zip(numbers))
        .map(|(field, number)| {
            let field = field.as_ref().clone();
            if *number { field.with_metadata([(NUMBER.to_owned(), String::new())].into()) } else { field }
        })
        .collect();
    SchemaRef::new(Schema::new(fields))
}
