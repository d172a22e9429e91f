-- What the HTTP service keeps: deliveries of webhooks, API keys, repeated requests, the state of connections.
alter table ops.runs drop constraint runs_trigger_known;
alter table ops.runs add constraint runs_trigger_known
    check (trigger in ('manual', 'schedule', 'backfill', 'replay', 'demo', 'webhook'));

-- Every delivery, as it came. Bodies are personal data: rows go when their retention ends.
create table ops.deliveries (
    id              bigint generated always as identity primary key,
    connector       text not null,
    connection      text not null,
    -- The sender's id of this delivery, or a hash of its body.
    delivery_id     text not null,
    -- The sender's word for what happened.
    event           text not null,
    state           text not null constraint deliveries_state_known
                    check (state in ('received', 'processed', 'ignored', 'failed', 'refused')),
    -- Only those that say what it is; never credentials or signatures.
    headers         jsonb not null,
    body            bytea not null,
    received_at     timestamptz not null,
    attempts        integer not null default 0,
    -- Not to be processed before this.
    next_at         timestamptz not null,
    -- The batch that holds it now. It names the batch's run, so that a killed one is taken up again as it was.
    claim           uuid,
    run_id          uuid,
    reason          text,
    processed_at    timestamptz,
    created_at      timestamptz not null default now(),
    updated_at      timestamptz not null default now()
);
-- A refused delivery proves nothing about its id, so it must not stand in the way of the real one.
create unique index deliveries_once on ops.deliveries (connector, connection, delivery_id) where state <> 'refused';
create index deliveries_waiting on ops.deliveries (connector, connection, id) where state = 'received';
create index deliveries_in_trouble on ops.deliveries (state, id) where state in ('failed', 'refused');
create index deliveries_by_age on ops.deliveries (received_at);
-- Bodies are JSON of a few kilobytes that is read once: compressing costs more than it saves.
alter table ops.deliveries alter column body set storage external;

-- Connections that must not be used, and why. One that is not listed is in use.
create table ops.connections (
    connector       text not null,
    connection      text not null,
    state           text not null constraint connections_state_known check (state in ('active', 'revoked')),
    reason          text,
    created_at      timestamptz not null default now(),
    updated_at      timestamptz not null default now(),
    primary key (connector, connection)
);

create table ops.api_keys (
    id              uuid primary key,
    name            text not null,
    -- The first characters of the key, by which people and the server find it.
    prefix          text not null constraint api_keys_prefix_once unique,
    -- SHA-256 of the whole key, which is random: nothing slower is needed.
    hash            bytea not null,
    roles           text[] not null,
    -- Null stands for all properties.
    properties      text[],
    last_used_at    timestamptz,
    revoked_at      timestamptz,
    created_at      timestamptz not null default now(),
    updated_at      timestamptz not null default now()
);

-- Answers to requests that named themselves with an `Idempotency-Key`, so that a repeated one changes nothing.
create table ops.requests (
    caller          uuid not null,
    key             text not null,
    -- SHA-256 of method, path and body: the same key on another request is a mistake.
    fingerprint     bytea not null,
    -- Null while the first one is under way.
    status          smallint,
    content_type    text,
    body            bytea,
    created_at      timestamptz not null,
    updated_at      timestamptz not null default now(),
    primary key (caller, key)
);
create index requests_by_age on ops.requests (created_at);
