//! The probability that two records are one person, after Fellegi and Sunter, with the reasons.
//!
//! Three kinds of pairs are told apart: one person twice, two strangers, and two people of one household. For each kind
//! and field the scorer knows how often a level is seen; a pair's odds are those of the first kind against the other two.
//! Without the third kind, brother and sister would look like one person: family name, address and phone agree, and
//! counted one by one they outweigh the names and birthdays that differ.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::compare::{self, ALL, FIELDS, Field, LEVELS, Levels, MISSING};
use super::names;
use super::record::{Part, Record, View, hash};

/// What decides whether two records are one person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Probabilities after Fellegi and Sunter.
    #[default]
    FellegiSunter,
    /// The fixed rule 0.4 for the same e-mail address, 0.3 for the same phone, 0.3 for the same name. Above 0.9 is out of
    /// reach without all three, so that it merges nobody who leaves out a phone.
    Seed,
}

/// A rule and the probabilities from which on it acts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Profile {
    /// The rule.
    pub rule: Rule,
    /// Above this, two records are merged without asking, between 0 and 1.
    pub merge: f64,
    /// Above this, and not above `merge`, a person looks at the pair.
    pub review: f64,
    /// From this on, a run over many records puts two into one cluster.
    pub cluster: f64,
}

impl Default for Profile {
    fn default() -> Self {
        Self { rule: Rule::FellegiSunter, merge: 0.999, review: 0.5, cluster: 0.7 }
    }
}

impl Profile {
    /// The fixed rule with its own limits: above 0.9 merge, above 0.7 review, above 0.8 a match.
    pub fn seed() -> Self {
        Self { rule: Rule::Seed, merge: 0.9, review: 0.7, cluster: 0.8 }
    }
}

/// What to do with a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Two people.
    New,
    /// Somebody has to look.
    Review,
    /// One person.
    Merge,
}

/// What to do with a scored pair.
pub fn decide(profile: &Profile, scored: &Scored) -> Decision {
    if scored.probability > profile.merge {
        Decision::Merge
    } else if scored.probability > profile.review {
        Decision::Review
    } else {
        Decision::New
    }
}

/// How one field of a pair agrees, and what that says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FieldScore {
    /// The field.
    pub field: &'static str,
    /// How it agrees.
    pub level: &'static str,
    /// The evidence in bits: above nought for one person, below for two.
    pub weight: f64,
}

/// A scored pair and the reasons: `weight` is the sum of `prior`, `household` and the fields' weights.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Scored {
    /// The probability that both are one person.
    pub probability: f64,
    /// The logarithm to base 2 of the odds.
    pub weight: f64,
    /// What is known before the two are looked at: how rare pairs of one person are.
    pub prior: f64,
    /// How far a common household explains what agrees; nought or below.
    pub household: f64,
    /// The fields that both records have.
    pub fields: Vec<FieldScore>,
}

/// Values are hashed already.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxhash_rust::xxh3::xxh3_64(bytes);
    }
    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

pub(super) type Counts = HashMap<u64, u32, BuildHasherDefault<Hashed>>;

/// The kinds of values whose frequency counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub(super) enum Term {
    Given = 11,
    Family,
    Email,
    Phone,
    House,
    Town,
    Code,
    Birth,
    Domain,
}

impl Term {
    pub(super) const ALL: [Term; 9] = [
        Term::Given,
        Term::Family,
        Term::Email,
        Term::Phone,
        Term::House,
        Term::Town,
        Term::Code,
        Term::Birth,
        Term::Domain,
    ];

    /// The value of a record, hashed; `None` when unknown.
    pub(super) fn of(self, view: &View<'_>) -> Option<u64> {
        let part = |part| Some(view.part(part)).filter(|p: &&[u8]| !p.is_empty()).map(|p| self.hash(p));
        match self {
            Term::Given => part(Part::Given),
            Term::Family => part(Part::Family),
            Term::Email => part(Part::Email),
            Term::Phone => part(Part::Phone),
            Term::House => view.house(),
            Term::Town => part(Part::City),
            Term::Code => part(Part::Postcode),
            Term::Birth => (view.birth != 0).then(|| self.hash(&view.birth.to_le_bytes())),
            Term::Domain => Some(view.mailbox().1).filter(|d| !d.is_empty()).map(|d| self.hash(d)),
        }
    }

    pub(super) fn hash(self, value: &[u8]) -> u64 {
        hash(self as u64, value)
    }

    /// Whether it counts how many people share a value, and not how many records have it.
    pub(super) fn shared(self) -> bool {
        matches!(self, Term::Email | Term::Phone | Term::House)
    }
}

/// One number for each level of each field.
pub(super) type Rates = [[f64; LEVELS]; FIELDS];

/// Scores pairs. It holds no record, only what it learned about fields and values; scoring is pure and symmetric.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Scorer {
    /// What decides.
    pub rule: Rule,
    /// How many records the frequencies are of; nought for the shipped weights.
    pub(super) size: u64,
    /// How likely two records taken at random are one person.
    pub(super) prior: f64,
    /// How likely two records taken at random are two people of one household.
    pub(super) household: f64,
    /// How often a level is seen where two records are one person.
    pub(super) m: Rates,
    /// How often a level is seen between strangers; for the first level of a field with frequencies, the mean.
    pub(super) u: Rates,
    #[serde(with = "counts")]
    pub(super) counts: Counts,
    /// The blocking keys that too many records share.
    #[serde(default)]
    pub(super) plan: super::block::Plan,
}

mod counts {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Counts;

    pub(super) fn serialize<S: Serializer>(counts: &Counts, to: S) -> Result<S::Ok, S::Error> {
        let mut pairs: Vec<(u64, u32)> = counts.iter().map(|(k, v)| (*k, *v)).collect();
        pairs.sort_unstable();
        pairs.serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Counts, D::Error> {
        Ok(Vec::<(u64, u32)>::deserialize(from)?.into_iter().collect())
    }
}

/// A population of a size that is not known: that of a middling property manager.
const SIZE: u64 = 10_000;
/// Pairs of one person that each record is part of, before anything is learned.
const PAIRS_A_RECORD: f64 = 0.15;
/// Pairs of one household that each record is part of, before anything is learned.
const MATES_A_RECORD: f64 = 0.4;

/// How often levels are seen where two records are one person: counted on data of several kinds and rounded. Training
/// starts here.
const M: Rates = [
    [0.78, 0.06, 0.08, 0.03, 0.01, 0.04, 0.0],
    [0.85, 0.08, 0.02, 0.01, 0.04, 0.0, 0.0],
    [1.0, 0.03, 0.0, 0.0, 0.0, 0.0, 0.0],
    [0.99, 0.01, 0.0, 0.0, 0.0, 0.0, 0.0],
    [0.88, 0.07, 0.02, 0.02, 0.01, 0.0, 0.0],
    [0.70, 0.08, 0.04, 0.03, 0.01, 0.14, 0.0],
    [0.72, 0.05, 0.23, 0.0, 0.0, 0.0, 0.0],
    [0.62, 0.12, 0.03, 0.05, 0.01, 0.05, 0.12],
    [0.72, 0.05, 0.06, 0.05, 0.12, 0.0, 0.0],
    [0.75, 0.10, 0.05, 0.10, 0.0, 0.0, 0.0],
];

/// How often levels are seen between strangers.
const U: Rates = [
    [0.006, 0.004, 0.004, 0.015, 0.01, 0.961, 0.0],
    [0.002, 0.003, 0.008, 0.0005, 0.9865, 0.0, 0.0],
    [1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0],
    [0.6, 0.4, 0.0, 0.0, 0.0, 0.0, 0.0],
    [4e-5, 8e-4, 6e-3, 0.04, 0.953, 0.0, 0.0],
    [1e-6, 4e-6, 1e-5, 2e-4, 0.01, 0.9898, 0.0],
    [1e-6, 1e-5, 1.0, 0.0, 0.0, 0.0, 0.0],
    [1e-6, 4e-5, 1e-5, 5e-4, 4e-4, 0.02, 0.979],
    [1e-3, 2e-4, 2e-3, 0.02, 0.977, 0.0, 0.0],
    [0.02, 0.004, 0.08, 0.896, 0.0, 0.0, 0.0],
];

/// The frequencies that a field's levels are weighed with, names apart.
const TERMS: [(Field, Term); 6] = [
    (Field::Birth, Term::Birth),
    (Field::Email, Term::Email),
    (Field::Phone, Term::Phone),
    (Field::Address, Term::House),
    (Field::Postcode, Term::Code),
    (Field::City, Term::Town),
];

/// The level of e-mail addresses that are alike because they are made from one name. It says nothing: names are compared
/// anyway.
pub(super) const MADE: u8 = 4;

/// Takes back what mailbox names say when they only repeat names that agree.
fn lessen_email(a: &View<'_>, b: &View<'_>, levels: &mut Levels) {
    let level = &mut levels[Field::Email as usize];
    if !matches!(*level, 2 | 3) {
        return;
    }
    let made = |v: &View<'_>| {
        let names = [a, b].map(|n| (n.part(Part::Given), n.part(Part::Family)));
        names.iter().any(|(given, family)| compare::made_from_name(v, given, family))
    };
    if made(a) || made(b) {
        let figures = compare::figures(a.mailbox().0).min(compare::figures(b.mailbox().0));
        *level = if figures >= 1_000 { *level } else { MADE };
    }
}

/// Whether a level says more of a rare value than of a common one.
fn is_rated(field: Field, level: u8) -> bool {
    usize::from(level) + 1 < field.levels().len() && !matches!(field, Field::Order | Field::Generation)
}

/// Two pairs of names: levels, frequencies and chances of given and family name.
#[derive(Debug, Clone, Copy)]
struct Names {
    given: u8,
    family: u8,
    frequency: [f32; 2],
    chance: [f64; 2],
}

/// How far two people of one household share a field as one person would, and not as strangers do.
pub(super) const SHARED: [f64; FIELDS] = [0.02, 0.85, 1.0, 0.0, 0.03, 0.10, 0.45, 0.93, 0.93, 0.93];

/// A pair's levels, how common the compared values are, and how likely strangers reach each level by chance.
#[derive(Debug, Clone, Copy)]
pub(super) struct Compared {
    pub(super) levels: Levels,
    pub(super) frequency: [f32; FIELDS],
    pub(super) chance: [f64; FIELDS],
}

impl Scorer {
    /// The scorer with shipped weights, for single records and for few.
    pub fn shipped(rule: Rule) -> Self {
        let size = SIZE as f64;
        Self {
            rule,
            size: 0,
            prior: 2.0 * PAIRS_A_RECORD / size,
            household: 2.0 * MATES_A_RECORD / size,
            m: M,
            u: U,
            counts: Counts::default(),
            plan: super::block::Plan::default(),
        }
    }

    /// The same weights for a population of another size.
    pub(super) fn sized(rule: Rule, records: u64) -> Self {
        let size = records.max(500) as f64;
        let mut scorer = Self::shipped(rule);
        scorer.size = records;
        scorer.prior = 2.0 * PAIRS_A_RECORD / size;
        scorer.household = 2.0 * MATES_A_RECORD / size;
        scorer
    }

    /// Scores a pair, with the reasons.
    pub fn score(&self, a: &Record, b: &Record) -> Scored {
        self.explain(&a.view(), &b.view())
    }

    pub(super) fn explain(&self, a: &View<'_>, b: &View<'_>) -> Scored {
        if self.rule == Rule::Seed {
            return seed(a, b);
        }
        let compared = self.compare(a, b);
        let (same, strangers, mates) = self.likelihoods(&compared);
        let other = strangers + self.household * mates;
        let weight = (self.prior * same / other).log2();
        let fields = ALL
            .iter()
            .filter(|f| compared.levels[**f as usize] != MISSING)
            .filter(|f| **f != Field::Order || compared.levels[Field::Order as usize] == 1)
            .map(|field| {
                let at = *field as usize;
                let level = usize::from(compared.levels[at]);
                let weight = (self.m[at][level] / compared.chance[at]).log2();
                FieldScore { field: field.name(), level: field.levels()[level], weight }
            })
            .collect();
        Scored {
            probability: self.odds_of(&compared) / (1.0 + self.odds_of(&compared)),
            weight,
            prior: self.prior.log2(),
            household: (strangers / other).log2(),
            fields,
        }
    }

    /// The probability that both are one person.
    pub(super) fn probability(&self, a: &View<'_>, b: &View<'_>) -> f64 {
        if self.rule == Rule::Seed {
            return seed(a, b).probability;
        }
        let odds = self.odds_of(&self.compare(a, b));
        odds / (1.0 + odds)
    }

    pub(super) fn odds_of(&self, compared: &Compared) -> f64 {
        let (same, strangers, mates) = self.likelihoods(compared);
        // Bounded, so that a probability stays a number.
        (self.prior * same / (strangers + self.household * mates)).clamp(1e-300, 1e15)
    }

    /// How likely the levels are for one person, for strangers, for two of a household.
    pub(super) fn likelihoods(&self, compared: &Compared) -> (f64, f64, f64) {
        let (mut same, mut strangers, mut mates) = (1.0, 1.0, 1.0);
        for (at, shared) in SHARED.into_iter().enumerate() {
            let level = compared.levels[at];
            if level == MISSING {
                continue;
            }
            let m = self.m[at][usize::from(level)];
            let u = compared.chance[at];
            same *= m;
            strangers *= u;
            // A family does not give one name twice, unless from father to son.
            let chance = if at == Field::Given as usize && level < 5 { 0.4 * u } else { u };
            mates *= shared * m + (1.0 - shared) * chance;
        }
        (same, strangers, mates)
    }

    /// Compares two records.
    pub(super) fn compare(&self, a: &View<'_>, b: &View<'_>) -> Compared {
        let levels = compare::others(a, b, |domain| self.is_provider(domain));
        let mut compared = Compared { levels, frequency: [0.0; FIELDS], chance: [1.0; FIELDS] };
        self.names(a, b, &mut compared);
        lessen_email(a, b, &mut compared.levels);
        let levels = compared.levels;
        for (field, term) in TERMS {
            let level = levels[field as usize];
            if level != MISSING {
                if is_rated(field, level) {
                    let of = |v: &View<'_>| term.of(v).map_or(0.0, |h| self.frequency(term, h, 0.0));
                    let same = level == 0 && !matches!(field, Field::Phone | Field::Address);
                    compared.frequency[field as usize] = if same { of(a) } else { of(a).max(of(b)) } as f32;
                }
                compared.chance[field as usize] = self.chance(field, level, compared.frequency[field as usize]);
            }
        }
        if levels[Field::Generation as usize] != MISSING {
            compared.chance[Field::Generation as usize] =
                self.chance(Field::Generation, levels[Field::Generation as usize], 0.0);
        }
        compared
    }

    /// Takes the chances anew, after the weights changed.
    pub(super) fn rate(&self, compared: &mut Compared) {
        for field in ALL {
            let level = compared.levels[field as usize];
            if level != MISSING && field != Field::Order {
                compared.chance[field as usize] = self.chance(field, level, compared.frequency[field as usize]);
            }
        }
    }

    /// How likely strangers reach a level by chance, where `frequency` is that of the commoner of the two values.
    fn chance(&self, field: Field, level: u8, frequency: f32) -> f64 {
        let at = field as usize;
        let u = self.u[at][usize::from(level)];
        if !is_rated(field, level) {
            return u;
        }
        let frequency = f64::from(frequency);
        if level == 0 {
            return frequency;
        }
        if field == Field::Email && level == MADE {
            return self.m[at][usize::from(level)];
        }
        // What nearly is a common name is common too.
        let slips = if matches!(field, Field::Given | Field::Family | Field::City) { 0.1 } else { 0.0 };
        // Never may a lesser level say more than the same value would.
        let (m, m_same) = (self.m[at][usize::from(level)], self.m[at][0]);
        u.max(slips * frequency).max(m / m_same * frequency)
    }

    /// The names, in the order in which they agree better.
    fn names(&self, a: &View<'_>, b: &View<'_>, compared: &mut Compared) {
        let (ga, fa) = (a.part(Part::Given), a.part(Part::Family));
        let (gb, fb) = (b.part(Part::Given), b.part(Part::Family));
        let straight = Names {
            given: compare::given(ga, gb, (a.given_sound, b.given_sound)),
            family: compare::family(fa, fb, (a.family_sound, b.family_sound)),
            frequency: [0.0; 2],
            chance: [1.0; 2],
        };
        let mut best = self.rated(straight, (ga, gb), (fa, fb), false);
        let full = straight.given != MISSING && straight.family != MISSING;
        let mut order = if full { 0 } else { MISSING };
        // Names that agree as they stand are not looked at crosswise, nor those that do not even begin alike.
        let begin = |x: &[u8], y: &[u8]| x.first().is_some_and(|first| y.first() == Some(first));
        if !(full && straight.given <= 1 && straight.family <= 1) && (begin(ga, fb) || begin(fa, gb)) {
            let mut found = self.evidence(&best);
            // A name is compared as given or as family name, so there are two ways to look crosswise.
            let ways = [
                ((ga, fb), (fa, gb), (a.given_sound, b.family_sound), (a.family_sound, b.given_sound)),
                ((gb, fa), (fb, ga), (b.given_sound, a.family_sound), (b.family_sound, a.given_sound)),
            ];
            for (given, family, given_sounds, family_sounds) in ways {
                let crossed = Names {
                    given: compare::given(given.0, given.1, given_sounds),
                    family: compare::family(family.0, family.1, family_sounds),
                    ..straight
                };
                if crossed.given == MISSING && crossed.family == MISSING {
                    continue;
                }
                let crossed = self.rated(crossed, given, family, true);
                let other = self.evidence(&crossed) * self.m[Field::Order as usize][1];
                // Equal evidence is settled by the levels, so that the order of the pair does not show.
                let key = |n: &Names| (n.given, n.family, n.chance[0].to_bits());
                if other > found || other == found && order == 1 && key(&crossed) < key(&best) {
                    found = other;
                    best = crossed;
                    order = 1;
                }
            }
        }
        compared.levels[Field::Order as usize] = order;
        for (at, field, level) in [(0, Field::Given, best.given), (1, Field::Family, best.family)] {
            compared.levels[field as usize] = level;
            compared.frequency[field as usize] = best.frequency[at];
            compared.chance[field as usize] = best.chance[at];
        }
    }

    /// How much names say for one person.
    fn evidence(&self, names: &Names) -> f64 {
        let of = |field: Field, level: u8, chance: f64| {
            if level == MISSING { 1.0 } else { self.m[field as usize][usize::from(level)] / chance }
        };
        of(Field::Given, names.given, names.chance[0]) * of(Field::Family, names.family, names.chance[1])
    }

    /// Looks up how common two pairs of names are.
    fn rated(&self, mut names: Names, given: (&[u8], &[u8]), family: (&[u8], &[u8]), crossed: bool) -> Names {
        let rate = |term: Term, name: &[u8]| {
            let value = term.hash(name);
            self.frequency(term, value, names::frequency(term, value))
        };
        let common = |term: Term, name: &[u8]| {
            if crossed { rate(Term::Given, name).max(rate(Term::Family, name)) } else { rate(term, name) }
        };
        let of = |field: Field, term: Term, level: u8, pair: (&[u8], &[u8])| {
            if level == MISSING {
                return (0.0, 1.0);
            }
            let frequency = match level {
                0 => common(term, pair.0),
                _ if is_rated(field, level) => common(term, pair.0).max(common(term, pair.1)),
                _ => 0.0,
            } as f32;
            (frequency, self.chance(field, level, frequency))
        };
        (names.frequency[0], names.chance[0]) = of(Field::Given, Term::Given, names.given, given);
        (names.frequency[1], names.chance[1]) = of(Field::Family, Term::Family, names.family, family);
        names
    }

    /// How likely a stranger has this value. `known` is how common it is in general.
    fn frequency(&self, term: Term, value: u64, known: f64) -> f64 {
        let size = self.size as f64;
        let count = self.counts.get(&value).map_or(0.0, |c| f64::from(*c));
        let people = if self.size == 0 { SIZE as f64 } else { size.max(500.0) };
        // For a name, how many other records have it, next to what is known of names in general. For an address or a
        // number, how many other people have it, and now and then one more than the data shows.
        let rate = |weight: f64, known: f64| {
            ((count - 2.0).max(0.0) + 0.5 * size / (size + weight) + weight * known) / (size + weight)
        };
        match term {
            Term::Given | Term::Family => rate(200.0, known),
            Term::Birth => rate(2_000.0, 4e-5),
            Term::Town => rate(100.0, 0.01),
            Term::Code => rate(200.0, 5e-4),
            Term::Email => ((count - 1.0).max(0.0) + 0.02) / people,
            Term::Phone => ((count - 1.0).max(0.0) + 0.05) / people,
            Term::House => ((count - 1.0).max(0.0) + 0.1) / people,
            Term::Domain => 0.0,
        }
    }

    /// Whether a domain is a provider's that many people use.
    fn is_provider(&self, domain: &[u8]) -> bool {
        const PROVIDERS: [&[u8]; 14] = [
            b"gmail.com",
            b"yahoo.com",
            b"hotmail.com",
            b"outlook.com",
            b"aol.com",
            b"icloud.com",
            b"live.com",
            b"msn.com",
            b"comcast.net",
            b"me.com",
            b"att.net",
            b"verizon.net",
            b"sbcglobal.net",
            b"ymail.com",
        ];
        PROVIDERS.contains(&domain)
            || self.counts.get(&Term::Domain.hash(domain)).is_some_and(|c| u64::from(*c) * 200 > self.size.max(2_000))
    }
}

/// The fixed rule.
fn seed(a: &View<'_>, b: &View<'_>) -> Scored {
    let same = |parts: &[Part]| {
        let known = parts.iter().all(|p| !a.part(*p).is_empty() && !b.part(*p).is_empty());
        known.then(|| parts.iter().all(|p| a.part(*p) == b.part(*p)))
    };
    // In hundredths, so that three agreeing fields make exactly one.
    let rules: [(&'static str, u32, &[Part]); 3] =
        [("e-mail", 40, &[Part::Email]), ("phone", 30, &[Part::Phone]), ("name", 30, &[Part::Given, Part::Family])];
    let mut total = 0;
    let mut fields = Vec::new();
    for (field, points, parts) in rules {
        let Some(same) = same(parts) else { continue };
        let points = if same { points } else { 0 };
        total += points;
        let level = if same { "same" } else { "differs" };
        fields.push(FieldScore { field, level, weight: f64::from(points) / 100.0 });
    }
    let probability = f64::from(total) / 100.0;
    Scored { probability, weight: probability, prior: 0.0, household: 0.0, fields }
}
