-- Leads that are not merged into another, with the parts of their score.
select c.id as contact_id, c.property_id, c.first_name, c.last_name, c.status, s.score, s.completeness, s.intent, s.engagement,
  s.recency, s.fit, s.sentiment, s.fitting_units, s.at_most, s.reasons, c.enrichment ->> 'conversation_summary' as conversation_summary,
  c.last_interaction, c.interaction_count, s.scored_at
from sync.lead_scores as s
join sync.contacts as c on c.id = s.contact_id
where c.merged_into is null
