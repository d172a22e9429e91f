-- A guest whose bookings turned out to be another's is not shown.
select g.guest_id, g.name, g.first_name, g.last_name, g.email, g.phone, g.city, g.country, g.locale, g.preferences, g.notes,
  h.bookings, h.first_check_in, h.last_check_out, h.booking_history
from {guests} as g
join (
  select b.guest_id, count(*) as bookings, min(b.check_in) as first_check_in, max(b.check_out) as last_check_out,
    jsonb_agg(jsonb_build_object('booking_id', b.booking_id, 'property_id', b.property_id, 'check_in', b.check_in,
      'check_out', b.check_out, 'booking_status', b.booking_status, 'platform', b.platform) order by b.check_in, b.booking_id)
      as booking_history
  from {bookings} as b
  where b.guest_id is not null
  group by b.guest_id
) as h on h.guest_id = g.guest_id
