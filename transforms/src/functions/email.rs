//! E-mail addresses in one form.

use super::{Function, map_text};

pub(super) fn all() -> Vec<Function> {
    vec![Function::map("email_canonical", |a| map_text(a, email_canonical))]
}

/// `email_canonical(text)`: the address in lower case, without display name, `mailto:` and angle brackets, its domain in
/// ASCII (IDNA). `None` when the text is not exactly one address that mail could be sent to over the Internet: quoted local
/// parts, comments and address literals are refused, and so are domains without a dot and those kept for private use.
pub fn email_canonical(text: &str) -> Option<String> {
    let mut text = text.trim_matches(|c: char| c == ' ' || c == '\t' || c == '\n' || c == '\u{a0}');
    if let Some((_, rest)) = text.split_once('<') {
        text = rest.strip_suffix('>')?.trim();
    }
    if text.get(..7).is_some_and(|p| p.eq_ignore_ascii_case("mailto:")) {
        text = text[7..].split('?').next()?.trim();
    }
    let (local, domain) = text.rsplit_once('@')?;
    let local = local.to_lowercase();
    let allowed = |c: char| c.is_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c);
    if local.is_empty()
        || local.len() > 64
        || !local.chars().all(allowed)
        || local.starts_with('.')
        || local.ends_with('.')
        || local.contains("..")
    {
        return None;
    }
    let domain = ascii_domain(domain)?;
    (local.len() + 1 + domain.len() <= 254).then(|| format!("{local}@{domain}"))
}

/// The domain in ASCII, if it can be one of the public Internet.
fn ascii_domain(domain: &str) -> Option<String> {
    // Full stops of East Asian scripts are dots to IDNA; anything else outside letters, digits and hyphens is no domain.
    if !domain.chars().all(|c| c.is_alphanumeric() || !c.is_ascii() || c == '-' || c == '.')
        || domain.chars().any(|c| c.is_whitespace() || c.is_control())
    {
        return None;
    }
    let url::Host::Domain(domain) = url::Host::parse(domain).ok()? else { return None };
    let labels: Vec<&str> = domain.split('.').collect();
    let sound = |l: &&str| !l.is_empty() && l.len() <= 63 && !l.starts_with('-') && !l.ends_with('-');
    let last = labels.last()?;
    (labels.len() >= 2
        && domain.len() <= 253
        && labels.iter().all(sound)
        && last.chars().any(|c| c.is_ascii_alphabetic())
        && last.len() >= 2)
        .then(|| domain.clone())
}
