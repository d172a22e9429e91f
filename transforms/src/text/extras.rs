//! Pets, lease terms, what the home should have, e-mail addresses and phones.

use std::collections::BTreeMap;

use super::Pets;
use super::tokens::{Text, Token};
use super::wishes::{Reader, Sentence, Slot, Source, denied};
use crate::functions::{email_canonical, phone_e164};

const KINDS: &[(&str, &str)] = &[
    ("dog", "dog"),
    ("dogs", "dog"),
    ("puppy", "dog"),
    ("puppies", "dog"),
    ("pup", "dog"),
    ("doggo", "dog"),
    ("labrador", "dog"),
    ("lab", "dog"),
    ("husky", "dog"),
    ("retriever", "dog"),
    ("bulldog", "dog"),
    ("chihuahua", "dog"),
    ("poodle", "dog"),
    ("shepherd", "dog"),
    ("pitbull", "dog"),
    ("terrier", "dog"),
    ("corgi", "dog"),
    ("beagle", "dog"),
    ("dachshund", "dog"),
    ("rottweiler", "dog"),
    ("cat", "cat"),
    ("cats", "cat"),
    ("kitten", "cat"),
    ("kittens", "cat"),
    ("kitty", "cat"),
    ("bird", "bird"),
    ("birds", "bird"),
    ("parrot", "bird"),
    ("rabbit", "rabbit"),
    ("rabbits", "rabbit"),
    ("bunny", "rabbit"),
    ("hamster", "rodent"),
    ("hamsters", "rodent"),
    ("ferret", "rodent"),
    ("fish", "fish"),
    ("aquarium", "fish"),
    ("lizard", "reptile"),
    ("snake", "reptile"),
    ("turtle", "reptile"),
    ("gecko", "reptile"),
    ("iguana", "reptile"),
];

/// Reads animals.
pub(super) fn pets(reader: &mut Reader, s: &Sentence<'_>, used: &mut [bool], source: Source) {
    let tokens = s.tokens();
    let word = |n: usize, words: &[&str]| tokens.get(n).is_some_and(|t| t.is(words));
    let asked = reader.asked.contains(&Slot::Pets);
    let owns = asked
        || s.has(&[
            "have", "has", "own", "my", "our", "with", "bring", "bringing", "got", "i've", "live", "allow", "allows",
            "allowed", "accept", "accepts", "take", "ok", "okay", "friendly", "welcome", "two", "plus", "and",
        ]);
    let fond = s.has(&["like", "likes", "love", "loves", "hate", "smell", "hates", "wonder"])
        && !s.has(&["have", "my", "our", "bring", "with"]);
    let past = s.says(&["used", "to"]) || s.has(&["died", "had"]);
    let mut kinds: BTreeMap<String, u32> = BTreeMap::new();
    let mut place: Option<usize> = None;
    let mut none = false;
    for at in 0..tokens.len() {
        let kind = KINDS.iter().find(|(w, _)| tokens[at].is(&[w])).map(|(_, k)| *k);
        let general = tokens[at].is(&["pet", "pets", "animal", "animals"]);
        if kind.is_none() && !general {
            continue;
        }
        // `dog park`, `cat person`, `pet fee`, `pet policy`: no animal of theirs.
        let beside = word(
            at + 1,
            &[
                "park", "parks", "person", "walker", "fee", "fees", "deposit", "policy", "policies", "rent", "wash",
                "run", "sitter", "free",
            ],
        ) || (word(at + 1, &["-"]) && word(at + 2, &["free"]));
        if beside || past || fond {
            continue;
        }
        if denied(tokens, at) {
            none |= general || asked || s.has(&["have", "own", "any"]);
            place.get_or_insert(at);
            continue;
        }
        if general {
            let welcome = (1..=3).any(|n| word(at + n, &["allowed", "permitted", "accepted", "welcome", "allow"]));
            let may = tokens[..at].iter().rev().take(4).any(|t| t.is(&["can", "could"]))
                && tokens[..at].iter().rev().take(3).any(|t| t.is(&["have", "bring", "keep"]));
            let wanted = welcome
                || may
                || word(at + 1, &["friendly", "allowed", "ok", "okay", "welcome"])
                || (word(at + 1, &["-"]) && word(at + 2, &["friendly"]))
                || tokens[..at].iter().rev().take(4).any(|t| {
                    t.is(&[
                        "allow",
                        "allows",
                        "accept",
                        "accepts",
                        "permit",
                        "permits",
                        "allowing",
                        "permitting",
                        "take",
                        "takes",
                        "ok",
                        "okay",
                        "for",
                        "accepting",
                        "welcomes",
                    ])
                });
            let owned = tokens[..at]
                .iter()
                .rev()
                .take(4)
                .any(|t| t.is(&["have", "own", "my", "our", "with", "bring", "got", "has"]));
            if wanted && inquires(s) {
                // Whoever asks has some, most of the time.
                if reader.wishes.pets.is_none() && s.has(&["you", "they", "pets"]) {
                    reader.wishes.pets =
                        Some(source.found(Pets { has: true, kinds: BTreeMap::new() }, tokens[at].text, 0.4));
                }
                continue;
            }
            if wanted {
                reader.amenity("pet_friendly", true, tokens[at].text, 0.85, source);
            }
            if wanted || owned {
                place.get_or_insert(at);
            }
            continue;
        }
        if !owns {
            continue;
        }
        let mut number = at;
        let count = loop {
            let Some(before) = number.checked_sub(1) else { break 0 };
            number = before;
            let t = &tokens[number];
            if t.is(&["a", "an", "my", "our", "another"]) && !tokens[at].text.ends_with('s') {
                break 1;
            }
            match t.number {
                // `a 40 lb dog` is one.
                Some(_) if tokens[number + 1].is(&["lb", "lbs", "pound", "pounds", "year", "month"]) => break 1,
                Some(n) if (1.0..100.0).contains(&n) && !used[number] => {
                    used[number] = true;
                    break n as u32;
                }
                _ => {}
            }
            if at - number > 3 || !t.wordy() || t.is(&["and", "or", "have", "with"]) {
                break 0;
            }
        };
        let known = kinds.entry(kind.unwrap_or_default().to_owned()).or_default();
        *known = if *known == 0 { count } else { (*known).max(count) };
        place.get_or_insert(at);
    }
    let Some(at) = place else {
        return;
    };
    let words = s.words(at.saturating_sub(2)..at + 1);
    if !kinds.is_empty() {
        let sure = if s.asks && !s.has(&["have", "my", "our"]) { 0.6 } else { 0.9 };
        // Animals add up over messages: `I have a cat` … `and a dog`.
        if let Some(known) = reader.wishes.pets.as_ref().filter(|p| p.value.has && !s.has(&["actually", "not", "only"]))
        {
            for (kind, count) in &known.value.kinds {
                kinds.entry(kind.clone()).or_insert(*count);
            }
        }
        reader.wishes.pets = Some(source.found(Pets { has: true, kinds }, words, sure));
    } else if none {
        reader.wishes.pets = Some(source.found(Pets::default(), words, 0.9));
        reader.wishes.amenities.retain(|a| a.value.name != "pet_friendly");
    } else if reader.wishes.pets.as_ref().is_none_or(|p| !p.value.has || p.confidence < 0.5) {
        reader.wishes.pets = Some(source.found(Pets { has: true, kinds }, words, 0.75));
    }
}

/// Whether a sentence only wants to know what a home has: `is it furnished?`, `tell me if pets are allowed`. One that asks for
/// such a home (`are there any where …`, `can you find one with …`) is a wish.
fn inquires(s: &Sentence<'_>) -> bool {
    if s.has(&["if", "whether"]) {
        return true;
    }
    let others = s.has(&[
        "find",
        "search",
        "looking",
        "other",
        "others",
        "another",
        "something",
        "anything",
        "any",
        "one",
        "some",
        "where",
        "want",
    ]);
    let one = s.has(&["it", "they", "you", "the", "this", "there", "pets", "your"])
        && s.has(&["is", "are", "does", "do", "has", "have", "can", "comes", "come", "will", "allow", "allows"]);
    s.asks
        && one
        && !(others
            && s.has(&[
                "apartment",
                "apartments",
                "place",
                "places",
                "one",
                "ones",
                "home",
                "homes",
                "unit",
                "house",
                "where",
                "option",
                "options",
            ]))
}

/// A no to what was asked: no animals, no balcony.
pub(super) fn refused(reader: &mut Reader, s: &Sentence<'_>, source: Source) {
    if s.has(&["pet", "pets", "animals"]) && s.has(&["have", "any", "own", "bring"]) && reader.wishes.pets.is_none() {
        reader.wishes.pets = Some(source.found(Pets::default(), "no", 0.8));
    }
    for (at, name, length) in named(s.tokens()) {
        if reader.wishes.amenities.iter().all(|a| a.value.name != name) {
            reader.amenity(name, false, s.words(at..at + length), 0.7, source);
        }
    }
}

/// Reads the term of a lease.
pub(super) fn lease(reader: &mut Reader, s: &Sentence<'_>, used: &mut [bool], source: Source) {
    let tokens = s.tokens();
    let asked = reader.asked.contains(&Slot::Lease);
    let cue = asked || s.has(&["lease", "term", "contract", "stay", "leases"]);
    for at in 0..tokens.len() {
        if tokens[at].is(&["month"]) && tokens.get(at + 1).is_some_and(|t| t.is(&["to", "-"])) {
            let rest: Vec<_> = tokens[at + 1..].iter().filter(|t| !t.is(&["-"])).take(2).collect();
            if rest.len() == 2 && rest[0].is(&["to"]) && rest[1].is(&["month"]) && !denied(tokens, at) {
                reader.wishes.lease_months = Some(source.found(1, s.words(at..(at + 3).min(tokens.len())), 0.9));
                return;
            }
        }
        let unit = at + 1 + usize::from(tokens.get(at + 1).is_some_and(|t| t.is(&["-"])));
        let Some(each) = tokens.get(unit).and_then(|t| {
            if t.is(&["month", "months", "mo", "mos"]) { Some(1) } else { t.is(&["year", "years", "yr"]).then_some(12) }
        }) else {
            continue;
        };
        let n = match tokens[at].number {
            Some(n) if !tokens[at].ordinal && tokens[at].currency.is_none() => n,
            None if tokens[at].is(&["a"]) && each == 12 => 1.0,
            _ => continue,
        };
        // `in 2 months` is a day, `2000 a month` a price.
        let day = at > 0
            && tokens[at - 1].is(&["in", "within", "about", "next", "ago"])
            && !tokens[unit..].iter().take(2).any(|t| t.is(&["lease"]));
        let later = tokens.get(unit + 1).is_some_and(|t| t.is(&["from", "old", "ago", "later"]));
        let priced = each == 1 && tokens[at].is(&["a"]);
        let months = n * f64::from(each);
        if !cue
            || day
            || later
            || priced
            || !(1.0..=60.0).contains(&months)
            || denied(tokens, at)
            || months.fract() != 0.0
        {
            continue;
        }
        used[at] = true;
        reader.wishes.lease_months = Some(source.found(months as u32, s.words(at..unit + 1), 0.9));
    }
}

/// What a home may have, by the words for it. More words come before fewer.
const FEATURES: &[(&[&str], &str)] = &[
    (&["washer", "and", "dryer"], "in_unit_laundry"),
    (&["washer", "/", "dryer"], "in_unit_laundry"),
    (&["w", "/", "d"], "in_unit_laundry"),
    (&["in", "unit", "laundry"], "in_unit_laundry"),
    (&["in", "-", "unit", "laundry"], "in_unit_laundry"),
    (&["washer", "dryer"], "in_unit_laundry"),
    (&["laundry", "in", "unit"], "in_unit_laundry"),
    (&["washing", "machine"], "in_unit_laundry"),
    (&["washer"], "in_unit_laundry"),
    (&["laundry"], "laundry"),
    (&["air", "conditioning"], "air_conditioning"),
    (&["air", "conditioner"], "air_conditioning"),
    (&["a", "/", "c"], "air_conditioning"),
    (&["central", "air"], "air_conditioning"),
    (&["ac"], "air_conditioning"),
    (&["swimming", "pool"], "pool"),
    (&["pool"], "pool"),
    (&["fitness", "center"], "gym"),
    (&["gym"], "gym"),
    (&["walk", "in", "closet"], "walk_in_closet"),
    (&["walk", "-", "in", "closet"], "walk_in_closet"),
    (&["hardwood"], "hardwood_floors"),
    (&["fireplace"], "fireplace"),
    (&["backyard"], "yard"),
    (&["yard"], "yard"),
    (&["garden"], "yard"),
    (&["storage"], "storage"),
    (&["utilities", "included"], "utilities_included"),
    (&["doorman"], "doorman"),
    (&["gated"], "gated"),
    (&["dog", "park"], "dog_park"),
    (&["ev", "charging"], "ev_charging"),
    (&["dishwasher"], "dishwasher"),
    (&["microwave"], "microwave"),
    (&["unfurnished"], "unfurnished"),
    (&["furnished"], "furnished"),
    (&["furniture"], "furnished"),
    (&["wheelchair"], "accessible"),
    (&["accessible"], "accessible"),
    (&["elevator"], "elevator"),
    (&["elevators"], "elevator"),
    (&["lift"], "elevator"),
    (&["balcony"], "balcony"),
    (&["balconies"], "balcony"),
    (&["patio"], "balcony"),
    (&["terrace"], "balcony"),
    (&["garage"], "parking"),
    (&["carport"], "parking"),
    (&["parking"], "parking"),
    (&["high", "floor"], "high_floor"),
    (&["higher", "floor"], "high_floor"),
    (&["top", "floor"], "top_floor"),
    (&["fridge"], "refrigerator"),
    (&["refrigerator"], "refrigerator"),
    (&["bathtub"], "bathtub"),
    (&["wifi"], "internet"),
    (&["internet"], "internet"),
    (&["quiet"], "quiet"),
    (&["natural", "light"], "natural_light"),
    (&["rooftop"], "rooftop"),
];

/// The features that are named: where, which, and by how many tokens.
fn named(tokens: &[Token<'_>]) -> Vec<(usize, &'static str, usize)> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let here = FEATURES.iter().find(|(words, _)| {
            words.len() <= tokens.len() - at && words.iter().zip(&tokens[at..]).all(|(w, t)| t.is(&[w]))
        });
        match here {
            Some((words, name)) => {
                found.push((at, *name, words.len()));
                at += words.len();
            }
            None => at += 1,
        }
    }
    found
}

/// Reads what the home should have.
pub(super) fn amenities(reader: &mut Reader, s: &Sentence<'_>, source: Source) {
    let tokens = s.tokens();
    let found = named(tokens);
    if found.is_empty() || s.says(&["doesn't", "matter"]) || s.says(&["don't", "care"]) || s.has(&["optional"]) {
        return;
    }
    let wish = s.has(&[
        "want",
        "need",
        "would",
        "like",
        "prefer",
        "with",
        "must",
        "looking",
        "require",
        "important",
        "hoping",
        "wish",
        "find",
        "i'd",
        "ideally",
        "search",
        "love",
        "should",
        "having",
        "needs",
        "wanted",
        "have",
        "has",
        "include",
        "includes",
        "also",
        "and",
        "please",
        "yes",
        "no",
    ]);
    // `Is there a pool?` asks about a home; `Can you find one with a pool?` asks for one.
    let about = inquires(s) && (s.has(&["if", "whether"]) || !s.has(&["need", "want", "would"]));
    if about || !(wish || tokens.len() <= 8 || reader.last.is_some()) {
        return;
    }
    for (at, name, length) in found {
        let near = tokens[..at].iter().rev().take(4).any(|t| t.is(&["near", "close", "by", "nearby", "my"]))
            && ["gym", "parking"].contains(&name);
        let dated = name == "quiet" && !s.has(&["want", "need", "place", "area", "neighborhood", "looking"]);
        if near || dated {
            continue;
        }
        // `no elevator needed`, `I don't need a balcony`; but `not facing north` leaves the balcony wanted.
        let refused = denied(tokens, at)
            || tokens.iter().skip(at + length).take(4).any(|t| t.is(&["unnecessary", "optional"]))
            || (tokens.iter().skip(at + length).take(4).any(|t| t.word.ends_with("n't") || t.is(&["not"]))
                && tokens
                    .iter()
                    .skip(at + length)
                    .take(6)
                    .any(|t| t.is(&["necessary", "needed", "required", "need", "matter"])));
        let sure = if refused { 0.75 } else { 0.85 };
        if name == "unfurnished" || name == "furnished" {
            reader.wishes.amenities.retain(|a| a.value.name != "furnished" && a.value.name != "unfurnished");
        }
        reader.amenity(name, !refused, s.words(at..at + length), sure, source);
    }
}

/// E-mail addresses and phones, as they stand in the text.
pub(super) fn addresses(reader: &mut Reader, text: &Text<'_>, source: Source) {
    let whole = text.words(0..text.tokens.len());
    for word in whole.split(|c: char| c.is_whitespace() || matches!(c, ',' | ';' | '<' | '>' | '(' | ')' | ':')) {
        let word = word.trim_matches(|c: char| matches!(c, '.' | '!' | '?' | '"' | '\''));
        if word.contains('@')
            && word.len() <= 254
            && let Some(address) = email_canonical(word)
            && reader.wishes.emails.iter().all(|e| e.value != address)
        {
            reader.wishes.emails.push(source.found(address, word, 0.95));
        }
    }
    let mut start: Option<usize> = None;
    let mut digits = 0;
    let letters: Vec<(usize, char)> = whole.char_indices().chain([(whole.len(), '\n')]).collect();
    for (n, (at, c)) in letters.iter().enumerate() {
        let inside = c.is_ascii_digit() || matches!(c, '+' | '(' | ')' | '-' | '.' | ' ' | '/');
        if inside && (start.is_some() || c.is_ascii_digit() || matches!(c, '+' | '(')) {
            start.get_or_insert(*at);
            digits += usize::from(c.is_ascii_digit());
            continue;
        }
        if let Some(from) = start.take()
            && (10..=15).contains(&digits)
            && letters.get(n.wrapping_sub(1)).is_some()
        {
            let words = whole[from..*at].trim_matches(|c: char| matches!(c, ' ' | '.' | '-' | '/'));
            if let Some(phone) = phone_e164(words, &reader.region)
                && reader.wishes.phones.iter().all(|p| p.value != phone)
            {
                reader.wishes.phones.push(source.found(phone, words, 0.9));
            }
        }
        digits = 0;
    }
}
