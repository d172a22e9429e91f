-- model: account_properties
-- layer: normalise
-- about: One property that a vendor account lists. Both generations of the API list it; the newer one's name is kept.
-- inputs: resman_account_properties
-- key: connection, property_id
with listed as (
  select *,
    row_number() over (
      partition by connection, lower(trim(property_id)) order by clean(name) is null, generation desc, _row
    ) as place,
    clean(time_zone) as zone,
    max(clean(time_zone)) over (partition by connection, lower(trim(property_id))) as other_zone
  from resman_account_properties
)
select
  connection,
  lower(clean(property_id)) as property_id,
  coalesce(clean(name), clean(abbreviation)) as name,
  clean(account_id) as account_id,
  coalesce(time_zone(zone), time_zone(other_zone)) as time_zone
from listed
where place = 1
