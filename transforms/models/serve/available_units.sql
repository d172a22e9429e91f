-- model: available_units
-- layer: serve
-- about: One unit that may be offered now, with what a renter asks first. A unit that may not be offered is not here.
-- inputs: units, unit_availability, properties, floorplans, offer_terms, concessions, amenities, slice
-- key: property_id, unit_number
-- check: agreement in ('agreed', 'single')
-- check: rent_from > 0
--
-- A price whose move-in window is over, where the property is, is no offer. Without any price for a term the lowest
-- effective rent stands, then the list rent.
with terms as (
  select t.property_id, t.unit_number, min(t.effective_rent) as effective_rent,
    first_value(t.lease_term_months order by t.effective_rent, t.lease_term_months, t.offer_id) as lease_term_months
  from slice s
  cross join offer_terms t
  left join properties p on p.property_id = t.property_id
  where t.effective_rent is not null and coalesce(t.move_in_until >= local_date(s.observed_at, p.time_zone), true)
  group by t.property_id, t.unit_number
), free as (
  select u.*, a.available_on, a.agreement
  from units u
  join unit_availability a on a.property_id = u.property_id and a.unit_number = u.unit_number
  where a.available
), offered as (
  select property_id, floorplan_code, unit_number, applies_to, header, concession_id,
    json_object('header', header, 'value', value, 'lease_term_months', lease_term_months, 'ends_on', ends_on) as document
  from concessions where current
), unit_concessions as (
  select property_id, unit_number, json_list(array_agg(document order by header, concession_id)) as concessions
  from (
    select f.property_id, f.unit_number, o.document, o.header, o.concession_id
    from free f join offered o on o.property_id = f.property_id and o.applies_to = 'property'
    union all
    select f.property_id, f.unit_number, o.document, o.header, o.concession_id
    from free f join offered o on o.property_id = f.property_id and o.applies_to = 'floorplan' and o.floorplan_code = f.floorplan_code
    union all
    select f.property_id, f.unit_number, o.document, o.header, o.concession_id
    from free f join offered o on o.property_id = f.property_id and o.applies_to = 'unit' and o.unit_number = f.unit_number
  )
  where document is not null
  group by property_id, unit_number
), unit_amenities as (
  select property_id, unit_number, json_texts(array_agg(name order by name)) as amenities
  from (
    select a.property_id, a.unit_number, a.name from amenities a where a.applies_to = 'unit'
    union
    select f.property_id, f.unit_number, a.name
    from free f join amenities a on a.property_id = f.property_id and a.applies_to = 'floorplan' and a.floorplan_code = f.floorplan_code
  )
  group by property_id, unit_number
)
select
  f.property_id, f.unit_number, f.unit_id, f.unit_name, p.name as property_name, f.building, f.floor, f.floorplan_code,
  coalesce(f.floorplan_name, fp.name) as floorplan_name,
  coalesce(f.bedrooms, fp.bedrooms) as bedrooms,
  coalesce(f.bathrooms, fp.bathrooms) as bathrooms,
  coalesce(f.square_feet, case when fp.square_feet_min = fp.square_feet_max then fp.square_feet_min end) as square_feet,
  f.available_on, f.market_rent, coalesce(t.effective_rent, f.effective_rent_min, f.market_rent) as rent_from, t.lease_term_months as rent_from_term_months,
  f.currency, f.affordable,
  -- The feed's link is a base to which the unit is added; the account's link is for the whole property.
  case
    when json_get_str(p.value_sources, 'application_url') = 'mits' then concat(
      p.application_url, case when p.application_url like '%?%' then '&' else '?' end, 'unitNumber=', url_part(f.unit_number))
    else p.application_url
  end as application_url,
  c.concessions, a.amenities, f.agreement
from free f
join properties p on p.property_id = f.property_id
left join floorplans fp on fp.property_id = f.property_id and fp.floorplan_code = f.floorplan_code
left join terms t on t.property_id = f.property_id and t.unit_number = f.unit_number
left join unit_concessions c on c.property_id = f.property_id and c.unit_number = f.unit_number
left join unit_amenities a on a.property_id = f.property_id and a.unit_number = f.unit_number
