-- model: price_history
-- layer: serve
-- about: The prices that every unit has at the instant of the slice: its list rent, and one row for each of its terms.
-- inputs: units, unit_availability, offer_terms, slice
-- key: property_id, unit_number, offer_id, observed_at
-- check: rent > 0
--
-- Whether a price is new is for the sink to say, which knows the former ones.
select
  u.property_id, u.unit_number, 'market' as offer_id, s.observed_at, cast(null as bigint) as lease_term_months,
  u.market_rent as rent, coalesce(a.available, false) as available, u.currency
from slice s
cross join units u
left join unit_availability a on a.property_id = u.property_id and a.unit_number = u.unit_number
union all
select
  t.property_id, t.unit_number, t.offer_id, s.observed_at, t.lease_term_months, t.effective_rent,
  coalesce(a.available, false), t.currency
from slice s
cross join offer_terms t
left join unit_availability a on a.property_id = t.property_id and a.unit_number = t.unit_number
