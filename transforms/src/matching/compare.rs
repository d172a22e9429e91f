//! How two records agree, field by field: a level each, best first.

use super::nicknames;
use super::record::{Part, View, first_word};

/// What is compared.
///
/// Street and place are one field in three forms, of which one applies to a pair: both have a street; both have a postal
/// code; only towns and states are left. Parts of one address depend on each other too much to be counted apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(usize)]
pub(super) enum Field {
    Given,
    Family,
    Order,
    Generation,
    Birth,
    Email,
    Phone,
    Address,
    Postcode,
    City,
}

pub(super) const FIELDS: usize = 10;
/// The most levels that a field has.
pub(super) const LEVELS: usize = 7;
/// The level of a field that one of the two leaves out.
pub(super) const MISSING: u8 = u8::MAX;

pub(super) const ALL: [Field; FIELDS] = [
    Field::Given,
    Field::Family,
    Field::Order,
    Field::Generation,
    Field::Birth,
    Field::Email,
    Field::Phone,
    Field::Address,
    Field::Postcode,
    Field::City,
];

impl Field {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Field::Given => "given name",
            Field::Family => "family name",
            Field::Order => "order of names",
            Field::Generation => "generation",
            Field::Birth => "birth date",
            Field::Email => "e-mail",
            Field::Phone => "phone",
            Field::Address => "address",
            Field::Postcode => "postal code",
            Field::City => "town",
        }
    }

    /// The levels, best first.
    pub(super) const fn levels(self) -> &'static [&'static str] {
        match self {
            Field::Given => &["same", "nickname", "near", "sounds alike", "initial", "differs"],
            Field::Family => &["same", "near", "sounds alike", "shared part", "differs"],
            Field::Order => &["as written", "swapped"],
            Field::Generation => &["same", "differs"],
            Field::Birth => &["same", "one digit or day and month swapped", "near", "alike", "differs"],
            Field::Email => &["same", "typo", "same mailbox name", "alike", "made from the name", "differs"],
            Field::Phone => &["same", "one digit", "differs"],
            Field::Address => &[
                "same house and place",
                "same street and place",
                "same house, other place",
                "like street, same place",
                "same street, other place",
                "same place",
                "differs",
            ],
            Field::Postcode => &["same code and town", "same code", "near", "same town", "differs"],
            Field::City => &["same", "near", "same state", "differs"],
        }
    }
}

/// The levels of one pair.
pub(super) type Levels = [u8; FIELDS];

/// The fewest edits (insert, delete, replace, swap two neighbours) from one text to another, or `limit + 1` for more.
pub(super) fn edits(a: &[u8], b: &[u8], limit: usize) -> usize {
    let prefix = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let (a, b) = (&a[prefix..], &b[prefix..]);
    let suffix = a.iter().rev().zip(b.iter().rev()).take_while(|(x, y)| x == y).count();
    let (a, b) = (&a[..a.len() - suffix], &b[..b.len() - suffix]);
    if a.len().abs_diff(b.len()) > limit {
        return limit + 1;
    }
    if a.is_empty() || b.is_empty() {
        return a.len().max(b.len());
    }
    const WIDTH: usize = 81;
    if a.len() >= WIDTH || b.len() >= WIDTH {
        return limit + 1;
    }
    // Only cells within `limit` of the diagonal can count; those beside them are out of reach.
    let far = limit as u8 + 1;
    let mut rows = [[far; WIDTH + 1]; 3];
    for (j, cell) in rows[0].iter_mut().enumerate().take(b.len().min(limit) + 1) {
        *cell = j as u8;
    }
    for i in 1..=a.len() {
        let (now, last, before) = (i % 3, (i + 2) % 3, (i + 1) % 3);
        let from = i.saturating_sub(limit).max(1);
        let to = (i + limit).min(b.len());
        rows[now][from - 1] = if i <= limit { i as u8 } else { far };
        let mut least = rows[now][from - 1];
        for j in from..=to {
            let differs = u8::from(a[i - 1] != b[j - 1]);
            let above = if j < i + limit { rows[last][j] } else { far };
            let mut cell = (above + 1).min(rows[now][j - 1] + 1).min(rows[last][j - 1] + differs);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                cell = cell.min(rows[before][j - 2] + 1);
            }
            let cell = cell.min(far);
            rows[now][j] = cell;
            least = least.min(cell);
        }
        if to < b.len() {
            rows[now][to + 1] = far;
        }
        if usize::from(least) > limit {
            return limit + 1;
        }
    }
    usize::from(rows[a.len() % 3][b.len()]).min(limit + 1)
}

/// The Jaro-Winkler likeness of two texts of up to 64 bytes each, from 0 to 1.
pub(super) fn likeness(a: &[u8], b: &[u8]) -> f32 {
    // In one order, because which letters are paired may depend on it.
    let (a, b) = if (a.len(), a) <= (b.len(), b) { (a, b) } else { (b, a) };
    if a.is_empty() || b.len() > 64 {
        return 0.0;
    }
    let window = (b.len() / 2).saturating_sub(1);
    let (mut in_a, mut in_b) = (0u64, 0u64);
    for (i, letter) in a.iter().enumerate() {
        let from = i.saturating_sub(window);
        let to = (i + window + 1).min(b.len());
        for (j, other) in b.iter().enumerate().take(to).skip(from) {
            if letter == other && in_b & (1 << j) == 0 {
                in_a |= 1 << i;
                in_b |= 1 << j;
                break;
            }
        }
    }
    let common = in_a.count_ones();
    if common == 0 {
        return 0.0;
    }
    let mut rest = in_b;
    let mut crossed = 0;
    for (i, letter) in a.iter().enumerate() {
        if in_a & (1 << i) != 0 {
            let j = rest.trailing_zeros() as usize;
            rest &= rest - 1;
            crossed += u32::from(*letter != b[j]);
        }
    }
    let m = common as f32;
    let jaro = (m / a.len() as f32 + m / b.len() as f32 + (m - (crossed / 2) as f32) / m) / 3.0;
    let prefix = a.iter().zip(b).take(4).take_while(|(x, y)| x == y).count() as f32;
    jaro + prefix * 0.1 * (1.0 - jaro)
}

/// Near: one slip, or two in a longer word. Alike: further away, but hardly by chance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Likeness {
    Same,
    Near,
    Alike,
    Other,
}

fn words(a: &[u8], b: &[u8]) -> Likeness {
    if a == b {
        return Likeness::Same;
    }
    let (short, long) = (a.len().min(b.len()), a.len().max(b.len()));
    if short < 2 {
        return Likeness::Other;
    }
    match edits(a, b, 3) {
        1 if long >= 3 => Likeness::Near,
        2 if short >= 6 => Likeness::Near,
        2 if short >= 4 => Likeness::Alike,
        3 if short >= 8 => Likeness::Alike,
        // So like one another are only words that begin alike, but for those that are few edits apart anyway.
        _ if short >= 4 && a[0] == b[0] && likeness(a, b) >= 0.9 => Likeness::Alike,
        _ => Likeness::Other,
    }
}

/// The level of two given names. A name may be cut, or stand with middle names.
pub(super) fn given(a: &[u8], b: &[u8], sounds: (u32, u32)) -> u8 {
    if a.is_empty() || b.is_empty() {
        return MISSING;
    }
    if a == b {
        return 0;
    }
    let (first_a, first_b) = (first_word(a), first_word(b));
    if first_a.len() == 1 || first_b.len() == 1 {
        return if first_a[0] == first_b[0] { 4 } else { 5 };
    }
    // The first name alone stands for first and middle names.
    if first_a == first_b || nicknames::alike(first_a, first_b) {
        return 1;
    }
    match words(a, b) {
        Likeness::Same | Likeness::Near => 2,
        Likeness::Alike => 3,
        Likeness::Other => {
            let one_in_other =
                first_a.len().min(first_b.len()) >= 3 && (first_a.starts_with(first_b) || first_b.starts_with(first_a));
            let near = first_a.len() != a.len() || first_b.len() != b.len();
            if one_in_other || sounds.0 == sounds.1 || near && words(first_a, first_b) == Likeness::Near {
                3
            } else {
                5
            }
        }
    }
}

/// The level of two family names.
pub(super) fn family(a: &[u8], b: &[u8], sounds: (u32, u32)) -> u8 {
    if a.is_empty() || b.is_empty() {
        return MISSING;
    }
    match words(a, b) {
        Likeness::Same => 0,
        Likeness::Near => 1,
        Likeness::Alike => 2,
        Likeness::Other if sounds.0 == sounds.1 && a.len().min(b.len()) >= 3 => 2,
        Likeness::Other => {
            let part = |word: &&[u8]| word.len() >= 4 && b.split(|c| *c == b' ').any(|w| w == *word);
            if (a.contains(&b' ') || b.contains(&b' ')) && a.split(|c| *c == b' ').any(|w| part(&w)) { 3 } else { 4 }
        }
    }
}

fn birth(a: u32, b: u32) -> u8 {
    if a == 0 || b == 0 {
        return MISSING;
    }
    if a == b {
        return 0;
    }
    let parts = |n: u32| (n / 10_000, n / 100 % 100, n % 100);
    let ((ya, ma, da), (yb, mb, db)) = (parts(a), parts(b));
    if ya == yb && ma == db && da == mb {
        return 1;
    }
    let digits = |mut n: u32| {
        let mut text = [0u8; 8];
        for place in text.iter_mut().rev() {
            *place = (n % 10) as u8;
            n /= 10;
        }
        text
    };
    let slips = edits(&digits(a), &digits(b), 2);
    // Months of 31 days and years of 372 are near enough to say that two days are near.
    let day = |(y, m, d): (u32, u32, u32)| y * 372 + m * 31 + d;
    let same = u8::from(ya == yb) + u8::from(ma == mb) + u8::from(da == db);
    let months = ma.abs_diff(mb);
    if slips == 1 {
        1
    } else if same == 2 || day((ya, ma, da)).abs_diff(day((yb, mb, db))) <= 31 {
        2
    } else if slips == 2 || ya == yb || matches!(ya.abs_diff(yb), 1 | 10) && (months <= 1 || months == 11) {
        3
    } else {
        4
    }
}

/// The level of two e-mail addresses; `common` says whether a domain is a provider's, which many people share.
///
/// Addresses are made from names, so those of two people with one name are alike: `ann.lee7` and `ann.lee8` at a provider
/// say nothing. A slip is believed where the domain is rare, or where the figures behind the name agree.
fn email(a: &View<'_>, b: &View<'_>, common: impl Fn(&[u8]) -> bool) -> u8 {
    let (whole_a, whole_b) = (a.part(Part::Email), b.part(Part::Email));
    if whole_a.is_empty() || whole_b.is_empty() {
        return MISSING;
    }
    if whole_a == whole_b {
        return 0;
    }
    let ((name_a, domain_a), (name_b, domain_b)) = (a.mailbox(), b.mailbox());
    // Most pairs have nothing in common, and that shows at once.
    let begin_alike = name_a.len() >= 3 && name_b.len() >= 3 && name_a[..3] == name_b[..3];
    if !begin_alike && edits(name_a, name_b, 3) > 3 {
        return 5;
    }
    let one_number = figures(whole_a) == figures(whole_b);
    let figured = one_number && figures(name_a) > 9;
    let (common_a, common_b) = (common(domain_a), common(domain_b));
    let short = name_a.len().min(name_b.len());
    if common_a && common_b {
        let slips = edits(name_a, name_b, 2);
        return match (domain_a == domain_b, slips) {
            (true, 1 | 2) if figured && short >= 6 => 1,
            (false, 0) if figured || short >= 12 => 2,
            (true, 1) if one_number && short >= 6 => 3,
            (false, 0 | 1) if one_number && short >= 4 => 3,
            _ => 5,
        };
    }
    let whole = whole_a.len().min(whole_b.len());
    let slips = edits(whole_a, whole_b, 4);
    let typo = slips <= 2 && whole >= 8 || slips <= 4 && whole >= 16;
    // The same rare domain, or nearly, with figures that agree.
    if typo && one_number {
        return 1;
    }
    if name_a == name_b && (figured || short >= 12) {
        return 2;
    }
    if typo || name_a == name_b && short >= 4 || likeness(whole_a, whole_b) >= 0.9 && one_number { 3 } else { 5 }
}

/// Whether the name of a mailbox follows from a person's name, but for a figure.
pub(super) fn made_from_name(view: &View<'_>, given: &[u8], family: &[u8]) -> bool {
    let (mailbox, _) = view.mailbox();
    let mut letters = [0u8; 80];
    let mut length = 0;
    for letter in mailbox.iter().filter(|b| b.is_ascii_lowercase()) {
        letters[length] = *letter;
        length += 1;
    }
    let letters = &letters[..length];
    let (given, family) = (first_word(given), family);
    // Both names, or one and an initial, in any order; or one of them.
    let part = |name: &[u8]| -> bool {
        if name.len() < 3 {
            return false;
        }
        let rest = if letters.starts_with(name) {
            &letters[name.len()..]
        } else if letters.ends_with(name) {
            &letters[..letters.len() - name.len()]
        } else {
            return false;
        };
        let other = if std::ptr::eq(name, given) { family } else { given };
        rest.len() <= 1 || other.starts_with(rest) || edits(rest, other, 1) <= 1
    };
    part(given)
        || part(family)
        || length >= 6 && given.len() + family.len() == length && edits(letters, &[given, family].concat(), 2) <= 2
}

/// The digits of a text, as one number.
pub(super) fn figures(text: &[u8]) -> u64 {
    text.iter().filter(|b| b.is_ascii_digit()).fold(0, |n, b| n.wrapping_mul(10).wrapping_add(u64::from(b - b'0')))
}

fn phone(a: &[u8], b: &[u8]) -> u8 {
    if a.is_empty() || b.is_empty() {
        return MISSING;
    }
    // A number with and without its country code is one number.
    let tail = |n: &[u8], m: &[u8]| n.len() >= 7 && m.len() > n.len() && m.len() <= n.len() + 4 && m.ends_with(n);
    if a == b || tail(a, b) || tail(b, a) {
        0
    } else if edits(a, b, 1) == 1 && a.len() >= 7 {
        1
    } else {
        2
    }
}

fn towns(a: &[u8], b: &[u8]) -> Option<Likeness> {
    (!a.is_empty() && !b.is_empty()).then(|| words(a, b))
}

/// Sets one of the three address fields.
fn address(a: &View<'_>, b: &View<'_>, levels: &mut Levels) {
    let (code_a, code_b) = (a.part(Part::Postcode), b.part(Part::Postcode));
    let town = towns(a.part(Part::City), b.part(Part::City));
    let both_codes = !code_a.is_empty() && !code_b.is_empty();
    let code = both_codes.then(|| if code_a == code_b { 0 } else { edits(code_a, code_b, 1) });
    let (state_a, state_b) = (a.part(Part::State), b.part(Part::State));
    let same_state = !state_a.is_empty() && state_a == state_b;
    let (street_a, street_b) = (a.part(Part::Street), b.part(Part::Street));
    if !street_a.is_empty() && !street_b.is_empty() {
        let place = match (code, town) {
            (Some(0), _) | (_, Some(Likeness::Same | Likeness::Near)) => true,
            (Some(1), Some(Likeness::Alike)) => true,
            (Some(1), None) => true,
            (None, None) => same_state,
            _ => false,
        };
        let (number_a, number_b) = (a.part(Part::Number), b.part(Part::Number));
        let (unit_a, unit_b) = (a.part(Part::Unit), b.part(Part::Unit));
        let house = !number_a.is_empty()
            && number_a == number_b
            && (unit_a == unit_b || unit_a.is_empty() || unit_b.is_empty());
        // The type of a street is left out, shortened and misspelt more than its name.
        let (first_a, first_b) = (first_word(street_a), first_word(street_b));
        let street = match words(street_a, street_b) {
            Likeness::Other if first_a.len() >= 4 && first_a == first_b => Likeness::Alike,
            other => other,
        };
        levels[Field::Address as usize] = match (street, house, place) {
            (Likeness::Same | Likeness::Near, true, true) => 0,
            (Likeness::Same | Likeness::Near, false, true) => 1,
            (Likeness::Same, true, false) => 2,
            (Likeness::Near, true, false) => 4,
            (Likeness::Alike, _, true) => 3,
            (Likeness::Alike, true, false) | (Likeness::Same, false, false) => 4,
            (_, _, true) => 5,
            _ => 6,
        };
        return;
    }
    if let Some(code) = code {
        levels[Field::Postcode as usize] = match (code, town) {
            (0, None | Some(Likeness::Same | Likeness::Near)) => 0,
            (0, _) => 1,
            (1, None | Some(Likeness::Same | Likeness::Near)) => 2,
            (_, Some(Likeness::Same | Likeness::Near)) => 3,
            _ => 4,
        };
        return;
    }
    levels[Field::City as usize] = match town {
        Some(Likeness::Same) => 0,
        Some(Likeness::Near | Likeness::Alike) => 1,
        _ if same_state => 2,
        None if state_a.is_empty() || state_b.is_empty() => MISSING,
        _ => 3,
    };
}

/// All levels but those of the names, which depend on the order in which they were written.
pub(super) fn others(a: &View<'_>, b: &View<'_>, common: impl Fn(&[u8]) -> bool) -> Levels {
    let mut levels = [MISSING; FIELDS];
    levels[Field::Birth as usize] = birth(a.birth, b.birth);
    levels[Field::Email as usize] = email(a, b, common);
    levels[Field::Phone as usize] = phone(a.part(Part::Phone), b.part(Part::Phone));
    if a.generation != 0 && b.generation != 0 {
        levels[Field::Generation as usize] = u8::from(a.generation != b.generation);
    }
    address(a, b, &mut levels);
    levels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_count_swaps_as_one() {
        for (a, b, n) in [("", "", 0), ("abc", "abc", 0), ("abc", "acb", 1), ("smith", "smyth", 1), ("ab", "", 2)] {
            assert_eq!(edits(a.as_bytes(), b.as_bytes(), 3), n, "{a} {b}");
            assert_eq!(edits(b.as_bytes(), a.as_bytes(), 3), n, "{b} {a}");
        }
        assert_eq!(edits(b"kitten", b"sitting", 2), 3);
        // Against the whole table, over all short words of two letters.
        let words: Vec<Vec<u8>> = (0..7u32)
            .flat_map(|n| (0..1u32 << n).map(move |bits| (0..n).map(|i| b'a' + (bits >> i & 1) as u8).collect()))
            .collect();
        for a in &words {
            for b in words.iter().step_by(3) {
                let whole = plain_edits(a, b);
                for limit in 1..5 {
                    assert_eq!(edits(a, b, limit), whole.min(limit + 1), "{a:?} {b:?} {limit}");
                }
            }
        }
        assert_eq!(edits(&[b'a'; 300], &[b'b'; 300], 2), 3);
    }

    fn plain_edits(a: &[u8], b: &[u8]) -> usize {
        let mut d = vec![vec![0; b.len() + 1]; a.len() + 1];
        for i in 0..=a.len() {
            for j in 0..=b.len() {
                d[i][j] = if i == 0 || j == 0 {
                    i.max(j)
                } else {
                    let differs = usize::from(a[i - 1] != b[j - 1]);
                    let cell = (d[i - 1][j] + 1).min(d[i][j - 1] + 1).min(d[i - 1][j - 1] + differs);
                    let swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                    if swapped { cell.min(d[i - 2][j - 2] + 1) } else { cell }
                };
            }
        }
        d[a.len()][b.len()]
    }

    #[test]
    fn likeness_is_that_of_jaro_and_winkler() {
        for (a, b, wanted) in [("martha", "marhta", 0.9611), ("dwayne", "duane", 0.84), ("dixon", "dicksonx", 0.8133)] {
            assert!((likeness(a.as_bytes(), b.as_bytes()) - wanted).abs() < 1e-3, "{a} {b}");
            assert_eq!(likeness(a.as_bytes(), b.as_bytes()), likeness(b.as_bytes(), a.as_bytes()));
        }
    }

    #[test]
    fn days_of_birth_have_five_levels() {
        assert_eq!(birth(19_710_624, 19_710_624), 0);
        assert_eq!(birth(19_710_604, 19_710_406), 1);
        assert_eq!(birth(19_710_624, 19_170_624), 1);
        assert_eq!(birth(20_091_221, 20_100_120), 2);
        assert_eq!(birth(20_051_208, 20_151_106), 3);
        assert_eq!(birth(19_710_624, 19_830_201), 4);
    }
}
