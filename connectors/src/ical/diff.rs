//! What changed between two answers of a feed.
//!
//! A feed never says that a stay was called off: the event is just not there any more. Nor is it there when the site has a
//! bad minute. So what is missing is given up only when it stays missing: a stay after two answers and an hour; after four
//! answers and six hours when the answer as a whole looks wrong, which is when it is empty or has lost most of its stays.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::dialect::Kind;
use super::feed::{Feed, Item};

/// What a feed said last.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FeedState {
    /// Its events by id and segment.
    #[serde(default)]
    pub known: BTreeMap<String, Known>,
    /// How the last answer looked as a whole.
    #[serde(default, skip_serializing_if = "Trust::is_sound")]
    pub trust: Trust,
    /// Whether a closed time in it may be a stay, so that it is given up as slowly as one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub wary: bool,
}

/// One event as it was last seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Known {
    /// What took the nights.
    #[serde(rename = "k")]
    pub kind: Kind,
    /// First night.
    #[serde(rename = "i")]
    pub check_in: NaiveDate,
    /// Day of leaving.
    #[serde(rename = "o")]
    pub check_out: NaiveDate,
    /// Hash of its row.
    #[serde(rename = "d")]
    pub digest: String,
    /// Hash of the guest's name.
    #[serde(rename = "g", default, skip_serializing_if = "Option::is_none")]
    pub guest: Option<String>,
    /// The id under which the feed lists it now, when that is another one.
    #[serde(rename = "u", default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    /// Whether it was called off in so many words.
    #[serde(rename = "c", default, skip_serializing_if = "std::ops::Not::not")]
    pub cancelled: bool,
    /// How many answers in a row it has been missing from, and since when.
    #[serde(rename = "m", default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<(u32, DateTime<Utc>)>,
}

/// How far an answer as a whole can be believed when it does not hold something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trust {
    /// As any other.
    #[default]
    Sound,
    /// It is empty, and there were only closed times before.
    Bare,
    /// It has lost the stays, most of them, or something in it cannot be read.
    Doubtful,
}

impl Trust {
    fn is_sound(&self) -> bool {
        *self == Trust::Sound
    }

    /// After how many answers, and how long after the first of them, something that is missing is gone.
    fn patience(self, stay: bool) -> (u32, TimeDelta) {
        match (self, stay) {
            (Trust::Doubtful, _) => (4, TimeDelta::hours(6)),
            (Trust::Bare, _) | (Trust::Sound, true) => (2, TimeDelta::hours(1)),
            // Closed times come and go under new ids all the time, and stand for no guest.
            (Trust::Sound, false) => (1, TimeDelta::zero()),
        }
    }
}

/// One thing to tell.
#[derive(Debug, Clone)]
pub enum Row {
    /// An event that is new or has changed. Its id may be an older one than the feed gives it now.
    Present(Box<Item>),
    /// An event that is gone.
    Gone {
        /// Its id.
        id: String,
        /// Its segment.
        segment: u32,
    },
}

/// Fewer future stays than this cannot shrink sharply.
const FEW: usize = 4;
/// How far a stay's dates may move for it to be known again under another id, in days.
const NEAR_DAYS: i64 = 14;

/// Compares an answer with what was known.
pub fn diff(previous: &FeedState, feed: &Feed, now: DateTime<Utc>) -> (FeedState, Vec<Row>) {
    let today = Feed::today(feed.zone, now);
    let wary = feed.dialect.hides_stays();
    let mut missing = previous.known.clone();
    let mut known = BTreeMap::new();
    let mut rows = Vec::new();
    let (mut kept, mut fresh) = (0, 0);

    let aliases: HashMap<String, String> =
        previous.known.iter().filter_map(|(key, k)| Some((k.alias.clone()?, key.clone()))).collect();
    let mut added = Vec::new();
    let mut see = |item: &Item, at: String, before: Option<Known>, rows: &mut Vec<Row>| {
        let (id, segment) = at.split_once('\n').unwrap_or((&at, "0"));
        let (id, segment) = (id.to_owned(), segment.parse().unwrap_or(item.segment));
        let seen = Known::of(item, (id != item.id || segment != item.segment).then(|| key(&item.id, item.segment)));
        kept += usize::from(before.as_ref().is_some_and(|b| b.is_coming_stay(today, wary)));
        fresh += usize::from(before.is_none() && seen.is_coming_stay(today, wary));
        if before.is_none_or(|b| b.digest != seen.digest) {
            let mut item = item.clone();
            (item.id, item.segment) = (id, segment);
            rows.push(Row::Present(Box::new(item)));
        }
        known.insert(at, seen);
    };
    for item in &feed.items {
        let own = key(&item.id, item.segment);
        let at = aliases.get(&own).filter(|at| missing.contains_key(*at)).cloned().unwrap_or(own);
        match missing.remove(&at) {
            Some(before) => see(item, at, Some(before), &mut rows),
            None => added.push(item),
        }
    }
    let mut renamed = if feed.dialect.rotates_ids() { renamed(&added, &missing) } else { HashMap::new() };
    for (number, item) in added.into_iter().enumerate() {
        let at = renamed.remove(&number).unwrap_or_else(|| key(&item.id, item.segment));
        let before = missing.remove(&at);
        see(item, at, before, &mut rows);
    }

    // Something is there under this id, whatever it says.
    let unreadable: Vec<String> = missing
        .iter()
        .filter(|(at, k)| {
            feed.unreadable.contains(id_of(at))
                || k.alias.as_deref().is_some_and(|a| feed.unreadable.contains(id_of(a)))
        })
        .map(|(at, _)| at.clone())
        .collect();
    for at in unreadable {
        if let Some(k) = missing.remove(&at) {
            kept += usize::from(k.is_coming_stay(today, wary));
            known.insert(at, Known { missing: None, ..k });
        }
    }

    let before = previous.known.values().filter(|k| k.is_coming_stay(today, wary)).count();
    let empty = feed.items.is_empty() && feed.unreadable.is_empty();
    let shrunken = before >= FEW && (kept + fresh) * 2 < before;
    let trust = match () {
        () if feed.unsure || shrunken || (empty && before > 0) => Trust::Doubtful,
        () if empty => Trust::Bare,
        () => Trust::Sound,
    };
    age(missing, (trust, wary), today, now, &mut known, &mut rows);
    (FeedState { known, trust, wary }, rows)
}

/// The same for an answer that says it has not changed: what was missing goes on missing.
pub fn unchanged(previous: &FeedState, zone: Option<chrono_tz::Tz>, now: DateTime<Utc>) -> (FeedState, Vec<Row>) {
    let (missing, mut known) = previous.known.clone().into_iter().partition(|(_, k)| k.missing.is_some());
    let mut rows = Vec::new();
    let (trust, wary) = (previous.trust, previous.wary);
    age(missing, (trust, wary), Feed::today(zone, now), now, &mut known, &mut rows);
    (FeedState { known, trust, wary }, rows)
}

fn age(
    missing: BTreeMap<String, Known>,
    (trust, wary): (Trust, bool),
    today: NaiveDate,
    now: DateTime<Utc>,
    known: &mut BTreeMap<String, Known>,
    rows: &mut Vec<Row>,
) {
    for (at, k) in missing {
        // What is over leaves the feed by itself; what was called off has been told.
        if k.check_out <= today || k.cancelled {
            continue;
        }
        let (times, since) = k.missing.map_or((1, now), |(times, since)| (times.saturating_add(1), since));
        let (enough, long) = trust.patience(wary || k.kind.is_stay());
        if times >= enough && now - since >= long {
            let (id, segment) = at.split_once('\n').unwrap_or((&at, "0"));
            rows.push(Row::Gone { id: id.to_owned(), segment: segment.parse().unwrap_or(0) });
        } else {
            known.insert(at, Known { missing: Some((times, since)), ..k });
        }
    }
}

/// Stays that were added, by their number, and the missing ones that they were before: of the same guest with dates that
/// overlap or lie near, or, when nobody is named, with dates that overlap. The nearest pairs first, each once.
fn renamed(added: &[&Item], missing: &BTreeMap<String, Known>) -> HashMap<usize, String> {
    let mut stays: HashMap<&Option<String>, Vec<(NaiveDate, usize)>> = HashMap::new();
    for (number, item) in added.iter().enumerate() {
        if item.meaning.kind.is_stay() && !item.cancelled {
            stays.entry(&item.guest).or_default().push((item.nights.check_in, number));
        }
    }
    stays.values_mut().for_each(|stays| stays.sort_unstable());
    let mut pairs = Vec::new();
    for (at, k) in missing.iter().filter(|(_, k)| k.kind.is_stay() && !k.cancelled) {
        let Some(stays) = stays.get(&k.guest) else { continue };
        // Stays of one listing do not overlap, so few begin in so many days.
        let window = TimeDelta::days(4 * NEAR_DAYS);
        let from = stays.partition_point(|(day, _)| *day < k.check_in - window);
        for (check_in, number) in stays[from..].iter().take_while(|(day, _)| *day <= k.check_out + window) {
            let check_out = added[*number].nights.check_out;
            let overlap = *check_in < k.check_out && k.check_in < check_out;
            let moved = |a: NaiveDate, b: NaiveDate| (a - b).num_days().abs();
            let (by_in, by_out) = (moved(*check_in, k.check_in), moved(check_out, k.check_out));
            if overlap || (k.guest.is_some() && by_in.min(by_out) <= NEAR_DAYS) {
                pairs.push((by_in + by_out, *number, at));
            }
        }
    }
    pairs.sort_unstable();
    let mut found: HashMap<usize, String> = HashMap::new();
    let mut taken = std::collections::HashSet::new();
    for (_, number, at) in pairs {
        if !found.contains_key(&number) && taken.insert(at) {
            found.insert(number, at.clone());
        }
    }
    found
}

impl Known {
    fn of(item: &Item, alias: Option<String>) -> Self {
        Self {
            kind: item.meaning.kind,
            check_in: item.nights.check_in,
            check_out: item.nights.check_out,
            digest: item.digest.clone(),
            guest: item.guest.clone(),
            alias,
            cancelled: item.cancelled,
            missing: None,
        }
    }

    fn is_coming_stay(&self, today: NaiveDate, wary: bool) -> bool {
        (wary || self.kind.is_stay()) && !self.cancelled && self.check_out > today
    }
}

/// Id and segment as one text.
fn key(id: &str, segment: u32) -> String {
    // No id holds a line end: those are hashed.
    if segment == 0 { id.to_owned() } else { format!("{id}\n{segment}") }
}

fn id_of(key: &str) -> &str {
    key.split('\n').next().unwrap_or_default()
}
