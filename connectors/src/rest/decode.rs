//! One answer: its records straight into columns, and what its envelope says about the next page.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::compute::filter;
use arrow::datatypes::SchemaRef;
use catalog::{Dataset, Reject, RejectKind, Result};

use serde_json::json;
use serde_json::value::RawValue;

use super::json::{Bad, DEPTH, Scan, Value};
use super::values::{Cells, Format, instant, int};
use crate::rows::Object;

/// Field names that are remembered of a page; further unknown ones are counted together.
const NAMES: usize = 256;

/// A column and where it is in a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Field {
    /// Keys from the record down.
    pub(super) path: Vec<String>,
    pub(super) format: Format,
}

/// How the value that orders changes is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mark {
    /// A whole number that grows.
    Number,
    /// An instant or a day, kept in microseconds.
    Time(Format),
}

/// What to read out of an answer.
#[derive(Debug)]
pub(super) struct Shape {
    pub(super) dataset: Dataset,
    pub(super) schema: SchemaRef,
    /// One for each column of the dataset, in its order; `None` is filled in by the caller of [`Shape::decode`].
    pub(super) fields: Vec<Option<Field>>,
    /// Where the records are; empty is the whole answer.
    pub(super) records: Vec<String>,
    /// Places in the envelope whose values are wanted.
    pub(super) facts: Vec<Vec<String>>,
    /// The field whose greatest value is wanted.
    pub(super) mark: Option<(Vec<String>, Mark)>,
    /// The field whose value in the last record is wanted.
    pub(super) last: Option<Vec<String>>,
    /// What goes into columns without a field.
    pub(super) constant: String,
}

/// What an answer held.
#[derive(Debug)]
pub(super) struct Page {
    /// The rows that can be loaded.
    pub(super) batch: RecordBatch,
    /// How many records there were, the refused ones among them.
    pub(super) records: usize,
    pub(super) rejects: Vec<Reject>,
    /// How often a field came that no column takes.
    pub(super) unknown: BTreeMap<String, u64>,
    /// How often a record named a field twice.
    pub(super) twice: u64,
    /// The values in the envelope, as text.
    pub(super) facts: Vec<Option<String>>,
    /// The greatest value of the field that orders changes.
    pub(super) mark: Option<i64>,
    /// The value of the last record.
    pub(super) last: Option<String>,
}

/// Why an answer could not be read.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It is not JSON.
    Bad(Bad),
    /// The records are not where they should be.
    Missing,
    /// What is there is neither a list nor an object.
    NoList,
    /// Our own fault.
    Fault(catalog::Fault),
}

impl From<Bad> for Trouble {
    fn from(bad: Bad) -> Self {
        Self::Bad(bad)
    }
}

/// A tree of keys.
#[derive(Debug, Default)]
struct Node {
    keys: Vec<Key>,
}

#[derive(Debug)]
struct Key {
    name: Box<str>,
    /// What to do with its value; `None` is a key that nobody reads.
    wanted: Option<Wanted>,
    count: u64,
}

#[derive(Debug, Default)]
struct Wanted {
    columns: Vec<usize>,
    mark: bool,
    last: bool,
    below: Node,
}

impl Node {
    fn want(&mut self, path: &[String]) -> Option<&mut Wanted> {
        let (first, rest) = path.split_first()?;
        let at = match self.keys.iter().position(|k| *k.name == **first) {
            Some(at) => at,
            None => {
                self.keys.push(Key { name: first.as_str().into(), wanted: Some(Wanted::default()), count: 0 });
                self.keys.len() - 1
            }
        };
        let wanted = self.keys.get_mut(at)?.wanted.as_mut()?;
        if rest.is_empty() { Some(wanted) } else { wanted.below.want(rest) }
    }

    /// The place of a key. Records name their fields in one order, so the keys take on that order and the place after
    /// the last one is right nearly always.
    fn find(&mut self, next: usize, name: &str) -> usize {
        if self.keys.get(next).is_some_and(|k| *k.name == *name) {
            return next;
        }
        if let Some(at) = self.keys.iter().position(|k| *k.name == *name) {
            if at > next {
                self.keys.swap(next, at);
                return next;
            }
            return at;
        }
        if self.keys.len() >= NAMES {
            return usize::MAX;
        }
        let at = next.min(self.keys.len());
        self.keys.insert(at, Key { name: name.into(), wanted: None, count: 0 });
        at
    }

    fn unknown(&self, path: &mut String, out: &mut BTreeMap<String, u64>) {
        for key in &self.keys {
            let length = path.len();
            if length > 0 {
                path.push('.');
            }
            path.push_str(&key.name);
            match &key.wanted {
                None => *out.entry(path.clone()).or_default() += key.count,
                Some(wanted) => wanted.below.unknown(path, out),
            }
            path.truncate(length);
        }
    }
}

/// The records of an answer, being read.
struct Rows<'s> {
    shape: &'s Shape,
    cells: Vec<Cells>,
    tree: Node,
    /// Rows so far, refused ones among them.
    count: usize,
    refused: Vec<usize>,
    rejects: Vec<Reject>,
    /// What is wrong with the record under way.
    wrong: Vec<(usize, &'static str)>,
    others: u64,
    twice: u64,
    mark: Option<i64>,
    last: Option<String>,
}

/// A value with every digit that was sent: a number that JSON's usual types cannot hold is kept as text.
fn exact(raw: &str) -> serde_json::Value {
    let read = |raw: &str| serde_json::from_str::<serde_json::Value>(raw).unwrap_or_default();
    match raw.as_bytes().first() {
        Some(b'{') => serde_json::from_str::<Object<'_>>(raw).map_or_else(
            |_| read(raw),
            |object| object.into_iter().map(|(key, value)| (key, exact(value.get()))).collect(),
        ),
        Some(b'[') => serde_json::from_str::<Vec<&RawValue>>(raw)
            .map_or_else(|_| read(raw), |list| list.into_iter().map(|value| exact(value.get())).collect()),
        Some(b'-' | b'0'..=b'9') => {
            let number = read(raw);
            if number.as_number().is_some_and(|n| n.to_string() == raw) { number } else { raw.into() }
        }
        _ => read(raw),
    }
}

impl Shape {
    /// Reads an answer.
    pub(super) fn decode(&self, text: &str, expected: usize) -> Result<Page, Trouble> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut tree = Node::default();
        for (at, field) in self.fields.iter().enumerate() {
            if let Some(wanted) = field.as_ref().and_then(|f| tree.want(&f.path)) {
                wanted.columns.push(at);
            }
        }
        if let Some(wanted) = self.mark.as_ref().and_then(|(path, _)| tree.want(path)) {
            wanted.mark = true;
        }
        if let Some(wanted) = self.last.as_ref().and_then(|path| tree.want(path)) {
            wanted.last = true;
        }
        let cell = |(column, field): (&catalog::Column, &Option<Field>)| {
            Cells::new(column.kind, field.as_ref().map_or(&Format::Iso, |f| &f.format), expected)
        };
        let mut rows = Rows {
            shape: self,
            cells: self.dataset.columns.iter().zip(&self.fields).map(cell).collect(),
            tree,
            count: 0,
            refused: Vec::new(),
            rejects: Vec::new(),
            wrong: Vec::new(),
            others: 0,
            twice: 0,
            mark: None,
            last: None,
        };
        let mut facts = vec![None; self.facts.len()];
        let mut scan = Scan::new(text);
        let open: Vec<&[String]> = self.facts.iter().map(Vec::as_slice).collect();
        let found = self.envelope(&mut scan, Some(&self.records), &open, &mut facts, &mut rows, 0)?;
        scan.end()?;
        if !found {
            return Err(Trouble::Missing);
        }
        rows.finish(facts).map_err(Trouble::Fault)
    }

    /// Walks down to the records and the facts; says whether the records were there. `facts` are what is left of the
    /// paths, empty ones done with.
    fn envelope(
        &self,
        scan: &mut Scan<'_>,
        records: Option<&[String]>,
        facts: &[&[String]],
        found: &mut [Option<String>],
        rows: &mut Rows<'_>,
        depth: usize,
    ) -> Result<bool, Trouble> {
        if records.is_some_and(<[String]>::is_empty) {
            match scan.peek() {
                Some(b'[') => {
                    scan.at += 1;
                    let mut first = true;
                    while scan.item(first)? {
                        first = false;
                        rows.record(scan)?;
                    }
                }
                // The answer is the record, and may hold facts as well.
                Some(b'{') => {
                    let mut ahead = scan.clone();
                    rows.record(scan)?;
                    if facts.iter().any(|f| !f.is_empty()) {
                        self.envelope(&mut ahead, None, facts, found, rows, depth + 1)?;
                    }
                }
                _ => match scan.value()? {
                    Value::Null => {}
                    _ => return Err(Trouble::NoList),
                },
            }
            return Ok(true);
        }
        if scan.peek() != Some(b'{') || depth >= DEPTH {
            scan.skip(depth)?;
            return Ok(false);
        }
        scan.at += 1;
        let (mut first, mut there) = (true, false);
        while let Some(key) = scan.key(first)? {
            first = false;
            let below =
                |path: &'_ [String]| -> Option<usize> { path.first().is_some_and(|f| **f == *key).then_some(1) };
            let inner = records.filter(|r| below(r).is_some()).map(|r| &r[1..]);
            let wanted: Vec<&[String]> =
                facts.iter().map(|f| if below(f).is_some() && f.len() > 1 { &f[1..] } else { &[][..] }).collect();
            let here = facts.iter().position(|f| f.len() == 1 && f[0] == *key);
            if inner.is_some() || wanted.iter().any(|f| !f.is_empty()) {
                there |= self.envelope(scan, inner, &wanted, found, rows, depth + 1)?;
            } else if here.is_some() {
                let value = match scan.value()? {
                    Value::Text(text) => Some(text.into_owned()),
                    Value::Number(text) => Some(text.to_owned()),
                    Value::Flag(flag) => Some(flag.to_string()),
                    Value::Null | Value::Nested(_) => None,
                };
                for (at, path) in facts.iter().enumerate() {
                    if path.len() == 1 && path[0] == *key {
                        found[at].clone_from(&value);
                    }
                }
            } else {
                scan.skip(depth + 1)?;
            }
        }
        Ok(there)
    }
}

impl Rows<'_> {
    fn record(&mut self, scan: &mut Scan<'_>) -> Result<(), Bad> {
        let whole = scan.peek() == Some(b'{');
        let start = scan.at;
        self.wrong.clear();
        if whole {
            scan.at += 1;
            let mut tree = std::mem::take(&mut self.tree);
            let read = self.object(scan, &mut tree, 1);
            self.tree = tree;
            read?;
        } else {
            scan.skip(0)?;
        }
        let raw = scan.since(start);
        self.count += 1;
        for cells in &mut self.cells {
            if cells.len() < self.count {
                cells.null();
            }
        }
        let mut reasons: Vec<String> = Vec::new();
        let mut refused = !whole;
        if !whole {
            reasons.push("the record is no object".to_owned());
        }
        self.wrong.sort_unstable();
        for (at, why) in &self.wrong {
            let column = &self.shape.dataset.columns[*at];
            refused |= column.required;
            reasons.push(format!("`{}` {why}", column.name));
        }
        for (at, column) in self.shape.dataset.columns.iter().enumerate() {
            let constant = self.shape.fields.get(at).is_some_and(Option::is_none);
            if whole
                && column.required
                && !constant
                && self.cells[at].ends_empty()
                && !self.wrong.iter().any(|w| w.0 == at)
            {
                refused = true;
                reasons.push(format!("`{}` has no value", column.name));
            }
        }
        if !reasons.is_empty() {
            let payload = self.payload(raw);
            self.rejects.push(Reject {
                dataset: self.shape.dataset.name.clone(),
                scope: None,
                key: self.key_of(&payload),
                kind: if refused { RejectKind::Row } else { RejectKind::Value },
                reason: reasons.join("; "),
                payload,
            });
        }
        if refused {
            self.refused.push(self.count - 1);
        }
        Ok(())
    }

    /// What columns read of a record, and nothing else of it: a field that nobody asked for is not kept here either. Of what
    /// is no object, a single value is kept: there is nothing else to know it by.
    fn payload(&self, raw: &str) -> serde_json::Value {
        if raw.starts_with('[') {
            return json!({});
        }
        let Ok(record) = serde_json::from_str::<Object<'_>>(raw) else { return json!({ "record": exact(raw) }) };
        let columns = self.shape.dataset.columns.iter().zip(&self.shape.fields);
        let kept = columns.filter_map(|(column, field)| {
            let (last, way) = field.as_ref()?.path.split_last()?;
            let mut at = record.clone();
            for key in way {
                at = serde_json::from_str(at.get(key)?.get()).ok()?;
            }
            Some((column.name.clone(), exact(at.get(last)?.get())))
        });
        serde_json::Value::Object(kept.collect())
    }

    /// The key of a record as text, as far as it is known.
    fn key_of(&self, payload: &serde_json::Value) -> String {
        let keys = self.shape.dataset.key().into_iter().filter_map(|key| payload.get(key));
        let text = |v: &serde_json::Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
        keys.map(text).collect::<Vec<_>>().join("/")
    }

    fn object(&mut self, scan: &mut Scan<'_>, tree: &mut Node, depth: usize) -> Result<(), Bad> {
        if depth > DEPTH {
            return scan.bad("it is nested too deeply");
        }
        let (mut next, mut first) = (0, true);
        while let Some(name) = scan.key(first)? {
            first = false;
            let at = tree.find(next, &name);
            let Some(key) = tree.keys.get_mut(at) else {
                self.others += 1;
                scan.skip(depth)?;
                continue;
            };
            next = at + 1;
            let Some(wanted) = &mut key.wanted else {
                key.count += 1;
                scan.skip(depth)?;
                continue;
            };
            if !wanted.below.keys.is_empty() && scan.peek() == Some(b'{') {
                let start = scan.at;
                scan.at += 1;
                self.object(scan, &mut wanted.below, depth + 1)?;
                if !wanted.columns.is_empty() {
                    let raw = Value::Nested(scan.since(start));
                    self.put(wanted, &raw);
                }
                continue;
            }
            let value = scan.value()?;
            self.put(wanted, &value);
        }
        Ok(())
    }

    fn put(&mut self, wanted: &Wanted, value: &Value<'_>) {
        for at in &wanted.columns {
            if self.cells[*at].len() > self.count {
                self.twice += 1;
            } else if let Err(why) = self.cells[*at].push(value) {
                self.wrong.push((*at, why));
            }
        }
        let text = || match value {
            Value::Text(text) => Some(text.as_ref()),
            Value::Number(text) => Some(*text),
            _ => None,
        };
        if wanted.mark
            && let Some((_, mark)) = &self.shape.mark
        {
            let value = text().and_then(|t| match mark {
                Mark::Number => int(t),
                Mark::Time(format) => instant(t, format),
            });
            self.mark = self.mark.max(value);
        }
        if wanted.last {
            self.last = text().map(str::to_owned);
        }
    }

    fn finish(mut self, facts: Vec<Option<String>>) -> Result<Page> {
        let mut columns: Vec<ArrayRef> = self.cells.iter_mut().map(Cells::finish).collect();
        for (column, field) in columns.iter_mut().zip(&self.shape.fields) {
            if field.is_none() {
                let same = std::iter::repeat_n(self.shape.constant.as_str(), self.count);
                *column = Arc::new(arrow::array::StringArray::from_iter_values(same));
            }
        }
        if !self.refused.is_empty() {
            let mut keep = vec![true; self.count];
            for row in &self.refused {
                keep[*row] = false;
            }
            let keep = BooleanArray::from(keep);
            for column in &mut columns {
                *column = filter(column, &keep)?;
            }
        }
        let mut unknown = BTreeMap::new();
        self.tree.unknown(&mut String::new(), &mut unknown);
        if self.others > 0 {
            unknown.insert("further fields".to_owned(), self.others);
        }
        Ok(Page {
            batch: RecordBatch::try_new(Arc::clone(&self.shape.schema), columns)?,
            records: self.count,
            rejects: self.rejects,
            unknown,
            twice: self.twice,
            facts,
            mark: self.mark,
            last: self.last,
        })
    }
}
