//! Sinks: where propflow writes.
//!
//! A sink is one folder and one line in [`ALL`]. It takes named slices of known datasets and never looks at a vendor to
//! decide what to load.

use catalog::{Entry, WriteMode};

pub mod sink;

pub mod memory;
pub mod parquet;
pub mod postgres;
mod rows;

pub use catalog::Receipt;
pub use sink::{Abilities, Kept, Sink, Target};

/// Every sink, in the order of `propflow list`.
pub static ALL: &[Entry<dyn Sink>] =
    &[Entry::of::<postgres::Postgres>(), Entry::of::<parquet::Parquet>(), Entry::of::<memory::Memory>()];

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
