//! What an event means, by the words of the site that wrote it.

use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::reader::Event;

/// Whose calendar it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// Airbnb's export, both header formats.
    Airbnb,
    /// VRBO's and its sister sites'.
    Vrbo,
    /// Booking.com's, which tells bookings from blocks in no way.
    Booking,
    /// Anyone else's.
    Generic,
}

/// What takes the nights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A guest's stay.
    Reserved,
    /// A stay that is asked for and not yet certain.
    Tentative,
    /// Closed, for whatever reason.
    Blocked,
}

impl Kind {
    /// The word in the wire rows.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Reserved => "reserved",
            Kind::Tentative => "tentative",
            Kind::Blocked => "blocked",
        }
    }

    /// Whether a guest stands behind it.
    pub fn is_stay(self) -> bool {
        self != Kind::Blocked
    }
}

/// What an event was found to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meaning {
    /// What takes the nights.
    pub kind: Kind,
    /// The site's confirmation code.
    pub code: Option<String>,
    /// The guest's first name.
    pub first_name: Option<String>,
    /// The summary without the guest.
    pub title: Option<String>,
    /// The description without what belongs to the guest alone.
    pub notes: Option<String>,
}

impl Dialect {
    /// The dialect of a calendar, by the program that wrote it.
    pub fn of_product(product: Option<&str>) -> Self {
        let product = product.unwrap_or_default().to_ascii_lowercase();
        let says = |word: &str| product.contains(word);
        match () {
            () if says("airbnb") => Dialect::Airbnb,
            () if says("homeaway") || says("vrbo") => Dialect::Vrbo,
            () if says("booking.com") => Dialect::Booking,
            () => Dialect::Generic,
        }
    }

    /// The site, in the words that reservations use for where a guest booked.
    pub fn platform(self) -> Option<&'static str> {
        match self {
            Dialect::Airbnb => Some("airbnb"),
            Dialect::Vrbo => Some("vrbo"),
            Dialect::Booking => Some("booking.com"),
            Dialect::Generic => None,
        }
    }

    /// Whether a stay may get another UID when its dates change.
    pub fn rotates_ids(self) -> bool {
        self == Dialect::Vrbo
    }

    /// Whether what it calls closed may be a guest's stay.
    pub fn hides_stays(self) -> bool {
        matches!(self, Dialect::Booking | Dialect::Generic)
    }

    /// What an event means. `otherwise` is what it is taken for when its words say nothing and the dialect has no rule.
    pub fn meaning(self, event: &Event, nights: i64, otherwise: Kind) -> Meaning {
        let summary = event.summary.as_deref().unwrap_or_default();
        let description = event.description.as_deref().unwrap_or_default();
        let title = event.summary.clone();
        let plain = |kind| Meaning { kind, code: None, first_name: None, title: title.clone(), notes: None };
        match self {
            Dialect::Airbnb => {
                let code = code(description).or_else(|| code(summary));
                let uid = event.uid.as_deref().unwrap_or_default();
                let reserved =
                    uid.starts_with("1418fb94e984-") || code.is_some() || word(summary).0 == Some(Kind::Reserved);
                // The last digits of a phone stand below the address: of the description only that is kept.
                let notes = description.lines().map(str::trim).find(|line| line.contains("://")).map(str::to_owned);
                match reserved {
                    true => Meaning { code, notes, ..plain(Kind::Reserved) },
                    false => plain(Kind::Blocked),
                }
            }
            Dialect::Vrbo => {
                let (known, rest) = word(summary);
                let name = rest.or_else(|| separated(summary).map(|(_, name)| name));
                let kind = match known {
                    Some(kind) => kind,
                    None if name.is_some() || cancelled(event) => Kind::Reserved,
                    None => Kind::Blocked,
                };
                let first_name = name.filter(|_| kind.is_stay()).map(str::to_owned);
                let title = match (&first_name, separated(summary)) {
                    (Some(_), Some((front, _))) => Some(front.to_owned()),
                    _ => title.clone(),
                };
                Meaning { first_name, title, ..plain(kind) }
            }
            Dialect::Booking => Meaning { notes: event.description.clone(), ..plain(Kind::Blocked) },
            Dialect::Generic => {
                let code = code(description).or_else(|| code(summary));
                let tentative = event.status.as_deref() == Some("TENTATIVE");
                let kind = match word(summary).0 {
                    // A word alone does not make a stay of a whole season: those are closed times almost always.
                    Some(Kind::Reserved) if nights > LONG && code.is_none() => otherwise,
                    Some(Kind::Reserved) if tentative => Kind::Tentative,
                    Some(kind) => kind,
                    None if code.is_some() => Kind::Reserved,
                    None if tentative => Kind::Tentative,
                    None if cancelled(event) => Kind::Reserved,
                    None => otherwise,
                };
                Meaning { code, notes: event.description.clone(), ..plain(kind) }
            }
        }
    }
}

/// Nights beyond which an event is hardly ever a stay.
const LONG: i64 = 90;

/// Whether an event says that it is called off. Blocks are withdrawn, not cancelled, so it was a stay.
pub(super) fn cancelled(event: &Event) -> bool {
    event.status.as_deref() == Some("CANCELLED")
}

/// `HM` and what belongs to it: Airbnb's confirmation code, wherever it stands as a word of its own.
fn code(text: &str) -> Option<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric());
    words
        .filter(|word| word.starts_with("HM") && (6..=14).contains(&word.len()))
        .find(|word| {
            // `HMS Beagle` is no code: those have eight further characters, older ones fewer but with a digit.
            word.len() == 10 || word.bytes().any(|byte| byte.is_ascii_digit())
        })
        .map(str::to_owned)
}

/// The words before a summary's ` - `, and what stands behind it.
fn separated(summary: &str) -> Option<(&str, &str)> {
    let (front, rest) =
        [" - ", " – ", " — "].iter().filter_map(|dash| summary.split_once(dash)).min_by_key(|(f, _)| f.len())?;
    let (front, rest) = (front.trim(), rest.trim());
    (!front.is_empty() && !rest.is_empty()).then_some((front, rest))
}

/// What the leading words of a summary say, and what stands behind a dash.
fn word(summary: &str) -> (Option<Kind>, Option<&str>) {
    let (front, rest) = separated(summary).map_or((summary, None), |(front, rest)| (front, Some(rest)));
    let plain = plain(front);
    let begins = |phrase: &str| plain.strip_prefix(phrase).is_some_and(|rest| !rest.starts_with(char::is_alphanumeric));
    // The longest phrase counts: `nicht verfügbar` is more than `nicht`.
    let known = PHRASES.iter().filter(|(phrase, _)| begins(phrase)).max_by_key(|(phrase, _)| phrase.len());
    (known.map(|(_, kind)| *kind), rest)
}

/// Lower case without accents, one space between words, so that a list of words need not know every spelling.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars().flat_map(char::to_lowercase) {
        match c {
            'à' | 'á' | 'â' | 'ã' | 'å' => plain.push('a'),
            'ç' => plain.push('c'),
            'è' | 'é' | 'ê' | 'ë' => plain.push('e'),
            'ì' | 'í' | 'î' | 'ï' => plain.push('i'),
            'ñ' => plain.push('n'),
            'ò' | 'ó' | 'ô' | 'õ' | 'ø' => plain.push('o'),
            'ù' | 'ú' | 'û' => plain.push('u'),
            'ä' | 'æ' => plain.push_str("ae"),
            'ö' | 'œ' => plain.push_str("oe"),
            'ü' => plain.push_str("ue"),
            'ß' => plain.push_str("ss"),
            // Combining accents, for text that is not composed.
            '\u{300}'..='\u{36f}' => {}
            c if c.is_whitespace() => {
                if !plain.ends_with(' ') {
                    plain.push(' ');
                }
            }
            c => plain.push(c),
        }
    }
    plain.trim().to_owned()
}

/// English, French, Spanish, German, Italian, Portuguese, Dutch, and the Nordic sister sites.
const WORDS: &[(Kind, &[&str])] = &[
    (
        Kind::Reserved,
        &[
            "reserved",
            "booked",
            "reservation",
            "booking",
            "réservé",
            "réservée",
            "réservation",
            "reservado",
            "reservada",
            "reserva",
            "reserviert",
            "gebucht",
            "buchung",
            "reservierung",
            "prenotato",
            "prenotata",
            "prenotazione",
            "riservato",
            "riservata",
            "gereserveerd",
            "geboekt",
            "boeking",
            "reservering",
            "reserveret",
            "reserverad",
            "reservert",
            "bokad",
            "varattu",
        ],
    ),
    (
        Kind::Tentative,
        &[
            "tentative",
            "tentatively",
            "pending",
            "provisional",
            "on hold",
            "hold",
            "provisoire",
            "en attente",
            "provisorio",
            "provisória",
            "provisoria",
            "provvisorio",
            "provvisoria",
            "tentativo",
            "tentativa",
            "pendiente",
            "pendente",
            "in sospeso",
            "in attesa",
            "vorläufig",
            "vorlaufig",
            "vorgemerkt",
            "ausstehend",
            "unbestätigt",
            "voorlopig",
            "in optie",
            "foreløbig",
            "preliminär",
            "alustava",
        ],
    ),
    (
        Kind::Blocked,
        &[
            "blocked",
            "block",
            "blocked off",
            "not available",
            "unavailable",
            "closed",
            "owner",
            "owner stay",
            "maintenance",
            "airbnb (not available)",
            "indisponible",
            "non disponible",
            "bloqué",
            "bloquée",
            "fermé",
            "no disponible",
            "bloqueado",
            "bloqueada",
            "cerrado",
            "nicht verfügbar",
            "nicht verfugbar",
            "blockiert",
            "geblockt",
            "gesperrt",
            "geschlossen",
            "belegt",
            "non disponibile",
            "bloccato",
            "bloccata",
            "chiuso",
            "indisponível",
            "não disponível",
            "fechado",
            "niet beschikbaar",
            "onbeschikbaar",
            "geblokkeerd",
            "gesloten",
            "blokeret",
            "blockerad",
            "blokkert",
            "ikke tilgængelig",
            "ei saatavilla",
        ],
    ),
];

/// The words as [`plain`] writes them.
static PHRASES: LazyLock<Vec<(String, Kind)>> =
    LazyLock::new(|| WORDS.iter().flat_map(|(kind, words)| words.iter().map(|word| (plain(word), *kind))).collect());

#[cfg(test)]
mod tests {
    use super::*;

    fn event(uid: &str, summary: &str, description: &str) -> Event {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Event { uid: some(uid), summary: some(summary), description: some(description), ..Event::default() }
    }

    fn kind(dialect: Dialect, summary: &str) -> (Kind, Option<String>) {
        let meaning = dialect.meaning(&event("u", summary, ""), 3, Kind::Blocked);
        (meaning.kind, meaning.first_name)
    }

    #[test]
    fn vrbo_speaks_many_languages() {
        for (summary, expected, name) in [
            ("Reserved - Mira", Kind::Reserved, Some("Mira")),
            ("Reserved", Kind::Reserved, None),
            ("Réservée - M & Mme", Kind::Reserved, Some("M & Mme")),
            ("Re\u{301}serve\u{301}e - Zoë", Kind::Reserved, Some("Zoë")),
            ("RESERVIERT – Jean-Luc", Kind::Reserved, Some("Jean-Luc")),
            ("Prenotata - A & B", Kind::Reserved, Some("A & B")),
            ("Reservado - Inés", Kind::Reserved, Some("Inés")),
            ("Gereserveerd - Saskia", Kind::Reserved, Some("Saskia")),
            ("Provisoire - Léa", Kind::Tentative, Some("Léa")),
            ("Vorläufig - Uwe", Kind::Tentative, Some("Uwe")),
            ("Voorlopig - Bas", Kind::Tentative, Some("Bas")),
            ("Tentative - Owen", Kind::Tentative, Some("Owen")),
            ("Blocked", Kind::Blocked, None),
            ("Blocked - by me", Kind::Blocked, None),
            ("Indisponível", Kind::Blocked, None),
            ("Nicht  verfügbar", Kind::Blocked, None),
            ("Niet beschikbaar", Kind::Blocked, None),
            // Words of no list: a stay only if somebody is named.
            ("Заброньовано - Олена", Kind::Reserved, Some("Олена")),
            ("Заблоковано", Kind::Blocked, None),
            ("", Kind::Blocked, None),
            ("Reservedly", Kind::Blocked, None),
        ] {
            assert_eq!(kind(Dialect::Vrbo, summary), (expected, name.map(str::to_owned)), "{summary}");
        }
    }

    #[test]
    fn airbnb_tells_stays_by_id_word_or_code() {
        let url = "Reservation URL: https://www.airbnb.com/hosting/reservations/details/HMEXAMPL23\nPhone Number (Last 4 Digits): 0143";
        let meaning = |uid, summary, text| Dialect::Airbnb.meaning(&event(uid, summary, text), 3, Kind::Reserved);
        let stay = meaning("1418fb94e984-0a@airbnb.com", "Reserved", url);
        assert_eq!((stay.kind, stay.code.as_deref()), (Kind::Reserved, Some("HMEXAMPL23")));
        assert!(!format!("{stay:?}").contains("0143"), "digits of a phone");
        let old =
            meaning("1418fb94e984-0a@airbnb.com", "", "https://www.airbnb.com/reservation/itinerary?code=HMNxxx8J99");
        assert_eq!(old.code.as_deref(), Some("HMNxxx8J99"));
        for (uid, summary) in
            [("7f662ec65913-1@airbnb.com", "Airbnb (Not available)"), ("6fec1092d3fa-1@airbnb.com", "x")]
        {
            assert_eq!(meaning(uid, summary, "").kind, Kind::Blocked);
        }
        assert_eq!(meaning("other", "Reserved", "").kind, Kind::Reserved);
    }

    #[test]
    fn nobody_elses_words_are_certain() {
        // A name alone may be a guest or a plumber.
        for summary in ["Mira", "Mira (2 guests)", "Mira - Reserved", "Blocked", ""] {
            assert_eq!(kind(Dialect::Generic, summary), (Kind::Blocked, None), "{summary}");
        }
        assert_eq!(kind(Dialect::Generic, "Reserved").0, Kind::Reserved);
        assert_eq!(kind(Dialect::Booking, "Reserved").0, Kind::Blocked);
        let event = |summary| event("u", summary, "");
        assert_eq!(Dialect::Generic.meaning(&event("Mira"), 3, Kind::Reserved).kind, Kind::Reserved);
        assert_eq!(Dialect::Generic.meaning(&event("Booked"), 120, Kind::Blocked).kind, Kind::Blocked);
        let tentative = Event { status: Some("TENTATIVE".to_owned()), ..event("Mira") };
        assert_eq!(Dialect::Generic.meaning(&tentative, 3, Kind::Blocked).kind, Kind::Tentative);
    }

    #[test]
    fn codes_stand_alone() {
        assert_eq!(code("(HM12345678)").as_deref(), Some("HM12345678"));
        assert_eq!(code("Jane HMX4B2"), Some("HMX4B2".to_owned()));
        for none in ["HMS", "HMSBEAGLE", "xHM12345678", "HM", ""] {
            assert_eq!(code(none), None, "{none}");
        }
    }
}
