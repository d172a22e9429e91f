-- model: amenities
-- layer: normalise
-- about: One amenity of a property, floor plan or unit. Each list keeps its own words; the same words in one place are one.
-- inputs: mits_amenities, resman_amenities
-- key: property_id, amenity_key

-- step: stated
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

-- step: repeated
select property_id, origin, floorplan_code, unit_number, lower(name) as plain_name, min(_row) as first_row
from stated
group by property_id, origin, floorplan_code, unit_number, lower(name)
having count(*) > 1

-- step: again
-- Empty in most slices, and then nothing is joined behind it.
select s.origin, s._row
from stated s
join repeated r
  on r.property_id = s.property_id and r.origin = s.origin and r.first_row <> s._row
  and (r.floorplan_code is not distinct from s.floorplan_code) and (r.unit_number is not distinct from s.unit_number)
  and (r.plain_name is not distinct from lower(s.name))

-- result
select
  property_id,
  stable_id(origin, floorplan_code, unit_number, lower(name)) as amenity_key,
  origin, name, kind,
  case when unit_number is not null then 'unit' when floorplan_code is not null then 'floorplan' else 'property' end as applies_to,
  floorplan_code, unit_number, description
from stated s
left anti join again a on a.origin = s.origin and a._row = s._row
