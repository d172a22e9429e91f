-- model: booking_changes
-- layer: settle
-- about: One thing that changed about a booking.
-- inputs: bookings, former_bookings, booking_sources, former_booking_sources, slice
-- key: booking_id, revision, change
with both as (
  select b.*, s.observed_at,
    f.booking_id is null as fresh, f.check_in as f_check_in, f.check_out as f_check_out, f.property_id as f_property,
    f.listing_id as f_listing, f.connection as f_connection, f.segments as f_segments, f.booking_status as f_status,
    f.kind as f_kind, f.external_code as f_code, f.total_amount as f_amount, f.currency as f_currency,
    f.guest_id as f_guest, f.guest_count as f_guests
  from slice s
  cross join bookings b
  left join former_bookings f on f.booking_id = b.booking_id
  where f.booking_id is null or f.revision <> b.revision
), changes as (
  select booking_id, revision, 'created' as change, property_id, cast(null as varchar) as before, booking_status as after,
    coalesce(source_created_at, booked_at, source_updated_at, observed_at) as changed_at, observed_at
  from both where fresh
  union all
  select booking_id, revision, 'dates', property_id, concat(f_check_in, '/', f_check_out), concat(check_in, '/', check_out),
    coalesce(source_updated_at, observed_at), observed_at
  from both where not fresh and ((check_in is distinct from f_check_in) or (check_out is distinct from f_check_out))
  union all
  select booking_id, revision, 'property', property_id, f_property, property_id as after, coalesce(source_updated_at, observed_at), observed_at
  from both where not fresh and (property_id is distinct from f_property)
  union all
  select booking_id, revision, 'listing', property_id, coalesce(f_segments, f_listing), coalesce(segments, listing_id),
    coalesce(source_updated_at, observed_at), observed_at
  from both
  where not fresh and ((segments is distinct from f_segments) or (connection = f_connection and (listing_id is distinct from f_listing)))
  union all
  select booking_id, revision, 'status', property_id, f_status, booking_status,
    coalesce(case when occupies then source_updated_at else cancelled_at end, observed_at), observed_at
  from both where not fresh and (booking_status is distinct from f_status)
  union all
  select booking_id, revision, 'kind', property_id, f_kind, kind, coalesce(source_updated_at, observed_at), observed_at
  from both where not fresh and (kind is distinct from f_kind)
  union all
  select booking_id, revision, 'code', property_id, f_code, external_code, coalesce(source_updated_at, observed_at), observed_at
  from both where not fresh and (external_code is distinct from f_code)
  union all
  select booking_id, revision, 'amount', property_id, concat(f_amount, ' ', f_currency), concat(total_amount, ' ', currency),
    coalesce(source_updated_at, observed_at), observed_at
  from both where not fresh and ((total_amount is distinct from f_amount) or (currency is distinct from f_currency))
  union all
  select booking_id, revision, 'guest', property_id, concat_ws(' ', f_guest, f_guests), concat_ws(' ', guest_id, guest_count),
    coalesce(source_updated_at, observed_at), observed_at
  from both where not fresh and ((guest_id is distinct from f_guest) or (guest_count is distinct from f_guests))
  union all
  -- A booking that turned out to be another one, or whose listing is no longer mapped.
  select f.booking_id, f.revision + 1, 'merged', f.property_id, f.booking_id as before, max(n.booking_id), max(s.observed_at), max(s.observed_at)
  from slice s
  cross join former_bookings f
  left join bookings b on b.booking_id = f.booking_id
  left join former_booking_sources o on o.booking_id = f.booking_id and o.role = 'anchor'
  left join booking_sources n
    on n.connection = o.connection and n.source_booking_id = o.source_booking_id and n.segment = o.segment
  where b.booking_id is null
  group by f.booking_id, f.revision, f.property_id
)
select booking_id, revision, change, property_id, before, after, changed_at, observed_at as noticed_at from changes
