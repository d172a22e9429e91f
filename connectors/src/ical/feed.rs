//! One answer of a feed, as items that can be compared with those of the answer before.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use catalog::Result;
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;
use sha2::{Digest as _, Sha256};

use super::dialect::{self, Dialect, Kind, Meaning};
use super::reader::{self, Calendar, Event, Nights};

/// What the settings say of a feed.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The listing whose calendar it is.
    pub listing: String,
    /// What ids begin with that may be the same in another feed; `None` when there is no other.
    pub scope: Option<String>,
    /// Whose calendar it is; `None` looks at it.
    pub dialect: Option<Dialect>,
    /// Where the listing is.
    pub zone: Option<Tz>,
    /// What an event is whose words say nothing.
    pub otherwise: Kind,
}

/// A feed's answer, read.
#[derive(Debug)]
pub struct Feed {
    /// Whose calendar it is.
    pub dialect: Dialect,
    /// Where the listing is, as far as is known.
    pub zone: Option<Tz>,
    /// Its events, each id and segment once.
    pub items: Vec<Item>,
    /// What could not be used.
    pub refused: Vec<Refused>,
    /// UIDs of events that could not be used: they are there, whatever they say.
    pub unreadable: BTreeSet<String>,
    /// Whether an event without a UID could not be used, so that nobody knows which one it was.
    pub unsure: bool,
    /// What a person should know: topic and text.
    pub notes: Vec<(&'static str, String)>,
}

/// An event that takes nights.
#[derive(Debug, Clone)]
pub struct Item {
    /// What it goes by in the rows.
    pub id: String,
    /// Which stretch of a stay that comes in several, from 0.
    pub segment: u32,
    /// Whether the id was made from listing and dates.
    pub synthetic: bool,
    /// Whether it is called off.
    pub cancelled: bool,
    /// Its nights.
    pub nights: Nights,
    /// What it means.
    pub meaning: Meaning,
    /// A hash of all that a row holds, the id left out. It does not hold when the feed was made.
    pub digest: String,
    /// A hash of the guest's name and the listing, to know a stay by that comes back under another id.
    pub guest: Option<String>,
    /// Which revision of the event it is.
    pub(super) sequence: u64,
}

/// An event that could not be used, or not as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The line on which it begins.
    pub line: u64,
    /// Its UID.
    pub uid: Option<String>,
    /// Whether it was used nevertheless.
    pub loaded: bool,
    /// Why, as a clause.
    pub reason: String,
}

/// The longest id that is kept as it is; longer ones, and those of several lines, are hashed.
const LONGEST_ID: usize = 255;

impl Feed {
    /// Reads an answer.
    ///
    /// # Errors
    /// When it is no whole calendar; see [`reader::read`].
    pub fn read(bytes: &[u8], rules: &Rules) -> Result<Self> {
        Ok(Self::of(reader::read(bytes)?, rules))
    }

    /// Makes items of a calendar's events.
    pub fn of(calendar: Calendar, rules: &Rules) -> Self {
        let dialect = rules.dialect.unwrap_or_else(|| Dialect::of_product(calendar.product.as_deref()));
        let zone = rules.zone.or(calendar.zone);
        let mut feed = Feed {
            dialect,
            zone,
            items: Vec::with_capacity(calendar.events.len()),
            refused: Vec::new(),
            unreadable: BTreeSet::new(),
            unsure: false,
            notes: Vec::new(),
        };
        for event in &calendar.events {
            feed.take(event, rules);
        }
        feed.settle_repeated_ids();
        let mut note = |topic, count: u64, text: &str| {
            if count > 0 {
                feed.notes.push((topic, format!("{count} {text}")));
            }
        };
        note("malformed_line", calendar.malformed_lines, "lines of its events are no property and were passed over");
        note("damaged_text", calendar.damaged_texts, "values are not UTF-8; what was not was replaced");
        note(
            "repeating_event",
            calendar.events.iter().filter(|e| e.repeats).count() as u64,
            "events repeat; only the first time is taken",
        );
        for zone in &calendar.unknown_zones {
            feed.notes.push((
                "unknown_zone",
                format!("nobody knows the zone `{zone}`; its times are taken as they are written"),
            ));
        }
        feed
    }

    fn take(&mut self, event: &Event, rules: &Rules) {
        let mut refuse = |loaded, reason: &str| {
            let reason = reason.to_owned();
            self.refused.push(Refused { line: event.line, uid: event.uid.clone(), loaded, reason });
        };
        let nights = match event.nights(self.zone) {
            Ok(nights) => nights,
            Err(reason) => {
                refuse(false, reason);
                match &event.uid {
                    // Which kind it is cannot be known, so both ids it may go by are there.
                    Some(uid) => {
                        for kind in [Kind::Reserved, Kind::Blocked] {
                            let id = id(uid, kind, rules);
                            self.unreadable.insert(id);
                        }
                    }
                    None => self.unsure = true,
                }
                return;
            }
        };
        if event.repeats {
            refuse(true, "it repeats; only the first time is taken");
        }
        let meaning = self.dialect.meaning(event, (nights.check_out - nights.check_in).num_days(), rules.otherwise);
        let (id, synthetic) = match &event.uid {
            // A closed time has no identity: sites give it another id, or another feed's, whenever they like.
            Some(uid) => (id(uid, meaning.kind, rules), meaning.kind == Kind::Blocked),
            None if event.summary.is_none() => {
                refuse(false, "it has neither `UID` nor `SUMMARY`");
                self.unsure = true;
                return;
            }
            None => (format!("{}/{}/{}", rules.listing, nights.check_in, nights.check_out), true),
        };
        let cancelled = dialect::cancelled(event);
        let guest = meaning.first_name.as_ref().map(|name| hash(&[&rules.listing, &name.to_lowercase()]));
        let digest = digest(&nights, &meaning, cancelled);
        let sequence = event.sequence;
        self.items.push(Item { id, segment: 0, synthetic, cancelled, nights, meaning, digest, guest, sequence });
    }

    /// One id may come more than once: an exact repetition is dropped; stretches that do not overlap are segments of one
    /// stay; of those that do, the one with the highest `SEQUENCE`, or the last one, counts.
    fn settle_repeated_ids(&mut self) {
        let mut count: HashMap<&str, usize> = HashMap::with_capacity(self.items.len());
        for item in &self.items {
            *count.entry(&item.id).or_default() += 1;
        }
        if count.len() == self.items.len() {
            return;
        }
        let mut groups: BTreeMap<String, Vec<Item>> = BTreeMap::new();
        for item in std::mem::take(&mut self.items) {
            groups.entry(item.id.clone()).or_default().push(item);
        }
        for (id, group) in groups {
            let mut kept: Vec<Item> = Vec::new();
            for item in newest_first(group) {
                let overlaps =
                    |k: &Item| k.nights.check_in < item.nights.check_out && item.nights.check_in < k.nights.check_out;
                if kept.iter().any(|k| k.digest == item.digest) {
                    continue;
                }
                if kept.iter().any(overlaps) || (item.cancelled && !kept.is_empty()) {
                    let reason = "another event with the same `UID` is newer".to_owned();
                    self.refused.push(Refused { line: 0, uid: Some(id.clone()), loaded: false, reason });
                    continue;
                }
                kept.push(item);
            }
            kept.sort_by_key(|item| item.nights.check_in);
            for (segment, item) in (0..).zip(&mut kept) {
                item.segment = segment;
            }
            self.items.extend(kept);
        }
        self.items.sort_by_key(|item| (item.nights.check_in, item.nights.check_out));
    }

    /// The day on which the listing stands; when nobody knows where that is, the latest one anywhere, so that a stay
    /// which is over counts as over.
    pub fn today(zone: Option<Tz>, now: DateTime<Utc>) -> NaiveDate {
        match zone {
            Some(zone) => now.with_timezone(&zone).date_naive(),
            None => (now + TimeDelta::hours(14)).date_naive(),
        }
    }
}

/// What an event goes by. Closed times of two feeds may have one UID, since some sites make it from the dates.
fn id(uid: &str, kind: Kind, rules: &Rules) -> String {
    let uid = if uid.len() > LONGEST_ID || uid.contains('\n') { hash(&[uid]) } else { uid.to_owned() };
    match (&rules.scope, kind) {
        (Some(scope), Kind::Blocked) => format!("{scope}/{uid}"),
        _ => uid,
    }
}

/// Living ones before cancelled ones; then by sequence, and of one sequence the later one in the feed first.
fn newest_first(group: Vec<Item>) -> Vec<Item> {
    let mut indexed: Vec<(usize, Item)> = group.into_iter().enumerate().collect();
    indexed.sort_by_key(|(at, item)| (item.cancelled, std::cmp::Reverse((item.sequence, *at))));
    indexed.into_iter().map(|(_, item)| item).collect()
}

fn digest(nights: &Nights, meaning: &Meaning, cancelled: bool) -> String {
    let time = |time: Option<chrono::NaiveTime>| time.map(|t| t.to_string()).unwrap_or_default();
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    hash(&[
        &nights.check_in.to_string(),
        &nights.check_out.to_string(),
        &time(nights.check_in_time),
        &time(nights.check_out_time),
        nights.zone.map_or("", |zone| zone.name()),
        meaning.kind.as_str(),
        if cancelled { "cancelled" } else { "" },
        &text(&meaning.code),
        &text(&meaning.first_name),
        &text(&meaning.title),
        &text(&meaning.notes),
    ])
}

/// Eight bytes of a hash: enough to tell the events of one feed apart.
fn hash(parts: &[&str]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part.as_bytes());
        hasher.update([0x1F]);
    }
    hasher.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
