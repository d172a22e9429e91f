//! Sinks: where propflow writes.
//!
//! A sink is one folder and one line in [`ALL`]. It takes named slices of known datasets and never looks at a vendor to
//! decide what to load. A courier is one folder and one line in [`COURIERS`]; it takes the messages of the outbox, one at
//! a time, to a system outside or to a person.

use catalog::{Entry, WriteMode};

pub mod courier;
pub mod sink;

pub mod memory;
pub mod notify;
pub mod parquet;
pub mod postgres;
pub mod resman;
mod rows;

pub use catalog::Receipt;
pub use courier::Courier;
pub use sink::{Abilities, Kept, Sink, Target};

/// Every sink, in the order of `propflow list`.
pub static ALL: &[Entry<dyn Sink>] =
    &[Entry::of::<postgres::Postgres>(), Entry::of::<parquet::Parquet>(), Entry::of::<memory::Memory>()];

/// Every courier, in the order of `propflow list`.
pub static COURIERS: &[Entry<dyn Courier>] = &[
    Entry::of::<resman::ResMan>(),
    Entry::of::<notify::email::Email>(),
    Entry::of::<notify::slack::Slack>(),
    Entry::of::<notify::sms::Sms>(),
    Entry::of::<notify::in_app::InApp>(),
];

/// The courier of that name.
pub fn find_courier(name: &str) -> Option<&'static Entry<dyn Courier>> {
    COURIERS.iter().find(|e| e.name == name)
}

/// The sink of that name.
pub fn find(name: &str) -> Option<&'static Entry<dyn Sink>> {
    ALL.iter().find(|e| e.name == name)
}

/// The write modes that a sink honours, without opening it.
pub fn modes(name: &str) -> &'static [WriteMode] {
    use WriteMode::{Append, History, Snapshot, Upsert};
    // All of them keep all modes today; a sink that cannot says so here and in its abilities.
    if find(name).is_some() { &[Append, Upsert, Snapshot, History] } else { &[] }
}
