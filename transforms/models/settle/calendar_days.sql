-- model: calendar_days
-- layer: settle
-- about: One night of a property from 90 days ago to 540 days ahead, and what it rests on.
-- inputs: settling, listings, bookings, booking_sources, slice
-- key: property_id, day
-- check: (state = 'free') = (booking_id is null)
-- check: state in ('free', 'booked', 'owner', 'held', 'blocked')
--
-- Only the strongest source of a booking takes nights. Two stays on one night are shown as a conflict: which of them is
-- true is for a person to find out.
with places as (
  select p.property_id, local_date(s.observed_at, min(l.time_zone)) as today
  from slice s
  cross join settling p
  left join listings l on l.property_id = p.property_id
  group by p.property_id, s.observed_at
), bounds as (
  select property_id, cast(today - interval '90 days' as date) as first, cast(today + interval '541 days' as date) as last
  from places
), days as (
  select property_id, unnest(range(first, last, interval '1 day')) as day from bounds
), taking as (
  select s.property_id, s.check_in, s.check_out, b.booking_id, b.kind,
    case
      when b.kind = 'stay' and b.booking_status not in ('pending', 'unknown') then 1
      when b.kind = 'owner' then 2
      when b.kind = 'block' then 4
      else 3
    end as rank
  from booking_sources s
  join bookings b on b.booking_id = s.booking_id
  where s.role = 'anchor' and s.latest and b.occupies
), taken as (
  select t.property_id, t.booking_id, t.kind, t.rank,
    unnest(range(greatest(t.check_in, b.first), least(t.check_out, b.last), interval '1 day')) as day
  from taking t
  join bounds b on b.property_id = t.property_id
  where t.check_in < b.last and t.check_out > b.first
), resting as (
  select booking_id, array_agg(source order by source) as sources
  from (select distinct booking_id, concat(connection, ':', source_booking_id) as source from booking_sources where present)
  group by booking_id
), nights as (
  select t.property_id, t.day, min(t.rank) as rank,
    first_value(t.booking_id order by t.rank, t.booking_id) as booking_id,
    json_texts(array_agg(t.booking_id order by t.rank, t.booking_id)) as booking_ids,
    count(distinct case when t.kind <> 'block' then t.booking_id end) > 1 as conflict,
    json_texts(flatten(array_agg(r.sources order by t.rank, t.booking_id))) as sources
  from taken t
  left join resting r on r.booking_id = t.booking_id
  group by t.property_id, t.day
)
select d.property_id, d.day,
  case n.rank when 1 then 'booked' when 2 then 'owner' when 3 then 'held' when 4 then 'blocked' else 'free' end as state,
  n.booking_id, n.booking_ids, n.sources, coalesce(n.conflict, false) as conflict
from days d
left join nights n on n.property_id = d.property_id and n.day = d.day
