-- model: floorplans
-- layer: normalise
-- about: One floor plan, which ResMan calls unit type, merged from the marketing feed and the newer API.
-- inputs: mits_floorplans, resman_unit_types, slice
-- key: property_id, floorplan_code
-- check: market_rent_min > 0
-- check: market_rent_min <= market_rent_max
--
-- The feed's id of a floor plan is the unit-type code, which the newer API calls the name. Counts and areas come from
-- the newer API first, rents from the feed first, since it has the range over all units. A rent of 0 is unknown.
with feed as (
  select *, clean(floorplan_id) as code
  from mits_floorplans
  where _row in (select min(_row) from mits_floorplans group by property_id, clean(floorplan_id))
), v2 as (
  select *, coalesce(clean(name), clean(unit_type_id)) as code
  from resman_unit_types
  where _row in (select min(_row) from resman_unit_types group by property_id, coalesce(clean(name), clean(unit_type_id)))
)
select
  coalesce(m.property_id, v2.property_id) as property_id,
  coalesce(m.code, v2.code) as floorplan_code,
  coalesce(clean(m.name), clean(v2.description)) as name,
  clean(v2.unit_type_id) as floorplan_id,
  try_cast(coalesce(money(v2.bedrooms), money(m.bedrooms)) as decimal(6, 2)) as bedrooms,
  try_cast(coalesce(money(v2.bathrooms), money(m.bathrooms)) as decimal(6, 2)) as bathrooms,
  try_cast(coalesce(price(m.square_feet_min), price(v2.square_footage)) as bigint) as square_feet_min,
  try_cast(coalesce(price(m.square_feet_max), price(m.square_feet_min), price(v2.square_footage)) as bigint) as square_feet_max,
  try_cast(money(m.unit_count) as bigint) as unit_count,
  try_cast(money(m.units_available) as bigint) as units_available,
  least(
    coalesce(price(m.market_rent_min), price(m.market_rent_max), price(v2.market_rent)),
    coalesce(price(m.market_rent_max), price(m.market_rent_min), price(v2.market_rent))
  ) as market_rent_min,
  greatest(
    coalesce(price(m.market_rent_min), price(m.market_rent_max), price(v2.market_rent)),
    coalesce(price(m.market_rent_max), price(m.market_rent_min), price(v2.market_rent))
  ) as market_rent_max,
  price(v2.required_deposit) as deposit,
  s.currency,
  try_cast(price(v2.maximum_occupancy) as bigint) as maximum_occupancy,
  coalesce(clean(m.comment), clean(v2.description)) as description,
  clean(m.image_url) as image_url,
  json_object(
    'name', source_of('mits', m.name, 'v2_unit_types', v2.description),
    'bedrooms', source_of('v2_unit_types', money(v2.bedrooms), 'mits', money(m.bedrooms)),
    'bathrooms', source_of('v2_unit_types', money(v2.bathrooms), 'mits', money(m.bathrooms)),
    'square_feet', source_of('mits', price(m.square_feet_min), 'v2_unit_types', price(v2.square_footage)),
    'market_rent', source_of('mits', price(m.market_rent_min), 'mits', price(m.market_rent_max),
      'v2_unit_types', price(v2.market_rent))
  ) as value_sources,
  nullif(concat_ws('; ',
    issue('lowest market rent', 'price', m.market_rent_min),
    issue('highest market rent', 'price', m.market_rent_max),
    issue('market rent', 'price', v2.market_rent),
    issue('required deposit', 'price', v2.required_deposit),
    issue('bedrooms', 'number', coalesce(v2.bedrooms, m.bedrooms)),
    issue('bathrooms', 'number', coalesce(v2.bathrooms, m.bathrooms)),
    issue('smallest area', 'number', m.square_feet_min),
    issue('largest area', 'number', m.square_feet_max)
  ), '') as issue
from slice s
cross join (
  feed m full join v2 on v2.property_id = m.property_id and v2.code = m.code
)
