-- model: lost_reasons
-- layer: normalise
-- about: One reason for which a lead can be marked lost; the older list, and the newer one's pick list where it has more.
-- inputs: resman_v1_lost_reasons, resman_pick_lists
-- key: connection, lost_reason_id
with stated as (
  select connection, clean(lost_reason_id) as lost_reason_id, clean(name) as name, 1 as list, _row
  from resman_v1_lost_reasons
  union all
  select connection, clean(item_id), clean(name), 2, _row
  from resman_pick_lists
  where matches(snake(list), 'lost.*reason')
)
select connection, lost_reason_id, name
from stated
qualify list = 1 or row_number() over (
  partition by connection, lower(coalesce(name, lost_reason_id)) order by list, _row
) = 1 and row_number() over (partition by connection, lower(lost_reason_id) order by list, _row) = 1
