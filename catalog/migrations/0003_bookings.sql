-- Which listing is which property, as a person said; what has to be settled, and when it has to be looked at again.
create table sync.listing_map (
    connection      text not null,
    listing_id      text not null,
    property_id     text not null constraint listing_map_names_a_property check (property_id <> ''),
    created_at      timestamptz not null default now(),
    updated_at      timestamptz not null default now(),
    primary key (connection, listing_id)
);

-- Written by triggers in the transaction that changes a source row, so that no change is forgotten. Rows are only added
-- and taken away: two slices that bring the same listing never wait for each other here.
create table ops.unsettled (
    id              bigint generated always as identity primary key,
    connection      text not null,
    listing_id      text not null,
    what            text not null constraint unsettled_what_known check (what in ('booking', 'listing')),
    created_at      timestamptz not null default now()
);

-- When time alone changes a property's bookings or calendar: a day ends, a guest arrives or leaves, a hold runs out.
create table ops.settled (
    property_id     text primary key,
    settled_at      timestamptz,
    due_at          timestamptz not null,
    updated_at      timestamptz not null default now()
);
create index settled_by_due on ops.settled (due_at);

create function ops.mark_bookings() returns trigger language plpgsql as $$
begin
    if tg_op = 'INSERT' then
        insert into ops.unsettled (connection, listing_id, what)
        select distinct connection, listing_id, 'booking' from new_rows;
    else
        -- A newer version of the same words matters only where it outdates something: another stretch, a removal.
        insert into ops.unsettled (connection, listing_id, what)
        select distinct x.connection, x.listing_id, 'booking'
        from old_rows o
        join new_rows n using (connection, source_booking_id, segment)
        cross join lateral (values (n.connection, n.listing_id), (o.connection, o.listing_id)) x (connection, listing_id)
        where to_jsonb(n) - '{version,updated_at,source_updated_at}'::text[]
            is distinct from to_jsonb(o) - '{version,updated_at,source_updated_at}'::text[]
          or (n.version > o.version and (
            exists (select from core.source_bookings s where s.connection = n.connection
              and s.source_booking_id = n.source_booking_id and s.segment <> n.segment)
            or exists (select from core.source_removals r where r.connection = n.connection
              and r.object = 'reservation' and r.object_id = n.source_booking_id)));
    end if;
    return null;
end $$;

create function ops.mark_removals() returns trigger language plpgsql as $$
begin
    insert into ops.unsettled (connection, listing_id, what)
    select distinct b.connection, b.listing_id, 'booking'
    from new_rows n
    join core.source_bookings b on b.connection = n.connection and b.source_booking_id = n.object_id
    where n.object = 'reservation'
    union
    select n.connection, n.object_id, 'listing' from new_rows n where n.object = 'listing';
    return null;
end $$;

create function ops.mark_listings() returns trigger language plpgsql as $$
begin
    if tg_op = 'INSERT' then
        insert into ops.unsettled (connection, listing_id, what)
        select distinct connection, listing_id, 'listing' from new_rows;
    else
        insert into ops.unsettled (connection, listing_id, what)
        select n.connection, n.listing_id, 'listing'
        from old_rows o
        join new_rows n using (connection, listing_id)
        where to_jsonb(n) - '{version,updated_at,source_updated_at}'::text[]
            is distinct from to_jsonb(o) - '{version,updated_at,source_updated_at}'::text[]
          or exists (select from core.source_removals r where r.connection = n.connection
            and r.object = 'listing' and r.object_id = n.listing_id);
    end if;
    return null;
end $$;

create function ops.mark_guests() returns trigger language plpgsql as $$
begin
    if tg_op = 'INSERT' then
        insert into ops.unsettled (connection, listing_id, what)
        select distinct b.connection, b.listing_id, 'booking'
        from new_rows n
        join core.source_bookings b on b.connection = n.connection and b.guest_id = n.guest_id;
    else
        insert into ops.unsettled (connection, listing_id, what)
        select distinct b.connection, b.listing_id, 'booking'
        from old_rows o
        join new_rows n using (connection, guest_id)
        join core.source_bookings b on b.connection = n.connection and b.guest_id = n.guest_id
        where to_jsonb(n) - '{version,updated_at,source_updated_at}'::text[]
            is distinct from to_jsonb(o) - '{version,updated_at,source_updated_at}'::text[];
    end if;
    return null;
end $$;
