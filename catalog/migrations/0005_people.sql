-- One record per person, and how it agrees with ResMan.
create table sync.contacts (
    id                  uuid primary key,
    property_id         text not null,
    first_name          text not null default '',
    last_name           text not null default '',
    email               text,
    phone               text,
    status              text not null default 'new',
    source              text not null,
    notes               text,
    -- communication_method and contact_frequency.
    preferences         jsonb not null default '{}',
    email_opt_out       boolean not null default false,
    phone_opt_out       boolean not null default false,
    text_opt_out        boolean not null default false,
    -- Extracted from conversations: summary, topics, sentiment, wishes.
    enrichment          jsonb not null default '{}',
    lead_score          integer,
    lead_score_parts    jsonb,
    last_interaction    timestamptz,
    interaction_count   integer not null default 0,
    -- E-mail addresses and phones that were replaced: the person may still come under them.
    aliases             jsonb not null default '{}',
    -- Where each value came from and when: {field: {source, at, verified}}.
    provenance          jsonb not null default '{}',
    -- What ResMan was last known to hold, field by field; and what is on its way there.
    base                jsonb not null default '{}',
    pushed              jsonb not null default '{}',
    -- Raised with every change; the two below with those of each side.
    version             bigint not null default 1,
    domiq_version       bigint not null default 0,
    resman_version      bigint not null default 0,
    merged_into         uuid references sync.contacts (id),
    created_at          timestamptz not null,
    updated_at          timestamptz not null
);
create index contacts_by_property on sync.contacts (property_id, updated_at desc) where merged_into is null;
create index contacts_by_email on sync.contacts (lower(email)) where merged_into is null;
create index contacts_by_phone on sync.contacts (phone) where merged_into is null;
create index contacts_merged on sync.contacts (merged_into) where merged_into is not null;

-- Blocking keys of the people who are not merged into another.
create table sync.contact_keys (
    key                 bigint not null,
    contact_id          uuid not null references sync.contacts (id) on delete cascade,
    constraint contact_keys_once primary key (key, contact_id)
);
create index contact_keys_of on sync.contact_keys (contact_id);

-- A contact's counterpart in ResMan.
create table sync.contact_sync (
    id                  uuid primary key,
    user_id             uuid not null references sync.contacts (id) on delete cascade,
    property_id         text not null,
    resman_contact_id   text not null,
    resman_person_id    text,
    sync_status         text not null constraint contact_sync_status_known
                        check (sync_status in ('pending', 'success', 'failed', 'merged')),
    reason              text,
    last_sync_at        timestamptz,
    created_at          timestamptz not null,
    updated_at          timestamptz not null,
    constraint contact_sync_once unique (resman_contact_id)
);
create index contact_sync_of on sync.contact_sync (user_id);

create table sync.contact_matching_rules (
    id                  uuid primary key,
    property_id         text not null constraint contact_matching_rules_once unique,
    -- The profile of the matcher: rule and thresholds.
    matching_criteria   jsonb not null default '{}',
    merge_strategy      text not null constraint merge_strategy_known
                        check (merge_strategy in ('resman_wins', 'domiq_wins', 'manual_review')),
    created_at          timestamptz not null,
    updated_at          timestamptz not null
);

create table sync.contact_enrichment_log (
    id                  uuid primary key,
    contact_id          uuid not null references sync.contacts (id) on delete cascade,
    enrichment_type     text not null constraint enrichment_type_known
                        check (enrichment_type in ('conversation_data', 'preferences', 'interaction_history')),
    enriched_data       jsonb not null,
    source              text not null constraint enrichment_source_known check (source in ('chatbot', 'resman', 'manual')),
    created_at          timestamptz not null
);
create index contact_enrichment_log_of on sync.contact_enrichment_log (contact_id, created_at);

-- What a person said and what was said to them.
create table sync.interactions (
    id                  uuid primary key,
    contact_id          uuid not null references sync.contacts (id) on delete cascade,
    conversation_id     text,
    -- The sender's own id of it, so that a repeated one is one.
    external_id         text,
    kind                text not null,
    direction           text not null,
    message             text,
    at                  timestamptz not null,
    created_at          timestamptz not null,
    constraint interactions_once unique (contact_id, external_id)
);
create index interactions_of on sync.interactions (contact_id, at);

-- Every change of a contact's field.
create table sync.contact_history (
    id                  bigint generated always as identity primary key,
    contact_id          uuid not null,
    version             bigint not null,
    field               text not null,
    before              jsonb,
    after               jsonb,
    source              text not null,
    actor               text not null,
    rule                text not null,
    created_at          timestamptz not null
);
create index contact_history_of on sync.contact_history (contact_id, id);

-- Both sides changed a field since they last agreed.
create table sync.conflicts (
    id                  uuid primary key,
    contact_id          uuid not null references sync.contacts (id) on delete cascade,
    property_id         text not null,
    field               text not null,
    base_value          text,
    domiq_value         text,
    resman_value        text,
    -- Which rule settled it; null while a person has to.
    rule                text,
    chosen              text constraint conflict_choice_known check (chosen in ('domiq', 'resman', 'other')),
    state               text not null constraint conflict_state_known check (state in ('open', 'settled')),
    created_at          timestamptz not null,
    settled_at          timestamptz,
    settled_by          text
);
create index conflicts_open on sync.conflicts (property_id, created_at) where state = 'open';
create unique index conflicts_once on sync.conflicts (contact_id, field) where state = 'open';

-- Two contacts that are, or may be, one person.
create table sync.merges (
    id                  uuid primary key,
    property_id         text not null,
    primary_id          uuid not null references sync.contacts (id) on delete cascade,
    secondary_id        uuid not null references sync.contacts (id) on delete cascade,
    confidence          double precision not null,
    -- Why: each field's level and weight.
    evidence            jsonb not null default '{}',
    state               text not null constraint merge_state_known check (state in ('pending', 'merged', 'rejected', 'undone')),
    -- Both contacts as they were, and what was moved, for the way back.
    before              jsonb,
    reason              text,
    created_at          timestamptz not null,
    decided_at          timestamptz,
    decided_by          text
);
create index merges_pending on sync.merges (property_id, created_at) where state = 'pending';
create unique index merges_once on sync.merges (primary_id, secondary_id) where state in ('pending', 'merged');
