//! The scalar functions under arbitrary text.

use proptest::prelude::*;
use transforms::functions::{date_lenient, email_canonical, flag, money, person_name, phone_e164, snake, time_zone};

/// Text that has broken programs before: controls, marks of direction, surrogate neighbours, quotes, injections.
const NASTY: &[&str] = &[
    "",
    " ",
    "\0",
    "\u{feff}",
    "\u{202e}abc",
    "\u{200b}",
    "\u{fffd}",
    "﷽",
    "Z̴̧a̷l̶g̵o̸",
    "👩‍👩‍👧‍👦",
    "🏳️‍🌈",
    "ß",
    "ﬁ",
    "İ",
    "ẞ",
    "０１２",
    "١٢٣",
    "undefined",
    "NULL",
    "NaN",
    "-Infinity",
    "1e309",
    "0x1F",
    "1/0",
    "' or 1=1 --",
    "<script>alert(1)</script>",
    "../../etc/passwd",
    "%s%n",
    "\u{1b}[31m",
    "${HOME}",
    "(((((((((((",
    "\"\"\"\"\"\"",
    "«««»»»",
    "@@@@@",
    "<<>>",
    "a@b@c",
    "+",
    "++1",
    "tel:",
    "tel:+1",
    ";ext=",
    "ext",
    "x",
    "née",
    "(née)",
    "&",
    "and",
    ",,,,",
    "Mr.",
    "Jr., Jr., Jr.",
    "of of of",
    "Dr. of",
    "y y y",
    "van der",
    "-",
    "--",
    "()",
    "$",
    "€-",
    "(-)",
    "-(5)",
    "1.1.1",
    "1,1,1",
    "99999999999999999999999999999999999999999999999999",
];

fn all(text: &str) {
    money(text);
    date_lenient(text);
    flag(text);
    time_zone(text);
    phone_e164(text, "US");
    phone_e164(text, text);
    person_name(text);
    if let Some(word) = snake(text) {
        assert_eq!(snake(&word), Some(word), "snake of {text:?}");
    }
    if let Some(address) = email_canonical(text) {
        assert_eq!(email_canonical(&address), Some(address), "e-mail of {text:?}");
    }
    if let Some(number) = phone_e164(text, "US") {
        assert_eq!(phone_e164(&number, "GB"), Some(number), "phone of {text:?}");
    }
}

#[test]
fn no_function_breaks_on_nasty_text() {
    for a in NASTY {
        for b in NASTY {
            all(&format!("{a}{b}"));
            all(&format!("{a} {b}"));
            all(&format!("{a}, {b}"));
        }
    }
}

proptest! {
    #[test]
    fn no_function_breaks_on_any_text(text in any::<String>()) {
        all(&text);
    }

    #[test]
    fn no_function_breaks_on_text_of_its_own_kind(text in "[-+().,;:@<>\"'&#$€ /a-zA-Z0-9éß’٣]{0,40}") {
        all(&text);
    }

    #[test]
    fn an_amount_survives_every_way_of_writing_it(hundredths in -99_999_999_999_999_i64..=99_999_999_999_999) {
        let plain = hundredths.unsigned_abs();
        let (whole, part) = (plain / 100, plain % 100);
        let grouped = |sign: &str| {
            let digits = whole.to_string();
            let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(|g| std::str::from_utf8(g).unwrap()).collect();
            groups.join(sign)
        };
        let minus = if hundredths < 0 { "-" } else { "" };
        let mut forms = vec![
            format!("{minus}{whole}.{part:02}"),
            format!("{minus}${}.{part:02}", grouped(",")),
            format!("USD {minus}{}.{part:02}", grouped(",")),
            format!("{minus}{},{part:02} €", grouped(".")),
            format!("{minus}{},{part:02}", grouped("\u{a0}")),
        ];
        if hundredths < 0 {
            forms.push(format!("({}.{part:02})", grouped(",")));
        }
        for form in forms {
            prop_assert_eq!(money(&form), Some(i128::from(hundredths)), "{}", form);
        }
    }

    #[test]
    fn a_number_is_the_same_with_and_without_its_dress(area in 201_u32..=989, line in 0_u32..=99) {
        let forms = [
            format!("{area}55501{line:02}"),
            format!("({area}) 555-01{line:02}"),
            format!("+1 {area} 555 01{line:02}"),
            format!("1-{area}-555-01{line:02} x12"),
            format!("{area}.555.01{line:02}"),
        ];
        let first = phone_e164(&forms[0], "US");
        for form in &forms[1..] {
            prop_assert_eq!(phone_e164(form, "US"), first.clone(), "{}", form);
        }
        if let Some(number) = first {
            prop_assert_eq!(number, format!("+1{area}55501{line:02}"));
        }
    }

    #[test]
    fn an_address_is_the_same_with_and_without_its_dress(local in "[a-z][a-z0-9]{0,10}(\\.[a-z0-9]{1,5})?", domain in "[a-z]{1,8}\\.example") {
        let plain = format!("{local}@{domain}");
        for form in [plain.to_uppercase(), format!(" {plain} "), format!("<{plain}>"), format!("Jane Doe <{plain}>"), format!("mailto:{plain}")] {
            prop_assert_eq!(email_canonical(&form), Some(plain.clone()), "{}", form);
        }
    }

    /// Taking a name apart loses no word of it.
    #[test]
    fn a_name_keeps_its_words(given in "[A-Z][a-z]{2,8}", family in "[A-Z][a-z]{3,9}x") {
        for form in [format!("{given} {family}"), format!("{family}, {given}"), format!("  {given}   {family} ")] {
            let name = person_name(&form).unwrap();
            let words: Vec<_> = [name.title, name.given, name.middle, name.family, name.suffix].into_iter().flatten().collect();
            let mut words: Vec<_> = words.join(" ").split(' ').map(str::to_owned).collect();
            words.sort();
            let mut wanted = vec![given.clone(), family.clone()];
            wanted.sort();
            prop_assert_eq!(words, wanted, "{}", form);
        }
    }
}

#[test]
fn names_come_apart_as_people_read_them() {
    let parts = |text: &str| {
        let n = person_name(text).unwrap_or_default();
        [n.title, n.given, n.middle, n.family, n.suffix, n.nickname, n.maiden].map(Option::unwrap_or_default).join("|")
    };
    for (text, expected) in [
        ("Jane Example", "|Jane||Example|||"),
        ("Example, Jane Q.", "|Jane|Q.|Example|||"),
        ("Dr. Jane van der Example Jr.", "Dr.|Jane||van der Example|Jr.||"),
        ("Example, Jane, PhD", "|Jane||Example|PhD||"),
        ("Jane \"Janey\" Example (née Sample)", "|Jane||Example||Janey|Sample"),
        ("Mr. and Mrs. John Example", "Mr. and Mrs.|John||Example|||"),
        ("John & Mary Example", "|John & Mary||Example|||"),
        ("Example, John and Mary", "|John and Mary||Example|||"),
        ("Mrs. Example", "Mrs.|||Example|||"),
        ("Jane", "|Jane|||||"),
        ("de la Example, Juan", "|Juan||de la Example|||"),
        ("Juan Sample y Example", "|Juan||Sample y Example|||"),
    ] {
        assert_eq!(parts(text), expected, "{text}");
    }
    assert_eq!(person_name(" , "), None);
}

#[test]
fn what_is_not_one_address_is_refused() {
    for text in [
        "",
        "jane",
        "jane@",
        "@mail.example",
        "jane@mail",
        "a@b.example, c@d.example",
        "a..b@mail.example",
        "a@-mail.example",
        "a@[10.0.0.1]",
        "a b@mail.example",
    ] {
        assert_eq!(email_canonical(text), None, "{text}");
    }
}

#[test]
fn what_is_not_one_number_is_refused() {
    for text in [
        "",
        "n/a",
        "555-0142",
        "(251) 555-0142 or (251) 555-0143",
        "2515550142 2515550143",
        "000-000-0000",
        "251-555-014O2x",
    ] {
        assert_eq!(phone_e164(text, "US"), None, "{text}");
    }
}
