-- Leads of which ResMan has said something new, until the contacts have been told. Written by triggers in the transaction
-- that changes a lead, and taken away behind the telling. Rows are only added and taken away, so that a slice never waits for
-- the telling of another.
create table ops.untold (
    id              bigint generated always as identity primary key,
    property_id     text not null,
    lead_id         text not null,
    attempts        integer not null default 0,
    due_at          timestamptz not null default '-infinity',
    -- When the reading of the lead began; null when whoever wrote it did not say.
    observed_at     timestamptz,
    created_at      timestamptz not null default now()
);
create index untold_due on ops.untold (due_at, id);

create function ops.mark_untold() returns trigger language plpgsql as $$
begin
    insert into ops.untold (property_id, lead_id, observed_at)
    select property_id, lead_id, nullif(current_setting('propflow.observed_at', true), '')::timestamptz
    from new_rows order by 1, 2;
    return null;
end $$;

-- What became of the polls of a pipeline. Those that bring nothing are only counted; those that bring something are runs.
create table ops.polls (
    pipeline        text primary key,
    polls           bigint not null default 0,
    news            bigint not null default 0,
    failures        bigint not null default 0,
    last_at         timestamptz not null,
    last_news_at    timestamptz,
    -- Why the last one failed, until one succeeds.
    fault           text,
    updated_at      timestamptz not null default now()
);
