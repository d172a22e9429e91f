//! How a feed that cannot be read is told of.

use catalog::{Blame, Fault, Result, Retry};

use super::super::input::bad;

pub(super) fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

pub(super) fn html() -> Fault {
    bad("the feed is an HTML page, where XML was expected")
        .hint("The address may lead to a login or an error page: open it in a browser.")
}

pub(super) fn doctype(text: &str) -> Result<()> {
    if text.get(..4).is_some_and(|name| name.eq_ignore_ascii_case("html")) {
        return Err(html());
    }
    if text.contains('[') {
        return Err(bad("the feed carries declarations in its DOCTYPE, which are refused")
            .hint("No marketing feed needs them, and entities can be made to fill the memory."));
    }
    Ok(())
}

pub(crate) fn cut() -> Fault {
    bad("the feed ends before it is complete")
        .hint("It was cut off on its way: fetch it again, or ask its sender for the whole.")
}

/// How the message of a [`refusal`] begins.
pub(crate) const REFUSED: &str = "the vendor answered ";

/// The vendor said that it did not work.
pub(crate) fn refusal(status: &str, why: &str) -> Fault {
    Fault::new(Blame::Remote, Retry::Never, format!("{REFUSED}`{}`: {}", short(status), short(why)))
}
