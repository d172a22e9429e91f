//! Identity resolution: which records are one person.
//!
//! A run over many records goes through four stages. Values are normalised and packed ([`Population`]); records that
//! share one of many keys become candidates; a [`Scorer`], trained on the population itself, gives each pair a
//! probability; pairs are joined to clusters whose members agree. One record against an index takes the same road:
//! [`Record::keys`], [`Candidates`], [`Scorer::score`], [`decide`].
//!
//! Nothing is drawn by chance that would differ between runs: the same records give the same clusters in whatever order
//! they come, and on however many cores.

mod block;
mod cluster;
mod compare;
mod index;
mod names;
mod nicknames;
mod normalise;
mod population;
mod record;
mod resolve;
mod scorer;
mod stored;
mod train;

pub use block::{Says, Skipped};
pub use index::{Added, Candidates, Index, Match, find};
pub use population::{Attribute, Chunk, Columns, Population};
pub use record::{Person, Record};
pub use resolve::{Bucket, Quality, Resolved, Stage, resolve};
pub use scorer::{Decision, FieldScore, Profile, Rule, Scored, Scorer, decide};
