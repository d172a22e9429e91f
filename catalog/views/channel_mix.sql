-- Stays that took place or will, by the month of their arrival and where the guest booked.
select
  b.property_id,
  cast(date_trunc('month', b.check_in) as date) as month,
  b.platform,
  count(*) as bookings,
  sum(b.nights) as nights,
  b.currency,
  cast(sum(b.total_amount) as decimal(14, 2)) as revenue
from {bookings} as b
where b.kind = 'stay' and b.occupies
group by b.property_id, cast(date_trunc('month', b.check_in) as date), b.platform, b.currency
