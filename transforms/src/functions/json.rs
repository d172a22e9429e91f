//! Building JSON documents; reading them is the part of `datafusion-functions-json`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::datatypes::{DataType, Field};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::error::Result;
use serde_json::{Map, Value};

use super::{Arity, Function, map_text, strings};

pub(super) fn all() -> Vec<Function> {
    vec![
        Function::new("json_object", Arity::Any, &[], DataType::Utf8, json_object),
        Function::new("json_list", Arity::Between(1, 1), &[], DataType::Utf8, |a| lists(a, document)),
        Function::new("json_texts", Arity::Between(1, 1), &[], DataType::Utf8, |a| lists(a, |t| Value::from(t))),
        Function::map("json_document", |a| map_text(a, |v| Some(document(v).to_string()))),
    ]
}

/// The document that a text holds; a text that holds none is a document itself, as a string.
fn document(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::from(text))
}

/// `json_object(name, value, …)`: an object of the values that are not null; null when all of them are. Decimals are
/// written as numbers with all their places, days in ISO 8601.
fn json_object(args: &[ArrayRef]) -> Result<ArrayRef> {
    let rows = args.first().map_or(0, |a| a.len());
    let options = FormatOptions::default();
    let mut pairs = Vec::with_capacity(args.len() / 2);
    for pair in args.chunks_exact(2) {
        let name = arrow::compute::cast(&pair[0], &DataType::Utf8)?;
        pairs.push((name, ArrayFormatter::try_new(&pair[1], &options)?, &pair[1]));
    }
    let objects = (0..rows).map(|row| {
        let mut object = Map::new();
        for (name, shown, value) in &pairs {
            if name.is_null(row) || value.is_null(row) {
                continue;
            }
            let shown = shown.value(row).to_string();
            let value = match value.data_type() {
                kind if kind.is_numeric() => serde_json::from_str(&shown).unwrap_or(Value::String(shown)),
                DataType::Boolean => Value::Bool(shown == "true"),
                _ => Value::String(shown),
            };
            object.insert(strings(name).value(row).to_owned(), value);
        }
        (!object.is_empty()).then(|| Value::Object(object).to_string())
    });
    Ok(Arc::new(objects.collect::<StringArray>()))
}

/// `json_list(list)` of JSON documents, `json_texts(list)` of texts: a JSON list of the elements that are not null.
fn lists(args: &[ArrayRef], element: impl Fn(&str) -> Value) -> Result<ArrayRef> {
    let list_of_text = DataType::List(Arc::new(Field::new("item", DataType::Utf8, true)));
    let lists = arrow::compute::cast(&args[0], &list_of_text)?;
    let lists = lists.as_list::<i32>();
    let documents = lists.iter().map(|list| {
        let list = list?;
        Some(Value::Array(strings(&list).iter().flatten().map(&element).collect()).to_string())
    });
    Ok(Arc::new(documents.collect::<StringArray>()))
}
