-- model: source_removals
-- layer: normalise
-- about: One object that a connection does not know any more.
-- inputs: channel_reservations, channel_listings, channel_guests, slice
-- key: connection, object, object_id
--
-- A removal has its own table, so that what the connection last said is still known. It holds against everything that
-- was said up to its version; an object that comes back says something newer. A stay that goes on in fewer stretches than
-- before is not removed: stretches are numbered from 0, so whoever still has the first is still there.
with gone as (
  select connection, connector, 'reservation' as object, reservation_id as object_id, updated_at, presence, _row
  from channel_reservations
  where coalesce(try_cast(clean(segment) as bigint), 0) = 0
  union all
  select connection, connector, 'listing', listing_id, updated_at, presence, _row from channel_listings
  union all
  select connection, connector, 'guest', guest_id, updated_at, presence, _row from channel_guests
)
select g.connection, g.object, clean(g.object_id) as object_id,
  max(coalesce(instant_lenient(g.updated_at), s.observed_at)) as version, max(g.connector) as connector
from slice s
cross join gone g
where snake(g.presence) = 'gone'
group by g.connection, g.object, clean(g.object_id)
