//! Connectors: how propflow reads the systems outside.
//!
//! A connector is one folder and one line in [`ALL`]. It reads and never writes; it emits the wire datasets of
//! `catalog` and leaves their meaning to the models in `transforms`.

use catalog::Entry;

mod emit;
pub mod http;
pub mod mits;
pub mod resman;
pub mod rest;
pub mod rows;
pub mod source;
pub mod webhook;

pub use source::{Event, Read, Request, Source, Stream, guarded};
pub use webhook::{Decoded, Delivery, Refused, Webhook};

/// Every connector, in the order of `propflow list`.
pub static ALL: &[Entry<dyn Source>] =
    &[Entry::of::<mits::Mits>(), Entry::of::<resman::ResMan>(), Entry::of::<rest::Rest>()];

/// The connector of that name.
pub fn find(name: &str) -> Option<&'static Entry<dyn Source>> {
    ALL.iter().find(|e| e.name == name)
}
