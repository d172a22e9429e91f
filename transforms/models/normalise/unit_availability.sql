-- model: unit_availability
-- layer: normalise
-- about: Whether a unit may be offered: three rules judge, and each of them that can judge has to agree.
-- inputs: units, mits_units, resman_v1_units, resman_units, resman_availability
-- key: property_id, unit_number
-- check: not available or agreement in ('agreed', 'single')
-- check: available or reason is not null
-- check: not available or reason is null
--
-- rule_status: residential and (vacant and available, or occupied and on notice). With a status missing it judges only
--   when the others settle it.
-- rule_made_ready: the feed has a made-ready date. It cannot judge when the feed has no availability for the unit, or a
--   date that cannot be read.
-- rule_v2: marketed online, not excluded, ready or being made ready, and vacant or on notice without a next tenant.
-- A unit that only the oldest list has cannot be judged and is not offered; holding, excluded and unmarketed units and
-- units whose number stands twice with different facts are never offered. A wrong offer costs more than a missing one.

-- step: mits
select property_id, clean(unit_number) as unit_number, count(*) as times,
  min(vacancy_class) as vacancy_class, min(vacate_date) as vacate_date, min(made_ready_date) as made_ready_date
from mits_units
group by property_id, clean(unit_number)

-- step: v1
select property_id, clean(unit_number) as unit_number, count(*) as times
from resman_v1_units
group by property_id, clean(unit_number)

-- step: v2
select property_id, clean(unit_number) as unit_number, count(*) as times
from resman_units
group by property_id, clean(unit_number)

-- step: va
select property_id, clean(unit_number) as unit_number, count(*) as times, min(date_available) as date_available
from resman_availability
group by property_id, clean(unit_number)

-- step: several
select 'mits' as list, property_id, unit_number from mits where times > 1
union all
select 'v1', property_id, unit_number from v1 where times > 1
union all
select 'v2', property_id, unit_number from v2 where times > 1
union all
select 'va', property_id, unit_number from va where times > 1

-- step: differing
-- The numbers that stand in one list more than once, with different facts.
select distinct property_id, unit_number
from (
  select n.*, stable_id(
      l.floorplan_id, l.building, l.floor, l.bedrooms, l.bathrooms, l.square_feet_min, l.square_feet_max,
      l.market_rent, l.unit_rent, l.economic_status, l.occupancy_status, l.leased_status, l.vacancy_class,
      l.vacate_date, l.made_ready_date, l.street
    ) as content
  from several n
  join mits_units l on n.list = 'mits' and l.property_id = n.property_id and clean(l.unit_number) = n.unit_number
  union all
  select n.*, stable_id(l.unit_id, l.building, l.floor, l.street, l.unit_type)
  from several n
  join resman_v1_units l on n.list = 'v1' and l.property_id = n.property_id and clean(l.unit_number) = n.unit_number
  union all
  select n.*, stable_id(
      l.unit_id, l.unit_type_id, l.building, l.floor, l.square_feet, l.market_rent, l.excluded_from_occupancy,
      l.available_for_online_marketing, l.is_affordable_unit, l.is_holding_unit
    )
  from several n
  join resman_units l on n.list = 'v2' and l.property_id = n.property_id and clean(l.unit_number) = n.unit_number
  union all
  select n.*, stable_id(
      l.unit_id, l.unit_type_id, l.building_name, l.floor, l.square_feet, l.market_rent,
      l.available_for_online_marketing, l.excluded_from_occupancy, l.status, l.date_available, l.vacancy_status
    )
  from several n
  join resman_availability l on n.list = 'va' and l.property_id = n.property_id and clean(l.unit_number) = n.unit_number
)
group by list, property_id, unit_number
having min(content) <> max(content)

-- result
with judged as (
  select
    u.property_id, u.unit_number, u.holding, u.excluded, u.marketed,
    u.economic_status, u.occupancy_status, u.leased_status, u.vacancy_status, u.make_ready_status,
    u.economic_status = 'residential' and (
      (u.occupancy_status = 'vacant' and u.leased_status = 'available')
      or (u.occupancy_status = 'occupied' and u.leased_status = 'on_notice')
    ) as rule_status,
    case
      when clean(m.made_ready_date) is not null and date_lenient(m.made_ready_date) is null then null
      when clean(coalesce(m.vacancy_class, m.vacate_date, m.made_ready_date)) is not null
        then date_lenient(m.made_ready_date) is not null
    end as rule_made_ready,
    u.marketed and not coalesce(u.excluded, false)
      and u.make_ready_status in ('ready', 'not_ready')
      and u.vacancy_status in ('vacant', 'notice_to_vacate') as rule_v2,
    date_lenient(m.vacate_date) as vacate_on,
    date_lenient(m.made_ready_date) as made_ready_on,
    date_lenient(va.date_available) as v2_on,
    d.unit_number is not null as differs,
    nullif(concat_ws('; ',
      issue('vacate date', 'date', m.vacate_date),
      issue('made-ready date', 'date', m.made_ready_date),
      issue('date available', 'date', va.date_available)
    ), '') as issue
  from units u
  left join mits m on m.property_id = u.property_id and m.unit_number = u.unit_number
  left join differing d on d.property_id = u.property_id and d.unit_number = u.unit_number
  left join va on va.property_id = u.property_id and va.unit_number = u.unit_number
), counted as (
  select *,
    coalesce(cast(rule_status as int), 0) + coalesce(cast(rule_made_ready as int), 0) + coalesce(cast(rule_v2 as int), 0) as yes,
    cast(rule_status is not null as int) + cast(rule_made_ready is not null as int) + cast(rule_v2 is not null as int) as judges
  from judged
), decided as (
  select *,
    case when judges = 0 then 'none' when yes not in (0, judges) then 'disputed' when judges = 1 then 'single' else 'agreed' end as agreement,
    case
      when differs then 'a list has its number twice and says different things'
      when holding then 'it is a holding unit'
      when excluded then 'it is excluded from occupancy'
      when marketed is false then 'it is not marketed online'
      when judges = 0 then 'no list says whether it can be let'
      when yes not in (0, judges) then concat('the rules differ: ', concat_ws(', ',
        case rule_status when true then 'its status says yes' when false then 'its status says no' end,
        case rule_made_ready when true then 'it has a made-ready date' when false then 'it has no made-ready date' end,
        case rule_v2 when true then 'the live list says yes' when false then 'the live list says no' end))
      when yes = 0 then concat('it cannot be let: ', case
        when rule_status is false or rule_v2 is false
          then concat_ws(', ', economic_status, occupancy_status, leased_status, vacancy_status, make_ready_status)
        else 'it has no made-ready date' end)
    end as reason
  from counted
)
select
  property_id, unit_number,
  reason is null as available,
  case when reason is null then coalesce(made_ready_on, v2_on, vacate_on) end as available_on,
  agreement, rule_status, rule_made_ready, rule_v2, vacate_on, made_ready_on, reason, issue
from decided
