//! The two generations of reservations behind one trait.

use std::collections::BTreeMap;
use std::fmt::Debug;

use async_trait::async_trait;
use catalog::{Fault, Result};
use chrono::{DateTime, Days, NaiveDate, SecondsFormat, TimeDelta, Utc};
use http::StatusCode;
use serde_json::json;
use serde_json::value::RawValue;

use super::api::{Api, BY_IDS, FOLIO, strange};
use super::facts::{self, COMMON, Cells, Mapping, PARTY, Reservation, Stretch, cells, text};
use crate::http::{Cause, Refusal};
use crate::rows::Object;

/// Which reservations to list.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Scope {
    /// All of them.
    All,
    /// Those that changed at or after `from` and before `until`.
    Changed { from: DateTime<Utc>, until: Option<DateTime<Utc>> },
    /// Those whose guests leave on this day or later.
    Leaving(NaiveDate),
}

/// A page in the order of ids.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) reservations: Vec<Reservation>,
    pub(super) more: bool,
}

/// One generation of the API.
#[async_trait]
pub(super) trait Reservations: Send + Sync + Debug {
    /// A page of a scope.
    async fn page(&self, api: &Api, scope: Scope, skip: usize) -> Result<Listed>;

    /// These, as they are now. One that the vendor does not know any more is left out.
    async fn by_ids(&self, api: &Api, ids: &[String]) -> Result<Vec<Reservation>>;

    /// Whether [`Scope::Changed`] finds every change. Where it finds new ones only, everything open is looked through in
    /// each reading.
    fn knows_changes(&self) -> bool;
}

/// An instant as the vendor writes it.
pub(super) fn instant(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// The legacy list, which tells guest and money too.
#[derive(Debug)]
pub(super) struct Legacy;

/// What is asked for and no more: door codes and card data do not even travel.
const FIELDS: &str = "status source integration.platform confirmationCode groupId guestStay.status reservedUntil \
    specialRequests notes.specialRequests notes.other note confirmedAt createdAt lastUpdatedAt alteredAt canceledAt \
    canceledBy guest._id guest.fullName guest.firstName guest.lastName guest.email guest.phone checkInDateLocalized \
    checkOutDateLocalized plannedArrival plannedDeparture numberOfGuests guestsCount stay money.currency \
    money.totalPrice money.subTotalPrice money.totalTaxes money.hostPayout money.totalPaid money.balanceDue";

const LEGACY: Mapping = &[
    ("platform", &["integration.platform", "source"]),
    ("guest_name", &["guest.fullName"]),
    ("guest_first_name", &["guest.firstName"]),
    ("guest_last_name", &["guest.lastName"]),
    ("guest_email", &["guest.email"]),
    ("guest_phone", &["guest.phone"]),
];

const LEGACY_DATES: Mapping = &[("check_in", &["checkInDateLocalized"]), ("check_out", &["checkOutDateLocalized"])];

/// The times that were agreed on for the whole stay.
const PLANNED: Mapping = &[("check_in_time", &["plannedArrival"]), ("check_out_time", &["plannedDeparture"])];

const LEGACY_MONEY: Mapping = &[
    ("currency", &["money.currency"]),
    ("total_amount", &["money.totalPrice"]),
    ("subtotal_amount", &["money.subTotalPrice"]),
    ("tax_amount", &["money.totalTaxes"]),
    ("host_payout", &["money.hostPayout"]),
    ("paid_amount", &["money.totalPaid"]),
    ("balance_amount", &["money.balanceDue"]),
];

fn legacy(item: &RawValue) -> Option<Reservation> {
    let object: Object<'_> = serde_json::from_str(item.get()).ok()?;
    let mut all = cells(&object, COMMON);
    all.extend(cells(&object, LEGACY));
    all.extend(facts::kind(&object).map(|kind| ("type", kind)));
    all.extend(cells(&object, PARTY));
    all.extend(cells(&object, PLANNED));
    let mut stretches = facts::stretches(facts::at(&object, "stay"));
    if let [] | [_] = stretches[..] {
        // The reservation's own listing and dates are what every account has.
        let listing = text(&object, "listingId");
        let parent = stretches.pop().and_then(|s| s.parent.or(s.listing)).filter(|p| Some(p) != listing.as_ref());
        stretches = vec![Stretch { listing, parent, cells: cells(&object, LEGACY_DATES) }];
    }
    Some(Reservation {
        id: text(&object, "_id")?,
        guest: text(&object, "guestId").or_else(|| text(&object, "guest._id")),
        cells: all,
        money: cells(&object, LEGACY_MONEY),
        stretches,
    })
}

#[async_trait]
impl Reservations for Legacy {
    async fn page(&self, api: &Api, scope: Scope, skip: usize) -> Result<Listed> {
        let filters = match scope {
            Scope::All => json!([]),
            Scope::Changed { from, until: None } => {
                json!([{ "field": "lastUpdatedAt", "operator": "$gte", "value": instant(from) }])
            }
            Scope::Changed { from, until: Some(until) } => json!([{
                "field": "lastUpdatedAt", "operator": "$between", "from": instant(from),
                // Both ends are included.
                "to": instant(until - TimeDelta::milliseconds(1)),
            }]),
            // A day more, since this is the instant and not the local day.
            Scope::Leaving(day) => json!([{
                "field": "checkOut", "operator": "$gte", "value": instant(midnight(day - Days::new(1))),
            }]),
        };
        let filters = filters.to_string();
        let query = [("filters", &*filters), ("fields", FIELDS), ("sort", "_id")];
        let page = api.page(&["reservations"], &query, skip).await.map_err(removed)?;
        let reservations: Option<Vec<_>> = page.items.iter().map(|item| legacy(item)).collect();
        Ok(Listed { reservations: reservations.ok_or_else(|| strange(&["reservations"]))?, more: page.more })
    }

    async fn by_ids(&self, api: &Api, ids: &[String]) -> Result<Vec<Reservation>> {
        let mut found = Vec::new();
        for id in ids {
            let path = ["reservations", id];
            if let (Some(object), _) = api.object(&path, &[("fields", FIELDS)]).await? {
                found.push(legacy(&object).ok_or_else(|| strange(&path))?);
            }
        }
        Ok(found)
    }

    fn knows_changes(&self) -> bool {
        true
    }
}

/// The legacy list is announced to go on 2027-03-01.
fn removed(refusal: Refusal) -> Fault {
    match refusal.cause {
        Cause::Status(StatusCode::NOT_FOUND | StatusCode::GONE, _) => {
            Fault::user("Guesty's legacy list of reservations is gone")
                .hint("Set `api = \"v3\"`.")
                .because(refusal.fault)
        }
        _ => refusal.fault,
    }
}

fn midnight(day: NaiveDate) -> DateTime<Utc> {
    day.and_time(chrono::NaiveTime::MIN).and_utc()
}

/// The newer search, by ids for what it leaves out, and the folio for money.
#[derive(Debug)]
pub(super) struct V3;

const WHOLE: Mapping = &[("platform", &["platform", "source"])];

const FOLIO_MONEY: Mapping = &[
    ("currency", &["currency"]),
    ("subtotal_amount", &["subTotalPrice"]),
    ("tax_amount", &["totalTaxes"]),
    ("host_payout", &["hostPayout"]),
];

fn whole(item: &RawValue) -> Option<Reservation> {
    let object: Object<'_> = serde_json::from_str(item.get()).ok()?;
    let mut all = cells(&object, COMMON);
    all.extend(cells(&object, WHOLE));
    all.extend(facts::kind(&object).map(|kind| ("type", kind)));
    Some(Reservation {
        id: text(&object, "_id").or_else(|| text(&object, "reservationId"))?,
        guest: text(&object, "bookerId").or_else(|| text(&object, "guestId")),
        cells: all,
        money: Cells::new(),
        stretches: facts::stretches(facts::at(&object, "stay")),
    })
}

impl V3 {
    async fn whole(&self, api: &Api, ids: &[String]) -> Result<BTreeMap<String, Reservation>> {
        let mut found = BTreeMap::new();
        for ids in ids.chunks(BY_IDS) {
            let query: Vec<(&str, &str)> = ids.iter().map(|id| ("reservationIds[]", id.as_str())).collect();
            let path = ["reservations-v3"];
            let answer = api.get(&path, &query, |body| serde_json::from_slice::<Vec<Box<RawValue>>>(body).ok()).await?;
            for item in &answer.body {
                let reservation = whole(item).ok_or_else(|| strange(&path))?;
                found.insert(reservation.id.clone(), reservation);
            }
        }
        // After a cancellation there may be no folio: then the amounts are not known.
        let ids: Vec<String> = found.keys().cloned().collect();
        for ids in ids.chunks(FOLIO) {
            let ids = ids.join(",");
            let fields = FOLIO_MONEY.iter().map(|(_, paths)| paths[0]).collect::<Vec<_>>().join(",");
            let query = [("reservationIds", &*ids), ("fields", &*fields)];
            let answer = api.get(&["guest-folio", "overview"], &query, super::api::results).await?;
            for item in &answer.body.0 {
                let Ok(object) = serde_json::from_str::<Object<'_>>(item.get()) else { continue };
                let Some(reservation) = text(&object, "reservationId").and_then(|id| found.get_mut(&id)) else {
                    continue;
                };
                reservation.money = cells(&object, FOLIO_MONEY);
            }
        }
        Ok(found)
    }
}

#[async_trait]
impl Reservations for V3 {
    async fn page(&self, api: &Api, scope: Scope, skip: usize) -> Result<Listed> {
        let (from, until) = match scope {
            Scope::Changed { from, until } => (Some(instant(from)), until.map(instant)),
            _ => (None, None),
        };
        let day = if let Scope::Leaving(day) = scope { Some(day.to_string()) } else { None };
        let mut query = vec![("sort", "_id")];
        query.extend(from.as_deref().map(|from| ("filter[createdAt][gte]", from)));
        query.extend(until.as_deref().map(|until| ("filter[createdAt][lt]", until)));
        query.extend(day.as_deref().map(|day| ("filter[checkOut][gte]", day)));
        let path = ["reservations-v3", "search"];
        let page = api.page(&path, &query, skip).await?;
        let mut lean = Vec::new();
        for item in &page.items {
            let row: Object<'_> = serde_json::from_str(item.get()).map_err(|_| strange(&path))?;
            let id = text(&row, "reservationId").or_else(|| text(&row, "_id")).ok_or_else(|| strange(&path))?;
            lean.push((id, text(&row, "guestId")));
        }
        let ids: Vec<String> = lean.iter().map(|(id, _)| id.clone()).collect();
        let mut found = self.whole(api, &ids).await?;
        // One that was deleted in between is left out here, and found missing by the next look.
        let add = |(id, guest): (String, Option<String>)| {
            let mut reservation = found.remove(&id)?;
            reservation.guest = reservation.guest.or(guest);
            Some(reservation)
        };
        Ok(Listed { reservations: lean.into_iter().filter_map(add).collect(), more: page.more })
    }

    async fn by_ids(&self, api: &Api, ids: &[String]) -> Result<Vec<Reservation>> {
        Ok(self.whole(api, ids).await?.into_values().collect())
    }

    fn knows_changes(&self) -> bool {
        false
    }
}
