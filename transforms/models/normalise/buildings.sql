-- model: buildings
-- layer: normalise
-- about: One building of a property. The newer API's list comes first; the marketing feed fills what it lacks.
-- inputs: resman_buildings, mits_buildings
-- key: property_id, building
--
-- Feeds write `Building 12` where the other lists write `12`: the word is taken off. Where both lists have a
-- building of that name they are one; a list that has a name twice keeps its first.
with v2 as (
  select *, without(coalesce(clean(name), clean(building_id)), '^[Bb]uilding +') as building
  from resman_buildings
  qualify row_number() over (partition by property_id, building order by _row) = 1
), feed as (
  select *, without(coalesce(clean(name), clean(building_id)), '^[Bb]uilding +') as building
  from mits_buildings
  qualify row_number() over (partition by property_id, building order by _row) = 1
)
select
  coalesce(v2.property_id, m.property_id) as property_id,
  coalesce(v2.building, m.building) as building,
  coalesce(clean(v2.building_id), clean(m.building_id)) as building_id,
  coalesce(clean(v2.description), clean(m.description)) as description,
  try_cast(money(v2.floors) as bigint) as floors,
  try_cast(coalesce(price(v2.total_units), price(m.unit_count)) as bigint) as unit_count,
  nullif(concat_ws('; ', issue('floors', 'number', v2.floors), issue('units', 'number', v2.total_units)), '') as issue
from v2
full join feed m on m.property_id = v2.property_id and m.building = v2.building
