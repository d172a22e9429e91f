//! Checks values of a file against the JSON Schema of what they are read into, so that every mistake is named by its key, and
//! all of them at once.

use catalog::{Fault, SecretRef};
use serde_json::{Map, Value};

use crate::names;

/// Checks settings, and writes numbers and flags that came as text as what they are. Says whether all is well.
pub(crate) fn check_settings(
    schema: &Value,
    check: impl Fn(&Value) -> catalog::Result<()>,
    settings: &mut Map<String, Value>,
    place: &str,
    faults: &mut Vec<Fault>,
) -> bool {
    let mut value = Value::Object(std::mem::take(settings));
    let before = faults.len();
    check_value(&mut value, schema, place, faults);
    if faults.len() == before
        && let Err(fault) = check(&value)
    {
        faults.push(fault.at(format!("`{place}`")));
    }
    if let Value::Object(checked) = value {
        *settings = checked;
    }
    faults.len() == before
}

/// Names every key that the schema does not know, with the near ones, every required key that is not there, and every value of
/// a wrong type. Unknown keys and wrong values are taken out, so that the rest can still be read; of lists nothing is, so that
/// the others keep their numbers. Null stands for what has been told already.
pub(crate) fn check_value(value: &mut Value, schema: &Value, place: &str, faults: &mut Vec<Fault>) {
    Check { root: schema, faults }.value(value, schema, place, "");
}

/// What to say of settings that fit and yet cannot be used: every required secret that is not there, and the fault when it
/// is about anything else.
pub(crate) fn unusable(schema: &Value, settings: &Map<String, Value>, place: &str, fault: Fault) -> Vec<Fault> {
    let mut missing = Vec::new();
    for key in schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        let secret = resolve(&schema["properties"][key], schema).get("format").is_some_and(|f| f == SecretRef::FORMAT);
        let named = settings.get(key).and_then(Value::as_str).filter(|_| secret).map(SecretRef::parse);
        if let Some(Ok(Err(fault))) = named.map(|n| n.map(|secret| secret.resolve())) {
            missing.push((key, fault));
        }
    }
    let other = !missing.iter().any(|(_, f)| fault.message.ends_with(&*f.message));
    let missing = missing.into_iter().map(|(key, f)| f.at(format!("`{place}.{key}`")));
    missing.chain(other.then(|| fault.at(format!("`{place}`")))).collect()
}

struct Check<'a> {
    root: &'a Value,
    faults: &'a mut Vec<Fault>,
}

impl<'a> Check<'a> {
    /// Checks a value; says whether it can stay.
    fn value(&mut self, value: &mut Value, schema: &'a Value, place: &str, about: &str) -> bool {
        let about = schema.get("description").and_then(Value::as_str).unwrap_or(about);
        let schema = resolve(schema, self.root);
        if value.is_null() {
            return false;
        }
        if let Some(choices) = choices(schema, self.root) {
            return self.choice(value, &choices, place, about);
        }
        let types = types(schema);
        if types.is_empty() {
            return true;
        }
        read_text(value, &types);
        let outside = |(least, most): (f64, f64)| value.as_f64().is_some_and(|n| n < least || n > most);
        if !types.iter().any(|t| fits(value, t)) || range(schema).is_some_and(outside) {
            return self.wrong(value, &expected(schema, &types), place, about);
        }
        match value {
            Value::String(text) if schema.get("format").is_some_and(|f| f == SecretRef::FORMAT) => {
                if let Err(fault) = SecretRef::parse(text) {
                    self.faults.push(fault.at(format!("`{place}`")));
                    return false;
                }
            }
            Value::Array(items) => {
                if let Some(inner) = schema.get("items") {
                    for (i, item) in items.iter_mut().enumerate() {
                        self.value(item, inner, &format!("{place}[{i}]"), about);
                    }
                }
            }
            Value::Object(map) => self.table(map, schema, place),
            _ => {}
        }
        true
    }

    fn table(&mut self, map: &mut Map<String, Value>, schema: &'a Value, place: &str) {
        let none = Map::new();
        let known = schema.get("properties").and_then(Value::as_object).unwrap_or(&none);
        let below = |key: &str| if place.is_empty() { key.to_owned() } else { format!("{place}.{key}") };
        for key in schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            if !map.contains_key(key) {
                let about =
                    known.get(key).and_then(|k| k.get("description")).and_then(Value::as_str).unwrap_or_default();
                let fault = missing(&below(key));
                self.faults.push(match first_sentence(about) {
                    Some(about) => fault.hint(format!("Add it: {about}.")),
                    None => fault.hint("Add it."),
                });
            }
        }
        let others = schema.get("additionalProperties");
        map.retain(|key, item| {
            if let Some(inner) = schema.get("properties").and_then(|p| p.get(key)) {
                self.value(item, inner, &below(key), "")
            } else if others == Some(&Value::Bool(false)) {
                let hint = names::hint(key, known.keys().map(String::as_str));
                self.faults.push(Fault::user(format!("`{}`: unknown key", below(key))).hint(hint));
                false
            } else if let Some(inner) = others.filter(|o| o.is_object()) {
                self.value(item, inner, &below(key), "")
            } else {
                true
            }
        });
    }

    /// A value that is one of some words, or a table of which one key says what the others are.
    fn choice(&mut self, value: &mut Value, choices: &Choices<'a>, place: &str, about: &str) -> bool {
        let (key, words) = match choices {
            Choices::Words(words, _) => (None, words.clone()),
            Choices::Tables(key, tables) => (Some(*key), tables.iter().map(|(word, _)| *word).collect()),
        };
        let listed = words.iter().map(|w| format!("`{w}`")).collect::<Vec<_>>().join(", ");
        let word = match key {
            None => Some(&*value),
            Some(_) if !fits(value, "object") => return self.wrong(value, "a table", place, about),
            Some(key) => value.get(key),
        };
        let place_of_word = key.map_or_else(|| place.to_owned(), |key| format!("{place}.{key}"));
        match word {
            None => {
                self.faults.push(missing(&place_of_word).hint(format!("It is one of {listed}.")));
                false
            }
            Some(Value::String(word)) if words.contains(&word.as_str()) => {
                if let Choices::Tables(_, tables) = choices
                    && let Some((_, schema)) = tables.iter().find(|(w, _)| w == word)
                    && let Value::Object(map) = value
                {
                    self.table(map, schema, place);
                }
                true
            }
            Some(Value::String(word)) => {
                let also = matches!(choices, Choices::Words(_, also) if also.contains(&word.as_str()));
                if !also {
                    let fault = Fault::user(format!("`{place_of_word}`: `{word}` is not one of {listed}"));
                    self.faults.push(fault.hint(names::hint(word, words)));
                }
                also
            }
            Some(other) => {
                let other = other.clone();
                self.wrong(&other, &format!("one of {listed}"), &place_of_word, about)
            }
        }
    }

    /// The value itself is not repeated unless it is a number: it may be a secret in the wrong place.
    fn wrong(&mut self, value: &Value, expected: &str, place: &str, about: &str) -> bool {
        let fault = Fault::user(format!("`{place}`: expected {expected}, not {}", kind(value, expected)));
        self.faults.push(match first_sentence(about) {
            Some(about) => fault.hint(format!("This is: {about}.")),
            None => fault,
        });
        false
    }
}

fn missing(place: &str) -> Fault {
    Fault::user(format!("`{place}`: this key is required and missing"))
}

/// The first sentence of a description, on one line and without its full stop.
fn first_sentence(about: &str) -> Option<String> {
    let about = about.split_whitespace().collect::<Vec<_>>().join(" ");
    let first = about.split_once(". ").map_or(about.as_str(), |(first, _)| first).trim_end_matches('.');
    (!first.is_empty()).then(|| first.to_owned())
}

/// What a value can be chosen from.
enum Choices<'a> {
    /// The words, and other names of some that are understood as well.
    Words(Vec<&'a str>, Vec<&'a str>),
    /// The key that tells the tables apart, and the tables by what stands there.
    Tables(&'a str, Vec<(&'a str, &'a Value)>),
}

fn choices<'a>(schema: &'a Value, root: &'a Value) -> Option<Choices<'a>> {
    if let Some(words) = schema.get("enum").and_then(Value::as_array) {
        return words.iter().map(Value::as_str).collect::<Option<_>>().map(|words| Choices::Words(words, Vec::new()));
    }
    if let Some(word) = schema.get("const").and_then(Value::as_str) {
        let also = schema.get("aliases").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        return Some(Choices::Words(vec![word], also.collect()));
    }
    let all: Vec<&Value> = schema.get("oneOf").and_then(Value::as_array)?.iter().map(|c| resolve(c, root)).collect();
    let plain = all.iter().filter(|c| c.get("properties").is_none()).filter_map(|c| choices(c, root));
    let words: Vec<_> =
        plain.filter_map(|c| if let Choices::Words(w, also) = c { Some((w, also)) } else { None }).collect();
    if words.len() == all.len() {
        let (words, also): (Vec<_>, Vec<_>) = words.into_iter().unzip();
        return Some(Choices::Words(words.concat(), also.concat()));
    }
    let word = |c: &'a Value, key: &str| c.get("properties")?.get(key)?.get("const")?.as_str();
    let key = all.first()?.get("properties")?.as_object()?.keys().find(|k| all.iter().all(|c| word(c, k).is_some()))?;
    let tables = all.iter().filter_map(|c| Some((word(c, key)?, *c))).collect();
    Some(Choices::Tables(key, tables))
}

/// The types that a schema allows; none when it does not say.
fn types(schema: &Value) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(some)) => some.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// What comes from the environment is always text: where a number or a flag is wanted, one written as text is taken.
fn read_text(value: &mut Value, types: &[&str]) {
    let Some(text) = value.as_str().map(str::trim).filter(|_| !types.contains(&"string")) else { return };
    let read = if types.iter().any(|t| ["integer", "number"].contains(t)) {
        text.parse::<serde_json::Number>().ok().map(Value::Number)
    } else if types.contains(&"boolean") {
        text.parse::<bool>().ok().map(Value::Bool)
    } else {
        None
    };
    if let Some(read) = read {
        *value = read;
    }
}

fn fits(value: &Value, wanted: &str) -> bool {
    match wanted {
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object() && value.get(DATE).is_none(),
        "null" => value.is_null(),
        _ => true,
    }
}

/// How `toml` hands on a day or a time.
const DATE: &str = "$__toml_private_datetime";

/// Between which numbers a number has to lie; the bounds that a width of bits sets stand in no schema.
fn range(schema: &Value) -> Option<(f64, f64)> {
    let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
    let most = match schema.get("format").and_then(Value::as_str) {
        Some("uint32") => Some(f64::from(u32::MAX)),
        Some("int32") => Some(f64::from(i32::MAX)),
        _ => None,
    };
    let (least, most) = (bound("minimum"), bound("maximum").or(most));
    (least.is_some() || most.is_some()).then(|| (least.unwrap_or(f64::NEG_INFINITY), most.unwrap_or(f64::INFINITY)))
}

fn expected(schema: &Value, types: &[&str]) -> String {
    let mut words = Vec::new();
    for wanted in types {
        words.push(match *wanted {
            "string" => "a string".to_owned(),
            "integer" | "number" => {
                let number = if *wanted == "integer" { "a whole number" } else { "a number" };
                match range(schema) {
                    Some((least, most)) if most.is_finite() => format!("{number} from {least} to {most}"),
                    Some((least, _)) => format!("{number} from {least} on"),
                    None => number.to_owned(),
                }
            }
            "boolean" => "`true` or `false`".to_owned(),
            "array" => "a list".to_owned(),
            "object" => "a table".to_owned(),
            // Files have no word for it.
            _ => continue,
        });
    }
    words.join(" or ")
}

fn kind(value: &Value, expected: &str) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(_) => "`true` or `false`".to_owned(),
        Value::Number(n) if expected.contains("number") => format!("`{n}`"),
        Value::Number(_) => "a number".to_owned(),
        Value::String(_) => "a string".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(map) if map.contains_key(DATE) => "a day or time; put it in quotes".to_owned(),
        Value::Object(_) => "a table".to_owned(),
    }
}

/// Follows `$ref`, and the one real alternative of an optional value.
fn resolve<'a>(schema: &'a Value, root: &'a Value) -> &'a Value {
    if let Some(path) = schema.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix('#')) {
        return root.pointer(path).map_or(schema, |s| resolve(s, root));
    }
    match schema.get("anyOf").and_then(Value::as_array) {
        Some(choices) => {
            let mut real = choices.iter().filter(|c| c.get("type") != Some(&Value::String("null".to_owned())));
            match (real.next(), real.next()) {
                (Some(only), None) => resolve(only, root),
                _ => schema,
            }
        }
        None => schema,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// Every setting below a schema: its path as messages write it, how to put a value there, and its schema.
    fn leaves<'a>(schema: &'a Value, root: &'a Value, path: &[Step], found: &mut Vec<(Vec<Step>, &'a Value)>) {
        let schema = resolve(schema, root);
        if path.len() > 8 {
            return;
        }
        if !path.is_empty() {
            found.push((path.to_vec(), schema));
        }
        let with = |step: Step| [path, &[step]].concat();
        if let Some(Choices::Tables(key, tables)) = choices(schema, root) {
            for (word, table) in tables {
                for (name, inner) in table["properties"].as_object().into_iter().flatten() {
                    let tag = Some((key.to_owned(), word.to_owned())).filter(|_| name != key);
                    leaves(inner, root, &with(Step::Key(name.clone(), tag)), found);
                }
            }
        }
        for (name, inner) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            leaves(inner, root, &with(Step::Key(name.clone(), None)), found);
        }
        if let Some(inner) = schema.get("items") {
            leaves(inner, root, &with(Step::Item), found);
        }
        if let Some(inner) = schema.get("additionalProperties").filter(|a| a.is_object()) {
            leaves(inner, root, &with(Step::Key("any_name".to_owned(), None)), found);
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        /// A key, and the key and word beside it that say that it may be there.
        Key(String, Option<(String, String)>),
        Item,
    }

    fn put(path: &[Step], value: Value) -> Value {
        path.iter().rev().fold(value, |inner, step| match step {
            Step::Item => json!([inner]),
            Step::Key(name, tag) => {
                let mut table = Map::new();
                table.extend(tag.clone().map(|(key, word)| (key, Value::from(word))));
                table.insert(name.clone(), inner);
                Value::Object(table)
            }
        })
    }

    fn written(path: &[Step]) -> String {
        path.iter().fold("settings".to_owned(), |text, step| match step {
            Step::Item => text + "[0]",
            Step::Key(name, _) => text + "." + name,
        })
    }

    fn every_component() -> Vec<(&'static str, Value)> {
        let connectors = connectors::ALL.iter().map(|e| (e.name, e.schema()));
        let sinks = sinks::ALL.iter().map(|e| (e.name, e.schema()));
        let couriers = sinks::COURIERS.iter().map(|e| (e.name, e.schema()));
        let own = [("a pipeline file", schemars::schema_for!(crate::spec::Spec).to_value())];
        connectors.chain(sinks).chain(couriers).chain(own).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8))]

        #[test]
        fn every_value_of_a_wrong_type_is_named_by_its_key_with_what_is_expected(
            n in any::<i64>(), x in any::<f64>(), flag in any::<bool>(), text in "hunter2[a-z]{1,12}",
        ) {
            let values = [
                json!(n), json!(x.fract() + 0.25), json!(flag), json!(text), json!([text]), json!({ "nested": text }),
                json!({ DATE: "2026-06-01" }),
            ];
            let mut tried = 0;
            for (component, schema) in every_component() {
                let mut all = Vec::new();
                leaves(&schema, &schema, &[], &mut all);
                for ((path, inner), value) in all.iter().flat_map(|leaf| values.iter().map(move |v| (leaf, v))) {
                    let words = matches!(choices(inner, &schema), Some(Choices::Words(..)));
                    let table = matches!(choices(inner, &schema), Some(Choices::Tables(..)));
                    let types = if words { vec!["string"] } else if table { vec!["object"] } else { types(inner) };
                    let negative = value.as_i64().is_some_and(|n| n < 0) && range(inner).is_some();
                    if types.is_empty() || (types.iter().any(|t| fits(value, t)) && !negative) {
                        continue;
                    }
                    tried += 1;
                    let mut faults = Vec::new();
                    check_value(&mut put(path, value.clone()), &schema, "settings", &mut faults);
                    let place = format!("`{}", written(path));
                    let told: Vec<String> = faults.iter().map(Fault::chain).collect();
                    let named = told.iter().find(|t| t.starts_with(&place) && t.contains(": expected "));
                    prop_assert!(named.is_some(), "{component}: {place} = {value}: {told:?}");
                    prop_assert!(told.iter().all(|t| !t.contains("hunter2")), "{told:?}");
                }
            }
            prop_assert!(tried > 500, "{tried}");
        }
    }

    #[test]
    fn what_comes_from_the_environment_as_text_is_read_as_what_is_wanted() {
        let schema = json!({ "type": "object", "additionalProperties": false, "properties": {
            "n": { "type": ["integer", "null"], "format": "uint32", "minimum": 0 }, "on": { "type": "boolean" },
            "name": { "type": "string" } } });
        let mut value = json!({ "n": " 7 ", "on": "true", "name": "7" });
        let mut faults = Vec::new();
        check_value(&mut value, &schema, "", &mut faults);
        assert!(faults.is_empty() && value == json!({ "n": 7, "on": true, "name": "7" }), "{value} {faults:?}");
        for (wrong, said) in [
            (json!({ "n": "-7" }), "`n`: expected a whole number from 0 to 4294967295, not `-7`"),
            (json!({ "n": 5_000_000_000_u64 }), "`n`: expected a whole number from 0 to 4294967295, not `5000000000`"),
            (json!({ "on": "yes" }), "`on`: expected `true` or `false`, not a string"),
            (json!({ "name": 7 }), "`name`: expected a string, not a number"),
        ] {
            let mut faults = Vec::new();
            check_value(&mut wrong.clone(), &schema, "", &mut faults);
            assert_eq!(faults.iter().map(Fault::chain).collect::<Vec<_>>(), [said], "{wrong}");
        }
    }
}
