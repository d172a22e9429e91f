-- Access tokens of vendors that give only a few a day, shared by all processes on this database. A row is as good as a
-- password for as long as its token lives: nobody but the owner may read it.
create table ops.tokens (
    key             text primary key,
    token           text,
    good_until      timestamptz,
    -- When a token that the vendor refused was replaced last.
    replaced_at     timestamptz,
    -- The vendor gave none: nobody asks before this.
    closed_until    timestamptz,
    closed_because  text,
    closed_by_user  boolean not null default false,
    created_at      timestamptz not null default now(),
    updated_at      timestamptz not null default now()
);
revoke all on ops.tokens from public;

-- The buckets of an account's wider windows, beside the one of its narrowest.
alter table ops.quotas add column wider timestamptz[] not null default '{}';

-- Books the next call on an account that has several windows, the narrowest first, and says in how many seconds it may go
-- out. One statement, and the row lock orders the callers.
create function ops.book(of_account text, intervals float8[], tolerances float8[]) returns float8
language plpgsql as $$
declare
    tats timestamptz[];
    here timestamptz;
    place timestamptz;
begin
    insert into ops.quotas (account, tat) values (of_account, '-infinity') on conflict (account) do nothing;
    select array[tat] || wider into tats from ops.quotas where account = of_account for update;
    here := clock_timestamp();
    place := here;
    for i in 1 .. cardinality(intervals) loop
        tats[i] := coalesce(tats[i], here);
        place := greatest(place, tats[i] - make_interval(secs => tolerances[i]));
    end loop;
    for i in 1 .. cardinality(intervals) loop
        tats[i] := greatest(tats[i], place) + make_interval(secs => intervals[i]);
    end loop;
    update ops.quotas set tat = tats[1], wider = tats[2:], updated_at = now() where account = of_account;
    return extract(epoch from place - here);
end
$$;
