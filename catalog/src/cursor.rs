//! Where a source stands.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Fault, Result};

/// A source's own bookmark. Only the source that made it can read it; everyone else stores it and hands it back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cursor(pub Value);

impl Cursor {
    /// Wraps a source's own state.
    pub fn of<T: Serialize>(state: &T) -> Result<Self> {
        serde_json::to_value(state).map(Self).map_err(|e| Fault::us("a cursor could not be written").because(e))
    }

    /// Reads the state back. A cursor of another shape is a fault that names the way out: start over.
    pub fn read<T: for<'de> Deserialize<'de>>(&self) -> Result<T> {
        T::deserialize(&self.0).map_err(|e| {
            Fault::user("the stored cursor does not fit this version of the connector")
                .hint("Run once with `--fresh` to start this pipeline from the beginning.")
                .because(e)
        })
    }
}
