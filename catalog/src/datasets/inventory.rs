//! The canonical inventory tables: what a property has to let, at which price, with which fees.
//!
//! All of them but the account-wide lists are snapshots per property: one slice holds a property whole.

use crate::Dataset;
use crate::dataset::{Column, count, date, flag, float, int, json, money, text};

fn property_id() -> Column {
    text("property_id", "the property's id at its vendor; for ResMan a GUID in lower case").key()
}

fn unit_number() -> Column {
    text("unit_number", "the unit's number as people know it, unique inside its property")
}

fn currency() -> Column {
    text("currency", "ISO 4217 code of every amount in the row").required()
}

fn value_sources() -> Column {
    json("value_sources", "which vendor list each merged value came from, as an object of column to list")
}

fn address() -> [Column; 4] {
    [
        text("street", "street and number"),
        text("city", "city"),
        text("state", "state or province code"),
        text("postal_code", "postal code"),
    ]
}

/// The canonical datasets.
pub fn all() -> Vec<Dataset> {
    vec![
        Dataset::new("account_properties", "One property that a vendor account lists, whether or not its inventory could be read.")
            .columns([
                text("connection", "the connection whose account lists it").key(),
                text("property_id", "the property's id").key(),
                text("name", "its name in the account").required(),
                text("account_id", "the vendor account's id"),
                text("time_zone", "IANA time zone, when the account list tells it"),
            ])
            .scope("connection"),
        Dataset::new("properties", "One property with its address, contact and web links.")
            .columns([
                property_id(),
                text("name", "the name that people see").required(),
                text("abbreviation", "the operator's short name"),
                text("kind", "the vendor's property type, such as Multi-Family"),
            ])
            .extend(address())
            .extend([
                text("country", "ISO 3166-1 alpha-2 code"),
                text("phone", "office phone in E.164, or as written when it is not a valid number"),
                text("email", "office e-mail in canonical form"),
                text("website", "public web site"),
                text("application_url", "where to apply for a unit"),
                text("time_zone", "IANA time zone of the property"),
                float("latitude", "degrees north"),
                float("longitude", "degrees east"),
                text("structure_type", "building style as the feed states it"),
                int("unit_count", "number of units that the property says it has"),
                int("year_built", "year of construction"),
                json("office_hours", "opening hours as a list of day, open, close"),
                text("description", "short marketing text"),
                value_sources(),
            ])
            .scope("property_id"),
        Dataset::new("buildings", "One building of a property.")
            .columns([
                property_id(),
                text("building", "the building's name or number").key(),
                text("building_id", "the vendor's id"),
                text("description", "free text"),
                int("floors", "number of floors"),
                int("unit_count", "number of units in it"),
            ])
            .scope("property_id"),
        Dataset::new("floorplans", "One floor plan, also called unit type, of a property.")
            .columns([
                property_id(),
                text("floorplan_code", "the unit-type code, unique inside the property").key(),
                text("name", "the marketing name"),
                text("floorplan_id", "the vendor's id"),
                count("bedrooms", "number of bedrooms, 0 for a studio"),
                count("bathrooms", "number of bathrooms"),
                int("square_feet_min", "smallest floor area in square feet"),
                int("square_feet_max", "largest floor area in square feet"),
                int("unit_count", "number of units of this plan"),
                int("units_available", "number of them that the feed says are available"),
                money("market_rent_min", "lowest list rent a month; null is unknown"),
                money("market_rent_max", "highest list rent a month; null is unknown"),
                money("deposit", "deposit that the plan requires"),
                currency(),
                int("maximum_occupancy", "how many people may live there"),
                text("description", "free text"),
                text("image_url", "drawing of the plan"),
                value_sources(),
            ])
            .scope("property_id"),
        Dataset::new("units", "One unit of a property, merged from every list that knows it.")
            .columns([
                property_id(),
                unit_number().key(),
                text("unit_id", "the vendor's id; the marketing feed has none"),
                text("unit_name", "the number on the door; some feeds number units by an id of their own"),
                text("building", "building name or number"),
                text("floor", "floor as the vendor names it"),
                text("floorplan_code", "the unit-type code"),
                text("floorplan_name", "the unit type's marketing name"),
                count("bedrooms", "number of bedrooms, 0 for a studio"),
                count("bathrooms", "number of bathrooms"),
                int("square_feet", "floor area in square feet"),
                money("market_rent", "list rent a month; null is unknown, never free"),
                money("effective_rent_min", "lowest rent a month over all terms, as the feed states it; null is unknown"),
                money("effective_rent_max", "highest rent a month over all terms, as the feed states it; null is unknown"),
                currency(),
            ])
            .extend(address())
            .extend([
                text("economic_status", "MITS economic status in lower snake case, such as residential, model, down"),
                text("occupancy_status", "MITS occupancy status: occupied or vacant"),
                text("leased_status", "MITS leased status in lower snake case, such as available, on_notice, leased"),
                text("vacancy_status", "ResMan v2 vacancy status in lower snake case"),
                text("make_ready_status", "ResMan v2 make-ready status in lower snake case"),
                flag("marketed", "whether the operator markets it online"),
                flag("excluded", "whether it is excluded from occupancy figures"),
                flag("affordable", "whether it is an income-restricted unit"),
                flag("holding", "whether it is a holding unit, not a real one"),
                value_sources(),
            ])
            .scope("property_id"),
        Dataset::new("unit_availability", "Whether a unit can be let, from when, and which rules say so.")
            .columns([
                property_id(),
                unit_number().key(),
                flag("available", "whether it may be offered: every rule that could judge says yes").required(),
                date("available_on", "first day it can be moved into; a past day means now"),
                text("agreement", "agreed, disputed (rules differ, so it is not offered), single (only one rule could judge) or none (no rule could, so it is not offered)").required(),
                flag("rule_status", "rule 1: residential and (vacant and available, or occupied and on notice); null without statuses"),
                flag("rule_made_ready", "rule 2: the marketing feed carries a made-ready date; null when the feed has no availability for the unit"),
                flag("rule_v2", "rule 3: ResMan v2 markets it, it is ready or being made ready, and vacant or on notice; null without v2"),
                date("vacate_on", "day the present household leaves"),
                date("made_ready_on", "day it is ready to move in"),
                text("reason", "why it is not offered, in words; null when it is"),
            ])
            .scope("property_id"),
        Dataset::new("offer_terms", "The rent of one unit for one lease term and move-in window.")
            .columns([
                property_id(),
                unit_number().key(),
                text("offer_id", "term and window in one word: `12`, `12@2026-08-01..2026-08-15`").key(),
                int("lease_term_months", "length of the lease in months").required(),
                date("move_in_from", "first move-in day of the window; null is open"),
                date("move_in_until", "last move-in day of the window; null is open"),
                money("offered_rent", "rent a month as offered; null is unknown, never free"),
                money("concession_monthly", "what the active concessions take off a month, spread over the term"),
                money("effective_rent", "offered rent less the monthly share of concessions that are not already in it"),
                flag("concessions_included", "whether the vendor had worked concessions into the offered rent"),
                currency(),
            ])
            .scope("property_id"),
        Dataset::new("concessions", "One concession: a discount that a property offers.")
            .columns([
                property_id(),
                text("concession_id", "made from place and content, stable while the vendor states the same").key(),
                text("applies_to", "property, floorplan or unit").required(),
                text("floorplan_code", "the floor plan it is limited to"),
                unit_number(),
                flag("active", "whether the vendor marks it active").required(),
                flag("current", "active, and today is inside its dates").required(),
                money("value", "amount; the vendor does not say of which sign or period, so read the header beside it"),
                int("lease_term_months", "lease length it asks for"),
                date("starts_on", "first day"),
                date("ends_on", "last day"),
                text("header", "what it says in one line"),
                text("body", "what it says at length"),
                currency(),
            ])
            .scope("property_id"),
        Dataset::new("fees", "One charge besides rent: fee, deposit, pet, parking, amenity or rentable item.")
            .columns([
                property_id(),
                text("fee_id", "made from origin and place, stable while the vendor states the same fee").key(),
                text("origin", "the vendor list that states it").required(),
                text("name", "what it is called").required(),
                text("category", "application, admin, deposit, hold, broker, late, pet, parking, storage, utility, insurance, amenity, rentable_item or other").required(),
                money("amount", "the amount; null when it is a range or unknown"),
                money("amount_min", "lower end of a range"),
                money("amount_max", "upper end of a range"),
                count("percent", "percentage, when the fee is one"),
                count("rent_multiple", "months of the unit's rent, when the fee is stated so"),
                currency(),
                text("frequency", "one_time, monthly, daily, annual, per_occurrence or unknown").required(),
                text("requirement", "required, optional or situational").required(),
                flag("refundable", "whether it is given back; null is unknown"),
                money("refundable_amount", "how much of it is given back"),
                text("applies_to", "property, floorplan, unit, pet, parking or rentable_item").required(),
                text("floorplan_code", "the floor plan it is limited to"),
                unit_number(),
                flag("third_party", "whether someone else charges it"),
                flag("taxable", "whether tax comes on top"),
                text("condition", "when it falls due, in the vendor's words"),
            ])
            .scope("property_id")
            .origin("origin"),
        Dataset::new("amenities", "One amenity of a property, floor plan or unit.")
            .columns([
                property_id(),
                text("amenity_key", "made from origin, place and name").key(),
                text("origin", "the vendor list that states it").required(),
                text("name", "what it is").required(),
                text("kind", "the vendor's type"),
                text("applies_to", "property, floorplan or unit").required(),
                text("floorplan_code", "the floor plan that has it"),
                unit_number(),
                text("description", "free text"),
            ])
            .scope("property_id")
            .origin("origin"),
        Dataset::new("employees", "One person of a property's team, as the vendor lists them.")
            .columns([
                property_id(),
                text("employee_id", "the vendor's id of the person").key(),
                text("agent_id", "the v1 id that leads name as their agent"),
                text("given_name", "given name").sensitive(),
                text("family_name", "family name").sensitive(),
                text("display_name", "the name as the vendor writes it").sensitive(),
                text("email", "e-mail in canonical form").sensitive(),
                text("phone", "phone in E.164").sensitive(),
                text("role", "security group"),
                flag("leasing", "whether they lease"),
                flag("active", "whether they still work there").required(),
            ])
            .scope("property_id"),
        Dataset::new("lead_sources", "One answer to how did you hear about us, as a property has it set up.")
            .columns([
                property_id(),
                text("lead_source_id", "the vendor's id").key(),
                text("name", "the label").required(),
            ])
            .scope("property_id"),
        Dataset::new("lost_reasons", "One reason for which a lead can be marked lost.")
            .columns([
                text("connection", "the connection whose account has it").key(),
                text("lost_reason_id", "the vendor's id").key(),
                text("name", "the label").required(),
            ])
            .scope("connection"),
        Dataset::new("transaction_categories", "One accounting category of a vendor account.")
            .columns([
                text("connection", "the connection whose account has it").key(),
                text("transaction_category_id", "the vendor's id").key(),
                text("name", "the label").required(),
                text("abbreviation", "the short label"),
                text("kind", "credit, charge, payment or deposit"),
                flag("rent", "whether it is rent"),
                flag("recurring_concession", "whether it is a monthly rent concession"),
                flag("one_time_concession", "whether it is a one-time concession"),
            ])
            .scope("connection"),
    ]
}
