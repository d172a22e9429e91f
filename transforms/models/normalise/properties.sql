-- model: properties
-- layer: normalise
-- about: One property whose inventory this slice holds, merged from the marketing feed and the account's property lists.
-- inputs: resman_account_properties, mits_properties, mits_floorplans, mits_units, resman_v1_units, resman_units, resman_availability, resman_unit_types, slice
-- key: property_id
-- check: time_zone is null or time_zone not like '% %'
--
-- The feed comes first for what renters see (name, web links, description); the account lists come first for what
-- only they hold (kind, time zone, abbreviation), and of those the newer generation before the older.
with known as (
  select property_id from mits_properties
  union select property_id from mits_floorplans
  union select property_id from mits_units
  union select property_id from resman_v1_units
  union select property_id from resman_units
  union select property_id from resman_availability
  union select property_id from resman_unit_types
), feed as (
  select * from mits_properties
  qualify row_number() over (partition by property_id order by _row) = 1
), listed as (
  select *, case when generation like '%2%' then 'v2' else 'v1' end as list from resman_account_properties
), v1 as (
  select * from listed where list = 'v1'
  qualify row_number() over (partition by lower(trim(property_id)) order by _row) = 1
), v2 as (
  select * from listed where list = 'v2'
  qualify row_number() over (partition by lower(trim(property_id)) order by _row) = 1
)
select
  k.property_id,
  coalesce(clean(m.marketing_name), clean(v2.name), clean(v1.name), clean(m.legal_name), k.property_id) as name,
  coalesce(clean(v2.abbreviation), clean(v1.abbreviation)) as abbreviation,
  coalesce(clean(v2.kind), clean(v1.kind)) as kind,
  coalesce(clean(m.street), clean(v2.street), clean(v1.street)) as street,
  coalesce(clean(m.city), clean(v2.city), clean(v1.city)) as city,
  coalesce(clean(m.state), clean(v2.state), clean(v1.state)) as state,
  coalesce(clean(m.postal_code), clean(v2.postal_code), clean(v1.postal_code)) as postal_code,
  case
    when upper(clean(m.country)) in ('USA', 'UNITED STATES', 'UNITED STATES OF AMERICA') then 'US'
    when upper(clean(m.country)) in ('CAN', 'CANADA') then 'CA'
    when upper(clean(m.country)) in ('MEX', 'MEXICO') then 'MX'
    when upper(clean(m.country)) in ('GBR', 'UK', 'UNITED KINGDOM') then 'GB'
    when character_length(clean(m.country)) = 2 then upper(clean(m.country))
  end as country,
  coalesce(
    phone_e164(m.phone, s.region), phone_e164(v2.phone, s.region), phone_e164(v1.phone, s.region),
    clean(m.phone), clean(v2.phone), clean(v1.phone)
  ) as phone,
  coalesce(email_canonical(m.email), email_canonical(v2.email), email_canonical(v1.email)) as email,
  clean(m.website) as website,
  coalesce(clean(m.application_url), clean(v2.application_url), clean(v1.application_url)) as application_url,
  coalesce(time_zone(v2.time_zone), time_zone(v1.time_zone), time_zone(m.time_zone)) as time_zone,
  case when abs(try_cast(clean(m.latitude) as double)) <= 90 then try_cast(clean(m.latitude) as double) end as latitude,
  case when abs(try_cast(clean(m.longitude) as double)) <= 180 then try_cast(clean(m.longitude) as double) end as longitude,
  clean(m.structure_type) as structure_type,
  try_cast(money(m.unit_count) as bigint) as unit_count,
  try_cast(price(m.year_built) as bigint) as year_built,
  json_document(clean(m.office_hours)) as office_hours,
  coalesce(clean(m.short_description), clean(m.long_description)) as description,
  json_object(
    'name', source_of('mits', m.marketing_name, 'v2_properties', v2.name, 'v1_properties', v1.name, 'mits', m.legal_name),
    'street', source_of('mits', m.street, 'v2_properties', v2.street, 'v1_properties', v1.street),
    'phone', source_of('mits', phone_e164(m.phone, s.region), 'v2_properties', phone_e164(v2.phone, s.region),
      'v1_properties', phone_e164(v1.phone, s.region), 'mits', m.phone, 'v2_properties', v2.phone, 'v1_properties', v1.phone),
    'email', source_of('mits', email_canonical(m.email), 'v2_properties', email_canonical(v2.email),
      'v1_properties', email_canonical(v1.email)),
    'application_url', source_of('mits', m.application_url, 'v2_properties', v2.application_url,
      'v1_properties', v1.application_url),
    'time_zone', source_of('v2_properties', time_zone(v2.time_zone), 'v1_properties', time_zone(v1.time_zone),
      'mits', time_zone(m.time_zone))
  ) as value_sources,
  nullif(concat_ws('; ',
    issue('unit count', 'number', m.unit_count),
    issue('year built', 'number', m.year_built),
    case when clean(coalesce(v2.time_zone, v1.time_zone, m.time_zone)) is not null
      and coalesce(time_zone(v2.time_zone), time_zone(v1.time_zone), time_zone(m.time_zone)) is null
      then concat('time zone `', coalesce(v2.time_zone, v1.time_zone, m.time_zone), '` is not known, so days are taken in UTC') end,
    case when clean(coalesce(m.email, v2.email, v1.email)) is not null
      and coalesce(email_canonical(m.email), email_canonical(v2.email), email_canonical(v1.email)) is null
      then 'the e-mail is not an address, so it is left unknown' end
  ), '') as issue
from slice s
cross join known k
left join feed m on m.property_id = k.property_id
left join v1 on lower(trim(v1.property_id)) = k.property_id
left join v2 on lower(trim(v2.property_id)) = k.property_id
