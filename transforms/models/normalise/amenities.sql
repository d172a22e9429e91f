-- model: amenities
-- layer: normalise
-- about: One amenity of a property, floor plan or unit. Each list keeps its own words; the same words in one place are one.
-- inputs: mits_amenities, resman_amenities
-- key: property_id, amenity_key
with stated as (
  select
    property_id, 'mits_amenities' as origin,
    coalesce(clean(description), clean(amenity_subtype), clean(amenity_type)) as name,
    coalesce(clean(amenity_type), clean(amenity_subtype)) as kind,
    clean(floorplan_id) as floorplan_code, clean(unit_number) as unit_number,
    cast(null as varchar) as description, _row
  from mits_amenities
  union all
  select
    property_id, 'resman_amenities', coalesce(clean(name), clean(ils_mapping)), clean(amenity_type_name), null,
    clean(unit_number), clean(description), _row
  from resman_amenities
  where coalesce(flag(available_for_online_marketing), true)
), firsts as (
  select origin, min(_row) as _row from stated group by property_id, origin, floorplan_code, unit_number, lower(name)
)
select
  property_id,
  stable_id(origin, floorplan_code, unit_number, lower(name)) as amenity_key,
  origin, name, kind,
  case when unit_number is not null then 'unit' when floorplan_code is not null then 'floorplan' else 'property' end as applies_to,
  floorplan_code, unit_number, description
from stated s
left semi join firsts f on f.origin = s.origin and f._row = s._row
