-- model: leads
-- layer: normalise
-- about: One lead, from the newer API with what only the older one tells: preferences. Either one alone makes a lead too.
-- inputs: resman_prospects, resman_v1_prospects, resman_prospect_people, slice
-- key: property_id, lead_id
--
-- The two are joined on the lead's id. The main person is the one that the newer API marks, else the first of the list.
with v2 as (
  select * from resman_prospects
  qualify row_number() over (partition by property_id, prospect_id order by _row desc) = 1
), v1 as (
  select * from resman_v1_prospects
  qualify row_number() over (partition by property_id, prospect_id order by _row desc) = 1
), known as (
  select property_id, prospect_id from v2 union select property_id, prospect_id from v1
), people as (
  select p.*,
    count(*) over (partition by p.property_id, p.prospect_id, p.generation) as people,
    row_number() over (
      partition by p.property_id, p.prospect_id
      order by p.generation desc, coalesce(flag(p.is_main_contact), false) desc, try_cast(p.position as bigint), p._row
    ) as place
  from resman_prospect_people p
), stated as (
  select k.property_id, k.prospect_id,
    coalesce(snake(v2.status), snake(v1.customer_type)) as word,
    coalesce(clean(v2.status), clean(v1.customer_type)) as raw_status
  from known k
  left join v2 on v2.property_id = k.property_id and v2.prospect_id = k.prospect_id
  left join v1 on v1.property_id = k.property_id and v1.prospect_id = k.prospect_id
)
select
  k.property_id, clean(k.prospect_id) as lead_id,
  coalesce(instant_lenient(v2.last_modified), instant_lenient(v1.last_modified), s.observed_at) as version,
  case when k.word in ('prospect', 'lost', 'applicant', 'resident') then k.word
    when k.word = 'future_resident' then 'applicant'
    when k.word in ('current_resident', 'former_resident', 'customer') then 'resident'
    else 'prospect' end as status,
  k.raw_status,
  coalesce(clean(p.person_id), clean(v2.main_person_id), clean(v1.main_person_id)) as person_id,
  clean(p.first_name) as first_name, clean(p.last_name) as last_name,
  coalesce(email_canonical(p.email), clean(p.email)) as email,
  coalesce(phone_e164(p.phone, s.region), clean(p.phone)) as phone,
  p.people,
  coalesce(clean(v2.source_id), clean(v1.source_id)) as source_id, clean(v2.source_name) as source_name,
  coalesce(clean(v2.agent_id), clean(v1.agent_id)) as agent_id,
  nullif(concat_ws(' ', clean(v2.agent_first_name), clean(v2.agent_last_name)), '') as agent_name,
  coalesce(clean(v2.first_contact_method), clean(v1.first_contact_method)) as first_contact_method,
  coalesce(instant_lenient(v2.first_contact_date), instant_lenient(v1.first_contact_date)) as first_contact_at,
  date_lenient(v2.lost_date) as lost_on,
  case when k.word = 'lost' then coalesce(clean(v2.lost_reason), clean(v1.lost_reason)) end as lost_reason,
  date_lenient(v1.target_move_in_date) as move_in_on, clean(v1.floorplan) as floorplan_code,
  coalesce(clean(v2.unit_number), clean(v1.unit_number)) as unit_number,
  money(v1.rent_min) as rent_min, money(v1.rent_max) as rent_max,
  try_cast(money(v1.bedrooms_min) as decimal(6, 2)) as bedrooms_min,
  try_cast(money(v1.bedrooms_max) as decimal(6, 2)) as bedrooms_max,
  try_cast(money(v1.bathrooms_min) as decimal(6, 2)) as bathrooms_min,
  try_cast(money(v1.bathrooms_max) as decimal(6, 2)) as bathrooms_max,
  clean(v1.lease_terms) as lease_terms, try_cast(clean(v1.occupants) as bigint) as occupants, v1.pets,
  nullif(concat_ws('; ', clean(v1.comments), clean(v1.additional)), '') as preference_notes,
  clean(v2.lease_id) as lease_id, clean(v2.lease_status) as lease_status, date_lenient(v2.application_date) as applied_on,
  date_lenient(v2.lease_signed_date) as lease_signed_on, date_lenient(v2.move_in_date) as moved_in_on,
  nullif(concat_ws('; ',
    case when k.word is null then 'no list tells its status, so it is taken for a prospect' end,
    case when k.word not in (
      'prospect', 'lost', 'applicant', 'resident', 'future_resident', 'current_resident', 'former_resident', 'customer', 'guest'
    ) then concat('its status `', k.word, '` is not known, so it is taken for a prospect') end,
    issue('lowest rent', 'number', v1.rent_min),
    issue('highest rent', 'number', v1.rent_max)
  ), '') as issue
from slice s
cross join stated k
left join v2 on v2.property_id = k.property_id and v2.prospect_id = k.prospect_id
left join v1 on v1.property_id = k.property_id and v1.prospect_id = k.prospect_id
left join people p on p.property_id = k.property_id and p.prospect_id = k.prospect_id and p.place = 1
