-- What has to reach a system outside or a person. A row is written in the transaction of the change that caused it and
-- delivered by a worker, at least once.
create table sync.outbox (
    id              bigint generated always as identity primary key,
    -- Who delivers, with the settings of which connection.
    courier         text not null,
    connection      text not null,
    -- Messages of one lane (a person, a booking) are delivered one after another, in the order of their ids.
    lane            text not null,
    kind            text not null,
    payload         jsonb not null,
    -- The same key twice is one message.
    dedupe_key      text not null constraint outbox_once unique,
    state           text not null default 'waiting' constraint outbox_state_known
                    check (state in ('waiting', 'delivered', 'dead', 'withdrawn')),
    attempts        integer not null default 0,
    run_after       timestamptz not null,
    -- Why it is not delivered yet, or never will be, and what to do about it.
    reason          text,
    hint            text,
    -- What the other side answered: ids that it gave.
    reply           jsonb,
    created_at      timestamptz not null,
    updated_at      timestamptz not null,
    settled_at      timestamptz
);
create index outbox_waiting on sync.outbox (courier, connection, lane, id) where state = 'waiting';
create index outbox_due on sync.outbox (run_after) where state = 'waiting';
create index outbox_dead on sync.outbox (id) where state = 'dead';

-- Every try of every message.
create table sync.outbox_tries (
    id              bigint generated always as identity primary key,
    outbox_id       bigint not null references sync.outbox (id) on delete cascade,
    attempt         integer not null,
    outcome         text not null,
    reason          text,
    took_ms         bigint not null,
    created_at      timestamptz not null
);
create index outbox_tries_of on sync.outbox_tries (outbox_id, id);

create function sync.outbox_announce() returns trigger language plpgsql as $$
begin
    perform pg_notify('propflow_outbox', '');
    return null;
end $$;
create trigger outbox_announced after insert on sync.outbox for each statement execute function sync.outbox_announce();
