//! The stream `people`: leads of both generations, whole or as they change.
//!
//! The newer API says which leads have changed and what was said; only the older one knows what they look for, so the leads
//! that changed are looked up there too. Where the newer one is off, the older one alone is asked, window by window.
//!
//! Neither API pages, and neither promises that a change is seen in the order of its time. So each reading begins somewhat
//! before the newest change that was seen, and what comes again unchanged is known by its fingerprint and left out.

use std::collections::{BTreeMap, BTreeSet};

use catalog::{Cursor, Fault, Note, Result};
use chrono::{DateTime, DurationRound, TimeDelta, TimeZone, Utc};
use futures::{StreamExt, future, stream};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::attention::Attention;
use super::leads::{Lead, Tables};
use super::{FAILURES_IN_A_ROW, Inventory, Reading, ResMan, Trouble};
use crate::emit::Emit;
use crate::rows::id;
use crate::source::{Event, Read, Request};

/// The name of the stream.
pub(super) const STREAM: &str = "people";

/// Leads whose other half is asked for with one window of the older API, which fails when it finds too many.
const LEADS_A_WINDOW: usize = 100;
/// Leads of one window that are asked for by id instead, when no window is small enough.
const LEADS_BY_ID: usize = 1_000;
/// A window is not halved any more when it is as short as this: the API counts in seconds.
const SHORTEST_WINDOW: TimeDelta = TimeDelta::seconds(1);
/// Windows of one property in one reading.
const MOST_WINDOWS: usize = 20_000;
/// For so long after its change a lead is looked up in the older API again: a second change in the same second may leave no
/// trace in the newer one.
const WARM: TimeDelta = TimeDelta::seconds(3);
/// For so long the list of properties is believed, and that an endpoint is off.
const BELIEVED: TimeDelta = TimeDelta::minutes(10);

/// The cursor: how far each property has been read.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
struct Place {
    /// The last property of an interrupted reading.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    after: Option<String>,
    #[serde(default)]
    marks: BTreeMap<String, Mark>,
}

/// How far a property has been read.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
struct Mark {
    /// The newest change that was seen, on the vendor's clock.
    at: Option<DateTime<Utc>>,
    /// The leads that changed shortly before, which come again.
    seen: BTreeMap<String, Seen>,
}

/// A lead as it was seen last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Seen {
    at: Option<DateTime<Utc>>,
    /// The fingerprint of what the API said that is asked first.
    first: u64,
    /// That of both together.
    both: u64,
    /// Until when the other API is asked again.
    warm_until: DateTime<Utc>,
}

/// What is believed for a while.
#[derive(Debug, Default)]
pub(super) struct Beliefs {
    properties: Option<(DateTime<Utc>, BTreeSet<String>)>,
    newer_off: Option<DateTime<Utc>>,
    attention: Attention,
}

/// The part of a property's leads that is wanted.
enum Range {
    /// From an instant on, `None` from the beginning, without those that were seen.
    Since(Mark),
    /// Those whose last change lies in between.
    Between(DateTime<Utc>, DateTime<Utc>),
}

impl ResMan {
    pub(super) async fn people(&self, request: Request, mut emit: Emit) -> Result<()> {
        let resumed: Option<Place> = request.resume.map(|cursor| cursor.read()).transpose()?;
        let (mut place, changes) = match &request.read {
            Read::Changes { since } => {
                let since = since.as_ref().map(Cursor::read::<Place>).transpose()?.unwrap_or_default();
                // What an earlier reading had come to says nothing of this one.
                (resumed.unwrap_or(Place { after: None, ..since }), true)
            }
            Read::Snapshot | Read::Backfill { .. } => (resumed.unwrap_or_default(), false),
            Read::Objects { .. } => return Err(Fault::us("`resman` was asked for leads by their ids")),
        };
        let mut reading = Reading::default();
        let listed = self.listed().await.map_err(|t| t.fault("Account/GetProperties"))?;
        let only: BTreeSet<String> = request.only.iter().map(|p| id(p).into_owned()).collect();
        let wanted = |p: &String| {
            (only.is_empty() || only.contains(p)) && (self.properties.is_empty() || self.properties.contains(p))
        };
        let mut ahead: BTreeSet<&String> =
            listed.iter().chain(&only).chain(&self.properties).filter(|p| wanted(p)).collect();
        // A reading on from a cursor need not ask about everybody at once: the next one goes on.
        let in_turn = changes && place.after.is_none() && !place.marks.is_empty() && only.is_empty();
        let after = place.after.clone();
        ahead.retain(|p| after.as_ref().is_none_or(|after| *p > after));
        emit.event(Event::Ahead(ahead.len() as u64)).await?;
        let began = Instant::now();
        let ahead: Vec<String> = ahead.into_iter().cloned().collect();
        let (ahead, patience) =
            if in_turn { self.beliefs.lock().await.attention.order(ahead, began) } else { (ahead, None) };
        let asked = ahead.into_iter().map(|property| {
            let range = match &request.read {
                Read::Backfill { from, until } => Range::Between(*from, *until),
                Read::Changes { .. } => Range::Since(place.marks.get(&property).cloned().unwrap_or_default()),
                _ => Range::Since(Mark::default()),
            };
            (property, range)
        });
        // As many at once as the account allows; they come in their order.
        let asked: Vec<(String, Range)> = asked.collect();
        let listed = &listed;
        let mut answers = stream::iter(asked)
            .take_while(|_| future::ready(patience.is_none_or(|patience| began.elapsed() < patience)))
            .map(|(property, range)| async move {
                let mut own = Reading::default();
                let read = match listed.contains(&property) {
                    true => self.leads(&property, &range, &mut own).await,
                    false => Err(Trouble::Scope(
                        Fault::user("the account does not list this property")
                            .hint("Check the id, and whether the partner still has access to the property."),
                    )),
                };
                (property, own, read)
            })
            .buffered(self.parallel);
        let mut failures = 0;
        while let Some((property, own, read)) = answers.next().await {
            reading.merge(own);
            if changes {
                let news = matches!(&read, Ok((found, _)) if !found.rows.is_empty());
                self.beliefs.lock().await.attention.asked(&property, news && in_turn, Instant::now());
            }
            let mut moved = !changes;
            match read {
                Ok((found, mark)) => {
                    failures = 0;
                    moved |= !found.rows.is_empty() || !place.marks.contains_key(&property);
                    if changes && moved {
                        place.marks.insert(property.clone(), mark);
                    }
                    if moved {
                        self.hand_out(found, "property_id", property.clone(), &mut reading, &mut emit).await?;
                    }
                }
                Err(Trouble::Stop(fault)) => return Err(fault),
                Err(trouble) => {
                    let fault = trouble.fault("the property").at(format!("property `{property}`"));
                    failures += usize::from(fault.is_retryable());
                    if failures >= FAILURES_IN_A_ROW {
                        return Err(fault
                            .hint(format!("{failures} properties failed one after another: the vendor may be down.")));
                    }
                    emit.event(Event::Failed { scope: property.clone(), fault }).await?;
                }
            }
            if moved {
                // Whoever is asked in turn has no place in the order of ids: what was not reached comes with the next reading.
                place.after = (!in_turn).then(|| property.clone());
                emit.event(Event::Checkpoint(Cursor::of(&place)?)).await?;
            }
        }
        drop(answers);
        if changes {
            self.beliefs.lock().await.attention.ended(began, Instant::now());
        }
        for note in reading.notes.drain(..) {
            emit.event(Event::Note(note)).await?;
        }
        Ok(())
    }

    /// The properties of the account, which are asked for now and then only: a poll is one call a property.
    async fn listed(&self) -> Result<BTreeSet<String>, Trouble> {
        let now = self.clock.now();
        let mut beliefs = self.beliefs.lock().await;
        if let Some((at, listed)) = &beliefs.properties
            && now - *at < BELIEVED
        {
            return Ok(listed.clone());
        }
        let rows = self.v1_list("Account/GetProperties", "Properties", None).await?;
        let ids = rows.iter().filter_map(|row| super::datasets::Item::text(row, "PropertyID"));
        let listed: BTreeSet<String> = ids.map(|p| id(&p).into_owned()).collect();
        beliefs.properties = Some((now, listed.clone()));
        Ok(listed)
    }

    /// The leads of a property that changed, and how far it has been read behind them.
    async fn leads(&self, property: &str, range: &Range, reading: &mut Reading) -> Result<(Inventory, Mark), Trouble> {
        let now = self.clock.now();
        let overlap = TimeDelta::seconds(i64::from(self.overlap_secs));
        let (from, known) = match range {
            Range::Since(mark) => (mark.at.map(|at| (at - overlap).min(now)), mark.clone()),
            Range::Between(from, _) => (Some(*from), Mark::default()),
        };
        let inside = |lead: &Lead| match (range, lead.at) {
            (Range::Between(from, until), Some(at)) => *from <= at && at < *until,
            _ => true,
        };
        let newer = self.newer_leads(property, from, reading).await?;
        let both_sides = newer.is_some();
        let mut first = match newer {
            Some(newer) => newer,
            None => self.older_leads(property, from.unwrap_or_else(beginning), far(now)).await?,
        };
        first.retain(inside);
        // Oldest first, so that what is cut off somewhere begins again behind it.
        first.sort_by(|a, b| (a.at, &a.id).cmp(&(b.at, &b.id)));
        let due = |lead: &Lead| {
            let seen = known.seen.get(&lead.id);
            seen.is_none_or(|s| s.first != lead.fingerprint() || (both_sides && s.warm_until > now))
        };
        let wanted: Vec<&Lead> = first.iter().filter(|lead| due(lead)).collect();
        let others =
            if both_sides { self.other_halves(property, &wanted, now, reading).await? } else { BTreeMap::new() };

        let newest = first.iter().filter_map(|lead| lead.at).chain(known.at).max();
        let mut mark = Mark { at: newest, seen: BTreeMap::new() };
        let mut tables = Tables::new()?;
        for lead in &first {
            let before = known.seen.get(&lead.id);
            let mut entry = before.cloned();
            if due(lead) {
                let other = others.get(&lead.id);
                let fingerprint = lead.fingerprint();
                let both = fingerprint.rotate_left(1) ^ other.map_or(0, Lead::fingerprint);
                if before.is_none_or(|seen| seen.both != both) {
                    let (newer, older) = if both_sides { (Some(lead), other) } else { (None, Some(lead)) };
                    tables.add(newer, older)?;
                }
                let warm_until = before.filter(|s| s.first == fingerprint).map_or(now + WARM, |s| s.warm_until);
                entry = Some(Seen { at: lead.at, first: fingerprint, both, warm_until });
            }
            // An older lead is not asked for again.
            let comes_again = lead.at.is_none() || newest.is_none_or(|newest| lead.at >= Some(newest - overlap - WARM));
            if let Some(entry) = entry.filter(|_| comes_again) {
                mark.seen.insert(lead.id.clone(), entry);
            }
        }
        let mut found = Inventory::default();
        for table in [tables.newer, tables.older, tables.people, tables.events] {
            found.take(property, table)?;
        }
        Ok((found, mark))
    }

    /// Leads by the newer API; `None` when it is off.
    async fn newer_leads(
        &self,
        property: &str,
        from: Option<DateTime<Utc>>,
        reading: &mut Reading,
    ) -> Result<Option<Vec<Lead>>, Trouble> {
        const PATH: &str = "Prospects";
        let now = self.clock.now();
        let off = self.beliefs.lock().await.newer_off.is_some_and(|at| now - at < BELIEVED);
        if off {
            reading.off.insert(PATH);
        }
        if reading.off.contains(PATH) {
            return Ok(None);
        }
        let since = from.unwrap_or_else(beginning).format("%a, %d %b %Y %H:%M:%S GMT").to_string();
        let query = [("propertyId", property), ("modifiedSince", &since), ("includeCommunicationLog", "true")];
        let list = self.v2_list(PATH, "prospects", &query).await;
        let Some(items) = reading.unless_off(PATH, list)? else {
            self.beliefs.lock().await.newer_off = Some(now);
            return Ok(None);
        };
        Ok(Some(items.objects(PATH)?.iter().filter_map(Lead::of_item).collect()))
    }

    /// Leads by the older API. A window that finds more than the vendor can send is halved.
    ///
    /// # Errors
    /// Naming the window, when even the shortest one finds too many.
    async fn older_leads(
        &self,
        property: &str,
        from: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> Result<Vec<Lead>, Trouble> {
        let second = TimeDelta::seconds(1);
        let floor = |at: DateTime<Utc>| at.duration_trunc(second).unwrap_or(at);
        let mut windows = vec![(floor(from), floor(until) + second)];
        let mut found: BTreeMap<String, Lead> = BTreeMap::new();
        for _ in 0..MOST_WINDOWS {
            let Some((from, until)) = windows.pop() else { return Ok(found.into_values().collect()) };
            let text = |at: DateTime<Utc>| at.format("%Y-%m-%d %H:%M:%S+00:00").to_string();
            let (start, end) = (text(from), text(until));
            let window = [("ModifiedStartDateTime", start.as_str()), ("ModifiedEndDateTime", end.as_str())];
            match self.v1_prospects(property, &window).await {
                // Both ends of a window are part of it: a lead on the edge of two comes twice.
                Ok(leads) => found.extend(leads.into_iter().map(|lead| (lead.id.clone(), lead))),
                Err(Trouble::TooMuch(fault)) if until - from <= SHORTEST_WINDOW => {
                    return Err(Trouble::TooMuch(fault.at(format!("leads changed from {start} to {end}")).hint(
                        "More leads changed in one second than ResMan sends at once; the rest of the property waits for it.",
                    )));
                }
                Err(Trouble::TooMuch(_)) => {
                    let middle = floor(from + (until - from) / 2);
                    windows.extend([(middle, until), (from, middle)]);
                }
                Err(trouble) => return Err(trouble),
            }
        }
        Err(Trouble::Scope(Fault::remote(format!("the leads did not come in {MOST_WINDOWS} windows"))))
    }

    /// What the older API says of leads of the newer one, by their ids.
    async fn other_halves(
        &self,
        property: &str,
        leads: &[&Lead],
        now: DateTime<Utc>,
        reading: &mut Reading,
    ) -> Result<BTreeMap<String, Lead>, Trouble> {
        let mut found: BTreeMap<String, Lead> = BTreeMap::new();
        for some in leads.chunks(LEADS_A_WINDOW) {
            let times = || some.iter().filter_map(|lead| lead.at);
            if let (Some(from), Some(last)) = (times().min(), times().max()) {
                // Whoever changed since the newer API was asked is still found.
                let is_last = leads.last().is_some_and(|lead| some.last().is_some_and(|l| l.id == lead.id));
                let until = if is_last { far(now) } else { last };
                match self.older_leads(property, from, until).await {
                    Ok(leads) => found.extend(leads.into_iter().map(|lead| (lead.id.clone(), lead))),
                    Err(Trouble::Off(why)) => {
                        reading.unless_off::<()>("MITS/SearchProspects", Err(Trouble::Off(why)))?;
                        return Ok(found);
                    }
                    Err(Trouble::TooMuch(fault)) => reading.notes.push(Note {
                        topic: "window_too_large".to_owned(),
                        subject: property.to_owned(),
                        text: fault.to_string(),
                        count: 1,
                    }),
                    Err(trouble) => return Err(trouble),
                }
            }
        }
        let missing: Vec<&&Lead> =
            leads.iter().filter(|lead| !found.contains_key(&lead.id)).take(LEADS_BY_ID).collect();
        for lead in missing {
            let leads = self.v1_prospects(property, &[("ProspectID", &lead.id)]).await?;
            found.extend(leads.into_iter().map(|lead| (lead.id.clone(), lead)));
        }
        Ok(found)
    }
}

/// Before any lead.
fn beginning() -> DateTime<Utc> {
    Utc.timestamp_opt(946_684_800, 0).single().unwrap_or_default()
}

/// Behind any lead, whatever clock the vendor goes by.
fn far(now: DateTime<Utc>) -> DateTime<Utc> {
    now + TimeDelta::days(2)
}
