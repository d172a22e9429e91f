-- model: lead_people
-- layer: normalise
-- about: One person on a lead, as the newer API lists them, or the older one where the newer has no such lead.
-- inputs: resman_prospect_people, slice
-- key: property_id, lead_id, person_id
with listed as (
  select *, max(generation) over (partition by property_id, prospect_id) as newest
  from resman_prospect_people
), placed as (
  select *, row_number() over (
      partition by property_id, prospect_id
      order by coalesce(flag(is_main_contact), false) desc, try_cast(position as bigint), _row
    ) as place
  from listed
  where generation = newest
)
select
  p.property_id, clean(p.prospect_id) as lead_id, clean(p.person_id) as person_id,
  coalesce(instant_lenient(p.last_modified), s.observed_at) as version,
  try_cast(p.position as bigint) as position, p.place = 1 as main_contact,
  clean(p.first_name) as first_name, clean(p.middle_name) as middle_name, clean(p.last_name) as last_name,
  coalesce(email_canonical(p.email), clean(p.email)) as email,
  coalesce(phone_e164(p.phone, s.region), clean(p.phone)) as phone, clean(p.phone_type) as phone_type,
  clean(p.household_status) as household_status, flag(p.is_lease_signer) as lease_signer, flag(p.is_guarantor) as guarantor
from slice s
cross join placed p
