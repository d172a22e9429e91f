-- A guest whose bookings turned out to be another's is not shown. Nights, revenue and services are those of stays that
-- were not called off.
select g.guest_id, g.name, g.first_name, g.last_name, g.email, g.phone, g.city, g.country, g.locale, g.preferences, g.notes,
  h.bookings, h.stays, h.nights, r.revenue, h.first_check_in, h.last_check_out, h.last_stay, h.next_stay, h.booking_history,
  s.services, s.service_history
from {guests} as g
join (
  select b.guest_id, count(*) as bookings,
    count(*) filter (where b.kind = 'stay' and b.booking_status in ('confirmed', 'checked_in', 'completed')) as stays,
    coalesce(sum(b.nights) filter (where b.kind = 'stay' and b.booking_status in ('confirmed', 'checked_in', 'completed')), 0)
      as nights,
    min(b.check_in) as first_check_in, max(b.check_out) as last_check_out,
    max(b.check_in) filter (where b.kind = 'stay' and b.booking_status in ('checked_in', 'completed')) as last_stay,
    min(b.check_in) filter (where b.kind = 'stay' and b.booking_status = 'confirmed') as next_stay,
    jsonb_agg(jsonb_build_object('booking_id', b.booking_id, 'property_id', b.property_id, 'check_in', b.check_in,
      'check_out', b.check_out, 'booking_status', b.booking_status, 'platform', b.platform) order by b.check_in, b.booking_id)
      as booking_history
  from {bookings} as b
  where b.guest_id is not null
  group by b.guest_id
) as h on h.guest_id = g.guest_id
left join lateral (
  select jsonb_object_agg(x.currency, x.amount order by x.currency) as revenue
  from (
    select b.currency, sum(coalesce(b.host_payout, b.total_amount)) as amount
    from {bookings} as b
    where b.guest_id = g.guest_id and b.kind = 'stay' and b.booking_status in ('confirmed', 'checked_in', 'completed')
      and b.currency is not null and coalesce(b.host_payout, b.total_amount) is not null
    group by b.currency
  ) as x
) as r on true
cross join lateral (
  select count(*) filter (where t.state in ('due', 'done')) as services,
    coalesce(jsonb_agg(jsonb_build_object('task_id', t.task_id, 'booking_id', t.booking_id, 'property_id', t.property_id,
      'service_type', t.service_type, 'due_at', t.due_at, 'state', t.state) order by t.due_at, t.task_id), '[]')
      as service_history
  from sync.service_tasks as t
  join {bookings} as b on b.booking_id = t.booking_id
  where b.guest_id = g.guest_id and t.state <> 'withdrawn'
) as s
