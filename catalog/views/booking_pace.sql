-- Stays by the month of their arrival. Questions that never became a booking do not count.
select
  b.property_id,
  cast(date_trunc('month', b.check_in) as date) as month,
  count(*) as bookings,
  sum(case when b.booking_status = 'cancelled' then 1 else 0 end) as cancelled,
  cast(sum(case when b.booking_status = 'cancelled' then 1.0 else 0.0 end) / count(*) as decimal(6, 4)) as cancellation_rate,
  cast(avg((extract(epoch from b.starts_at) - extract(epoch from coalesce(b.booked_at, b.source_created_at))) / 86400.0)
    as decimal(8, 1)) as lead_days,
  cast(avg(cast(b.nights as double precision)) as decimal(8, 2)) as nights_per_stay
from {bookings} as b
where b.kind = 'stay' and b.booking_status not in ('inquiry', 'declined', 'expired')
group by b.property_id, cast(date_trunc('month', b.check_in) as date)
