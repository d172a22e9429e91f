-- model: platform_listings
-- layer: settle
-- about: One number under which a platform shows a property.
-- inputs: listings
-- key: platform, platform_listing_id
with named as (
  select connection, listing_id, property_id, channel_ids, connector, unnest(json_object_keys(channel_ids)) as platform
  from listings where channel_ids is not null
)
select platform, json_get_str(channel_ids, platform) as platform_listing_id, property_id, connection, listing_id
from named
qualify row_number() over (
  partition by platform, json_get_str(channel_ids, platform)
  order by property_id is null, connector in ('ical', 'airbnb', 'vrbo'), connection, listing_id) = 1
