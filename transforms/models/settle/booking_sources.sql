-- model: booking_sources
-- layer: settle
-- about: One source row and the booking that it tells of.
-- inputs: source_bookings, source_removals, listings, former_booking_sources, slice
-- key: connection, source_booking_id, segment
-- check: role in ('anchor', 'same', 'echo')
--
-- Reservations of different connections are one booking when they share the confirmation code, else the property and the
-- exact dates. Each looks for the strongest other one that it can belong to; strongest is what the vendor still knows, a
-- manager before a calendar, a stay before a block, what stands before what was called off. What belonged together before
-- stays so until something better is found: while one channel is late, its old dates must not become a stay of their own.
-- A calendar's block whose nights others take anyway is their echo. A booking keeps its id with its strongest source.
with told as (
  select b.*, l.property_id, coalesce(b.time_zone, l.time_zone) as zone, x.version as gone_at, s.observed_at,
    concat(b.connection, ' ', b.source_booking_id) as rid,
    max(b.version) over (partition by b.connection, b.source_booking_id) as newest
  from slice s
  cross join source_bookings b
  join listings l on l.connection = b.connection and l.listing_id = b.listing_id and l.property_id is not null
  left join source_removals x on x.object = 'reservation' and x.connection = b.connection
    and x.object_id = b.source_booking_id and x.version >= b.version
), stretches as (
  select *,
    -- Calendars drop what is over: that is no cancellation.
    gone_at is not null and (identity = 'strong' or local_date(gone_at, zone) < check_out) as removed
  from told where version = newest
), spans as (
  select rid, min(check_in) as check_in, max(check_out) as check_out from stretches group by rid
), heads as (
  select * from stretches
  qualify row_number() over (partition by rid order by segment) = 1
), formers as (
  select concat(connection, ' ', source_booking_id) as rid,
    first_value(booking_id order by segment) as booking_id, first_value(role order by segment) as role
  from former_booking_sources
  group by connection, source_booking_id
), judged as (
  select h.rid, h.connection, h.source_booking_id, h.property_id, h.kind, h.identity, h.platform, h.removed, h.observed_at,
    p.check_in, p.check_out,
    case when h.platform in ('direct', 'unknown') then concat(h.property_id, ' ', h.external_code)
      else concat(h.platform, ' ', h.external_code) end as code,
    h.external_code is not null as has_code,
    case
      when h.removed or h.status in ('cancelled', 'declined', 'expired') then 'dead'
      when h.status = 'pending' and h.hold_until < h.observed_at then 'dead'
      when h.status = 'inquiry' then 'open'
      else 'live'
    end as standing,
    f.booking_id as former, f.role as former_role
  from heads h
  join spans p on p.rid = h.rid
  left join formers f on f.rid = h.rid
), reservations as (
  select *,
    concat(case when removed then '1' else '0' end,
      case identity when 'strong' then '0' when 'feed' then '1' else '2' end,
      case kind when 'block' then '1' else '0' end,
      case standing when 'dead' then '1' else '0' end, rid) as ord
  from judged
), places as (
  select rid, property_id, check_in, check_out from reservations
  union
  select rid, property_id, check_in, check_out from stretches
), same_code as (
  select c.rid as child, p.rid as parent
  from reservations c
  join reservations p on p.code = c.code
  where c.has_code and p.has_code and p.connection <> c.connection and p.ord < c.ord
), same_dates as (
  select distinct c.rid as child, p.rid as parent
  from places cp
  join places pp on pp.property_id = cp.property_id and pp.check_in = cp.check_in and pp.check_out = cp.check_out
  join reservations c on c.rid = cp.rid
  join reservations p on p.rid = pp.rid
  where p.connection <> c.connection and p.ord < c.ord
    and ((c.standing = 'live' and p.standing = 'live')
      or (c.standing = 'dead' and p.standing = 'dead' and c.identity = 'strong' and p.identity = 'strong'))
    -- Two codes of one site are two bookings, and so are stays of two sites.
    and not (c.has_code and p.has_code and c.platform = p.platform and c.code <> p.code)
    and not (c.kind = 'stay' and p.kind = 'stay' and c.platform <> p.platform
      and c.platform not in ('direct', 'unknown') and p.platform not in ('direct', 'unknown'))
), same_before as (
  select c.rid as child, p.rid as parent
  from reservations c
  join reservations p on p.former = c.former
  where c.former_role in ('anchor', 'same') and p.former_role in ('anchor', 'same')
    and p.connection <> c.connection and p.ord < c.ord and (c.kind <> 'block' or p.kind = 'block')
), reasons as (
  select child, parent, 16 as weight from same_code
  union all
  select child, parent, 8 from same_dates
  union all
  select child, parent, 4 from same_before
), weighed as (
  select r.child, r.parent, r.weight + case when p.standing = 'live' then 2 else 0 end as weight, r.weight as reason, p.ord
  from (select child, parent, sum(weight) as weight from reasons group by child, parent) r
  join reservations p on p.rid = r.parent
), best as (
  select w.child, w.parent, w.weight, w.reason, c.connection, c.removed, c.ord
  from (select * from weighed qualify row_number() over (partition by child order by weight desc, ord) = 1) w
  join reservations c on c.rid = w.child
), links as (
  -- Dates alone tie one entry of a connection to a booking; a second one is another booking.
  select child, parent, reason
  from (
    select *, row_number() over (partition by parent, connection, removed order by weight desc, ord) as place from best
  )
  where reason <> 8 or place = 1
), chains as (
  select r.rid, coalesce(d.parent, c.parent, b.parent, a.parent, r.rid) as root, a.reason
  from reservations r
  left join links a on a.child = r.rid
  left join links b on b.child = a.parent
  left join links c on c.child = b.parent
  left join links d on d.child = c.parent
), roots as (
  select r.*, f.observed_at as seen_at from reservations r
  join (select distinct root from chains) k on k.root = r.rid
  join heads f on f.rid = r.rid
), lonely as (
  select r.* from roots r
  left join (select distinct root from chains where rid <> root) t on t.root = r.rid
  where r.kind = 'block' and r.identity <> 'strong' and r.standing = 'live' and t.root is null
), lonely_nights as (
  select rid, ord, connection, property_id,
    unnest(range(
      greatest(check_in, cast(seen_at as date) - interval '90 days'),
      least(check_out, cast(seen_at as date) + interval '541 days'),
      interval '1 day')) as night
  from lonely
), covers as (
  select n.rid, n.night, r.rid as root, r.ord
  from lonely_nights n
  join stretches s on s.property_id = n.property_id and s.check_in <= n.night and n.night < s.check_out
  join roots r on r.rid = s.rid
  where r.standing = 'live' and r.connection <> n.connection and r.ord < n.ord
), echoes as (
  select a.rid
  from (select rid, count(*) as nights from lonely_nights group by rid) a
  join (select rid, count(distinct night) as nights from covers group by rid) c on c.rid = a.rid and c.nights = a.nights
), echoed as (
  select rid, root
  from (
    select c.rid, c.root, c.ord, count(*) as nights
    from covers c
    join echoes e on e.rid = c.rid
    left join echoes other on other.rid = c.root
    where other.rid is null
    group by c.rid, c.root, c.ord
  )
  qualify row_number() over (partition by rid order by nights desc, ord) = 1
), members as (
  select c.rid, coalesce(e.root, c.root) as root,
    case
      when e.root is not null then 'echo'
      when c.rid = c.root then 'anchor'
      when r.kind = 'block' and t.kind <> 'block' then 'echo'
      else 'same'
    end as role,
    case
      when e.root is not null then 'cover'
      when c.rid = c.root then 'own'
      when c.reason >= 16 then 'code'
      when c.reason >= 8 then 'dates'
      else 'former'
    end as basis
  from chains c
  join reservations r on r.rid = c.rid
  join reservations t on t.rid = c.root
  left join echoed e on e.rid = c.rid
), claims as (
  select m.root, first_value(r.former order by case when m.rid = m.root then 0 else 1 end, r.ord) as claim
  from members m
  join reservations r on r.rid = m.rid
  where m.role <> 'echo' and r.former is not null and r.former_role in ('anchor', 'same')
  group by m.root
), settled_claims as (
  select k.root, k.claim,
    row_number() over (
      partition by k.claim
      order by case when r.former = k.claim and r.former_role = 'anchor' then 0 when r.former = k.claim then 1 else 2 end, r.ord
    ) as place
  from claims k
  join reservations r on r.rid = k.root
), ids as (
  select r.rid as root,
    coalesce(k.claim, case
      when taken.claim is null then stable_id('booking', r.connection, r.source_booking_id)
      else stable_id('booking', r.connection, r.source_booking_id, 'again')
    end) as booking_id
  from roots r
  left join settled_claims k on k.root = r.rid and k.place = 1
  left join (select distinct claim from claims) taken
    on taken.claim = stable_id('booking', r.connection, r.source_booking_id)
)
select
  t.connection, t.source_booking_id, t.segment, i.booking_id, t.property_id, t.listing_id, m.role, m.basis,
  t.version = t.newest as latest,
  t.version = t.newest and not r.removed as present,
  t.check_in, t.check_out, t.status, t.version
from told t
join members m on m.rid = t.rid
join reservations r on r.rid = t.rid
join ids i on i.root = m.root
