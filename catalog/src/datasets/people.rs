//! Leads, the people on them and what was said; residents, and what will happen to their leases.
//!
//! Leads are told as they change: a row gives way to its own version or a newer one, and none is ever withdrawn, since being
//! left out of an answer proves nothing. Residents are snapshots per property.

use crate::Dataset;
use crate::dataset::{Column, count, date, flag, instant, int, json, money, text};

fn property_id() -> Column {
    text("property_id", "the property's id at its vendor; for ResMan a GUID in lower case").key()
}

fn lead_id() -> Column {
    text("lead_id", "the vendor's id of the lead; for ResMan the ProspectID").key()
}

fn version() -> Column {
    instant("version", "when the lead changed last at the vendor; when it was read, if the vendor does not tell")
        .required()
}

/// The datasets of leads.
pub fn leads() -> Vec<Dataset> {
    vec![
        Dataset::new("leads", "One lead of a property as its vendor has it, with its main person and what they look for.")
            .columns([
                property_id(),
                lead_id(),
                version(),
                text("status", "prospect, lost, applicant or resident").required(),
                text("raw_status", "the vendor's word for the status"),
                text("person_id", "the vendor's id of the main person"),
                text("first_name", "the main person's given name").sensitive(),
                text("last_name", "the main person's family name").sensitive(),
                text("email", "the main person's e-mail in canonical form, or as written when it is not one").sensitive(),
                text("phone", "the main person's phone in E.164, or as written when it is not a valid number").sensitive(),
                int("people", "how many people are on the lead"),
                text("source_id", "the lead source's id, as in `lead_sources`"),
                text("source_name", "its name"),
                text("agent_id", "the leasing agent's id, as `agent_id` in `employees`"),
                text("agent_name", "the leasing agent's name"),
                text("first_contact_method", "the vendor's word for how they first came"),
                instant("first_contact_at", "when they first came"),
                date("lost_on", "when it was given up"),
                text("lost_reason", "why"),
                date("move_in_on", "the day on which they want to move in"),
                text("floorplan_code", "the floor plan that they want"),
                text("unit_number", "the unit that they want, or have applied for"),
                money("rent_min", "the lowest rent a month that they look for"),
                money("rent_max", "the highest rent a month that they look for"),
                count("bedrooms_min", "the fewest bedrooms that they look for"),
                count("bedrooms_max", "the most bedrooms that they look for"),
                count("bathrooms_min", "the fewest bathrooms that they look for"),
                count("bathrooms_max", "the most bathrooms that they look for"),
                text("lease_terms", "the lease term that they want, in the vendor's words, usually months"),
                int("occupants", "how many would move in"),
                json("pets", "their pets, as a list of type, count and description"),
                text("preference_notes", "what else they want").sensitive(),
                text("lease_id", "the lease, once they have applied"),
                text("lease_status", "the vendor's word for where the lease stands"),
                date("applied_on", "the day of the application"),
                date("lease_signed_on", "the day on which the lease was signed"),
                date("moved_in_on", "the day on which they moved in"),
            ])
            .versioned_by("version"),
        Dataset::new(
            "lead_people",
            "One person on a lead: the main one, room mates, co-applicants. One whose `version` is older than the lead's has \
             been taken off it.",
        )
        .columns([
            property_id(),
            lead_id(),
            text("person_id", "the vendor's id of the person").key(),
            version(),
            int("position", "the place in the vendor's list, from 0"),
            flag("main_contact", "whether the lead is under this person's name").required(),
            text("first_name", "given name").sensitive(),
            text("middle_name", "middle name").sensitive(),
            text("last_name", "family name").sensitive(),
            text("email", "e-mail in canonical form, or as written when it is not one").sensitive(),
            text("phone", "phone in E.164, or as written when it is not a valid number").sensitive(),
            text("phone_type", "the vendor's word for the kind of phone"),
            text("household_status", "the vendor's word for the part that they have in the household"),
            flag("lease_signer", "whether they sign the lease"),
            flag("guarantor", "whether they vouch for another"),
        ])
        .versioned_by("version"),
        Dataset::new("lead_communications", "One thing that was said, done or agreed with a lead, as the vendor keeps it.")
            .columns([
                property_id(),
                lead_id(),
                text("communication_id", "the vendor's id of it").key(),
                version(),
                text("kind", "email, call, text, visit, appointment, application, lost, reactivated or other").required(),
                text("direction", "in from the person, out to them; null where that makes no sense"),
                text("raw_kind", "the vendor's word for what it is").required(),
                instant("at", "when; a time of an appointment is the appointment's"),
                text("subject", "its subject").sensitive(),
                text("message", "its text").sensitive(),
                text("agent_id", "the employee's id, as `agent_id` in `employees`"),
                flag("first_contact", "whether the lead began with it"),
            ])
            .versioned_by("version"),
    ]
}

/// The datasets of residents.
pub fn residents() -> Vec<Dataset> {
    vec![
        Dataset::new("residents", "One person who lives in a property, or has applied to, once per lease.")
            .columns([
                property_id(),
                text("lease_id", "the lease").key(),
                text("person_id", "the vendor's id of the person").key(),
                text("household_id", "what the leases of one household share"),
                text("billing_account_id", "the account that is billed"),
                text("status", "applicant or current").required(),
                text("raw_status", "the vendor's word for the status"),
                text("first_name", "given name").sensitive(),
                text("last_name", "family name").sensitive(),
                text("email", "e-mail in canonical form, or as written when it is not one").sensitive(),
                text("phone", "mobile phone, else another, in E.164, or as written").sensitive(),
                text("unit_number", "the unit"),
                text("building", "its building"),
                date("lease_starts_on", "first day of the lease"),
                date("lease_ends_on", "last day of the lease"),
                date("moved_in_on", "the day on which they moved or move in"),
                date("moves_out_on", "the day on which they leave, once that is known"),
                money("rent", "rent a month").sensitive(),
                text("currency", "ISO 4217 code of the rent").required(),
                text("household_status", "the vendor's word for the part that they have in the household"),
                flag("main_contact", "whether the household is under this person's name"),
                flag("minor", "whether they are under age"),
                text("origin", "the vendor list that the row rests on").required(),
            ])
            .scope("property_id")
            .origin("origin"),
        Dataset::new(
            "resident_events",
            "One notice, move-out, end of a lease or work order that was done, from 90 days ago to 180 days ahead.",
        )
        .columns([
            property_id(),
            text("event_id", "made of kind, person or name, unit and day").key(),
            text("kind", "move_out, notice, lease_expiration or work_order, of the one who asked for it").required(),
            date("on_date", "the day of it: of leaving, the last of the lease, or when the work was done"),
            text("person_id", "the vendor's id of the person, when the list tells it"),
            text("lease_id", "the lease, when the list tells it"),
            text("first_name", "given name").sensitive(),
            text("last_name", "family name").sensitive(),
            text("email", "e-mail in canonical form, or as written when it is not one").sensitive(),
            text("phone", "phone in E.164, or as written when it is not a valid number").sensitive(),
            text("unit_number", "the unit"),
            text("raw_status", "the vendor's word for where the lease stands"),
            text("origin", "the vendor list that told it").required(),
        ])
        .scope("property_id")
        .origin("origin"),
    ]
}

/// The stored datasets of people.
pub fn all() -> Vec<Dataset> {
    [leads(), residents()].concat()
}

/// Whether a dataset is of people: that they came whole says nothing of how fresh the property's prices are.
pub fn is_of_people(dataset: &str) -> bool {
    all().iter().any(|d| d.name == dataset)
}
