-- Services around a stay: who does them, which rules plan them, what is planned, and notices shown inside the program.

-- Someone who does services. Without a property, for all of them.
create table sync.staff (
    staff_id        text primary key,
    name            text not null,
    property_id     text,
    -- What they do; empty is everything.
    service_types   text[] not null default '{}',
    -- How they are told.
    channel         text not null default 'email' constraint staff_channel_known
                    check (channel in ('email', 'sms', 'slack', 'in_app')),
    email           text,
    phone           text,
    active          boolean not null default true,
    created_at      timestamptz not null default now(),
    updated_at      timestamptz not null default now()
);

create table sync.owners (
    owner_id        text primary key,
    name            text not null,
    channel         text not null default 'email' constraint owners_channel_known
                    check (channel in ('email', 'sms', 'slack', 'in_app')),
    email           text,
    phone           text,
    created_at      timestamptz not null default now(),
    updated_at      timestamptz not null default now()
);

-- What a property has been promised. One that is not here has the level `essential` and no known owner.
create table sync.property_services (
    property_id     text primary key,
    owner_id        text constraint property_services_owner_known references sync.owners (owner_id) on delete set null,
    service_level   text not null default 'essential' constraint property_services_level_known
                    check (service_level in ('essential', 'premium', 'elite')),
    created_at      timestamptz not null default now(),
    updated_at      timestamptz not null default now()
);

-- A rule of a property stands in place of the general ones with the same trigger and service, even when it is not active.
create table sync.services_automation (
    rule_id         text primary key,
    -- Null: every property.
    property_id     text,
    trigger_event   text not null constraint services_automation_trigger_known
                    check (trigger_event in ('48h_before_check_in', 'check_in', 'mid_stay', 'service_request', 'check_out')),
    service_type    text not null,
    -- Whether every stay gets it; otherwise it is planned when someone asks.
    auto_schedule   boolean not null default true,
    -- Who does it; null: whoever of the staff does this service at the property.
    staff_assignment text constraint services_automation_staff_known references sync.staff (staff_id) on delete set null,
    -- The lowest level of a property that includes it.
    service_level   text not null default 'essential' constraint services_automation_level_known
                    check (service_level in ('essential', 'premium', 'elite')),
    -- Names of message templates; null: that side is not told.
    guest_template  text,
    owner_template  text,
    staff_template  text,
    -- What it costs the owner each time; null is unknown, zero is free.
    cost_amount     numeric(18, 4),
    cost_currency   text,
    active          boolean not null default true,
    created_at      timestamptz not null default now(),
    updated_at      timestamptz not null default now(),
    constraint services_automation_cost_has_currency check (cost_amount is null or cost_amount = 0 or cost_currency is not null)
);

create table sync.service_tasks (
    task_id         uuid primary key,
    booking_id      text not null,
    rule_id         text not null constraint service_tasks_rule_known references sync.services_automation (rule_id),
    -- What tells several requests of one stay apart; empty for what the rule plans by itself.
    request         text not null default '',
    property_id     text not null,
    service_type    text not null,
    staff_id        text constraint service_tasks_staff_known references sync.staff (staff_id) on delete set null,
    due_at          timestamptz not null,
    -- Behind this instant guest and owner are not told any more.
    tell_until      timestamptz not null,
    state           text not null default 'planned' constraint service_tasks_state_known
                    check (state in ('planned', 'due', 'done', 'withdrawn')),
    reason          text,
    -- What the asker wrote.
    note            text,
    cost_amount     numeric(18, 4),
    cost_currency   text,
    -- Sides that should have been told and could not be: no address, or they do not want to hear.
    unreached       text[] not null default '{}',
    -- Raised each time that it is planned anew; messages of an older version are taken back.
    version         integer not null default 1,
    created_at      timestamptz not null,
    updated_at      timestamptz not null,
    constraint service_tasks_once unique (booking_id, rule_id, request)
);
create index service_tasks_due on sync.service_tasks (due_at) where state = 'planned';
create index service_tasks_by_property on sync.service_tasks (property_id, due_at);

-- Notices for people who look into the program.
create table sync.notifications (
    id              bigint generated always as identity primary key,
    dedupe_key      text not null constraint notifications_once unique,
    audience        text not null constraint notifications_audience_known check (audience in ('guest', 'owner', 'staff')),
    -- Whose it is; null: everyone of that side at the property.
    recipient       text,
    property_id     text,
    subject         text not null,
    body            text not null,
    read_at         timestamptz,
    created_at      timestamptz not null
);
create index notifications_unread on sync.notifications (audience, recipient, id) where read_at is null;

-- Bookings whose services have to be looked at again; null: all that are not over.
create table ops.unplanned (
    id              bigint generated always as identity primary key,
    booking_id      text,
    created_at      timestamptz not null default now()
);

create function ops.mark_unplanned() returns trigger language plpgsql as $$
begin
    insert into ops.unplanned (booking_id) select distinct booking_id from new_rows;
    return null;
end $$;

create function ops.mark_all_unplanned() returns trigger language plpgsql as $$
begin
    insert into ops.unplanned (booking_id) values (null);
    return null;
end $$;

insert into sync.services_automation
    (rule_id, trigger_event, service_type, auto_schedule, service_level, guest_template, owner_template, staff_template)
values
    ('welcome', '48h_before_check_in', 'guest_communication', true, 'essential', 'guest_welcome', null, null),
    ('arrival_preparations', '48h_before_check_in', 'cleaning_verification', true, 'essential', null, 'owner_arrival', 'staff_task'),
    ('groceries', '48h_before_check_in', 'grocery', false, 'premium', 'guest_confirmed', null, 'staff_task'),
    ('beach_gear', '48h_before_check_in', 'beach_gear', false, 'premium', 'guest_confirmed', null, 'staff_task'),
    ('concierge', 'check_in', 'concierge', true, 'essential', 'guest_concierge', null, null),
    ('mid_stay_housekeeping', 'mid_stay', 'housekeeping', true, 'premium', 'guest_housekeeping', null, 'staff_task'),
    ('request', 'service_request', 'request', false, 'essential', 'guest_confirmed', null, 'staff_task'),
    ('request_elite', 'service_request', 'concierge_request', false, 'elite', 'guest_confirmed', 'owner_request', 'staff_task'),
    ('check_out_cleaning', 'check_out', 'cleaning_and_inspection', true, 'essential', null, null, 'staff_task'),
    ('feedback', 'check_out', 'feedback', true, 'essential', 'guest_feedback', null, null),
    ('owner_summary', 'check_out', 'owner_summary', true, 'essential', null, 'owner_summary', null);

do $$
declare tab text;
begin
    foreach tab in array array['services_automation', 'property_services', 'staff'] loop
        execute format('create trigger plan_services_anew after insert or update or delete on sync.%I '
            'for each statement execute function ops.mark_all_unplanned()', tab);
    end loop;
end $$;
insert into ops.unplanned (booking_id) values (null);
