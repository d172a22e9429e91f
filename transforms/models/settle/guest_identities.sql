-- model: guest_identities
-- layer: settle
-- about: One mark by which a guest is known again.
-- inputs: guest_assignments
-- key: identity
--
-- Who is one guest is decided in `src/settle/guests.rs`.
select identity, kind, guest_id from guest_assignments
