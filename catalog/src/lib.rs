//! The words that every part of propflow shares: datasets, faults, cursors, the component registry, secrets, clocks,
//! quotas and telemetry names.
//!
//! Without features nothing here does I/O. With `store`, [`store`] keeps propflow's own ledgers in PostgreSQL: runs,
//! slices, cursors, rejects, quotas, the outbox and the audit trail. With `http`, [`mod@http`] is the one client by which
//! connectors and sinks call systems outside.

pub mod clock;
pub mod component;
pub mod cursor;
pub mod dataset;
pub mod datasets;
pub mod fault;
#[cfg(feature = "http")]
pub mod http;
pub mod id;
pub mod quota;
pub mod secret;
pub mod slice;
pub mod standing;
#[cfg(feature = "store")]
pub mod store;
pub mod telemetry;
pub mod token;
pub mod xml;

pub use clock::{Clock, SystemClock, TestClock};
pub use component::{Component, Entry, Env};
pub use cursor::Cursor;
pub use dataset::{Column, Dataset, Kind, WriteMode};
pub use fault::{Blame, Fault, Result, Retry};
pub use id::id;
pub use quota::{Budget, Quota, Window};
pub use secret::{SafeUrl, SecretRef};
pub use slice::{Note, Receipt, Reject, RejectKind, Slice, SliceId};
pub use token::{Issued, Issuer, Tokens};
