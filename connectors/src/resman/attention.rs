//! Whom to ask first, where one reading cannot ask about every property.
//!
//! A reading of changes is one call a property, and an account of many properties has calls for a few of them a second. What
//! has just changed is likely to change again: somebody talks to the chatbot, or works through the day's leads. So properties
//! with news are asked in each reading, and the others share what is left, in turn; nobody is left out.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

/// For so long after news a property is asked first.
const LIVELY: Duration = Duration::from_secs(300);
/// Of so many calls, one is for a property without news.
const QUIET_EVERY: u64 = 4;
/// A reading may take this long, and longer where the pauses between readings are long. Half of the usual second between polls.
pub(super) const PATIENCE: Duration = Duration::from_millis(500);

/// What is known of the readings of this source.
#[derive(Debug, Default)]
pub(super) struct Attention {
    asked: BTreeMap<String, Asked>,
    calls: u64,
    last: Option<(Instant, Duration)>,
}

#[derive(Debug)]
struct Asked {
    /// The number of the call.
    call: u64,
    /// When it last had news.
    news: Option<Instant>,
}

impl Attention {
    /// The properties in the order in which to ask them, and how long the reading may go on before it leaves the rest to the
    /// next one. The first reading leaves nobody out.
    pub(super) fn order(&self, properties: Vec<String>, now: Instant) -> (Vec<String>, Option<Duration>) {
        let Some((ended, took)) = self.last else { return (properties, None) };
        let (mut lively, mut quiet): (Vec<String>, Vec<String>) = properties.into_iter().partition(|p| {
            self.asked.get(p).and_then(|a| a.news).is_some_and(|news| now.duration_since(news) < LIVELY)
        });
        for group in [&mut lively, &mut quiet] {
            group.sort_by_key(|p| self.asked.get(p).map_or(0, |a| a.call));
        }
        let (mut lively, mut quiet) = (VecDeque::from(lively), VecDeque::from(quiet));
        let mut order = Vec::with_capacity(lively.len() + quiet.len());
        loop {
            let turn = (self.calls + order.len() as u64) % QUIET_EVERY == QUIET_EVERY - 1;
            let (first, second) = if turn { (&mut quiet, &mut lively) } else { (&mut lively, &mut quiet) };
            match first.pop_front().or_else(|| second.pop_front()) {
                Some(property) => order.push(property),
                None => break,
            }
        }
        // Whoever reads seldom has saved calls, and may spend them.
        let saved = now.duration_since(ended).saturating_sub(took);
        (order, Some(saved.max(PATIENCE)))
    }

    /// Notes that a property was asked, and whether it had news.
    pub(super) fn asked(&mut self, property: &str, news: bool, now: Instant) {
        self.calls += 1;
        let call = self.calls;
        let entry = self.asked.entry(property.to_owned()).or_insert(Asked { call, news: None });
        entry.call = call;
        if news {
            entry.news = Some(now);
        }
    }

    /// Notes that a reading is over.
    pub(super) fn ended(&mut self, began: Instant, now: Instant) {
        self.last = Some((now, now.duration_since(began)));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever a reading manages to ask, and whoever is lively: everybody is in the order once, the lively ones come
        /// within a few calls while they are few, and nobody waits for longer than it takes to go round.
        #[test]
        fn the_lively_come_soon_and_nobody_is_left_out(
            properties in 2usize..40, lively in 0usize..3, managed in prop::collection::vec(1usize..8, 150..160),
        ) {
            let lively = lively.min(properties - 1);
            let names: Vec<String> = (0..properties).map(|n| format!("p{n:02}")).collect();
            let mut attention = Attention::default();
            let mut now = Instant::now();
            let (first, patience) = attention.order(names.clone(), now);
            prop_assert_eq!((&first, patience), (&names, None));
            for (n, name) in first.iter().enumerate() {
                attention.asked(name, n < lively, now);
            }
            attention.ended(now, now);
            let mut waited: BTreeMap<String, usize> = BTreeMap::new();
            for managed in managed {
                now += Duration::from_millis(10);
                let (order, patience) = attention.order(names.clone(), now);
                let mut sorted = order.clone();
                sorted.sort();
                prop_assert_eq!(&sorted, &names);
                prop_assert!(patience >= Some(PATIENCE));
                for name in &names[..lively] {
                    prop_assert!(order.iter().position(|p| p == name) <= Some(lively + 1));
                }
                for name in order.iter().take(managed) {
                    attention.asked(name, false, now);
                    waited.values_mut().for_each(|w| *w += 1);
                    waited.insert(name.clone(), 0);
                }
                attention.ended(now, now);
                let longest = waited.values().max().copied().unwrap_or(0);
                prop_assert!(longest <= (properties + 2) * QUIET_EVERY as usize, "{longest}");
            }
        }
    }

    #[test]
    fn a_property_without_news_for_long_is_quiet_again_and_long_pauses_are_spent() {
        let began = Instant::now();
        let mut attention = Attention::default();
        attention.asked("a", false, began);
        attention.asked("b", true, began);
        attention.ended(began, began);
        let order = |attention: &Attention, at| attention.order(vec!["a".to_owned(), "b".to_owned()], at);
        assert_eq!(order(&attention, began + Duration::from_secs(1)).0, ["b", "a"]);
        assert_eq!(order(&attention, began + LIVELY).0, ["a", "b"]);
        assert_eq!(order(&attention, began + Duration::from_secs(10)).1, Some(Duration::from_secs(10)));
        attention.ended(began, began + Duration::from_secs(10));
        assert_eq!(order(&attention, began + Duration::from_secs(20)).1, Some(PATIENCE));
    }
}
