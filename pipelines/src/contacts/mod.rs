//! Contacts: one record per person, kept in agreement with ResMan.
//!
//! A contact belongs to a property, as leads do in ResMan. Who is known already is found by the matcher over the stored
//! keys ([`identity`]); what both sides say is settled field by field against what they last agreed on ([`reconcile`]); two
//! records of one person become one, and two again when that was wrong ([`merges`]); what they say in conversations is read
//! behind the answer ([`enrichment`]). Every change has a history row, an
//! audit row, an event, and a message to ResMan, all in the transaction of the change.

pub mod enrichment;
pub mod figures;
pub mod find;
pub mod identity;
pub mod inbound;
pub mod merges;
pub mod model;
pub mod push;
pub mod reconcile;
pub mod remote;
pub mod said;
pub mod service;
pub mod store;
pub mod telling;
mod work;

pub use model::{Contact, Patch, Source, Strategy};
pub use service::Contacts;
