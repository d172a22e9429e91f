-- model: bookings
-- layer: settle
-- about: One stay, block, hold or owner's stay in one property, whichever connections tell it.
-- inputs: booking_sources, source_bookings, source_removals, source_guests, listings, guest_identities, former_bookings, slice
-- key: booking_id
-- check: check_in < check_out
-- check: starts_at < ends_at
-- check: nights > 0
--
-- The strongest source decides; what it leaves out is filled in from the others. Where nobody tells that the guest came
-- or left, the dates do, in the property's zone.
with rows as (
  select s.booking_id, s.role, s.present, s.property_id, b.*, x.version as gone_at,
    concat(case s.role when 'anchor' then '0' else '1' end, case b.identity when 'strong' then '0' else '1' end, b.connection) as ord
  from booking_sources s
  join source_bookings b on b.connection = s.connection and b.source_booking_id = s.source_booking_id and b.segment = s.segment
  left join source_removals x on x.object = 'reservation' and x.connection = b.connection
    and x.object_id = b.source_booking_id and x.version >= b.version
  where s.latest and s.role <> 'echo'
), anchors as (
  select * from rows where role = 'anchor'
  qualify row_number() over (partition by booking_id order by segment) = 1
), stretches as (
  -- Of stretches that overlap the nights count once; those between two stretches are not stayed.
  select *, greatest(cast(check_out as int) - greatest(cast(check_in as int), coalesce(max(cast(check_out as int)) over (
      partition by booking_id order by check_in, segment rows between unbounded preceding and 1 preceding),
    cast(check_in as int))), 0) as stayed
  from rows where role = 'anchor'
), spans as (
  select booking_id, min(check_in) as check_in, max(check_out) as check_out, sum(stayed) as nights,
    case when count(*) > 1 then json_list(array_agg(json_object(
      'property_id', property_id, 'listing_id', listing_id, 'check_in', check_in, 'check_out', check_out) order by segment)) end as segments
  from stretches
  group by booking_id
), paid as (
  select * from rows where total_amount is not null
  qualify row_number() over (partition by booking_id order by ord, segment) = 1
), filled as (
  select booking_id,
    count(distinct case when present then connection end) as sources,
    bool_or(present and kind = 'stay' and status not in ('cancelled', 'declined', 'expired', 'inquiry')) as has_stay,
    first_value(external_code order by ord, segment) filter (where external_code is not null) as external_code,
    first_value(platform order by ord, segment) filter (where platform <> 'unknown') as platform,
    first_value(guest_name order by ord, segment) filter (where guest_name is not null) as guest_name,
    first_value(guest_email order by guest_email_is_alias, ord, segment) filter (where guest_email is not null) as guest_email,
    first_value(guest_phone order by ord, segment) filter (where guest_phone is not null) as guest_phone,
    first_value(guest_count order by ord, segment) filter (where guest_count is not null) as guest_count,
    first_value(check_in_time order by ord, segment) filter (where check_in_time is not null) as check_in_time,
    first_value(check_out_time order by ord, segment) filter (where check_out_time is not null) as check_out_time,
    first_value(special_requests order by ord, segment) filter (where special_requests is not null) as special_requests,
    first_value(booking_notes order by ord, segment) filter (where booking_notes is not null) as booking_notes
  from rows
  group by booking_id
), people as (
  select r.booking_id, max(g.name) as name, max(g.email) as email, max(g.email_alias) as email_alias, max(g.phone) as phone
  from rows r
  join source_guests g on g.connection = r.connection and g.guest_id = r.guest_id
  group by r.booking_id
), usual as (
  select property_id, min(time_zone) as time_zone, min(check_in_time) as check_in_time, min(check_out_time) as check_out_time
  from listings where property_id is not null
  group by property_id
), placed as (
  select a.*, s.observed_at, p.check_in as first_night, p.check_out as last_day, p.nights, p.segments, f.sources,
    f.has_stay, f.external_code as code, f.platform as site, f.guest_name as name, f.guest_count as count_of_guests,
    f.special_requests as requests, f.booking_notes as remarks,
    coalesce(f.guest_name, g.name) as guest,
    coalesce(case when not email_is_alias(f.guest_email) then f.guest_email end, g.email, f.guest_email, g.email_alias) as email,
    coalesce(f.guest_phone, g.phone) as phone,
    coalesce(a.time_zone, l.time_zone, u.time_zone, 'UTC') as zone,
    coalesce(f.check_in_time, l.check_in_time, u.check_in_time, '16:00') as arrives,
    coalesce(f.check_out_time, l.check_out_time, u.check_out_time, '11:00') as leaves,
    not a.present as removed
  from slice s
  cross join anchors a
  join spans p on p.booking_id = a.booking_id
  join filled f on f.booking_id = a.booking_id
  join listings l on l.connection = a.connection and l.listing_id = a.listing_id
  left join usual u on u.property_id = a.property_id
  left join people g on g.booking_id = a.booking_id
), timed as (
  select *, local_instant(first_night, arrives, zone) as starts_at, local_instant(last_day, leaves, zone) as ends_at,
    case when kind in ('block', 'hold') and has_stay then 'stay' else kind end as sort
  from placed
), decided as (
  select *,
    case
      when removed and status not in ('cancelled', 'declined', 'expired') then 'cancelled'
      when status = 'pending' and hold_until < observed_at then 'expired'
      when sort = 'stay' and status in ('confirmed', 'checked_in') and observed_at >= ends_at then 'completed'
      when sort = 'stay' and status = 'confirmed' and observed_at >= starts_at then 'checked_in'
      else status
    end as standing
  from timed
), made as (
  select d.booking_id, d.property_id, d.sort as kind, d.standing as booking_status,
    d.standing in ('pending', 'confirmed', 'checked_in', 'completed', 'unknown') as occupies,
    coalesce(d.site, d.platform) as platform, d.code as external_code, d.connector, d.connection, d.source_booking_id,
    d.listing_id, d.identity, d.sources, d.first_night as check_in, d.last_day as check_out,
    d.nights, d.arrives as check_in_time, d.leaves as check_out_time,
    d.zone as time_zone, d.starts_at, d.ends_at, d.segments,
    case when d.sort = 'stay' then i.guest_id end as guest_id,
    d.guest as guest_name, d.email as guest_email, email_is_alias(d.email) as guest_email_is_alias, d.phone as guest_phone,
    d.count_of_guests as guest_count, d.adults, d.children, d.infants, d.pets,
    coalesce(p.total_amount, d.total_amount) as total_amount, coalesce(p.amount_kind, d.amount_kind) as amount_kind,
    coalesce(p.subtotal_amount, d.subtotal_amount) as subtotal_amount, coalesce(p.tax_amount, d.tax_amount) as tax_amount,
    coalesce(p.host_payout, d.host_payout) as host_payout, coalesce(p.paid_amount, d.paid_amount) as paid_amount,
    coalesce(p.balance_amount, d.balance_amount) as balance_amount, coalesce(p.currency, d.currency) as currency,
    d.requests as special_requests, d.remarks as booking_notes, d.raw_status, d.hold_until, d.booked_at,
    d.source_created_at, d.source_updated_at,
    case when d.standing in ('cancelled', 'declined', 'expired') then
      coalesce(d.cancelled_at, case when d.removed then d.gone_at end, case when d.standing = 'expired' then d.hold_until end, d.source_updated_at)
    end as cancelled_at,
    case when d.standing in ('cancelled', 'declined') then d.cancelled_by end as cancelled_by,
    case
      when d.standing <> 'cancelled' then null
      when d.status = 'cancelled' then 'cancelled'
      when d.identity = 'strong' then 'deleted'
      else 'disappeared'
    end as cancel_reason
  from decided d
  left join paid p on p.booking_id = d.booking_id
  left join guest_identities i on i.identity = stable_id('booking', d.booking_id)
)
select m.*,
  case
    when f.booking_id is null then 1
    when (m.check_in is distinct from f.check_in) or (m.check_out is distinct from f.check_out)
      or (m.property_id is distinct from f.property_id) or (m.segments is distinct from f.segments)
      or (m.connection = f.connection and (m.listing_id is distinct from f.listing_id))
      or (m.booking_status is distinct from f.booking_status) or (m.kind is distinct from f.kind)
      or (m.external_code is distinct from f.external_code)
      or (m.total_amount is distinct from f.total_amount) or (m.currency is distinct from f.currency)
      or (m.guest_id is distinct from f.guest_id) or (m.guest_count is distinct from f.guest_count)
    then coalesce(f.revision, 0) + 1
    else f.revision
  end as revision
from made m
left join former_bookings f on f.booking_id = m.booking_id
