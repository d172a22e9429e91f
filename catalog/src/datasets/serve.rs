//! The tables that serve models compute, one property at a time, in the slice that brings the property's inventory.

use crate::Dataset;
use crate::dataset::{Column, WriteMode, count, date, flag, instant, int, json, money, text};

fn property_id() -> Column {
    text("property_id", "the property's id").key()
}

/// The served datasets.
pub fn all() -> Vec<Dataset> {
    vec![
        Dataset::new("available_units", "One unit that may be offered now. A unit that may not is not in this table.")
            .columns([
                property_id(),
                text("unit_number", "the unit's number").key(),
                text("unit_id", "the vendor's id"),
                text("unit_name", "the number on the door: what to call it"),
                text("property_name", "the property's name").required(),
                text("building", "building name or number"),
                text("floor", "floor as the vendor names it"),
                text("floorplan_code", "the unit-type code"),
                text("floorplan_name", "the unit type's marketing name"),
                count("bedrooms", "number of bedrooms, 0 for a studio"),
                count("bathrooms", "number of bathrooms"),
                int("square_feet", "floor area in square feet"),
                date("available_on", "first day it can be moved into; a past day means now"),
                money("market_rent", "list rent a month; null is unknown: say so, do not guess"),
                money("rent_from", "lowest effective rent a month over the terms that can still be moved in for; without terms as the feed states it, then the list rent; null is unknown"),
                int("rent_from_term_months", "the lease term of that rent"),
                text("currency", "ISO 4217 code of every amount in the row").required(),
                flag("affordable", "whether it is an income-restricted unit"),
                text("application_url", "where to apply for this unit"),
                json("concessions", "concessions that hold for it today, as a list of header, value, term"),
                json("amenities", "amenities of the unit, as a list of names"),
                text("agreement", "agreed or single; see unit_availability").required(),
            ])
            .scope("property_id"),
        Dataset::new(
            "unit_costs",
            "What one available unit costs for one lease term and move-in window, all required fees included.",
        )
        .columns([
            property_id(),
            text("unit_number", "the unit's number").key(),
            text("offer_id", "the term and window; `market` when the vendor prices no terms").key(),
            int("lease_term_months", "length of the lease in months; null for `market`"),
            date("move_in_from", "first move-in day of the window"),
            date("move_in_until", "last move-in day of the window"),
            money("rent", "effective rent a month; null is unknown"),
            money("required_monthly_fees", "sum of the required monthly fees").required(),
            money("total_monthly_cost", "rent plus required monthly fees; null when the rent is unknown"),
            money("required_one_time_fees", "sum of the required one-time fees that are not deposits").required(),
            money("required_deposits", "sum of the required deposits").required(),
            money(
                "total_move_in_cost",
                "first month's rent and monthly fees, one-time fees and deposits; null when the rent is unknown",
            ),
            flag("complete", "false when a required fee has no known amount: then the totals are a lower bound")
                .required(),
            json("fees", "every required fee that was counted, as a list of name, category, frequency, amount"),
            json("unknown_fees", "names of required fees without a known amount"),
            text("currency", "ISO 4217 code of every amount in the row").required(),
        ])
        .scope("property_id"),
        Dataset::new("fee_schedule", "Every fee of a property in words and numbers, required ones first.")
            .columns([
                property_id(),
                text("fee_id", "the fee's id").key(),
                int("position", "place in the list, from 1").required(),
                text("name", "what it is called").required(),
                text("category", "kind of fee; see fees").required(),
                money("amount", "the amount, or the lower end of a range"),
                money("amount_max", "the upper end of a range"),
                count("rent_multiple", "months of the unit's rent, when the fee is stated so"),
                text("currency", "ISO 4217 code").required(),
                text("frequency", "one_time, monthly, daily, annual, per_occurrence or unknown").required(),
                text("requirement", "required, optional or situational").required(),
                flag("refundable", "whether it is given back; null is unknown"),
                text("applies_to", "property, floorplan, unit, pet, parking or rentable_item").required(),
                text("floorplan_code", "the floor plan it is limited to"),
                text("unit_number", "the unit it is limited to"),
                text("statement", "the fee as one English sentence").required(),
            ])
            .scope("property_id"),
        Dataset::new(
            "price_history",
            "One price that a unit had from an instant on, kept for ever. A row is added only when something changed.",
        )
        .columns([
            property_id(),
            text("unit_number", "the unit's number").key(),
            text("offer_id", "term and window; `market` is the list rent").key(),
            instant("observed_at", "when the price was first seen").key(),
            int("lease_term_months", "length of the lease in months"),
            money("rent", "effective rent a month; null means that the price was withdrawn or unknown from here on"),
            flag("available", "whether the unit could be let then"),
            text("currency", "ISO 4217 code").required(),
        ])
        .mode(WriteMode::History)
        .versioned_by("observed_at"),
    ]
}
