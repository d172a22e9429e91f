//! Reads wishes, message by message: what was asked says what an answer is about, and what is later corrects what was before.

use std::collections::BTreeSet;
use std::ops::Range;

use chrono::NaiveDate;

use super::tokens::{Text, Token};
use super::{Amenity, Budget, Conversation, Days, Found, Intent, Role, Span, Tour, Wishes};
use super::{dates, extras, money, places, rooms};

/// What an answer may be about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Slot {
    Bedrooms,
    Bathrooms,
    Budget,
    Area,
    Tour,
    MoveIn,
    Pets,
    Lease,
    Floor,
}

/// One sentence, and what is known around it.
pub(super) struct Sentence<'a> {
    pub(super) text: &'a Text<'a>,
    pub(super) run: Range<usize>,
    /// Whether it asks.
    pub(super) asks: bool,
}

impl<'a> Sentence<'a> {
    pub(super) fn tokens(&self) -> &'a [Token<'a>] {
        &self.text.tokens[self.run.clone()]
    }

    pub(super) fn has(&self, words: &[&str]) -> bool {
        self.tokens().iter().any(|t| t.is(words))
    }

    /// Whether these words stand in it side by side.
    pub(super) fn says(&self, words: &[&str]) -> bool {
        self.tokens().windows(words.len()).any(|w| w.iter().zip(words).all(|(t, word)| t.is(&[word])))
    }

    pub(super) fn words(&self, run: Range<usize>) -> &'a str {
        self.text.words(self.run.start + run.start..self.run.start + run.end)
    }
}

/// Whether what stands at `at` is denied: a `no` or `not` shortly before, in the same clause.
pub(super) fn denied(tokens: &[Token<'_>], at: usize) -> bool {
    let from = at.saturating_sub(6);
    for token in tokens[from..at].iter().rev() {
        if token.is(&[",", "but", "because", "since", "so", "although", ":", "than", "only", "just", "if"]) {
            return false;
        }
        let not = token.word.ends_with("n't")
            || token.is(&["no", "not", "without", "never", "dont", "doesnt", "nor", "neither", "cannot"]);
        if not {
            return true;
        }
    }
    false
}

/// Words of a tour, and of moving in; which of them is nearer to a day says what the day is for.
const TOURING: &[&str] = &[
    "tour",
    "tours",
    "touring",
    "visit",
    "visiting",
    "view",
    "viewing",
    "viewings",
    "showing",
    "showings",
    "appointment",
    "schedule",
    "scheduled",
    "scheduling",
    "reschedule",
    "walkthrough",
    "visited",
    "meet",
    "book",
    "booking",
    "tomorrow's",
];
const MOVING: &[&str] = &[
    "move",
    "moving",
    "movein",
    "relocate",
    "relocating",
    "lease",
    "available",
    "availability",
    "vacant",
    "occupancy",
    "starting",
    "start",
    "starts",
    "begin",
    "beginning",
    "relocation",
];
/// What else people talk about with an assistant; a day there is for something else.
const ELSEWHERE: &[&str] = &[
    "weather",
    "rain",
    "raining",
    "sunny",
    "snow",
    "forecast",
    "ride",
    "uber",
    "lyft",
    "taxi",
    "cab",
    "driver",
    "flight",
    "hotel",
    "restaurant",
    "doctor",
    "airport",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum About {
    Tour,
    MoveIn,
    Elsewhere,
}

/// Reads a conversation.
pub(super) fn read(conversation: &Conversation, region: &str) -> Wishes {
    let mut reader = Reader {
        wishes: Wishes::default(),
        asked: BTreeSet::new(),
        about: None,
        last: None,
        heard: false,
        region: region.to_owned(),
    };
    let mut offered: Option<Text<'_>> = None;
    for (at, message) in conversation.messages.iter().enumerate() {
        let text = Text::new(&message.text);
        let day = conversation.day(message);
        match message.role {
            Role::Agent => {
                // Several messages in a row are one question.
                if !matches!(at.checked_sub(1).map(|n| conversation.messages[n].role), Some(Role::Agent)) {
                    reader.asked.clear();
                }
                reader.heard = true;
                reader.listen(&text);
                offered = Some(text);
            }
            Role::Renter => {
                let source = Source { message: at, weight: 1.0, day };
                let answer = answer(&text);
                if let Some(offer) = offered.take() {
                    reader.answered(&offer, answer, source);
                }
                reader.message(&text, answer, source);
                reader.asked.clear();
            }
        }
    }
    reader.wishes
}

/// Where something was read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source {
    pub(super) message: usize,
    /// What confidence is multiplied by.
    pub(super) weight: f64,
    pub(super) day: Option<NaiveDate>,
}

impl Source {
    pub(super) fn found<T>(self, value: T, words: &str, confidence: f64) -> Found<T> {
        let mut words = words.to_owned();
        if words.len() > 120 {
            words = words.chars().take(120).collect();
        }
        let confidence = (confidence * self.weight * 100.0).round() / 100.0;
        Found { value, message: self.message, words, confidence }
    }
}

pub(super) struct Reader {
    pub(super) wishes: Wishes,
    pub(super) asked: BTreeSet<Slot>,
    about: Option<About>,
    pub(super) last: Option<Slot>,
    /// Whether the other side's words are there at all.
    heard: bool,
    pub(super) region: String,
}

/// Whether a message says yes (`Some(true)`) or no.
fn answer(text: &Text<'_>) -> Option<bool> {
    const YES: &[&str] = &[
        "yes",
        "yeah",
        "yep",
        "yup",
        "sure",
        "ok",
        "okay",
        "correct",
        "right",
        "perfect",
        "great",
        "exactly",
        "confirmed",
        "confirm",
        "absolutely",
        "definitely",
        "certainly",
        "yea",
        "ya",
        "indeed",
        "alright",
        "agreed",
        "fine",
        "good",
        "excellent",
        "awesome",
    ];
    let mut words = text.tokens.iter().filter(|t| t.wordy());
    let (first, second) = (words.next()?, words.next());
    if first.is(&["no"]) && second.is_some_and(|s| s.is(&["problem", "worries"])) {
        return Some(true);
    }
    if first.is(&["no", "nope", "nah", "not", "none", "neither"]) {
        return Some(false);
    }
    let agrees = first.is(YES)
        || first.is(&["sounds", "looks", "works"])
        || (first.is(&["that", "that's", "it", "it's", "this"])
            && text
                .tokens
                .iter()
                .take(5)
                .any(|t| t.is(&["sounds", "works", "good", "fine", "correct", "perfect", "right", "great"])))
        || (first.is(&["please"]) && second.is_none_or(|s| s.is(&["do", "yes", "book", "schedule"])))
        || (first.is(&["of"]) && second.is_some_and(|s| s.is(&["course"])));
    agrees.then_some(true)
}

impl Reader {
    /// Hears what the other side asks.
    fn listen(&mut self, text: &Text<'_>) {
        for run in &text.sentences {
            let s = Sentence { text, run: run.clone(), asks: asks(text, run.clone()) };
            let told = s.has(&["confirm"])
                || s.says(&["let", "me", "know"])
                || s.says(&["tell", "me"])
                || s.says(&["need", "to", "know"])
                || s.says(&["number", "of"]);
            if !s.asks && !told {
                continue;
            }
            let counted = |at: usize| at > 0 && s.tokens()[..at].iter().rev().take(2).any(|t| t.number.is_some());
            for (at, token) in s.tokens().iter().enumerate() {
                let slot = if token.is(rooms::BEDS) || token.is(&["room", "rooms"]) {
                    (!counted(at)).then_some(Slot::Bedrooms)
                } else if token.is(rooms::BATHS) {
                    (!counted(at)).then_some(Slot::Bathrooms)
                } else if token.is(&["budget", "price", "rent", "spend", "afford", "pay"]) {
                    Some(Slot::Budget)
                } else if token.is(&[
                    "area",
                    "areas",
                    "location",
                    "city",
                    "town",
                    "neighborhood",
                    "neighbourhood",
                    "where",
                    "place",
                    "region",
                ]) {
                    Some(Slot::Area)
                } else if token.is(TOURING) || token.is(&["see"]) {
                    Some(Slot::Tour)
                } else if token.is(&["move", "moving", "movein"]) {
                    Some(Slot::MoveIn)
                } else if token.is(&["pet", "pets", "animals", "dog", "cat", "dogs", "cats"]) {
                    Some(Slot::Pets)
                } else if token.is(&["lease", "term", "long"]) {
                    Some(Slot::Lease)
                } else if token.is(&["floor", "level"]) {
                    Some(Slot::Floor)
                } else {
                    None
                };
                self.asked.extend(slot);
            }
        }
        // `Where do you want to move?` asks for a place, `when` for a day.
        let word = |w: &[&str]| text.tokens.iter().any(|t| t.is(w));
        if self.asked.contains(&Slot::MoveIn) && word(&["where"]) && !word(&["when", "date"]) {
            self.asked.remove(&Slot::MoveIn);
        }
        if self.asked.contains(&Slot::Tour) {
            // A place is named along with the visit, and not asked for.
            self.asked.remove(&Slot::Area);
            self.about = Some(About::Tour);
        } else if self.asked.contains(&Slot::MoveIn) {
            self.about = Some(About::MoveIn);
        } else if text.tokens.iter().any(|t| t.is(ELSEWHERE)) {
            self.about = Some(About::Elsewhere);
        }
    }

    /// Takes what was offered, if the renter said yes to it; a no may be an answer too.
    fn answered(&mut self, offer: &Text<'_>, answer: Option<bool>, source: Source) {
        let Some(yes) = answer else { return };
        let source = Source { weight: 0.85, ..source };
        for run in &offer.sentences {
            let s = Sentence { text: offer, run: run.clone(), asks: false };
            let put = s.has(&["confirm", "correct", "verify"])
                || s.says(&["make", "sure"])
                || s.says(&["to", "check"])
                || ["want", "need", "would", "wish", "prefer", "have", "are", "do", "'d"]
                    .iter()
                    .any(|w| s.says(&["you", w]) || s.says(&[w, "you"]))
                || s.has(&["you'd", "you're", "your"]);
            if !put {
                continue;
            }
            if yes {
                self.sentence(&s, source);
            } else {
                extras::refused(self, &s, source);
            }
        }
    }

    fn message(&mut self, text: &Text<'_>, answer: Option<bool>, source: Source) {
        extras::addresses(self, text, source);
        let short = text.tokens.iter().filter(|t| t.wordy() || t.number.is_some()).count() <= 4;
        for run in &text.sentences {
            let s = Sentence { text, run: run.clone(), asks: asks(text, run.clone()) };
            self.sentence(&s, source);
        }
        if self.asked.contains(&Slot::Area) && self.wishes.areas.last().is_none_or(|a| a.message != source.message) {
            places::reply(self, text, answer, source);
        }
        if !self.heard && short {
            self.bare_alone(text, source);
        }
    }

    /// Reads one sentence.
    fn sentence(&mut self, s: &Sentence<'_>, source: Source) {
        let elsewhere = s.has(ELSEWHERE);
        if elsewhere {
            self.about = Some(About::Elsewhere);
        }
        let mut used = vec![false; s.tokens().len()];
        if !elsewhere {
            self.intent(s, source);
        }
        extras::lease(self, s, &mut used, source);
        self.days(s, &mut used, source);
        rooms::read(self, s, &mut used, source);
        if elsewhere {
            return;
        }
        extras::pets(self, s, &mut used, source);
        money::read(self, s, &mut used, source);
        self.bare(s, &used, source);
        extras::amenities(self, s, source);
        places::read(self, s, source);
    }

    fn intent(&mut self, s: &Sentence<'_>, source: Source) {
        for (at, token) in s.tokens().iter().enumerate() {
            let intent = if token.is(&["rent", "lease", "renting", "leasing"]) {
                Intent::Rent
            } else if token.is(&["buy", "purchase", "buying"]) {
                Intent::Buy
            } else {
                continue;
            };
            if !denied(s.tokens(), at)
                && s.has(&["to", "want", "looking", "for", "apartment", "home", "house", "place"])
            {
                self.wishes.intent = Some(source.found(intent, token.text, 0.8));
            }
        }
    }

    /// Days and times: for a tour, or for moving in.
    fn days(&mut self, s: &Sentence<'_>, used: &mut [bool], source: Source) {
        let tokens = s.tokens();
        let touring: Vec<usize> = cues(tokens, |at, t| {
            (t.is(TOURING) && !t.is(&["view", "book"]))
                || (t.is(&["book"]) && !tokens.get(at + 1).is_some_and(|n| n.is(&["shelves", "club"])))
                || (t.is(&["view"]) && at > 0 && (tokens[at - 1].is(&["to", "can", "could", "i", "we"])))
                || (t.is(&["see", "look"])
                    && tokens
                        .get(at + 1)
                        .is_some_and(|n| n.is(&["it", "the", "that", "this", "one", "at", "them", "some"]))
                    && at > 0
                    && tokens[at - 1].is(&["to", "can", "could", "i", "we", "a", "come", "and"]))
                || (t.is(&["come", "stop", "swing", "drop"])
                    && tokens.get(at + 1).is_some_and(|n| n.is(&["by", "over", "in", "see"])))
                || (t.is(&["check"]) && tokens.iter().skip(at).take(4).any(|n| n.is(&["out"])))
        });
        let moving: Vec<usize> = cues(tokens, |at, t| {
            t.is(MOVING) && !(t.is(&["beginning", "start"]) && tokens.get(at + 1).is_some_and(|n| n.is(&["of"])))
                || (t.is(&["need", "want"]) && tokens.iter().skip(at).take(6).any(|n| n.is(&["by"])))
        });
        // A view over the lake is no viewing, and to view more homes is to see a list.
        let wanted = touring.iter().any(|at| !denied(tokens, *at)) && !s.has(ELSEWHERE);
        let off = touring.iter().any(|at| denied(tokens, *at))
            || (s.has(&["cancel"]) && (!touring.is_empty() || s.tokens().len() < 6));
        if !touring.is_empty() || (s.has(&["cancel"]) && self.about == Some(About::Tour)) {
            self.about = Some(About::Tour);
            let listed = s.has(&["other", "others", "more", "options", "search"]);
            if wanted && !off && !listed && self.wishes.tour.as_ref().is_none_or(|t| t.value.off) {
                let at = touring[0];
                self.wishes.tour =
                    Some(source.found(Tour::default(), tokens[at].text, if s.asks { 0.75 } else { 0.8 }));
            } else if off
                && !wanted
                && let Some(tour) = &mut self.wishes.tour
            {
                tour.value.off = true;
            }
        } else if !moving.is_empty() {
            self.about = Some(About::MoveIn);
        }
        let mut at = 0;
        while at < tokens.len() {
            if used[at] {
                at += 1;
                continue;
            }
            let Some(day) = dates::named(tokens, at, source.day) else {
                self.time(s, at, &mut used[..], &touring, source);
                at += 1;
                continue;
            };
            let near = |cues: &[usize]| cues.iter().map(|c| c.abs_diff(at)).min();
            let about = match (near(&touring), near(&moving)) {
                (Some(t), Some(m)) => Some(if t <= m { About::Tour } else { About::MoveIn }),
                (Some(_), None) => Some(About::Tour),
                (None, Some(_)) => Some(About::MoveIn),
                _ if s.has(ELSEWHERE) => Some(About::Elsewhere),
                _ if self.asked.contains(&Slot::Tour) => Some(About::Tour),
                _ if self.asked.contains(&Slot::MoveIn) => Some(About::MoveIn),
                _ => self.about,
            };
            let refused = denied(tokens, at);
            if !day.sure && about.is_none() {
                at += 1;
                continue;
            }
            let whole = day.run.clone();
            used[whole.clone()].iter_mut().for_each(|u| *u = true);
            let words = s.words(whole.clone());
            match about {
                Some(About::Tour) if !refused => self.tour_day(&day, words, source),
                Some(About::MoveIn) if !refused => {
                    let (from, to) = day.span.unzip();
                    let until = whole.start > 0 && tokens[whole.start - 1].is(&["by", "before", "until"]);
                    let from = if until { source.day.filter(|d| to.is_some_and(|t| *d < t)).and(None) } else { from };
                    let sure = if day.exact { 0.9 } else { 0.75 };
                    self.wishes.move_in = Some(source.found(Days { from, to }, words, sure));
                }
                _ => {}
            }
            at = whole.end;
        }
    }

    fn tour_day(&mut self, day: &dates::Named, words: &str, source: Source) {
        let former = self.wishes.tour.take().filter(|t| !t.value.off);
        let (from, to) = day.span.unzip();
        let known = former.as_ref().map(|t| t.value.clone()).unwrap_or_default();
        // The time that was said for another day holds no longer, unless nothing but the day is said.
        let tour = Tour { from, to, day_words: Some(words.to_owned()), off: false, ..known };
        self.wishes.tour = Some(source.found(tour, words, if day.exact { 0.9 } else { 0.7 }));
    }

    fn time(&mut self, s: &Sentence<'_>, at: usize, used: &mut [bool], touring: &[usize], source: Source) {
        let tokens = s.tokens();
        let about = !touring.is_empty() || self.asked.contains(&Slot::Tour) || self.about == Some(About::Tour);
        if !about || s.has(ELSEWHERE) {
            return;
        }
        let part = ["morning", "afternoon", "evening"].into_iter().find(|p| tokens[at].is(&[p]));
        let time = dates::time(tokens, at);
        if part.is_none() && time.is_none() {
            return;
        }
        let Some(tour) = &mut self.wishes.tour else { return };
        if let Some((length, time)) = time {
            used[at..at + length].iter_mut().for_each(|u| *u = true);
            tour.value.time = Some(time);
            tour.message = source.message;
        } else if !(at > 0 && tokens[at - 1].is(&["good"])) {
            tour.value.part = part.map(str::to_owned);
        }
    }

    /// Numbers that stand alone: answers to what was asked, and corrections of what was said last.
    fn bare(&mut self, s: &Sentence<'_>, used: &[bool], source: Source) {
        let tokens = s.tokens();
        let corrects = s.has(&["actually", "meant", "instead", "mean", "sorry", "change", "oops", "woops", "wait"])
            || s.says(&["make", "it"])
            || s.says(&["make", "that"]);
        let mut open: Vec<Slot> = self
            .asked
            .iter()
            .copied()
            .filter(|s| matches!(s, Slot::Bedrooms | Slot::Bathrooms | Slot::Budget | Slot::Floor))
            .collect();
        let done = |slot: &Slot, w: &Wishes| match slot {
            Slot::Bedrooms => w.bedrooms.as_ref().is_some_and(|f| f.message == source.message),
            Slot::Bathrooms => w.bathrooms.as_ref().is_some_and(|f| f.message == source.message),
            Slot::Budget => w.budget.as_ref().is_some_and(|f| f.message == source.message),
            _ => w.floor.as_ref().is_some_and(|f| f.message == source.message),
        };
        open.retain(|slot| !done(slot, &self.wishes));
        for (at, token) in tokens.iter().enumerate() {
            let Some(n) = token.number.filter(|_| !used[at] && !token.ordinal) else { continue };
            // `that one`, `one of them`: no number at all.
            let pronoun = token.is(&["one"])
                && (at > 0
                    && tokens[at - 1].is(&[
                        "that", "this", "the", "which", "another", "first", "second", "last", "looking", "for", "next",
                        "nice", "good",
                    ])
                    || tokens.get(at + 1).is_some_and(|n| n.is(&["of", "in", "that", "more", "with", "is", "on"])));
            if pronoun
                || tokens.get(at + 1).is_some_and(|n| {
                    n.is(&["minutes", "minute", "hours", "people", "years", "%", "am", "pm", "days", "weeks"])
                })
            {
                continue;
            }
            let slot = open
                .iter()
                .copied()
                .find(|slot| fits(*slot, n))
                .or_else(|| self.last.filter(|slot| corrects && fits(*slot, n)));
            let Some(slot) = slot else { continue };
            open.retain(|o| *o != slot);
            let span = rooms::bounds(tokens, at, at + 1, n);
            let found = source.found(span, s.words(at..at + 1), 0.85);
            self.put(slot, found);
        }
    }

    /// Without the other side's words, a message of one number still says something.
    fn bare_alone(&mut self, text: &Text<'_>, source: Source) {
        let mut numbers = text.tokens.iter().filter(|t| t.number.is_some());
        let (Some(token), None) = (numbers.next(), numbers.next()) else { return };
        let others = text
            .tokens
            .iter()
            .filter(|t| t.wordy() && !t.is(&["please", "about", "around", "just", "only", "at", "least", "most"]));
        let Some(n) = token.number.filter(|_| !token.ordinal && others.count() == 0) else { return };
        if fits(Slot::Bedrooms, n) && self.wishes.bedrooms.is_none() && n >= 1.0 {
            self.put(Slot::Bedrooms, source.found(Span::just(n), token.text, 0.5));
        } else if (200.0..20_000.0).contains(&n) && self.wishes.budget.as_ref().is_none_or(|b| b.confidence <= 0.5) {
            self.put(Slot::Budget, source.found(Span { min: None, max: Some(n) }, token.text, 0.5));
        }
    }

    pub(super) fn put(&mut self, slot: Slot, found: Found<Span>) {
        self.last = Some(slot);
        match slot {
            Slot::Bedrooms => self.wishes.bedrooms = Some(found),
            Slot::Bathrooms => self.wishes.bathrooms = Some(found),
            Slot::Floor => self.wishes.floor = Some(found),
            Slot::Budget => {
                let span = found.value;
                let (min, max) = if span.min == span.max { (None, span.max) } else { (span.min, span.max) };
                let currency = self.wishes.budget.as_ref().and_then(|b| b.value.currency.clone());
                self.wishes.budget = Some(Found {
                    value: Budget { min, max, currency },
                    message: found.message,
                    words: found.words,
                    confidence: found.confidence,
                });
            }
            _ => {}
        }
    }

    pub(super) fn amenity(&mut self, name: &str, wanted: bool, words: &str, confidence: f64, source: Source) {
        self.wishes.amenities.retain(|a| a.value.name != name);
        let value = Amenity { name: name.to_owned(), wanted };
        self.wishes.amenities.push(source.found(value, words, confidence));
    }
}

fn fits(slot: Slot, n: f64) -> bool {
    match slot {
        Slot::Bedrooms => (0.0..=9.0).contains(&n) && n.fract() == 0.0,
        Slot::Bathrooms => (0.5..=9.0).contains(&n) && (n * 2.0).fract() == 0.0,
        Slot::Budget => (100.0..100_000.0).contains(&n),
        Slot::Floor => (0.0..=120.0).contains(&n) && n.fract() == 0.0,
        _ => false,
    }
}

fn cues(tokens: &[Token<'_>], is: impl Fn(usize, &Token<'_>) -> bool) -> Vec<usize> {
    tokens.iter().enumerate().filter(|(at, t)| is(*at, t)).map(|(at, _)| at).collect()
}

/// Whether a sentence asks something.
pub(super) fn asks(text: &Text<'_>, run: Range<usize>) -> bool {
    let tokens = &text.tokens[run];
    let marked = tokens.iter().rev().take(2).any(|t| t.is(&["?"]));
    let first = tokens
        .iter()
        .find(|t| t.wordy() && !t.is(&["and", "so", "ok", "okay", "also", "oh", "hi", "hello", "hey", "great", "but"]));
    let opens = first.is_some_and(|t| {
        t.is(&[
            "is", "are", "does", "do", "what", "what's", "whats", "which", "how", "when", "where", "who", "can",
            "could", "would", "will", "any", "may", "should", "has", "have",
        ])
    });
    marked || opens
}
