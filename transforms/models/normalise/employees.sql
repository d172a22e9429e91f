-- model: employees
-- layer: normalise
-- about: One person of a property's team. The older list, whose ids leads name as agents, is joined by e-mail or by name.
-- inputs: resman_employees, resman_v1_employees, slice
-- key: property_id, employee_id
--
-- Names of system users start with an asterisk, which is kept out of the name.
with v1 as (
  select property_id, clean(employee_id) as agent_id, trim(ltrim(trim(name), '*')) as name, email_canonical(email) as email,
    clean(security_group) as role, _row
  from resman_v1_employees
), v2 as (
  select property_id, coalesce(clean(person_id), clean(user_id)) as employee_id,
    coalesce(clean(preferred_name), clean(first_name)) as given_name, clean(last_name) as family_name,
    nullif(concat_ws(' ', clean(first_name), clean(last_name)), '') as display_name,
    email_canonical(email) as email, phone, clean(security_group) as role,
    flag(is_leasing) as leasing, clean(termination_date) is null as active, _row
  from resman_employees
), paired as (
  select e.property_id, e.employee_id, v1.agent_id,
    row_number() over (
      partition by e.property_id, e.employee_id order by coalesce(v1.email = e.email, false) desc, v1._row
    ) as of_employee,
    row_number() over (
      partition by v1.property_id, v1.agent_id order by coalesce(v1.email = e.email, false) desc, e._row
    ) as of_agent
  from v2 e
  join v1 on v1.property_id = e.property_id
  where v1.email = e.email or lower(v1.name) = lower(e.display_name)
), pairs as (
  select property_id, employee_id, agent_id from paired where of_employee = 1 and of_agent = 1
)
select
  e.property_id, e.employee_id, p.agent_id, e.given_name, e.family_name, e.display_name,
  coalesce(e.email, v1.email) as email, phone_e164(e.phone, s.region) as phone, coalesce(e.role, v1.role) as role,
  e.leasing, e.active
from slice s
cross join v2 e
left join pairs p on p.property_id = e.property_id and p.employee_id = e.employee_id
left join v1 on v1.property_id = p.property_id and v1.agent_id = p.agent_id
union all
select
  v1.property_id, v1.agent_id as employee_id, v1.agent_id, get_field(person_name(v1.name), 'given'),
  get_field(person_name(v1.name), 'family'), v1.name, v1.email, null, v1.role, null, true
from v1
left anti join pairs p on p.property_id = v1.property_id and p.agent_id = v1.agent_id
