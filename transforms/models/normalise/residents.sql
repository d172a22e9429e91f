-- model: residents
-- layer: normalise
-- about: One person of a lease: the list of applicants and residents, with what only the list of residents tells.
-- inputs: resman_v1_people, resman_v1_residents, slice
-- key: property_id, lease_id, person_id
--
-- Who was refused, has called off or has left is not here.
with people as (
  select *, snake(status) as word from resman_v1_people
  qualify row_number() over (partition by property_id, lease_id, person_id order by _row desc) = 1
), living as (
  select * from resman_v1_residents
  qualify row_number() over (partition by property_id, lease_id, person_id order by _row desc) = 1
), known as (
  select property_id, lease_id, person_id from people
  where word is null or word not in ('denied', 'cancelled', 'canceled', 'former', 'evicted')
  union
  select property_id, lease_id, person_id from living
)
select
  k.property_id, clean(k.lease_id) as lease_id, clean(k.person_id) as person_id,
  coalesce(clean(p.lease_group_id), clean(r.lease_group_id)) as household_id, clean(r.billing_account_id) as billing_account_id,
  case when r.person_id is null and p.word in ('pending', 'applicant', 'approved', 'submitted') then 'applicant' else 'current' end
    as status,
  clean(p.status) as raw_status,
  coalesce(clean(p.first_name), clean(r.first_name)) as first_name,
  coalesce(clean(p.last_name), clean(r.last_name)) as last_name,
  coalesce(email_canonical(p.email), email_canonical(r.email), clean(p.email), clean(r.email)) as email,
  coalesce(
    phone_e164(p.mobile_phone, s.region), phone_e164(r.mobile_phone, s.region), phone_e164(p.home_phone, s.region),
    phone_e164(r.home_phone, s.region), phone_e164(p.work_phone, s.region), phone_e164(r.work_phone, s.region),
    clean(p.mobile_phone), clean(r.mobile_phone)
  ) as phone,
  coalesce(clean(p.unit), clean(r.unit)) as unit_number, coalesce(clean(p.building), clean(r.building)) as building,
  coalesce(date_lenient(p.lease_start_date), date_lenient(r.lease_start_date)) as lease_starts_on,
  coalesce(date_lenient(p.lease_end_date), date_lenient(r.lease_end_date)) as lease_ends_on,
  coalesce(date_lenient(p.move_in_date), date_lenient(r.move_in_date)) as moved_in_on,
  coalesce(date_lenient(p.move_out_date), date_lenient(r.move_out_date)) as moves_out_on,
  price(r.rent) as rent, s.currency, clean(r.household_status) as household_status,
  coalesce(flag(p.main_contact), flag(r.main_contact)) as main_contact, flag(r.is_minor) as minor,
  case when p.person_id is not null then 'resman_v1_people' else 'resman_v1_residents' end as origin
from slice s
cross join known k
left join people p on p.property_id = k.property_id and p.lease_id = k.lease_id and p.person_id = k.person_id
left join living r on r.property_id = k.property_id and r.lease_id = k.lease_id and r.person_id = k.person_id
