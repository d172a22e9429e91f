//! Names in SQL. Nothing else in this crate puts a name into a statement.

use catalog::{Fault, Result};

/// The longest name that PostgreSQL keeps whole, in bytes; a longer one it cuts without a word.
const LONGEST: usize = 63;

/// Quotes a name for a statement, whatever it holds.
///
/// # Errors
/// When PostgreSQL could not keep it: empty, longer than 63 bytes, or with a NUL.
pub fn quote(name: &str) -> Result<String> {
    if name.is_empty() || name.len() > LONGEST || name.contains('\0') {
        return Err(Fault::user(format!("`{}` cannot be a name in PostgreSQL", name.replace('\0', "\u{2400}")))
            .hint("A name has 1 to 63 bytes, none of them NUL."));
    }
    Ok(format!("\"{}\"", name.replace('"', "\"\"")))
}

/// Quotes a text as a literal, whatever `standard_conforming_strings` says.
pub fn literal(text: &str) -> String {
    let text = text.replace('\0', "\u{2400}").replace('\'', "''");
    if text.contains('\\') { format!("e'{}'", text.replace('\\', "\\\\")) } else { format!("'{text}'") }
}

/// A name made of another and a suffix, cut so that it fits.
pub(crate) fn derived(name: &str, suffix: &str) -> String {
    let mut end = name.len().min(LONGEST - suffix.len());
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{suffix}", &name[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_stay_names() {
        assert_eq!(quote(r#"a"; drop table x; --"#).unwrap(), r#""a""; drop table x; --""#);
        assert_eq!(quote("Ünit 'x' \\").unwrap(), "\"Ünit 'x' \\\"");
        for bad in ["", "a\0b", &"ä".repeat(32)] {
            assert!(quote(bad).is_err());
        }
        assert_eq!(literal("it's \\"), "e'it''s \\\\'");
        assert_eq!(derived(&"ä".repeat(31), "_key").len(), 62);
    }
}
