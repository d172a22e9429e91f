//! The canonical booking tables: who stays where and when, whichever channel says so.
//!
//! `source_…` tables hold one row for what one connection says, newest version only. The settled tables are computed from
//! them over all connections of a property at once: [`settled`] lists them, [`inputs`] what their models read besides.

use crate::Dataset;
use crate::dataset::{Column, count, date, flag, float, instant, int, json, money, text};

fn connection() -> Column {
    text("connection", "the connection that tells it").key()
}

fn property_id() -> Column {
    text("property_id", "the operator's property")
}

fn version() -> Column {
    instant("version", "orders what is said about this object: the vendor's time of change, else when it was read")
        .required()
}

/// What a stay, block or hold says about its guests and money, the same for sources and bookings.
fn particulars() -> Vec<Column> {
    vec![
        int("guest_count", "number of guests, infants and pets not counted"),
        int("adults", "grown-ups"),
        int("children", "children"),
        int("infants", "infants"),
        int("pets", "pets"),
        money("total_amount", "what `amount_kind` says; null is unknown, never free"),
        text("amount_kind", "what `total_amount` is: guest_total, host_payout or unknown").required(),
        money("subtotal_amount", "what the guest pays without taxes"),
        money("tax_amount", "taxes"),
        money("host_payout", "what the host gets"),
        money("paid_amount", "what was paid so far"),
        money("balance_amount", "what is still to be paid"),
        text("currency", "ISO 4217 code of every amount in the row; null when there is none"),
    ]
}

/// What each connection says, by its own ids. A row never gives way to an older version of itself.
pub fn sources() -> Vec<Dataset> {
    vec![
        Dataset::new(
            "source_bookings",
            "One reservation, block or hold as one connection tells it, once per stretch in one listing.",
        )
        .columns([
            connection(),
            text("source_booking_id", "the connection's id of it").key(),
            int("segment", "0 for the first stretch; more when the stay goes on in another listing").key(),
            version(),
            text("connector", "the component that read it").required(),
            text("kind", "stay, block, hold or owner").required(),
            text("identity", "how far the id can be trusted: strong (the vendor's), feed (a calendar's), synthetic")
                .required(),
            text(
                "platform",
                "where the guest booked: airbnb, vrbo, booking_com, expedia, direct, …; unknown if not said",
            )
            .required(),
            text("external_code", "the confirmation code that the guest knows, as the channel writes it"),
            text("group_id", "the group that it belongs to"),
            text("listing_id", "the connection's listing").required(),
            text("parent_listing_id", "the listing that the assigned one is a part of"),
            text("guest_id", "the connection's id of the guest"),
            text("guest_name", "the guest's name").sensitive(),
            text("guest_first_name", "given name").sensitive(),
            text("guest_last_name", "family name").sensitive(),
            text("guest_email", "e-mail in canonical form").sensitive(),
            flag("guest_email_is_alias", "whether the address is one that a site made for this stay only"),
            text("guest_phone", "phone in E.164").sensitive(),
            text("guest_locale", "language tag"),
            date("check_in", "first night, local").required(),
            date("check_out", "day of leaving, local; its night is free").required(),
            text("check_in_time", "agreed time of arrival, local, as HH:MM"),
            text("check_out_time", "agreed time of leaving, local, as HH:MM"),
            text("time_zone", "IANA time zone, when the connection tells it"),
            text(
                "status",
                "inquiry, pending, confirmed, checked_in, completed, cancelled, declined, expired; unknown for a word \
                 that is not known",
            )
            .required(),
            text("raw_status", "the vendor's word"),
            text("raw_type", "the vendor's word for what it is"),
            instant("hold_until", "when the hold or request runs out"),
        ])
        .extend(particulars())
        .extend([
            text("special_requests", "what the guest asked for").sensitive(),
            text("booking_notes", "what the operator wrote").sensitive(),
            text("title", "the entry's title").sensitive(),
            instant("booked_at", "when it was booked"),
            instant("source_created_at", "when the connection first had it"),
            instant("source_updated_at", "when it changed last at the connection"),
            instant("cancelled_at", "when it was called off"),
            text("cancelled_by", "who called it off: guest, host, or the vendor's word"),
        ])
        .versioned_by("version"),
        Dataset::new("source_listings", "One listing as one connection tells it.")
            .columns([
                connection(),
                text("listing_id", "the connection's id").key(),
                version(),
                text("connector", "the component that read it").required(),
                text("parent_listing_id", "the listing that it is a part of"),
                text("property", "the property that the connection's settings name for it"),
                text("name", "the title that guests see"),
                text("nickname", "the operator's short name"),
                text("time_zone", "IANA time zone"),
                text("currency", "ISO 4217 code of its prices"),
                text("check_in_time", "usual time of arrival, local, as HH:MM"),
                text("check_out_time", "usual time of leaving, local, as HH:MM"),
                int("max_guests", "most guests"),
                count("bedrooms", "number of bedrooms"),
                count("bathrooms", "number of bathrooms"),
                text("property_type", "the vendor's word for the kind of place"),
                text("street", "street and number"),
                text("city", "city"),
                text("state", "state or province"),
                text("postal_code", "postal code"),
                text("country", "country as the vendor writes it"),
                float("latitude", "degrees north"),
                float("longitude", "degrees east"),
                flag("active", "whether it can be booked"),
                text("owner_id", "the connection's id of the owner"),
                json("channel_ids", "its id on each platform, as an object of canonical platform to id"),
                json("amenities", "what it has"),
                text("house_rules", "house rules"),
                instant("source_updated_at", "when it changed last at the connection"),
            ])
            .versioned_by("version"),
        Dataset::new("source_guests", "One guest as one connection tells it.")
            .columns([
                connection(),
                text("guest_id", "the connection's id").key(),
                version(),
                text("connector", "the component that read it").required(),
                text("name", "full name").sensitive(),
                text("first_name", "given name").sensitive(),
                text("last_name", "family name").sensitive(),
                text("email", "own e-mail in canonical form; never an address that a site made for one stay")
                    .sensitive(),
                text("email_alias", "address that a site made for one stay").sensitive(),
                text("phone", "phone in E.164").sensitive(),
                text("street", "street and number").sensitive(),
                text("city", "city"),
                text("state", "state or province"),
                text("postal_code", "postal code").sensitive(),
                text("country", "country as the vendor writes it"),
                text("locale", "language tag"),
                text("notes", "what the operator wrote").sensitive(),
                instant("source_updated_at", "when it changed last at the connection"),
            ])
            .versioned_by("version"),
        Dataset::new(
            "source_removals",
            "One object that a connection does not know any more. What it last said stays in its own table.",
        )
        .columns([
            connection(),
            text("object", "reservation, listing or guest").key(),
            text("object_id", "the connection's id of it").key(),
            version(),
            text("connector", "the component that noticed").required(),
        ])
        .versioned_by("version"),
    ]
}

/// What is agreed over all connections of a property.
pub fn settled() -> Vec<Dataset> {
    vec![
        Dataset::new(
            "listings",
            "One listing of a connection and the property behind it. Without a property nothing of it is booked: map it.",
        )
        .columns([
            connection(),
            text("listing_id", "the connection's id").key(),
            property_id(),
            text("basis", "what ties it to the property: map, settings, channel (another listing's number), own, property (it is called like it)"),
            text("connector", "the component that described it; null while nobody has"),
            text("parent_listing_id", "the listing that it is a part of"),
            text("name", "the title that guests see"),
            text("nickname", "the operator's short name"),
            text("time_zone", "IANA time zone"),
            text("check_in_time", "usual time of arrival, local, as HH:MM"),
            text("check_out_time", "usual time of leaving, local, as HH:MM"),
            int("max_guests", "most guests"),
            count("bedrooms", "number of bedrooms"),
            count("bathrooms", "number of bathrooms"),
            text("owner_id", "the connection's id of the owner"),
            json("channel_ids", "its id on each platform, as an object of platform to id"),
            flag("active", "whether it can be booked; false once the connection no longer knows it"),
        ]),
        Dataset::new("platform_listings", "One number under which a platform shows a property.").columns([
            text("platform", "the platform").key(),
            text("platform_listing_id", "the listing's id there, as text: some have 19 digits").key(),
            property_id(),
            text("connection", "the connection that told it").required(),
            text("listing_id", "that connection's listing").required(),
        ]),
        Dataset::new(
            "bookings",
            "One stay, block, hold or owner's stay in one property, whichever and however many connections tell it. \
             Cancelled ones stay.",
        )
        .columns([
            text("booking_id", "propflow's id; it stays when dates, listing, code or sources change").key(),
            property_id().required(),
            text("kind", "stay, block, hold or owner").required(),
            text(
                "booking_status",
                "inquiry, pending, confirmed, checked_in, completed, cancelled, declined, expired or unknown; arrival and \
                 departure are taken from the dates where the vendor does not tell them",
            )
            .required(),
            flag("occupies", "whether its nights are taken").required(),
            text("platform", "where the guest booked").required(),
            text("external_code", "the confirmation code that the guest knows"),
            text("connector", "the component of the strongest source").required(),
            text("connection", "the connection of the strongest source").required(),
            text("source_booking_id", "the strongest source's id of it").required(),
            text("listing_id", "the strongest source's listing").required(),
            text("identity", "strong, feed or synthetic").required(),
            int("sources", "how many connections tell it now").required(),
            date("check_in", "first night, local").required(),
            date("check_out", "day of leaving, local").required(),
            int("nights", "number of nights").required(),
            text("check_in_time", "time of arrival, local: agreed, else usual, else 16:00").required(),
            text("check_out_time", "time of leaving, local: agreed, else usual, else 11:00").required(),
            text("time_zone", "IANA time zone of the dates; UTC when nobody tells").required(),
            instant("starts_at", "the instant of arrival").required(),
            instant("ends_at", "the instant of leaving").required(),
            json("segments", "the stretches of a stay that moves, as a list of property_id, listing_id, check_in, check_out"),
            text("guest_id", "the guest, in `guests`; null for blocks"),
            text("guest_name", "the guest's name").sensitive(),
            text("guest_email", "e-mail under which this stay's guest is reached; may be a site's alias").sensitive(),
            flag("guest_email_is_alias", "whether that address is one that a site made for this stay only"),
            text("guest_phone", "phone in E.164").sensitive(),
        ])
        .extend(particulars())
        .extend([
            text("special_requests", "what the guest asked for").sensitive(),
            text("booking_notes", "what the operator wrote").sensitive(),
            text("raw_status", "the strongest source's word for the status"),
            instant("hold_until", "when the hold or request runs out"),
            instant("booked_at", "when it was booked"),
            instant("source_created_at", "when the strongest source first had it"),
            instant("source_updated_at", "when it changed last at the strongest source"),
            instant("cancelled_at", "when it was called off"),
            text("cancelled_by", "who called it off"),
            text("cancel_reason", "cancelled (the vendor says so), deleted (the vendor knows it no more) or disappeared (from a calendar)"),
            int("revision", "how many times it has changed since it was first seen, from 1").required(),
        ])
        .scope("property_id"),
        Dataset::new("booking_sources", "One source row and the booking that it tells of. Every source is kept.")
            .columns([
                connection(),
                text("source_booking_id", "the connection's id of it").key(),
                int("segment", "the stretch").key(),
                text("booking_id", "the booking").required(),
                text("property_id", "the property of its listing").required(),
                text("listing_id", "the connection's listing").required(),
                text("role", "anchor (the strongest source), same, or echo (a block that only repeats known stays)").required(),
                text("basis", "why it belongs there: own, code, dates, former or cover").required(),
                flag("latest", "false for a stretch that a newer version of the reservation no longer has").required(),
                flag("present", "whether the connection still tells it").required(),
                date("check_in", "first night, local").required(),
                date("check_out", "day of leaving, local").required(),
                text("status", "the status by this source").required(),
                instant("version", "the version of the source row").required(),
            ]),
        Dataset::new("booking_changes", "One thing that changed about a booking, kept for ever.").columns([
            text("booking_id", "the booking").key(),
            int("revision", "which change of the booking; what changed together has one number").key(),
            text("change", "created, dates, property, listing, status, kind, code, amount, guest or merged").key(),
            property_id().required(),
            text("before", "how it was; null for created"),
            text("after", "how it is"),
            instant("changed_at", "when the strongest source says that it changed").required(),
            instant("noticed_at", "when propflow settled it").required(),
        ]),
        Dataset::new(
            "guest_identities",
            "One mark by which a guest is known again, as a hash: own e-mail, phone, or a connection's guest id.",
        )
        .columns([
            text("identity", "hash of the mark").key(),
            text("kind", "email, phone, vendor or booking (a guest without any mark)").required(),
            text("guest_id", "the guest").required(),
        ]),
        Dataset::new("guests", "One person who stays or stayed. Two alias addresses of a site never make two people one.")
            .columns([
                text("guest_id", "propflow's id").key(),
                text("name", "full name").sensitive(),
                text("first_name", "given name").sensitive(),
                text("last_name", "family name").sensitive(),
                text("email", "own e-mail in canonical form").sensitive(),
                text("phone", "phone in E.164").sensitive(),
                text("city", "city they live in"),
                text("country", "country they live in"),
                text("locale", "language tag"),
                text("preferences", "what they like, as the operator noted").sensitive(),
                text("notes", "what the operator wrote").sensitive(),
            ]),
        Dataset::new(
            "calendar_days",
            "One night of a property from 90 days ago to 540 days ahead, and what it rests on.",
        )
        .columns([
            text("property_id", "the operator's property").key(),
            date("day", "the day whose night it is, local").key(),
            text("state", "free, booked, owner, held or blocked").required(),
            text("booking_id", "the booking that takes the night; when several do, the first of `booking_ids`"),
            json("booking_ids", "every booking that takes the night, stays before blocks"),
            json("sources", "every source row behind them, as connection:id"),
            flag("conflict", "whether two different stays claim the night").required(),
        ])
        .scope("property_id"),
    ]
}

/// What models of the layer `settle` read that no model makes: how the tables stood, and what was mapped by hand.
pub fn inputs() -> Vec<Dataset> {
    let mut all: Vec<Dataset> = settled()
        .into_iter()
        .filter(|d| {
            ["listings", "bookings", "booking_sources", "guest_identities", "guests"].contains(&d.name.as_str())
        })
        .map(|mut d| {
            d.about = format!("`{}` as it stood before.", d.name);
            d.name = former(&d.name);
            for column in d.columns.iter_mut().filter(|c| !c.key) {
                column.required = false;
            }
            d
        })
        .collect();
    let words = |name: &str, about: &str, columns: &str| {
        Dataset::new(name, about).columns(columns.split_whitespace().map(|c| text(c, &format!("`{c}` as decided"))))
    };
    all.push(words(
        "assignments",
        "One stretch that a reservation's newest version has, and the booking that it tells of.",
        "connection source_booking_id segment booking_id role basis removed",
    ));
    all.push(words("guest_assignments", "One mark of a guest, and whose it is.", "identity kind guest_id"));
    all.push(
        Dataset::new("settling", "One property that is settled now: its calendar is computed.").columns([text(
            "property_id",
            "the operator's property",
        )
        .key()]),
    );
    all.push(Dataset::new("listing_map", "One listing that a person tied to a property.").columns([
        connection(),
        text("listing_id", "the connection's id").key(),
        property_id().required(),
    ]));
    all.push(words(
        "named_listings",
        "One listing that only bookings of own systems mention, and the property of that name where one is loaded.",
        "connection listing_id property_id",
    ));
    all
}

/// The name under which models see a settled table as it stood before.
pub fn former(dataset: &str) -> String {
    format!("former_{dataset}")
}

/// Whether a dataset is settled: it rests on several connections, so that no single reading confirms it.
pub fn is_settled(dataset: &str) -> bool {
    settled().iter().any(|d| d.name == dataset)
}

/// The stored booking datasets.
pub fn all() -> Vec<Dataset> {
    [sources(), settled()].concat()
}
