//! The lines and components of an iCalendar document.
//!
//! Strict where leniency could lose a stay: a document must begin and end as a calendar, and its components must nest, or
//! it is no answer at all. Lenient where generators differ: byte order mark, any line end, folds anywhere (inside of a
//! character too), names in any case, text that is not quite UTF-8.

use std::borrow::Cow;
use std::collections::BTreeSet;

use catalog::{Fault, Result};
use chrono::{DateTime, Days, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;

use super::zones;

/// The longest document that is read, in bytes: some forty thousand events.
pub const MAX_BYTES: usize = 16 << 20;
/// The longest line that is read, unfolded, in bytes.
pub const MAX_LINE_BYTES: usize = 64 << 10;
/// How deep components may nest.
const MAX_DEPTH: usize = 8;

/// What a document says.
#[derive(Debug, Default, Clone)]
pub struct Calendar {
    /// `PRODID`: the program that wrote it.
    pub product: Option<String>,
    /// `X-WR-TIMEZONE`, if that is a zone.
    pub zone: Option<Tz>,
    /// Its events, in order.
    pub events: Vec<Event>,
    /// Lines inside of events that are no property.
    pub malformed_lines: u64,
    /// Values that were not UTF-8.
    pub damaged_texts: u64,
    /// Names of zones that nobody knows; their times are taken as they are written.
    pub unknown_zones: BTreeSet<String>,
}

/// One `VEVENT`, as far as a stay needs it.
#[derive(Debug, Default, Clone)]
pub struct Event {
    /// The line on which it begins, from 1.
    pub line: u64,
    /// `UID`.
    pub uid: Option<String>,
    /// `SUMMARY`, unescaped.
    pub summary: Option<String>,
    /// `DESCRIPTION`, unescaped.
    pub description: Option<String>,
    /// `DTSTART`.
    pub start: Option<Result<Moment, BadMoment>>,
    /// `DTEND`.
    pub end: Option<Result<Moment, BadMoment>>,
    /// `DURATION`.
    pub duration: Option<Result<TimeDelta, BadMoment>>,
    /// `STATUS`, in capitals; `CANCELLED` too when the calendar's method cancels.
    pub status: Option<String>,
    /// `SEQUENCE`.
    pub sequence: u64,
    /// Whether it repeats (`RRULE`, `RDATE`).
    pub repeats: bool,
}

/// A value that is no date, time or duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadMoment;

/// A date or a time, in one of the four forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// A day.
    Day(NaiveDate),
    /// An instant.
    Utc(NaiveDateTime),
    /// A local time of a zone.
    Zoned(NaiveDateTime, Tz),
    /// A local time of wherever the listing is.
    Floating(NaiveDateTime),
}

/// From which day to which day, as the listing counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nights {
    /// First night.
    pub check_in: NaiveDate,
    /// Day of leaving.
    pub check_out: NaiveDate,
    /// When the guest comes, if the event says and its zone is known.
    pub check_in_time: Option<NaiveTime>,
    /// When the guest leaves, likewise.
    pub check_out_time: Option<NaiveTime>,
    /// The zone of the times.
    pub zone: Option<Tz>,
}

impl Event {
    /// The nights that it takes, counted where the listing is (`zone`, if known).
    ///
    /// # Errors
    /// Why it takes none, as a clause.
    pub fn nights(&self, zone: Option<Tz>) -> Result<Nights, &'static str> {
        let start = self.start.ok_or("it has no `DTSTART`")?.map_err(|_| "its `DTSTART` is no date")?;
        let end = match (self.end, self.duration) {
            (Some(end), _) => end.map_err(|_| "its `DTEND` is no date")?,
            (None, Some(duration)) => {
                start.plus(duration.map_err(|_| "its `DURATION` is none")?).ok_or("its `DURATION` is too long")?
            }
            (None, None) => match start {
                Moment::Day(day) => Moment::Day(day.checked_add_days(Days::new(1)).ok_or("it never ends")?),
                _ => return Err("it has no `DTEND`"),
            },
        };
        // Some programs write days as midnights; converted to another zone they would be the days before.
        let whole_days = start.time().is_none() && end.time().is_none();
        let here = |moment: Moment| if whole_days { moment.written() } else { moment.at(zone) };
        let (from, until) = (here(start), here(end));
        if until.date() <= from.date() {
            return Err("it ends before it begins, or lasts no night");
        }
        let zone = match start {
            Moment::Zoned(_, own) => Some(zone.unwrap_or(own)),
            _ => zone,
        };
        let time = |moment: Moment, local: NaiveDateTime| {
            let known = zone.is_some() || matches!(moment, Moment::Floating(_));
            (known && !whole_days && moment.time().is_some()).then(|| local.time())
        };
        Ok(Nights {
            check_in: from.date(),
            check_out: until.date(),
            check_in_time: time(start, from),
            check_out_time: time(end, until),
            zone: zone.filter(|_| !whole_days),
        })
    }
}

impl Moment {
    fn plus(self, duration: TimeDelta) -> Option<Self> {
        Some(match self {
            Moment::Day(day) => Moment::Day(day.checked_add_signed(duration)?),
            Moment::Utc(at) => Moment::Utc(at.checked_add_signed(duration)?),
            Moment::Zoned(at, zone) => Moment::Zoned(at.checked_add_signed(duration)?, zone),
            Moment::Floating(at) => Moment::Floating(at.checked_add_signed(duration)?),
        })
    }

    /// The time of day, unless it is a day or midnight.
    fn time(self) -> Option<NaiveTime> {
        match self {
            Moment::Day(_) => None,
            Moment::Utc(at) | Moment::Zoned(at, _) | Moment::Floating(at) => {
                Some(at.time()).filter(|time| *time != NaiveTime::MIN)
            }
        }
    }

    /// The date and time as they are written.
    fn written(self) -> NaiveDateTime {
        match self {
            Moment::Day(day) => day.and_time(NaiveTime::MIN),
            Moment::Utc(at) | Moment::Zoned(at, _) | Moment::Floating(at) => at,
        }
    }

    /// The date and time in another zone. A time that a clock change skips stays as it is written.
    fn at(self, zone: Option<Tz>) -> NaiveDateTime {
        let instant: Option<DateTime<Utc>> = match self {
            Moment::Day(_) | Moment::Floating(_) => None,
            Moment::Utc(at) => Some(at.and_utc()),
            Moment::Zoned(at, own) => own.from_local_datetime(&at).earliest().map(|at| at.to_utc()),
        };
        match (instant, zone) {
            (Some(instant), Some(zone)) => instant.with_timezone(&zone).naive_local(),
            _ => self.written(),
        }
    }
}

/// Reads a document.
///
/// # Errors
/// When it is no whole calendar: empty, a web page, broken off, badly nested, or beyond the limits. Trying again may
/// help: sites answer that way now and then.
pub fn read(bytes: &[u8]) -> Result<Calendar> {
    if bytes.len() > MAX_BYTES {
        return Err(Fault::remote(format!("the calendar is longer than {MAX_BYTES} bytes")));
    }
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    refuse_what_is_no_calendar(bytes)?;
    let mut lines = Lines { bytes, at: 0, line: 0 };
    let mut reader = Reader::default();
    while let Some((number, line)) = lines.next_line()? {
        reader.line(number, &line)?;
    }
    match (reader.stack.as_slice(), reader.whole) {
        ([], true) => Ok(reader.calendar),
        ([], false) => Err(Fault::remote("the calendar does not begin with `BEGIN:VCALENDAR`")),
        _ => Err(Fault::remote("the calendar breaks off before its `END:VCALENDAR`")),
    }
}

fn refuse_what_is_no_calendar(bytes: &[u8]) -> Result<()> {
    let head = bytes.trim_ascii_start();
    let refused = match head {
        [] => Fault::remote("the calendar is empty, without even `BEGIN:VCALENDAR`"),
        [b'<', ..] => Fault::remote("a web page came where a calendar was expected")
            .hint("The calendar's address may have been replaced: copy it again from the site."),
        [b'{' | b'[', ..] => Fault::remote("JSON came where a calendar was expected"),
        [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] => Fault::remote("the calendar is UTF-16, where UTF-8 was expected"),
        _ => return Ok(()),
    };
    Err(refused)
}

/// Logical lines: unfolded, as bytes, because a fold may split a character.
struct Lines<'a> {
    bytes: &'a [u8],
    at: usize,
    line: u64,
}

impl<'a> Lines<'a> {
    fn next_line(&mut self) -> Result<Option<(u64, Cow<'a, [u8]>)>> {
        if self.at >= self.bytes.len() {
            return Ok(None);
        }
        let first = self.physical();
        let number = self.line;
        let mut line = Cow::Borrowed(first);
        while let Some(b' ' | b'\t') = self.bytes.get(self.at) {
            self.at += 1;
            let more = self.physical();
            if !more.is_empty() {
                line.to_mut().extend_from_slice(more);
            }
            if line.len() > MAX_LINE_BYTES {
                break;
            }
        }
        if line.len() > MAX_LINE_BYTES {
            return Err(Fault::remote(format!("line {number} of the calendar is longer than {MAX_LINE_BYTES} bytes")));
        }
        Ok(Some((number, line)))
    }

    /// Up to the next line end: CR, LF, or any number of CRs before an LF, which is what a line end becomes when it is
    /// translated twice.
    fn physical(&mut self) -> &'a [u8] {
        let rest = &self.bytes[self.at..];
        self.line += 1;
        let Some(end) = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
            self.at = self.bytes.len();
            return rest;
        };
        let returns = rest[end..].iter().take_while(|byte| **byte == b'\r').count();
        let past = if rest.get(end + returns) == Some(&b'\n') { returns + 1 } else { 1 };
        self.at += end + past;
        &rest[..end]
    }
}

/// What has been read so far.
#[derive(Debug, Default)]
struct Reader {
    calendar: Calendar,
    /// Names of the open components, outermost first.
    stack: Vec<String>,
    event: Option<Event>,
    /// Whether a calendar has come to its end.
    whole: bool,
    /// Where the events of the open calendar begin, and whether its method cancels them.
    first: usize,
    cancels: bool,
}

/// A line taken apart.
struct Property<'a> {
    name: &'a str,
    parameters: &'a [u8],
    value: &'a [u8],
}

impl Reader {
    fn line(&mut self, number: u64, line: &[u8]) -> Result<()> {
        if line.trim_ascii().is_empty() || line.iter().all(|byte| *byte == 0) {
            return Ok(());
        }
        let Some(property) = Property::of(line) else {
            if self.stack.is_empty() {
                return Err(outside(number));
            }
            self.calendar.malformed_lines += 1;
            return Ok(());
        };
        if property.is("BEGIN") {
            return self.begin(number, &property.word());
        }
        if property.is("END") {
            return self.end(number, &property.word());
        }
        match self.stack.len() {
            0 => return Err(outside(number)),
            1 => self.of_calendar(&property),
            2 => self.of_event(&property),
            // Alarms and the like have summaries of their own.
            _ => {}
        }
        Ok(())
    }

    fn begin(&mut self, number: u64, name: &str) -> Result<()> {
        if self.stack.is_empty() {
            if name != "VCALENDAR" {
                return Err(outside(number));
            }
            (self.first, self.cancels) = (self.calendar.events.len(), false);
        }
        if self.stack.len() >= MAX_DEPTH {
            return Err(Fault::remote(format!("components nest deeper than {MAX_DEPTH} at line {number}")));
        }
        if self.stack.len() == 1 && name == "VEVENT" {
            self.event = Some(Event { line: number, ..Event::default() });
        }
        self.stack.push(name.to_owned());
        Ok(())
    }

    fn end(&mut self, number: u64, name: &str) -> Result<()> {
        let open = self.stack.pop();
        if open.as_deref() != Some(name) {
            let open = open.map_or("nothing is open".to_owned(), |open| format!("`{open}` is open"));
            let ends: String = name.chars().filter(char::is_ascii_graphic).take(40).collect();
            return Err(Fault::remote(format!("line {number} of the calendar ends `{ends}` where {open}")));
        }
        if self.stack.len() == 1 {
            self.calendar.events.extend(self.event.take());
        }
        if self.stack.is_empty() {
            self.whole = true;
            if self.cancels {
                for event in &mut self.calendar.events[self.first..] {
                    event.status = Some("CANCELLED".to_owned());
                }
            }
        }
        Ok(())
    }

    fn of_calendar(&mut self, property: &Property<'_>) {
        if property.is("PRODID") {
            let product = self.text(property);
            self.calendar.product = self.calendar.product.take().or(product);
        } else if property.is("METHOD") {
            self.cancels |= property.word() == "CANCEL";
        } else if property.is("X-WR-TIMEZONE") {
            self.calendar.zone = self.text(property).and_then(|name| zones::find(&name));
        }
    }

    fn of_event(&mut self, property: &Property<'_>) {
        let Some(mut event) = self.event.take() else { return };
        // The first one counts: what comes again is an error of the generator.
        if property.is("UID") {
            event.uid = event.uid.or_else(|| self.text(property));
        } else if property.is("SUMMARY") {
            event.summary = event.summary.or_else(|| self.text(property));
        } else if property.is("DESCRIPTION") {
            event.description = event.description.or_else(|| self.text(property));
        } else if property.is("DTSTART") {
            event.start = event.start.or_else(|| Some(self.moment(property)));
        } else if property.is("DTEND") {
            event.end = event.end.or_else(|| Some(self.moment(property)));
        } else if property.is("DURATION") {
            event.duration = event.duration.or_else(|| Some(duration(&property.word()).ok_or(BadMoment)));
        } else if property.is("STATUS") {
            event.status = Some(property.word()).filter(|word| !word.is_empty());
        } else if property.is("SEQUENCE") {
            event.sequence = property.word().parse().unwrap_or(0);
        } else if property.is("RRULE") || property.is("RDATE") {
            event.repeats = true;
        }
        self.event = Some(event);
    }

    /// A text value without its escapes and control characters; empty is nothing.
    fn text(&mut self, property: &Property<'_>) -> Option<String> {
        let raw = String::from_utf8_lossy(property.value);
        self.calendar.damaged_texts += u64::from(matches!(raw, Cow::Owned(_)));
        let mut text = String::with_capacity(raw.len());
        let mut characters = raw.chars();
        while let Some(c) = characters.next() {
            match c {
                '\\' => match characters.next() {
                    Some('n' | 'N') => text.push('\n'),
                    Some(c @ (',' | ';' | '\\')) => text.push(c),
                    Some(other) => text.extend(['\\', other]),
                    None => text.push('\\'),
                },
                c if c.is_control() && c != '\t' => {}
                c => text.push(c),
            }
        }
        let trimmed = text.trim();
        (!trimmed.is_empty()).then(|| if trimmed.len() == text.len() { text.clone() } else { trimmed.to_owned() })
    }

    fn moment(&mut self, property: &Property<'_>) -> Result<Moment, BadMoment> {
        // An unquoted zone such as `(UTC-05:00) Lima` ends at its colon; the rest of it stands before the value.
        let value = property.word();
        let value = value.rsplit(':').next().unwrap_or_default().trim();
        let (value, utc) = value.strip_suffix('Z').map_or((value, false), |value| (value, true));
        let (day, time) = value.split_once('T').map_or((value, None), |(day, time)| (day, Some(time)));
        let day = date(day).ok_or(BadMoment)?;
        let Some(time) = time.filter(|_| !property.parameter("VALUE").is_some_and(|v| v.eq_ignore_ascii_case("DATE")))
        else {
            return Ok(Moment::Day(day));
        };
        let at = day.and_time(clock(time).ok_or(BadMoment)?);
        if utc {
            return Ok(Moment::Utc(at));
        }
        let Some(name) = property.parameter("TZID") else { return Ok(Moment::Floating(at)) };
        Ok(match zones::find(&name) {
            Some(zone) => Moment::Zoned(at, zone),
            None => {
                if self.calendar.unknown_zones.len() < 20 {
                    self.calendar.unknown_zones.insert(name.chars().take(60).collect());
                }
                Moment::Floating(at)
            }
        })
    }
}

fn outside(number: u64) -> Fault {
    Fault::remote(format!("line {number} stands outside of `BEGIN:VCALENDAR` and `END:VCALENDAR`"))
}

impl<'a> Property<'a> {
    fn of(line: &'a [u8]) -> Option<Self> {
        let end = line.iter().position(|byte| matches!(byte, b':' | b';'))?;
        let name = std::str::from_utf8(line[..end].trim_ascii()).ok()?;
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            return None;
        }
        let rest = &line[end..];
        let mut quoted = false;
        let colon = rest.iter().position(|byte| {
            quoted ^= *byte == b'"';
            *byte == b':' && !quoted
        });
        // With a quote that is never closed, the first colon is the best guess.
        let colon = colon.or_else(|| rest.iter().position(|byte| *byte == b':'))?;
        Some(Self { name, parameters: &rest[..colon], value: &rest[colon + 1..] })
    }

    fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    /// The value as a word in capitals.
    fn word(&self) -> String {
        String::from_utf8_lossy(self.value).trim().to_ascii_uppercase()
    }

    /// The value of a parameter, without its quotes.
    fn parameter(&self, name: &str) -> Option<String> {
        let mut quoted = false;
        let parts = self.parameters.split(|byte| {
            quoted ^= *byte == b'"';
            *byte == b';' && !quoted
        });
        for part in parts {
            let text = String::from_utf8_lossy(part);
            let Some((key, value)) = text.split_once('=') else { continue };
            if key.trim().eq_ignore_ascii_case(name) {
                return Some(value.trim().trim_matches('"').trim().to_owned());
            }
        }
        None
    }
}

fn digits(text: &str, count: usize) -> Option<u32> {
    (text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

/// `20261004`, or `2026-10-04` as some programs write it.
fn date(text: &str) -> Option<NaiveDate> {
    let plain = text.replace('-', "");
    let number = digits(&plain, 8)?;
    let year = i32::try_from(number / 10_000).ok()?;
    NaiveDate::from_ymd_opt(year, number / 100 % 100, number % 100)
}

/// `153000`, or `1530`.
fn clock(text: &str) -> Option<NaiveTime> {
    let number = digits(text, 6).or_else(|| digits(text, 4).map(|number| number * 100))?;
    // A leap second is the last one of its minute.
    NaiveTime::from_hms_opt(
        number / 10_000,
        number / 100 % 100,
        (number % 100).min(if number % 100 == 60 { 59 } else { 99 }),
    )
}

/// `P3D`, `P1W`, `PT36H`, `P1DT12H`. Nothing lasts a negative time.
fn duration(text: &str) -> Option<TimeDelta> {
    let mut rest = text.strip_prefix('+').unwrap_or(text).strip_prefix('P')?;
    let mut total = TimeDelta::zero();
    let (mut in_time, mut parts) = (false, 0);
    while !rest.is_empty() {
        if let Some(time) = rest.strip_prefix('T') {
            (in_time, rest) = (true, time);
            continue;
        }
        let end = rest.find(|c: char| !c.is_ascii_digit()).filter(|end| (1..=6).contains(end))?;
        let count: i64 = rest[..end].parse().ok()?;
        let part = match (rest.as_bytes()[end], in_time) {
            (b'W', false) => TimeDelta::try_weeks(count),
            (b'D', false) => TimeDelta::try_days(count),
            (b'H', true) => TimeDelta::try_hours(count),
            (b'M', true) => TimeDelta::try_minutes(count),
            (b'S', true) => TimeDelta::try_seconds(count),
            _ => None,
        }?;
        total = total.checked_add(&part)?;
        parts += 1;
        rest = &rest[end + 1..];
    }
    (parts > 0).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(lines: &str) -> Event {
        let text = format!("BEGIN:VCALENDAR\nBEGIN:VEVENT\n{lines}\nEND:VEVENT\nEND:VCALENDAR");
        read(text.as_bytes()).unwrap().events.remove(0)
    }

    fn nights(lines: &str, zone: Option<Tz>) -> Result<(String, String), &'static str> {
        event(lines).nights(zone).map(|n| (n.check_in.to_string(), n.check_out.to_string()))
    }

    fn days(from: &str, until: &str) -> Result<(String, String), &'static str> {
        Ok((from.to_owned(), until.to_owned()))
    }

    #[test]
    fn dates_are_those_of_the_listing() {
        let hawaii = Some(chrono_tz::Pacific::Honolulu);
        let oct = |a: u32, b: u32| days(&format!("2026-10-{a:02}"), &format!("2026-10-{b:02}"));
        assert_eq!(nights("DTSTART;VALUE=DATE:20261004\nDTEND;VALUE=DATE:20261006", hawaii), oct(4, 6));
        assert_eq!(nights("DTSTART;VALUE=DATE:20261004", None), oct(4, 5), "a day without an end is one night");
        assert_eq!(nights("DTSTART:20261004\nDURATION:P3D", None), oct(4, 7));
        assert_eq!(nights("DTSTART:20261004T150000\nDURATION:P2DT20H", None), oct(4, 7));
        // Four in the morning in London is still the evening before on Hawaii.
        let instants = "DTSTART:20261005T030000Z\nDTEND:20261007T200000Z";
        assert_eq!(nights(instants, hawaii), oct(4, 7));
        assert_eq!(nights(instants, None), oct(5, 7));
        // Days that are written as midnights stay days.
        assert_eq!(nights("DTSTART:20261004T000000Z\nDTEND:20261006T000000Z", hawaii), oct(4, 6));
        let zoned = "DTSTART;TZID=\"Europe/Zurich\":20261004T230000\nDTEND;TZID=Europe/Zurich:20261006T100000";
        assert_eq!(nights(zoned, Some(chrono_tz::Asia::Tokyo)), oct(5, 6));
        let zoned = event(zoned).nights(None).unwrap();
        assert_eq!(
            (zoned.check_in.to_string(), zoned.zone),
            ("2026-10-04".to_owned(), Some(chrono_tz::Europe::Zurich))
        );
        assert_eq!(zoned.check_in_time, NaiveTime::from_hms_opt(23, 0, 0));
    }

    #[test]
    fn what_takes_no_night_is_refused_with_its_reason() {
        for (lines, reason) in [
            ("SUMMARY:x", "it has no `DTSTART`"),
            ("DTSTART:20269999", "its `DTSTART` is no date"),
            ("DTSTART:20260601T009900Z", "its `DTSTART` is no date"),
            ("DTSTART:20260601\nDTEND:soon", "its `DTEND` is no date"),
            ("DTSTART:20260601\nDTEND:20260601", "it ends before it begins, or lasts no night"),
            ("DTSTART:20260601T100000\nDTEND:20260601T160000", "it ends before it begins, or lasts no night"),
            ("DTSTART:20260601\nDURATION:-P1D", "its `DURATION` is none"),
            ("DTSTART:20260601T100000", "it has no `DTEND`"),
        ] {
            assert_eq!(nights(lines, None), Err(reason), "{lines}");
        }
    }

    #[test]
    fn text_loses_its_escapes_and_nothing_else() {
        let e = event(
            "SUMMARY;LANGUAGE=\"fr:x;y\":Réservée\\, \\; \\\\n\\n fin\nBEGIN:VALARM\nSUMMARY:alarm\nEND:VALARM\nuid: a ",
        );
        assert_eq!(e.summary.as_deref(), Some("Réservée, ; \\n\n fin"));
        assert_eq!(e.uid.as_deref(), Some("a"));
    }

    #[test]
    fn a_method_or_a_status_cancels() {
        let text = "BEGIN:VCALENDAR\nMETHOD:CANCEL\nBEGIN:VEVENT\nUID:a\nEND:VEVENT\nEND:VCALENDAR\n\
                    BEGIN:VCALENDAR\nBEGIN:VEVENT\nUID:b\nEND:VEVENT\nEND:VCALENDAR";
        let status: Vec<_> = read(text.as_bytes()).unwrap().events.into_iter().map(|e| e.status).collect();
        assert_eq!(status, [Some("CANCELLED".to_owned()), None]);
    }

    #[test]
    fn durations() {
        for (text, hours) in [("P1W", 168), ("P3D", 72), ("PT36H", 36), ("P1DT12H", 36), ("+P1D", 24)] {
            assert_eq!(duration(text), Some(TimeDelta::hours(hours)), "{text}");
        }
        for wrong in ["", "P", "PT", "3D", "P3", "-P3D", "P1H", "P9999999999999D", "PÄD"] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }
}
