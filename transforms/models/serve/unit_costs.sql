-- model: unit_costs
-- layer: serve
-- about: What one available unit costs for one lease term and move-in window, all required fees included.
-- inputs: available_units, offer_terms, fees, properties, slice
-- key: property_id, unit_number, offer_id
-- check: rent > 0
-- check: total_monthly_cost >= rent
-- check: complete = (unknown_fees is null)
--
-- Counted are the required fees of the property, of the unit's floor plan and of the unit. A required fee without an
-- amount, or whose frequency puts it neither in a month nor at move-in, makes the totals a lower bound: it is named in
-- unknown_fees. Of a range the lower end is counted. An annual fee is counted with a twelfth a month, to the cent.
--
-- A fee that two lists state in different places (a unit type's deposit, a unit's deposit) counts once, by the same rule
-- as in fees: the narrowest place wins, then the list that says more.
--
-- A fee that is a multiple of the rent comes to something else for each offer, so it is counted once for each rent.

-- step: counted
with applying as (
  select u.property_id, u.unit_number, 1 as breadth, f.*
    exclude (property_id, unit_number)
  from available_units u
  join fees f on f.property_id = u.property_id and f.unit_number = u.unit_number
  where f.requirement = 'required' and f.applies_to = 'unit'
  union all
  select u.property_id, u.unit_number, 2, f.* exclude (property_id, unit_number)
  from available_units u
  join fees f on f.property_id = u.property_id and f.floorplan_code = u.floorplan_code
  where f.requirement = 'required' and f.applies_to = 'floorplan' and f.unit_number is null
  union all
  select u.property_id, u.unit_number, 3, f.* exclude (property_id, unit_number)
  from available_units u
  join fees f on f.property_id = u.property_id
  where f.requirement = 'required' and f.applies_to = 'property'
), ranked as (
  select *, breadth * 10 + case origin
    when 'resman_property_charges' then 1 when 'resman_unit_charges' then 2 when 'resman_unit_types' then 3
    when 'mits_charges' then 4 else 5 end as place
  from applying
)
select property_id, unit_number, fee_id, name, category, frequency, amount, amount_min, rent_multiple
from ranked
qualify case
  when category in ('application', 'admin', 'broker', 'deposit', 'hold')
    then place = min(place) over (partition by property_id, unit_number, category)
  else place = min(place) over (partition by property_id, unit_number, category, lower(name))
    and (category = 'other' or amount is null
      or place = min(place) over (partition by property_id, unit_number, category, frequency, amount))
end

-- step: terms
-- A price whose move-in window is over is no offer.
select t.property_id, t.unit_number, t.offer_id, t.lease_term_months, t.move_in_from, t.move_in_until, t.effective_rent as rent
from slice s
cross join offer_terms t
left join properties p on p.property_id = t.property_id
where coalesce(t.move_in_until >= local_date(s.observed_at, p.time_zone), true)

-- step: offers
select * from terms
union all
select u.property_id, u.unit_number, 'market', null, null, null, coalesce(u.market_rent, u.rent_from)
from available_units u
left anti join terms t on t.property_id = u.property_id and t.unit_number = u.unit_number

-- step: sums
with rents as (
  select distinct o.property_id, o.unit_number, o.rent
  from offers o
  left semi join (select * from counted where rent_multiple is not null) c
    on c.property_id = o.property_id and c.unit_number = o.unit_number
), stated as (
  select c.* exclude (amount), r.rent, r.property_id is not null as by_rent,
    coalesce(c.amount, cast(round(c.rent_multiple * r.rent, 2) as decimal(14, 2))) as amount
  from counted c
  left join rents r on r.property_id = c.property_id and r.unit_number = c.unit_number
), priced as (
  select *,
    case frequency when 'monthly' then coalesce(amount, amount_min)
      when 'annual' then cast(round(coalesce(amount, amount_min) / 12, 2) as decimal(14, 2)) end as monthly,
    case when frequency = 'one_time' then coalesce(amount, amount_min) end as one_time,
    amount is null or frequency not in ('monthly', 'annual', 'one_time') as unknown
  from stated
)
select
  property_id, unit_number, by_rent, rent,
  coalesce(sum(monthly), 0) as monthly,
  coalesce(sum(case when category <> 'deposit' then one_time end), 0) as one_time,
  coalesce(sum(case when category = 'deposit' then one_time end), 0) as deposits,
  json_list(array_agg(
    json_object('name', name, 'category', category, 'frequency', frequency, 'amount', coalesce(amount, amount_min))
    order by category, name, fee_id
  ) filter (where coalesce(monthly, one_time) is not null)) as fees,
  json_texts(array_agg(name order by name, fee_id) filter (where unknown)) as unknown_fees
from priced
group by property_id, unit_number, by_rent, rent

-- result
select
  o.property_id, o.unit_number, o.offer_id, o.lease_term_months, o.move_in_from, o.move_in_until, o.rent,
  coalesce(f.monthly, 0) as required_monthly_fees,
  o.rent + coalesce(f.monthly, 0) as total_monthly_cost,
  coalesce(f.one_time, 0) as required_one_time_fees,
  coalesce(f.deposits, 0) as required_deposits,
  o.rent + coalesce(f.monthly, 0) + coalesce(f.one_time, 0) + coalesce(f.deposits, 0) as total_move_in_cost,
  f.unknown_fees is null as complete,
  f.fees, f.unknown_fees, u.currency
from available_units u
join offers o on o.property_id = u.property_id and o.unit_number = u.unit_number
left join sums f on f.property_id = u.property_id and f.unit_number = u.unit_number
  and (not f.by_rent or f.rent is not distinct from o.rent)
