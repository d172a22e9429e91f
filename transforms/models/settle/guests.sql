-- model: guests
-- layer: settle
-- about: One person who stays or stayed.
-- inputs: booking_sources, source_bookings, source_guests, guest_identities, former_guests
-- key: guest_id
with rows as (
  select i.guest_id as person, b.*
  from booking_sources s
  join source_bookings b on b.connection = s.connection and b.source_booking_id = s.source_booking_id and b.segment = s.segment
  join guest_identities i on i.identity = stable_id('booking', s.booking_id)
  where s.role <> 'echo' and s.latest and b.kind = 'stay'
), facts as (
  select r.person, '0' as rank, g.version, g.name, g.first_name, g.last_name, g.email, g.phone, g.city, g.country, g.locale, g.notes
  from rows r
  join source_guests g on g.connection = r.connection and g.guest_id = r.guest_id
  union all
  select person, case identity when 'strong' then '1' else '2' end, version, guest_name, guest_first_name, guest_last_name,
    case when not guest_email_is_alias then guest_email end, guest_phone, null, null, guest_locale, null
  from rows
), best as (
  select person,
    first_value(name order by rank, version desc) filter (where name is not null) as name,
    first_value(first_name order by rank, version desc) filter (where first_name is not null) as first_name,
    first_value(last_name order by rank, version desc) filter (where last_name is not null) as last_name,
    first_value(email order by rank, version desc) filter (where email is not null) as email,
    first_value(phone order by rank, version desc) filter (where phone is not null) as phone,
    first_value(city order by rank, version desc) filter (where city is not null) as city,
    first_value(country order by rank, version desc) filter (where country is not null) as country,
    first_value(locale order by rank, version desc) filter (where locale is not null) as locale,
    first_value(notes order by rank, version desc) filter (where notes is not null) as notes
  from facts
  group by person
)
select b.person as guest_id, coalesce(b.name, f.name) as name, coalesce(b.first_name, f.first_name) as first_name,
  coalesce(b.last_name, f.last_name) as last_name, coalesce(b.email, f.email) as email, coalesce(b.phone, f.phone) as phone,
  coalesce(b.city, f.city) as city, coalesce(b.country, f.country) as country, coalesce(b.locale, f.locale) as locale,
  f.preferences, coalesce(b.notes, f.notes) as notes
from best b
left join former_guests f on f.guest_id = b.person
