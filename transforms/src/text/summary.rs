//! A few sentences for someone who has no time to read it all.

use std::fmt::Write;

use super::{Days, Intent, Pattern, Sentiment, Span, Topic, Wishes};

/// Writes them.
pub(super) fn write(wishes: &Wishes, topics: &[Topic], mood: &Sentiment, pattern: &Pattern) -> String {
    let mut text = String::new();
    let verb = if wishes.intent.as_ref().is_some_and(|i| i.value == Intent::Buy) { "buy" } else { "rent" };
    let mut home = match &wishes.bedrooms {
        Some(b) if b.value.max == Some(0.0) => "a studio".to_owned(),
        Some(b) => format!("a home with {}", counted(b.value, "bedroom")),
        None => String::new(),
    };
    if let Some(baths) = &wishes.bathrooms {
        let _ = write!(
            home,
            "{}{}",
            if home.is_empty() { "a home with " } else { " and " },
            counted(baths.value, "bathroom")
        );
    }
    let mut parts = Vec::new();
    if !wishes.areas.is_empty() {
        parts.push(format!("in {}", wishes.areas.iter().map(|a| a.value.as_str()).collect::<Vec<_>>().join(" or ")));
    }
    if let Some(budget) = &wishes.budget {
        let code = budget.value.currency.as_deref().map(|c| format!("{c} ")).unwrap_or_default();
        parts.push(match (budget.value.min, budget.value.max) {
            (Some(a), Some(b)) => format!("for {code}{a} to {b} a month"),
            (Some(a), None) => format!("from {code}{a} a month on"),
            (None, Some(b)) => format!("for up to {code}{b} a month"),
            _ => String::new(),
        });
    }
    if let Some(days) = wishes.move_in.as_ref() {
        parts.push(match days.value {
            Days { from: Some(a), to: Some(b) } if a == b => format!("from {a} on"),
            Days { from: Some(a), to: Some(b) } => format!("between {a} and {b}"),
            Days { from: None, to: Some(b) } => format!("by {b}"),
            _ => format!("({})", days.words),
        });
    }
    if let Some(months) = &wishes.lease_months {
        parts.push(format!("for {} months", months.value));
    }
    parts.retain(|p| !p.is_empty());
    if !home.is_empty() || !parts.is_empty() {
        let home = if home.is_empty() { "a home".to_owned() } else { home };
        let _ = write!(text, "Wants to {verb} {home}{}{}.", if parts.is_empty() { "" } else { " " }, parts.join(", "));
    }
    let list = |wanted: bool| -> Vec<String> {
        wishes.amenities.iter().filter(|a| a.value.wanted == wanted).map(|a| a.value.name.replace('_', " ")).collect()
    };
    for (lead, names) in [("Should have", list(true)), ("Needs no", list(false))] {
        if !names.is_empty() {
            sentence(&mut text, &format!("{lead} {}", names.join(", ")));
        }
    }
    if let Some(pets) = &wishes.pets {
        let kinds: Vec<String> = pets
            .value
            .kinds
            .iter()
            .map(|(kind, n)| match n {
                0 => kind.clone(),
                1 => format!("1 {kind}"),
                _ => format!("{n} {kind}{}", if kind == "fish" { "" } else { "s" }),
            })
            .collect();
        let what = match (pets.value.has, kinds.is_empty()) {
            (false, _) => "Has no pets".to_owned(),
            (true, true) => "Has pets".to_owned(),
            (true, false) => format!("Has pets: {}", kinds.join(", ")),
        };
        sentence(&mut text, &what);
    }
    if let Some(tour) = wishes.tour.as_ref().filter(|t| !t.value.off) {
        let day = tour.value.from.map(|d| d.to_string()).or_else(|| tour.value.day_words.clone());
        let time = tour.value.time.map(|t| t.format("%H:%M").to_string()).or_else(|| tour.value.part.clone());
        let when = [day, time].into_iter().flatten().collect::<Vec<_>>().join(", ");
        sentence(
            &mut text,
            &if when.is_empty() { "Asked for a tour".to_owned() } else { format!("Asked for a tour ({when})") },
        );
    }
    let named: Vec<String> = topics.iter().take(4).map(|t| t.topic.replace('_', " ")).collect();
    if !named.is_empty() {
        sentence(&mut text, &format!("Talked about {}", named.join(", ")));
    }
    let (all, own) = (pattern.messages, pattern.renter_messages);
    let s = if all == 1 { "" } else { "s" };
    sentence(&mut text, &format!("{all} message{s}, {own} by the renter, who sounds {}", mood.label));
    text
}

fn sentence(text: &mut String, words: &str) {
    let blank = if text.is_empty() { "" } else { " " };
    let _ = write!(text, "{blank}{words}.");
}

fn counted(span: Span, what: &str) -> String {
    let plural = |n: f64| if n == 1.0 { what.to_owned() } else { format!("{what}s") };
    match (span.min, span.max) {
        (Some(a), Some(b)) if a == b => format!("{a} {}", plural(a)),
        (Some(a), Some(b)) => format!("{a} to {b} {}", plural(b)),
        (Some(a), None) => format!("{a} or more {}", plural(2.0)),
        (None, Some(b)) => format!("up to {b} {}", plural(b)),
        _ => plural(2.0),
    }
}
