//! Addresses, phones and names as they stand in running text.

use std::collections::BTreeSet;

/// What stands in a text in place of what was taken out.
pub(super) const ERASED: &str = "[erased]";

/// What a person is called by in texts.
#[derive(Debug, Clone, Default)]
pub(super) struct Words {
    emails: Vec<String>,
    /// Digits without the plus; of North American numbers also without the country code.
    phones: Vec<String>,
    names: Vec<String>,
}

impl Words {
    pub(super) fn new(
        emails: impl IntoIterator<Item = String>,
        phones: impl IntoIterator<Item = String>,
        names: impl IntoIterator<Item = String>,
    ) -> Self {
        let mut digits: BTreeSet<String> = BTreeSet::new();
        for phone in phones {
            let all: String = phone.chars().filter(char::is_ascii_digit).collect();
            if let Some(national) = all.strip_prefix('1').filter(|n| n.len() == 10) {
                digits.insert(national.to_owned());
            }
            if all.len() >= 7 {
                digits.insert(all);
            }
        }
        // The longest first: what is part of another must not break it.
        let mut phones: Vec<String> = digits.into_iter().collect();
        phones.sort_by_key(|p| std::cmp::Reverse(p.len()));
        let long = |words: Vec<String>| {
            let mut words: Vec<String> = words.into_iter().filter(|w| w.chars().count() >= 3).collect();
            words.sort_by_key(|w| std::cmp::Reverse(w.len()));
            words
        };
        let emails = long(emails.into_iter().map(|e| e.to_ascii_lowercase()).collect());
        Self { emails, phones, names: long(names.into_iter().map(|n| n.to_ascii_lowercase()).collect()) }
    }

    /// The text without them, if it has any of them.
    pub(super) fn replace(&self, text: &str) -> Option<String> {
        // Of the same length as the text, byte by byte.
        let lower = text.to_ascii_lowercase();
        let mut out = String::new();
        let (mut at, mut copied) = (0, 0);
        while at < lower.len() {
            if !lower.is_char_boundary(at) {
                at += 1;
                continue;
            }
            match self.at(&lower, at) {
                Some(end) => {
                    out.push_str(&text[copied..at]);
                    out.push_str(ERASED);
                    (at, copied) = (end, end);
                }
                None => at += 1,
            }
        }
        if copied == 0 {
            return None;
        }
        out.push_str(&text[copied..]);
        Some(out)
    }

    pub(super) fn is_in(&self, text: &str) -> bool {
        let lower = text.to_ascii_lowercase();
        (0..lower.len()).any(|at| lower.is_char_boundary(at) && self.at(&lower, at).is_some())
    }

    /// Where the word ends that begins here.
    fn at(&self, lower: &str, at: usize) -> Option<usize> {
        let before = lower[..at].chars().next_back();
        let rest = &lower[at..];
        let behind = |end: usize| lower[end..].chars().next();
        let mail = |c: char| c.is_alphanumeric() || "._%+-".contains(c);
        if before.is_none_or(|c| !mail(c)) {
            let ends = |end: usize| {
                let mut next = lower[end..].chars();
                let first = next.next();
                let part = first.is_some_and(|c| c.is_alphanumeric() || c == '-')
                    || (first == Some('.') && next.next().is_some_and(char::is_alphanumeric));
                (!part).then_some(end)
            };
            let found = self.emails.iter().filter(|e| rest.starts_with(e.as_str())).find_map(|e| ends(at + e.len()));
            if found.is_some() {
                return found;
            }
        }
        if before.is_none_or(|c| !c.is_ascii_digit()) && rest.starts_with(|c: char| c.is_ascii_digit() || c == '+') {
            let number = |digits: &String| {
                let mut end = at + usize::from(rest.starts_with('+'));
                for digit in digits.chars() {
                    let gap = lower[end..].chars().take_while(|c| " ().-/\u{a0}".contains(*c)).count();
                    let mut chars = lower[end..].char_indices().skip(gap.min(3));
                    let (offset, c) = chars.next()?;
                    if c != digit {
                        return None;
                    }
                    end += offset + 1;
                }
                behind(end).is_none_or(|c| !c.is_ascii_digit()).then_some(end)
            };
            if let Some(end) = self.phones.iter().find_map(number) {
                return Some(end);
            }
        }
        if before.is_none_or(|c| !c.is_alphanumeric()) {
            let whole = |end: usize| behind(end).is_none_or(|c| !c.is_alphanumeric()).then_some(end);
            return self.names.iter().filter(|n| rest.starts_with(n.as_str())).find_map(|n| whole(at + n.len()));
        }
        None
    }

    /// The same as a regular expression of PostgreSQL, to be used without regard to case. `None` when there is none.
    pub(super) fn pattern(&self) -> Option<String> {
        let mut all = Vec::new();
        all.extend(
            self.emails.iter().map(|e| format!("(?<![[:alnum:]._%+-]){}(?![[:alnum:]-]|\\.[[:alnum:]])", plain(e))),
        );
        all.extend(self.phones.iter().map(|p| {
            let digits: Vec<String> = p.chars().map(|c| c.to_string()).collect();
            format!("(?<![0-9])\\+?{}(?![0-9])", digits.join("[ ().\u{a0}/-]{0,3}"))
        }));
        all.extend(self.names.iter().map(|n| format!("(?<![[:alnum:]]){}(?![[:alnum:]])", plain(n))));
        (!all.is_empty()).then(|| all.join("|"))
    }
}

/// A text as a regular expression that matches just it.
fn plain(text: &str) -> String {
    text.chars().fold(String::new(), |mut out, c| {
        if !c.is_alphanumeric() && c.is_ascii() && c != ' ' {
            out.push('\\');
        }
        out.push(c);
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_as_people_write_them_and_nothing_else_is() {
        let words = Words::new(["ana@x.example".into()], ["+15125550101".into()], ["Ana Ruiz".into()]);
        for (text, clean) in [
            ("write to Ana@X.example.", "write to [erased]."),
            ("<ana@x.example>", "<[erased]>"),
            ("call +1 (512) 555-0101 now", "call [erased] now"),
            ("512.555.0101", "[erased]"),
            ("für ANA RUIZ, bitte", "für [erased], bitte"),
        ] {
            assert_eq!(words.replace(text).as_deref(), Some(clean));
            assert!(words.is_in(text));
        }
        for other in ["joana@x.example", "ana@x.example.org", "15125550101234", "9512555010", "Ana Ruizinho", "Ana", ""]
        {
            assert_eq!(words.replace(other), None, "{other}");
        }
    }
}
