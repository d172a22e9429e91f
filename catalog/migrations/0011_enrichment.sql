-- Enrichment and lead scores: what still has to be read, what was read, and why a score is what it is.

alter table sync.contact_enrichment_log
    -- A hash of what was read and by whom: the same words are on record once.
    add column content text,
    -- Who read it: `embedded`, or the name of a model.
    add column reader text,
    -- Why another reader than the one that was asked for did it.
    add column fallback text;
create unique index contact_enrichment_log_once on sync.contact_enrichment_log (contact_id, enrichment_type, content)
    where content is not null;

-- Contacts to be read and scored anew. Written in the transaction of the change, taken away in that of the reading.
create table ops.unenriched (
    id              bigint generated always as identity primary key,
    contact_id      uuid not null,
    -- Until when someone is at it; a worker that was killed lets go by itself.
    claimed_until   timestamptz,
    created_at      timestamptz not null default now()
);
create index unenriched_of on ops.unenriched (contact_id);

create function ops.mark_unenriched() returns trigger language plpgsql as $$
begin
    insert into ops.unenriched (contact_id) values (new.contact_id);
    return null;
end $$;

create trigger propflow_unenriched_said after insert or update of contact_id on sync.interactions
    for each row execute function ops.mark_unenriched();

create function ops.mark_unscored() returns trigger language plpgsql as $$
begin
    insert into ops.unenriched (contact_id) values (new.id);
    return null;
end $$;

create trigger propflow_unscored_new after insert on sync.contacts
    for each row execute function ops.mark_unscored();
create trigger propflow_unscored_changed after update on sync.contacts for each row
    when (old.status is distinct from new.status or old.merged_into is distinct from new.merged_into
        or old.first_name is distinct from new.first_name or old.last_name is distinct from new.last_name
        or old.email is distinct from new.email or old.phone is distinct from new.phone)
    execute function ops.mark_unscored();

insert into ops.unenriched (contact_id) select id from sync.contacts where merged_into is null;

-- How promising a lead is, 0 to 100, by its parts. docs/enrichment.md has the weights.
create table sync.lead_scores (
    contact_id      uuid primary key references sync.contacts (id) on delete cascade,
    property_id     text not null,
    score           integer not null constraint lead_score_range check (score between 0 and 100),
    -- 0 to 15: names, addresses, known wishes.
    completeness    integer not null,
    -- 0 to 30: a tour asked for, a move that is near.
    intent          integer not null,
    -- 0 to 15: messages, questions, days.
    engagement      integer not null,
    -- 0 to 15: halved about every ten days since the last word.
    recency         integer not null,
    -- 0 to 15: whether something available fits; 7 while nobody knows.
    fit             integer not null,
    -- 0 to 10: the mood; 5 while nobody knows.
    sentiment       integer not null,
    -- Units that are available and fit; null while nothing is known of the wishes or the units.
    fitting_units   integer,
    -- The most that the status allows; null: no limit.
    at_most         integer,
    -- The same in words.
    reasons         text not null,
    scored_at       timestamptz not null
);
create index lead_scores_by_age on sync.lead_scores (scored_at);
