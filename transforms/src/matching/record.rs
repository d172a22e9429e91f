//! One person's values, normalised and packed into one run of bytes, so that a million of them fit and a comparison
//! touches two places in memory.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::block::Says;
use super::nicknames;
use super::normalise as tidy;

/// The values of one person as they were written. What is not known is left out.
#[derive(Debug, Clone, Copy, Default)]
pub struct Person<'a> {
    /// The given name, with or without middle names.
    pub given_name: Option<&'a str>,
    /// The family name.
    pub family_name: Option<&'a str>,
    /// The whole name; looked at only where neither part is given.
    pub name: Option<&'a str>,
    /// The e-mail address.
    pub email: Option<&'a str>,
    /// The phone number.
    pub phone: Option<&'a str>,
    /// The day of birth in any usual form.
    pub birth_date: Option<&'a str>,
    /// House number, street and flat.
    pub street: Option<&'a str>,
    /// The town.
    pub city: Option<&'a str>,
    /// State or province.
    pub state: Option<&'a str>,
    /// The postal code.
    pub postcode: Option<&'a str>,
}

/// Text parts in the order in which they are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Given,
    Family,
    Email,
    Phone,
    Number,
    Street,
    Unit,
    City,
    State,
    Postcode,
}

const PARTS: usize = 10;
/// Lengths of the parts, the generation, the day of birth, the sounds of given and family name.
const HEADER: usize = PARTS + 1 + 4 + 4 + 4;

/// One person, normalised for comparing. Two records with equal bytes say the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    bytes: Box<[u8]>,
}

impl Record {
    /// Normalises a person's values. `region` is the country of phone numbers that name none, as an ISO 3166-1 alpha-2
    /// code. Never fails: what says nothing is left out.
    pub fn new(person: &Person<'_>, region: &str) -> Self {
        let mut bytes = Vec::with_capacity(192);
        pack(person, region, &mut bytes);
        Self { bytes: bytes.into() }
    }

    /// The blocking keys: two records are worth comparing when they share one. They do not depend on other records, so an
    /// index can store them.
    pub fn keys(&self) -> Vec<u64> {
        self.keys_that_say(Says::Little)
    }

    /// Those of the keys that say at least this much. The others only cost time where each key is looked up by itself.
    pub fn keys_that_say(&self, least: Says) -> Vec<u64> {
        let mut keys = super::block::keys(&self.view(), least);
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    pub(super) fn of(view: &View<'_>) -> Self {
        Self { bytes: view.whole().into() }
    }

    pub(super) fn view(&self) -> View<'_> {
        View::new(&self.bytes)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Appends the packed form of a person.
pub(super) fn pack(person: &Person<'_>, region: &str, out: &mut Vec<u8>) {
    let mut given = person.given_name;
    let mut family = person.family_name;
    let parsed;
    let mut generation = 0;
    if let (None, None, Some(name)) = (given, family, person.name) {
        parsed = crate::functions::person_name(tidy::head(name, 400));
        if let Some(parts) = &parsed {
            given = parts.given.as_deref();
            family = parts.family.as_deref();
            let suffix = parts.suffix.as_deref().unwrap_or_default().trim_end_matches('.').to_lowercase();
            generation = tidy::generation(&suffix);
        }
    }
    let (given, first) = tidy::name_part(given, 40);
    let (family, last) = tidy::name_part(family, 40);
    let generation = [last, first, generation].into_iter().find(|g| *g != 0).unwrap_or(0);
    let street = tidy::street(person.street);
    let email = tidy::email(person.email);
    let phone = tidy::phone(person.phone, region);
    let city = tidy::city(person.city);
    let state = tidy::state(person.state);
    let postcode = tidy::postcode(person.postcode);
    let texts: [&str; PARTS] = [
        given.as_deref().unwrap_or_default(),
        family.as_deref().unwrap_or_default(),
        email.as_deref().unwrap_or_default(),
        phone.as_deref().unwrap_or_default(),
        &street.number,
        &street.name,
        &street.unit,
        city.as_deref().unwrap_or_default(),
        state.as_deref().unwrap_or_default(),
        postcode.as_deref().unwrap_or_default(),
    ];
    // All parts are cut to 80 bytes at most.
    out.extend(texts.iter().map(|t| t.len() as u8));
    out.push(generation);
    out.extend(tidy::birth(person.birth_date).to_le_bytes());
    out.extend(tidy::sound(nicknames::full(first_word(texts[0].as_bytes()))).to_le_bytes());
    out.extend(tidy::sound(texts[1].as_bytes()).to_le_bytes());
    for text in texts {
        out.extend(text.as_bytes());
    }
}

/// The first word of folded text.
pub(super) fn first_word(text: &[u8]) -> &[u8] {
    text.split(|b| *b == b' ').next().unwrap_or_default()
}

/// A packed record, taken apart.
#[derive(Debug, Clone, Copy)]
pub(super) struct View<'a> {
    bytes: &'a [u8],
    ends: [u16; PARTS],
    /// Which of several people of one name; nought when unknown.
    pub(super) generation: u8,
    /// `yyyymmdd`; nought when unknown.
    pub(super) birth: u32,
    /// The sound of the first given name, nicknames replaced; nought when unknown.
    pub(super) given_sound: u32,
    /// The sound of the family name; nought when unknown.
    pub(super) family_sound: u32,
}

impl<'a> View<'a> {
    /// Reads the record that these bytes begin with.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        let mut ends = [0; PARTS];
        let mut end = HEADER as u16;
        for (part, length) in ends.iter_mut().zip(bytes) {
            end += u16::from(*length);
            *part = end;
        }
        let number = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        Self {
            bytes,
            ends,
            generation: bytes[PARTS],
            birth: number(PARTS + 1),
            given_sound: number(PARTS + 5),
            family_sound: number(PARTS + 9),
        }
    }

    /// Whether these bytes are one packed record, no more and no less.
    pub(super) fn is_whole(bytes: &[u8]) -> bool {
        let length: usize = bytes.iter().take(PARTS).map(|l| usize::from(*l)).sum();
        bytes.len() == HEADER + length
    }

    /// One part; empty when unknown.
    pub(super) fn part(&self, part: Part) -> &'a [u8] {
        let at = part as usize;
        let start = if at == 0 { HEADER } else { usize::from(self.ends[at - 1]) };
        &self.bytes[start..usize::from(self.ends[at])]
    }

    /// The record's own bytes.
    pub(super) fn whole(&self) -> &'a [u8] {
        &self.bytes[..usize::from(self.ends[PARTS - 1])]
    }

    /// Name and domain of the e-mail address; no domain when the text is none.
    pub(super) fn mailbox(&self) -> (&'a [u8], &'a [u8]) {
        let email = self.part(Part::Email);
        match email.iter().position(|b| *b == b'@') {
            Some(at) => (&email[..at], &email[at + 1..]),
            None => (email, &[]),
        }
    }

    /// A number for house, street and flat; `None` without a street.
    pub(super) fn house(&self) -> Option<u64> {
        let (number, street) = (self.part(Part::Number), self.part(Part::Street));
        (!street.is_empty() && !number.is_empty()).then(|| {
            let flat = hash(3, self.part(Part::Unit));
            hash(1, number) ^ hash(2, street).rotate_left(21) ^ flat.rotate_left(42)
        })
    }
}

/// A hash that differs for each kind of value.
pub(super) fn hash(kind: u64, bytes: &[u8]) -> u64 {
    xxh3_64_with_seed(bytes, kind)
}
