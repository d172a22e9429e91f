//! A population that is known, and records that come later.
//!
//! What was learned from the population stays as it is while records are added, and so do the keys that were left out as
//! too common; therefore adding records one by one, in portions or all at once ends in the same clusters as one run over
//! all of them with the same weights. Train anew when the population has grown by half or so.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet, VecDeque};
use std::future::Future;

use catalog::{Fault, Result};
use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64;

use super::block::{KIND_COUNT, MOST, Says, entries, keys, kind_and_key, parallel};
use super::cluster::{self, Edge};
use super::population::{Chunk, Population, by_id, twice_fault};
use super::record::Record;
use super::resolve::{Resolved, agreement, edge_weight, stands_for_itself};
use super::scorer::{Decision, Profile, Scored, Scorer, decide};

/// Where records are found by their keys: an [`Index`] in memory, or a table of keys and ids.
pub trait Candidates {
    /// Records that have one of these keys, each once, with their ids. A key that more than `most` records have may be
    /// left out: whoever is the same person shares rarer ones.
    ///
    /// # Errors
    /// When the store behind it cannot be asked.
    fn candidates(&self, keys: &[u64], most: usize) -> impl Future<Output = Result<Vec<(String, Record)>>> + Send;
}

/// The most records that a key may have to be followed for one record.
const MOST_OF_A_KEY: usize = 200;

/// A known record that may be the same person.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Match {
    /// The known record's id.
    pub id: String,
    /// What to do.
    pub decision: Decision,
    /// How likely, and why.
    pub scored: Scored,
}

/// The known records that may be the same person as a new one, the likeliest first; none for somebody new.
///
/// # Errors
/// When the candidates cannot be read.
pub async fn find(known: &impl Candidates, scorer: &Scorer, profile: &Profile, record: &Record) -> Result<Vec<Match>> {
    let mut found: Vec<Match> = known
        .candidates(&record.keys(), MOST_OF_A_KEY)
        .await?
        .into_iter()
        .filter(|(_, other)| scorer.probability(&record.view(), &other.view()) > profile.review)
        .map(|(id, other)| {
            let scored = scorer.score(record, &other);
            Match { id, decision: decide(profile, &scored), scored }
        })
        .collect();
    found.sort_by(|a, b| b.scored.probability.total_cmp(&a.scored.probability).then_with(|| by_id(&a.id, &b.id)));
    Ok(found)
}

/// What adding records did. Clusters are named by the id of one of their records, and keep that name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Added {
    /// The cluster of each new record, in the order in which they were given: record and cluster.
    pub records: Vec<(String, String)>,
    /// Known records whose cluster changed: record, former cluster, present cluster.
    pub moved: Vec<(String, String, String)>,
}

/// A resolved population that takes more records.
#[derive(Debug, Clone)]
pub struct Index {
    pub(super) profile: Profile,
    pub(super) scorer: Scorer,
    pub(super) population: Population,
    /// Records before this one are in the order of their ids.
    pub(super) sorted: usize,
    later_ids: HashMap<Box<str>, u32>,
    /// Hashes of records that stand for themselves, in order; and of those that came later.
    hashes: Vec<(u64, u32)>,
    later_hashes: HashMap<u64, Vec<u32>>,
    /// Keys with their records by kind, in order; and of those that came later.
    entries: Vec<Vec<u64>>,
    later_entries: HashMap<u64, Vec<u32>>,
    pub(super) edges: HashMap<u32, Vec<(u32, f32)>>,
    /// For each record the first that says the same, and the record that its cluster is named after.
    pub(super) twins: Vec<u32>,
    pub(super) cluster_of: Vec<u32>,
}

impl Index {
    /// An index of a resolved population.
    pub fn new(population: Population, resolved: Resolved, profile: Profile) -> Self {
        let Resolved { scorer, cluster_of, edges, twins, keys, .. } = resolved;
        let entries = parallel(KIND_COUNT, |kind| entries(kind, &keys));
        drop(keys);
        let mut index = Self {
            profile,
            scorer,
            sorted: population.len(),
            population,
            later_ids: HashMap::new(),
            hashes: Vec::new(),
            later_hashes: HashMap::new(),
            entries,
            later_entries: HashMap::new(),
            edges: HashMap::new(),
            twins,
            cluster_of,
        };
        for edge in edges {
            index.link(&edge);
        }
        index.hash_all();
        index
    }

    /// An index of nobody, with a scorer that knows what is usual.
    pub fn empty(scorer: Scorer, profile: Profile) -> Self {
        Self {
            profile,
            scorer,
            population: Population::default(),
            sorted: 0,
            later_ids: HashMap::new(),
            hashes: Vec::new(),
            later_hashes: HashMap::new(),
            entries: vec![Vec::new(); KIND_COUNT],
            later_entries: HashMap::new(),
            edges: HashMap::new(),
            twins: Vec::new(),
            cluster_of: Vec::new(),
        }
    }

    fn hash_all(&mut self) {
        let own = (0u32..).zip(&self.twins).filter(|(record, twin)| record == *twin);
        self.hashes = own.map(|(record, _)| (xxh3_64(self.population.view(record).whole()), record)).collect();
        self.hashes.sort_unstable();
    }

    fn link(&mut self, edge: &Edge) {
        self.edges.entry(edge.a).or_default().push((edge.b, edge.weight));
        self.edges.entry(edge.b).or_default().push((edge.a, edge.weight));
    }

    /// How many records it knows.
    pub fn len(&self) -> usize {
        self.population.len()
    }

    /// Whether it knows none.
    pub fn is_empty(&self) -> bool {
        self.population.is_empty()
    }

    /// The rule and the thresholds that it was made with.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Those records of a chunk whose ids are not known yet.
    pub fn unknown(&self, chunk: Chunk) -> Chunk {
        if chunk.ids().all(|id| self.find_id(id).is_none()) {
            return chunk;
        }
        let mut rest = Chunk::default();
        for (id, record) in chunk.records().filter(|(id, _)| self.find_id(id).is_none()) {
            rest.push_packed(id, record.bytes());
        }
        rest
    }

    /// The scorer of all its decisions.
    pub fn scorer(&self) -> &Scorer {
        &self.scorer
    }

    /// Every record with the cluster that it is in.
    pub fn clusters(&self) -> impl Iterator<Item = (&str, &str)> {
        (0u32..)
            .zip(&self.cluster_of)
            .map(|(record, cluster)| (self.population.id(record), self.population.id(*cluster)))
    }

    fn find_id(&self, id: &str) -> Option<u32> {
        self.later_ids.get(id).copied().or_else(|| self.population.find(id, self.sorted))
    }

    /// The first record that says the same.
    fn twin(&self, hash: u64, record: &Record) -> Option<u32> {
        let same = |other: &u32| self.population.view(*other).whole() == record.bytes();
        let start = self.hashes.partition_point(|(h, _)| *h < hash);
        let known = self.hashes[start..].iter().take_while(|(h, _)| *h == hash).map(|(_, r)| r);
        known.chain(self.later_hashes.get(&hash).into_iter().flatten()).find(|r| same(r)).copied()
    }

    /// Records with a key, unless the key is too common.
    fn holders(&self, key: u64, most: usize) -> Vec<u32> {
        let (kind, short) = kind_and_key(key);
        if self.scorer.plan.skips(kind, short) {
            return Vec::new();
        }
        let Some(entries) = self.entries.get(kind) else { return Vec::new() };
        let first = u64::from(short) << 32;
        let start = entries.partition_point(|e| *e < first);
        let known = entries[start..].iter().take_while(|e| **e >> 32 == u64::from(short)).take(most + 1);
        let mut found: Vec<u32> = known.map(|e| *e as u32).collect();
        found.extend(self.later_entries.get(&key).into_iter().flatten());
        if found.len() > most { Vec::new() } else { found }
    }

    /// Adds records and puts them into clusters. Nothing is added when it fails.
    ///
    /// # Errors
    /// An id that is known already, or given twice.
    pub fn add(&mut self, chunk: &Chunk) -> Result<Added> {
        let mut ids = HashSet::new();
        let twice = chunk.ids().filter(|id| !ids.insert(*id) || self.find_id(id).is_some()).count();
        if twice > 0 {
            return Err(twice_fault(twice));
        }
        if self.len() + chunk.len() >= u32::MAX as usize {
            return Err(Fault::user("there are more than four thousand million records"));
        }
        let first = self.population.len() as u32;
        let mut fresh = Vec::new();
        for (id, record) in chunk.records() {
            let hash = xxh3_64(record.bytes());
            let twin = self.twin(hash, &record);
            let number = self.population.push(id, &record);
            self.later_ids.insert(id.into(), number);
            self.twins.push(twin.unwrap_or(number));
            self.cluster_of.push(number);
            if twin.is_none() {
                self.later_hashes.entry(hash).or_default().push(number);
                for key in record.keys() {
                    self.later_entries.entry(key).or_default().push(number);
                }
                fresh.push(number);
            }
        }
        for edge in self.edges_of(&fresh) {
            self.link(&edge);
        }
        let mut moved = self.join(&fresh);
        for record in first..self.population.len() as u32 {
            let twin = self.twins[record as usize];
            if twin != record && stands_for_itself(&self.scorer, &self.profile, &self.population.view(twin)) {
                self.cluster_of[record as usize] = self.cluster_of[twin as usize];
            }
        }
        moved.retain(|(record, _)| *record < first);
        let id = |record: u32| self.population.id(record).to_owned();
        Ok(Added {
            records: (first..self.population.len() as u32).map(|r| (id(r), id(self.cluster_of[r as usize]))).collect(),
            moved: moved.iter().map(|(r, was)| (id(*r), id(*was), id(self.cluster_of[*r as usize]))).collect(),
        })
    }

    /// Likely pairs of new records, with known ones and among themselves.
    fn edges_of(&self, fresh: &[u32]) -> Vec<Edge> {
        const PORTION: usize = 32;
        let edges = parallel(fresh.len().div_ceil(PORTION), |at| {
            let mut edges = Vec::new();
            for record in &fresh[at * PORTION..((at + 1) * PORTION).min(fresh.len())] {
                let view = self.population.view(*record);
                let mut others: Vec<u32> =
                    keys(&view, Says::Little).into_iter().flat_map(|key| self.holders(key, MOST)).collect();
                others.sort_unstable();
                others.dedup();
                // A pair of two new records is looked at from the later one.
                for other in others.into_iter().filter(|other| other < record) {
                    let probability = self.scorer.probability(&self.population.view(other), &view);
                    if let Some(weight) = edge_weight(&self.profile, probability) {
                        edges.push(Edge { weight, a: other, b: *record });
                    }
                }
            }
            edges
        });
        edges.concat()
    }

    /// Makes the clusters anew of all that hangs together with these records. Gives the records whose cluster changed,
    /// with the former one.
    fn join(&mut self, fresh: &[u32]) -> Vec<(u32, u32)> {
        let mut seen: HashSet<u32> = HashSet::new();
        let mut queue: VecDeque<u32> = fresh.iter().copied().collect();
        let mut edges = Vec::new();
        while let Some(record) = queue.pop_front() {
            if !seen.insert(record) {
                continue;
            }
            for (other, weight) in self.edges.get(&record).into_iter().flatten() {
                if record < *other {
                    edges.push(Edge { weight: *weight, a: record, b: *other });
                }
                queue.push_back(*other);
            }
        }
        let population = &self.population;
        let order = |a: u32, b: u32| -> Ordering { by_id(population.id(a), population.id(b)) };
        cluster::likeliest_first(&mut edges, order);
        let mut clusters =
            cluster::join(&edges, order, |a, b| agreement(&self.scorer, &population.view(a), &population.view(b)));
        let joined: HashSet<u32> = clusters.iter().flatten().copied().collect();
        clusters.extend(seen.iter().filter(|r| !joined.contains(r)).map(|r| vec![*r]));
        let start = fresh.first().copied().unwrap_or(u32::MAX);
        let mut now: HashMap<u32, u32> = HashMap::new();
        for members in &clusters {
            // A cluster keeps the name that one of its members gave it; of several, and without, it is the first id.
            let named = |r: &&u32| **r < start && self.cluster_of[**r as usize] == **r;
            let name = members.iter().filter(named).copied().min_by(|a, b| order(*a, *b));
            let name = name.or_else(|| members.iter().copied().min_by(|a, b| order(*a, *b)));
            now.extend(members.iter().filter_map(|m| Some((*m, name?))));
        }
        let mut changed = Vec::new();
        for (record, cluster) in now {
            let was = std::mem::replace(&mut self.cluster_of[record as usize], cluster);
            if was != cluster {
                changed.push((record, was));
            }
        }
        changed.sort_unstable();
        self.follow(changed)
    }

    /// Records that say the same as one whose cluster changed go with it.
    fn follow(&mut self, mut changed: Vec<(u32, u32)>) -> Vec<(u32, u32)> {
        let firsts: HashMap<u32, u32> = changed.iter().copied().collect();
        if firsts.is_empty() {
            return changed;
        }
        for record in 0..self.twins.len() as u32 {
            let twin = self.twins[record as usize];
            if twin != record
                && let Some(was) = firsts.get(&twin)
                && self.cluster_of[record as usize] == *was
            {
                self.cluster_of[record as usize] = self.cluster_of[twin as usize];
                changed.push((record, *was));
            }
        }
        changed
    }
}

impl Candidates for Index {
    async fn candidates(&self, keys: &[u64], most: usize) -> Result<Vec<(String, Record)>> {
        let mut found: Vec<u32> = keys.iter().flat_map(|key| self.holders(*key, most)).collect();
        found.sort_unstable();
        found.dedup();
        Ok(found.into_iter().map(|r| (self.population.id(r).to_owned(), self.population.record(r))).collect())
    }
}
