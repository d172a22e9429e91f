//! The datasets that propflow knows by name.
//!
//! [`wire`] holds what connectors read, in the vendors' own words; [`inventory`] the canonical tables that normalise
//! models make of it; [`serve`] the tables that are computed for readers; [`bookings`] what channels say and what is agreed
//! over them; [`people`] leads, and who lives there.

pub mod bookings;
pub mod inventory;
pub mod people;
pub mod serve;
pub mod serving;
pub mod wire;

use std::sync::LazyLock;

use crate::Dataset;

static ALL: LazyLock<Vec<Dataset>> = LazyLock::new(|| [wire::all(), bookings::inputs(), stored()].concat());

/// Every known dataset.
pub fn all() -> &'static [Dataset] {
    &ALL
}

/// The dataset of that name.
pub fn find(name: &str) -> Option<&'static Dataset> {
    ALL.iter().find(|d| d.name == name)
}

/// The datasets that are stored: canonical and served ones, not those in wire form.
pub fn stored() -> Vec<Dataset> {
    [inventory::all(), serve::all(), bookings::all(), people::all()].concat()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::WriteMode;

    #[test]
    fn every_dataset_is_sound() {
        let mut names = BTreeSet::new();
        for d in all() {
            assert!(names.insert(&d.name), "`{}` is there twice", d.name);
            let columns: BTreeSet<_> = d.columns.iter().map(|c| &c.name).collect();
            assert_eq!(columns.len(), d.columns.len(), "`{}` has a column twice", d.name);
            for c in [&d.scope, &d.origin, &d.version_column].into_iter().flatten() {
                assert!(columns.contains(c), "`{}` names the unknown column `{c}`", d.name);
            }
            for c in &d.columns {
                assert!(!c.about.is_empty(), "`{}.{}` has no meaning", d.name, c.name);
            }
        }
        for d in stored() {
            assert!(!d.key().is_empty(), "`{}` has no key", d.name);
            assert_eq!(d.mode == WriteMode::Snapshot, d.scope.is_some(), "`{}`: snapshots need a scope", d.name);
        }
    }
}
