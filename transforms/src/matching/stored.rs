//! An index as bytes, to be kept and read again.
//!
//! The form is a private one: a mark with a version, the parts with their lengths, a checksum. Whoever writes it down
//! writes down names and addresses, normalised but readable: keep it as you keep the contacts themselves.

use std::io::{Read, Write};

use catalog::{Fault, Result};
use xxhash_rust::xxh3::xxh3_64;

use super::cluster::Edge;
use super::index::Index;
use super::population::{Chunk, Population};
use super::record::View;
use super::resolve::Resolved;
use super::scorer::{Profile, Scorer};

const MARK: &[u8; 16] = b"propflow people1";

impl Index {
    /// Writes the index.
    ///
    /// # Errors
    /// When the output fails.
    pub fn write(&self, mut out: impl Write) -> Result<()> {
        let mut bytes = Vec::with_capacity(self.len() * 160);
        let settings = serde_json::to_vec(&(&self.profile, &self.scorer))
            .map_err(|e| Fault::us("the weights have no JSON form").because(e))?;
        put(&mut bytes, &settings);
        let all = 0..self.len() as u32;
        bytes.extend((self.len() as u64).to_le_bytes());
        for record in all {
            put(&mut bytes, self.population.id(record).as_bytes());
            put(&mut bytes, self.population.view(record).whole());
            bytes.extend(self.twins[record as usize].to_le_bytes());
            bytes.extend(self.cluster_of[record as usize].to_le_bytes());
        }
        let mut edges: Vec<(u32, u32, f32)> = (self.edges.iter())
            .flat_map(|(a, others)| others.iter().filter(move |(b, _)| a < b).map(move |(b, w)| (*a, *b, *w)))
            .collect();
        edges.sort_unstable_by_key(|(a, b, _)| (*a, *b));
        bytes.extend((edges.len() as u64).to_le_bytes());
        for (a, b, weight) in edges {
            bytes.extend(a.to_le_bytes());
            bytes.extend(b.to_le_bytes());
            bytes.extend(weight.to_le_bytes());
        }
        let failed = |e| Fault::user("the state cannot be written").because(e);
        out.write_all(MARK).map_err(failed)?;
        out.write_all(&xxh3_64(&bytes).to_le_bytes()).map_err(failed)?;
        out.write_all(&bytes).map_err(failed)?;
        out.flush().map_err(failed)
    }

    /// Reads an index that was written.
    ///
    /// # Errors
    /// When the input fails, is of another version, or is damaged.
    pub fn read(mut from: impl Read) -> Result<Self> {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).map_err(|e| Fault::user("the state cannot be read").because(e))?;
        let rest = bytes.strip_prefix(MARK.as_slice()).ok_or_else(|| {
            Fault::user("this is no state of `propflow match`, or one of another version")
                .hint("Name another file, or delete it and resolve everything anew.")
        })?;
        let damaged = || Fault::user("the state is damaged").hint("Delete it and resolve everything anew.");
        let (sum, rest) = rest.split_at_checked(8).ok_or_else(damaged)?;
        if sum != xxh3_64(rest).to_le_bytes() {
            return Err(damaged());
        }
        parse(rest).ok_or_else(damaged)
    }
}

fn put(bytes: &mut Vec<u8>, part: &[u8]) {
    bytes.extend((part.len() as u32).to_le_bytes());
    bytes.extend_from_slice(part);
}

/// What is left to read.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (part, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(part)
    }

    fn number(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_le_bytes)
    }

    fn count(&mut self) -> Option<usize> {
        let count = self.take(8)?.try_into().ok().map(u64::from_le_bytes)?;
        usize::try_from(count).ok().filter(|c| *c <= self.0.len())
    }

    fn part(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.take(length as usize)
    }
}

fn parse(bytes: &[u8]) -> Option<Index> {
    let mut rest = Rest(bytes);
    let (profile, scorer): (Profile, Scorer) = serde_json::from_slice(rest.part()?).ok()?;
    let records = rest.count()?;
    let mut chunk = Chunk::default();
    let mut named = Vec::with_capacity(records);
    for _ in 0..records {
        let id = std::str::from_utf8(rest.part()?).ok()?;
        let record = rest.part()?;
        if !View::is_whole(record) {
            return None;
        }
        chunk.push_packed(id, record);
        named.push((rest.number()?, rest.number()?));
    }
    // Records are numbered anew in the order of their ids.
    let population = Population::new(vec![chunk]).ok()?;
    let mut number = vec![0u32; records];
    for record in 0..records as u32 {
        number[population.place(record).1] = record;
    }
    let renumbered = |old: u32| number.get(old as usize).copied();
    let mut twins = vec![0; records];
    let mut cluster_of = vec![0; records];
    for (old, (twin, cluster)) in named.into_iter().enumerate() {
        let new = renumbered(old as u32)? as usize;
        twins[new] = renumbered(twin)?;
        cluster_of[new] = renumbered(cluster)?;
    }
    let count = rest.count()?;
    let mut edges = Vec::with_capacity(count);
    for _ in 0..count {
        let (a, b) = (renumbered(rest.number()?)?, renumbered(rest.number()?)?);
        let weight = f32::from_le_bytes(rest.take(4)?.try_into().ok()?);
        edges.push(Edge { weight, a: a.min(b), b: a.max(b) });
    }
    let keys = population.keys(&twins);
    let resolved = Resolved {
        scorer,
        cluster_of,
        candidates: 0,
        likely: 0,
        copies: 0,
        skipped: Vec::new(),
        calibration: Vec::new(),
        edges,
        twins,
        keys,
    };
    rest.0.is_empty().then(|| Index::new(population, resolved, profile))
}
