//! Columns from a page, for those who do not want to list them.

use catalog::Result;
use serde_json::Value;

use super::settings::{ColumnSpec, Type};
use super::values::{Format, day, instant};

/// Records that are looked at.
const SAMPLE: usize = 1000;

/// The columns of a page: the top-level fields of its records in order of first sight. A field that is a list or an
/// object somewhere is JSON; so is one that never had a value, since JSON can hold whatever comes.
pub(super) fn columns(text: &str, records: &[String]) -> Result<Vec<ColumnSpec>, serde_json::Error> {
    let answer: Value = serde_json::from_str(text.strip_prefix('\u{feff}').unwrap_or(text))?;
    let found = records.iter().try_fold(&answer, |at, key| at.get(key));
    let list = match found {
        Some(Value::Array(list)) => list.iter().take(SAMPLE).collect(),
        Some(one @ Value::Object(_)) => vec![one],
        _ => Vec::new(),
    };
    let mut fields: Vec<(&str, Vec<&Value>)> = Vec::new();
    // Parsed objects are sorted by key; order of first sight would need another parse, and nobody depends on it.
    for (key, value) in list.iter().filter_map(|r| r.as_object()).flatten() {
        match fields.iter_mut().find(|(name, _)| *name == key) {
            Some((_, values)) => values.push(value),
            None => fields.push((key, vec![value])),
        }
    }
    let mut columns: Vec<ColumnSpec> = Vec::new();
    for (key, values) in fields {
        let mut name = snake_case(key);
        while columns.iter().any(|c| c.name == name) {
            name.push('_');
        }
        columns.push(ColumnSpec {
            // A key with a point in it would read as a path; it cannot be a column of its own.
            path: (name != key).then(|| key.to_owned()),
            name,
            kind: kind(&values),
            required: false,
            sensitive: false,
            format: None,
            about: None,
        });
    }
    columns.retain(|c| !c.path.as_deref().unwrap_or(&c.name).contains('.'));
    Ok(columns)
}

fn kind(values: &[&Value]) -> Type {
    let all = |test: &dyn Fn(&Value) -> bool| {
        values.iter().any(|v| !v.is_null()) && values.iter().all(|v| v.is_null() || test(v))
    };
    let text = |test: fn(&str) -> bool| move |v: &Value| v.as_str().is_some_and(test);
    if all(&|v| v.is_i64()) {
        Type::Int
    } else if all(&Value::is_number) {
        Type::Float
    } else if all(&Value::is_boolean) {
        Type::Flag
    } else if all(&text(|t| t.len() == 10 && day(t, &Format::Iso).is_some())) {
        Type::Date
    } else if all(&text(|t| instant(t, &Format::Iso).is_some())) {
        Type::Instant
    } else if all(&|v| !v.is_array() && !v.is_object()) {
        Type::Text
    } else {
        Type::Json
    }
}

/// `checkIn` and `Check-In` as `check_in`; names that tables keep for themselves get `source_` in front.
fn snake_case(key: &str) -> String {
    let mut out = String::new();
    let mut lower = false;
    for c in key.chars() {
        if !c.is_ascii_alphanumeric() {
            if !out.is_empty() && !out.ends_with('_') {
                out.push('_');
            }
            lower = false;
            continue;
        }
        if c.is_ascii_uppercase() && lower {
            out.push('_');
        }
        lower = c.is_ascii_lowercase() || c.is_ascii_digit();
        out.push(c.to_ascii_lowercase());
    }
    let out: String = out.trim_end_matches('_').chars().take(50).collect();
    match out.as_str() {
        "created_at" | "updated_at" | "deleted_at" | "slice_id" => format!("source_{out}"),
        "" => "field".to_owned(),
        text if text.starts_with(|c: char| c.is_ascii_digit()) => format!("field_{text}"),
        _ => out,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_gives_names_and_types() {
        let text = r#"{"data":[
            {"id":1,"checkIn":"2026-06-01","Total":12.5,"open":true,"updated_at":"2026-06-01T10:00:00Z","guest":{"a":1},"note":null,"mixed":"x","a.b":1},
            {"id":2,"checkIn":null,"Total":12,"open":false,"updated_at":"2026-06-01T10:00:00+02:00","guest":null,"mixed":7}
        ]}"#;
        let columns = columns(text, &["data".to_owned()]).unwrap();
        let mut found: Vec<_> = columns.iter().map(|c| (c.name.as_str(), c.kind)).collect();
        found.sort_by_key(|(name, _)| *name);
        assert_eq!(
            found,
            [
                ("check_in", Type::Date),
                ("guest", Type::Json),
                ("id", Type::Int),
                ("mixed", Type::Text),
                ("note", Type::Json),
                ("open", Type::Flag),
                ("source_updated_at", Type::Instant),
                ("total", Type::Float),
            ]
        );
        assert_eq!(snake_case("Check-In Date"), "check_in_date");
        assert_eq!(snake_case("guestID2"), "guest_id2");
        assert_eq!(snake_case("2nd"), "field_2nd");
    }
}
