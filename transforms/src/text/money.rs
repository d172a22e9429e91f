//! What a renter wants to pay.

use super::Budget;
use super::tokens::Token;
use super::wishes::{Reader, Sentence, Slot, Source};

/// Words that make a sum one of rent.
const RENT: &[&str] = &[
    "budget",
    "rent",
    "price",
    "priced",
    "pay",
    "paying",
    "afford",
    "spend",
    "spending",
    "cost",
    "costs",
    "costing",
    "cheaper",
    "monthly",
    "range",
    "expensive",
    "rental",
    "rents",
    "pricing",
];
/// Words that make it something else.
const OTHER: &[&str] =
    &["income", "earn", "make", "makes", "salary", "deposit", "fee", "fees", "deposits", "saved", "score", "credit"];
const CURRENCIES: &[(&str, &str)] = &[
    ("dollars", "USD"),
    ("dollar", "USD"),
    ("usd", "USD"),
    ("bucks", "USD"),
    ("euros", "EUR"),
    ("euro", "EUR"),
    ("eur", "EUR"),
    ("pounds", "GBP"),
    ("gbp", "GBP"),
    ("cad", "CAD"),
    ("aud", "AUD"),
    ("credits", ""),
];

/// Which way a sum limits.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Most,
    Least,
    Plain,
}

/// Reads the budget of a sentence.
pub(super) fn read(reader: &mut Reader, s: &Sentence<'_>, used: &mut [bool], source: Source) {
    let tokens = s.tokens();
    let cued = s.has(RENT) || reader.asked.contains(&Slot::Budget);
    let mut least: Option<f64> = None;
    let mut most: Option<f64> = None;
    let mut currency: Option<String> = None;
    let mut run: Option<(usize, usize)> = None;
    let mut sure: f64 = 0.0;
    let mut at = 0;
    while at < tokens.len() {
        let here = at;
        at += 1;
        let Some(sum) = sum(tokens, here, used, cued) else { continue };
        let (n, code, weight, end) = sum;
        // `between 1500 and 1800`, `1500-1800`, `1.5k to 2k`.
        let link = tokens
            .get(end)
            .is_some_and(|t| t.is(&["-", "–", "to"]) || (t.is(&["and", "&"]) && lead(tokens, here, &["between"])));
        if link {
            let next = end + 1 + usize::from(tokens.get(end + 1).is_some_and(|t| t.is(&["$", "€", "£"])));
            let high = tokens.get(next).and_then(|t| t.number.filter(|_| !used[next] && !t.ordinal));
            // `1-1.5k`, `$15-1800` are slips; `1500-18` is none of ours.
            let low = if n < 100.0 && high.is_some_and(|h| h >= 1_000.0) { n * 1_000.0 } else { n };
            if let Some(high) = high.filter(|h| *h >= low && *h < low * 20.0) {
                (least, most) = (Some(low), Some(high));
                used[here..=next].iter_mut().for_each(|u| *u = true);
                currency = code.or(currency).or_else(|| named(tokens, next + 1));
                run = Some((run.map_or(here, |r| r.0), next + 1));
                sure = sure.max(0.92);
                at = next + 1;
                continue;
            }
        }
        if !(100.0..100_000.0).contains(&n) {
            continue;
        }
        used[here] = true;
        match way(tokens, here, end) {
            Way::Least => least = Some(n),
            Way::Most | Way::Plain => most = Some(n),
        }
        currency = code.or(currency);
        run = Some((run.map_or(here, |r| r.0), end));
        sure = sure.max(weight);
    }
    let Some((from, to)) = run else { return };
    let known = reader.wishes.budget.as_ref().map(|b| b.value.clone());
    if let Some(known) = known {
        // The other limit still holds, if the two can stand together.
        least = least.or(known.min.filter(|l| most.is_some_and(|m| *l <= m)));
        most = most.or(known.max.filter(|m| least.is_some_and(|l| l <= *m)));
        currency = currency.or(known.currency);
    }
    if let Some(least) = least.zip(most).filter(|(l, m)| l > m).map(|(l, _)| l) {
        (most, _) = (Some(least), ());
    }
    let value = Budget { min: least, max: most, currency: currency.filter(|c| !c.is_empty()) };
    reader.last = Some(Slot::Budget);
    reader.wishes.budget = Some(source.found(value, s.words(from..to.min(tokens.len())), sure));
}

/// The sum at a token: its value, its currency, how sure it is one of rent, and where it ends.
fn sum(tokens: &[Token<'_>], at: usize, used: &[bool], cued: bool) -> Option<(f64, Option<String>, f64, usize)> {
    let token = &tokens[at];
    let n = token.number.filter(|_| !used[at] && !token.ordinal)?;
    let word = |n: usize, words: &[&str]| tokens.get(n).is_some_and(|t| t.is(words));
    let mut end = at + 1;
    let mut code = token.currency.filter(|c| !c.is_empty()).map(str::to_owned);
    let signed = token.currency.is_some();
    let mut unit = false;
    if word(end, &["$", "€", "£"]) {
        end += 1;
    }
    if let Some(found) = named(tokens, end) {
        (code, unit, end) = (code.or(Some(found)), true, end + 1);
    }
    let monthly = (word(end, &["/"]) && word(end + 1, &["mo", "month", "m"]))
        || (word(end, &["per", "a", "each", "every"]) && word(end + 1, &["month", "mo"]))
        || word(end, &["monthly", "pm", "p/m"]) && n > 24.0;
    // What the sum is for may be said on either side of it.
    let other = tokens[at.saturating_sub(6)..at]
        .iter()
        .rev()
        .take_while(|t| !t.is(&[",", "and", "but", "so"]))
        .any(|t| t.is(OTHER))
        || tokens[end.min(tokens.len())..]
            .iter()
            .take(4)
            .take_while(|t| !t.is(&[",", "and", "but"]))
            .any(|t| t.is(OTHER));
    if other {
        return None;
    }
    let limit = limited(tokens, at, end);
    let ranged = word(end, &["-", "–", "to"])
        && tokens.get(end + 1).is_some_and(|t| t.number.is_some_and(|h| h >= 300.0) || t.is(&["$"]));
    let year = (1990.0..2100.0).contains(&n) && !signed && !unit && !monthly && lead(tokens, at, &["in", "since"]);
    let alone = n >= 300.0 && n.fract() == 0.0;
    let weight = match () {
        () if signed || unit || monthly => 0.95,
        () if cued && n >= 100.0 && !year => 0.9,
        () if cued && ranged => 0.9,
        () if limit && alone && !year => 0.8,
        () if ranged
            && n >= 300.0
            && tokens.get(end).is_none_or(|t| !t.glued || n >= 300.0)
            && !phone_like(tokens, at) =>
        {
            0.7
        }
        () => return None,
    };
    // A number with a unit of its own that is no money.
    let counted = tokens.get(end).is_some_and(|t| {
        t.is(&[
            "sqft", "sq", "square", "sf", "feet", "ft", "bedroom", "bedrooms", "bed", "beds", "people", "minutes",
            "miles", "lbs", "lb", "pounds", "street", "st", "ave", "avenue", "road", "rd", "months", "month", "floor",
            "blvd", "drive", "years", "%", "units",
        ])
    });
    if counted && !signed && !unit {
        return None;
    }
    Some((n, code, weight, end))
}

fn phone_like(tokens: &[Token<'_>], at: usize) -> bool {
    at > 1 && tokens[at - 1].is(&["-", "."]) && tokens[at - 2].number.is_some()
        || (tokens.get(at + 3).is_some_and(|t| t.is(&["-", "."]))
            && tokens.get(at + 4).is_some_and(|t| t.number.is_some()))
}

fn named(tokens: &[Token<'_>], at: usize) -> Option<String> {
    let token = tokens.get(at)?;
    CURRENCIES.iter().find(|(word, _)| token.is(&[word])).map(|(_, code)| (*code).to_owned())
}

/// Whether one of these words stands shortly before.
fn lead(tokens: &[Token<'_>], at: usize, words: &[&str]) -> bool {
    tokens[at.saturating_sub(4)..at].iter().any(|t| t.is(words))
}

const MOST: &[&str] = &["under", "below", "max", "maximum", "within", "cap", "limit", "tops", "most", "beneath"];
const LEAST: &[&str] = &["above", "least", "minimum", "min", "starting"];

fn limited(tokens: &[Token<'_>], at: usize, end: usize) -> bool {
    lead(tokens, at, MOST)
        || lead(tokens, at, LEAST)
        || lead(tokens, at, &["than", "over", "around", "about", "between", "approximately", "roughly", "exceed", "$"])
        || tokens[at.saturating_sub(3)..at].windows(2).any(|w| w[0].is(&["up"]) && w[1].is(&["to"]))
        || tokens.get(end).is_some_and(|t| t.is(&["max", "maximum", "tops"]))
}

fn way(tokens: &[Token<'_>], at: usize, end: usize) -> Way {
    let lead = &tokens[at.saturating_sub(6)..at];
    let near: Vec<&Token<'_>> = lead.iter().rev().take_while(|t| !t.is(&[",", "but"])).collect();
    let has = |words: &[&str]| near.iter().any(|t| t.is(words));
    let not = near.iter().any(|t| t.is(&["no", "not", "cannot", "dont"]) || t.word.ends_with("n't"));
    let more =
        has(&["over", "above", "exceed", "exceeding"]) || (has(&["more", "greater", "higher"]) && has(&["than"]));
    let less = has(MOST) && (has(&["at"]) || !has(&["most"]))
        || (has(&["less", "cheaper", "lower", "fewer"]) && has(&["than"]));
    let behind = |words: &[&str]| tokens.iter().skip(end).take(3).any(|t| t.is(words));
    if more {
        return if not { Way::Most } else { Way::Least };
    }
    if less || behind(&["max", "maximum", "tops", "less", "below", "cheaper"]) {
        return if not && has(&["less"]) { Way::Least } else { Way::Most };
    }
    if has(LEAST)
        || (has(&["from"]) && !has(&["to"]))
        || behind(&["minimum", "up"])
        || (behind(&["more"]) && behind(&["or"]))
    {
        return Way::Least;
    }
    Way::Plain
}
