-- model: concessions
-- layer: normalise
-- about: One concession that the marketing feed states, and whether it holds today where the property is.
-- inputs: mits_concessions, properties, slice
-- key: property_id, concession_id
--
-- The vendor gives neither sign nor period of the value: it is kept as written, beside the header that explains it. The
-- same concession stated twice in one place is one.
-- step: stated
select
  property_id, clean(floorplan_id) as floorplan_code, clean(unit_number) as unit_number,
  coalesce(flag(active), false) as active,
  clean(value) as value, clean(term) as term, clean(start_date) as start_date, clean(end_date) as end_date,
  clean(header) as header, coalesce(clean(body), clean(footer)) as body, _row
from mits_concessions
-- step: firsts
-- An active one stands for those that say the same and are not.
select coalesce(min(_row) filter (where active), min(_row)) as _row
from stated
group by property_id, floorplan_code, unit_number, value, term, start_date, end_date, header, body
-- result
select
  c.property_id,
  stable_id(c.floorplan_code, c.unit_number, c.value, c.term, c.start_date, c.end_date, c.header, c.body) as concession_id,
  case when c.unit_number is not null then 'unit' when c.floorplan_code is not null then 'floorplan' else 'property' end as applies_to,
  c.floorplan_code, c.unit_number, c.active,
  c.active
    and (c.start_date is null or coalesce(date_lenient(c.start_date) <= local_date(s.observed_at, p.time_zone), false))
    and (c.end_date is null or coalesce(date_lenient(c.end_date) >= local_date(s.observed_at, p.time_zone), false)) as current,
  money(c.value) as value,
  try_cast(price(c.term) as bigint) as lease_term_months,
  date_lenient(c.start_date) as starts_on,
  date_lenient(c.end_date) as ends_on,
  c.header, c.body, s.currency,
  nullif(concat_ws('; ',
    issue('value', 'number', c.value), issue('term', 'number', c.term),
    issue('start', 'date', c.start_date), issue('end', 'date', c.end_date)
  ), '') as issue
from slice s
cross join (select * from stated left semi join firsts on firsts._row = stated._row) c
left join properties p on p.property_id = c.property_id
