//! Many records, packed, in the order of their ids.

use std::cmp::Ordering;

use arrow::array::{Array, AsArray, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use catalog::{Fault, Result};
use xxhash_rust::xxh3::xxh3_64;

use super::block::{Keys, SLOTS, parallel, slots_of};
use super::record::{Person, Record, View, pack};

/// A value of a person that a column can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Attribute {
    /// The given name.
    GivenName,
    /// The family name.
    FamilyName,
    /// The whole name.
    Name,
    /// The e-mail address.
    Email,
    /// The phone number.
    Phone,
    /// The day of birth.
    BirthDate,
    /// House number, street and flat.
    Street,
    /// The town.
    City,
    /// State or province.
    State,
    /// The postal code.
    Postcode,
}

impl Attribute {
    /// All attributes.
    pub const ALL: [Self; 10] = [
        Self::GivenName,
        Self::FamilyName,
        Self::Name,
        Self::Email,
        Self::Phone,
        Self::BirthDate,
        Self::Street,
        Self::City,
        Self::State,
        Self::Postcode,
    ];

    /// The name in settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::GivenName => "given_name",
            Self::FamilyName => "family_name",
            Self::Name => "name",
            Self::Email => "email",
            Self::Phone => "phone",
            Self::BirthDate => "birth_date",
            Self::Street => "street",
            Self::City => "city",
            Self::State => "state",
            Self::Postcode => "postcode",
        }
    }
}

/// Which columns hold what. Several columns of one attribute are joined by a blank in the order given.
#[derive(Debug, Clone, Default)]
pub struct Columns {
    /// The column of ids, unique over the population.
    pub id: String,
    /// Columns of attributes.
    pub attributes: Vec<(Attribute, Vec<String>)>,
    /// The country of phone numbers that name none, as an ISO 3166-1 alpha-2 code.
    pub region: String,
}

/// Some records of a population, normalised.
#[derive(Debug, Clone, Default)]
pub struct Chunk {
    ids: Vec<Box<str>>,
    bytes: Vec<u8>,
    starts: Vec<usize>,
}

impl Chunk {
    /// Normalises the rows of a batch; columns of any type are read as text. A row without an id is a fault.
    ///
    /// # Errors
    /// A column that is missing or has no text form, and a row without id.
    pub fn read(batch: &RecordBatch, columns: &Columns) -> Result<Self> {
        let text = |name: &str| -> Result<StringArray> {
            let column =
                batch.column_by_name(name).ok_or_else(|| Fault::user(format!("there is no column `{name}`")))?;
            let cast = cast(column, &DataType::Utf8)
                .map_err(|e| Fault::user(format!("the column `{name}` has no text form")).because(e))?;
            Ok(cast.as_string::<i32>().clone())
        };
        let ids = text(&columns.id)?;
        let mut sources = Vec::with_capacity(columns.attributes.len());
        for (attribute, names) in &columns.attributes {
            sources.push((*attribute, names.iter().map(|n| text(n)).collect::<Result<Vec<_>>>()?));
        }
        let mut chunk = Self::default();
        let mut joined = vec![String::new(); sources.len()];
        for row in 0..batch.num_rows() {
            let id = Some(row).filter(|r| ids.is_valid(*r)).map(|r| ids.value(r)).filter(|id| !id.trim().is_empty());
            let Some(id) = id else {
                return Err(Fault::user(format!("a row has no `{}`", columns.id))
                    .hint("Name a column that every row has with `--id`."));
            };
            for (text, (_, parts)) in joined.iter_mut().zip(&sources) {
                text.clear();
                if parts.len() > 1 {
                    for part in parts.iter().filter(|p| p.is_valid(row)) {
                        text.push_str(part.value(row));
                        text.push(' ');
                    }
                }
            }
            let mut person = Person::default();
            for (text, (attribute, parts)) in joined.iter().zip(&sources) {
                let value = match parts.as_slice() {
                    [one] => one.is_valid(row).then(|| one.value(row)),
                    _ => Some(text.trim()),
                };
                let value = value.filter(|v| !v.is_empty());
                let target = match attribute {
                    Attribute::GivenName => &mut person.given_name,
                    Attribute::FamilyName => &mut person.family_name,
                    Attribute::Name => &mut person.name,
                    Attribute::Email => &mut person.email,
                    Attribute::Phone => &mut person.phone,
                    Attribute::BirthDate => &mut person.birth_date,
                    Attribute::Street => &mut person.street,
                    Attribute::City => &mut person.city,
                    Attribute::State => &mut person.state,
                    Attribute::Postcode => &mut person.postcode,
                };
                *target = value;
            }
            chunk.push(id, &person, &columns.region);
        }
        Ok(chunk)
    }

    /// Adds one person.
    pub fn push(&mut self, id: &str, person: &Person<'_>, region: &str) {
        self.ids.push(id.into());
        self.starts.push(self.bytes.len());
        pack(person, region, &mut self.bytes);
    }

    pub(super) fn push_packed(&mut self, id: &str, record: &[u8]) {
        self.ids.push(id.into());
        self.starts.push(self.bytes.len());
        self.bytes.extend_from_slice(record);
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = &str> {
        self.ids.iter().map(|id| &**id)
    }

    pub(super) fn records(&self) -> impl Iterator<Item = (&str, Record)> {
        self.ids().zip(&self.starts).map(|(id, start)| (id, Record::of(&View::new(&self.bytes[*start..]))))
    }

    /// How many records it holds.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}

/// The order of ids: numbers by their value, else as text.
pub(super) fn by_id(a: &str, b: &str) -> Ordering {
    let number = |t: &str| !t.is_empty() && t.len() < 20 && t.bytes().all(|c| c.is_ascii_digit());
    match (number(a), number(b)) {
        (true, true) => {
            let (x, y) = (a.trim_start_matches('0'), b.trim_start_matches('0'));
            x.len().cmp(&y.len()).then_with(|| x.cmp(y)).then_with(|| a.cmp(b))
        }
        // Numbers before words, so that the order is one of all ids.
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
        (false, false) => a.cmp(b),
    }
}

/// Records with unique ids. A run over them numbers them in the order of their ids, so that the order in which they came
/// does not show.
#[derive(Debug, Clone, Default)]
pub struct Population {
    chunks: Vec<Chunk>,
    /// Chunk and row of each record.
    rows: Vec<(u32, u32)>,
}

impl Population {
    /// Puts records together.
    ///
    /// # Errors
    /// An id that occurs twice.
    pub fn new(chunks: Vec<Chunk>) -> Result<Self> {
        let mut population = Self { rows: Vec::with_capacity(chunks.iter().map(Chunk::len).sum()), chunks };
        for (at, chunk) in (0u32..).zip(&population.chunks) {
            population.rows.extend((0..chunk.len() as u32).map(|row| (at, row)));
        }
        let mut rows = std::mem::take(&mut population.rows);
        let of = |(chunk, row): &(u32, u32)| &*population.chunks[*chunk as usize].ids[*row as usize];
        rows.sort_unstable_by(|a, b| by_id(of(a), of(b)));
        let twice = rows.windows(2).filter(|w| of(&w[0]) == of(&w[1])).count();
        if twice > 0 {
            return Err(twice_fault(twice));
        }
        if rows.len() >= u32::MAX as usize {
            return Err(Fault::user("there are more than four thousand million records"));
        }
        population.rows = rows;
        Ok(population)
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The id of a record.
    pub fn id(&self, record: u32) -> &str {
        let (chunk, row) = self.rows[record as usize];
        &self.chunks[chunk as usize].ids[row as usize]
    }

    pub(super) fn view(&self, record: u32) -> View<'_> {
        let (chunk, row) = self.rows[record as usize];
        let chunk = &self.chunks[chunk as usize];
        View::new(&chunk.bytes[chunk.starts[row as usize]..])
    }

    /// A record of its own.
    pub fn record(&self, record: u32) -> Record {
        Record::of(&self.view(record))
    }

    /// The number of the record with an id, among so many first records that are in the order of their ids: all of them,
    /// unless records were added later.
    pub fn find(&self, id: &str, sorted: usize) -> Option<u32> {
        self.rows[..sorted]
            .binary_search_by(|(chunk, row)| by_id(&self.chunks[*chunk as usize].ids[*row as usize], id))
            .ok()
            .map(|at| at as u32)
    }

    /// Where a record came from: the chunk and the row in it.
    pub fn place(&self, record: u32) -> (usize, usize) {
        let (chunk, row) = self.rows[record as usize];
        (chunk as usize, row as usize)
    }

    /// Adds a record behind the others, whatever its id.
    pub(super) fn push(&mut self, id: &str, record: &Record) -> u32 {
        if self.chunks.is_empty() {
            self.chunks.push(Chunk::default());
        }
        let chunk = self.chunks.len() - 1;
        let last = &mut self.chunks[chunk];
        last.push_packed(id, record.bytes());
        self.rows.push((chunk as u32, last.len() as u32 - 1));
        self.rows.len() as u32 - 1
    }

    /// For each record the first one that says the very same.
    pub(super) fn twins(&self) -> Vec<u32> {
        let portions = self.len().div_ceil(PORTION);
        let mut hashes: Vec<(u64, u32)> =
            parallel(portions, |at| self.portion(at).map(|r| (xxh3_64(self.view(r).whole()), r)).collect::<Vec<_>>())
                .concat();
        hashes.sort_unstable();
        let mut twins: Vec<u32> = (0..self.len() as u32).collect();
        for run in hashes.chunk_by(|a, b| a.0 == b.0) {
            // Of records with one hash, most often all are equal; else each is compared with the first ones.
            let mut firsts: Vec<u32> = Vec::new();
            for (_, record) in run {
                match firsts.iter().find(|f| self.view(**f).whole() == self.view(*record).whole()) {
                    Some(first) => twins[*record as usize] = *first,
                    None => firsts.push(*record),
                }
            }
        }
        twins
    }

    /// The blocking keys of the records that stand for themselves.
    pub(super) fn keys(&self, twins: &[u32]) -> Vec<Keys> {
        parallel(self.len().div_ceil(PORTION), |at| {
            self.portion(at)
                .map(|r| if twins[r as usize] == r { slots_of(&self.view(r)) } else { [0; SLOTS] })
                .collect::<Vec<_>>()
        })
        .concat()
    }

    fn portion(&self, at: usize) -> std::ops::Range<u32> {
        (at * PORTION) as u32..((at + 1) * PORTION).min(self.len()) as u32
    }
}

const PORTION: usize = 16_384;

pub(super) fn twice_fault(twice: usize) -> Fault {
    Fault::user(format!("{twice} ids occur more than once"))
        .hint("Name a column with `--id` that tells all rows of all files apart; several files are one population.")
}
