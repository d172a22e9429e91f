-- model: fees
-- layer: normalise
-- about: One charge besides rent, from whichever of seven vendor lists states it, in one shape.
-- inputs: mits_charges, resman_property_charges, resman_unit_charges, resman_rentable_item_types, resman_rentable_items, resman_amenity_charges, resman_amenities, resman_unit_types, units, properties, slice
-- key: property_id, fee_id
-- check: amount > 0
-- check: amount_min <= amount_max
-- check: rent_multiple is null or amount is null
--
-- origin is the name of the wire table. What is left out, because the vendor means that nothing is charged:
--   an amount of 0; an empty element of the feed; a disabled charge; a unit charge outside its dates; an amenity charge
--   that is part of the market rent already.
-- An amount that is negative or not an amount stays as a fee whose amount is unknown, so that no total forgets it.
--
-- The same fee in two lists, in the same place, counts once; the list that says more wins, in the order of `list` below.
-- Two fees of different lists are the same fee when their category is one that a household pays once (application,
-- admin, broker, deposit, hold), or when they have the same name, or the same category, frequency and amount. Single
-- rentable items have the name of their type and may yet cost something else: of them only those with the same amount.
--
-- A deposit of "one and a half months" has a rent_multiple and no amount: what it comes to depends on the offer. Of a
-- range of multiples neither end is taken; the condition repeats it.

-- step: wordings
-- A few dozen wordings stand for all charges of a feed, so each is looked at once.
select
  stable_id(element, kind, label) as wording,
  concat_ws('|', element, kind, label) as identity,
  case
    when element like '%ApplicationFee' then 'Application fee'
    when element like '%AdminFee' then 'Admin fee'
    when element like '%BrokerFee' then 'Broker fee'
    when element like '%NonRefundableHoldFee' then 'Non-refundable hold fee'
    when element like '%LateMinFee' then 'Late fee'
    when element like '%LateFeePerDay' then 'Late fee a day'
    when element like '%LatePercent' then 'Late fee in percent of the rent'
    when element like '%Pet%' and element like '%Deposit' then concat('Pet deposit', coalesce(' (' || clean(kind) || ')', ''))
    when element like '%Pet%' and element like '%Rent' then concat('Pet rent', coalesce(' (' || clean(kind) || ')', ''))
    when element like '%Pet%' then concat('Pet fee', coalesce(' (' || clean(kind) || ')', ''))
    when element like '%Parking%' then coalesce(clean(label), clean(kind) || ' parking', 'Parking')
    when element like '%Deposit%' then coalesce(
      case when lower(kind) like '%deposit%' then clean(kind) end, clean(kind) || ' deposit', clean(label), 'Deposit')
    else coalesce(clean(label), clean(kind), replace(snake(without(element, '^.*/')), '_', ' '))
  end as name,
  element as hint,
  coalesce(element like '%Percent', false) as in_percent,
  case
    when element like '%LateFeePerDay' then 'daily'
    when element like '%Late%' then 'per_occurrence'
    when element like '%Rent' or element like '%Parking%' then 'monthly'
    when element like '%Fee%' or element like '%Deposit%' then 'one_time'
    else 'unknown'
  end as frequency,
  case
    when element like '%Pet%' or element like '%Late%' or element like '%BrokerFee' or element like '%HoldFee' then 'situational'
    when element like '%Parking%' then 'optional'
    when element like '%ApplicationFee' or element like '%AdminFee' or element like '%Deposit%' then 'required'
    else 'situational'
  end as requirement,
  coalesce(element like '%NonRefundable%', false) as non_refundable,
  case when element like '%Pet%' then 'pet' when element like '%Parking%' then 'parking' end as about
from (select distinct element, kind, label from mits_charges)

-- step: stated
select
  c.property_id, 'mits_charges' as origin, 4 as list, w.identity, w.name, w.hint,
  case when not w.in_percent and not c.of_rent then c.amount end as amount_text,
  case when not c.of_rent then c.amount_min end as min_text, case when not c.of_rent then c.amount_max end as max_text,
  case when w.in_percent then c.amount end as percent_text,
  c.currency, w.frequency, w.requirement,
  case
    when w.non_refundable then false
    else coalesce(price(c.percent_refundable) > 0 or price(c.portion_refundable) > 0,
      case when coalesce(money(c.percent_refundable), money(c.portion_refundable)) = 0 then false end)
  end as refundable,
  c.percent_refundable as refundable_percent, c.portion_refundable as refundable_text,
  w.about,
  clean(c.floorplan_id) as floorplan_code, clean(c.unit_number) as unit_number,
  cast(null as boolean) as third_party, cast(null as boolean) as taxable,
  case when not c.of_rent then clean(c.condition)
    when c.amount is null then concat('months of rent: ', concat_ws(' to ', c.amount_min, c.amount_max)) end as condition,
  cast(null as varchar) as reject, case when c.of_rent then c.amount end as multiple_text, c._row
from (
  select *, stable_id(element, kind, label) as wording,
    coalesce(snake(condition) in ('month_multiple', 'monthmultiple'), false) as of_rent
  from mits_charges
  where clean(coalesce(amount, amount_min, amount_max)) is not null
) c
join wordings w on w.wording = c.wording
where not coalesce(
  c.of_rent and c.amount is null and coalesce(money(c.amount_min), money(c.amount_max)) = 0
    and coalesce(money(c.amount_max), money(c.amount_min)) = 0, false)
union all
select
  property_id, 'resman_property_charges', 1, concat_ws('|', transaction_category_id, charge_name),
  coalesce(clean(charge_name), clean(charge_category)), charge_category,
  amount, null, null, null, currency,
  coalesce(snake(frequency), case when flag(is_recurring) then 'monthly' when not flag(is_recurring) then 'one_time' end),
  case when flag(is_required) then 'required' when flag(is_situational) then 'situational'
    when not flag(is_required) then 'optional' else 'situational' end,
  flag(is_refundable), null, null, null, null, null, flag(is_third_party), flag(is_taxable), null, null, null, _row
from resman_property_charges
where coalesce(flag(is_enabled), true)
union all
select
  c.property_id, 'resman_unit_charges', 2,
  concat_ws('|', c.transaction_category_id, c.charge_name, c.rentable_item_type_id, c.amenity_id),
  coalesce(clean(c.charge_name), clean(c.charge_category)), concat_ws(' ', c.charge_category, c.charge_class),
  c.amount, null, null, null, null,
  coalesce(snake(c.frequency), case
    when flag(c.is_recurring) or snake(c.charge_class) in ('recurring', 'rentable_item', 'amenity') then 'monthly'
    when not flag(c.is_recurring) or snake(c.charge_class) = 'one_time' then 'one_time' end),
  case when flag(c.is_required) then 'required' when flag(c.is_situational) then 'situational'
    when not flag(c.is_required) then 'optional' else 'situational' end,
  flag(c.is_refundable), null, null, null,
  case when clean(c.unit_id) is null then t.code end, u.unit_number, null, null, null,
  case
    when clean(c.unit_id) is not null and u.unit_number is null then 'the charge is for a unit that no list has'
    when clean(c.unit_id) is null and clean(c.unit_type_id) is not null and t.code is null then 'the charge is for a unit type that no list has'
  end,
  null, c._row
from slice s
cross join resman_unit_charges c
left join properties p on p.property_id = c.property_id
left join units u on u.property_id = c.property_id and u.unit_id = lower(clean(c.unit_id))
left join (
  select property_id, lower(clean(unit_type_id)) as unit_type_id, coalesce(clean(name), clean(unit_type_id)) as code
  from resman_unit_types
  where _row in (select min(_row) from resman_unit_types group by property_id, lower(clean(unit_type_id)))
) t on t.property_id = c.property_id and t.unit_type_id = lower(clean(c.unit_type_id))
left anti join (
  select distinct property_id, amenity_id from resman_amenity_charges where flag(impacts_market_rent)
) rent on rent.property_id = c.property_id and rent.amenity_id = c.amenity_id
where coalesce(flag(c.is_enabled), true)
  and coalesce(date_lenient(c.start_date) <= local_date(s.observed_at, p.time_zone), true)
  and coalesce(date_lenient(c.end_date) >= local_date(s.observed_at, p.time_zone), true)
union all
select
  property_id, 'resman_unit_types', 3, 'required_deposit', 'Required deposit', 'deposit',
  required_deposit, null, null, null, null, 'one_time', 'required', null, null, null, null,
  coalesce(clean(name), clean(unit_type_id)), null, null, null, null, null, null, _row
from resman_unit_types
where clean(required_deposit) is not null
union all
select
  property_id, 'resman_rentable_item_types', 5, rentable_item_type_id,
  coalesce(clean(name), clean(marketing_description), clean(description)),
  concat_ws(' ', description, 'rentable item'), amount, null, null, null, null, 'monthly', 'optional', null, null, null,
  'rentable_item', null, null, null, null, clean(marketing_description), null, null, _row
from resman_rentable_item_types
union all
select
  property_id, 'resman_rentable_items', 6, coalesce(clean(rentable_item_type_id), clean(rentable_item_type_name), rentable_item_id),
  coalesce(clean(rentable_item_type_name), clean(name)),
  'rentable item', charge, null, null, null, null, 'monthly', 'optional', null, null, null,
  'rentable_item', null, clean(attached_unit_number), null, null, null, null, null, _row
from resman_rentable_items
where coalesce(flag(rentable), true) and clean(charge) is not null
union all
select
  c.property_id, 'resman_amenity_charges', 7, c.amenity_id, clean(c.amenity_name), 'amenity charge',
  c.amount, null, null, null, null, 'monthly',
  case when a.unit_number is null then 'situational' else 'required' end, null, null, null, null, null, a.unit_number,
  null, null, null, null, null, c._row
from (
  select c.* from slice s
  cross join resman_amenity_charges c
  left join properties p on p.property_id = c.property_id
  where coalesce(date_lenient(c.charge_date) <= local_date(s.observed_at, p.time_zone), true)
  qualify row_number() over (
    partition by c.property_id, c.amenity_id order by date_lenient(c.charge_date) desc nulls last, c._row
  ) = 1
) c
left join (
  select distinct property_id, amenity_id, clean(unit_number) as unit_number from resman_amenities
) a on a.property_id = c.property_id and a.amenity_id = c.amenity_id
where not coalesce(flag(c.impacts_market_rent), false)

-- step: read
select *,
  coalesce(price(amount_text), case when price(min_text) = price(max_text) then price(min_text) end) as amount,
  case when price(amount_text) is null and price(min_text) is distinct from price(max_text)
    then least(coalesce(price(min_text), price(max_text)), coalesce(price(max_text), price(min_text))) end as amount_min,
  case when price(amount_text) is null and price(min_text) is distinct from price(max_text)
    then greatest(coalesce(price(min_text), price(max_text)), coalesce(price(max_text), price(min_text))) end as amount_max,
  price(multiple_text) as rent_multiple,
  lower(concat_ws(' ', replace(replace(hint, '/', ' '), '_', ' '), name)) as words,
  nullif(concat_ws('; ',
    issue(coalesce(name, 'amount'), 'price', amount_text),
    issue(concat('lowest ', coalesce(name, 'amount')), 'price', min_text),
    issue(concat('highest ', coalesce(name, 'amount')), 'price', max_text),
    issue(coalesce(name, 'percentage'), 'price', percent_text),
    issue(coalesce(name, 'months of rent'), 'price', multiple_text)
  ), '') as issue
from stated
where not (
  coalesce(money(amount_text), money(min_text), money(max_text), money(percent_text), money(multiple_text)) is not null
  and coalesce(money(amount_text), 0) = 0 and coalesce(money(multiple_text), 0) = 0 and coalesce(money(min_text), 0) = 0
  and coalesce(money(max_text), 0) = 0 and coalesce(money(percent_text), 0) = 0
)

-- step: kinds
-- A few dozen wordings stand for all charges, so each is looked at once.
select words,
  case
    when matches(words, 'application ?fee|\bapplication\b|\bscreening\b') then 'application'
    when matches(words, '\badmin') then 'admin'
    when matches(words, 'hold ?fee|\bhold(ing)?\b') then 'hold'
    when matches(words, '\bbroker') then 'broker'
    when matches(words, '\blate|\bnsf\b|\breturned (check|payment)') then 'late'
    when matches(words, '\b(pets?|dogs?|cats?|animals?)\b') then 'pet'
    when matches(words, '\b(parking|garages?|carports?)\b') then 'parking'
    when matches(words, '\b(storage|lockers?)\b') then 'storage'
    when matches(words, '\bdeposit') then 'deposit'
    when matches(words, '\b(insurance|liability)\b') then 'insurance'
    when matches(words, '\b(utilit|trash|water\b|sewer|electric|gas\b|internet|cable\b|wi-?fi|pest|technology)') then 'utility'
    when words like '%rentable item%' then 'rentable_item'
    when matches(words, '\bamenit') then 'amenity'
    else 'other'
  end as category
from (select distinct words from read)

-- step: sorted
select r.*, coalesce(k.category, 'other') as category,
  case
    when frequency in ('one_time', 'once', 'onetime', 'non_recurring', 'at_move_in', 'move_in', 'single') then 'one_time'
    when frequency in ('monthly', 'month', 'per_month', 'recurring', 'every_month') then 'monthly'
    when frequency in ('daily', 'day', 'per_day') then 'daily'
    when frequency in ('annual', 'annually', 'yearly', 'year', 'per_year') then 'annual'
    when frequency in ('per_occurrence', 'per_use', 'each', 'occurrence', 'as_incurred') then 'per_occurrence'
    else 'unknown'
  end as period
from read r
left join kinds k on k.words = r.words

-- step: repeated
select property_id, origin, identity, floorplan_code, unit_number, amount, amount_min, amount_max, rent_multiple, period,
  reject, min(_row) as first_row
from sorted
group by property_id, origin, identity, floorplan_code, unit_number, amount, amount_min, amount_max, rent_multiple, period,
  reject
having count(*) > 1

-- step: again
-- The same charge stated again in one list is one charge. This step, `rivals` and `several` are empty in most slices, and
-- then nothing is joined behind them.
select s.origin, s._row
from sorted s
join repeated r
  on r.property_id = s.property_id and r.origin = s.origin and coalesce(r.identity, '') = coalesce(s.identity, '')
  and (r.identity is not distinct from s.identity)
  and (r.floorplan_code is not distinct from s.floorplan_code) and (r.unit_number is not distinct from s.unit_number)
  and (r.amount is not distinct from s.amount) and (r.amount_min is not distinct from s.amount_min)
  and (r.amount_max is not distinct from s.amount_max) and (r.rent_multiple is not distinct from s.rent_multiple) and (r.period is not distinct from s.period)
  and (r.reject is not distinct from s.reject) and r.first_row <> s._row

-- step: single
select s.*, concat_ws('|', coalesce(floorplan_code, ''), coalesce(unit_number, '')) as place, lower(name) as plain_name
from sorted s
left anti join again a on a.origin = s.origin and a._row = s._row

-- step: rivals
-- The charges of a list that another one of the slice gives way to.
select s.property_id, s.place, s.category, s.list, s.plain_name, s.period, s.amount
from single s
cross join (select max(list) as last from single) m
where s.list < m.last and s.reject is null

-- step: kept
select f.* from single f
left anti join rivals g
  on g.property_id = f.property_id and g.place = f.place and g.category = f.category and g.list < f.list
  and (
    f.category in ('application', 'admin', 'broker', 'deposit', 'hold')
    or (g.plain_name = f.plain_name
      and (f.origin <> 'resman_rentable_items' or f.amount = g.amount or (f.amount is null and f.issue is null)))
    or (f.category <> 'other' and g.period = f.period and g.amount = f.amount)
  )

-- step: several
select property_id, origin, place, identity from kept group by property_id, origin, place, identity having count(*) > 1

-- step: numbered
-- Charges of one list that differ only in what they cost are told apart by their order.
select k.origin, k._row, row_number() over (partition by k.property_id, k.origin, k.place, k.identity order by k._row) as nth
from (select property_id, origin, place, identity, _row from kept) k
left semi join several s
  on s.property_id = k.property_id and s.origin = k.origin and s.place = k.place and s.identity = k.identity

-- result
select
  f.property_id,
  stable_id(f.origin, f.floorplan_code, f.unit_number, f.identity, cast(coalesce(n.nth, 1) as varchar)) as fee_id,
  f.origin, f.name, f.category, f.amount, f.amount_min, f.amount_max,
  try_cast(price(f.percent_text) as decimal(6, 2)) as percent,
  try_cast(f.rent_multiple as decimal(6, 2)) as rent_multiple,
  case when character_length(clean(f.currency)) = 3 then upper(clean(f.currency)) else s.currency end as currency,
  f.period as frequency, f.requirement, f.refundable,
  coalesce(price(f.refundable_text), cast(round(f.amount * price(f.refundable_percent) / 100, 2) as decimal(14, 2))) as refundable_amount,
  case
    when f.about is not null then f.about
    when f.requirement <> 'required' and f.category in ('pet', 'parking') then f.category
    when f.requirement <> 'required' and f.category in ('storage', 'rentable_item') then 'rentable_item'
    when f.unit_number is not null then 'unit'
    when f.floorplan_code is not null then 'floorplan'
    else 'property'
  end as applies_to,
  f.floorplan_code, f.unit_number, f.third_party, f.taxable, f.condition, f.reject, f.issue
from slice s
cross join kept f
left join numbered n on n.origin = f.origin and n._row = f._row
