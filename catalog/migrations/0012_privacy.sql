-- Erasure of a person: what was erased, by what they are known again, and who must not be written to any more. Nothing here
-- names anybody: marks are hashes with a salt that never leaves this database.
create table ops.erasure_salt (
    one             boolean primary key default true constraint erasure_salt_one check (one),
    salt            bytea not null
);
insert into ops.erasure_salt (salt)
select sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()));
revoke all on ops.erasure_salt from public;

-- The hash of a canonical value. The kinds are email, phone, vendor, booking, guest and lead.
create function ops.mark(kind text, value text) returns bytea language sql stable as $$
    select sha256(s.salt || convert_to(kind || chr(31) || value, 'UTF8')) from ops.erasure_salt s
$$;

create table ops.erasures (
    id              uuid primary key,
    -- The mark of the address that was asked for.
    mark            bytea not null,
    state           text not null constraint erasures_state_known check (state in ('running', 'done')),
    -- Rows by place.
    counts          jsonb not null default '{}',
    created_at      timestamptz not null,
    updated_at      timestamptz not null,
    finished_at     timestamptz
);
create index erasures_by_mark on ops.erasures (mark);

-- By what rows of an erased person are known when a vendor brings them again: they are blanked before they are stored.
create table ops.erased (
    mark            bytea not null,
    kind            text not null,
    erasure_id      uuid not null references ops.erasures (id) on delete cascade,
    created_at      timestamptz not null,
    constraint erased_once primary key (mark)
);
create index erased_by_erasure on ops.erased (erasure_id);

-- What somebody wanted no more of before they were erased.
create table sync.suppressions (
    mark            bytea primary key,
    email           boolean not null default false,
    phone           boolean not null default false,
    text            boolean not null default false,
    created_at      timestamptz not null,
    updated_at      timestamptz not null
);

-- When what a revoked connection may not keep was removed; null: not yet.
alter table ops.connections add column purged_at timestamptz;
