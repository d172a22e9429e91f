//! The list of all models.

use std::sync::LazyLock;

use catalog::{Fault, Result};

use crate::model::Model;

/// The text of every model, in the order in which they run.
pub const TEXTS: &[&str] = &[
    include_str!("../models/normalise/account_properties.sql"),
    include_str!("../models/normalise/properties.sql"),
    include_str!("../models/normalise/buildings.sql"),
    include_str!("../models/normalise/floorplans.sql"),
    include_str!("../models/normalise/units.sql"),
    include_str!("../models/normalise/unit_availability.sql"),
    include_str!("../models/normalise/concessions.sql"),
    include_str!("../models/normalise/offer_terms.sql"),
    include_str!("../models/normalise/fees.sql"),
    include_str!("../models/normalise/amenities.sql"),
    include_str!("../models/normalise/employees.sql"),
    include_str!("../models/normalise/lead_sources.sql"),
    include_str!("../models/normalise/lost_reasons.sql"),
    include_str!("../models/normalise/transaction_categories.sql"),
    include_str!("../models/normalise/leads.sql"),
    include_str!("../models/normalise/lead_people.sql"),
    include_str!("../models/normalise/lead_communications.sql"),
    include_str!("../models/normalise/residents.sql"),
    include_str!("../models/normalise/resident_events.sql"),
    include_str!("../models/normalise/source_bookings.sql"),
    include_str!("../models/normalise/source_listings.sql"),
    include_str!("../models/normalise/source_guests.sql"),
    include_str!("../models/normalise/source_removals.sql"),
    include_str!("../models/serve/available_units.sql"),
    include_str!("../models/serve/unit_costs.sql"),
    include_str!("../models/serve/fee_schedule.sql"),
    include_str!("../models/serve/price_history.sql"),
    include_str!("../models/settle/listings.sql"),
    include_str!("../models/settle/platform_listings.sql"),
    include_str!("../models/settle/booking_sources.sql"),
    include_str!("../models/settle/guest_identities.sql"),
    include_str!("../models/settle/bookings.sql"),
    include_str!("../models/settle/booking_changes.sql"),
    include_str!("../models/settle/guests.sql"),
    include_str!("../models/settle/calendar_days.sql"),
];

static ALL: LazyLock<Result<Vec<Model>, String>> =
    LazyLock::new(|| TEXTS.iter().map(|text| Model::parse(text)).collect::<Result<_>>().map_err(|e| e.chain()));

/// All models, in the order in which they run.
///
/// # Errors
/// Only when a header is wrong, which a test rules out.
pub fn all() -> Result<Vec<&'static Model>> {
    match &*ALL {
        Ok(models) => Ok(models.iter().collect()),
        Err(error) => Err(Fault::us(error.as_str())),
    }
}

/// The models of one layer, in the order in which they run.
///
/// # Errors
/// As for [`all`].
pub fn layer(name: &str) -> Result<Vec<&'static Model>> {
    Ok(all()?.into_iter().filter(|m| m.layer == name).collect())
}
