//! The contract with the chatbot: the views of the PostgreSQL schema `serving`.
//!
//! Tables live in the schema `core` and change with the catalog. Readers see views only, each row with `as_of` (when the
//! vendor last confirmed its property) and `stale` (that is longer ago than the property's freshness limit). Both are
//! computed when the row is read, so a run that never came is visible at once. A property that its account no longer
//! lists is in no view.

use super::find;
use crate::Dataset;

/// A view of the schema `serving`.
#[derive(Debug, Clone, Copy)]
pub struct View {
    /// Its name.
    pub name: &'static str,
    /// The stored dataset below it.
    pub dataset: &'static str,
    /// What a reader should know first.
    pub about: &'static str,
}

/// The views, in the order of the documentation.
pub const VIEWS: &[View] = &[
    View {
        name: "properties",
        dataset: "properties",
        about: "Every property that is on offer, with address, contact and links.",
    },
    View {
        name: "available_units",
        dataset: "available_units",
        about: "The units that may be offered. What is not here must not be quoted.",
    },
    View {
        name: "unit_costs",
        dataset: "unit_costs",
        about: "What each available unit costs per lease term, with every required fee.",
    },
    View {
        name: "fee_schedule",
        dataset: "fee_schedule",
        about: "Every fee of a property, as numbers and as a sentence.",
    },
    View { name: "floorplans", dataset: "floorplans", about: "The floor plans of a property." },
    View {
        name: "concessions",
        dataset: "concessions",
        about: "The discounts of a property; quote only those with `current`.",
    },
    View { name: "amenities", dataset: "amenities", about: "What a property, plan or unit has." },
    View { name: "price_history", dataset: "price_history", about: "How prices moved." },
];

impl View {
    /// The dataset below the view.
    pub fn dataset(&self) -> Option<&'static Dataset> {
        find(self.dataset)
    }
}

/// The columns that every view has behind those of its dataset: name, PostgreSQL type, meaning.
pub const EXTRA: &[(&str, &str, &str)] = &[
    ("as_of", "timestamptz", "when the vendor last confirmed this property's inventory"),
    (
        "stale",
        "boolean",
        "whether that is longer ago than the property's freshness limit: do not quote without checking",
    ),
];
