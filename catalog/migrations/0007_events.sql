-- What has changed, for those who listen. Sequence numbers become visible in their order: whoever appends holds a lock
-- until the commit, so a listener that has seen number n has seen all before it.
create table sync.events (
    seq             bigint primary key,
    topic           text not null,
    -- The property, for scopes; null concerns none.
    property_id     text,
    kind            text not null,
    key             text not null,
    version         bigint not null,
    data            jsonb not null default '{}',
    created_at      timestamptz not null
);
create index events_by_time on sync.events (created_at);

create table sync.events_head (
    one             boolean primary key default true constraint events_head_one check (one),
    seq             bigint not null
);
insert into sync.events_head (seq) values (0);
