//! A run over a whole population.

use std::collections::HashMap;

use serde::Serialize;

use super::block::{Blocks, Keys, Plan, Skipped, parallel};
use super::cluster::{self, Edge};
use super::compare::{Field, MISSING};
use super::population::Population;
use super::record::View;
use super::scorer::{Profile, Rule, Scorer};
use super::train;

/// A stage of a run, named to the observer when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Records are in blocks.
    Block,
    /// Weights are learned.
    Train,
    /// Candidates are scored.
    Score,
    /// Clusters are made.
    Cluster,
}

/// What a run found.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// The weights that were used; they can score later records.
    pub scorer: Scorer,
    /// For each record the first record of its cluster.
    pub cluster_of: Vec<u32>,
    /// Pairs that were scored.
    pub candidates: u64,
    /// Pairs from the cluster threshold on.
    pub likely: u64,
    /// Records that repeat another one word for word.
    pub copies: u64,
    /// What was not compared because too many records share it.
    pub skipped: Vec<Skipped>,
    /// How probabilities and truth went together, when the truth was known.
    pub calibration: Vec<Bucket>,
    pub(super) edges: Vec<Edge>,
    pub(super) twins: Vec<u32>,
    pub(super) keys: Vec<Keys>,
}

/// Scored pairs of like probability.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Bucket {
    /// The lowest probability.
    pub from: f64,
    /// Pairs in it.
    pub pairs: u64,
    /// The mean probability that was said.
    pub said: f64,
    /// The share that was true.
    pub seen: f64,
}

/// Where a bucket begins.
const BUCKETS: [f64; 12] = [0.0, 0.01, 0.05, 0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999];

/// Pairs of records in one cluster against those of one person.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Quality {
    /// Pairs of one cluster.
    pub said: u64,
    /// Pairs of one person.
    pub is: u64,
    /// Pairs of both.
    pub right: u64,
    /// The share of said pairs that are right.
    pub precision: f64,
    /// The share of pairs of one person that were found.
    pub recall: f64,
    /// The harmonic mean of precision and recall.
    pub f1: f64,
}

impl Quality {
    /// Counts pairs. Both slices have one value a record: its cluster, its person.
    pub fn of(clusters: &[u32], truth: &[u32]) -> Self {
        let mut found: HashMap<u32, u64> = HashMap::new();
        let mut people: HashMap<u32, u64> = HashMap::new();
        let mut both: HashMap<(u32, u32), u64> = HashMap::new();
        for (cluster, person) in clusters.iter().zip(truth) {
            *found.entry(*cluster).or_default() += 1;
            *people.entry(*person).or_default() += 1;
            *both.entry((*cluster, *person)).or_default() += 1;
        }
        let pairs = |n: &u64| n * (n - 1) / 2;
        let said = found.values().map(pairs).sum();
        let is = people.values().map(pairs).sum();
        let right = both.values().map(pairs).sum();
        let share = |part: u64, whole: u64| if whole == 0 { 1.0 } else { part as f64 / whole as f64 };
        let (precision, recall) = (share(right, said), share(right, is));
        let f1 = share(2 * right, said + is);
        Self { said, is, right, precision, recall, f1 }
    }
}

/// Finds the records of one person. Without a scorer, one is trained on the population. With the truth, one value a
/// record, it also counts how well probabilities hold.
pub fn resolve(
    population: &Population,
    profile: &Profile,
    scorer: Option<Scorer>,
    truth: Option<&[u32]>,
    observe: &mut dyn FnMut(Stage),
) -> Resolved {
    let twins = population.twins();
    let keys = population.keys(&twins);
    let given = scorer.as_ref().map(|s| &s.plan).filter(|p| **p != Plan::default());
    let (blocks, plan) = Blocks::new(&keys, given);
    observe(Stage::Block);
    let mut scorer = match scorer {
        Some(mut scorer) => {
            scorer.rule = profile.rule;
            scorer
        }
        None => train::train(population, &twins, &blocks, profile.rule),
    };
    scorer.plan = plan;
    observe(Stage::Train);
    let portions = blocks.portions();
    let scored = parallel(portions.len(), |at| {
        let mut scored = Scored::default();
        blocks.each_pair(portions[at].clone(), |a, b| {
            scored.candidates += 1;
            let (view_a, view_b) = (population.view(a), population.view(b));
            let probability = scorer.probability(&view_a, &view_b);
            if let Some(truth) = truth {
                scored.count(probability, truth[a as usize] == truth[b as usize]);
            }
            if let Some(weight) = edge_weight(profile, probability) {
                scored.edges.push(Edge { weight, a, b });
            }
        });
        scored
    });
    let mut all = Scored::default();
    scored.into_iter().for_each(|s| all.add(s));
    let Scored { mut edges, candidates, buckets } = all;
    let (skipped, likely) = (blocks.skipped.clone(), edges.len() as u64);
    drop(blocks);
    observe(Stage::Score);
    cluster::likeliest_first(&mut edges, |a, b| a.cmp(&b));
    let clusters =
        cluster::join(&edges, |a, b| a.cmp(&b), |a, b| agreement(&scorer, &population.view(a), &population.view(b)));
    let mut cluster_of: Vec<u32> = (0..population.len() as u32).collect();
    for members in clusters {
        let first = members.iter().copied().min().unwrap_or_default();
        for member in members {
            cluster_of[member as usize] = first;
        }
    }
    let mut copies = 0;
    for record in 0..population.len() as u32 {
        let twin = twins[record as usize];
        if twin != record {
            copies += 1;
            if stands_for_itself(&scorer, profile, &population.view(twin)) {
                cluster_of[record as usize] = cluster_of[twin as usize];
            }
        }
    }
    observe(Stage::Cluster);
    let calibration = buckets
        .iter()
        .zip(BUCKETS)
        .filter(|(bucket, _)| bucket.0 > 0 && truth.is_some())
        .map(|((pairs, said, seen), from)| Bucket {
            from,
            pairs: *pairs,
            said: said / *pairs as f64,
            seen: *seen as f64 / *pairs as f64,
        })
        .collect();
    Resolved { scorer, cluster_of, candidates, likely, copies, skipped, calibration, edges, twins, keys }
}

/// The weight of a pair for clusters, if it is likely enough.
pub(super) fn edge_weight(profile: &Profile, probability: f64) -> Option<f32> {
    let likely = match profile.rule {
        Rule::FellegiSunter => probability >= profile.cluster,
        // The fixed rule says `more than`.
        Rule::Seed => probability > profile.cluster,
    };
    likely.then(|| probability.max(1e-9).ln() as f32 - (1.0 - probability).max(1e-12).ln() as f32)
}

/// Whether a record says enough that one with the very same words is the same person.
pub(super) fn stands_for_itself(scorer: &Scorer, profile: &Profile, view: &View<'_>) -> bool {
    edge_weight(profile, scorer.probability(view, view)).is_some()
}

/// How much speaks for two records being one person, in thousandths of a bit and within bounds. Records that only say too
/// little to be told neither agree nor contradict. Two of a household contradict each other in any case: a third record
/// that leaves out what tells them apart is like both.
pub(super) fn agreement(scorer: &Scorer, a: &View<'_>, b: &View<'_>) -> i64 {
    const MOST_BITS: f64 = 6.0;
    const HOUSEHOLD_BITS: f64 = 4.0;
    if scorer.rule == Rule::Seed {
        return 1;
    }
    let compared = scorer.compare(a, b);
    let bits = scorer.odds_of(&compared).log2().clamp(-MOST_BITS, MOST_BITS);
    let worst = |field: &Field| {
        let level = compared.levels[*field as usize];
        level != MISSING && usize::from(level) + 1 == field.levels().len()
    };
    if bits < 0.0 && ![Field::Birth, Field::Given, Field::Family, Field::Generation].iter().any(worst) {
        return 0;
    }
    let (_, strangers, mates) = scorer.likelihoods(&compared);
    let explained = bits < 0.0 && scorer.household * mates > strangers;
    let bits = if explained { bits - HOUSEHOLD_BITS } else { bits };
    (bits * 1_000.0).round() as i64
}

/// What one worker found.
#[derive(Debug, Default)]
struct Scored {
    edges: Vec<Edge>,
    candidates: u64,
    /// Pairs, sum of probabilities, true pairs.
    buckets: [(u64, f64, u64); BUCKETS.len()],
}

impl Scored {
    fn count(&mut self, probability: f64, is: bool) {
        let at = BUCKETS.partition_point(|from| *from <= probability).max(1) - 1;
        let bucket = &mut self.buckets[at];
        bucket.0 += 1;
        bucket.1 += probability;
        bucket.2 += u64::from(is);
    }

    fn add(&mut self, other: Self) {
        self.edges.extend(other.edges);
        self.candidates += other.candidates;
        for (sum, more) in self.buckets.iter_mut().zip(other.buckets) {
            *sum = (sum.0 + more.0, sum.1 + more.1, sum.2 + more.2);
        }
    }
}
