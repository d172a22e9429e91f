//! What changed between two answers of a feed.
//!
//! A feed never says that a stay was called off: the event is just not there any more. Nor is it there when the site has a
//! bad minute. So what is missing is given up only when it stays missing: a stay after two answers and an hour; after four
//! answers and six hours when the answer as a whole looks wrong, which is when it is empty or has lost most of its stays.
//!
//! A stay may come in several stretches under one id. Whoever stores them takes those of the newest version for all there
//! are, so when one of them changes or goes, all the others are told again with it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::dialect::{Kind, Meaning};
use super::feed::{Feed, Item};
use super::reader::Nights;

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
    /// The site's confirmation code, kept for a stretch of several, which may have to be told when the feed does not
    /// hold it.
    #[serde(rename = "x", default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
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
    /// An event that is new or has changed, or that stands beside one under the same id. Its id may be an older one than
    /// the feed gives it now.
    Present(Box<Item>),
    /// An id that is gone with all its stretches.
    Gone {
        /// The id.
        id: String,
    },
}

/// Fewer future stays than this cannot shrink sharply.
const FEW: usize = 4;
/// How far a stay's dates may move for it to be known again under another id, in days.
const NEAR_DAYS: i64 = 14;

/// One stretch of a stay, on its way from one state to the next.
#[derive(Debug)]
struct Stretch<'a> {
    known: Known,
    /// As it was known before.
    before: Option<&'a Known>,
    /// As the answer tells it.
    item: Option<&'a Item>,
    fate: Fate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is there, as before or not.
    Here { changed: bool },
    /// It is not in the answer.
    Missing,
    /// It is over, and left the answer by itself.
    Over,
    /// It is not there any more, or was called off long ago.
    GivenUp,
}

/// All stretches that go by one id.
#[derive(Debug)]
struct Group<'a> {
    id: &'a str,
    stretches: Vec<Stretch<'a>>,
}

/// Compares an answer with what was known.
pub fn diff(previous: &FeedState, feed: &Feed, now: DateTime<Utc>) -> (FeedState, Vec<Row>) {
    let today = Feed::today(feed.zone, now);
    let wary = feed.dialect.hides_stays();
    let mut before = previous.by_id();
    let mut order: Vec<&str> = Vec::with_capacity(feed.items.len());
    let mut present: HashMap<&str, Vec<&Item>> = HashMap::with_capacity(feed.items.len());
    for item in &feed.items {
        let items = present.entry(&item.id).or_default();
        if items.is_empty() {
            order.push(&item.id);
        }
        items.push(item);
    }
    let names = names(feed, &before, &order, &present);

    let mut groups = Vec::with_capacity(order.len());
    for own in order {
        let id = names.get(own).copied().unwrap_or(own);
        let items = present.remove(own).unwrap_or_default();
        groups.push(Group { id, stretches: meet(&before.remove(id).unwrap_or_default(), &items, id, today) });
    }
    let mut left: Vec<(&str, Vec<&Known>)> = before.into_iter().collect();
    left.sort_unstable_by_key(|(id, _)| *id);
    groups.extend(left.into_iter().map(|(id, known)| Group { id, stretches: meet(&known, &[], id, today) }));

    // Something is there under this id, whatever it says.
    for group in &mut groups {
        for stretch in group.stretches.iter_mut().filter(|s| s.fate == Fate::Missing) {
            let alias = stretch.known.alias.as_deref();
            if feed.unreadable.contains(group.id) || alias.is_some_and(|a| feed.unreadable.contains(a)) {
                stretch.known.missing = None;
                stretch.fate = Fate::Here { changed: false };
            }
        }
    }

    let coming = |k: &Known| k.is_coming_stay(today, wary);
    let before = previous.known.values().filter(|k| coming(k)).count();
    // What is there counts by what it was, and what is new by what it is.
    let stretches = groups.iter().flat_map(|g| &g.stretches);
    let found =
        stretches.filter(|s| matches!(s.fate, Fate::Here { .. }) && coming(s.before.unwrap_or(&s.known))).count();
    let empty = feed.items.is_empty() && feed.unreadable.is_empty();
    let shrunken = before >= FEW && found * 2 < before;
    let trust = match () {
        () if feed.unsure || shrunken || (empty && before > 0) => Trust::Doubtful,
        () if empty => Trust::Bare,
        () => Trust::Sound,
    };
    let mut next = FeedState { known: BTreeMap::new(), trust, wary };
    let mut rows = Vec::new();
    for group in groups {
        group.settle(today, now, &mut next, &mut rows);
    }
    (next, rows)
}

/// The same for an answer that says it has not changed: what was missing goes on missing.
pub fn unchanged(previous: &FeedState, zone: Option<chrono_tz::Tz>, now: DateTime<Utc>) -> (FeedState, Vec<Row>) {
    let mut next = FeedState { known: BTreeMap::new(), trust: previous.trust, wary: previous.wary };
    let mut rows = Vec::new();
    let mut groups: Vec<(&str, Vec<&Known>)> = previous.by_id().into_iter().collect();
    groups.sort_unstable_by_key(|(id, _)| *id);
    for (id, known) in groups {
        let fate = |k: &Known| if k.missing.is_some() { Fate::Missing } else { Fate::Here { changed: false } };
        let stretches =
            known.iter().map(|k| Stretch { known: (*k).clone(), before: Some(k), item: None, fate: fate(k) }).collect();
        let group = Group { id, stretches };
        group.settle(Feed::today(zone, now), now, &mut next, &mut rows);
    }
    (next, rows)
}

/// The ids by which the feed's ids are known, where they are others.
fn names<'a>(
    feed: &'a Feed,
    before: &HashMap<&'a str, Vec<&'a Known>>,
    order: &[&'a str],
    present: &HashMap<&'a str, Vec<&'a Item>>,
) -> HashMap<&'a str, &'a str> {
    let mut aliases: HashMap<&str, &str> = HashMap::new();
    for (id, known) in before {
        for alias in known.iter().filter_map(|k| k.alias.as_deref()) {
            aliases.insert(id_of(alias), id);
        }
    }
    let mut taken: HashSet<&str> = HashSet::new();
    let mut names: HashMap<&str, &str> = HashMap::new();
    for own in order {
        if let Some(first) = aliases.get(own)
            && !present.contains_key(first)
            && taken.insert(first)
        {
            names.insert(own, first);
        }
    }
    if feed.dialect.rotates_ids() {
        let is_new = |own: &&&str| !before.contains_key(**own) && !names.contains_key(**own);
        let added: Vec<&Item> = order.iter().filter(is_new).flat_map(|own| present[own].iter().copied()).collect();
        let is_missing = |id: &str| !present.contains_key(id) && !taken.contains(id);
        let missing = before.iter().filter(|(id, _)| is_missing(id));
        let missing: Vec<(&str, &Known)> = missing.flat_map(|(id, known)| known.iter().map(|k| (*id, *k))).collect();
        names.extend(renamed(&added, &missing));
    }
    names
}

/// What was known under an id, and what the answer holds under it: first what is exactly the same, then what has nights in
/// common, the most first, then whatever is left.
fn meet<'a>(known: &[&'a Known], items: &[&'a Item], id: &str, today: NaiveDate) -> Vec<Stretch<'a>> {
    let stretch = |k: &&'a Known| Stretch { known: (*k).clone(), before: Some(k), item: None, fate: Fate::Missing };
    let mut stretches: Vec<Stretch<'a>> = known.iter().map(stretch).collect();
    let mut items = items.to_vec();
    let see = |stretches: &mut Vec<Stretch<'a>>, at: Option<usize>, item: &'a Item| {
        let seen = Known::of(item, (id != item.id).then(|| item.id.clone()));
        let before = at.and_then(|at| stretches[at].before);
        let changed = before.is_none_or(|b| b.digest != seen.digest);
        let stretch = Stretch { known: seen, before, item: Some(item), fate: Fate::Here { changed } };
        match at {
            Some(at) => stretches[at] = stretch,
            None => stretches.push(stretch),
        }
    };
    if let ([_], [item]) = (&stretches[..], &items[..]) {
        see(&mut stretches, Some(0), item);
        return stretches;
    }
    let common = |k: &Known, item: &Item| {
        (k.check_out.min(item.nights.check_out) - k.check_in.max(item.nights.check_in)).num_days().max(0)
    };
    let mut pairs = Vec::new();
    for (at, stretch) in stretches.iter().enumerate() {
        for (number, item) in items.iter().enumerate() {
            let same = stretch.known.digest == item.digest;
            let common = common(&stretch.known, item);
            if same || common > 0 {
                pairs.push((Reverse((same, common)), at, number));
            }
        }
    }
    pairs.sort_unstable();
    let mut met = HashSet::new();
    for (_, at, number) in pairs {
        if stretches[at].item.is_none() && met.insert(number) {
            see(&mut stretches, Some(at), items[number]);
        }
    }
    let mut number = 0;
    items.retain(|_| {
        number += 1;
        !met.contains(&(number - 1))
    });
    for item in items {
        let free = stretches.iter().position(|s| s.item.is_none() && s.known.check_out > today);
        see(&mut stretches, free, item);
    }
    // A stretch that another one has swallowed is not missing.
    let whole: Vec<Nights> = stretches.iter().filter_map(|s| Some(s.item?.nights)).collect();
    for stretch in stretches.iter_mut().filter(|s| s.item.is_none()) {
        let within = |n: &Nights| n.check_in <= stretch.known.check_in && stretch.known.check_out <= n.check_out;
        if whole.iter().any(within) {
            stretch.fate = Fate::GivenUp;
        }
    }
    stretches
}

impl Group<'_> {
    /// Lets what is missing age, tells what is to be told, and keeps the rest in mind.
    fn settle(mut self, today: NaiveDate, now: DateTime<Utc>, next: &mut FeedState, rows: &mut Vec<Row>) {
        let is = |fate: Fate| move |s: &Stretch<'_>| s.fate == fate;
        let mut due = Vec::new();
        for (at, stretch) in self.stretches.iter_mut().enumerate().filter(|(_, s)| s.fate == Fate::Missing) {
            let k = &mut stretch.known;
            // What is over leaves the feed by itself; what was called off has been told.
            if k.cancelled {
                stretch.fate = Fate::GivenUp;
            } else if k.check_out <= today {
                k.missing = None;
                stretch.fate = Fate::Over;
            } else {
                let (times, since) = k.missing.map_or((1, now), |(times, since)| (times.saturating_add(1), since));
                let (enough, long) = next.trust.patience(next.wary || k.kind.is_stay());
                k.missing = Some((times, since));
                if times >= enough && now - since >= long {
                    due.push(at);
                }
            }
        }
        // An id of which nothing is left is given up as a whole.
        let here = self.stretches.iter().any(|s| matches!(s.fate, Fate::Here { .. }));
        let waiting = self.stretches.iter().filter(|s| s.fate == Fate::Missing).count() > due.len();
        if here || !waiting {
            due.iter().for_each(|at| self.stretches[*at].fate = Fate::GivenUp);
        }
        if !here && !waiting {
            if due.is_empty() {
                return;
            }
            if !self.stretches.iter().any(is(Fate::Over)) {
                rows.push(Row::Gone { id: self.id.to_owned() });
                return;
            }
        }
        let changed = self.stretches.iter().any(|s| matches!(s.fate, Fate::GivenUp | Fate::Here { changed: true }));
        self.stretches.retain(|s| s.fate != Fate::GivenUp);
        self.stretches.sort_by_key(|s| (s.known.check_in, s.known.check_out));
        let several = self.stretches.len() > 1;
        let meaning = self.stretches.iter().find_map(|s| s.item).map(|item| item.meaning.clone());
        for (segment, Stretch { mut known, item, .. }) in (0..).zip(self.stretches) {
            if let Some(item) = item {
                known.code = item.meaning.code.clone().filter(|_| several);
            }
            if changed {
                let mut item = item.cloned().unwrap_or_else(|| {
                    // It is told as far as it is known, and anew when the feed holds it again.
                    known.digest.clear();
                    known.remembered(meaning.as_ref())
                });
                (item.id, item.segment) = (self.id.to_owned(), segment);
                rows.push(Row::Present(Box::new(item)));
            }
            if here || waiting {
                next.known.insert(key(self.id, segment), known);
            }
        }
    }
}

/// Ids that were added, and the missing ones that they were before: of the same guest with dates that overlap or lie near,
/// or, when nobody is named, with dates that overlap. The nearest pairs first, each once.
fn renamed<'a>(added: &[&'a Item], missing: &[(&'a str, &'a Known)]) -> HashMap<&'a str, &'a str> {
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
                pairs.push((by_in + by_out, *number, *at));
            }
        }
    }
    pairs.sort_unstable();
    let mut found: HashMap<&str, &str> = HashMap::new();
    let mut taken = HashSet::new();
    for (_, number, at) in pairs {
        let own = added[number].id.as_str();
        if !found.contains_key(own) && taken.insert(at) {
            found.insert(own, at);
        }
    }
    found
}

impl FeedState {
    fn by_id(&self) -> HashMap<&str, Vec<&Known>> {
        let mut ids: HashMap<&str, Vec<&Known>> = HashMap::with_capacity(self.known.len());
        for (at, known) in &self.known {
            ids.entry(id_of(at)).or_default().push(known);
        }
        ids
    }

    /// Whether a stretch is missing whose id still stands, so that the others may have to be told, which needs a whole
    /// answer.
    pub fn is_torn(&self) -> bool {
        let missing: HashSet<&str> =
            self.known.iter().filter(|(_, k)| k.missing.is_some()).map(|(at, _)| id_of(at)).collect();
        !missing.is_empty() && self.known.iter().any(|(at, k)| k.missing.is_none() && missing.contains(id_of(at)))
    }
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
            code: None,
            cancelled: item.cancelled,
            missing: None,
        }
    }

    /// An item of what is known; the words that are not are those of the rest of the stay.
    fn remembered(&self, meaning: Option<&Meaning>) -> Item {
        let meaning = meaning.cloned().unwrap_or(Meaning {
            kind: self.kind,
            code: None,
            first_name: None,
            title: None,
            notes: None,
        });
        let code = self.code.clone().or(meaning.code);
        Item {
            id: String::new(),
            segment: 0,
            synthetic: self.kind == Kind::Blocked,
            cancelled: self.cancelled,
            nights: Nights {
                check_in: self.check_in,
                check_out: self.check_out,
                check_in_time: None,
                check_out_time: None,
                zone: None,
            },
            meaning: Meaning { kind: self.kind, code, ..meaning },
            digest: String::new(),
            guest: self.guest.clone(),
            sequence: 0,
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
