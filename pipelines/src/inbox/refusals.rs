//! How many refused deliveries are put on record: enough to see what is wrong, too few to fill a disk.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, Utc};

/// From one sender to one connection: so many at once, and one more each so many seconds.
const PER_SENDER: (f64, f64) = (60.0, 10.0);
/// From everybody: at two kilobytes each, some forty megabytes a day.
const TOGETHER: (f64, f64) = (600.0, 4.0);
/// Senders that are remembered.
const SENDERS: usize = 10_000;

#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: f64,
    at: DateTime<Utc>,
}

impl Bucket {
    /// Takes one, if there is one.
    fn take(&mut self, (burst, secs): (f64, f64), now: DateTime<Utc>) -> bool {
        let passed = (now - self.at).num_milliseconds().max(0) as f64 / 1000.0;
        self.left = (self.left + passed / secs).min(burst);
        self.at = now;
        let enough = self.left >= 1.0;
        if enough {
            self.left -= 1.0;
        }
        enough
    }
}

type Sender = (Option<IpAddr>, Option<(String, String)>);

/// What has been recorded lately.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<(HashMap<Sender, Bucket>, Option<Bucket>)>);

impl Refusals {
    /// Whether one more may be recorded. Unknown connections share one budget a sender, since anybody can invent them.
    pub(super) fn may_record(&self, peer: Option<IpAddr>, known: Option<(&str, &str)>, now: DateTime<Utc>) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (senders, together) = &mut *state;
        let sender = (peer, known.map(|(a, b)| (a.to_owned(), b.to_owned())));
        if senders.len() >= SENDERS && !senders.contains_key(&sender) {
            senders.clear();
        }
        let own = senders.entry(sender).or_insert(Bucket { left: PER_SENDER.0, at: now });
        own.take(PER_SENDER, now) && together.get_or_insert(Bucket { left: TOGETHER.0, at: now }).take(TOGETHER, now)
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn a_flood_is_cut_and_others_are_still_heard() {
        let (refusals, now) = (Refusals::default(), DateTime::<Utc>::UNIX_EPOCH);
        let peer = |n: u8| Some(IpAddr::from([192, 0, 2, n]));
        let recorded = |n, at| (0..500).filter(|_| refusals.may_record(peer(n), None, at)).count();
        assert_eq!(recorded(1, now), 60);
        assert_eq!(recorded(1, now + TimeDelta::seconds(100)), 10);
        assert!(refusals.may_record(peer(2), None, now));
        assert!(
            refusals.may_record(peer(1), Some(("intake", "site")), now),
            "a known connection has a budget of its own"
        );
        let all: usize = (10..60).map(|n| recorded(n, now + TimeDelta::seconds(100))).sum();
        assert!(all < 620, "{all} from everybody");
    }
}
