//! Which pairs are worth scoring: those that share a key.
//!
//! There are many kinds of keys, so that any two slips leave one whole, and each kind has a budget: blocks of more records
//! than the budget allows are left out, and finer kinds of keys are there for the records in them. No block is quadratic
//! therefore, and loose keys, which find the worst typos, are at work wherever they are affordable.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};

use super::record::{Part, View, first_word, hash};

/// A kind of key: what it is made from, how many of it a record has at most, how many pairs a record it may cost, and what
/// it says when two records share nothing else.
#[derive(Debug, Clone, Copy)]
struct Kind {
    name: &'static str,
    slots: usize,
    budget: f64,
    says: Says,
}

/// What a shared key says by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Says {
    /// Nothing: half a town shares it. It only finds the worst slips where there are few records.
    Little,
    /// That the two may be one.
    Some,
    /// So much that the two could be taken for one.
    Much,
}

const fn kind(name: &'static str, slots: usize, budget: f64) -> Kind {
    Kind { name, slots, budget, says: Says::Some }
}

const fn much(name: &'static str, slots: usize, budget: f64) -> Kind {
    Kind { name, slots, budget, says: Says::Much }
}

const fn little(name: &'static str, slots: usize, budget: f64) -> Kind {
    Kind { name, slots, budget, says: Says::Little }
}

const KINDS: [Kind; 29] = [
    much("e-mail", 1, 1.0),
    much("mailbox name", 1, 0.5),
    much("phone", 1, 1.0),
    much("digits of the phone, given name", 1, 0.3),
    much("birth date", 1, 0.5),
    kind("birth day and month, a name", 2, 0.5),
    much("birth year, both names", 1, 0.5),
    much("both names", 1, 0.5),
    much("both names, place", 1, 0.5),
    kind("postal code, a name", 2, 0.5),
    much("house", 1, 0.7),
    kind("street, a name", 2, 0.5),
    kind("street, birth year", 1, 0.3),
    little("mail domain", 1, 0.3),
    kind("beginnings of both names", 1, 0.3),
    kind("birth year, a name", 2, 0.3),
    kind("postal code, birth year", 1, 0.3),
    kind("town, birth day and month", 1, 0.3),
    much("birth date, a name", 2, 0.5),
    kind("mail domain, a name", 2, 0.3),
    much("house, a name", 2, 0.5),
    much("phone, a name", 2, 0.5),
    kind("town, a name", 2, 0.3),
    much("e-mail, given name", 1, 0.5),
    little("a name", 2, 0.1),
    little("postal code", 1, 0.1),
    little("street", 1, 0.1),
    little("town", 1, 0.1),
    little("birth day and month", 1, 0.1),
];

const fn slots() -> usize {
    let mut sum = 0;
    let mut at = 0;
    while at < KINDS.len() {
        sum += KINDS[at].slots;
        at += 1;
    }
    sum
}

pub(super) const SLOTS: usize = slots();

/// The keys of one record, by slot; nought where there is none.
pub(super) type Keys = [u32; SLOTS];

/// Pairs that any kind may cost, however few records there are.
const BUDGET_FLOOR: f64 = 60_000.0;
/// A block of more records is left out even where the budget would allow it.
pub(super) const MOST: usize = 1_000;

/// The keys of a record by slot.
pub(super) fn slots_of(view: &View<'_>) -> Keys {
    let mut keys = [0u32; SLOTS];
    let mut slot = 0;
    let text = |part: Part, salt: u64| {
        let value = view.part(part);
        if value.is_empty() { 0 } else { hash(salt, value) }
    };
    let given = u64::from(view.given_sound);
    let family = u64::from(view.family_sound);
    let email = text(Part::Email, 31);
    let (mailbox, domain) = view.mailbox();
    let mailbox = if mailbox.len() >= 4 { hash(32, mailbox) } else { 0 };
    let domain = if domain.is_empty() { 0 } else { hash(33, domain) };
    let digits = view.part(Part::Phone);
    let phone = text(Part::Phone, 34);
    let sorted = if digits.is_empty() {
        0
    } else {
        let mut tail = [0u8; 10];
        let digits = &digits[digits.len().saturating_sub(10)..];
        tail[..digits.len()].copy_from_slice(digits);
        tail.sort_unstable();
        hash(35, &tail)
    };
    let birth = u64::from(view.birth);
    let year = birth / 10_000;
    let (month, day) = (birth / 100 % 100, birth % 100);
    // Day and month are swapped often, so their order does not count.
    let days = if birth == 0 { 0 } else { 1 + month.min(day) * 100 + month.max(day) };
    let city = text(Part::City, 36);
    let code = text(Part::Postcode, 37);
    let place = if code == 0 { city } else { code };
    let street = text(Part::Street, 38);
    let house = if street == 0 || view.part(Part::Number).is_empty() { 0 } else { mix(street, text(Part::Number, 39)) };
    // Given and family name are swapped often too.
    let both = pair(given, family);
    let start = |part: Part| {
        let word = first_word(view.part(part));
        if word.len() < 2 { 0 } else { hash(40, &word[..word.len().min(3)]) }
    };
    let starts = pair(start(Part::Given), start(Part::Family));
    let mut push = |values: &[u64]| {
        if values.iter().all(|v| *v != 0) {
            let mixed = values.iter().fold(0x9e37_79b9_7f4a_7c15, |h, v| mix(h, *v));
            keys[slot] = ((mixed >> 32) as u32).max(1);
        }
        slot += 1;
    };
    push(&[email]);
    push(&[mailbox]);
    push(&[phone]);
    push(&[sorted, given]);
    push(&[birth]);
    push(&[days, given]);
    push(&[days, family]);
    push(&[year, both]);
    push(&[both]);
    push(&[both, place]);
    push(&[code, given]);
    push(&[code, family]);
    push(&[house]);
    push(&[street, given]);
    push(&[street, family]);
    push(&[street, year]);
    push(&[domain]);
    push(&[starts]);
    push(&[year, given]);
    push(&[year, family]);
    push(&[code, year]);
    push(&[city, days]);
    push(&[birth, given]);
    push(&[birth, family]);
    push(&[domain, given]);
    push(&[domain, family]);
    push(&[house, given]);
    push(&[house, family]);
    push(&[phone, given]);
    push(&[phone, family]);
    push(&[city, given]);
    push(&[city, family]);
    push(&[email, given]);
    push(&[given]);
    push(&[family]);
    push(&[code]);
    push(&[street]);
    push(&[city]);
    push(&[days]);
    debug_assert_eq!(slot, SLOTS);
    keys
}

/// The keys of a record that say this much, each marked with its kind.
pub(super) fn keys(view: &View<'_>, least: Says) -> Vec<u64> {
    let slots = slots_of(view);
    let mut keys = Vec::with_capacity(SLOTS);
    let mut slot = 0;
    for (number, kind) in (1u64..).zip(KINDS) {
        for _ in 0..kind.slots {
            if slots[slot] != 0 && kind.says >= least {
                keys.push(number << 32 | u64::from(slots[slot]));
            }
            slot += 1;
        }
    }
    keys
}

/// The kind of a marked key, as a place, and the key.
pub(super) fn kind_and_key(key: u64) -> (usize, u32) {
    ((key >> 32) as usize - usize::from(key >> 32 > 0), key as u32)
}

fn mix(a: u64, b: u64) -> u64 {
    let n = (a ^ b).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ n >> 29).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ n >> 32
}

fn pair(a: u64, b: u64) -> u64 {
    if a == 0 || b == 0 { 0 } else { mix(mix(a.min(b), 7), a.max(b)) | 1 }
}

/// The keys that too many records share, by kind, in order. It belongs to what was learned, so that later records are
/// compared as those were that it was learned from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Plan {
    heavy: Vec<Vec<u32>>,
}

impl Plan {
    /// Whether records that share this key are not compared for it.
    pub(super) fn skips(&self, kind: usize, key: u32) -> bool {
        self.heavy.get(kind).is_some_and(|h| h.binary_search(&key).is_ok())
    }
}

/// What was not compared because too many records share it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// The kind of key.
    pub key: &'static str,
    /// How many keys of that kind.
    pub keys: usize,
    /// How many records have one of them.
    pub records: usize,
    /// The most records that a key of this kind may have.
    pub limit: usize,
}

/// Blocks of records that share a key, and for each record the blocks that it is in, in ascending order.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    starts: Vec<u32>,
    members: Vec<u32>,
    block_starts: Vec<u32>,
    blocks_of: Vec<u32>,
    /// Pairs in all blocks; one that shares several keys counts as often.
    pub(super) pairs: u64,
    pub(super) skipped: Vec<Skipped>,
}

/// The slots of each kind.
fn slots_of_kind(kind: usize) -> std::ops::Range<usize> {
    let start = KINDS[..kind].iter().map(|k| k.slots).sum();
    start..start + KINDS[kind].slots
}

/// All keys of one kind with their records, in order.
pub(super) fn entries(kind: usize, keys: &[Keys]) -> Vec<u64> {
    let slots = slots_of_kind(kind);
    let mut entries = Vec::new();
    for (record, keys) in (0u64..).zip(keys) {
        for (at, key) in keys[slots.clone()].iter().enumerate() {
            if *key != 0 && !keys[slots.start..slots.start + at].contains(key) {
                entries.push(u64::from(*key) << 32 | record);
            }
        }
    }
    entries.sort_unstable();
    entries
}

/// Runs of entries with one key.
pub(super) fn runs(entries: &[u64]) -> impl Iterator<Item = &[u64]> {
    entries.chunk_by(|a, b| a >> 32 == b >> 32)
}

pub(super) const KIND_COUNT: usize = KINDS.len();

/// Does work items on all cores and gives the results in order.
pub(super) fn parallel<T: Send>(items: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(items).min(16);
    if threads <= 1 {
        return (0..items).map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let mut done: Vec<(usize, T)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let mut done = Vec::new();
                    loop {
                        let item = next.fetch_add(1, Ordering::Relaxed);
                        if item >= items {
                            return done;
                        }
                        done.push((item, work(item)));
                    }
                })
            })
            .collect();
        // A worker that panicked has to end the run as it would have without threads.
        workers.into_iter().flat_map(|w| w.join().unwrap_or_else(|e| std::panic::resume_unwind(e))).collect()
    });
    done.sort_by_key(|(item, _)| *item);
    done.into_iter().map(|(_, result)| result).collect()
}

/// The most records of a block, so that all blocks up to that size stay within a number of pairs.
fn limit(sizes: &[usize], budget: f64) -> usize {
    let mut pairs = 0.0;
    for (size, blocks) in sizes.iter().enumerate().skip(2) {
        pairs += (*blocks * size * (size - 1) / 2) as f64;
        if pairs > budget {
            return size - 1;
        }
    }
    MOST
}

impl Blocks {
    /// Puts records into blocks. Without a plan, one is made from the sizes of the blocks.
    pub(super) fn new(keys: &[Keys], plan: Option<&Plan>) -> (Self, Plan) {
        let mut blocks = Self { starts: vec![0], ..Self::default() };
        let mut made = Plan::default();
        let mut counts = vec![0u32; keys.len() + 1];
        for pair in (0..KINDS.len()).collect::<Vec<_>>().chunks(2) {
            let found = parallel(pair.len(), |at| entries(pair[at], keys));
            for (kind, entries) in pair.iter().zip(found) {
                let (heavy, skipped) = blocks.add(*kind, &entries, keys.len(), plan);
                made.heavy.push(heavy);
                blocks.skipped.extend(skipped);
            }
        }
        for member in &blocks.members {
            counts[*member as usize + 1] += 1;
        }
        for at in 1..counts.len() {
            counts[at] += counts[at - 1];
        }
        blocks.block_starts = counts.clone();
        blocks.blocks_of = vec![0; blocks.members.len()];
        for block in 0..blocks.len() {
            let range = blocks.starts[block] as usize..blocks.starts[block + 1] as usize;
            for at in range {
                let next = &mut counts[blocks.members[at] as usize];
                blocks.blocks_of[*next as usize] = block as u32;
                *next += 1;
            }
        }
        (blocks, plan.cloned().unwrap_or(made))
    }

    /// Adds the blocks of one kind. Gives the keys that are left out, and what to say of them.
    fn add(
        &mut self,
        kind: usize,
        entries: &[u64],
        records: usize,
        plan: Option<&Plan>,
    ) -> (Vec<u32>, Option<Skipped>) {
        let mut most = MOST;
        if plan.is_none() {
            let mut sizes = vec![0usize; MOST + 1];
            for run in runs(entries) {
                if run.len() <= MOST {
                    sizes[run.len()] += 1;
                }
            }
            most = limit(&sizes, (KINDS[kind].budget * records as f64).max(BUDGET_FLOOR));
        }
        let mut heavy = Vec::new();
        let mut skipped = Skipped { key: KINDS[kind].name, keys: 0, records: 0, limit: most };
        for run in runs(entries) {
            let key = (run[0] >> 32) as u32;
            if run.len() > most || plan.is_some_and(|p| p.skips(kind, key)) {
                heavy.push(key);
                if run.len() > 1 {
                    skipped.keys += 1;
                    skipped.records += run.len();
                }
            } else if run.len() > 1 {
                self.members.extend(run.iter().map(|e| *e as u32));
                self.starts.push(self.members.len() as u32);
                self.pairs += (run.len() * (run.len() - 1) / 2) as u64;
            }
        }
        (heavy, (skipped.keys > 0).then_some(skipped))
    }

    pub(super) fn len(&self) -> usize {
        self.starts.len() - 1
    }

    fn of(&self, record: u32) -> &[u32] {
        let at = record as usize;
        &self.blocks_of[self.block_starts[at] as usize..self.block_starts[at + 1] as usize]
    }

    /// Every pair of these blocks that is in no earlier block, the lower record first.
    pub(super) fn each_pair(&self, blocks: std::ops::Range<usize>, mut visit: impl FnMut(u32, u32)) {
        for block in blocks {
            let members = &self.members[self.starts[block] as usize..self.starts[block + 1] as usize];
            let earlier = |record: u32| {
                let all = self.of(record);
                &all[..all.partition_point(|b| (*b as usize) < block)]
            };
            for (at, a) in members.iter().enumerate() {
                let of_a = earlier(*a);
                for b in &members[at + 1..] {
                    if !meet(of_a, earlier(*b)) {
                        visit(*a, *b);
                    }
                }
            }
        }
    }

    /// Ranges of blocks of about the same work.
    pub(super) fn portions(&self) -> Vec<std::ops::Range<usize>> {
        let target = (self.pairs / 256).max(20_000);
        let mut portions = Vec::new();
        let (mut start, mut pairs) = (0, 0u64);
        for block in 0..self.len() {
            let size = u64::from(self.starts[block + 1] - self.starts[block]);
            pairs += size * (size - 1) / 2;
            if pairs >= target {
                portions.push(start..block + 1);
                start = block + 1;
                pairs = 0;
            }
        }
        if start < self.len() {
            portions.push(start..self.len());
        }
        portions
    }
}

/// Whether two ascending lists have an element in common.
fn meet(a: &[u32], b: &[u32]) -> bool {
    let (mut i, mut j) = (0, 0);
    while i < a.len() && j < b.len() {
        match a[i].cmp(&b[j]) {
            std::cmp::Ordering::Equal => return true,
            std::cmp::Ordering::Less => i += 1,
            std::cmp::Ordering::Greater => j += 1,
        }
    }
    false
}
