-- By field, when what is known of a lead was said: what is relayed late, or a second time, is no news.
alter table sync.contact_sync
    add column heard        jsonb not null default '{}';

-- A GUID in capitals is the same id. Where both forms have been written there are two contacts, which a person merges.
update sync.contact_sync s set resman_contact_id = lower(resman_contact_id)
where resman_contact_id ~ '[A-F]'
  and resman_contact_id ~* '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$'
  and not exists (
    select from sync.contact_sync o where o.id <> s.id and lower(o.resman_contact_id) = lower(s.resman_contact_id)
  );
