//! Days as people name them, resolved against the day on which they do.

use std::ops::Range;

use chrono::{Datelike, Days, Months, NaiveDate, NaiveTime, Weekday};

use super::tokens::Token;

/// A day or a span of days that was named.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Named {
    /// The tokens that name it.
    pub(super) run: Range<usize>,
    /// The first and the last day that it may be; none when nobody knows the day of the message.
    pub(super) span: Option<(NaiveDate, NaiveDate)>,
    /// Whether it is a day that is meant, and not a month or a season.
    pub(super) exact: bool,
    /// Whether the words can mean nothing but a date.
    pub(super) sure: bool,
}

const MONTHS: [(&str, &str); 12] = [
    ("january", "jan"),
    ("february", "feb"),
    ("march", "mar"),
    ("april", "apr"),
    ("may", "may"),
    ("june", "jun"),
    ("july", "jul"),
    ("august", "aug"),
    ("september", "sep"),
    ("october", "oct"),
    ("november", "nov"),
    ("december", "dec"),
];

fn month(token: &Token<'_>) -> Option<u32> {
    // `may` and `march` are other words too: in small letters only a number beside them makes them months.
    MONTHS
        .iter()
        .position(|(l, s)| token.is(&[l, s]) || (*l == "september" && token.is(&["sept"])))
        .map(|n| n as u32 + 1)
}

fn doubtful(token: &Token<'_>) -> bool {
    token.is(&["may", "march", "mar"]) && !token.capital()
}

const WEEKDAYS: [(&str, &[&str]); 7] = [
    ("monday", &["mon", "mondays"]),
    ("tuesday", &["tue", "tues", "tuesdays"]),
    ("wednesday", &["wed", "weds", "wednesdays"]),
    ("thursday", &["thu", "thur", "thurs", "thursdays"]),
    ("friday", &["fri", "fridays"]),
    ("saturday", &["sat", "saturdays"]),
    ("sunday", &["sun", "sundays"]),
];

fn weekday(token: &Token<'_>) -> Option<Weekday> {
    let n = WEEKDAYS.iter().position(|(long, short)| {
        token.is(&[long]) || (token.is(short) && (token.capital() || !token.is(&["sun", "sat", "mon", "wed"])))
    })?;
    Weekday::try_from(n as u8).ok()
}

/// Whether a token names a month or a day of the week, so that it is no place.
pub(super) fn is_name(token: &Token<'_>) -> bool {
    month(token).is_some() || weekday(token).is_some()
}

fn last_of_month(year: i32, month: u32) -> Option<NaiveDate> {
    NaiveDate::from_ymd_opt(year, month, 1)?.checked_add_months(Months::new(1))?.pred_opt()
}

/// The day of a month, in this year or, if that is long past, in the next.
fn day_of(today: NaiveDate, year: Option<i32>, month: u32, day: u32) -> Option<NaiveDate> {
    if let Some(year) = year {
        return NaiveDate::from_ymd_opt(year, month, day);
    }
    let this = NaiveDate::from_ymd_opt(today.year(), month, day);
    match this {
        Some(date) if date >= today - Days::new(7) => Some(date),
        _ => NaiveDate::from_ymd_opt(today.year() + 1, month, day).or(this),
    }
}

fn coming(today: NaiveDate, day: Weekday) -> NaiveDate {
    let ahead = (day.num_days_from_monday() + 7 - today.weekday().num_days_from_monday()) % 7;
    today + Days::new(u64::from(ahead))
}

/// That day of the week that comes behind this one, weeks beginning on Monday.
fn of_next_week(today: NaiveDate, day: Weekday) -> NaiveDate {
    let monday = today + Days::new(u64::from(7 - today.weekday().num_days_from_monday()));
    monday + Days::new(u64::from(day.num_days_from_monday()))
}

/// A part of a month: its first third, its middle, its last third.
fn part(word: &Token<'_>, year: i32, month: u32) -> Option<(NaiveDate, NaiveDate)> {
    let day = |d| NaiveDate::from_ymd_opt(year, month, d);
    let last = last_of_month(year, month)?;
    if word.is(&["beginning", "start", "early"]) {
        Some((day(1)?, day(10)?))
    } else if word.is(&["mid", "middle"]) {
        Some((day(11)?, day(20)?))
    } else if word.is(&["end", "late"]) {
        Some((day(21)?, last))
    } else {
        Some((day(1)?, last))
    }
}

/// The day that is named from the token at `at` on. `today` is the day of the message.
pub(super) fn named(tokens: &[Token<'_>], at: usize, today: Option<NaiveDate>) -> Option<Named> {
    let base = today.unwrap_or_default();
    let (length, span, exact, sure) = read(&tokens[at..], base)?;
    // Days whose year was written stand by themselves; all others hang on the day of the message.
    let own = tokens[at..at + length].iter().any(|t| t.number.is_some_and(|n| (2000.0..2100.0).contains(&n)));
    let span = if today.is_some() || own { Some(span) } else { None };
    Some(Named { run: at..at + length, span, exact, sure })
}

type Found = (usize, (NaiveDate, NaiveDate), bool, bool);

fn read(t: &[Token<'_>], today: NaiveDate) -> Option<Found> {
    let word = |n: usize, words: &[&str]| t.get(n).is_some_and(|t| t.is(words));
    let one = |length: usize, date: NaiveDate| Some((length, (date, date), true, true));
    let first = t.first()?;
    if word(0, &["day"]) && word(1, &["after"]) && word(2, &["tomorrow", "tmrw", "tmr"]) {
        return one(3, today + Days::new(2));
    }
    if word(0, &["later"]) && word(1, &["today"]) {
        return one(2, today);
    }
    if first.is(&["today", "tonight"]) {
        return one(1, today);
    }
    if first.is(&["tomorrow", "tmrw", "tmr", "tommorow", "tomorow"]) {
        return one(1, today + Days::new(1));
    }
    if first.is(&["this"]) && word(1, &["evening", "afternoon", "morning"]) {
        return one(2, today);
    }
    if first.is(&["asap", "immediately", "immediate"]) || (first.is(&["right"]) && word(1, &["away"])) {
        return one(if first.is(&["right"]) { 2 } else { 1 }, today);
    }
    if first.is(&["as"]) && word(1, &["soon"]) && word(2, &["as"]) && word(3, &["possible"]) {
        return one(4, today);
    }
    relative(t, today).or_else(|| by_weekday(t, today)).or_else(|| by_month(t, today)).or_else(|| in_figures(t, today))
}

fn relative(t: &[Token<'_>], today: NaiveDate) -> Option<Found> {
    let word = |n: usize, words: &[&str]| t.get(n).is_some_and(|t| t.is(words));
    let week = |n: u64| today + Days::new(u64::from(7 - today.weekday().num_days_from_monday())) + Days::new(7 * n);
    if word(0, &["this", "the", "next", "coming"]) && word(1, &["weekend"]) {
        let saturday = if word(0, &["next"]) { of_next_week(today, Weekday::Sat) } else { coming(today, Weekday::Sat) };
        return Some((2, (saturday, saturday + Days::new(1)), false, true));
    }
    if word(0, &["next"]) && word(1, &["week"]) {
        return Some((2, (week(0), week(0) + Days::new(6)), false, true));
    }
    if word(0, &["this"]) && word(1, &["week"]) {
        return Some((2, (today, week(0).pred_opt()?), false, true));
    }
    // `end of the month`, `beginning of next month`, `middle of this month`, `next month`.
    let parts = ["beginning", "start", "early", "mid", "middle", "end", "late", "first"];
    let mut at = 0;
    let which = t.first()?;
    if word(0, &parts) && word(1, &["of"]) {
        at = 2;
    } else if which.is(&["early", "mid", "late"]) {
        at = 1;
    }
    if word(at, &["the", "this", "next"]) && word(at + 1, &["month"]) {
        let next = word(at, &["next"]);
        if at == 0 && !next {
            return None;
        }
        let month = today.with_day(1)?.checked_add_months(Months::new(u32::from(next)))?;
        let span = part(which, month.year(), month.month())?;
        let first = which.is(&["first"]);
        return Some((at + 2, if first { (span.0, span.0) } else { span }, first, true));
    }
    if at == 2 && word(2, &["the", "this"]) && word(3, &["year"]) {
        let year = today.year();
        let months = if which.is(&["end"]) { (12, 12) } else { (1, 1) };
        return Some((4, (NaiveDate::from_ymd_opt(year, months.0, 1)?, last_of_month(year, months.1)?), false, true));
    }
    // `in two weeks`, `within 30 days`, `in about a month`, `3 weeks from now`.
    let lead = word(0, &["in", "within"]);
    let mut at = usize::from(lead);
    while word(at, &["about", "around", "roughly", "the", "next", "maybe", "approximately"]) && lead {
        at += 1;
    }
    let (count, length) = match t.get(at)? {
        n if n.number.is_some() && !n.ordinal && n.currency.is_none() => (n.number?, 1),
        n if n.is(&["a", "an"]) && word(at + 1, &["couple"]) => (2.0, if word(at + 2, &["of"]) { 3 } else { 2 }),
        n if n.is(&["a"]) && word(at + 1, &["few"]) => (3.0, 2),
        n if n.is(&["a", "an"]) => (1.0, 1),
        n if n.is(&["couple"]) => (2.0, 1),
        _ => return None,
    };
    at += length;
    let unit = t.get(at)?;
    at += 1;
    let later = word(at, &["from"]) && word(at + 1, &["now", "today"]);
    if !(lead || later) || !(0.0..=1_000.0).contains(&count) {
        return None;
    }
    let count = count as u32;
    let (date, exact) = if unit.is(&["day", "days"]) {
        (today + Days::new(u64::from(count)), true)
    } else if unit.is(&["week", "weeks"]) {
        (today + Days::new(u64::from(count) * 7), true)
    } else if unit.is(&["month", "months"]) {
        (today.checked_add_months(Months::new(count))?, true)
    } else {
        return None;
    };
    Some((at + if later { 2 } else { 0 }, (date, date), exact, true))
}

fn by_weekday(t: &[Token<'_>], today: NaiveDate) -> Option<Found> {
    let word = |n: usize, words: &[&str]| t.get(n).is_some_and(|t| t.is(words));
    let lead = usize::from(word(0, &["next", "this", "coming", "on", "upcoming"]));
    let day = weekday(t.get(lead)?)?;
    let mut length = lead + 1;
    let mut date = if word(0, &["next"]) { of_next_week(today, day) } else { coming(today, day) };
    if word(length, &["next"]) && word(length + 1, &["week"]) {
        date = of_next_week(today, day);
        length += 2;
    } else if word(length, &["this"]) && word(length + 1, &["week"]) {
        length += 2;
    }
    // `Friday, March 14th` is the 14th.
    let mut behind = length + usize::from(word(length, &[","]));
    behind += usize::from(word(behind, &["the"]));
    if let Some((more, span, true, true)) =
        t.get(behind..).and_then(|t| by_month(t, today).or_else(|| in_figures(t, today)))
    {
        return Some((behind + more, span, true, true));
    }
    Some((length, (date, date), true, true))
}

fn year_at(t: &[Token<'_>], at: usize) -> Option<(i32, usize)> {
    let comma = usize::from(t.get(at).is_some_and(|t| t.is(&[","])));
    let token = t.get(at + comma)?;
    let year = token.number.filter(|n| (2000.0..2100.0).contains(n) && token.currency.is_none())?;
    Some((year as i32, comma + 1))
}

fn day_number(token: Option<&Token<'_>>) -> Option<u32> {
    let token = token?;
    let n = token.number.filter(|n| (1.0..=31.0).contains(n) && n.fract() == 0.0)?;
    if token.currency.is_some() { None } else { Some(n as u32) }
}

fn by_month(t: &[Token<'_>], today: NaiveDate) -> Option<Found> {
    let word = |n: usize, words: &[&str]| t.get(n).is_some_and(|t| t.is(words));
    let first = t.first()?;
    if let Some(m) = month(first) {
        // `March 14th`, `March the 14th, 2027`, `Mar. 14`.
        let mut at = 1 + usize::from(word(1, &["."]) && t.get(2).is_some_and(|t| t.number.is_some()));
        at += usize::from(word(at, &["the"]));
        let day = day_number(t.get(at)).filter(|_| !t.get(at + 1).is_some_and(|n| rooms(n)));
        if let Some(day) = day {
            let (year, more) = year_at(t, at + 1).unzip();
            let date = day_of(today, year, m, day)?;
            return Some((at + 1 + more.unwrap_or(0), (date, date), true, true));
        }
        if doubtful(first) || (first.is(&["may"]) && t.get(1).is_some_and(|n| n.is(&["i", "we"]))) {
            return None;
        }
        let (year, more) = year_at(t, 1).unzip();
        let year = year.unwrap_or(if m < today.month() { today.year() + 1 } else { today.year() });
        return Some((1 + more.unwrap_or(0), part(first, year, m)?, false, true));
    }
    // `early July`, `end of June`, `mid-August`.
    if first.is(&["early", "mid", "late", "beginning", "middle", "end", "start"]) {
        let at = 1 + usize::from(word(1, &["of", "-"]));
        let m = month(t.get(at)?)?;
        let (year, more) = year_at(t, at + 1).unzip();
        let year = year.unwrap_or(if m < today.month() { today.year() + 1 } else { today.year() });
        return Some((at + 1 + more.unwrap_or(0), part(first, year, m)?, false, true));
    }
    let season = if word(0, &["this", "next", "the"]) { 1 } else { 0 };
    if word(season, &["summer", "fall", "autumn", "spring", "winter"]) && (season == 1 || word(0, &["spring"])) {
        let month = match &*t[season].word {
            "spring" => 3,
            "summer" => 6,
            "winter" => 12,
            _ => 9,
        };
        let first = NaiveDate::from_ymd_opt(today.year() + i32::from(month + 2 < today.month()), month, 1)?;
        let last = first.checked_add_months(Months::new(3))?.pred_opt()?;
        return Some((season + 1, (first, last), false, season == 1));
    }
    // `the 14th`, `14th of March`, `14 March 2027`, `the 1st of next month`, `8th of this month`.
    let at = usize::from(word(0, &["the"]));
    let day = day_number(t.get(at))?;
    let token = &t[at];
    let of = at + 1 + usize::from(word(at + 1, &["of"]));
    if let Some(m) = t.get(of).and_then(month).filter(|_| token.ordinal || !token.spelled) {
        let (year, more) = year_at(t, of + 1).unzip();
        let date = day_of(today, year, m, day)?;
        return Some((of + 1 + more.unwrap_or(0), (date, date), true, true));
    }
    if !token.ordinal {
        return None;
    }
    if word(of, &["this", "the", "next", "every"]) && word(of + 1, &["month"]) {
        let months = Months::new(u32::from(word(of, &["next"])));
        let date = today.with_day(1)?.checked_add_months(months)?.with_day(day)?;
        return Some((of + 2, (date, date), true, true));
    }
    // `the 5th floor`, `first time`: an ordinal in front of a word that it counts is no day.
    let counted = t.get(at + 1).is_some_and(|n| {
        n.wordy()
            && (n.is(&[
                "floor",
                "level",
                "story",
                "time",
                "one",
                "bedroom",
                "place",
                "thing",
                "option",
                "ave",
                "avenue",
                "street",
                "st",
                "choice",
                "bathroom",
                "apartment",
                "unit",
                "month",
                "person",
                "floors",
                "or",
                "grade",
            ]))
    });
    let hyphen = t.get(at + 1).is_some_and(|n| n.is(&["-"]));
    if counted || hyphen || (token.spelled && at == 0) || (token.spelled && token.is(&["second", "third"])) {
        return None;
    }
    let this = today.with_day(day);
    let date = this
        .filter(|d| *d >= today)
        .or_else(|| (1..=2).find_map(|n| today.with_day(1)?.checked_add_months(Months::new(n))?.with_day(day)))?;
    Some((at + 1, (date, date), true, at == 1 || !token.spelled))
}

/// Words that make a number in front of them something else than a day.
fn rooms(token: &Token<'_>) -> bool {
    token.is(&[
        "bed", "beds", "bedroom", "bedrooms", "bath", "baths", "bathroom", "br", "bd", "ba", "pm", "am", "k", "people",
        "dogs", "cats", "month", "months", "year",
    ])
}

fn in_figures(t: &[Token<'_>], today: NaiveDate) -> Option<Found> {
    let figure =
        |n: usize| t.get(n).filter(|t| !t.ordinal && !t.spelled && t.currency.is_none()).and_then(|t| t.number);
    let mark = |n: usize, marks: &[&str]| t.get(n).is_some_and(|m| m.is(marks) && m.glued);
    let whole = |n: f64| (n.fract() == 0.0 && (0.0..10_000.0).contains(&n)).then_some(n as u32);
    let (a, b) = (whole(figure(0)?)?, figure(2).and_then(whole));
    // A number that is glued to what precedes is a part of something else.
    let slash = mark(1, &["/"]) || (mark(1, &["-", "."]) && mark(3, &["-", "."]));
    let b = b.filter(|_| slash && t[2].glued)?;
    let c = figure(4).and_then(whole).filter(|_| mark(3, &["/", "-", "."]) && t[4].glued);
    if let Some(day) = c.filter(|_| (2000..2100).contains(&a)) {
        let date = NaiveDate::from_ymd_opt(a as i32, b, day)?;
        return Some((5, (date, date), true, true));
    }
    let year = c.map(|y| if y < 100 { 2000 + y as i32 } else { y as i32 });
    // Month first, as the vendors' country writes; the other way where that cannot be.
    let (month, day) = if a > 12 && b <= 12 { (b, a) } else { (a, b) };
    let date = day_of(today, year.filter(|y| (2000..2100).contains(y)), month, day)?;
    Some((if c.is_some() { 5 } else { 3 }, (date, date), true, c.is_some() || (a <= 12 && b > 4)))
}

/// A time of day that is named from the token at `at` on: its tokens, the time, and whether it was said as one.
pub(super) fn time(t: &[Token<'_>], at: usize) -> Option<(usize, NaiveTime)> {
    let word = |n: usize, words: &[&str]| t.get(at + n).is_some_and(|t| t.is(words));
    let token = t.get(at)?;
    if token.is(&["noon", "midday"]) {
        return Some((1, NaiveTime::from_hms_opt(12, 0, 0)?));
    }
    let plain = |n: usize| t.get(at + n).filter(|t| !t.ordinal && t.currency.is_none()).and_then(|t| t.number);
    let hour = plain(0).filter(|n| n.fract() == 0.0 && (0.0..24.0).contains(n))? as u32;
    let mut length = 1;
    let mut minute = 0;
    let mut sure = false;
    if word(1, &[":"])
        && let Some(m) = plain(2).filter(|m| *m < 60.0)
    {
        (minute, length, sure) = (m as u32, 3, true);
    }
    let half = |n: usize| {
        let dotted = word(n, &["a", "p"]) && word(n + 1, &["."]) && word(n + 2, &["m"]);
        (word(n, &["am", "pm"]) || dotted).then(|| (word(n, &["pm", "p"]), if dotted { 3 } else { 1 }))
    };
    if let Some((afternoon, more)) = half(length) {
        if !(1..=12).contains(&hour) {
            return None;
        }
        let hour = hour % 12 + if afternoon { 12 } else { 0 };
        return Some((length + more, NaiveTime::from_hms_opt(hour, minute, 0)?));
    }
    if word(length, &["o'clock", "oclock"]) {
        (length, sure) = (length + 1, true);
    }
    let led = at > 0 && t[at - 1].is(&["at", "around", "about", "@", "by"]);
    let ends = t.get(at + length).is_none_or(|n| {
        !n.glued
            && !rooms(n)
            && n.number.is_none()
            && !n.is(&["pets", "pet", "people", "months", "weeks", "days", "dollars", "%", "credits", "main"])
            || n.is(&[".", ",", "?", "!"])
    });
    if !(sure || (led && (1..=12).contains(&hour) && ends)) {
        return None;
    }
    // Nobody visits at three in the night.
    let hour = if (1..8).contains(&hour) { hour + 12 } else { hour };
    Some((length, NaiveTime::from_hms_opt(hour, minute, 0)?))
}

#[cfg(test)]
mod tests {
    use super::super::tokens::Text;
    use super::*;

    #[test]
    fn days_are_resolved_against_the_day_of_the_message() {
        // A Wednesday.
        let today = NaiveDate::from_ymd_opt(2026, 6, 10).unwrap();
        for (text, wanted) in [
            ("today", "2026-06-10"),
            ("day after tomorrow", "2026-06-12"),
            ("friday", "2026-06-12"),
            ("next Friday", "2026-06-19"),
            ("Tuesday next week", "2026-06-16"),
            ("Sunday this week", "2026-06-14"),
            ("in two weeks", "2026-06-24"),
            ("3 weeks from now", "2026-07-01"),
            ("in about a month", "2026-07-10"),
            ("the 14th", "2026-06-14"),
            ("the 3rd", "2026-07-03"),
            ("8th of this month", "2026-06-08"),
            ("the 1st of next month", "2026-07-01"),
            ("August 5th", "2026-08-05"),
            ("march 5", "2027-03-05"),
            ("5 March 2028", "2028-03-05"),
            ("7/15", "2026-07-15"),
            ("07/15/2027", "2027-07-15"),
            ("2026-09-01", "2026-09-01"),
            ("Saturday, June 20th", "2026-06-20"),
            ("end of June", "2026-06-21"),
            ("early August", "2026-08-01"),
            ("next month", "2026-07-01"),
            ("asap", "2026-06-10"),
        ] {
            let parts = Text::new(text);
            let found = named(&parts.tokens, 0, Some(today)).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(found.span.unwrap().0.to_string(), wanted, "{text}");
            assert_eq!(found.run.end, parts.tokens.len(), "{text}");
        }
        for text in ["may i", "the 5th floor", "2 bedrooms", "march in", "1/2 bath", "sun room"] {
            let parts = Text::new(text);
            assert!(named(&parts.tokens, 0, Some(today)).is_none_or(|n| !n.sure), "{text}");
        }
    }

    #[test]
    fn times_of_day() {
        for (text, at, wanted) in
            [("2pm", 0, "14:00"), ("10:30 a.m.", 0, "10:30"), ("at 4", 1, "16:00"), ("noon", 0, "12:00")]
        {
            let parts = Text::new(text);
            let (_, time) = time(&parts.tokens, at).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(time.format("%H:%M").to_string(), wanted);
        }
        assert!(time(&Text::new("at 2 bedrooms").tokens, 1).is_none());
    }
}
