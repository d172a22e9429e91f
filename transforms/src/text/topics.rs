//! What is talked about.

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use super::Topic;
use super::tokens::Text;

const TOPICS: &[(&str, &str)] = &[
    ("availability", "available availability vacant vacancy vacancies opening openings unit units inventory waitlist"),
    (
        "pricing",
        "price prices rent rents cost costs budget expensive cheaper cheap afford affordable pricing pay payment credits dollars rate rates",
    ),
    (
        "floor_plan",
        "bedroom bedrooms bed beds br bath baths bathroom bathrooms studio layout floorplan sqft square size footage loft den",
    ),
    ("pets", "pet pets dog dogs cat cats puppy kitten breed breeds animal animals"),
    ("tour", "tour tours visit visiting viewing viewings showing showings appointment walkthrough schedule"),
    ("move_in", "move moving movein relocate relocating relocation"),
    ("parking", "parking garage carport car cars"),
    ("laundry", "laundry washer dryer"),
    (
        "amenities",
        "amenities amenity pool gym fitness balcony patio elevator fireplace dishwasher yard storage rooftop furnished unfurnished terrace closet",
    ),
    (
        "location",
        "location area neighborhood city town near nearby close downtown commute walkable transit bus subway school schools",
    ),
    ("lease_terms", "lease leases term terms sublease sublet renewal renew month-to-month cosigner guarantor"),
    (
        "application",
        "apply application applications applicant screening background credit approval approved qualify income",
    ),
    ("fees", "fee fees deposit deposits admin"),
    ("specials", "special specials discount discounts promotion promotions concession concessions deal deals"),
    ("utilities", "utilities utility electric electricity water gas internet wifi heating trash"),
    ("maintenance", "maintenance repair repairs broken leak leaking fix plumbing mold pest roaches bugs"),
    ("safety", "safe safety security secure gated crime doorman"),
    ("noise", "noise noisy loud quiet"),
    ("contact", "phone call email contact number text reach"),
];

static KNOWN: LazyLock<HashMap<&'static str, &'static str>> = LazyLock::new(|| {
    TOPICS.iter().flat_map(|(topic, words)| words.split_whitespace().map(move |w| (w, *topic))).collect()
});

/// What texts talk about: each topic counts once a sentence. The most frequent first, then by name.
pub(super) fn over<'t, 'a: 't>(texts: impl Iterator<Item = &'t Text<'a>>) -> Vec<Topic> {
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    for text in texts {
        for run in &text.sentences {
            let mut here: Vec<&str> =
                text.tokens[run.clone()].iter().filter_map(|t| KNOWN.get(&*t.word).copied()).collect();
            here.sort_unstable();
            here.dedup();
            for topic in here {
                *counts.entry(topic).or_default() += 1;
            }
        }
    }
    let all = f64::from(counts.values().sum::<u32>().max(1));
    let topic = |(topic, count): (&str, u32)| {
        let weight = (f64::from(count) / all * 1_000.0).round() / 1_000.0;
        Topic { topic: topic.to_owned(), count, weight }
    };
    let mut topics: Vec<Topic> = counts.into_iter().map(topic).collect();
    topics.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.topic.cmp(&b.topic)));
    topics
}

/// What a text talks about, the most frequent first.
pub fn key_topics(text: &str) -> Vec<String> {
    over(std::iter::once(&Text::new(text))).into_iter().map(|t| t.topic).collect()
}
