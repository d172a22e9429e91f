//! From pairs to people.
//!
//! Pairs are joined from the likeliest on, but two clusters only while their members agree: a father and a son with one
//! name stay two, even though each is like a third record that leaves the birthday out.

use std::cmp::Ordering;
use std::collections::HashMap;

/// Members of each side that are compared before two clusters become one.
const ASKED: usize = 8;
/// How much more a contradiction counts than an agreement.
const OBJECTION: i64 = 2;

/// A pair that is likely one person: the logarithm of its odds, and the records, the lower one first.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Edge {
    pub(super) weight: f32,
    pub(super) a: u32,
    pub(super) b: u32,
}

/// The order in which pairs are joined: the likeliest first. `order` ranks records, so that numbers given to them earlier
/// or later do not count.
pub(super) fn likeliest_first(edges: &mut [Edge], order: impl Fn(u32, u32) -> Ordering) {
    let ranked = |e: &Edge| if order(e.a, e.b).is_le() { (e.a, e.b) } else { (e.b, e.a) };
    edges.sort_unstable_by(|x, y| {
        y.weight.total_cmp(&x.weight).then_with(|| {
            let ((xa, xb), (ya, yb)) = (ranked(x), ranked(y));
            order(xa, ya).then_with(|| order(xb, yb))
        })
    });
}

/// Joins records along edges, which are in order. `agreement` says in thousandths of a bit how much speaks for two records
/// being one person; whole numbers, because their sum does not depend on the order. Gives the members of every cluster of two or more.
pub(super) fn join(
    edges: &[Edge],
    order: impl Fn(u32, u32) -> Ordering,
    agreement: impl Fn(u32, u32) -> i64,
) -> Vec<Vec<u32>> {
    // The cluster of each record, and the members of each cluster.
    let mut cluster_of: HashMap<u32, usize> = HashMap::with_capacity(edges.len());
    let mut clusters: Vec<Vec<u32>> = Vec::new();
    for edge in edges {
        let mut find = |record: u32| {
            *cluster_of.entry(record).or_insert_with(|| {
                clusters.push(vec![record]);
                clusters.len() - 1
            })
        };
        let (a, b) = (find(edge.a), find(edge.b));
        if a == b || !agree(edge, &clusters[a], &clusters[b], &order, &agreement) {
            continue;
        }
        let (into, from) = if clusters[a].len() >= clusters[b].len() { (a, b) } else { (b, a) };
        let moved = std::mem::take(&mut clusters[from]);
        for record in &moved {
            cluster_of.insert(*record, into);
        }
        clusters[into].extend(moved);
    }
    clusters.retain(|c| c.len() > 1);
    clusters
}

/// Whether the members of two clusters agree on the whole. The edge joins a member of `a` and one of `b`.
fn agree(
    edge: &Edge,
    a: &[u32],
    b: &[u32],
    order: &impl Fn(u32, u32) -> Ordering,
    agreement: &impl Fn(u32, u32) -> i64,
) -> bool {
    if a.len() == 1 && b.len() == 1 {
        return true;
    }
    let asked = |all: &[u32], own: u32| -> Vec<u32> {
        let mut some = all.to_vec();
        if some.len() > ASKED {
            some.sort_unstable_by(|x, y| order(*x, *y));
            some.truncate(ASKED);
            if !some.contains(&own) {
                some.push(own);
            }
        }
        some
    };
    let (a, b) = (asked(a, edge.a), asked(b, edge.b));
    let sum: i64 = a
        .iter()
        .flat_map(|x| b.iter().map(move |y| agreement(*x, *y)))
        .map(|bits| if bits < 0 { bits * OBJECTION } else { bits })
        .sum();
    sum >= 0
}
