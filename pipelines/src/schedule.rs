//! When a pipeline runs: cron expressions in a time zone, as pure functions of time.
//!
//! Cron fields are read on the wall clock of the zone, and each wall-clock tick happens exactly once. A tick that
//! daylight saving skips (02:30 on the night the clock jumps from 02:00 to 03:00) happens when the gap ends; a tick on
//! an hour that comes twice happens the first time. Ticks that fall on one instant are one tick.

use std::fmt;

use catalog::{Fault, Result};
use chrono::{DateTime, Days, MappedLocalTime, NaiveDateTime, NaiveTime, TimeDelta, TimeZone, Timelike, Utc};
use chrono_tz::Tz;

/// The longest list that [`Schedule::ticks_between`] gives.
pub const MAX_TICKS: usize = 10_000;

/// The longest jump of a wall clock that is looked through: a zone that changes sides of the date line skips a day.
const LONGEST_JUMP_MINUTES: i64 = 26 * 60;

const EXAMPLE: &str = "Write five fields, minute hour day month weekday, as in `0 6 * * *` for 06:00 each day; a sixth field in \
                       front gives the second.";

/// The times at which something runs.
#[derive(Clone)]
pub struct Schedule {
    /// Its name, unique in a database: the memory of its last tick is kept under it.
    pub name: String,
    /// The cron expressions as they were written. It ticks when any of them does.
    pub cron: Vec<String>,
    /// The zone whose wall clock counts.
    pub zone: Tz,
    parsed: Vec<cron::Schedule>,
}

/// A schedule together with the job that each of its ticks makes.
#[derive(Debug, Clone)]
pub struct Scheduled {
    /// The pipeline to run.
    pub pipeline: String,
    /// The properties to run it for; none stands for all.
    pub only: Vec<String>,
    /// When.
    pub schedule: Schedule,
}

impl Scheduled {
    /// One schedule for the whole pipeline, under the pipeline's name.
    pub fn whole(pipeline: &str, cron: &[String], zone: Tz) -> Result<Self> {
        let schedule = Schedule::parse(pipeline, cron, zone)?;
        Ok(Self { pipeline: pipeline.to_owned(), only: Vec::new(), schedule })
    }

    /// One schedule a time zone, named `pipeline/Zone/Name`, each for the properties of that zone. Equal zones are
    /// joined; a zone without properties gives none, since "no property" would read as all of them.
    pub fn by_zone(pipeline: &str, cron: &[String], zones: &[(Tz, Vec<String>)]) -> Result<Vec<Self>> {
        let mut all: Vec<Self> = Vec::new();
        for (zone, properties) in zones.iter().filter(|(_, p)| !p.is_empty()) {
            if let Some(known) = all.iter_mut().find(|s| s.schedule.zone == *zone) {
                known.only.extend_from_slice(properties);
            } else {
                let schedule = Schedule::parse(&format!("{pipeline}/{zone}"), cron, *zone)?;
                all.push(Self { pipeline: pipeline.to_owned(), only: properties.clone(), schedule });
            }
        }
        for scheduled in &mut all {
            scheduled.only.sort_unstable();
            scheduled.only.dedup();
        }
        Ok(all)
    }
}

impl Schedule {
    /// Reads cron expressions of five or six fields. Weekdays count from Sunday as 0 (7 is Sunday too) or are named.
    ///
    /// # Errors
    /// When an expression is not understood, never ticks, or restricts both the day of the month and the weekday:
    /// some programs read that as "and", others as "or", so two expressions have to say it.
    pub fn parse(name: &str, cron: &[String], zone: Tz) -> Result<Self> {
        if cron.is_empty() {
            return Err(Fault::user(format!("schedule `{name}` has no cron expression")).hint(EXAMPLE));
        }
        let parsed = cron.iter().map(|e| expression(name, e)).collect::<Result<_>>()?;
        Ok(Self { name: name.to_owned(), cron: cron.to_vec(), zone, parsed })
    }

    /// The first tick after an instant. `None` once the expressions' last year (2100) is over.
    pub fn next(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let local = after.with_timezone(&self.zone).naive_local();
        let first = |cron: &cron::Schedule| {
            cron.after(&local.and_utc()).map(|t| self.instant(t.naive_utc())).find(|t| *t > after)
        };
        self.parsed.iter().filter_map(first).min()
    }

    /// The newest tick after `after` and not after `until`.
    pub fn newest_between(&self, after: DateTime<Utc>, until: DateTime<Utc>) -> Option<DateTime<Utc>> {
        // `next_back` stays before the second that it is given.
        let end = self.last_wall_clock(until);
        let end = end.with_nanosecond(0).unwrap_or(end) + TimeDelta::seconds(1);
        let newest =
            |cron: &cron::Schedule| cron.after(&end.and_utc()).next_back().map(|t| self.instant(t.naive_utc()));
        self.parsed.iter().filter_map(newest).max().filter(|t| *t > after && *t <= until)
    }

    /// The ticks after `after` and not after `until`, oldest first, at most [`MAX_TICKS`].
    pub fn ticks_between(&self, after: DateTime<Utc>, until: DateTime<Utc>) -> Vec<DateTime<Utc>> {
        std::iter::successors(self.next(after), |t| self.next(*t)).take_while(|t| *t <= until).take(MAX_TICKS).collect()
    }

    /// When the wall clock shows this time.
    fn instant(&self, local: NaiveDateTime) -> DateTime<Utc> {
        match self.zone.from_local_datetime(&local) {
            MappedLocalTime::Single(t) | MappedLocalTime::Ambiguous(t, _) => t.to_utc(),
            MappedLocalTime::None => {
                let minute = local.with_second(0).unwrap_or(local);
                (1..=LONGEST_JUMP_MINUTES)
                    .find_map(|m| self.zone.from_local_datetime(&(minute + TimeDelta::minutes(m))).earliest())
                    .map_or_else(|| local.and_utc(), |t| t.to_utc())
            }
        }
    }

    /// The latest time that the wall clock has shown by an instant. In the second pass of a repeated hour, that is the
    /// end of the hour: its first pass is over.
    fn last_wall_clock(&self, until: DateTime<Utc>) -> NaiveDateTime {
        let local = until.with_timezone(&self.zone).naive_local();
        let second_pass = |t: &NaiveDateTime| matches!(self.zone.from_local_datetime(t), MappedLocalTime::Ambiguous(_, second) if second.to_utc() <= until || *t > local);
        if !second_pass(&local) {
            return local;
        }
        let minute = local.with_second(0).unwrap_or(local);
        (1..=LONGEST_JUMP_MINUTES)
            .map(|m| minute + TimeDelta::minutes(m))
            .find(|t| !second_pass(t))
            .map_or(local, |end| end - TimeDelta::seconds(1))
    }
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schedule")
            .field("name", &self.name)
            .field("cron", &self.cron)
            .field("zone", &self.zone)
            .finish()
    }
}

/// One expression, made ready for the parser, which counts weekdays from 1 and wants seconds.
fn expression(name: &str, text: &str) -> Result<cron::Schedule> {
    let refuse = |why: &str| Fault::user(format!("schedule `{name}`: cron expression `{text}` {why}")).hint(EXAMPLE);
    let fields: Vec<&str> = text.split_whitespace().collect();
    let (second, rest) = match fields.len() {
        5 => ("0", &fields[..]),
        6 => (fields[0], &fields[1..]),
        n => return Err(refuse(&format!("has {n} fields, not five or six"))),
    };
    let any = |field: &str| matches!(field, "*" | "?");
    let &[minute, hour, day, month, weekday] = rest else { return Err(refuse("is incomplete")) };
    if !any(day) && !any(weekday) {
        return Err(refuse("restricts both the day of the month and the weekday").hint(
            "Programs disagree on what that means. Write two expressions: one with the day, one with the weekday.",
        ));
    }
    let weekday = weekdays(weekday).ok_or_else(|| refuse(&format!("has `{weekday}` as its weekday")))?;
    let parsed: cron::Schedule = format!("{second} {minute} {hour} {day} {month} {weekday}").parse().map_err(|_| {
        let which = ["second", "minute", "hour", "day of the month", "month", "weekday"]
            .into_iter()
            .zip([second, minute, hour, day, month, &weekday])
            .enumerate()
            .find(|(i, (_, field))| {
                let alone: Vec<&str> = (0..6).map(|n| if n == *i { field } else { "*" }).collect();
                alone.join(" ").parse::<cron::Schedule>().is_err()
            });
        which.map_or_else(
            || refuse("is not one that can be read"),
            |(_, (what, field))| refuse(&format!("has `{field}` as its {what}")),
        )
    })?;
    let begin = DateTime::<Utc>::UNIX_EPOCH.date_naive().and_time(NaiveTime::MIN) + Days::new(365 * 30);
    if parsed.after(&begin.and_utc()).next().is_none() {
        return Err(refuse("never comes true").hint("Choose a day that its months have."));
    }
    Ok(parsed)
}

/// Weekday numbers, as cron has always counted them, turned into names. `None` when a number or step is out of range.
fn weekdays(field: &str) -> Option<String> {
    const NAMES: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
    let mut days: Vec<&str> = Vec::new();
    for item in field.split(',') {
        let (range, step) = item.split_once('/').map_or((item, "1"), |(r, s)| (r, s));
        if !range.starts_with(|c: char| c.is_ascii_digit()) {
            days.push(item);
            continue;
        }
        let (first, last) = match range.split_once('-') {
            Some((first, last)) => (first.parse::<usize>().ok()?, last.parse().ok()?),
            // `1/2` is every second day from Monday to the end of the week.
            None => (range.parse().ok()?, if item.contains('/') { 6 } else { range.parse().ok()? }),
        };
        let step: usize = step.parse().ok().filter(|s| *s > 0)?;
        if first > last || last > 7 {
            return None;
        }
        days.extend((first..=last).step_by(step).map(|d| NAMES[d % 7]));
    }
    Some(days.join(","))
}
