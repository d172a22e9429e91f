-- model: source_guests
-- layer: normalise
-- about: One guest as one connection tells it.
-- inputs: channel_guests, slice
-- key: connection, guest_id
--
-- An address that a site made for one stay is kept apart: it never says who somebody is.
with told as (
  select g.*, s.region, coalesce(instant_lenient(g.updated_at), s.observed_at) as version
  from slice s
  cross join channel_guests g
  where coalesce(snake(g.presence), 'there') <> 'gone'
), newest as (
  select *,
    email_canonical(json_get_str(emails, 0)) as e0, email_canonical(json_get_str(emails, 1)) as e1,
    email_canonical(json_get_str(emails, 2)) as e2
  from told
  qualify row_number() over (partition by connection, guest_id order by version desc, _row desc) = 1
)
select
  connection, clean(guest_id) as guest_id, version, connector,
  coalesce(clean(full_name), clean(concat_ws(' ', clean(first_name), clean(last_name)))) as name,
  clean(first_name) as first_name, clean(last_name) as last_name,
  case when not email_is_alias(e0) then e0 when not email_is_alias(e1) then e1 when not email_is_alias(e2) then e2 end as email,
  case when email_is_alias(e0) then e0 when email_is_alias(e1) then e1 when email_is_alias(e2) then e2 end as email_alias,
  coalesce(phone_e164(json_get_str(phones, 0), region), phone_e164(json_get_str(phones, 1), region)) as phone,
  clean(street) as street, clean(city) as city, clean(state) as state, clean(postal_code) as postal_code,
  clean(country) as country, clean(locale) as locale, clean(notes) as notes, instant_lenient(updated_at) as source_updated_at
from newest
