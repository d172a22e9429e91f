//! Which bookings are of one guest.
//!
//! Own e-mail, phone and a connection's guest id are marks; an address that a site made for one stay is none. Bookings that
//! share a mark are of one guest, and so are those that share a mark with one of these. Marks are kept as hashes.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use arrow::array::RecordBatch;
use catalog::Result;

use super::assign::Assigned;
use super::{Tables, Union, rows, text_batch};
use crate::functions::stable_id;

/// The table of marks and whose they are.
pub const GUEST_ASSIGNMENTS: &str = "guest_assignments";

/// Every mark by which guests of these rows may be known already, as [`guest_identities`](GUEST_ASSIGNMENTS) keeps them.
pub(super) fn possible(tables: &Tables) -> Result<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    let mut add = |kind: &str, at: &str, mark: Option<&str>| all.extend(mark.map(|mark| stable_id(&[kind, at, mark])));
    for row in rows(tables, "source_bookings") {
        add("email", "", row.text("guest_email")?);
        add("phone", "", row.text("guest_phone")?);
        add("vendor", row.word("connection")?, row.text("guest_id")?);
    }
    for row in rows(tables, "source_guests") {
        add("email", "", row.text("email")?);
        add("phone", "", row.text("phone")?);
    }
    for row in rows(tables, "former_booking_sources") {
        all.extend(row.text("booking_id")?.map(|booking| stable_id(&["booking", booking])));
    }
    Ok(all)
}

/// Somebody's e-mail address and phone.
type Reach<'a> = (Option<&'a str>, Option<&'a str>);

pub(super) fn assign(tables: &Tables, assigned: &[Assigned]) -> Result<RecordBatch> {
    let bookings: HashMap<(&str, &str), &Assigned> =
        (assigned.iter()).filter(|a| a.role != "echo").map(|a| ((a.connection.as_str(), a.id.as_str()), a)).collect();
    let mut people: HashMap<(&str, &str), Reach<'_>> = HashMap::new();
    for row in rows(tables, "source_guests") {
        people.insert((row.word("connection")?, row.word("guest_id")?), (row.text("email")?, row.text("phone")?));
    }
    // By booking: kind of mark and mark.
    let mut marks: BTreeMap<&str, BTreeSet<(&'static str, String)>> = BTreeMap::new();
    for row in rows(tables, "source_bookings") {
        let connection = row.word("connection")?;
        let Some(a) = bookings.get(&(connection, row.word("source_booking_id")?)) else { continue };
        if row.word("kind")? != "stay" || !a.latest.contains(&row.int("segment")?) {
            continue;
        }
        let known = marks.entry(&a.booking).or_default();
        let mut add = |kind: &'static str, at: &str, mark: Option<&str>| {
            known.extend(mark.map(|mark| (kind, stable_id(&[kind, at, mark]))));
        };
        add("email", "", row.text("guest_email")?.filter(|_| !row.flag("guest_email_is_alias").unwrap_or(false)));
        add("phone", "", row.text("guest_phone")?);
        let guest = row.text("guest_id")?;
        add("vendor", connection, guest);
        if let Some((email, phone)) = guest.and_then(|g| people.get(&(connection, g))) {
            add("email", "", *email);
            add("phone", "", *phone);
        }
    }
    let names: Vec<&str> = marks.keys().copied().collect();
    let mut union = Union::new(names.len());
    let mut first: HashMap<&str, usize> = HashMap::new();
    for (at, known) in marks.values().enumerate() {
        for (_, mark) in known {
            let other = *first.entry(mark).or_insert(at);
            union.join(other, at);
        }
    }
    let mut former: HashMap<&str, &str> = HashMap::new();
    for row in rows(tables, "former_guest_identities") {
        former.insert(row.word("identity")?, row.word("guest_id")?);
    }
    // Who is known already comes before who is new; of several the smallest, so that every settling decides alike.
    let mut guests: HashMap<usize, (bool, String)> = HashMap::new();
    for (at, (booking, known)) in marks.iter().enumerate() {
        let root = union.find(at);
        let own = stable_id(&["booking", booking]);
        for mark in known.iter().map(|(_, mark)| mark.as_str()).chain(known.is_empty().then_some(own.as_str())) {
            let label = match former.get(mark) {
                Some(guest) => (false, (*guest).to_owned()),
                None => (true, stable_id(&["guest", mark])),
            };
            match guests.get_mut(&root) {
                Some(best) if *best <= label => {}
                Some(best) => *best = label,
                None => {
                    guests.insert(root, label);
                }
            }
        }
    }
    let mut out: BTreeMap<String, (&'static str, String)> = BTreeMap::new();
    for (at, (booking, known)) in marks.iter().enumerate() {
        let guest = guests.get(&union.find(at)).map(|(_, guest)| guest.clone()).unwrap_or_default();
        for (kind, mark) in known {
            out.insert(mark.clone(), (kind, guest.clone()));
        }
        out.insert(stable_id(&["booking", booking]), ("booking", guest));
    }
    let rows: Vec<Vec<String>> =
        out.into_iter().map(|(identity, (kind, guest))| vec![identity, kind.to_owned(), guest]).collect();
    text_batch(GUEST_ASSIGNMENTS, &rows)
}
