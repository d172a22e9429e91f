//! What closes a listing's calendar besides reservations.

use std::collections::BTreeMap;

use catalog::Result;
use chrono::{DateTime, Days, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::api::{Api, strange};
use super::facts::{at, objects, text};
use crate::http::{Cause, Refusal};
use crate::rows::Object;

/// A stretch of closed nights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Block {
    /// First night.
    pub(super) from: NaiveDate,
    /// The day behind the last night.
    pub(super) until: NaiveDate,
    /// The calendar's word for the nights.
    pub(super) status: Option<String>,
    /// Whether the vendor names it; else its id is made from listing and first night.
    pub(super) named: bool,
    /// Whether the owner keeps it for a stay of their own.
    pub(super) owner: bool,
}

/// A listing's blocks by id.
pub(super) type Blocks = BTreeMap<String, Block>;

/// The calendar's own kinds of entries that are not reservations: closed by hand, and kept for the owner.
const BY_HAND: [&str; 2] = ["m", "o"];

/// The blocks of a listing over some days; `None` when the vendor does not know the listing. `known` are those of the last
/// look: what began before the window keeps its beginning.
pub(super) async fn blocks(
    api: &Api,
    listing: &str,
    first: NaiveDate,
    days: u64,
    known: Option<&Blocks>,
) -> Result<Option<(Blocks, DateTime<Utc>)>> {
    let path = ["availability-pricing", "api", "calendar", "listings", listing];
    let last = first.checked_add_days(Days::new(days)).unwrap_or(first);
    let (from, to) = (first.to_string(), last.to_string());
    let answer = match api.get(&path, &[("startDate", &*from), ("endDate", &*to)], days_of).await {
        Ok(answer) => answer,
        Err(Refusal { cause: Cause::Status(http::StatusCode::NOT_FOUND, _), .. }) => return Ok(None),
        Err(refusal) => return Err(refusal.fault),
    };
    let mut found = Blocks::new();
    let mut run: Option<(String, Block)> = None;
    for day in &answer.body {
        let day: Object<'_> = serde_json::from_str(day.get()).map_err(|_| strange(&path[..4]))?;
        let Some(night) = text(&day, "date").and_then(|d| d.get(..10)?.parse::<NaiveDate>().ok()) else {
            return Err(strange(&path[..4]));
        };
        let Some(next) = night.succ_opt() else { continue };
        let status = text(&day, "status");
        let mut named = false;
        for entry in objects(at(&day, "blockRefs")) {
            let kind = text(&entry, "type").filter(|kind| BY_HAND.contains(&kind.as_str()));
            let (Some(kind), None) = (kind, text(&entry, "reservationId")) else { continue };
            let Some(id) = text(&entry, "_id") else { continue };
            named = true;
            // One that began before the window says when.
            let began = text(&entry, "startDate").and_then(|d| d.get(..10)?.parse().ok());
            let from = began.unwrap_or(night).min(night);
            let block = Block { from, until: next, status: status.clone(), named, owner: kind == "o" };
            found.entry(format!("{listing}:{id}")).or_insert(block).until = next;
        }
        let closed = !named && text(&day, "blocks.m").is_some_and(|flag| flag == "true");
        match run.as_mut().filter(|(_, block)| closed && block.until == night) {
            Some((_, block)) => block.until = next,
            None => {
                found.extend(run.take());
                if closed {
                    run = Some(unnamed(listing, night, next, status, first, known));
                }
            }
        }
    }
    found.extend(run);
    Ok(Some((found, answer.at)))
}

fn unnamed(
    listing: &str,
    night: NaiveDate,
    next: NaiveDate,
    status: Option<String>,
    first: NaiveDate,
    known: Option<&Blocks>,
) -> (String, Block) {
    let reaches = |b: &Block| !b.named && b.from < night && b.until >= night;
    let before = known.filter(|_| night == first).and_then(|known| known.values().find(|b| reaches(b)));
    let from = before.map_or(night, |block| block.from);
    (format!("{listing}:{from}"), Block { from, until: next, status, named: false, owner: false })
}

/// The days of a calendar; what they are wrapped in has been seen to differ.
fn days_of(body: &[u8]) -> Option<Vec<Box<RawValue>>> {
    if let Ok(days) = serde_json::from_slice(body) {
        return Some(days);
    }
    let answer: Object<'_> = serde_json::from_slice(body).ok()?;
    let days = ["data.days", "days", "data"]
        .into_iter()
        .find_map(|path| at(&answer, path).filter(|d| d.get().starts_with('[')))?;
    serde_json::from_str(days.get()).ok()
}
