//! The stream `residents`: who lives in each property or has applied to, and which leases end.

use std::collections::BTreeSet;

use catalog::{Cursor, Fault, Result};
use chrono::TimeDelta;

use super::datasets::{self, Fields};
use super::{Done, FAILURES_IN_A_ROW, Inventory, Reading, ResMan, Trouble};
use crate::emit::Emit;
use crate::rows::{Table, id};
use crate::source::{Event, Read, Request};

/// The name of the stream.
pub(super) const STREAM: &str = "residents";

/// How far the lists of events look back and ahead.
const BACK: TimeDelta = TimeDelta::days(90);
const AHEAD: TimeDelta = TimeDelta::days(180);

/// Method, list, dataset and fields of the lists of people.
const LISTS: [(&str, &str, &str, Fields); 2] = [
    ("Leasing/GetApplicantsAndCurrentResidents", "People", "resman_v1_people", datasets::V1_PEOPLE),
    ("Leasing/GetCurrentResidents", "Residents", "resman_v1_residents", datasets::V1_RESIDENTS),
];

/// Method, list and dataset of the lists of events.
const EVENTS: [(&str, &str, &str); 4] = [
    ("Events/GetMoveOuts", "MoveOuts", "resman_v1_move_outs"),
    ("Events/GetOnNotice", "OnNotices", "resman_v1_notices"),
    ("Events/GetLeaseExpirations", "Leases", "resman_v1_lease_expirations"),
    ("Events/GetCompletedWorkOrders", "WorkOrders", "resman_v1_work_orders"),
];

impl ResMan {
    pub(super) async fn residents(&self, request: Request, mut emit: Emit) -> Result<()> {
        if !matches!(request.read, Read::Snapshot) {
            return Err(Fault::user("`resman` cannot read `residents` that way")
                .hint("The older API lists residents without the time of their change: read it whole."));
        }
        let after = request.resume.map(|cursor| cursor.read::<Done>()).transpose()?.and_then(|done| done.after);
        let mut reading = Reading::default();
        let rows = self.v1_list("Account/GetProperties", "Properties", None).await;
        let rows = rows.map_err(|t| t.fault("Account/GetProperties"))?;
        let ids = rows.iter().filter_map(|row| datasets::Item::text(row, "PropertyID"));
        let listed: BTreeSet<String> = ids.map(|p| id(&p).into_owned()).collect();
        let only: BTreeSet<String> = request.only.iter().map(|p| id(p).into_owned()).collect();
        let mut ahead: BTreeSet<&String> = listed.iter().chain(&only).chain(&self.properties).collect();
        ahead.retain(|p| {
            (only.is_empty() || only.contains(*p))
                && (self.properties.is_empty() || self.properties.contains(*p))
                && after.as_ref().is_none_or(|after| *p > after)
        });
        emit.event(Event::Ahead(ahead.len() as u64)).await?;
        let mut failures = 0;
        for property in ahead {
            let read = match listed.contains(property) {
                true => self.household(property, &mut reading).await,
                false => Err(Trouble::Scope(
                    Fault::user("the account does not list this property")
                        .hint("Check the id, and whether the partner still has access to the property."),
                )),
            };
            match read {
                Ok(found) => {
                    failures = 0;
                    self.hand_out(found, "property_id", property.clone(), &mut reading, &mut emit).await?;
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
            emit.event(Event::Checkpoint(Cursor::of(&Done { after: Some(property.clone()) })?)).await?;
        }
        Ok(())
    }

    /// Everyone of a property.
    async fn household(&self, property: &str, reading: &mut Reading) -> Result<Inventory, Trouble> {
        let mut all = Inventory::default();
        for (method, list, name, fields) in LISTS {
            let mut table = Table::of(name)?;
            match self.unless_closed(method, list, property, &[], reading).await? {
                Some(rows) => super::put_all(&mut table, fields, &rows)?,
                None => all.missing.push(name),
            }
            all.take(property, table)?;
        }
        let today = self.clock.now().date_naive();
        let (from, until) = ((today - BACK).to_string(), (today + AHEAD).to_string());
        for (method, list, name) in EVENTS {
            let mut range = vec![("StartDate", from.as_str()), ("EndDate", until.as_str())];
            if method == "Events/GetMoveOuts" {
                range.push(("Statuses", "Former"));
            }
            let mut table = Table::of(name)?;
            match self.unless_closed(method, list, property, &range, reading).await {
                Ok(Some(rows)) => super::put_all(&mut table, datasets::V1_RESIDENT_EVENTS, &rows)?,
                Ok(None) => all.missing.push(name),
                // The residents are worth having without it.
                Err(Trouble::Scope(fault)) if !fault.is_retryable() => {
                    reading.note("list_failed", method, fault.to_string());
                    all.missing.push(name);
                }
                Err(trouble) => return Err(trouble),
            }
            all.take(property, table)?;
        }
        Ok(all)
    }

    /// A list of the older API, unless it is not open to this partner.
    async fn unless_closed(
        &self,
        method: &'static str,
        list: &'static str,
        property: &str,
        fields: &[(&str, &str)],
        reading: &mut Reading,
    ) -> Result<Option<Vec<super::v1::Row>>, Trouble> {
        if reading.off.contains(method) {
            return Ok(None);
        }
        let rows = self.v1_list_of(method, list, Some(property), fields).await;
        reading.unless_off(method, rows)
    }
}
