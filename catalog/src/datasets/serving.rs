//! The contract with the chatbot: the views of the PostgreSQL schema `serving`.
//!
//! Tables live in the schema `core` and change with the catalog. Readers see views only, each row with `as_of` (when the
//! vendor last confirmed its property) and `stale` (that is longer ago than the property's freshness limit). Both are
//! computed when the row is read, so a run that never came is visible at once. A property that its account no longer
//! lists is in no view.

use super::find;
use crate::Dataset;

/// A view of the schema `serving`.
#[derive(Debug, Clone, Copy)]
pub struct View {
    /// Its name.
    pub name: &'static str,
    /// The stored dataset below it.
    pub dataset: &'static str,
    /// What a reader should know first.
    pub about: &'static str,
}

/// The views, in the order of the documentation.
pub const VIEWS: &[View] = &[
    View {
        name: "properties",
        dataset: "properties",
        about: "Every property that is on offer, with address, contact and links.",
    },
    View {
        name: "available_units",
        dataset: "available_units",
        about: "The units that may be offered. What is not here must not be quoted.",
    },
    View {
        name: "unit_costs",
        dataset: "unit_costs",
        about: "What each available unit costs per lease term, with every required fee.",
    },
    View {
        name: "fee_schedule",
        dataset: "fee_schedule",
        about: "Every fee of a property, as numbers and as a sentence.",
    },
    View { name: "floorplans", dataset: "floorplans", about: "The floor plans of a property." },
    View {
        name: "concessions",
        dataset: "concessions",
        about: "The discounts of a property; quote only those with `current`.",
    },
    View { name: "amenities", dataset: "amenities", about: "What a property, plan or unit has." },
    View { name: "price_history", dataset: "price_history", about: "How prices moved." },
    View {
        name: "bookings",
        dataset: "bookings",
        about: "Every stay, block, hold and owner's stay, agreed over all channels. Cancelled ones stay.",
    },
    View {
        name: "booking_calendar",
        dataset: "calendar_days",
        about: "Each night of a property and what it rests on. Offer only what is `free`; a `conflict` needs a person.",
    },
    View {
        name: "listings",
        dataset: "listings",
        about: "The listings of every channel and the property behind each.",
    },
];

/// A view that is a question of its own.
#[derive(Debug, Clone, Copy)]
pub struct Query {
    /// Its name.
    pub name: &'static str,
    /// What a reader should know first.
    pub about: &'static str,
    /// Its columns in order: name, meaning, whether it is personal.
    pub columns: &'static [(&'static str, &'static str, bool)],
    /// The question, with stored datasets in braces. One that is for the lake too keeps to what PostgreSQL, DataFusion and
    /// DuckDB have in common.
    pub sql: &'static str,
    /// Whether the lake has it too.
    pub lake: bool,
}

impl Query {
    /// The question over tables of these names.
    pub fn over(&self, table: impl Fn(&str) -> String) -> String {
        let mut sql = String::with_capacity(self.sql.len());
        let mut rest = self.sql;
        while let Some((before, after)) = rest.split_once('{') {
            let (name, tail) = after.split_once('}').unwrap_or((after, ""));
            sql.push_str(before);
            sql.push_str(&table(name));
            rest = tail;
        }
        sql.push_str(rest);
        sql
    }

    /// The stored datasets that it reads.
    pub fn inputs(&self) -> Vec<&'static str> {
        self.sql.split('{').skip(1).filter_map(|part| part.split_once('}')).map(|(name, _)| name).collect()
    }
}

/// The questions, in the order of the documentation.
pub const QUERIES: &[Query] = &[
    Query {
        name: "guests",
        about: "Everyone who stays or stayed, with their bookings.",
        columns: &[
            ("guest_id", "propflow's id", false),
            ("name", "full name", true),
            ("first_name", "given name", true),
            ("last_name", "family name", true),
            ("email", "own e-mail; never an address that a site made for one stay", true),
            ("phone", "phone in E.164", true),
            ("city", "city they live in", false),
            ("country", "country they live in", false),
            ("locale", "language tag", false),
            ("preferences", "what they like, as the operator noted", true),
            ("notes", "what the operator wrote", true),
            ("bookings", "number of bookings, cancelled ones too", false),
            ("stays", "number of stays that were not called off", false),
            ("nights", "their nights", false),
            (
                "revenue",
                "what they brought, as an object of currency to amount: the host's payout, else the total",
                false,
            ),
            ("first_check_in", "first arrival", false),
            ("last_check_out", "last departure", false),
            ("last_stay", "arrival of the latest stay that has begun", false),
            ("next_stay", "arrival of the next confirmed stay", false),
            ("booking_history", "the bookings as a list, oldest first", false),
            ("services", "services of the stays that were due or done", false),
            ("service_history", "services of the stays as a list, oldest first, planned ones too", false),
        ],
        sql: include_str!("../../views/guests.sql"),
        lake: false,
    },
    Query {
        name: "unmapped_listings",
        about: "Listings that no property is known for. Map them with `propflow map`; what waits then loads by itself.",
        columns: &[
            ("connection", "the connection that tells of it", false),
            ("listing_id", "the connection's id", false),
            ("connector", "the component that described it; null while nobody has", false),
            ("name", "the title that guests see", false),
            ("reservations", "how many rows wait", false),
            ("first_check_in", "the first night of these", false),
            ("last_check_out", "the last day of these", false),
        ],
        sql: include_str!("../../views/unmapped_listings.sql"),
        lake: true,
    },
    Query {
        name: "booking_performance",
        about: "Occupancy, average daily rate and revenue per available night, by property and month, from 90 days ago on.",
        columns: &[
            ("property_id", "the operator's property", false),
            ("month", "first day of the month", false),
            ("nights", "nights of the month that the calendar holds", false),
            ("nights_available", "nights that could be sold: all but blocked and owner's ones", false),
            ("nights_booked", "nights of stays that are not called off, holds not counted", false),
            ("occupancy", "booked by available nights, from 0 to 1", false),
            ("currency", "ISO 4217 code of the amounts; null when there are several or none", false),
            ("revenue", "amounts of the stays, spread evenly over their nights", false),
            ("adr", "revenue by booked nights with a known amount", false),
            ("revpar", "revenue by available nights", false),
            ("nights_without_amount", "booked nights whose amount nobody tells: revenue is a lower bound", false),
        ],
        sql: include_str!("../../views/booking_performance.sql"),
        lake: true,
    },
    Query {
        name: "booking_pace",
        about: "How long before arrival stays are booked and how many are called off, by property and month of arrival.",
        columns: &[
            ("property_id", "the operator's property", false),
            ("month", "first day of the month of arrival", false),
            ("bookings", "number of stays, cancelled ones too", false),
            ("cancelled", "how many were called off", false),
            ("cancellation_rate", "cancelled by all, from 0 to 1", false),
            ("lead_days", "mean days from booking to arrival", false),
            ("nights_per_stay", "mean length", false),
        ],
        sql: include_str!("../../views/booking_pace.sql"),
        lake: true,
    },
    Query {
        name: "channel_mix",
        about: "Where guests booked, by property and month of arrival.",
        columns: &[
            ("property_id", "the operator's property", false),
            ("month", "first day of the month of arrival", false),
            ("platform", "where the guest booked", false),
            ("bookings", "number of stays", false),
            ("nights", "their nights", false),
            ("currency", "ISO 4217 code of the revenue", false),
            ("revenue", "their amounts", false),
        ],
        sql: include_str!("../../views/channel_mix.sql"),
        lake: true,
    },
    Query {
        name: "upcoming_services",
        about: "What has to be done around stays: planned services, and due ones that nobody has noted as done.",
        columns: &[
            ("task_id", "the task", false),
            ("property_id", "the operator's property", false),
            ("booking_id", "the stay", false),
            ("service_type", "what is done", false),
            ("trigger_event", "what set it off", false),
            ("state", "planned or due", false),
            ("due_at", "the instant when it is due", false),
            ("due_local", "the same on the property's clocks", false),
            ("time_zone", "IANA time zone of the property", false),
            ("staff_id", "who does it; null while nobody is assigned", false),
            ("staff_name", "their name", true),
            ("service_level", "the property's level: essential, premium or elite", false),
            ("guest_name", "the guest's name", true),
            ("guest_count", "number of guests", false),
            ("check_in", "first night", false),
            ("check_out", "day of leaving", false),
            ("note", "what the asker wrote", true),
            ("cost_amount", "what it costs; null is unknown", false),
            ("cost_currency", "ISO 4217 code of the cost", false),
            ("unreached", "sides that were not told: guest, owner, staff", false),
        ],
        sql: include_str!("../../views/upcoming_services.sql"),
        lake: false,
    },
    Query {
        name: "owner_statement",
        about: "Revenue against service cost, by stay. Stays that were called off are left out.",
        columns: &[
            ("booking_id", "the stay", false),
            ("property_id", "the operator's property", false),
            ("owner_id", "whose property it is, as far as known", false),
            ("platform", "where the guest booked", false),
            ("booking_status", "confirmed, checked_in or completed", false),
            ("check_in", "first night", false),
            ("check_out", "day of leaving", false),
            ("nights", "number of nights", false),
            ("currency", "ISO 4217 code of the amounts", false),
            ("revenue", "the host's payout, else the amount of the booking; null is unknown", false),
            ("revenue_kind", "what the revenue is: host_payout, guest_total or unknown", false),
            ("services", "number of services, withdrawn ones not counted", false),
            ("service_cost", "their known costs in this currency", false),
            ("services_without_cost", "services whose cost nobody told: the cost is a lower bound", false),
            ("services_in_other_currency", "services whose cost is in another currency and not added", false),
            ("net", "revenue less service cost; null while the revenue is unknown", false),
        ],
        sql: include_str!("../../views/owner_statement.sql"),
        lake: false,
    },
    Query {
        name: "lead_scores",
        about: "How promising each lead is, 0 to 100, with the parts of the score and the reasons in words.",
        columns: &[
            ("contact_id", "the contact", false),
            ("property_id", "the operator's property", false),
            ("first_name", "given name", true),
            ("last_name", "family name", true),
            ("status", "where the person stands", false),
            ("score", "0 to 100: the sum of the six parts, limited by the status", false),
            ("completeness", "0 to 15: names, e-mail address, phone, known wishes", false),
            ("intent", "0 to 30: a tour asked for, a move that is near", false),
            ("engagement", "0 to 15: messages, questions, days", false),
            ("recency", "0 to 15: halved about every ten days since the last word", false),
            ("fit", "0 to 15: whether an available unit fits; 7 while nobody knows", false),
            ("sentiment", "0 to 10: the mood; 5 while nobody knows", false),
            ("fitting_units", "available units that fit the wishes; null while nobody knows", false),
            ("at_most", "the most that the status allows; null is no limit", false),
            ("reasons", "the parts in words", false),
            ("conversation_summary", "what the conversations say, in a few sentences", true),
            ("last_interaction", "the last time that we heard from the person", false),
            ("interaction_count", "how often we did", false),
            ("scored_at", "when the score was computed", false),
        ],
        sql: include_str!("../../views/lead_scores.sql"),
        lake: false,
    },
];

impl View {
    /// The dataset below the view.
    pub fn dataset(&self) -> Option<&'static Dataset> {
        find(self.dataset)
    }
}

/// The same for views of settled tables, which rest on several connections.
pub const SETTLED_EXTRA: &[(&str, &str, &str)] = &[
    ("as_of", "timestamptz", "when the property was last settled from what all connections say"),
    ("stale", "boolean", "whether it should have been settled since and was not: a worker is missing or fails"),
];

impl View {
    /// The columns behind those of its dataset.
    pub fn extra(&self) -> &'static [(&'static str, &'static str, &'static str)] {
        if super::bookings::is_settled(self.dataset) { SETTLED_EXTRA } else { EXTRA }
    }
}

/// The columns that views have behind those of their dataset: name, PostgreSQL type, meaning.
pub const EXTRA: &[(&str, &str, &str)] = &[
    ("as_of", "timestamptz", "when the vendor last confirmed this property's inventory"),
    (
        "stale",
        "boolean",
        "whether that is longer ago than the property's freshness limit: do not quote without checking",
    ),
];
