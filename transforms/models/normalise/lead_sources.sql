-- model: lead_sources
-- layer: normalise
-- about: One answer to how did you hear about us, as the property has it set up.
-- inputs: resman_v1_lead_sources
-- key: property_id, lead_source_id
select property_id, clean(lead_source_id) as lead_source_id, clean(name) as name
from resman_v1_lead_sources
order by _row
