-- model: offer_terms
-- layer: normalise
-- about: The rent of one unit for one lease term and move-in window, with what concessions make of it.
-- inputs: mits_offer_terms, units, unit_availability, concessions, slice
-- key: property_id, unit_number, offer_id
-- check: offered_rent > 0
-- check: effective_rent > 0
-- check: effective_rent <= offered_rent
--
-- Terms of a floor plan hold for its available units that have no terms of their own.
--
-- Concessions: unless the vendor has worked them into the rent, those that are current, name an amount and fit the term
-- are taken off. The feed says neither sign nor period: the amount is taken as given once and spread over the term, or
-- a month only where the header says so. That is the reading that never promises too low a rent. Of unit, floor plan
-- and property the narrowest one that has any counts alone.

-- step: stated
select property_id, clean(unit_number) as unit_number, clean(floorplan_id) as floorplan_code,
  lease_term, effective_rent, clean(start_date) as start_date, clean(end_date) as end_date, _row
from mits_offer_terms

-- step: placed
select property_id, unit_number, lease_term, effective_rent, start_date, end_date, _row from stated
where unit_number is not null
union all
select t.property_id, u.unit_number, t.lease_term, t.effective_rent, t.start_date, t.end_date, t._row
from stated t
join units u on u.property_id = t.property_id and u.floorplan_code = t.floorplan_code
join unit_availability a on a.property_id = u.property_id and a.unit_number = u.unit_number and a.available
left anti join stated own on own.property_id = u.property_id and own.unit_number = u.unit_number
where t.unit_number is null

-- step: terms
select property_id, unit_number, _row, effective_rent as written_rent, lease_term as written_term,
  start_date, end_date,
  try_cast(price(lease_term) as bigint) as months,
  date_lenient(start_date) as move_in_from,
  date_lenient(end_date) as move_in_until,
  price(effective_rent) as offered_rent
from placed

-- step: repeated
select property_id, unit_number, months, move_in_from, move_in_until, offered_rent, min(_row) as first_row
from terms
group by property_id, unit_number, months, move_in_from, move_in_until, offered_rent
having count(*) > 1

-- step: again
-- The same price stated again is one price. Empty in most slices, and then nothing is joined behind it.
select t.property_id, t.unit_number, t._row
from terms t
join repeated r
  on r.property_id = t.property_id and r.unit_number = t.unit_number and r.first_row <> t._row
  and (r.months is not distinct from t.months) and (r.move_in_from is not distinct from t.move_in_from)
  and (r.move_in_until is not distinct from t.move_in_until) and (r.offered_rent is not distinct from t.offered_rent)

-- step: offers
select t.*, u.floorplan_code,
  case
    when coalesce(move_in_from, move_in_until) is null then cast(months as varchar)
    else concat(cast(months as varchar), '@', coalesce(cast(move_in_from as varchar), ''), '..', coalesce(cast(move_in_until as varchar), ''))
  end as offer_id
from terms t
left anti join again a on a._row = t._row and a.property_id = t.property_id and a.unit_number = t.unit_number
left join units u on u.property_id = t.property_id and u.unit_number = t.unit_number

-- step: reductions
select property_id, applies_to, coalesce(unit_number, floorplan_code, '') as place, lease_term_months,
  abs(value) as value,
  coalesce(matches(lower(concat_ws(' ', header, body)), 'per month|a month|each month|monthly|/ ?mo'), false) as monthly
from concessions
where current and value <> 0

-- step: discounted
select o.property_id, o.unit_number, o._row,
  sum(case when c.applies_to = 'unit' then case when c.monthly then c.value else c.value / o.months end end) as unit_off,
  sum(case when c.applies_to = 'floorplan' then case when c.monthly then c.value else c.value / o.months end end) as plan_off,
  sum(case when c.applies_to = 'property' then case when c.monthly then c.value else c.value / o.months end end) as property_off
from offers o
join reductions c on c.property_id = o.property_id
where o.months > 0
  and (c.lease_term_months is null or c.lease_term_months = o.months)
  and (
    (c.applies_to = 'unit' and c.place = o.unit_number)
    or (c.applies_to = 'floorplan' and c.place = o.floorplan_code)
    or c.applies_to = 'property'
  )
group by o.property_id, o.unit_number, o._row

-- step: priced
select o.*, s.currency, s.concessions_included,
  cast(round(coalesce(d.unit_off, d.plan_off, d.property_off), 2) as decimal(14, 2)) as off
from slice s
cross join offers o
left join discounted d on d.property_id = o.property_id and d.unit_number = o.unit_number and d._row = o._row

-- result
select
  property_id, unit_number, offer_id, months as lease_term_months, move_in_from, move_in_until, offered_rent,
  off as concession_monthly,
  case
    when concessions_included or off is null then offered_rent
    when off < offered_rent then offered_rent - off
  end as effective_rent,
  concessions_included, currency,
  case when months is null then concat('the lease term `', coalesce(written_term, ''), '` is not a number of months') end as reject,
  nullif(concat_ws('; ',
    issue('rent', 'price', written_rent),
    issue('first move-in day', 'date', start_date),
    issue('last move-in day', 'date', end_date),
    case when not concessions_included and off >= offered_rent
      then 'concessions are as large as the rent, so the effective rent is left unknown' end
  ), '') as issue
from priced
