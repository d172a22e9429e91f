//! propflow's own books in PostgreSQL.
//!
//! Everything here is plain SQL over [`sqlx`]. Functions take a connection, so that a sink can call them inside the
//! transaction that makes its rows durable.

pub mod audit;
pub mod connections;
pub mod deliveries;
pub mod erasures;
pub mod events;
pub mod keys;
pub mod outbox;
pub mod pg;
pub mod quota;
pub mod requests;
pub mod runs;
pub mod tokens;

pub use pg::{connect, migrate};
pub use quota::PgQuota;
pub use tokens::PgTokens;
