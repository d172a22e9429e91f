//! Names of persons, taken apart.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray, StructArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Fields};

use super::{Arity, Function, strings};

/// The parts of a person's name, each as it was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PersonName {
    /// What stands before the name: Dr., Mrs., Sir.
    pub title: Option<String>,
    /// The given name.
    pub given: Option<String>,
    /// Everything between given and family name.
    pub middle: Option<String>,
    /// The family name with its particles.
    pub family: Option<String>,
    /// What stands behind the name: Jr., III, MD.
    pub suffix: Option<String>,
    /// The name that friends use, when it is written in quotes or brackets.
    pub nickname: Option<String>,
    /// The family name at birth.
    pub maiden: Option<String>,
}

fn fields() -> Fields {
    ["title", "given", "middle", "family", "suffix", "nickname", "maiden"]
        .into_iter()
        .map(|n| Field::new(n, DataType::Utf8, true))
        .collect()
}

pub(super) fn all() -> Vec<Function> {
    vec![Function::text("person_name", Arity::Between(1, 1), DataType::Struct(fields()), |args| {
        let names: Vec<_> = strings(&args[0]).iter().map(|n| n.and_then(person_name)).collect();
        let parts: [fn(&PersonName) -> &Option<String>; 7] =
            [|n| &n.title, |n| &n.given, |n| &n.middle, |n| &n.family, |n| &n.suffix, |n| &n.nickname, |n| &n.maiden];
        let columns = parts.into_iter().map(|part| {
            Arc::new(names.iter().map(|n| n.as_ref().and_then(|n| part(n).as_deref())).collect::<StringArray>())
                as ArrayRef
        });
        let nulls: NullBuffer = names.iter().map(Option::is_some).collect::<Vec<_>>().into();
        Ok(Arc::new(StructArray::try_new(fields(), columns.collect(), Some(nulls))?))
    })]
}

/// Words before a name after which a lone name is the family name.
const TITLES: &str = " mr mrs ms miss mx dr doctor prof professor rev reverend fr father pastor rabbi imam hon honorable \
    judge justice attorney senator sen rep representative gov governor lt lieutenant col colonel capt captain maj major gen \
    general sgt sergeant cpl corporal pvt adm admiral cmdr lord baron freiherr greve herr herra frau monsieur madame mme mlle \
    señor señora señorita sr sra srta don doña ing mgr cllr councillor president secretary minister ambassador owura chancellor \
    проф ";
/// Words before a name after which a lone name is the given name.
const GIVEN_TITLES: &str = " sir dame sheikh sheik shaikh prince princess king queen duke duchess count countess mother \
    brother sister swami pope saint majesty highness aunt uncle lady ";
/// Words that are part of a title only in front of one.
const TITLE_STARTS: &str = " the his her right royal very most ";
/// Words behind a name, in any letters.
const SUFFIXES: &str = " jr sr junior snr jnr esq esquire phd md mds dds dmd dvm dpt jd llb llm mba cpa cfa cfp clu lutc ceo rn \
    crna lpn np bsn msn rpt pe pmp pma psm psmi cissp mbchb mbbs edd psyd dphil mphil beng msc bsc mfa lac obe mbe cbe kbe qc kc mp knt \
    usmc usn usaf ret cpt ii iii iv vi vii viii ix mlađi júnior filho neto younger elder ";
/// Credentials that are also names or words: they count only in capitals.
const CAPITAL_SUFFIXES: &str = " MA BA BS MS PA DO SI ED DM MC AB RA MSW MPH ";
/// Words that belong to the family name behind them.
const PARTICLES: &str = " van von vom der den de del della di da do dos das du des la le lo ter ten zu zur af av bin ibn ben \
    al el st ste san santa mac mc vd ó o' d' ’t 't dello degli dal abu ap ";
/// Words that make one given name with the word behind them.
const BOUND_GIVEN: &str = " abd abdul abdel abu umm عبد ابو ";
/// Words that introduce the name at birth.
const BIRTH: &str = " née nee né geb geborene rozená 旧姓 ";
/// Endings that Japanese, Korean and Chinese politeness adds to a name.
const POLITE: [&str; 12] = ["선생님", "박사님", "さん", "様", "先生", "社長", "씨", "님", "ちゃん", "くん", "議員", "박사"];

fn listed(list: &str, word: &str) -> bool {
    let word = word.trim_end_matches(['.', ',']);
    let plain = word.replace('.', "").to_lowercase();
    !plain.is_empty() && list.contains(&format!(" {plain} "))
}

fn is_title(word: &str) -> bool {
    word.split_inclusive('.').all(|w| listed(TITLES, w) || listed(GIVEN_TITLES, w))
}

fn is_capital_suffix(word: &str) -> bool {
    CAPITAL_SUFFIXES.contains(&format!(" {word} "))
}

/// Whether the word stands behind a name by itself, whatever is around it.
fn is_suffix(word: &str) -> bool {
    let word = word.trim_end_matches(';');
    let dotted = word.matches('.').count() >= 2 && word.split('.').all(|w| w.chars().count() <= 2);
    let degree = word.contains('.') && ["ph.d", "m.d", "d.d.s", "msc.ed", "m.eng", "b.tech"].iter().any(|d| word.to_lowercase().starts_with(d));
    listed(SUFFIXES, word) || degree || (dotted && word.ends_with('.') && word.chars().count() > 3 && listed(SUFFIXES, word))
}

fn is_roman_letter(word: &str) -> bool {
    matches!(word.trim_end_matches('.'), "V" | "I" | "i")
}

fn is_particle(word: &str) -> bool {
    listed(PARTICLES, word) || word.ends_with('-') || (word.ends_with(['\'', '’']) && word.chars().count() == 2)
}

/// Whether the word joins the names on its two sides.
fn joins(word: &str, all_capitals: bool) -> bool {
    matches!(word, "y" | "i") || (all_capitals && word == "Y")
}

fn joined(words: &[String]) -> Option<String> {
    Some(words.join(" ")).filter(|w| !w.is_empty())
}

fn push(part: &mut Option<String>, more: &str, between: &str) {
    match part {
        Some(part) => {
            part.push_str(between);
            part.push_str(more);
        }
        None => *part = Some(more.to_owned()),
    }
}

/// `person_name(text)`: the parts of the name of one person; `None` when the text holds no word.
///
/// Western order is given, middle, family; `Family, Given` and suffixes behind commas are understood, so are titles,
/// particles (`van der`), names at birth (`née`), nicknames in quotes or brackets, and couples (`John and Mary Smith`,
/// whose given name is then `John and Mary`). Names in Han, Kana or Hangul have the family name first.
pub fn person_name(text: &str) -> Option<PersonName> {
    let mut name = PersonName::default();
    let rest = take_asides(text, &mut name);
    let mut parts: Vec<Vec<&str>> =
        rest.split([',', '،', '，']).map(|p| p.split_whitespace().filter(|w| w.chars().any(char::is_alphanumeric) || *w == "&").collect()).collect();
    let leads_with_comma = parts.first().is_some_and(Vec::is_empty) && parts.len() > 1;
    parts.retain(|p: &Vec<&str>| !p.is_empty());
    match parts.split_first() {
        None => {}
        Some((only, [])) if leads_with_comma && only.iter().all(|w| is_suffix(w)) => name.suffix = Some(only.join(" ")),
        Some((only, [])) => western(only, &mut name),
        Some((first, rest)) => {
            // Behind a comma stand either the given names or nothing but titles and suffixes.
            let names_before = first.iter().filter(|w| !is_title(w) && !is_suffix(w)).count();
            let many = names_before >= 2 && !is_particle(first[0]);
            let behind = |w: &&str| {
                is_suffix(w) || is_title(w) && (many || w.ends_with('.') || !first.is_empty() && rest[0].len() == 1 && !is_capital_suffix(w))
                    || is_capital_suffix(w)
                    || (many && (is_roman_letter(w) || w.chars().count() > 1 && w.matches('.').count() > 1))
                    || matches!(*w, "and" | "-")
            };
            if rest[0].iter().all(|w| behind(&w)) {
                western(first, &mut name);
                if name.family.is_none() && name.given.is_some() {
                    name.family = name.given.take();
                } else if !many && name.middle.is_none() && names_before <= 2 && first.len() > 1 && name.title.is_none() && is_particle(first[0]) {
                    name.family = Some(first.join(" "));
                    name.given = None;
                }
                for part in rest {
                    let (titles, suffixes): (Vec<&str>, Vec<&str>) = part.iter().partition(|w| is_title(w) && !is_capital_suffix(w) || **w == "and");
                    if !titles.is_empty() {
                        push(&mut name.title, &titles.join(" "), " ");
                    }
                    if !suffixes.is_empty() {
                        push(&mut name.suffix, &suffixes.join(" "), ", ");
                    }
                }
            } else {
                family_first(first, rest, &mut name);
            }
        }
    }
    (name != PersonName::default()).then_some(name)
}

/// Takes what stands in quotes and brackets out of the text.
fn take_asides(text: &str, name: &mut PersonName) -> String {
    const PAIRS: [(char, &[char]); 8] = [
        ('"', &['"']),
        ('“', &['”', '"']),
        ('”', &['”']),
        ('«', &['»']),
        ('(', &[')']),
        ('（', &['）']),
        ('『', &['』']),
        ('｢', &['｣']),
    ];
    let mut rest = String::with_capacity(text.len());
    let mut tail = text;
    while let Some((at, close)) = tail
        .char_indices()
        .find_map(|(at, c)| PAIRS.iter().find(|(open, _)| *open == c).map(|(_, close)| (at, *close)))
    {
        let open = tail[at..].chars().next().map_or(0, char::len_utf8);
        let Some(end) = tail[at + open..].find(close) else { break };
        let inside = tail[at + open..at + open + end].trim();
        rest.push_str(&tail[..at]);
        rest.push(' ');
        let words: Vec<&str> = inside.split_whitespace().collect();
        match birth_name(&words) {
            Some((0, skip)) if words.len() > skip => name.maiden = Some(words[skip..].join(" ")),
            _ if inside.is_empty() => {}
            _ if is_suffix(inside) || is_capital_suffix(inside) => push(&mut name.suffix, inside, ", "),
            _ if is_title(inside) && inside.ends_with('.') => push(&mut name.title, inside, " "),
            _ => push(&mut name.nickname, inside, " "),
        }
        let closing = tail[at + open + end..].chars().next().map_or(0, char::len_utf8);
        tail = &tail[at + open + end + closing..];
    }
    rest.push_str(tail);
    rest
}

/// Where the name at birth is introduced, and by how many words.
fn birth_name(words: &[&str]) -> Option<(usize, usize)> {
    words.iter().enumerate().find_map(|(i, w)| {
        if w.eq_ignore_ascii_case("z") && words.get(i + 1).is_some_and(|n| n.eq_ignore_ascii_case("domu")) {
            return Some((i, 2));
        }
        listed(BIRTH, w).then_some((i, 1))
    })
}

/// Takes the titles off the front.
fn take_titles<'a>(words: &mut Vec<&'a str>, name: &mut PersonName) -> bool {
    let mut count = 0;
    let mut given_follows = false;
    while let Some(word) = words.get(count) {
        let more = words.get(count + 1);
        if is_title(word) {
            given_follows = listed(GIVEN_TITLES, word);
            count += 1;
        } else if (listed(TITLE_STARTS, word) && more.is_some_and(|m| is_title(m) || listed(TITLE_STARTS, m)))
            || (matches!(*word, "and" | "&" | "y") && count > 0 && more.is_some_and(|m| is_title(m)))
        {
            count += 1;
        } else if *word == "of" && count > 0 && more.is_some() {
            count += 2;
        } else {
            break;
        }
    }
    // `Lord` alone is a name, and so is the last word of all.
    if count > 0 && (count < words.len() || words.len() > 1) {
        push(&mut name.title, &words.drain(..count).collect::<Vec<_>>().join(" "), " ");
    } else {
        given_follows = false;
    }
    given_follows
}

/// Takes suffixes, and titles that stand behind, off the end.
fn take_suffixes(words: &mut Vec<&str>, least: usize, name: &mut PersonName) {
    let mut suffix = Vec::new();
    let mut title = Vec::new();
    loop {
        let names = words.len();
        let Some(word) = words.last().copied() else { break };
        let two_words = names > least + 1 && format!("{} {word}", words[names - 2]).eq_ignore_ascii_case("ph. d.");
        if two_words {
            suffix.insert(0, "Ph. D.");
            words.truncate(names - 2);
        } else if names > least && (is_suffix(word) || (names > 2.max(least) && (is_capital_suffix(word) || is_roman_letter(word)))) {
            suffix.insert(0, word);
            words.pop();
        } else if names > least && word.ends_with('.') && is_title(word) && word.len() > 2 {
            title.insert(0, word);
            words.pop();
        } else {
            break;
        }
    }
    if !suffix.is_empty() {
        push(&mut name.suffix, &suffix.join(" "), ", ");
    }
    if !title.is_empty() {
        push(&mut name.title, &title.join(" "), " ");
    }
}

/// Binds particles to the word behind them, and `y`, `and` to the words on both sides.
fn units(words: &[&str]) -> Vec<String> {
    let capitals = words.iter().all(|w| !w.chars().any(char::is_lowercase));
    let mut units: Vec<String> = Vec::new();
    let mut i = 0;
    while i < words.len() {
        let mut unit = words[i].to_owned();
        let mut bound = is_particle(words[i]) && (i > 0 || words[i].starts_with(char::is_lowercase));
        while bound && i + 1 < words.len() {
            i += 1;
            unit = format!("{unit} {}", words[i]);
            bound = is_particle(words[i]) || matches!(words[i], "und" | "e" | "y") && i + 1 < words.len() && is_particle(words[i + 1]);
        }
        if matches!(unit.as_str(), "&" | "and" | "und") && !units.is_empty() && i + 1 < words.len() {
            i += 1;
            let last = units.len() - 1;
            units[last] = format!("{} {unit} {}", units[last], words[i]);
        } else if joins(&unit, capitals) && units.len() > 1 && i + 1 < words.len() {
            let last = units.len() - 1;
            units[last] = format!("{} {unit}", units[last]);
            let mut more = true;
            while more && i + 1 < words.len() {
                i += 1;
                units[last] = format!("{} {}", units[last], words[i]);
                more = is_particle(words[i]);
            }
        } else {
            units.push(unit);
        }
        i += 1;
    }
    units
}

/// `[Title] Given [Middle] Family [Suffix]`.
fn western(words: &[&str], name: &mut PersonName) {
    if words.iter().any(|w| w.chars().any(is_east_asian)) {
        return eastern(words, name);
    }
    let mut words = words.to_vec();
    let given_follows = take_titles(&mut words, name);
    if let Some((at, skip)) = birth_name(&words).filter(|(at, skip)| *at > 0 && at + skip < words.len() && !is_particle(words[at - 1])) {
        let mut birth = words.split_off(at);
        birth.drain(..skip);
        take_suffixes(&mut birth, 1, name);
        name.maiden = Some(birth.join(" "));
    }
    take_suffixes(&mut words, 1, name);
    let mut units = units(&words);
    if units.len() > 1 && listed(BOUND_GIVEN, &units[0]) && (units.len() > 2 || given_follows) {
        let bound = units.remove(1);
        units[0] = format!("{} {bound}", units[0]);
    }
    match units.len() {
        0 => {}
        1 => {
            let lone = units.swap_remove(0);
            let family = (name.title.is_some() && !given_follows)
                || (lone.split(' ').count() > 1 && is_particle(lone.split(' ').next().unwrap_or_default()))
                || name.nickname.is_some()
                || name.maiden.is_some();
            if family { name.family = Some(lone) } else { name.given = Some(lone) }
        }
        _ => {
            name.family = units.pop();
            name.given = Some(units.remove(0));
            name.middle = joined(&units);
        }
    }
}

/// `Family, [Title] Given [Middle] [particles] [, Suffix]`.
fn family_first(family: &[&str], rest: &[Vec<&str>], name: &mut PersonName) {
    let mut family = family.to_vec();
    take_titles_before_family(&mut family, name);
    if let Some((at, skip)) = birth_name(&family).filter(|(at, skip)| *at > 0 && at + skip < family.len()) {
        name.maiden = Some(family[at + skip..].join(" "));
        family.truncate(at);
    }
    take_suffixes(&mut family, 1, name);
    let mut family = family.join(" ");
    let mut given = rest[0].clone();
    let outer = name.suffix.take();
    take_titles(&mut given, name);
    take_suffixes(&mut given, 1, name);
    if given.len() > 1 {
        let particles = given.iter().rev().take_while(|w| is_particle(w)).count().min(given.len() - 1);
        if particles > 0 {
            family = format!("{} {family}", given.split_off(given.len() - particles).join(" "));
        }
    }
    if let Some(outer) = outer {
        let inner = name.suffix.take();
        name.suffix = Some(inner.map_or(outer.clone(), |inner| format!("{outer}, {inner}")));
    }
    let mut units: Vec<String> = given.iter().map(|w| (*w).to_owned()).collect();
    if units.len() > 1 && listed(BOUND_GIVEN, &units[0]) && !listed(BIRTH, &units[1]) {
        let bound = units.remove(1);
        units[0] = format!("{} {bound}", units[0]);
    }
    // `Ann and Bob` share the family name.
    if units.len() > 2 && matches!(units[1].as_str(), "&" | "and") {
        let couple: Vec<String> = units.drain(..3).collect();
        units.insert(0, couple.join(" "));
    }
    if !units.is_empty() {
        name.given = Some(units.remove(0));
        name.middle = joined(&units);
    }
    name.family = Some(family);
    for part in &rest[1..] {
        push(&mut name.suffix, &part.join(" "), ", ");
    }
}

fn take_titles_before_family(family: &mut Vec<&str>, name: &mut PersonName) {
    if family.len() > 1 && is_title(family[0]) {
        take_titles(family, name);
    }
}

fn is_east_asian(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3005}'..='\u{3007}' | '\u{3400}'..='\u{9fff}' | '\u{ac00}'..='\u{d7af}' | '\u{ff66}'..='\u{ff9f}')
}

/// Family name first, unless all is in Katakana, as names of other languages are.
fn eastern(words: &[&str], name: &mut PersonName) {
    let mut words = words.to_vec();
    if let Some((at, skip)) = birth_name(&words).filter(|(at, skip)| *at > 0 && at + skip < words.len()) {
        name.maiden = Some(words[at + skip..].join(" "));
        words.truncate(at);
    }
    while words.len() > 1 && words.last().is_some_and(|w| POLITE.contains(&w.trim_end_matches(['.', '．', '｡']))) {
        if let Some(word) = words.pop() {
            let inner = name.suffix.take();
            name.suffix = Some(inner.map_or(word.to_owned(), |inner| format!("{word} {inner}")));
        }
    }
    let katakana = |w: &str| w.chars().all(|c| matches!(c, '\u{30a0}'..='\u{30ff}' | '\u{ff66}'..='\u{ff9f}'));
    if let [one] = words[..] {
        if let Some((first, second)) = one.split_once(['·', '・']) {
            let western = first.chars().count() > 1 && (katakana(first) && katakana(second) || one.contains('·'));
            let (given, family) = if western { (first, second) } else { (second, first) };
            name.given = Some(given.to_owned());
            name.family = Some(family.to_owned());
            return;
        }
        let mut whole = one;
        if let Some(polite) = POLITE.iter().find(|p| one.len() > p.len() && one.ends_with(**p)) {
            whole = &one[..one.len() - polite.len()];
            push(&mut name.suffix, polite, ", ");
        }
        let hangul = whole.chars().all(|c| matches!(c, '\u{ac00}'..='\u{d7af}'));
        let first = whole.chars().next().map_or(0, char::len_utf8);
        if hangul && whole.chars().count() == 3 {
            name.family = Some(whole[..first].to_owned());
            name.given = Some(whole[first..].to_owned());
        } else if katakana(whole) && name.suffix.is_none() {
            name.given = Some(whole.to_owned());
        } else {
            name.family = Some(whole.to_owned());
        }
        return;
    }
    let western = words.iter().all(|w| katakana(w));
    let (first, rest) = (words[0].to_owned(), words[1..].join(" "));
    (name.given, name.family) = if western { (Some(first), Some(rest)) } else { (Some(rest), Some(first)) };
}
