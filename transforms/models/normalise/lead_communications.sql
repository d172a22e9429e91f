-- model: lead_communications
-- layer: normalise
-- about: One entry of a lead's log, from the newer API, or the older one where the newer brought no log of the lead.
-- inputs: resman_prospect_events, slice
-- key: property_id, lead_id, communication_id
--
-- Only the older one tells which entry the lead began with; it is joined on the entry's id.
with listed as (
  select *, lower(clean(kind)) as word, max(generation) over (partition by property_id, prospect_id) as newest,
    coalesce(instant_lenient(timestamp), instant_lenient(date)) as at
  from resman_prospect_events
), began as (
  select property_id, prospect_id, event_id, bool_or(flag(first_contact)) as first_contact
  from resman_prospect_events
  group by property_id, prospect_id, event_id
), chosen as (
  select * from listed
  where generation = newest
  qualify row_number() over (
    partition by property_id, prospect_id, coalesce(event_id, stable_id(kind, timestamp, date, subject, text)) order by _row desc
  ) = 1
)
select
  e.property_id, clean(e.prospect_id) as lead_id,
  coalesce(clean(e.event_id), stable_id(e.kind, e.timestamp, e.date, e.subject, e.text)) as communication_id,
  coalesce(instant_lenient(e.last_modified), s.observed_at) as version,
  case when e.word like 'email%' then 'email'
    when e.word like 'call%' or e.word = 'phone' then 'call'
    when e.word like 'text%' then 'text'
    when e.word in ('show', 'walkin') then 'visit'
    when e.word = 'appointment' then 'appointment'
    when e.word in ('application', 'approve', 'approved', 'leasesign') then 'application'
    when e.word = 'cancel' then 'lost'
    when e.word = 'reactivate' then 'reactivated'
    else 'other' end as kind,
  case when e.word like '%toprospect' then 'out' when e.word like '%fromprospect' or e.word = 'emailfromils' then 'in' end
    as direction,
  coalesce(clean(e.kind), 'unknown') as raw_kind, e.at, clean(e.subject) as subject, clean(e.text) as message,
  clean(e.agent_id) as agent_id, b.first_contact
from slice s
cross join chosen e
left join began b on b.property_id = e.property_id and b.prospect_id = e.prospect_id and b.event_id = e.event_id
