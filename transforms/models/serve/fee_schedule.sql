-- model: fee_schedule
-- layer: serve
-- about: Every fee of a property in words and numbers, required ones first.
-- inputs: fees
-- key: property_id, fee_id
-- check: statement like '%.'
with worded as (
  select *,
    case currency when 'USD' then '$' when 'EUR' then '€' when 'GBP' then '£' when 'CAD' then 'CA$' when 'MXN' then 'MX$'
      else concat(currency, ' ') end as sign,
    case frequency when 'monthly' then ' a month' when 'daily' then ' a day' when 'annual' then ' a year'
      when 'per_occurrence' then ' each time' when 'one_time' then ', once' else '' end as often
  from fees
)
select
  property_id, fee_id,
  row_number() over (
    partition by property_id
    order by case requirement when 'required' then 1 when 'situational' then 2 else 3 end,
      unit_number is not null, floorplan_code is not null, category, name, floorplan_code, unit_number, fee_id
  ) as position,
  name, category,
  coalesce(amount, amount_min) as amount,
  case when amount is null then amount_max end as amount_max,
  rent_multiple, currency, frequency, requirement, refundable, applies_to, floorplan_code, unit_number,
  concat(
    name, ': ',
    case
      when amount is not null then concat(sign, cast(amount as varchar), often)
      when amount_min is not null then concat(sign, cast(amount_min as varchar), ' to ', sign, cast(amount_max as varchar), often)
      when rent_multiple is not null then concat(
        regexp_replace(cast(rent_multiple as varchar), '\.?0+$', ''),
        case when rent_multiple = 1 then ' month''s rent' else ' months'' rent' end, often)
      when percent is not null then concat(cast(percent as varchar), ' percent', often)
      else concat('the amount is not known', often)
    end,
    case requirement when 'required' then ', required' when 'optional' then ', optional' else ', if it applies' end,
    case
      when unit_number is not null then concat(', for unit ', unit_number)
      when floorplan_code is not null then concat(', for floor plan ', floorplan_code)
      else ''
    end,
    case
      when refundable and refundable_amount is not null and refundable_amount < amount
        then concat(', ', sign, cast(refundable_amount as varchar), ' of it refundable')
      when refundable then ', refundable'
      when refundable is false then ', not refundable'
      else ''
    end,
    case when third_party then ', charged by a third party' else '' end,
    case when taxable then ', plus tax' else '' end,
    '.'
  ) as statement
from worded
