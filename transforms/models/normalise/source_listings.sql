-- model: source_listings
-- layer: normalise
-- about: One listing as one connection tells it.
-- inputs: channel_listings, slice
-- key: connection, listing_id
with told as (
  select l.*, coalesce(instant_lenient(l.updated_at), s.observed_at) as version
  from slice s
  cross join channel_listings l
  where coalesce(snake(l.presence), 'there') <> 'gone'
), newest as (
  select * from told
  qualify row_number() over (partition by connection, listing_id order by version desc, _row desc) = 1
)
select
  connection, clean(listing_id) as listing_id, version, connector, clean(parent_listing_id) as parent_listing_id,
  clean(property) as property, clean(name) as name, clean(nickname) as nickname, time_zone(time_zone) as time_zone,
  upper(clean(currency)) as currency, clock_time(check_in_time) as check_in_time, clock_time(check_out_time) as check_out_time,
  try_cast(clean(max_guests) as bigint) as max_guests,
  try_cast(clean(bedrooms) as decimal(6, 2)) as bedrooms, try_cast(clean(bathrooms) as decimal(6, 2)) as bathrooms,
  clean(property_type) as property_type, clean(street) as street, clean(city) as city, clean(state) as state,
  clean(postal_code) as postal_code, clean(country) as country,
  case when abs(try_cast(clean(latitude) as double)) <= 90 then try_cast(clean(latitude) as double) end as latitude,
  case when abs(try_cast(clean(longitude) as double)) <= 180 then try_cast(clean(longitude) as double) end as longitude,
  coalesce(flag(active), true) and coalesce(flag(listed), true) as active,
  clean(owner_id) as owner_id,
  -- A site's own feed tells nothing of channels: its listings are the site's numbers.
  coalesce(channel_ids(channel_ids), case when connector in ('airbnb', 'vrbo') then json_object(connector, clean(listing_id)) end) as channel_ids,
  json_document(clean(amenities)) as amenities, clean(house_rules) as house_rules,
  instant_lenient(updated_at) as source_updated_at,
  nullif(concat_ws('; ',
    case when clean(time_zone) is not null and time_zone(time_zone) is null
      then concat('time zone `', time_zone, '` is not known, so days are taken in UTC') end,
    case when clean(channel_ids) is not null and clean(channel_ids) not in ('{}', 'null') and channel_ids(channel_ids) is null
      then 'the numbers on other channels cannot be read' end
  ), '') as issue
from newest
