//! Bedrooms, bathrooms, floors and square feet.

use super::Span;
use super::tokens::Token;
use super::wishes::{Reader, Sentence, Slot, Source, denied};

pub(super) const BEDS: &[&str] = &[
    "bed", "beds", "bedroom", "bedrooms", "br", "brs", "bd", "bds", "bdr", "bdrm", "bdrms", "bedder", "beddings", "bhk",
];
pub(super) const BATHS: &[&str] =
    &["bath", "baths", "bathroom", "bathrooms", "ba", "bas", "bathrm", "bathrms", "restroom", "restrooms"];
/// Words that may stand between a number and what it counts.
const BETWEEN: &[&str] = &[
    "full", "private", "separate", "large", "big", "small", "spacious", "nice", "-", "or", "more", "+", "plus",
    "master",
];

/// Reads them, and marks the tokens that they are read from.
pub(super) fn read(reader: &mut Reader, s: &Sentence<'_>, used: &mut [bool], source: Source) {
    let tokens = s.tokens();
    let mut former: Option<(Slot, usize)> = None;
    for at in 0..tokens.len() {
        let Some((slot, sure)) = unit(tokens, at) else { continue };
        let counted = match slot {
            Slot::Bedrooms if tokens[at].is(&["studio", "studios", "bachelor", "efficiency"]) => {
                Some((Span::just(0.0), at..at + 1))
            }
            _ => before(tokens, at, used).or_else(|| behind(tokens, at, used)),
        };
        let Some((span, run)) = counted else { continue };
        let sane = span.max.or(span.min).is_some_and(|n| n <= if slot == Slot::Floor { 150.0 } else { 12.0 });
        used[run.clone()].iter_mut().for_each(|u| *u = true);
        if !sane || denied(tokens, run.start) && !bounded(tokens, run.start) {
            continue;
        }
        let mut found = source.found(span, s.words(run.start..(at + 1).max(run.end)), sure);
        // `a studio or a one-bedroom` is a range, and so is `1br or 2br`.
        if let Some((slot_before, end)) = former
            && slot_before == slot
            && tokens[end..run.start].iter().any(|t| t.is(&["or", "/"]))
            && let Some(known) = kept(reader, slot)
        {
            found.value.min = known.min.zip(span.min).map(|(a, b)| a.min(b));
            found.value.max = known.max.zip(span.max).map(|(a, b)| a.max(b));
        }
        former = Some((slot, at));
        reader.put(slot, found);
    }
    size(reader, s, used, source);
    words_of_floors(reader, s, source);
}

fn kept(reader: &Reader, slot: Slot) -> Option<Span> {
    match slot {
        Slot::Bedrooms => reader.wishes.bedrooms.as_ref().map(|f| f.value),
        Slot::Bathrooms => reader.wishes.bathrooms.as_ref().map(|f| f.value),
        _ => None,
    }
}

fn bounded(tokens: &[Token<'_>], at: usize) -> bool {
    tokens[..at].iter().rev().take(3).any(|t| t.is(&["than", "least"]))
}

/// What is counted at a token, and how sure that is.
fn unit(tokens: &[Token<'_>], at: usize) -> Option<(Slot, f64)> {
    let t = &tokens[at];
    if t.is(BATHS) {
        return Some((Slot::Bathrooms, 0.95));
    }
    if t.is(BEDS) || t.is(&["studio", "studios", "bachelor", "efficiency"]) {
        return Some((Slot::Bedrooms, 0.95));
    }
    let before = at.checked_sub(1).map(|n| &tokens[n]);
    if t.is(&["rooms", "room"])
        && !before.is_some_and(|b| b.is(BEDS) || b.is(&["bath", "living", "dining", "rest", "laundry"]))
    {
        // A bare `room` without a number in front of it is anything.
        return before.filter(|b| b.number.is_some() || b.is(&["-"])).map(|_| (Slot::Bedrooms, 0.75));
    }
    if t.is(&["floor", "floors", "level", "story"]) {
        return Some((Slot::Floor, 0.85));
    }
    // `2b2b`, `2x2`.
    if t.is(&["b", "x"]) && t.glued && before.is_some_and(|b| b.number.is_some()) {
        let bath = at >= 3 && tokens[at - 2].is(&["b", "x", "/"]);
        let pair = bath || tokens.iter().skip(at + 1).take(2).any(|n| n.number.is_some() && n.glued);
        return pair.then_some((if bath { Slot::Bathrooms } else { Slot::Bedrooms }, 0.8));
    }
    None
}

/// The number in front of a unit, with what limits it.
fn before(tokens: &[Token<'_>], unit: usize, used: &[bool]) -> Option<(Span, std::ops::Range<usize>)> {
    let mut at = unit;
    let mut more = false;
    let floor = tokens[unit].is(&["floor", "floors", "level", "story"]);
    loop {
        at = at.checked_sub(1)?;
        let t = &tokens[at];
        if t.number.is_some() {
            break;
        }
        if !t.is(BETWEEN) || unit - at > 4 {
            return None;
        }
        more |= t.is(&["more", "+", "plus"]);
    }
    let token = &tokens[at];
    if used[at] || token.currency.is_some() || (token.ordinal && !floor) {
        return None;
    }
    let mut n = token.number?;
    let mut start = at;
    // `1 and a half baths`, `1 1/2 baths`.
    let mut span = if more { Span { min: Some(n), max: None } } else { bounds(tokens, start, unit + 1, n) };
    if at >= 2
        && tokens[at - 1].is(&["-", "to", "or", "/", "–", "and"])
        && let Some(least) =
            tokens[at - 2].number.filter(|l| *l < n && !used[at - 2] && tokens[at - 2].currency.is_none())
    {
        let quarter = n == 2.0 && least == 1.0 && tokens[at - 1].is(&["/"]);
        if quarter && at >= 3 && tokens[at - 3].number.is_some() {
            n = tokens[at - 3].number? + 0.5;
            start = at - 3;
            span = bounds(tokens, start, unit + 1, n);
        } else if !tokens[at - 1].is(&["and"]) {
            start = at - 2;
            span = Span { min: Some(least), max: Some(n) };
        }
    }
    Some((span, start..unit + 1))
}

/// The number behind a unit: `bedrooms: 3`, `floor 9 or higher`.
fn behind(tokens: &[Token<'_>], unit: usize, used: &[bool]) -> Option<(Span, std::ops::Range<usize>)> {
    let mut at = unit + 1;
    let mut linked = tokens[unit].is(&["floor", "level"]);
    while tokens.get(at).is_some_and(|t| {
        t.is(&[":", "=", "-", "is", "be", "should", "must", "are", "will", "at", "least", "around", "#"])
    }) {
        linked |= tokens[at].is(&[":", "=", "is", "be", "are"]);
        at += 1;
    }
    let token =
        tokens.get(at).filter(|t| linked && at - unit <= 4 && !used[at] && !t.ordinal && t.currency.is_none())?;
    // That number may count the next thing.
    if tokens.get(at + 1).is_some_and(|t| t.is(BEDS) || t.is(BATHS) || t.is(&["credits", "dollars", "pm", "am"])) {
        return None;
    }
    let n = token.number?;
    Some((bounds(tokens, at, at + 1, n), unit..at + 1))
}

/// What the words around a number make of it: `at least 2`, `2 or more`, `up to 3`. `end` is behind what it counts.
pub(super) fn bounds(tokens: &[Token<'_>], at: usize, end: usize, n: f64) -> Span {
    let word = |n: usize, words: &[&str]| tokens.get(n).is_some_and(|t| t.is(words));
    let lead: Vec<&Token<'_>> =
        tokens[at.saturating_sub(3)..at].iter().filter(|t| !t.is(&["a", "an", "the", "of", "$"])).collect();
    let before = |a: &str, b: &str| lead.windows(2).any(|w| w[0].is(&[a]) && w[1].is(&[b]));
    let not = lead.iter().any(|t| t.is(&["no", "not"]) || t.word.ends_with("n't"));
    let least = (before("at", "least")
        || lead.iter().any(|t| t.is(&["minimum", "min"]))
        || (before("more", "than") && !not)
        || (before("less", "than") && not)
        || (before("fewer", "than") && not))
        || (word(end, &["or"]) && word(end + 1, &["more", "higher", "above", "up", "better", "larger", "bigger"]))
        || (word(end, &[","]) && word(end + 1, &["or"]) && word(end + 2, &["more", "higher", "above"]))
        || word(end, &["+", "minimum", "min", "plus"])
        || (word(end, &["at"]) && word(end + 1, &["least"]))
        || (word(end, &["and"]) && word(end + 1, &["up", "above"]));
    let most = before("at", "most")
        || before("up", "to")
        || lead.iter().any(|t| t.is(&["maximum", "max", "under", "below"]))
        || (before("more", "than") && not)
        || ((before("less", "than") || before("fewer", "than")) && !not)
        || (word(end, &["or"]) && word(end + 1, &["less", "fewer", "lower", "below", "under"]))
        || word(end, &["max", "maximum", "tops"])
        || (word(end, &["at"]) && word(end + 1, &["most"]));
    match (least, most) {
        (true, false) => Span { min: Some(n), max: None },
        (false, true) => Span { min: None, max: Some(n) },
        _ => Span::just(n),
    }
}

/// `800 sq ft`, `at least 70 square meters`.
fn size(reader: &mut Reader, s: &Sentence<'_>, used: &mut [bool], source: Source) {
    let tokens = s.tokens();
    for at in 0..tokens.len() {
        let Some(n) = tokens[at].number.filter(|n| *n >= 10.0 && !used[at]) else { continue };
        let unit: Vec<&str> = tokens[at + 1..].iter().filter(|t| !t.is(&["."])).take(2).map(|t| &*t.word).collect();
        let feet = match unit.as_slice() {
            ["sqft" | "sf", ..] | ["sq" | "square", "ft" | "feet" | "foot" | "foots"] => 1.0,
            ["sqm", ..] | ["sq" | "square", "m" | "meters" | "meter" | "metres" | "mtrs"] => 10.764,
            ["m", ..] if tokens.get(at + 2).is_some_and(|t| t.is(&["²", "2"]) && t.glued) => 10.764,
            _ => continue,
        };
        used[at] = true;
        let span = bounds(tokens, at, at + 3, n);
        let span = Span { min: span.min.map(|n| (n * feet).round()), max: span.max.map(|n| (n * feet).round()) };
        if !denied(tokens, at) || bounded(tokens, at) {
            reader.wishes.square_feet = Some(source.found(span, s.words(at..(at + 3).min(tokens.len())), 0.9));
        }
    }
}

fn words_of_floors(reader: &mut Reader, s: &Sentence<'_>, source: Source) {
    let tokens = s.tokens();
    for at in 1..tokens.len() {
        if tokens[at].is(&["floor"]) && tokens[at - 1].is(&["ground", "bottom"]) && !denied(tokens, at - 1) && !s.asks {
            reader.wishes.floor = Some(source.found(Span::just(0.0), s.words(at - 1..at + 1), 0.85));
        }
    }
}
