-- Nights that were closed by the operator or the owner could not be sold. Revenue is spread evenly over a stay's nights.
select
  d.property_id,
  cast(date_trunc('month', d.day) as date) as month,
  count(*) as nights,
  sum(case when d.state in ('blocked', 'owner') then 0 else 1 end) as nights_available,
  sum(case when d.state = 'booked' then 1 else 0 end) as nights_booked,
  cast(sum(case when d.state = 'booked' then 1.0 else 0.0 end)
    / nullif(sum(case when d.state in ('blocked', 'owner') then 0 else 1 end), 0) as decimal(6, 4)) as occupancy,
  case when count(distinct b.currency) = 1 then max(b.currency) end as currency,
  case when count(distinct b.currency) = 1 then
    cast(sum(cast(b.total_amount as double precision) / b.nights) as decimal(14, 2)) end as revenue,
  case when count(distinct b.currency) = 1 then
    cast(avg(cast(b.total_amount as double precision) / b.nights) as decimal(14, 2)) end as adr,
  case when count(distinct b.currency) = 1 then
    cast(sum(cast(b.total_amount as double precision) / b.nights)
      / nullif(sum(case when d.state in ('blocked', 'owner') then 0 else 1 end), 0) as decimal(14, 2)) end as revpar,
  sum(case when d.state = 'booked' and b.total_amount is null then 1 else 0 end) as nights_without_amount
from {calendar_days} as d
left join {bookings} as b on b.booking_id = d.booking_id and d.state = 'booked'
group by d.property_id, cast(date_trunc('month', d.day) as date)
