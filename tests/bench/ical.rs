//! What it costs to compare a large calendar with the answer before.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use chrono::{DateTime, Days, NaiveDate, TimeDelta, Utc};
use connectors::ical::dialect::Kind;
use connectors::ical::diff::{FeedState, diff};
use connectors::ical::feed::{Feed, Rules};
use connectors::ical::reader;

use crate::{Result, say};

/// Events of the feed.
const EVENTS: usize = 10_000;

/// Reads a feed of ten thousand stays and compares it with the one before, in which one in a hundred had other dates and
/// another UID. The floor is a reader that takes lines apart and does nothing with them.
pub(crate) fn bench(scale: f64) -> Result<()> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of events")]
    let events = (EVENTS as f64 * scale).max(100.0) as usize;
    let rules = Rules {
        listing: "bench".to_owned(),
        scope: None,
        dialect: None,
        zone: Some(chrono_tz::America::Chicago),
        otherwise: Kind::Blocked,
    };
    let now: DateTime<Utc> = DateTime::from_timestamp(1_780_000_000, 0).unwrap_or_default();
    let (before, after) = (calendar(events, 0), calendar(events, 2));
    let (state, _) = diff(&FeedState::default(), &Feed::read(before.as_bytes(), &rules)?, now);
    let later = now + TimeDelta::minutes(10);

    let read = fastest(|| Ok(reader::read(after.as_bytes())?))?;
    let feed = fastest(|| Ok(Feed::read(after.as_bytes(), &rules)?))?;
    let answer = Feed::read(after.as_bytes(), &rules)?;
    let compared = fastest(|| Ok(diff(&state, &answer, later)))?;
    let same = Feed::read(before.as_bytes(), &rules)?;
    let quiet = fastest(|| Ok(diff(&state, &same, later)))?;
    let cursor = serde_json::to_string(&state)?.len() / events;
    say(&format!("calendar of {events} events, {} KiB", after.len() / 1024));
    say(&format!("  lines and events            {:>8.1} ms", millis(read)));
    say(&format!("  with what they mean         {:>8.1} ms", millis(feed)));
    say(&format!("  compared, 1 % with new ids  {:>8.1} ms  (at most 50)", millis(compared)));
    say(&format!("  compared, nothing changed   {:>8.1} ms", millis(quiet)));
    say(&format!("  cursor                      {cursor:>8} bytes an event"));
    Ok(())
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn fastest<T>(mut run: impl FnMut() -> Result<T>) -> Result<Duration> {
    let mut best = Duration::MAX;
    for _ in 0..7 {
        let start = Instant::now();
        let made = run()?;
        best = best.min(start.elapsed());
        drop(made);
    }
    Ok(best)
}

/// Stays one after another, of 50 guests; one in a hundred is moved by some days and listed under another UID.
fn calendar(events: usize, shift: u64) -> String {
    let mut text = String::from("BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//HomeAway.com, Inc.//EN\r\n");
    let first = NaiveDate::from_ymd_opt(2026, 6, 1).unwrap_or_default();
    for n in 0..events as u64 {
        let (moved, id) = if n.is_multiple_of(100) { (shift, n + shift * 1_000_000) } else { (0, n) };
        let from = first + Days::new(4 * n + moved);
        let until = from + Days::new(2);
        let _ = write!(
            text,
            "BEGIN:VEVENT\r\nUID:00000000-0000-4000-8000-{id:012}\r\nDTSTAMP:20260601T060000Z\r\nDTSTART;VALUE=DATE:{}\r\n\
             DTEND;VALUE=DATE:{}\r\nSUMMARY:Reserved - Guest{}\r\nEND:VEVENT\r\n",
            from.format("%Y%m%d"),
            until.format("%Y%m%d"),
            n % 50
        );
    }
    text.push_str("END:VCALENDAR\r\n");
    text
}
