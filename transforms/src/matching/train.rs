//! What a population teaches: how common values are, how often people's records differ, how rare pairs of one person are.

use super::block::{Blocks, parallel};
use super::compare::{ALL, FIELDS, Field, LEVELS, MISSING};
use super::population::Population;
use super::record::View;
use super::scorer::{Compared, Counts, MADE, Rule, SHARED, Scorer, Term};

/// Pairs that are looked at, of candidates and of random pairs each.
const SAMPLE: u64 = 150_000;
/// Fewer records teach nothing about weights.
const LEAST: usize = 200;
/// How many pairs of one person the shipped weights count as, and as which share of those that were found: data in which
/// other things agree than people must not talk the weights into anything.
const BELIEF_PAIRS: f64 = 40.0;
const BELIEF_SHARE: f64 = 0.2;
/// How many pairs of strangers the shipped chances count as.
const BELIEF_STRANGERS: f64 = 2_000.0;
const ROUNDS: usize = 15;

/// Learns from records that stand for themselves, and their blocks.
pub(super) fn train(population: &Population, twins: &[u32], blocks: &Blocks, rule: Rule) -> Scorer {
    let own: Vec<u32> = (0..).zip(twins).filter(|(r, t)| r == *t).map(|(r, _)| r).collect();
    let mut scorer = Scorer::sized(rule, own.len() as u64);
    scorer.counts = count(population, &own);
    if own.len() >= LEAST && rule == Rule::FellegiSunter {
        learn(&mut scorer, population, &own, blocks);
    }
    monotone(&mut scorer);
    scorer
}

/// Counts values: of names how many records have them, of addresses and numbers how many people share them. What the
/// formula takes for granted anyhow is left out.
fn count(population: &Population, own: &[u32]) -> Counts {
    let found = parallel(Term::ALL.len(), |at| {
        let term = Term::ALL[at];
        let mut values: Vec<(u64, u32)> =
            own.iter().filter_map(|r| Some((term.of(&population.view(*r))?, *r))).collect();
        values.sort_unstable();
        let mut counts = Vec::new();
        for run in values.chunk_by(|a, b| a.0 == b.0) {
            let count = if term.shared() && run.len() > 1 { people(population, run) } else { run.len() as u32 };
            if count > if term.shared() { 1 } else { 2 } {
                counts.push((run[0].0, count));
            }
        }
        counts
    });
    found.into_iter().flatten().collect()
}

/// How many different people seem to share a value: those who differ from all before in name and day of birth.
fn people(population: &Population, holders: &[(u64, u32)]) -> u32 {
    /// More than these are not told apart, but taken as a share.
    const LOOKED_AT: usize = 40;
    let mut seen: Vec<View<'_>> = Vec::new();
    let mut nameless = true;
    for (_, record) in holders.iter().take(LOOKED_AT) {
        let view = population.view(*record);
        let known = view.given_sound != 0 || view.birth != 0;
        if known && !seen.iter().any(|other| may_be_one(&view, other)) {
            seen.push(view);
        }
        nameless &= !known;
    }
    if nameless {
        return 1;
    }
    let looked = holders.len().min(LOOKED_AT);
    (seen.len() * holders.len() / looked).max(1) as u32
}

/// Whether nothing keeps two records from being one person, at a glance.
fn may_be_one(a: &View<'_>, b: &View<'_>) -> bool {
    if a.birth != 0 && a.birth == b.birth {
        return true;
    }
    let unknown = a.given_sound == 0 || b.given_sound == 0;
    if unknown {
        let one_family = a.family_sound == b.family_sound || a.family_sound == 0 || b.family_sound == 0;
        return one_family || a.birth == 0 || b.birth == 0;
    }
    let near = a.given_sound == b.given_sound
        || a.given_sound == b.family_sound
        || b.given_sound == a.family_sound
        || super::compare::given(
            a.part(super::record::Part::Given),
            b.part(super::record::Part::Given),
            (a.given_sound, b.given_sound),
        ) < 5;
    // One name and two days of birth: father and son, or a slip; a slip is commoner.
    near
}

/// A generator of random pairs, the same ones each time.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

/// A pair's place in an order that has nothing to do with the data.
fn scattered(a: u32, b: u32) -> u64 {
    let n = (u64::from(a) << 32 | u64::from(b)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ n >> 31).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    n ^ n >> 29
}

fn learn(scorer: &mut Scorer, population: &Population, own: &[u32], blocks: &Blocks) {
    let step = blocks.pairs.div_ceil(2 * SAMPLE).max(1);
    let portions = blocks.portions();
    let shipped: &Scorer = scorer;
    let compared = |a: u32, b: u32| shipped.compare(&population.view(a), &population.view(b));
    let mut candidates: Vec<Compared> = parallel(portions.len(), |at| {
        let mut found = Vec::new();
        blocks.each_pair(portions[at].clone(), |a, b| {
            if scattered(a, b).is_multiple_of(step) {
                found.push(compared(a, b));
            }
        });
        found
    })
    .concat();
    let size = own.len() as f64;
    let all_pairs = size * (size - 1.0) / 2.0;
    let wanted = (SAMPLE as f64).min(all_pairs) as usize;
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let pairs: Vec<(u32, u32)> =
        std::iter::repeat_with(|| (own[random.below(own.len())], own[random.below(own.len())]))
            .filter(|(a, b)| a != b)
            .take(wanted)
            .collect();
    let chunk = pairs.len().div_ceil(64).max(1);
    let mut strangers: Vec<Compared> = parallel(pairs.len().div_ceil(chunk), |at| {
        pairs[at * chunk..((at + 1) * chunk).min(pairs.len())].iter().map(|(a, b)| compared(*a, *b)).collect::<Vec<_>>()
    })
    .concat();
    let first = scorer.clone();
    for _ in 0..ROUNDS {
        let sums = parallel(2, |half| {
            let mut sums = Sums::default();
            let side = |all: &[Compared]| {
                let middle = all.len() / 2;
                if half == 0 { 0..middle } else { middle..all.len() }
            };
            for pair in &candidates[side(&candidates)] {
                sums.candidate(scorer, pair);
            }
            for pair in &strangers[side(&strangers)] {
                sums.stranger(scorer, pair);
            }
            sums
        });
        let mut total = Sums::default();
        sums.iter().for_each(|s| total.add(s));
        update(scorer, &first, &total, step as f64, all_pairs, size);
        monotone(scorer);
        for pair in candidates.iter_mut().chain(&mut strangers) {
            scorer.rate(pair);
        }
    }
}

/// What one round counts.
#[derive(Debug, Clone, Copy)]
struct Sums {
    same: f64,
    mates: f64,
    m: [[f64; LEVELS]; FIELDS],
    u: [[f64; LEVELS]; FIELDS],
}

impl Default for Sums {
    fn default() -> Self {
        Self { same: 0.0, mates: 0.0, m: [[0.0; LEVELS]; FIELDS], u: [[0.0; LEVELS]; FIELDS] }
    }
}

impl Sums {
    /// The shares of the three kinds in a pair: one person, one household.
    fn shares(scorer: &Scorer, pair: &Compared) -> (f64, f64) {
        let (same, strangers, mates) = scorer.likelihoods(pair);
        let (same, mates) = (scorer.prior * same, scorer.household * mates);
        let all = same + mates + strangers;
        (same / all, mates / all)
    }

    fn candidate(&mut self, scorer: &Scorer, pair: &Compared) {
        let (same, mates) = Self::shares(scorer, pair);
        self.same += same;
        self.mates += mates;
        for (at, level) in pair.levels.iter().enumerate() {
            if *level != MISSING {
                self.m[at][usize::from(*level)] += same;
            }
        }
    }

    fn stranger(&mut self, scorer: &Scorer, pair: &Compared) {
        let (same, mates) = Self::shares(scorer, pair);
        for (at, level) in pair.levels.iter().enumerate() {
            if *level != MISSING {
                self.u[at][usize::from(*level)] += (1.0 - same - mates * SHARED[at]).max(0.0);
            }
        }
    }

    fn add(&mut self, other: &Self) {
        self.same += other.same;
        self.mates += other.mates;
        for at in 0..FIELDS {
            for level in 0..LEVELS {
                self.m[at][level] += other.m[at][level];
                self.u[at][level] += other.u[at][level];
            }
        }
    }
}

fn update(scorer: &mut Scorer, first: &Scorer, sums: &Sums, step: f64, all_pairs: f64, size: f64) {
    // What is known before counts as a few pairs, so that data without any does not end at nought.
    let rate = |counted: f64, known: f64| {
        let belief = 4.0;
        (counted * step + belief * known * all_pairs / size) / (all_pairs + belief * all_pairs / size)
    };
    scorer.prior = rate(sums.same, first.prior).clamp(1e-3 / size, 20.0 / size);
    scorer.household = rate(sums.mates, first.household).clamp(1e-3 / size, 20.0 / size);
    for field in ALL {
        let at = field as usize;
        let levels = field.levels().len();
        let of = |counts: &[f64; LEVELS], known: &[f64; LEVELS], belief: f64, level: usize| {
            let total: f64 = counts[..levels].iter().sum();
            (counts[level] + belief * known[level]) / (total + belief)
        };
        if field == Field::Order {
            // How names are ordered is a matter of people, not of chance.
            scorer.m[at][1] = of(&sums.m[at], &[0.97, 0.03, 0.0, 0.0, 0.0, 0.0, 0.0], BELIEF_PAIRS, 1).max(1e-3);
            continue;
        }
        for level in 0..levels {
            let belief = BELIEF_PAIRS + BELIEF_SHARE * sums.m[at][..levels].iter().sum::<f64>();
            scorer.m[at][level] = of(&sums.m[at], &first.m[at], belief, level).max(1e-6);
            scorer.u[at][level] = of(&sums.u[at], &first.u[at], BELIEF_STRANGERS, level).max(1e-9);
        }
    }
}

/// Sees to it that a lesser level never says more than a better one: levels that are out of order share their evidence.
fn monotone(scorer: &mut Scorer) {
    for field in ALL {
        if field == Field::Order {
            continue;
        }
        let at = field as usize;
        let levels = field.levels().len();
        // Runs of levels that share one ratio: sums of m and u, and how many levels.
        let mut runs: Vec<(f64, f64, usize)> = Vec::new();
        for level in 0..levels {
            if field == Field::Email && level == usize::from(MADE) {
                // Neutral, and between levels that speak for and against.
                scorer.u[at][level] = scorer.m[at][level];
            }
            runs.push((scorer.m[at][level], scorer.u[at][level], 1));
            while let [.., better, worse] = runs.as_slice()
                && worse.0 * better.1 > better.0 * worse.1
            {
                let merged = (better.0 + worse.0, better.1 + worse.1, better.2 + worse.2);
                runs.truncate(runs.len() - 2);
                runs.push(merged);
            }
        }
        let mut level = 0;
        for (m, u, count) in runs {
            for _ in 0..count {
                if count > 1 {
                    scorer.m[at][level] = scorer.u[at][level] * m / u;
                }
                level += 1;
            }
        }
    }
}
