//! What the vendor is asked, and its answers as plain structs: no Arrow, no cursors.

use std::path::Path;

use catalog::{Fault, Result};
use serde::Deserialize;

/// One object of the file.
#[derive(Debug, Deserialize)]
pub(super) struct Item {
    pub(super) id: String,
    pub(super) name: Option<String>,
}

/// Every object. A line that is none fails the reading, with its number.
pub(super) async fn items(path: &Path) -> Result<Vec<Item>> {
    let text = tokio::fs::read_to_string(path)
        .await
        .map_err(|e| Fault::user(format!("`{}` cannot be read", path.display())).because(e))?;
    (text.lines().enumerate())
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(number, line)| {
            serde_json::from_str(line)
                .map_err(|e| Fault::user(format!("`{}` line {}: not an item", path.display(), number + 1)).because(e))
        })
        .collect()
}
