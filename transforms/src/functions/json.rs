//! Building JSON documents; reading them is the part of `datafusion-functions-json`.

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray, StringBuilder};
use arrow::datatypes::{DataType, Field};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::exec_datafusion_err;
use datafusion::error::Result;
use datafusion::logical_expr::ColumnarValue;
use datafusion::scalar::ScalarValue;
use serde_json::Value;

use super::{Args, Arity, Function, map_text, strings};

pub(super) fn all() -> Vec<Function> {
    vec![
        Function::of_args("json_object", Arity::Any, &[], DataType::Utf8, json_object),
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
fn json_object(args: &Args<'_>) -> Result<ArrayRef> {
    let mut members = Vec::with_capacity(args.values.len() / 2);
    for pair in 0..args.values.len() / 2 {
        let ColumnarValue::Scalar(name) = &args.values[2 * pair] else { return json_object_by_row(args) };
        members.push((name.try_as_str().flatten().map(str::to_owned), args.array(2 * pair + 1)?));
    }
    // Members are written in the order of their names, so that equal objects are equal texts.
    members.sort_by(|(a, _), (b, _)| a.cmp(b));
    let options = FormatOptions::default();
    let mut writers = Vec::with_capacity(members.len());
    for (at, (name, values)) in members.iter().enumerate() {
        // A name that is given again takes the place of the one before; a null name names nothing.
        let later: Vec<_> = members[at + 1..].iter().take_while(|(n, _)| n == name).map(|(_, v)| v).collect();
        let Some(name) = name else { continue };
        let shown = ArrayFormatter::try_new(values, &options)?;
        writers.push((format!("{}:", Value::from(name.as_str())), values, shown, later));
    }
    let missing = |values: &ArrayRef, row: usize| values.is_null(row) || *values.data_type() == DataType::Null;
    let mut objects = StringBuilder::new();
    let (mut object, mut text) = (String::new(), String::new());
    for row in 0..args.rows {
        object.clear();
        for (name, values, shown, later) in &writers {
            if missing(values, row) || later.iter().any(|v| !missing(v, row)) {
                continue;
            }
            object.push(if object.is_empty() { '{' } else { ',' });
            object.push_str(name);
            match values.as_string_opt::<i32>() {
                Some(texts) => write_text(&mut object, texts.value(row)),
                None => {
                    text.clear();
                    write!(text, "{}", shown.value(row))
                        .map_err(|_| exec_datafusion_err!("a value cannot be shown"))?;
                    match values.data_type() {
                        DataType::Boolean => object.push_str(&text),
                        kind if kind.is_numeric() => match serde_json::from_str::<Value>(&text) {
                            Ok(number) => write!(object, "{number}").unwrap_or_default(),
                            Err(_) => write_text(&mut object, &text),
                        },
                        _ => write_text(&mut object, &text),
                    }
                }
            }
        }
        if object.is_empty() {
            objects.append_null();
        } else {
            object.push('}');
            objects.append_value(&object);
        }
    }
    Ok(Arc::new(objects.finish()))
}

/// The same where a name is not the same in every row.
fn json_object_by_row(args: &Args<'_>) -> Result<ArrayRef> {
    let literal = |value: &ColumnarValue, row: usize| match value {
        ColumnarValue::Scalar(_) => Ok(value.clone()),
        ColumnarValue::Array(array) => ScalarValue::try_from_array(array, row).map(ColumnarValue::Scalar),
    };
    let mut objects = StringBuilder::new();
    for row in 0..args.rows {
        let values = args.values.iter().map(|value| literal(value, row)).collect::<Result<Vec<_>>>()?;
        let object = json_object(&Args { values: &values, rows: 1 })?;
        objects.append_option(object.is_valid(0).then(|| strings(&object).value(0)));
    }
    Ok(Arc::new(objects.finish()))
}

fn write_text(out: &mut String, text: &str) {
    if text.bytes().all(|b| b >= b' ' && b != b'"' && b != b'\\') {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        // Serialising a string into a string cannot fail.
        write!(out, "{}", Value::from(text)).unwrap_or_default();
    }
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
