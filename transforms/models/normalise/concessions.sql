-- model: concessions
-- layer: normalise
-- about: One concession that the marketing feed states, and whether it holds today where the property is.
-- inputs: mits_concessions, properties, slice
-- key: property_id, concession_id
--
-- The vendor gives neither sign nor period of the value: it is kept as written, beside the header that explains it. The
-- same concession stated twice in one place is one.
with stated as (
  select
    c.property_id, clean(c.floorplan_id) as floorplan_code, clean(c.unit_number) as unit_number,
    coalesce(flag(c.active), false) as active,
    clean(c.value) as value, clean(c.term) as term, clean(c.start_date) as start_date, clean(c.end_date) as end_date,
    clean(c.header) as header, coalesce(clean(c.body), clean(c.footer)) as body, c._row
  from mits_concessions c
), single as (
  select * from stated
  qualify row_number() over (
    partition by property_id, floorplan_code, unit_number, value, term, start_date, end_date, header, body
    order by active desc, _row
  ) = 1
)
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
cross join single c
left join properties p on p.property_id = c.property_id
