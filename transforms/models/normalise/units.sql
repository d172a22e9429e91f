-- model: units
-- layer: normalise
-- about: One unit of a property: the union of every list that knows it, joined on its number.
-- inputs: mits_units, resman_v1_units, resman_units, resman_availability, resman_unit_types, slice
-- key: property_id, unit_number
-- check: market_rent > 0
--
-- The unit number, trimmed, case kept, is the only thing that all lists share. Which list a value is taken from:
--   place and size (building, floor, floor plan, address, area): v2_units, v2_availability, mits, v1_units;
--   list rent: v2_availability and v2_units, which are live, then mits, whose feed is written less often;
--   rooms: mits, then the unit type of the newer API;
--   the MITS statuses come from mits alone, vacancy and make-ready from v2_availability alone.
-- A rent of 0, below 0 or not an amount is unknown and leaves the word to the next list. A list that has a number twice
-- keeps its first row; a second one that says the same is dropped, and one that says something else is refused. First
-- rows are found by grouping and not by a window: a window costs a batch a partition, and here each unit is one. What
-- rows say is only compared where a number stands more than once.

-- step: numbers
select list, property_id, number, min(_row) as first_row, count(*) as times
from (
  select 'mits' as list, property_id, clean(unit_number) as number, _row from mits_units
  union all
  select 'v1_units', property_id, clean(unit_number), _row from resman_v1_units
  union all
  select 'v2_units', property_id, clean(unit_number), _row from resman_units
  union all
  select 'v2_availability', property_id, clean(unit_number), _row from resman_availability
)
group by list, property_id, number

-- step: several
select list, property_id, number, first_row from numbers where times > 1 and number is not null

-- step: again
-- The rows of those numbers, with one word for what they say.
select n.*, l._row, stable_id(
    l.floorplan_id, l.building, l.floor, l.bedrooms, l.bathrooms, l.square_feet_min, l.square_feet_max, l.market_rent,
    l.unit_rent, l.economic_status, l.occupancy_status, l.leased_status, l.vacancy_class, l.vacate_date,
    l.made_ready_date, l.street
  ) as content
from several n
join mits_units l on n.list = 'mits' and l.property_id = n.property_id and clean(l.unit_number) = n.number
union all
select n.*, l._row, stable_id(l.unit_id, l.building, l.floor, l.street, l.unit_type)
from several n
join resman_v1_units l on n.list = 'v1_units' and l.property_id = n.property_id and clean(l.unit_number) = n.number
union all
select n.*, l._row, stable_id(
    l.unit_id, l.unit_type_id, l.building, l.floor, l.square_feet, l.market_rent, l.excluded_from_occupancy,
    l.available_for_online_marketing, l.is_affordable_unit, l.is_holding_unit
  )
from several n
join resman_units l on n.list = 'v2_units' and l.property_id = n.property_id and clean(l.unit_number) = n.number
union all
select n.*, l._row, stable_id(
    l.unit_id, l.unit_type_id, l.building_name, l.floor, l.square_feet, l.market_rent, l.available_for_online_marketing,
    l.excluded_from_occupancy, l.status, l.date_available, l.vacancy_status
  )
from several n
join resman_availability l
  on n.list = 'v2_availability' and l.property_id = n.property_id and clean(l.unit_number) = n.number

-- step: later
-- Empty in most slices; then the lists are read as they are.
select list, _row from again where _row <> first_row

-- step: differing
select list, property_id, number
from again
group by list, property_id, number
having min(content) <> max(content)

-- step: refused
select a.list, a._row, concat(a.list, ' has this unit number again, with other facts') as reason
from differing d
join again a on a.list = d.list and a.property_id = d.property_id and a.number = d.number
where a._row <> a.first_row
union all
select 'mits', _row, 'a unit of mits has no number' from mits_units where clean(unit_number) is null
union all
select 'v1_units', _row, 'a unit of v1_units has no number' from resman_v1_units where clean(unit_number) is null
union all
select 'v2_units', _row, 'a unit of v2_units has no number' from resman_units where clean(unit_number) is null
union all
select 'v2_availability', _row, 'a unit of v2_availability has no number' from resman_availability
where clean(unit_number) is null

-- step: types
select property_id, coalesce(clean(name), clean(unit_type_id)) as code, bedrooms, bathrooms
from resman_unit_types
where _row in (
  select min(_row) from resman_unit_types group by property_id, coalesce(clean(name), clean(unit_type_id))
)

-- step: merged
with mits as (
  select l.*, clean(unit_number) as number from mits_units l
  left anti join later r on r.list = 'mits' and r._row = l._row
  where clean(unit_number) is not null
), v1 as (
  select l.*, clean(unit_number) as number from resman_v1_units l
  left anti join later r on r.list = 'v1_units' and r._row = l._row
  where clean(unit_number) is not null
), v2 as (
  select l.*, clean(unit_number) as number from resman_units l
  left anti join later r on r.list = 'v2_units' and r._row = l._row
  where clean(unit_number) is not null
), va as (
  select l.*, clean(unit_number) as number from resman_availability l
  left anti join later r on r.list = 'v2_availability' and r._row = l._row
  where clean(unit_number) is not null
)
-- Of a list that has no rows nothing is left here, and a bare feed is joined with nothing.
select
  coalesce(m.property_id, v1.property_id, v2.property_id, va.property_id) as property_id,
  coalesce(m.number, v1.number, v2.number, va.number) as unit_number,
  lower(coalesce(clean(v2.unit_id), clean(va.unit_id), clean(v1.unit_id))) as unit_id,
  coalesce(clean(m.marketing_name), m.number, v1.number, v2.number, va.number) as unit_name,
  coalesce(clean(v2.building), clean(va.building_name), clean(m.building), clean(v1.building)) as stated_building,
  coalesce(clean(v2.floor), clean(va.floor), clean(m.floor), clean(v1.floor)) as floor,
  coalesce(clean(v2.unit_type), clean(va.unit_type_name), clean(m.floorplan_id), clean(v1.unit_type)) as floorplan_code,
  clean(m.floorplan_name) as floorplan_name,
  money(m.bedrooms) as bedrooms,
  money(m.bathrooms) as bathrooms,
  coalesce(price(v2.square_feet), price(va.square_feet), price(m.square_feet_min), price(m.square_feet_max)) as square_feet,
  coalesce(price(va.market_rent), price(v2.market_rent), price(m.market_rent), price(m.unit_rent)) as market_rent,
  price(m.effective_rent_min) as effective_rent_min,
  price(m.effective_rent_max) as effective_rent_max,
  coalesce(clean(v2.street), clean(va.street), clean(m.street), clean(v1.street)) as street,
  coalesce(clean(v2.city), clean(va.city), clean(m.city), clean(v1.city)) as city,
  coalesce(clean(v2.state), clean(va.state), clean(m.state), clean(v1.state)) as state,
  coalesce(clean(v2.postal_code), clean(va.postal_code), clean(m.postal_code), clean(v1.postal_code)) as postal_code,
  snake(m.economic_status) as economic_status,
  snake(m.occupancy_status) as occupancy_status,
  snake(m.leased_status) as leased_status,
  snake(va.vacancy_status) as vacancy_status,
  snake(va.status) as make_ready_status,
  coalesce(flag(v2.available_for_online_marketing), flag(va.available_for_online_marketing)) as marketed,
  coalesce(flag(v2.excluded_from_occupancy), flag(va.excluded_from_occupancy)) as excluded,
  flag(v2.is_affordable_unit) as affordable,
  flag(v2.is_holding_unit) as holding,
  source_of('v2_units', v2.unit_id, 'v2_availability', va.unit_id, 'v1_units', v1.unit_id) as unit_id_source,
  source_of('v2_units', v2.building, 'v2_availability', va.building_name, 'mits', m.building, 'v1_units', v1.building) as building_source,
  source_of('v2_units', v2.floor, 'v2_availability', va.floor, 'mits', m.floor, 'v1_units', v1.floor) as floor_source,
  source_of('v2_units', v2.unit_type, 'v2_availability', va.unit_type_name, 'mits', m.floorplan_id, 'v1_units', v1.unit_type) as floorplan_source,
  source_of('v2_units', price(v2.square_feet), 'v2_availability', price(va.square_feet), 'mits', price(m.square_feet_min), 'mits', price(m.square_feet_max)) as square_feet_source,
  source_of('v2_availability', price(va.market_rent), 'v2_units', price(v2.market_rent), 'mits', price(m.market_rent), 'mits', price(m.unit_rent)) as rent_source,
  source_of('v2_units', v2.street, 'v2_availability', va.street, 'mits', m.street, 'v1_units', v1.street) as street_source,
  source_of('mits', m.number) as mits_source,
  source_of('v2_availability', va.number) as availability_source,
  nullif(concat_ws('; ',
    issue('market rent in v2_availability', 'price', va.market_rent),
    issue('market rent in v2_units', 'price', v2.market_rent),
    issue('market rent in mits', 'price', m.market_rent),
    issue('unit rent in mits', 'price', m.unit_rent),
    issue('effective rent in mits', 'price', m.effective_rent_min),
    issue('bedrooms', 'number', m.bedrooms),
    issue('bathrooms', 'number', m.bathrooms),
    issue('area in v2_units', 'number', v2.square_feet),
    issue('area in mits', 'number', m.square_feet_min),
    case when d.number is not null
      then 'a list has this unit number more than once and says different things, so it is not offered' end
  ), '') as issue
from mits m
full join v1 on v1.property_id = m.property_id and v1.number = m.number
full join v2
  on v2.property_id = coalesce(m.property_id, v1.property_id) and v2.number = coalesce(m.number, v1.number)
full join va
  on va.property_id = coalesce(m.property_id, v1.property_id, v2.property_id)
  and va.number = coalesce(m.number, v1.number, v2.number)
left join (select distinct property_id, number from differing) d
  on d.property_id = coalesce(m.property_id, v1.property_id, v2.property_id, va.property_id)
  and d.number = coalesce(m.number, v1.number, v2.number, va.number)

-- result
select
  u.property_id, u.unit_number, u.unit_id, u.unit_name,
  without(u.stated_building, '^[Bb]uilding +') as building,
  u.floor, u.floorplan_code, u.floorplan_name,
  try_cast(coalesce(u.bedrooms, money(t.bedrooms)) as decimal(6, 2)) as bedrooms,
  try_cast(coalesce(u.bathrooms, money(t.bathrooms)) as decimal(6, 2)) as bathrooms,
  try_cast(u.square_feet as bigint) as square_feet,
  u.market_rent, u.effective_rent_min, u.effective_rent_max, s.currency, u.street, u.city, u.state, u.postal_code,
  u.economic_status, u.occupancy_status, u.leased_status, u.vacancy_status, u.make_ready_status,
  u.marketed, u.excluded, u.affordable, u.holding,
  json_object(
    'unit_id', u.unit_id_source, 'building', u.building_source, 'floor', u.floor_source,
    'floorplan_code', u.floorplan_source, 'square_feet', u.square_feet_source, 'market_rent', u.rent_source,
    'street', u.street_source, 'leased_status', u.mits_source, 'vacancy_status', u.availability_source,
    'bedrooms', source_of('mits', u.bedrooms, 'v2_unit_types', money(t.bedrooms)),
    'bathrooms', source_of('mits', u.bathrooms, 'v2_unit_types', money(t.bathrooms))
  ) as value_sources,
  u.issue,
  cast(null as varchar) as reject
from slice s
cross join merged u
left join types t on t.property_id = u.property_id and t.code = u.floorplan_code
union all
select
  property_id, number, unit_id, null, building, floor, code, null, null, null, null, price(rent), null, null, null,
  null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, reason
from (
  select l.property_id, clean(l.unit_number) as number, l.unit_id, l.building, l.floor, l.unit_type as code,
    cast(null as varchar) as rent, r.reason
  from refused r join resman_v1_units l on r.list = 'v1_units' and l._row = r._row
  union all
  select l.property_id, clean(l.unit_number), l.unit_id, l.building, l.floor, l.unit_type, l.market_rent, r.reason
  from refused r join resman_units l on r.list = 'v2_units' and l._row = r._row
  union all
  select l.property_id, clean(l.unit_number), l.unit_id, l.building_name, l.floor, l.unit_type_name, l.market_rent, r.reason
  from refused r join resman_availability l on r.list = 'v2_availability' and l._row = r._row
  union all
  select l.property_id, clean(l.unit_number), null, l.building, l.floor, l.floorplan_id, l.market_rent, r.reason
  from refused r join mits_units l on r.list = 'mits' and l._row = r._row
)
