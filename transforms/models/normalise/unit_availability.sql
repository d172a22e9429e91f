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
with mits as (
  select property_id, clean(unit_number) as unit_number,
    min(vacancy_class) as vacancy_class, min(vacate_date) as vacate_date, min(made_ready_date) as made_ready_date,
    count(distinct stable_id(
      floorplan_id, building, floor, bedrooms, bathrooms, square_feet_min, square_feet_max, market_rent, unit_rent,
      economic_status, occupancy_status, leased_status, vacancy_class, vacate_date, made_ready_date, street
    )) > 1 as differs
  from mits_units
  group by property_id, clean(unit_number)
), v1 as (
  select property_id, clean(unit_number) as unit_number,
    count(distinct stable_id(unit_id, building, floor, street, unit_type)) > 1 as differs
  from resman_v1_units
  group by property_id, clean(unit_number)
), v2 as (
  select property_id, clean(unit_number) as unit_number,
    count(distinct stable_id(
      unit_id, unit_type_id, building, floor, square_feet, market_rent, excluded_from_occupancy,
      available_for_online_marketing, is_affordable_unit, is_holding_unit
    )) > 1 as differs
  from resman_units
  group by property_id, clean(unit_number)
), va as (
  select property_id, clean(unit_number) as unit_number, min(date_available) as date_available,
    count(distinct stable_id(
      unit_id, unit_type_id, building_name, floor, square_feet, market_rent, available_for_online_marketing,
      excluded_from_occupancy, status, date_available, vacancy_status
    )) > 1 as differs
  from resman_availability
  group by property_id, clean(unit_number)
), judged as (
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
    coalesce(m.differs, false) or coalesce(v1.differs, false) or coalesce(v2.differs, false)
      or coalesce(va.differs, false) as differs,
    nullif(concat_ws('; ',
      issue('vacate date', 'date', m.vacate_date),
      issue('made-ready date', 'date', m.made_ready_date),
      issue('date available', 'date', va.date_available)
    ), '') as issue
  from units u
  left join mits m on m.property_id = u.property_id and m.unit_number = u.unit_number
  left join v1 on v1.property_id = u.property_id and v1.unit_number = u.unit_number
  left join v2 on v2.property_id = u.property_id and v2.unit_number = u.unit_number
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
      when yes = 0 then concat('it cannot be let: ', concat_ws(', ',
        economic_status, occupancy_status, leased_status, vacancy_status, make_ready_status))
    end as reason
  from counted
)
select
  property_id, unit_number,
  reason is null as available,
  case when reason is null then coalesce(made_ready_on, v2_on, vacate_on) end as available_on,
  agreement, rule_status, rule_made_ready, rule_v2, vacate_on, made_ready_on, reason, issue
from decided
