//! From vendor rows to canonical and served tables: SQL models and the scalar functions that they call.
//!
//! Nothing here reads a clock, a file or the network: what a model may know stands in its input tables, among them the
//! one-row table `slice`. The same inputs therefore give the same output, wherever and how often they are run.

pub mod functions;
pub mod matching;
pub mod model;
pub mod models;
mod session;
pub mod settle;
pub mod text;

pub use model::{Inputs, Model, Output, SliceInfo, load, run};
pub use session::{session, session_with};
