-- How often something of a contact was written into ResMan, and when last: a reading of ResMan that began before says nothing
-- about what stands there now.

alter table sync.contacts
    add column deliveries   bigint not null default 0,
    add column delivered_at timestamptz;
