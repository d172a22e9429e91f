//! References in text, and what nobody knows, counted by name.

use std::collections::BTreeMap;

/// The most paths or names that are counted one by one.
const MAX_NOTES: usize = 200;

pub(super) fn count(counts: &mut BTreeMap<String, u64>, name: String) {
    let name = if counts.len() < MAX_NOTES || counts.contains_key(&name) { name } else { "any other".to_owned() };
    *counts.entry(name).or_default() += 1;
}

/// Appends a text with its references resolved. Only the five entities of XML itself and characters by number are known;
/// any other reference stays as it is written and is counted.
pub(super) fn resolve(raw: &str, out: &mut String, unknown: &mut BTreeMap<String, u64>) {
    let mut rest = raw;
    while let Some(start) = rest.find('&') {
        out.push_str(&rest[..start]);
        rest = &rest[start..];
        let name = rest[1..].split(';').next().filter(|n| n.len() < rest.len() - 1 && n.len() <= 32);
        let Some(name) = name else {
            out.push('&');
            rest = &rest[1..];
            continue;
        };
        let known = match name {
            "amp" => Some('&'),
            "lt" => Some('<'),
            "gt" => Some('>'),
            "quot" => Some('"'),
            "apos" => Some('\''),
            _ => name
                .strip_prefix('#')
                .and_then(|n| match n.strip_prefix(['x', 'X']) {
                    Some(hex) => u32::from_str_radix(hex, 16).ok(),
                    None => n.parse().ok(),
                })
                .and_then(char::from_u32)
                // XML has no other control characters, not even by number.
                .filter(|c| !c.is_control() || matches!(c, '\t' | '\n' | '\r' | '\u{80}'..='\u{9F}')),
        };
        match known {
            Some(c) => {
                out.push(c);
                rest = &rest[name.len() + 2..];
            }
            None => {
                if name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'#') {
                    count(unknown, name.to_owned());
                }
                out.push('&');
                rest = &rest[1..];
            }
        }
    }
    out.push_str(rest);
}
