-- model: guest_identities
-- layer: settle
-- about: One mark by which a guest is known again.
-- inputs: booking_sources, source_bookings, source_guests, former_guest_identities
-- key: identity
--
-- Own e-mail, phone and a connection's guest id are marks; an address that a site made for one stay is none. Bookings that
-- share a mark are of one guest, and so are those that share a mark with one of these. Marks are kept as hashes.
with rows as (
  select s.booking_id, b.connection, b.guest_id, b.guest_email_is_alias, b.guest_email, b.guest_phone
  from booking_sources s
  join source_bookings b on b.connection = s.connection and b.source_booking_id = s.source_booking_id and b.segment = s.segment
  where s.role <> 'echo' and s.latest and b.kind = 'stay'
), found as (
  select booking_id, 'email' as kind, case when not guest_email_is_alias then guest_email end as mark, '' as at from rows
  union all
  select booking_id, 'phone', guest_phone, '' from rows
  union all
  select booking_id, 'vendor', guest_id, connection from rows
  union all
  select r.booking_id, 'email', g.email, '' from rows r
  join source_guests g on g.connection = r.connection and g.guest_id = r.guest_id
  union all
  select r.booking_id, 'phone', g.phone, '' from rows r
  join source_guests g on g.connection = r.connection and g.guest_id = r.guest_id
), known as (
  select distinct booking_id, kind, stable_id(kind, at, mark) as identity from found where mark is not null
), marks as (
  select booking_id, kind, identity from known
  union all
  select distinct r.booking_id, 'booking', stable_id('booking', r.booking_id)
  from rows r left join known k on k.booking_id = r.booking_id
  where k.booking_id is null
), l0 as (
  -- Who is known already comes before who is new.
  select m.booking_id, min(coalesce(concat('0', f.guest_id), concat('1', stable_id('guest', m.identity)))) as label
  from marks m
  left join former_guest_identities f on f.identity = m.identity
  group by m.booking_id
), m1 as (
  select m.identity, min(l.label) as label from marks m join l0 l on l.booking_id = m.booking_id group by m.identity
), l1 as (
  select m.booking_id, min(i.label) as label from marks m join m1 i on i.identity = m.identity group by m.booking_id
), m2 as (
  select m.identity, min(l.label) as label from marks m join l1 l on l.booking_id = m.booking_id group by m.identity
), l2 as (
  select m.booking_id, min(i.label) as label from marks m join m2 i on i.identity = m.identity group by m.booking_id
), m3 as (
  select m.identity, max(m.kind) as kind, min(l.label) as label
  from marks m join l2 l on l.booking_id = m.booking_id group by m.identity
)
select identity, kind, substr(label, 2) as guest_id from m3 where kind <> 'booking'
union all
select stable_id('booking', booking_id), 'booking', substr(label, 2) from l2
