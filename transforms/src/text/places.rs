//! Towns and quarters, and what the home should be close to.

use super::dates;
use super::tokens::{Text, Token};
use super::wishes::{Reader, Sentence, Slot, Source, denied};

/// What people want to be close to.
const POINTS: &[(&str, &str)] = &[
    ("park", "park"),
    ("parks", "park"),
    ("school", "school"),
    ("schools", "school"),
    ("station", "train_station"),
    ("train", "train_station"),
    ("subway", "transit"),
    ("metro", "transit"),
    ("transit", "transit"),
    ("bus", "transit"),
    ("bart", "transit"),
    ("office", "work"),
    ("work", "work"),
    ("job", "work"),
    ("workplace", "work"),
    ("gym", "gym"),
    ("museum", "museum"),
    ("museums", "museum"),
    ("club", "club"),
    ("clubs", "club"),
    ("university", "university"),
    ("college", "university"),
    ("campus", "university"),
    ("downtown", "downtown"),
    ("hospital", "hospital"),
    ("store", "shops"),
    ("stores", "shops"),
    ("shops", "shops"),
    ("shopping", "shops"),
    ("grocery", "shops"),
    ("mall", "shops"),
    ("supermarket", "shops"),
    ("beach", "beach"),
    ("highway", "highway"),
    ("freeway", "highway"),
    ("restaurants", "restaurants"),
    ("airport", "airport"),
    ("lake", "lake"),
];

/// Words that stand behind `in` and are no place.
const NO_PLACE: &[&str] = &[
    "the",
    "a",
    "an",
    "my",
    "this",
    "that",
    "these",
    "your",
    "our",
    "it",
    "its",
    "about",
    "advance",
    "mind",
    "case",
    "total",
    "general",
    "fact",
    "unit",
    "building",
    "buildings",
    "apartment",
    "apartments",
    "area",
    "areas",
    "order",
    "between",
    "person",
    "touch",
    "need",
    "there",
    "here",
    "all",
    "any",
    "which",
    "what",
    "one",
    "to",
    "with",
    "for",
    "on",
    "at",
    "me",
    "you",
    "us",
    "them",
    "here",
    "town",
    "city",
    "same",
    "different",
    "other",
    "another",
    "place",
    "neighborhood",
    "house",
    "home",
    "kitchen",
    "bedroom",
    "bathroom",
    "morning",
    "afternoon",
    "evening",
    "night",
    "summer",
    "fall",
    "autumn",
    "winter",
    "spring",
    "addition",
    "particular",
    "good",
    "great",
    "nice",
    "safe",
    "quiet",
    "love",
    "terms",
    "rent",
    "price",
    "budget",
    "range",
    "question",
    "i",
    "i'm",
    "i'd",
    "possible",
    "interested",
    "looking",
    "and",
    "or",
    "under",
    "is",
    "are",
    "was",
    "be",
    "of",
    "credits",
    "dollars",
    "half",
    "full",
    "where",
    "when",
    "that's",
    "sure",
    "yes",
    "no",
    "ok",
    "okay",
    "please",
    "thanks",
    "thank",
    "hi",
    "hello",
    "hey",
    "am",
    "pm",
    "ai",
    "tv",
    "ac",
    "some",
    "every",
    "each",
    "both",
    "either",
    "his",
    "her",
    "their",
    "least",
    "most",
    "more",
    "less",
    "then",
    "now",
    "today",
    "tomorrow",
    "weeks",
    "months",
    "days",
    "sf",
    "washer",
    "dryer",
    "floor",
    "property",
    "complex",
    "community",
    "time",
    "work",
    "not",
    "just",
    "also",
    "so",
    "but",
    "because",
    "if",
];

/// Words that end a place.
const BEHIND: &[&str] = &[
    "area",
    "areas",
    "region",
    "neighborhood",
    "neighbourhood",
    "please",
    "is",
    "would",
    "sounds",
    "works",
    "and",
    "or",
    "with",
    "for",
    "that",
    "which",
    "has",
    "would",
    "preferably",
    "if",
    "but",
    "maybe",
    "ideally",
    "at",
    "under",
    "on",
    "by",
    "near",
    "around",
    "it",
    "to",
    "i",
    "we",
    "are",
    "because",
    "since",
    "good",
    "perfect",
    "fine",
    "great",
    "from",
    "too",
    "also",
    "where",
    "can",
    "could",
    "so",
    "as",
    "in",
    "than",
    "then",
    "the",
];

const HOMES: &[&str] = &[
    "apartment",
    "apartments",
    "apt",
    "apts",
    "place",
    "places",
    "home",
    "homes",
    "house",
    "houses",
    "condo",
    "condos",
    "property",
    "properties",
    "something",
    "anything",
    "one",
    "live",
    "living",
    "move",
    "moving",
    "located",
    "looking",
    "look",
    "search",
    "searching",
    "find",
    "want",
    "need",
    "explore",
    "prefer",
    "accomodation",
    "accommodation",
    "rental",
    "rentals",
    "units",
    "unit",
    "bedroom",
    "bedrooms",
    "bed",
    "studio",
    "ones",
    "options",
    "stay",
    "interested",
    "area",
    "explore",
    "like",
    "rent",
    "liking",
];

/// Reads the places of a sentence.
pub(super) fn read(reader: &mut Reader, s: &Sentence<'_>, source: Source) {
    let tokens = s.tokens();
    near(reader, s, source);
    // Where they are now, or where somebody else is, is not where they want to be.
    let now = s.has(&["currently", "brother", "sister", "mom", "dad", "friend", "parents", "weather", "ride"])
        || s.says(&["i", "work"])
        || s.says(&["now", "in"]);
    if now {
        return;
    }
    let asked = reader.asked.contains(&Slot::Area);
    let homely = asked || s.has(HOMES);
    for at in 0..tokens.len() {
        let word = |n: usize, words: &[&str]| tokens.get(n).is_some_and(|t| t.is(words));
        let lead = word(at, &["in", "near", "around", "within"])
            || (word(at, &["to"]) && at > 0 && word(at - 1, &["move", "moving", "relocate", "relocating", "closer"]))
            || (word(at, &["of"]) && at > 0 && word(at - 1, &["city", "town", "area", "part"]))
            || (word(at, &["area", "location", "city", "neighborhood"]) && word(at + 1, &[":", "is", "=", "of"]));
        if !lead || !homely || denied(tokens, at) {
            continue;
        }
        let mut start = at + 1 + usize::from(word(at, &["area", "location", "city", "neighborhood"]));
        while word(start, &["the", "or", "either", "city", "of", "area", "town", "downtown", "around", "near"])
            && !tokens[start].capital()
        {
            start += 1;
        }
        collect(reader, s, start, source, false);
    }
}

/// A run of words that may be a place, from `start` on.
fn place(tokens: &[Token<'_>], start: usize, loose: bool) -> Option<usize> {
    let first = tokens.get(start)?;
    let mut end = start;
    if first.wordy() && first.capital() && !first.is(NO_PLACE) && !dates::is_name(first) || short_name(first) {
        end += 1;
        while tokens.get(end).is_some_and(|t| {
            (t.wordy() && t.capital() && !t.is(&["i", "i'm", "i'd", "apartments", "apartment"]) && !t.glued)
                || (t.is(&["of", "de", "del", "la", "the"]) && tokens.get(end + 1).is_some_and(Token::capital))
                || (t.is(&["."])
                    && tokens[end - 1].is(&["st", "ft", "mt"])
                    && tokens.get(end + 1).is_some_and(Token::capital))
                || (t.wordy() && end == start + 1 && !t.capital() && !t.is(BEHIND) && two_words(&tokens[start], t))
        }) && end - start < 4
        {
            end += 1;
        }
    } else if first.wordy()
        && first.text.len() > 2
        && !first.is(NO_PLACE)
        && !dates::is_name(first)
        && !first.is(HOMES)
        && point(first).is_none()
    {
        // In small letters a place is taken only where the words behind it leave no doubt where it ends.
        end += 1;
        while tokens.get(end).is_some_and(|t| t.wordy() && !t.is(BEHIND) && !t.is(HOMES) && !dates::is_name(t))
            && end - start < 3
        {
            end += 1;
        }
        let closed = tokens.get(end).is_none_or(|t| t.is(&[".", "?", "!", ",", "\n"]) || t.is(BEHIND) || t.is(HOMES));
        if !closed && !loose {
            return None;
        }
    }
    // A house that bears a name is no town.
    let house = tokens.get(end).is_some_and(|t| t.is(&["apartments", "apartment", "apts", "complex", "homes"]));
    (end > start && !house && !tokens[start..end].iter().any(|t| t.number.is_some() && !t.spelled)).then_some(end)
}

fn short_name(t: &Token<'_>) -> bool {
    t.text.len() == 2 && t.text.chars().all(char::is_uppercase) && !t.is(&["am", "pm", "ok", "tv", "ac", "ai", "id"])
}

/// Towns whose second word people write small.
fn two_words(first: &Token<'_>, second: &Token<'_>) -> bool {
    first.is(&[
        "san", "santa", "los", "las", "el", "la", "new", "fort", "saint", "st", "palm", "palo", "south", "north",
        "east", "west", "union", "mountain", "castro", "daly", "menlo", "half", "morgan", "rohnert", "walnut",
        "pleasant", "lake", "long", "salt", "kansas", "oklahoma", "redwood",
    ]) && second.text.len() > 2
}

fn collect(reader: &mut Reader, s: &Sentence<'_>, start: usize, source: Source, loose: bool) {
    let tokens = s.tokens();
    let mut start = start;
    let mut adds = s.has(&["also", "too"]);
    for _ in 0..4 {
        let Some(end) = place(tokens, start, loose) else { return };
        let words = s.words(start..end);
        if !adds {
            reader.wishes.areas.retain(|a| a.message == source.message);
        }
        adds = true;
        reader.wishes.areas.retain(|a| !a.value.eq_ignore_ascii_case(words));
        reader.wishes.areas.push(source.found(
            words.to_owned(),
            words,
            if tokens[start].capital() { 0.9 } else { 0.7 },
        ));
        // `Oakland or Berkeley, maybe Alameda`; a state behind a comma belongs to the town.
        let mut next = end;
        while tokens.get(next).is_some_and(|t| t.is(&["or", "and", ",", "maybe", "/", "in"])) {
            next += 1;
        }
        if next == end
            || !tokens.get(next).is_some_and(|t| t.capital() && t.wordy() && !t.is(NO_PLACE) && t.text.len() > 2)
        {
            return;
        }
        start = next;
    }
}

/// An answer to "where".
pub(super) fn reply(reader: &mut Reader, text: &Text<'_>, answer: Option<bool>, source: Source) {
    const FILLER: &[&str] = &[
        "i",
        "i'd",
        "i'm",
        "would",
        "like",
        "prefer",
        "want",
        "need",
        "it",
        "to",
        "be",
        "in",
        "the",
        "looking",
        "am",
        "somewhere",
        "around",
        "near",
        "a",
        "an",
        "please",
        "maybe",
        "think",
        "at",
        "for",
        "well",
        "um",
        "uh",
        "let's",
        "lets",
        "try",
        "say",
        "how",
        "about",
        "can",
        "you",
        "find",
        "search",
        "one",
        "apartment",
        "my",
        "preferred",
        "area",
        "is",
        "city",
        "of",
        "live",
        "me",
        "we",
        "hmm",
        "oh",
        "something",
        "town",
        "ok",
        "okay",
        "yes",
        "yeah",
        "sure",
    ];
    for run in &text.sentences {
        let s = Sentence { text, run: run.clone(), asks: false };
        let tokens = s.tokens();
        let mut start = 0;
        // The first capital that is not that of a sentence, if there is one; else what is left behind the filler.
        let capital = tokens.iter().enumerate().position(|(n, t)| {
            t.wordy()
                && t.capital()
                && !t.is(NO_PLACE)
                && !t.is(FILLER)
                && !dates::is_name(t)
                && (n > 0 || tokens.len() < 8)
                && t.text.len() > 1
                && !t.is(HOMES)
                && !super::rooms::BEDS.contains(&&*t.word)
                && t.number.is_none()
                && !t.is(&["also", "could", "do", "does", "what", "any", "anywhere", "nothing"])
        });
        match capital {
            Some(at) => start = at,
            None => {
                while tokens.get(start).is_some_and(|t| t.is(FILLER) || t.is(&[","])) {
                    start += 1;
                }
                let plain = tokens.len() - start <= 4
                    && answer != Some(false)
                    && !s.has(&["any", "anywhere", "don't", "not", "no", "matter", "else", "thanks"]);
                let words = tokens[start.min(tokens.len())..].iter().filter(|t| t.wordy()).count();
                if !plain || words == 0 || words > 3 || tokens.iter().any(|t| t.number.is_some()) {
                    continue;
                }
            }
        }
        let before = reader.wishes.areas.len();
        collect(reader, &s, start, source, capital.is_none());
        if reader.wishes.areas.len() > before || reader.wishes.areas.last().is_some_and(|a| a.message == source.message)
        {
            return;
        }
    }
}

fn point(t: &Token<'_>) -> Option<&'static str> {
    POINTS.iter().find(|(word, _)| t.is(&[word])).map(|(_, name)| *name)
}

fn near(reader: &mut Reader, s: &Sentence<'_>, source: Source) {
    let tokens = s.tokens();
    if s.asks && s.has(&["is", "are", "how"]) && !s.has(&["want", "need", "find", "looking"]) {
        return;
    }
    for at in 0..tokens.len() {
        let lead = tokens[at].is(&["near", "nearby", "by"])
            || (tokens[at].is(&["close", "closer", "next"]) && tokens.get(at + 1).is_some_and(|t| t.is(&["to"])))
            || (tokens[at].is(&["distance"]) && tokens.get(at + 1).is_some_and(|t| t.is(&["to", "from", "of"])))
            || (tokens[at].is(&["minutes", "miles"])
                && tokens.get(at + 1).is_some_and(|t| t.is(&["from", "to", "of"])));
        if !lead || denied(tokens, at) {
            continue;
        }
        for (n, token) in tokens.iter().enumerate().take(at + 8).skip(at + 1) {
            if token.is(&[".", ",", "but", "with"]) {
                break;
            }
            if let Some(name) = point(token) {
                reader.wishes.near.retain(|p| p.value != name);
                reader.wishes.near.push(source.found(name.to_owned(), s.words(at..n + 1), 0.85));
            }
        }
    }
}
