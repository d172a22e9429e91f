//! Ids of systems outside.

use std::borrow::Cow;

/// A text id in the one form that is compared and stored: without white space around it, and in lower case if it is a
/// GUID, which vendors write in either case.
pub fn id(text: &str) -> Cow<'_, str> {
    let text = text.trim();
    let bare = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')).unwrap_or(text);
    let guid = bare.len() == 36
        && bare.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
    match guid {
        true if bare.bytes().any(|byte| byte.is_ascii_uppercase()) => Cow::Owned(bare.to_ascii_lowercase()),
        true => Cow::Borrowed(bare),
        false => Cow::Borrowed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::id;

    #[test]
    fn ids_are_lowered_only_if_they_are_guids() {
        assert_eq!(id(" {5B0C3F52-6A0E-4C5B-9A55-0F6D9F3C2A11} "), "5b0c3f52-6a0e-4c5b-9a55-0f6d9f3c2a11");
        assert_eq!(id(" B-12 "), "B-12");
    }
}
