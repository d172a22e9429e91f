-- model: listings
-- layer: settle
-- about: One listing of a connection and the property behind it.
-- inputs: source_listings, source_removals, source_bookings, former_listings, listing_map, named_listings
-- key: connection, listing_id
-- check: (property_id is null) = (basis is null)
--
-- What a person mapped comes first, then what the settings say; then another listing with the same number on a platform,
-- if that is tied; then the listing is a property of its own. Listings that share a number are one property: the one of
-- the manager among them, before calendars. A listing that is only mentioned by reservations stays without a property,
-- except that own systems, which send bookings and describe nothing, may call a property by its name.
with mentioned as (
  select connection, listing_id from source_listings
  union
  select connection, listing_id from source_bookings
  union
  select connection, listing_id from former_listings
), told as (
  select n.connection as at, n.listing_id as id, l.*,
    coalesce(m.property_id, l.property) as tied,
    case when m.property_id is not null then 'map' when l.property is not null then 'settings' end as tie,
    x.version is not null as removed,
    concat(case when l.connector in ('ical', 'airbnb', 'vrbo') then '1' else '0' end, n.connection, ':', n.listing_id) as ord
  from mentioned n
  left join source_listings l on l.connection = n.connection and l.listing_id = n.listing_id
  left join listing_map m on m.connection = n.connection and m.listing_id = n.listing_id
  left join source_removals x on x.object = 'listing' and x.connection = n.connection and x.object_id = n.listing_id
    and x.version >= l.version
), named as (
  select at, id, tied, ord, channel_ids, unnest(json_object_keys(channel_ids)) as platform
  from told where channel_ids is not null
), numbers as (
  select at, id, tied, ord, concat(platform, ' ', json_get_str(channel_ids, platform)) as number from named
), shared as (
  select a.at, a.id, first_value(b.tied order by b.ord) filter (where b.tied is not null) as tied, min(b.ord) as first
  from numbers a
  join numbers b on b.number = a.number
  group by a.at, a.id
), placed as (
  select
    t.at as connection, t.id as listing_id,
    coalesce(t.tied, s.tied, case when t.connector is not null then substr(coalesce(s.first, t.ord), 2) end) as property_id,
    case
      when t.tie is not null then t.tie
      when s.tied is not null or (t.connector is not null and s.first <> t.ord) then 'channel'
      when t.connector is not null then 'own'
    end as basis,
    t.connector, t.parent_listing_id, t.name, t.nickname, t.time_zone, t.check_in_time, t.check_out_time, t.max_guests,
    t.bedrooms, t.bathrooms, t.owner_id, t.channel_ids, t.active and not t.removed as active
  from told t
  left join shared s on s.at = t.at and s.id = t.id
), properties as (
  select property_id from placed where property_id is not null
  union
  select property_id from named_listings where property_id is not null
)
select p.* except (property_id, basis), coalesce(p.property_id, k.property_id) as property_id,
  coalesce(p.basis, case when k.property_id is not null then 'property' end) as basis
from placed p
left join named_listings n on n.connection = p.connection and n.listing_id = p.listing_id and p.property_id is null
left join properties k on k.property_id = n.listing_id
