-- Services that are planned, or due and not done yet.
select t.task_id, t.property_id, t.booking_id, t.service_type, r.trigger_event, t.state, t.due_at,
  t.due_at at time zone b.time_zone as due_local, b.time_zone, t.staff_id, s.name as staff_name,
  coalesce(p.service_level, 'essential') as service_level, b.guest_name, b.guest_count, b.check_in, b.check_out, t.note,
  t.cost_amount, t.cost_currency, to_jsonb(t.unreached) as unreached
from sync.service_tasks as t
join sync.services_automation as r on r.rule_id = t.rule_id
join {bookings} as b on b.booking_id = t.booking_id
left join sync.property_services as p on p.property_id = t.property_id
left join sync.staff as s on s.staff_id = t.staff_id
where t.state in ('planned', 'due')
