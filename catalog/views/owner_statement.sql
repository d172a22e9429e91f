-- What a stay brought and what its services cost. Costs in another currency than the revenue's are not added up.
select b.booking_id, b.property_id, p.owner_id, b.platform, b.booking_status, b.check_in, b.check_out, b.nights, b.currency,
  b.revenue, b.revenue_kind, c.services, c.service_cost, c.services_without_cost, c.services_in_other_currency,
  case when b.revenue is not null then b.revenue - c.service_cost end as net
from (
  select booking_id, property_id, platform, booking_status, check_in, check_out, nights, currency,
    coalesce(host_payout, total_amount) as revenue,
    case when host_payout is not null then 'host_payout' when total_amount is not null then amount_kind end as revenue_kind
  from {bookings} as x
  where kind = 'stay' and booking_status in ('confirmed', 'checked_in', 'completed')
) as b
left join sync.property_services as p on p.property_id = b.property_id
cross join lateral (
  select count(*) as services,
    coalesce(sum(t.cost_amount) filter (where t.cost_amount = 0 or b.currency is null or t.cost_currency = b.currency), 0)
      as service_cost,
    count(*) filter (where t.cost_amount is null) as services_without_cost,
    count(*) filter (where t.cost_amount <> 0 and t.cost_currency <> b.currency) as services_in_other_currency
  from sync.service_tasks as t
  where t.booking_id = b.booking_id and t.state <> 'withdrawn'
) as c
