-- model: resident_events
-- layer: normalise
-- about: One notice, move-out, end of a lease or work order that was done. The lists have no ids of their own.
-- inputs: resman_v1_move_outs, resman_v1_notices, resman_v1_lease_expirations, resman_v1_work_orders, slice
-- key: property_id, event_id
with told as (
  select *, 'move_out' as event, 'resman_v1_move_outs' as origin from resman_v1_move_outs
  union all
  select *, 'notice', 'resman_v1_notices' from resman_v1_notices
  union all
  select *, 'lease_expiration', 'resman_v1_lease_expirations' from resman_v1_lease_expirations
  union all
  select *, 'work_order', 'resman_v1_work_orders' from resman_v1_work_orders
), dated as (
  select *, coalesce(clean(unit), clean(unit_number)) as place, case event
      when 'lease_expiration' then coalesce(date_lenient(lease_end_date), date_lenient(move_out_date))
      when 'work_order' then date_lenient(completed_date)
      else coalesce(date_lenient(move_out_date), date_lenient(notice_date), date_lenient(lease_end_date)) end as on_date
  from told
), named as (
  select *, stable_id(
      event, coalesce(clean(person_id), concat_ws(' ', clean(first_name), clean(last_name))), place, cast(on_date as varchar)
    ) as event_id
  from dated
)
select
  e.property_id, e.event_id, e.event as kind, e.on_date, clean(e.person_id) as person_id, clean(e.lease_id) as lease_id,
  clean(e.first_name) as first_name, clean(e.last_name) as last_name,
  coalesce(email_canonical(e.email), clean(e.email)) as email,
  coalesce(phone_e164(e.mobile_phone, s.region), phone_e164(e.home_phone, s.region), clean(e.mobile_phone)) as phone,
  e.place as unit_number, clean(e.status) as raw_status, e.origin
from slice s
cross join named e
qualify row_number() over (partition by e.property_id, e.event_id order by e._row) = 1
