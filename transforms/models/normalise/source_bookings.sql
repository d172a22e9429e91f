-- model: source_bookings
-- layer: normalise
-- about: One reservation, block or hold as one connection tells it, once per stretch in one listing.
-- inputs: channel_reservations, slice
-- key: connection, source_booking_id, segment
-- check: check_in < check_out
-- check: kind in ('stay', 'block', 'hold', 'owner')
-- check: amount_kind in ('guest_total', 'host_payout', 'unknown')
--
-- What the channels' words mean is decided here for all of them; a connector only says which field holds which value.
-- A word that nobody knows leaves the status `unknown`, which still takes the nights: a booking that is shown too much is
-- seen and mended, one that is hidden is sold twice. What a channel leaves out is unknown, never nothing.
with told as (
  select r.*, s.observed_at, s.region,
    coalesce(try_cast(clean(r.segment) as bigint), 0) as place,
    coalesce(instant_lenient(r.updated_at), s.observed_at) as version,
    case when snake(r.identity) in ('feed', 'synthetic') then snake(r.identity) else 'strong' end as strength,
    snake(r.type) as t, snake(r.status) as w, snake(r.stay_status) as sw,
    coalesce(clean(r.listing_id), clean(r.parent_listing_id)) as listing,
    date_lenient(r.check_in) as first_night, date_lenient(r.check_out) as last_day,
    coalesce(clean(r.external_code), regexp_match(r.title, 'HM[A-Z0-9]{8}')[1]) as code,
    platform(r.platform) as told_platform,
    email_canonical(r.guest_email) as email,
    upper(clean(r.currency)) as iso
  from slice s
  cross join channel_reservations r
  where coalesce(snake(r.presence), 'there') <> 'gone'
), weighed as (
  select *,
    case
      when listing is null then 'it names no listing'
      when first_night is null or last_day is null then
        concat('its dates cannot be read: `', coalesce(check_in, ''), '` to `', coalesce(check_out, ''), '`')
      when last_day <= first_night then concat('its dates run backwards: ', check_in, ' to ', check_out)
      when cast(last_day as int) - cast(first_night as int) > 1100 then concat('it is longer than three years: ', check_in, ' to ', check_out)
    end as reject
  from told
), newest as (
  -- An unsound version is refused and takes nothing with it: the newest of the sound ones is loaded.
  select * from weighed
  qualify reject is not null
    or row_number() over (partition by connection, reservation_id, place order by reject is not null, version desc, _row desc) = 1
), judged as (
  select *,
    case
      when t like 'owner%' or w = 'owner_stay' or told_platform in ('owner', 'owner_guest', 'owner_stay') then 'owner'
      when t in ('quote_hold', 'hold', 'tentative_hold') or (connector = 'ownerrez' and t = 'block' and w = 'pending') then 'hold'
      when t in ('block', 'blocked', 'linked_availability', 'unavailable', 'not_available', 'maintenance', 'closed', 'busy')
        then 'block'
      when strength <> 'strong' and coalesce(t, '') not in ('stay', 'reservation', 'booking', 'reserved', 'tentative') and (
        w like '%not_available%' or w like 'blocked%' or w like 'block' or w like 'unavailable%' or w like 'closed%'
        or w like 'indisponible%' or w like 'nicht_verfügbar%' or w like 'gesperrt%' or w like 'no_disponible%'
        or w like 'bloqueado%' or w like 'non_disponibile%' or w like 'busy%') then 'block'
      -- Nobody books a season without a name: an entry of a calendar that long is closed time.
      when strength <> 'strong' and t is null and code is null and cast(last_day as int) - cast(first_night as int) > 90 then 'block'
      else 'stay'
    end as kind,
    coalesce(told_platform, case
      when matches(upper(code), '^HM.{8}$') then 'airbnb'
      when connector in ('airbnb', 'vrbo') then connector
      when connector = 'ownerrez' then 'direct'
      else 'unknown'
    end) as site,
    case
      -- What other systems send by webhook is a booking unless they say otherwise.
      when w is null then case when strength = 'strong' and t is null and connector <> 'intake' then 'unknown' else 'confirmed' end
      when w in ('canceled', 'cancelled', 'deleted', 'disappeared') or w like 'cancelled_by%' or w like 'canceled_by%' then 'cancelled'
      when w in ('declined', 'denied', 'closed', 'rejected', 'inquiry_denied', 'host_declined') or w like 'declined_by%' then 'declined'
      when w in ('expired', 'timedout', 'timed_out', 'inquiry_timedout', 'inquiry_timed_out') then 'expired'
      when w in ('checked_in', 'in_house', 'arrived', 'stay_in_progress') then 'checked_in'
      when w in ('checked_out', 'completed', 'departed') then 'completed'
      when w in ('confirmed', 'accept', 'accepted', 'active', 'booked', 'modified', 'owner_stay') then 'confirmed'
      when w = 'new' then case when connector = 'hostaway' then 'confirmed' else 'pending' end
      when strength <> 'strong' and (w like 'reserv%' or w like 'réserv%' or w like 'gebucht%' or w like 'prenotat%'
        or w in ('stay', 'booking', 'block') or w like '%not_available%' or w like 'blocked%' or w like 'unavailable%'
        or w like 'closed%' or w like 'indisponible%' or w like 'nicht_verfügbar%' or w like 'gesperrt%'
        or w like 'no_disponible%' or w like 'bloqueado%' or w like 'non_disponibile%' or w like 'busy%') then 'confirmed'
      when w in ('reserved', 'awaiting_payment', 'pending', 'awaiting_guest_verification', 'unconfirmed', 'requested',
        'request', 'hold', 'option') or w like 'unconfirmed%' or w like 'tentative%' or w like 'provisoire%' or w like 'vorläufig%' then 'pending'
      when w like 'inquiry%' or w in ('enquiry', 'quote', 'lead') then 'inquiry'
      else 'unknown'
    end as said,
    -- Airbnb's subtotal is the price of the nights, without the fees that the guest pays beside it.
    coalesce(money(total_amount), case when connector <> 'airbnb' then money(subtotal_amount) + coalesce(money(tax_amount), 0) end) as guest_total,
    case
      when iso in ('JPY', 'KRW', 'VND', 'CLP', 'ISK', 'UGX', 'XAF', 'XOF', 'XPF', 'PYG', 'RWF') then 0 else 2
    end as exponent,
    clean(coalesce(total_amount, subtotal_amount, host_payout, paid_amount, balance_amount)) is not null as has_amount,
    matches(iso, '^[A-Z]{3}$') as has_currency
  from newest
), decided as (
  select *,
    case
      when kind = 'hold' then case when said in ('cancelled', 'declined', 'expired') then said else 'pending' end
      when kind in ('block', 'owner') then case when said in ('cancelled', 'declined', 'expired') then said else 'confirmed' end
      when said = 'confirmed' and sw = 'checked_in' then 'checked_in'
      when said in ('confirmed', 'checked_in') and sw = 'checked_out' then 'completed'
      else said
    end as standing,
    case when guest_total is not null then 'guest_total' when money(host_payout) is not null then 'host_payout' else 'unknown' end as meant,
    -- Where the amounts are not kept, their digits do not matter.
    case when has_currency then case when exponent = 0 then 'whole amount' else 'amount' end else 'number' end as digits
  from judged
)
select
  connection, clean(reservation_id) as source_booking_id, place as segment, version, connector, kind, strength as identity,
  case when kind = 'stay' then site else coalesce(told_platform, 'direct') end as platform,
  code as external_code, clean(group_id) as group_id, listing as listing_id, clean(parent_listing_id) as parent_listing_id,
  clean(guest_id) as guest_id,
  coalesce(clean(guest_name), clean(concat_ws(' ', clean(guest_first_name), clean(guest_last_name)))) as guest_name,
  clean(guest_first_name) as guest_first_name, clean(guest_last_name) as guest_last_name,
  email as guest_email, email_is_alias(email) as guest_email_is_alias,
  phone_e164(guest_phone, region) as guest_phone, clean(guest_locale) as guest_locale,
  first_night as check_in, last_day as check_out,
  clock_time(check_in_time) as check_in_time, clock_time(check_out_time) as check_out_time, time_zone(time_zone) as time_zone,
  standing as status, clean(status) as raw_status, clean(type) as raw_type, instant_lenient(hold_until) as hold_until,
  coalesce(try_cast(clean(guest_count) as bigint),
    try_cast(clean(adults) as bigint) + coalesce(try_cast(clean(children) as bigint), 0)) as guest_count,
  try_cast(clean(adults) as bigint) as adults, try_cast(clean(children) as bigint) as children,
  try_cast(clean(infants) as bigint) as infants, try_cast(clean(pets) as bigint) as pets,
  case when has_currency then round(coalesce(guest_total, money(host_payout)), exponent) end as total_amount,
  case when has_currency then meant else 'unknown' end as amount_kind,
  case when has_currency then round(money(subtotal_amount), exponent) end as subtotal_amount,
  case when has_currency then round(money(tax_amount), exponent) end as tax_amount,
  case when has_currency then round(money(host_payout), exponent) end as host_payout,
  case when has_currency then round(money(paid_amount), exponent) end as paid_amount,
  case when has_currency then round(money(balance_amount), exponent) end as balance_amount,
  case when has_currency then iso end as currency,
  clean(special_requests) as special_requests, clean(notes) as booking_notes, clean(title) as title,
  instant_lenient(booked_at) as booked_at, instant_lenient(created_at) as source_created_at,
  instant_lenient(updated_at) as source_updated_at, instant_lenient(cancelled_at) as cancelled_at,
  snake(cancelled_by) as cancelled_by,
  reject,
  nullif(concat_ws('; ',
    case when said = 'unknown' and kind = 'stay' then concat('the status `', coalesce(status, ''), '` is not known, so its nights are held') end,
    case
      when not has_amount or has_currency then null
      when iso is null then 'it has an amount without a currency, so the amount is left unknown'
      else concat('`', substr(iso, 1, 20), '` is no currency, so the amount is left unknown')
    end,
    issue('total amount', digits, total_amount), issue('host payout', digits, host_payout),
    issue('amount without taxes', digits, subtotal_amount), issue('tax', digits, tax_amount),
    issue('paid amount', digits, paid_amount), issue('open amount', digits, balance_amount),
    case when clean(updated_at) is not null and instant_lenient(updated_at) is null
      then concat('the time of its change `', substr(updated_at, 1, 60), '` cannot be read, so it counts as of now') end,
    case when clean(guest_email) is not null and email is null then 'the e-mail is not an address, so it is left unknown' end,
    case when clean(guest_phone) is not null and phone_e164(guest_phone, region) is null
      then 'the phone is not a number that could be dialled, so it is left unknown' end,
    case when clean(time_zone) is not null and time_zone(time_zone) is null then 'the time zone is not known' end
  ), '') as issue
from decided
