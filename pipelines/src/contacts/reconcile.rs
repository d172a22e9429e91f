//! What to make of two sides that both may have changed: a three-way merge, field by field, against what they last agreed
//! on. Pure, so that every case can be tried.

use std::collections::{BTreeMap, BTreeSet};

use sinks::resman::document::as_held;

use super::model::{SHARED, Strategy};

/// Values by field; `None` is no value.
pub type Values = BTreeMap<String, Option<String>>;

/// A field that both sides have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clash {
    /// The field.
    pub field: String,
    /// What both had.
    pub base: Option<String>,
    /// Our value.
    pub domiq: Option<String>,
    /// ResMan's value.
    pub resman: Option<String>,
    /// Whether our value stays (`Some(true)`), ResMan's does (`Some(false)`), or a person decides.
    pub ours_stays: Option<bool>,
}

/// What follows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Values of ResMan that we take.
    pub take: BTreeMap<String, Option<String>>,
    /// What ResMan is now known to hold.
    pub base: Values,
    /// Fields that both have changed.
    pub clashes: Vec<Clash>,
    /// Fields whose value has to go to ResMan, because ours stays.
    pub push: BTreeSet<String>,
}

/// Settles what ResMan says now (`resman`, only the fields that it named) against ours.
///
/// - What equals ours, or what we sent and have not seen confirmed (`pushed`), is our own write coming back: nothing moves.
///   ResMan has it as our document has said it, which may be less than we have.
/// - What equals the base is no news, whatever we have changed meanwhile.
/// - A missing value is no wish to wipe ours.
/// - When only ResMan has moved, its value is taken. When both have, the strategy decides, and it is on record.
pub fn reconcile(
    base: &Values,
    pushed: &BTreeMap<String, Vec<String>>,
    ours: &Values,
    resman: &Values,
    strategy: Strategy,
) -> Outcome {
    let mut out = Outcome { base: base.clone(), ..Outcome::default() };
    for field in SHARED {
        let Some(theirs) = resman.get(field) else { continue };
        let Some(theirs) = theirs.as_ref().filter(|v| !v.is_empty()) else { continue };
        let known = base.get(field).cloned().flatten();
        let mine = ours.get(field).cloned().flatten();
        if known.as_ref() == Some(theirs) {
            continue;
        }
        out.base.insert(field.to_owned(), Some(theirs.clone()));
        let sent = pushed.get(field).into_iter().flatten();
        if sent.chain(&mine).chain(&known).any(|value| echoes(field, value, theirs)) {
            continue;
        }
        let unmoved = mine.as_ref().zip(known.as_ref()).is_some_and(|(mine, known)| echoes(field, mine, known));
        // A value that we never had cannot be lost by taking theirs.
        if unmoved || mine.is_none() {
            out.take.insert(field.to_owned(), Some(theirs.clone()));
            continue;
        }
        let ours_stays = match strategy {
            Strategy::ResmanWins => Some(false),
            Strategy::DomiqWins => Some(true),
            Strategy::ManualReview => None,
        };
        match ours_stays {
            Some(false) => _ = out.take.insert(field.to_owned(), Some(theirs.clone())),
            Some(true) => _ = out.push.insert(field.to_owned()),
            None => {}
        }
        out.clashes.push(Clash {
            field: field.to_owned(),
            base: known,
            domiq: mine,
            resman: Some(theirs.clone()),
            ours_stays,
        });
    }
    out
}

/// Whether ResMan says this once it was told a value of ours.
pub(super) fn echoes(field: &str, ours: &str, theirs: &str) -> bool {
    ours == theirs || as_held(field, ours) == theirs
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{BTreeMap, Outcome, Values, echoes, reconcile};
    use crate::contacts::model::Strategy as Winner;

    fn one(value: Option<&str>) -> Values {
        Values::from([("first_name".to_owned(), value.map(str::to_owned))])
    }

    /// Short names, and such as ResMan can hold only the same part of.
    fn name() -> impl Strategy<Value = String> {
        let long = |end: &str| Just(format!("{}{end}", "a".repeat(50)));
        prop_oneof![4 => "[abc]", 1 => long(""), 1 => long("b"), 1 => long(" c")]
    }

    proptest! {
        /// Over a small set of values every case turns up: nothing is ever lost without a record, nothing is wiped by a
        /// missing value, and what nobody changed does not move.
        #[test]
        fn nothing_is_overwritten_in_silence(
            base in prop::option::of(name()), ours in prop::option::of(name()), theirs in prop::option::of(name()),
            sent in prop::collection::vec(name(), 0..2), strategy in 0usize..3,
        ) {
            let strategy = [Winner::ResmanWins, Winner::DomiqWins, Winner::ManualReview][strategy];
            let pushed = BTreeMap::from([("first_name".to_owned(), sent.clone())]);
            let out = reconcile(
                &one(base.as_deref()), &pushed, &one(ours.as_deref()), &one(theirs.as_deref()), strategy,
            );
            let taken = out.take.get("first_name").cloned();
            let Some(theirs) = theirs else {
                prop_assert_eq!(out, Outcome { base: one(base.as_deref()), ..Outcome::default() });
                return Ok(());
            };
            let news = !sent.iter().chain(&ours).chain(&base).any(|value| echoes("first_name", value, &theirs));
            let unmoved = ours.as_ref().zip(base.as_ref()).is_some_and(|(ours, base)| echoes("first_name", ours, base));
            let ours_moved = ours.is_some() && !unmoved;
            prop_assert_eq!(out.base["first_name"].as_ref(), Some(&theirs), "what ResMan holds is known afterwards");
            prop_assert_eq!(!out.clashes.is_empty(), news && ours_moved, "a clash is on record, and nothing else is");
            let resman_may = news && (!ours_moved || strategy == Winner::ResmanWins);
            prop_assert_eq!(taken.flatten(), resman_may.then(|| theirs.clone()));
            prop_assert_eq!(out.push.contains("first_name"), news && ours_moved && strategy == Winner::DomiqWins);
            // The same news a second time is no news.
            let mut now = one(ours.as_deref());
            now.extend(out.take.clone());
            let again = reconcile(&out.base, &pushed, &now, &one(Some(&theirs)), strategy);
            prop_assert!(again.take.is_empty() && again.clashes.is_empty() && again.push.is_empty());
        }
    }
}
