-- model: transaction_categories
-- layer: normalise
-- about: One accounting category of a vendor account. The account is asked one type at a time, so a category may come again.
-- inputs: resman_transaction_categories
-- key: connection, transaction_category_id
select
  connection, clean(transaction_category_id) as transaction_category_id, clean(name) as name,
  clean(abbreviation) as abbreviation, snake(type) as kind, flag(is_rent) as rent,
  flag(is_recurring_monthly_rent_concession) as recurring_concession,
  flag(is_one_time_concession) as one_time_concession
from resman_transaction_categories
qualify transaction_category_id is null
  or row_number() over (partition by connection, lower(trim(transaction_category_id)) order by _row) = 1
