//! On which line of a file each key stands, so that a problem can be found.

use std::collections::BTreeMap;
use std::ops::Range;

use catalog::Fault;
use serde_json::Value;
use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table};

/// The lines of a TOML file's keys, by the path that messages write: `sinks[0].settings.path`.
#[derive(Debug, Default)]
pub(crate) struct Lines(BTreeMap<String, usize>);

impl Lines {
    /// Reads a file.
    ///
    /// # Errors
    /// Everything that is no valid TOML, one fault a line.
    pub(crate) fn read(text: &str) -> std::result::Result<(Value, Self), Vec<Fault>> {
        let (table, errors) = DeTable::parse_recoverable(text);
        // What follows a mistake on its line is mostly its consequence.
        let mut wrong: BTreeMap<usize, &str> = BTreeMap::new();
        for error in &errors {
            wrong.entry(error.span().map_or(1, |at| line(text, &at))).or_insert(error.message());
        }
        let invalid = |(at, message): (usize, &str)| {
            Fault::user(format!("line {at}: {}", message.trim())).hint("The file must be valid TOML.")
        };
        if !wrong.is_empty() {
            return Err(wrong.into_iter().map(invalid).collect());
        }
        let value = text
            .parse::<Table>()
            .map_err(|e| vec![invalid((e.span().map_or(1, |at| line(text, &at)), e.message()))])?;
        let value = serde_json::to_value(&value)
            .map_err(|e| vec![Fault::user("the file holds a value that has no JSON form").because(e)])?;
        let mut lines = Self::default();
        lines.table(text, "", table.get_ref());
        Ok((value, lines))
    }

    fn table(&mut self, text: &str, place: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let place = if place.is_empty() { key.get_ref().to_string() } else { format!("{place}.{}", key.get_ref()) };
            self.value(text, place, &key.span(), value);
        }
    }

    fn value(&mut self, text: &str, place: String, at: &Range<usize>, value: &Spanned<DeValue<'_>>) {
        match value.get_ref() {
            DeValue::Table(table) => self.table(text, &place, table),
            DeValue::Array(items) => {
                for (i, item) in items.into_iter().enumerate() {
                    self.value(text, format!("{place}[{i}]"), &item.span(), item);
                }
            }
            _ => {}
        }
        self.0.insert(place, line(text, at));
    }

    /// Where a key stands; for one that is missing, where the nearest table around it does.
    fn of(&self, key: &str) -> Option<usize> {
        fn around<'a>(key: &&'a str) -> Option<&'a str> {
            key.rfind(['.', '[']).map(|end| &key[..end])
        }
        std::iter::successors(Some(key), around).find_map(|key| self.0.get(key).copied())
    }

    /// Puts faults into the order of the file, each with its line in front.
    pub(crate) fn place(&self, faults: Vec<Fault>) -> Vec<Fault> {
        let mut placed: Vec<_> = faults.into_iter().map(|f| (key(&f).and_then(|key| self.of(key)), f)).collect();
        placed.sort_by_key(|(line, _)| *line);
        let named = |(line, fault): (Option<usize>, Fault)| match line {
            Some(line) => fault.at(format!("line {line}")),
            None => fault,
        };
        placed.into_iter().map(named).collect()
    }
}

/// The key that a fault of a file is about: its message begins with it.
fn key(fault: &Fault) -> Option<&str> {
    fault.message.strip_prefix('`')?.split_once('`').map(|(key, _)| key)
}

/// Whether one of the faults is about a key, or about something below it.
pub(crate) fn told(faults: &[Fault], wanted: &str) -> bool {
    let below =
        |key: &str| key.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']));
    faults.iter().filter_map(key).any(below)
}

fn line(text: &str, at: &Range<usize>) -> usize {
    1 + text.bytes().take(at.start).filter(|b| *b == b'\n').count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Files of every way to write a table, with a comment or nothing before each key.
        #[test]
        fn every_key_is_found_on_its_line(
            parts in prop::collection::vec((0_usize..5, prop::collection::vec(any::<bool>(), 0..4)), 1..6),
        ) {
            let (mut text, mut expected) = (String::new(), Vec::new());
            let mut listed = 0;
            for (i, (kind, pads)) in parts.iter().enumerate() {
                for comment in pads {
                    text.push_str(if *comment { "# größer\n" } else { "\n" });
                }
                let at = 1 + text.matches('\n').count();
                let added: Vec<(String, usize)> = match kind {
                    0 => {
                        text.push_str(&format!("[t{i}]\na = 1\n"));
                        vec![(format!("t{i}"), at), (format!("t{i}.a"), at + 1), (format!("t{i}.gone"), at)]
                    }
                    1 => {
                        text.push_str(&format!("[t{i}.u]\na.b = [\n  1,\n  2,\n]\n"));
                        vec![(format!("t{i}.u.a.b"), at + 1), (format!("t{i}.u.a.b[1]"), at + 3)]
                    }
                    2 => {
                        text.push_str("[[list]]\nname = \"x\"\nsettings.path = \"y\"\n");
                        listed += 1;
                        let item = format!("list[{}]", listed - 1);
                        vec![
                            (format!("{item}.sink"), at), (format!("{item}.settings.path"), at + 2),
                            (format!("{item}.settings.pat"), at + 2),
                        ]
                    }
                    3 => {
                        text.push_str(&format!("[t{i}]\n\"a b\" = {{ c = 1, d = [{{ e = 2 }}] }}\n"));
                        vec![(format!("t{i}.a b.c"), at + 1), (format!("t{i}.a b.d[0].f"), at + 1)]
                    }
                    _ => {
                        text.push_str(&format!("[t{i}]\na = \"\"\"\nfirst\nsecond\"\"\"\nb = 1\n"));
                        vec![(format!("t{i}.a"), at + 1), (format!("t{i}.b"), at + 4)]
                    }
                };
                expected.extend(added);
            }
            let (_, lines) = Lines::read(&text).unwrap();
            for (key, line) in expected {
                let told = lines.place(vec![Fault::user(format!("`{key}`: wrong"))]);
                prop_assert_eq!(told[0].chain(), format!("line {line}: `{key}`: wrong"), "{}", text);
            }
            let told = lines.place(vec![Fault::user("`elsewhere`: this key is required and missing")]);
            prop_assert_eq!(told[0].chain(), "`elsewhere`: this key is required and missing");
        }
    }

    #[test]
    fn every_line_that_is_no_toml_is_told_once() {
        let faults = Lines::read("a = 1\na = 2\n[t]\nb = \nc = \"open\nd = 3\n").unwrap_err();
        let told: Vec<_> = faults.iter().map(Fault::chain).collect();
        let lines: Vec<_> = told.iter().map(|t| t.split_once(": ").unwrap().0).collect();
        assert_eq!(lines, ["line 2", "line 4", "line 5"], "{told:?}");
    }
}
