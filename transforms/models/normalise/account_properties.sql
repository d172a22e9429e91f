-- model: account_properties
-- layer: normalise
-- about: One property that a vendor account or a marketing feed, read whole, lists.
-- inputs: resman_account_properties, mits_listed
-- key: connection, property_id
--
-- Both generations of ResMan's API list it; the newer one's name is kept. The ids of a feed are its vendor's own words, so
-- their case stays.
with lists as (
  select connection, lower(clean(property_id)) as property_id, name, abbreviation, account_id, time_zone, generation, _row
  from resman_account_properties
  union all
  select connection, clean(property_id), coalesce(clean(name), clean(property_id)), null, null, null, 'feed', _row
  from mits_listed
), listed as (
  select *,
    row_number() over (partition by connection, property_id order by clean(name) is null, generation desc, _row) as place,
    clean(time_zone) as zone,
    max(clean(time_zone)) over (partition by connection, property_id) as other_zone
  from lists
)
select
  connection,
  property_id,
  coalesce(clean(name), clean(abbreviation)) as name,
  clean(account_id) as account_id,
  coalesce(time_zone(zone), time_zone(other_zone)) as time_zone
from listed
where place = 1
