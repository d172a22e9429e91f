//! Lists, page by page, by a cursor that only this server reads.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::error::{Kind, Problem, Result};

/// Rows of a page when nothing else is asked.
const USUAL: u32 = 50;
/// Rows of a page at most.
pub const MOST: u32 = 500;

/// One page of a list.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Page<T> {
    /// Its rows.
    pub items: Vec<T>,
    /// What to send as `after` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// A page out of `limit + 1` rows, if there are that many: the last one only shows that there is more. `place` is
    /// where the next page starts behind, taken from the last row of this one.
    pub fn of<C: Serialize>(mut rows: Vec<T>, limit: u32, place: impl Fn(&T) -> C) -> Self {
        let limit = limit as usize;
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = rows.last().filter(|_| more).and_then(|last| cursor(&place(last)));
        Self { items: rows, next }
    }
}

/// Writes a place in a list as a cursor.
fn cursor<C: Serialize>(place: &C) -> Option<String> {
    serde_json::to_vec(place).ok().map(|bytes| URL_SAFE_NO_PAD.encode(bytes))
}

/// Reads a place in a list from the `after` of a request.
///
/// # Errors
/// When it is not a cursor of this list.
pub fn place<C: DeserializeOwned>(after: Option<&str>) -> Result<Option<C>> {
    let wrong = || {
        Problem::new(Kind::Malformed, "`after` is not a cursor of this list").hint("Use the `next` of the page before.")
    };
    let Some(after) = after else { return Ok(None) };
    let bytes = URL_SAFE_NO_PAD.decode(after).map_err(|_| wrong())?;
    serde_json::from_slice(&bytes).map(Some).map_err(|_| wrong())
}

/// Checks the `limit` of a request.
///
/// # Errors
/// When it is zero or more than [`MOST`].
pub fn limit(asked: Option<u32>) -> Result<u32> {
    match asked {
        None => Ok(USUAL),
        Some(limit @ 1..=MOST) => Ok(limit),
        Some(_) => Err(Problem::new(Kind::Invalid, format!("`limit` is not between 1 and {MOST}"))),
    }
}

/// A page's place, as lists take it; flatten it into the list's own parameters by hand, since query strings know no nesting.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
pub struct Paging {
    /// The `next` of the page before.
    pub after: Option<String>,
    /// Rows of a page, 50 if it is absent.
    pub limit: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other_to_the_end() {
        let rows: Vec<i64> = (1..=7).rev().collect();
        let (mut after, mut seen) = (None, Vec::new());
        loop {
            let from: Option<i64> = place(after.as_deref()).unwrap();
            let rest = rows.iter().copied().filter(|r| from.is_none_or(|f| *r < f)).take(4).collect();
            let page = Page::of(rest, 3, |r| *r);
            seen.extend(page.items);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen, rows);
        assert!(place::<i64>(Some("nonsense!")).is_err());
        assert!(limit(Some(0)).is_err() && limit(Some(501)).is_err());
    }
}
