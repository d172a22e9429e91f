//! Connectors: how propflow reads the systems outside.
//!
//! A connector is one folder and one line in [`ALL`]. It reads and never writes; it emits the wire datasets of
//! `catalog` and leaves their meaning to the models in `transforms`.

use catalog::Entry;

pub mod airbnb;
mod authority;
mod emit;
pub mod guesty;
pub mod hostaway;
pub mod ical;
pub mod intake;
mod managers;
pub mod mits;
pub mod ownerrez;
pub mod resman;
pub mod rest;
pub mod rows;
pub mod source;
/// What `just new-connector` copies; it is compiled with the tests, so that it stays a connector.
#[cfg(test)]
#[expect(unreachable_pub, reason = "a copy of it is public")]
#[path = "../template/mod.rs"]
mod template;
pub mod vrbo;
pub mod webhook;

pub use authority::Authority;
pub use catalog::http;
pub use source::{Event, Read, Request, Source, Stream, guarded};
pub use webhook::{Decoded, Delivery, Refused, Webhook};

/// Every connector, in the order of `propflow list`.
pub static ALL: &[Entry<dyn Source>] = &[
    Entry::of::<airbnb::Airbnb>(),
    Entry::of::<guesty::Guesty>(),
    Entry::of::<hostaway::Hostaway>(),
    Entry::of::<ical::Ical>(),
    Entry::of::<intake::Intake>(),
    Entry::of::<mits::Mits>(),
    Entry::of::<ownerrez::OwnerRez>(),
    Entry::of::<resman::ResMan>(),
    Entry::of::<rest::Rest>(),
    Entry::of::<vrbo::Vrbo>(),
];

/// The connector of that name.
pub fn find(name: &str) -> Option<&'static Entry<dyn Source>> {
    ALL.iter().find(|e| e.name == name)
}
