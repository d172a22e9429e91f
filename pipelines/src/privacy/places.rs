//! The registry of places: what in the tables of `sync` and `ops` can be about a person, and what becomes of it.
//!
//! Every column of these schemas that can hold text is named here, as part of a person's rows, as text in which somebody may
//! be mentioned, or as harmless. A test compares the list with the database. The tables of `core` need no list: the catalog
//! marks their columns.

use catalog::Result;
use catalog::store::pg::fault;
use sqlx::PgPool;

/// What becomes of a person's rows.
#[derive(Debug, Clone, Copy)]
pub enum Deed {
    /// They go.
    Delete,
    /// They stay without the person: SQL that sets the columns, and these columns.
    Set(&'static str, &'static [&'static str]),
    /// Code of its own looks into these columns.
    Own(&'static [&'static str]),
    /// There are none: no row of it is one person's.
    Nobody,
}

/// A table.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// Its schema and name.
    pub table: &'static str,
    /// SQL over the alias `t` that finds the person's rows.
    pub find: &'static str,
    /// What becomes of them.
    pub deed: Deed,
    /// Columns in which others' rows may mention a person; the mention is replaced.
    pub swept: &'static [&'static str],
    /// Columns that never hold anything of a person.
    pub harmless: &'static [&'static str],
}

const fn of(table: &'static str, find: &'static str, deed: Deed) -> Place {
    Place { table, find, deed, swept: &[], harmless: &[] }
}

const fn harmless(table: &'static str) -> Place {
    of(table, "false", Deed::Nobody)
}

impl Place {
    const fn swept(mut self, columns: &'static [&'static str]) -> Self {
        self.swept = columns;
        self
    }

    const fn harmless(mut self, columns: &'static [&'static str]) -> Self {
        self.harmless = columns;
        self
    }

    /// Whether a column is accounted for.
    pub fn names(&self, column: &str) -> bool {
        let own = match self.deed {
            Deed::Delete => false,
            Deed::Set(_, columns) | Deed::Own(columns) => columns.contains(&column),
            Deed::Nobody => self.swept.is_empty() && self.harmless.is_empty(),
        };
        own || self.swept.contains(&column) || self.harmless.contains(&column)
    }
}

const OF_CONTACT: &str = "t.contact_id in (select id from pg_temp.gdpr_contacts)";
const REACHED: &str = "lower(t.email) in (select value from pg_temp.gdpr_values where kind = 'email') \
    or (t.email is null and t.phone in (select value from pg_temp.gdpr_values where kind = 'phone'))";
const OUTBOX: &str = "(t.lane in (select id::text from pg_temp.gdpr_contacts) \
    or (t.lane like '%/guest' and left(t.lane, -6) in (select value from pg_temp.gdpr_values where kind = 'stay')) \
    or lower(t.payload ->> 'to') in (select value from pg_temp.gdpr_values where kind in ('email', 'phone')))";

/// Every table of `sync` and `ops`, in the order in which rows go.
pub const PLACES: &[Place] = &[
    of(
        "sync.outbox_tries",
        "t.outbox_id in (select t.id from sync.outbox t where (t.lane in (select id::text from pg_temp.gdpr_contacts) \
         or (t.lane like '%/guest' and left(t.lane, -6) in (select value from pg_temp.gdpr_values where kind = 'stay')) \
         or lower(t.payload ->> 'to') in (select value from pg_temp.gdpr_values where kind in ('email', 'phone'))))",
        Deed::Set("reason = null", &["reason"]),
    )
    .swept(&["reason"])
    .harmless(&["outcome"]),
    of(
        "sync.outbox",
        OUTBOX,
        Deed::Set(
            "payload = '{}', reply = null, hint = null, \
             reason = case when t.state = 'waiting' then 'the person was erased on request' end, \
             settled_at = coalesce(t.settled_at, now()), \
             state = case when t.state = 'waiting' then 'withdrawn' else t.state end",
            &["payload", "reply", "reason", "hint"],
        ),
    )
    .swept(&["payload", "reply", "reason", "hint"])
    .harmless(&["courier", "connection", "lane", "kind", "dedupe_key", "state"]),
    of(
        "sync.notifications",
        "t.audience = 'guest' and (lower(t.recipient) in (select value from pg_temp.gdpr_values where kind in ('email', 'phone')) \
         or exists (select from sync.service_tasks s join pg_temp.gdpr_values v on v.kind = 'stay' and v.value = s.booking_id \
           where starts_with(t.dedupe_key, 'service/' || s.task_id || '/')))",
        Deed::Delete,
    )
    .swept(&["subject", "body"])
    .harmless(&["dedupe_key", "audience", "recipient", "property_id"]),
    of(
        "sync.service_tasks",
        "t.note is not null and t.booking_id in (select value from pg_temp.gdpr_values where kind = 'stay')",
        Deed::Set("note = null", &["note"]),
    )
    .swept(&["note", "reason"])
    .harmless(&[
        "booking_id",
        "rule_id",
        "request",
        "property_id",
        "service_type",
        "staff_id",
        "state",
        "cost_currency",
        "unreached",
    ]),
    of(
        "sync.events",
        "t.data <> '{}' and (t.key in (select id::text from pg_temp.gdpr_contacts) \
         or t.data ->> 'contact_id' in (select id::text from pg_temp.gdpr_contacts))",
        Deed::Set("data = '{}'", &["data"]),
    )
    .swept(&["data"])
    .harmless(&["topic", "property_id", "kind", "key"]),
    of(
        "sync.audit_log",
        "(t.before is not null or t.after is not null) \
         and exists (select from pg_temp.gdpr_contacts c where position(c.id::text in t.subject) > 0 \
           or position(c.id::text in coalesce(t.after::text, '')) > 0)",
        Deed::Set("before = null, after = null", &["before", "after"]),
    )
    .swept(&["before", "after", "reason"])
    .harmless(&["actor", "action", "subject"]),
    of("sync.contact_history", OF_CONTACT, Deed::Delete)
        .swept(&["before", "after"])
        .harmless(&["field", "source", "actor", "rule"]),
    of("sync.conflicts", OF_CONTACT, Deed::Delete)
        .swept(&["base_value", "domiq_value", "resman_value"])
        .harmless(&["property_id", "field", "rule", "chosen", "state", "settled_by"]),
    of(
        "sync.merges",
        "t.primary_id in (select id from pg_temp.gdpr_contacts) or t.secondary_id in (select id from pg_temp.gdpr_contacts)",
        Deed::Delete,
    )
    .swept(&["before", "reason", "evidence"])
    .harmless(&["property_id", "state", "decided_by"]),
    of("sync.contact_enrichment_log", OF_CONTACT, Deed::Delete)
        .swept(&["enriched_data"])
        .harmless(&["content", "enrichment_type", "fallback", "reader", "source"]),
    of("sync.lead_scores", OF_CONTACT, Deed::Delete).swept(&["reasons"]).harmless(&["property_id"]),
    of("sync.interactions", OF_CONTACT, Deed::Delete)
        .swept(&["message"])
        .harmless(&["conversation_id", "external_id", "kind", "direction"]),
    of("sync.contact_keys", OF_CONTACT, Deed::Delete),
    of("sync.contact_sync", "t.user_id in (select id from pg_temp.gdpr_contacts)", Deed::Delete)
        .swept(&["reason"])
        .harmless(&["property_id", "resman_contact_id", "resman_person_id", "sync_status", "heard"]),
    // Own addresses and phones of others are theirs, even where somebody shares them.
    of("sync.contacts", "t.id in (select id from pg_temp.gdpr_contacts)", Deed::Delete)
        .swept(&["notes", "preferences", "enrichment"])
        .harmless(&[
            "property_id",
            "first_name",
            "last_name",
            "email",
            "phone",
            "status",
            "source",
            "aliases",
            "provenance",
            "base",
            "pushed",
            "lead_score_parts",
        ]),
    of(
        "sync.staff",
        REACHED,
        Deed::Set("name = 'erased', email = null, phone = null, active = false", &["name", "email", "phone"]),
    )
    .harmless(&["staff_id", "property_id", "service_types", "channel"]),
    of("sync.owners", REACHED, Deed::Set("name = 'erased', email = null, phone = null", &["name", "email", "phone"]))
        .harmless(&["owner_id", "channel"]),
    of(
        "ops.rejects",
        "t.payload <> '{}' and ((t.payload ->> 'connection') || chr(31) || (t.payload ->> 'guest_id') \
           in (select value from pg_temp.gdpr_values where kind = 'vendor') \
         or (t.payload ->> 'connection') || chr(31) || (t.payload ->> 'reservation_id') \
           in (select value from pg_temp.gdpr_values where kind = 'booking') \
         or exists (select from pg_temp.gdpr_values v where v.kind = 'pattern' and t.payload::text ~* v.value))",
        Deed::Set("payload = '{}'", &["payload"]),
    )
    .swept(&["payload", "reason"])
    .harmless(&["pipeline", "dataset", "scope", "key", "kind"]),
    of("ops.deliveries", "false", Deed::Own(&["headers", "body"]))
        .swept(&["reason"])
        .harmless(&["connector", "connection", "delivery_id", "event", "state"]),
    of("ops.requests", "false", Deed::Own(&["body"])).harmless(&["key", "fingerprint", "content_type"]),
    of("ops.runs", "false", Deed::Nobody)
        .swept(&["request", "cursor", "fault", "hint"])
        .harmless(&["pipeline", "trigger", "status"]),
    of("ops.cursors", "false", Deed::Nobody).swept(&["cursor"]).harmless(&["pipeline", "stream"]),
    of("ops.notes", "false", Deed::Nobody).swept(&["text"]).harmless(&["topic", "subject"]),
    harmless("sync.contact_matching_rules"),
    harmless("sync.listing_map"),
    harmless("sync.property_services"),
    harmless("sync.services_automation"),
    // Hashes with a salt.
    harmless("sync.suppressions"),
    harmless("sync.events_head"),
    harmless("ops.api_keys"),
    harmless("ops.connections"),
    // Hashes of rows; those of tables that are touched go with it.
    harmless("ops.digests"),
    harmless("ops.erased"),
    harmless("ops.erasures"),
    harmless("ops.erasure_salt"),
    harmless("ops.freshness"),
    of("ops.polls", "false", Deed::Nobody).swept(&["fault"]).harmless(&["pipeline"]),
    harmless("ops.quotas"),
    harmless("ops.schedules"),
    harmless("ops.schema_changes"),
    harmless("ops.settled"),
    harmless("ops.slices"),
    harmless("ops.tokens"),
    harmless("ops.unplanned"),
    harmless("ops.unsettled"),
    harmless("ops.untold"),
];

/// The columns of `sync` and `ops` that can hold text and that the registry does not name.
///
/// # Errors
/// When the database cannot be asked.
pub async fn unnamed(pool: &PgPool) -> Result<Vec<String>> {
    let columns: Vec<(String, String)> = sqlx::query_as(
        "select table_schema || '.' || table_name, column_name::text from information_schema.columns c \
         where table_schema in ('sync', 'ops') \
           and data_type in ('text', 'character varying', 'json', 'jsonb', 'bytea', 'ARRAY', 'inet') \
           and exists (select from information_schema.tables t where t.table_schema = c.table_schema \
             and t.table_name = c.table_name and t.table_type = 'BASE TABLE') order by 1, 2",
    )
    .fetch_all(pool)
    .await
    .map_err(|e| fault("cannot list the columns", e))?;
    let named = |table: &str, column: &str| PLACES.iter().any(|p| p.table == table && p.names(column));
    Ok(columns.iter().filter(|(table, column)| !named(table, column)).map(|(t, c)| format!("{t}.{c}")).collect())
}
