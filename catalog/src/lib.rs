//! The words that every part of propflow shares: datasets, faults, cursors, the component registry, secrets, clocks,
//! quotas and telemetry names.
//!
//! Without the feature `store` nothing here does I/O. With it, [`store`] keeps propflow's own ledgers in PostgreSQL:
//! runs, slices, cursors, rejects, quotas and the audit trail.

pub mod clock;
pub mod component;
pub mod cursor;
pub mod dataset;
pub mod datasets;
pub mod fault;
pub mod quota;
pub mod secret;
pub mod slice;
#[cfg(feature = "store")]
pub mod store;
pub mod telemetry;
pub mod token;

pub use clock::{Clock, SystemClock, TestClock};
pub use component::{Component, Entry, Env};
pub use cursor::Cursor;
pub use dataset::{Column, Dataset, Kind, WriteMode};
pub use fault::{Blame, Fault, Result, Retry};
pub use quota::{Budget, Quota, Window};
pub use secret::{SafeUrl, SecretRef};
pub use slice::{Note, Receipt, Reject, RejectKind, Slice, SliceId};
pub use token::{Issued, Issuer, Tokens};
