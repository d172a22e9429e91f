-- model: booking_sources
-- layer: settle
-- about: One source row and the booking that it tells of.
-- inputs: assignments, source_bookings, listings
-- key: connection, source_booking_id, segment
-- check: role in ('anchor', 'same', 'echo')
--
-- Which rows are one booking is decided in `src/settle/assign.rs`. A stretch that a newer version no longer has keeps its
-- place here, marked as not the latest.
with decided as (
  select connection, source_booking_id, max(booking_id) as booking_id, max(role) as role, max(basis) as basis, max(removed) as removed
  from assignments
  group by connection, source_booking_id
)
select
  b.connection, b.source_booking_id, b.segment, d.booking_id, l.property_id, b.listing_id, d.role, d.basis,
  a.segment is not null as latest, a.segment is not null and d.removed = 'false' as present,
  b.check_in, b.check_out, b.status, b.version
from source_bookings b
join decided d on d.connection = b.connection and d.source_booking_id = b.source_booking_id
join listings l on l.connection = b.connection and l.listing_id = b.listing_id and l.property_id is not null
left join assignments a
  on a.connection = b.connection and a.source_booking_id = b.source_booking_id and a.segment = cast(b.segment as varchar)
