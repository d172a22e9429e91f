//! Which source rows are one booking.
//!
//! Reservations of different connections are one booking when they share the confirmation code, else the property and the
//! exact dates. What belonged together before stays so until something better is found: while one channel is late, its
//! old dates must not become a stay of their own. Strongest is what the vendor still knows, a manager before a calendar, a
//! stay before a block, what stands before what was called off.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use arrow::array::RecordBatch;
use arrow::datatypes::Date32Type;
use catalog::Result;
use chrono::DateTime;
use chrono_tz::Tz;

use super::{Row, Tables, Union, rows, text_batch};
use crate::functions::{stable_id, time_zone};

/// The table of reservations and the bookings that they tell of.
pub const ASSIGNMENTS: &str = "assignments";

const CODE: u32 = 16;
const DATES: u32 = 8;
const FORMER: u32 = 4;
const STANDS: u32 = 2;

/// Nights that are looked at when a block is compared with what others take, before and after today.
const PAST_DAYS: i32 = 90;
const FUTURE_DAYS: i32 = 541;

/// A reservation and the booking that it tells of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Assigned {
    pub(super) connection: String,
    pub(super) id: String,
    pub(super) booking: String,
    pub(super) role: &'static str,
    pub(super) basis: &'static str,
    pub(super) removed: bool,
    /// The segments that the newest version has.
    pub(super) latest: Vec<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Live,
    /// Asked for; takes no nights.
    Open,
    Dead,
}

/// A stretch of nights in one property.
type Place = (String, i32, i32);

/// The order of strength: removed, identity, block, dead, then the name, so that it is total.
type Order = (bool, u8, bool, bool, String, String);

#[derive(Debug)]
struct Reservation {
    order: Order,
    removed: bool,
    strong: bool,
    kind: String,
    platform: String,
    code: Option<String>,
    standing: Standing,
    stretches: Vec<Place>,
    places: BTreeSet<Place>,
    segments: Vec<i64>,
    former: Option<(String, String)>,
}

impl Reservation {
    fn connection(&self) -> &str {
        &self.order.4
    }

    fn id(&self) -> &str {
        &self.order.5
    }

    fn named(&self) -> bool {
        !matches!(self.platform.as_str(), "direct" | "unknown")
    }

    /// The booking that it told of before, as more than an echo.
    fn former(&self) -> Option<&str> {
        self.former.as_ref().filter(|(_, role)| role != "echo").map(|(booking, _)| booking.as_str())
    }

    fn was_anchor(&self) -> bool {
        self.former.as_ref().is_some_and(|(_, role)| role == "anchor")
    }

    /// Whether something speaks against its being the same as another one with the same dates.
    fn differs(&self, other: &Self) -> bool {
        let codes =
            self.platform == other.platform && self.code.is_some() && other.code.is_some() && self.code != other.code;
        let stays = self.kind == "stay" && other.kind == "stay";
        codes || (stays && self.platform != other.platform && self.named() && other.named())
    }
}

pub(super) fn assign(tables: &Tables, now: i64) -> Result<Vec<Assigned>> {
    let all = reservations(tables, now)?;
    let count = all.len();
    let links = links(&all);
    let mut union = Union::new(count);
    let mut basis: Vec<&'static str> = vec!["own"; count];
    // The reservations of each set, by connection, that the vendor still knows.
    let mut told: Vec<HashMap<&str, u32>> =
        all.iter().map(|r| if r.removed { HashMap::new() } else { HashMap::from([(r.connection(), 1)]) }).collect();
    for (weight, child, parent) in links {
        let (c, p) = (union.find(child), union.find(parent));
        if basis[child] != "own" || c == p {
            continue;
        }
        // A connection knows its own bookings apart: neither dates nor another's word make two of them one. Only a
        // calendar may say one code twice.
        let by_dates = weight & !STANDS == DATES;
        let twice = told[c].keys().any(|connection| told[p].contains_key(connection));
        if twice && (by_dates || all[child].strong) {
            continue;
        }
        basis[child] = match weight {
            w if w >= CODE => "code",
            w if w >= DATES => "dates",
            _ => "former",
        };
        union.join(c, p);
        let (root, other) = (c.min(p), c.max(p));
        let moved = std::mem::take(&mut told[other]);
        for (connection, number) in moved {
            *told[root].entry(connection).or_default() += number;
        }
    }
    let roots: Vec<usize> = (0..count).map(|at| union.find(at)).collect();
    let echoes = echoes(&all, &roots, now);
    let ids = booking_ids(&all, &roots, &echoes);
    let mut assigned = Vec::with_capacity(count);
    for (at, r) in all.iter().enumerate() {
        let root = roots[at];
        let (root, role, basis) = match echoes.get(&at) {
            Some(root) => (*root, "echo", "cover"),
            None if root == at => (root, "anchor", "own"),
            None if r.kind == "block" && all[root].kind != "block" => (root, "echo", basis[at]),
            None => (root, "same", basis[at]),
        };
        assigned.push(Assigned {
            connection: r.connection().to_owned(),
            id: r.id().to_owned(),
            booking: ids.get(&root).cloned().unwrap_or_default(),
            role,
            basis,
            removed: r.removed,
            latest: r.segments.clone(),
        });
    }
    Ok(assigned)
}

/// All reservations of mapped listings, strongest first.
fn reservations(tables: &Tables, now: i64) -> Result<Vec<Reservation>> {
    let mut listings: HashMap<(&str, &str), (&str, Option<&str>)> = HashMap::new();
    for row in rows(tables, "listings") {
        if let Some(property) = row.text("property_id")? {
            listings.insert((row.word("connection")?, row.word("listing_id")?), (property, row.text("time_zone")?));
        }
    }
    let mut removals: HashMap<(&str, &str), i64> = HashMap::new();
    for row in rows(tables, "source_removals").filter(|r| r.word("object").is_ok_and(|o| o == "reservation")) {
        removals.insert((row.word("connection")?, row.word("object_id")?), row.instant("version")?.unwrap_or_default());
    }
    let mut formers: HashMap<(&str, &str), (i64, String, String)> = HashMap::new();
    for row in rows(tables, "former_booking_sources") {
        let key = (row.word("connection")?, row.word("source_booking_id")?);
        let segment = row.int("segment")?;
        if formers.get(&key).is_none_or(|(first, ..)| segment < *first) {
            formers.insert(key, (segment, row.word("booking_id")?.to_owned(), row.word("role")?.to_owned()));
        }
    }
    let mut told: BTreeMap<(&str, &str), Vec<Row<'_>>> = BTreeMap::new();
    for row in rows(tables, "source_bookings") {
        if listings.contains_key(&(row.word("connection")?, row.word("listing_id")?)) {
            told.entry((row.word("connection")?, row.word("source_booking_id")?)).or_default().push(row);
        }
    }
    let mut all = Vec::with_capacity(told.len());
    for (key @ (connection, id), stretches) in told {
        let mut newest = i64::MIN;
        for row in &stretches {
            newest = newest.max(row.instant("version")?.unwrap_or_default());
        }
        let mut latest = Vec::new();
        for row in stretches {
            if row.instant("version")?.unwrap_or_default() == newest {
                latest.push((row.int("segment")?, row));
            }
        }
        latest.sort_by_key(|(segment, _)| *segment);
        let Some((_, head)) = latest.first().copied() else { continue };
        let mut places = Vec::with_capacity(latest.len());
        for (_, row) in &latest {
            let listing = listings.get(&(connection, row.word("listing_id")?));
            let property = listing.map_or("", |(property, _)| property);
            places.push((property.to_owned(), row.day("check_in")?, row.day("check_out")?));
        }
        let first = places.iter().map(|p| p.1).min().unwrap_or_default();
        let last = places.iter().map(|p| p.2).max().unwrap_or_default();
        let property = places.first().map(|p| p.0.clone()).unwrap_or_default();
        let zone = match head.text("time_zone")? {
            Some(zone) => Some(zone),
            None => listings.get(&(connection, head.word("listing_id")?)).and_then(|(_, zone)| *zone),
        };
        let identity = head.word("identity")?;
        let strong = identity == "strong";
        // Calendars drop what is over: that is no cancellation.
        let removed = (removals.get(&key)).is_some_and(|gone| {
            *gone >= newest && (strong || local_day(*gone, zone) < head.day("check_out").unwrap_or(0))
        });
        let status = head.word("status")?;
        let ran_out = status == "pending" && head.instant("hold_until")?.is_some_and(|until| until < now);
        let standing = match status {
            _ if removed || ran_out => Standing::Dead,
            "cancelled" | "declined" | "expired" => Standing::Dead,
            "inquiry" => Standing::Open,
            _ => Standing::Live,
        };
        let (kind, platform) = (head.word("kind")?.to_owned(), head.word("platform")?.to_owned());
        let weakness = match identity {
            "strong" => 0,
            "feed" => 1,
            _ => 2,
        };
        let code = head.text("external_code")?.map(str::to_uppercase).map(|code| match platform.as_str() {
            // An operator's own codes say something inside the property only.
            "direct" | "unknown" => format!("{property} {code}"),
            _ => format!("{platform} {code}"),
        });
        all.push(Reservation {
            order: (removed, weakness, kind == "block", standing == Standing::Dead, connection.into(), id.into()),
            removed,
            strong,
            kind,
            platform,
            code,
            standing,
            places: places.iter().cloned().chain([(property, first, last)]).collect(),
            stretches: places,
            segments: latest.iter().map(|(segment, _)| *segment).collect(),
            former: formers.remove(&key).map(|(_, booking, role)| (booking, role)),
        });
    }
    all.sort_by(|a, b| a.order.cmp(&b.order));
    Ok(all)
}

fn local_day(micros: i64, zone: Option<&str>) -> i32 {
    let zone = zone.and_then(time_zone).unwrap_or(Tz::UTC);
    DateTime::from_timestamp_micros(micros)
        .map_or(0, |instant| Date32Type::from_naive_date(instant.with_timezone(&zone).date_naive()))
}

/// Every reason to take a reservation for the same as a stronger one of another connection: weight, child, parent, the
/// weightiest first.
fn links(all: &[Reservation]) -> Vec<(u32, usize, usize)> {
    let mut by_code: HashMap<&str, Vec<usize>> = HashMap::new();
    let mut by_place: HashMap<&Place, Vec<usize>> = HashMap::new();
    let mut by_former: HashMap<&str, Vec<usize>> = HashMap::new();
    let mut weights: BTreeMap<(usize, usize), u32> = BTreeMap::new();
    for (at, child) in all.iter().enumerate() {
        let mut add = |parents: Option<&Vec<usize>>, weight: u32, fits: &dyn Fn(&Reservation) -> bool| {
            for parent in parents.into_iter().flatten() {
                let other = &all[*parent];
                if other.connection() != child.connection() && fits(other) {
                    *weights.entry((at, *parent)).or_default() |= weight;
                }
            }
        };
        if let Some(code) = child.code.as_deref() {
            add(by_code.get(code), CODE, &|_| true);
            by_code.entry(code).or_default().push(at);
        }
        for place in &child.places {
            add(by_place.get(place), DATES, &|other| {
                let live = child.standing == Standing::Live && other.standing == Standing::Live;
                let dead = child.standing == Standing::Dead && other.standing == Standing::Dead;
                (live || (dead && child.strong && other.strong)) && !child.differs(other)
            });
            by_place.entry(place).or_default().push(at);
        }
        if let Some(former) = child.former() {
            add(by_former.get(former), FORMER, &|other| child.kind != "block" || other.kind == "block");
            by_former.entry(former).or_default().push(at);
        }
    }
    let mut links: Vec<(u32, usize, usize)> = weights
        .into_iter()
        .map(|((child, parent), weight)| {
            let stands = if all[parent].standing == Standing::Live { STANDS } else { 0 };
            (weight + stands, child, parent)
        })
        .collect();
    links.sort_by_key(|(weight, child, parent)| (u32::MAX - weight, *child, *parent));
    links
}

/// Blocks of calendars whose every night is taken by stronger entries of others, and the one of those that takes most.
/// Blocks that several calendars tell alike are echoes together.
fn echoes(all: &[Reservation], roots: &[usize], now: i64) -> BTreeMap<usize, usize> {
    let today = i32::try_from(now.div_euclid(86_400_000_000)).unwrap_or_default();
    let mut members: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (at, root) in roots.iter().enumerate() {
        members.entry(*root).or_default().push(at);
    }
    let mut taken: HashMap<&str, Vec<(i32, i32, usize)>> = HashMap::new();
    for (at, r) in all.iter().enumerate().filter(|(at, r)| roots[*at] == *at && r.standing == Standing::Live) {
        for (property, first, last) in &r.stretches {
            taken.entry(property).or_default().push((*first, *last, at));
        }
    }
    let closed = |at: &usize| all[*at].kind == "block" && !all[*at].strong;
    let mut covers: Vec<(usize, HashMap<usize, u32>)> = Vec::new();
    let sets = members.iter().filter(|(at, set)| all[**at].standing == Standing::Live && set.iter().all(closed));
    for (&at, set) in sets {
        let r = &all[at];
        let tellers: HashSet<&str> = set.iter().map(|member| all[*member].connection()).collect();
        let mut shares: HashMap<usize, u32> = HashMap::new();
        let mut nights = 0;
        let mut covered = 0;
        for (property, first, last) in &r.stretches {
            // Only by the stronger: two blocks that cover each other must not both be nothing but echoes.
            let others: Vec<_> = (taken.get(property.as_str()).into_iter().flatten())
                .filter(|(_, _, other)| *other < at && !tellers.contains(all[*other].connection()))
                .collect();
            for night in (*first).max(today - PAST_DAYS)..(*last).min(today + FUTURE_DAYS) {
                nights += 1;
                let mut here = others.iter().filter(|(from, to, _)| (*from..*to).contains(&night)).peekable();
                covered += u32::from(here.peek().is_some());
                for (_, _, other) in here {
                    *shares.entry(*other).or_default() += 1;
                }
            }
        }
        if nights > 0 && covered == nights {
            covers.push((at, shares));
        }
    }
    let echoing: HashSet<usize> = covers.iter().map(|(at, _)| *at).collect();
    covers
        .into_iter()
        .filter_map(|(at, shares)| {
            let best = shares.into_iter().filter(|(other, _)| !echoing.contains(other));
            let (root, _) = best.max_by_key(|(other, nights)| (*nights, usize::MAX - other))?;
            Some(members.get(&at)?.iter().map(move |member| (*member, root)))
        })
        .flatten()
        .collect()
}

/// The id of each set: that of the booking whose strongest source it has, else a new one.
fn booking_ids(all: &[Reservation], roots: &[usize], echoes: &BTreeMap<usize, usize>) -> BTreeMap<usize, String> {
    let mut claims: BTreeMap<usize, &str> = BTreeMap::new();
    for (at, r) in all.iter().enumerate() {
        let echo = echoes.contains_key(&at) || (r.kind == "block" && all[roots[at]].kind != "block");
        if let (false, Some(former)) = (echo, r.former()) {
            // Reservations are in order of strength, and a set's first is its root.
            claims.entry(roots[at]).or_insert(former);
        }
    }
    let mut granted: BTreeMap<&str, usize> = BTreeMap::new();
    for (root, claim) in &claims {
        let right = |root: usize| {
            let r = &all[root];
            (r.former() != Some(*claim), !r.was_anchor(), root)
        };
        let holder = granted.entry(claim).or_insert(*root);
        if right(*root) < right(*holder) {
            *holder = *root;
        }
    }
    let mut ids = BTreeMap::new();
    for root in roots.iter().copied().collect::<BTreeSet<_>>() {
        let r = &all[root];
        let claim = claims.get(&root).filter(|claim| granted.get(*claim) == Some(&root));
        let fresh = || {
            let parts = ["booking", r.connection(), r.id(), "again"];
            let id = stable_id(&parts[..3]);
            if granted.contains_key(id.as_str()) { stable_id(&parts) } else { id }
        };
        ids.insert(root, claim.map_or_else(fresh, |claim| (*claim).to_owned()));
    }
    ids
}

/// The answer as a table.
pub(super) fn batch(assigned: &[Assigned]) -> Result<RecordBatch> {
    let rows: Vec<Vec<String>> = assigned
        .iter()
        .flat_map(|a| {
            a.latest.iter().map(|segment| {
                let removed = if a.removed { "true" } else { "false" };
                let words = [&a.connection, &a.id, &segment.to_string(), &a.booking];
                words.into_iter().cloned().chain([a.role, a.basis, removed].map(str::to_owned)).collect()
            })
        })
        .collect();
    text_batch(ASSIGNMENTS, &rows)
}
