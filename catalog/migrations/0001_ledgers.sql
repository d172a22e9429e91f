-- propflow's own books. `core` holds the canonical tables (made from the catalog by the Postgres sink), `serving` the
-- views that readers see.
create schema if not exists ops;
create schema if not exists core;
create schema if not exists serving;
create schema if not exists sync;

create table ops.runs (
    id              uuid primary key,
    pipeline        text not null,
    trigger         text not null constraint runs_trigger_known check (trigger in ('manual', 'schedule', 'backfill', 'replay', 'demo')),
    -- What was asked: the stream, the kind of reading, its range, the scopes.
    request         jsonb not null,
    status          text not null constraint runs_status_known check (status in ('running', 'succeeded', 'partial', 'failed', 'stopped')),
    -- The reading's last checkpoint; an interrupted run goes on behind it.
    cursor          jsonb,
    next_slice      integer not null default 0,
    rows_read       bigint not null default 0,
    rows_rejected   bigint not null default 0,
    fault           text,
    hint            text,
    created_at      timestamptz not null default now(),
    updated_at      timestamptz not null default now(),
    finished_at     timestamptz
);
create index runs_by_pipeline on ops.runs (pipeline, created_at desc);

create table ops.slices (
    run_id          uuid not null references ops.runs (id) on delete cascade,
    number          integer not null,
    observed_at     timestamptz not null,
    -- Rows in, new, changed, equal and gone, by dataset.
    rows            jsonb not null default '{}',
    created_at      timestamptz not null default now(),
    constraint slices_once primary key (run_id, number)
);

-- Where the next reading of a stream starts. A row here moves only in the transaction that commits a slice.
create table ops.cursors (
    pipeline        text not null,
    stream          text not null,
    cursor          jsonb not null,
    run_id          uuid not null,
    updated_at      timestamptz not null default now(),
    primary key (pipeline, stream)
);

create table ops.rejects (
    id              bigint generated always as identity primary key,
    run_id          uuid not null references ops.runs (id) on delete cascade,
    slice           integer not null,
    pipeline        text not null,
    dataset         text not null,
    scope           text,
    key             text not null,
    kind            text not null constraint rejects_kind_known check (kind in ('row', 'value')),
    reason          text not null,
    payload         jsonb not null,
    created_at      timestamptz not null default now(),
    -- Set when a later slice brought the scope without this complaint.
    resolved_at     timestamptz
);
create index rejects_open on ops.rejects (pipeline, scope, dataset) where resolved_at is null;
create index rejects_by_run on ops.rejects (run_id);

create table ops.notes (
    run_id          uuid not null references ops.runs (id) on delete cascade,
    topic           text not null,
    subject         text not null,
    text            text not null,
    count           bigint not null,
    created_at      timestamptz not null default now(),
    updated_at      timestamptz not null default now(),
    primary key (run_id, topic, subject)
);

-- When each scope was last confirmed by its vendor. `serving` computes `as_of` and `stale` from it.
create table ops.freshness (
    scope           text primary key,
    pipeline        text not null,
    run_id          uuid not null,
    observed_at     timestamptz not null,
    limit_seconds   bigint not null,
    updated_at      timestamptz not null default now()
);

-- One bucket of calls per vendor account, in generic cell rate form: `tat` is when the next call would be due.
create table ops.quotas (
    account         text primary key,
    tat             timestamptz not null,
    updated_at      timestamptz not null default now()
);

-- The newest tick of each schedule that became a job; what was missed while no worker ran is caught up from here.
create table ops.schedules (
    schedule        text primary key,
    last_tick       timestamptz not null,
    updated_at      timestamptz not null default now()
);

-- Who did what by hand, and why. What runs do by themselves is in `ops.runs`.
create table sync.audit_log (
    id              bigint generated always as identity primary key,
    actor           text not null,
    action          text not null,
    subject         text not null,
    before          jsonb,
    after           jsonb,
    reason          text,
    created_at      timestamptz not null default now()
);

-- Every change of a stored dataset's columns.
create table ops.schema_changes (
    id              bigint generated always as identity primary key,
    dataset         text not null,
    change          text not null,
    created_at      timestamptz not null default now()
);

-- What was last written, row by row, as 16-byte digests in order: an equal row is not sent again.
create table ops.digests (
    dataset         text not null,
    scope           text not null,
    digests         bytea not null,
    -- What changed in that list since it was written whole: place and new row hash, 12 bytes each.
    patch           bytea not null default '',
    updated_at      timestamptz not null default now(),
    primary key (dataset, scope)
);
alter table ops.digests alter column digests set storage external;
