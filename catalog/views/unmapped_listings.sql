-- Listings without a property, and what waits for one.
select
  l.connection, l.listing_id, l.connector, l.name,
  count(s.source_booking_id) as reservations,
  min(s.check_in) as first_check_in,
  max(s.check_out) as last_check_out
from {listings} as l
left join {source_bookings} as s on s.connection = l.connection and s.listing_id = l.listing_id
where l.property_id is null
group by l.connection, l.listing_id, l.connector, l.name
