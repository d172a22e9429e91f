-- How promising contacts are. $1: their ids, $2: now. The parts are kept beside their sum; docs/enrichment.md says why they
-- weigh what they do.
with people as (
  select c.id, c.property_id, c.status, c.first_name, c.last_name, c.email, c.phone, c.last_interaction,
    coalesce(c.preferences -> 'wishes', '{}') as wishes,
    c.enrichment -> 'preferences_extracted' -> 'tour' -> 'value' as tour,
    c.enrichment -> 'interaction_patterns' as pattern,
    (c.enrichment -> 'sentiment_analysis' ->> 'score')::float8 as mood
  from sync.contacts c
  where c.id = any($1) and c.merged_into is null
), wanted as (
  select p.*,
    (wishes #>> '{move_in,value,from}')::date as move_from,
    coalesce((wishes #>> '{move_in,value,to}')::date, (wishes #>> '{move_in,value,from}')::date) as move_to,
    (wishes #>> '{budget,value,max}')::numeric as budget,
    (wishes #>> '{bedrooms,value,min}')::numeric as beds_min,
    (wishes #>> '{bedrooms,value,max}')::numeric as beds_max,
    coalesce((pattern ->> 'renter_messages')::int, 0) as messages,
    coalesce((pattern ->> 'questions')::int, 0) as questions,
    coalesce((pattern ->> 'span_secs')::bigint, 0) as span_secs,
    greatest(extract(epoch from $2::timestamptz - last_interaction) / 86400.0, 0)::float8 as silent_days
  from people p
), offered as (
  select w.id, count(u.unit_number) as units,
    count(u.unit_number) filter (where rooms) as roomy,
    count(u.unit_number) filter (where rooms and paid and timely) as fitting
  from wanted w
  left join lateral (
    select a.unit_number,
      (w.beds_min is null or a.bedrooms is null or a.bedrooms >= w.beds_min) and (w.beds_max is null or a.bedrooms is null or a.bedrooms <= w.beds_max) as rooms,
      w.budget is null or a.rent_from is null or a.rent_from <= w.budget * 1.05 as paid,
      w.move_to is null or a.available_on is null or a.available_on <= w.move_to + 14 as timely
    from core.available_units a
    where a.property_id = w.property_id and a.deleted_at is null
  ) u on true
  group by w.id
), parts as (
  select w.*, o.units, o.fitting,
    (case when first_name <> '' and last_name <> '' then 4 else 0 end) + (case when email is not null then 4 else 0 end)
      + (case when phone is not null then 4 else 0 end)
      + least(3, (budget is not null)::int + (beds_min is not null or beds_max is not null)::int + (move_to is not null)::int) as completeness,
    least(30,
      case when status = 'tour_scheduled' then 18
        when tour is not null and not coalesce((tour ->> 'off')::boolean, false) then
          case when tour ->> 'from' is not null or tour ->> 'day_words' is not null then 18 else 13 end
        else 0 end
      + case when move_to is null then 0
        when move_to < $2::date - 14 then 0
        when coalesce(move_from, move_to) <= $2::date + 30 then 12
        when coalesce(move_from, move_to) <= $2::date + 60 then 9
        when coalesce(move_from, move_to) <= $2::date + 90 then 6
        else 3 end) as intent,
    least(8, messages) + least(4, questions) + (case when span_secs >= 86400 then 3 else 0 end) as engagement,
    coalesce(round(15 * exp(-silent_days / 14.0))::int, 0) as recency,
    case when o.units = 0 or (budget is null and beds_min is null and beds_max is null) then 7
      when o.fitting > 0 then 15
      when o.roomy > 0 then 5
      else 0 end as fit,
    case when mood is null then 5 else greatest(0, least(10, round(5 + 5 * mood)::int)) end as sentiment,
    case when o.units = 0 or (budget is null and beds_min is null and beds_max is null) then null else o.fitting::int end as fitting_units,
    case when status in ('lost', 'inactive') then 10 when status = 'resident' then 0 end as at_most
  from wanted w join offered o on o.id = w.id
), scored as (
  select parts.*, least(100, coalesce(at_most, 100), completeness + intent + engagement + recency + fit + sentiment) as score,
    concat_ws('; ',
      'known ' || completeness || '/15',
      'intent ' || intent || '/30' || case when tour is not null and not coalesce((tour ->> 'off')::boolean, false) then ' (asked for a tour)'
        else '' end || case when move_to is not null then ' (moves by ' || move_to || ')' else '' end,
      'engagement ' || engagement || '/15 (' || messages || ' messages, ' || questions || ' questions)',
      'recency ' || recency || '/15' || coalesce(' (' || round(silent_days::numeric) || ' days ago)', ' (never heard from)'),
      'fit ' || fit || '/15' || coalesce(' (' || fitting_units || ' available units fit)', ' (not known)'),
      'mood ' || sentiment || '/10',
      case when at_most is not null then 'status ' || status || ': at most ' || at_most end) as reasons
  from parts
), kept as (
  insert into sync.lead_scores (contact_id, property_id, score, completeness, intent, engagement, recency, fit, sentiment, fitting_units,
    at_most, reasons, scored_at)
  select id, property_id, score, completeness, intent, engagement, recency, fit, sentiment, fitting_units, at_most, reasons, $2
  from scored
  on conflict (contact_id) do update set property_id = excluded.property_id, score = excluded.score, completeness = excluded.completeness,
    intent = excluded.intent, engagement = excluded.engagement, recency = excluded.recency, fit = excluded.fit,
    sentiment = excluded.sentiment, fitting_units = excluded.fitting_units, at_most = excluded.at_most, reasons = excluded.reasons,
    scored_at = excluded.scored_at
)
update sync.contacts c set lead_score = s.score, lead_score_parts = jsonb_build_object('completeness', s.completeness, 'intent', s.intent,
  'engagement', s.engagement, 'recency', s.recency, 'fit', s.fit, 'sentiment', s.sentiment, 'at_most', s.at_most,
  'fitting_units', s.fitting_units, 'reasons', s.reasons)
from scored s where c.id = s.id
returning c.id, c.lead_score
