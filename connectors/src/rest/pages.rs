//! From a page to the next one.

use catalog::{Blame, Fault, Result, Retry};
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use url::Url;

use super::decode::Page;
use super::settings::{Paginator, path};

/// Which page. Stored in cursors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Place {
    /// The first one.
    First,
    /// The page of that number.
    Number(u64),
    /// The page that begins with that record.
    Offset(u64),
    /// The page that a cursor asks for.
    Cursor(String),
    /// The page at that address.
    Url(String),
    /// The page behind that record.
    After(String),
}

/// What a page's own parameters are.
pub(super) enum Ask {
    /// These, with those of the stream.
    Params(Vec<(String, String)>),
    /// This address as it stands.
    Url(Url),
}

impl Paginator {
    /// Where every reading begins.
    pub(super) fn first(&self) -> Place {
        match self {
            Paginator::PageNumber { start, .. } => Place::Number(*start),
            Paginator::Offset { start, .. } => Place::Offset(*start),
            _ => Place::First,
        }
    }

    /// Places in the envelope that it needs: what asks for the next page, then what says whether there is one.
    pub(super) fn facts(&self) -> Vec<Vec<String>> {
        let optional = |text: &Option<String>| text.as_deref().map(path).unwrap_or_default();
        match self {
            Paginator::None | Paginator::LinkHeader { .. } => Vec::new(),
            Paginator::PageNumber { pages, .. } => vec![optional(pages)],
            Paginator::Offset { total, .. } => vec![optional(total)],
            Paginator::CursorInBody { path: at, more, .. } => vec![path(at), optional(more)],
            Paginator::NextUrlInBody { path: at, .. } => vec![path(at)],
            Paginator::LastId { more, .. } => vec![Vec::new(), optional(more)],
        }
    }

    /// The field of the last record that it needs.
    pub(super) fn last(&self) -> Option<Vec<String>> {
        if let Paginator::LastId { field, .. } = self { Some(path(field)) } else { None }
    }

    /// The place behind this one that can be asked for before this one is known.
    pub(super) fn blind(&self, place: &Place) -> Option<Place> {
        match (self, place) {
            (Paginator::PageNumber { .. }, Place::Number(n)) => Some(Place::Number(n + 1)),
            (Paginator::Offset { size, .. }, Place::Offset(n)) => Some(Place::Offset(n + size)),
            _ => None,
        }
    }

    /// The number behind the last page, or behind the last record, if the answer says so.
    pub(super) fn end(&self, page: &Page) -> Option<u64> {
        let said = || page.facts.first()?.as_deref()?.trim().parse::<u64>().ok();
        match self {
            Paginator::PageNumber { start, pages: Some(_), .. } => Some(start.saturating_add(said()?)),
            Paginator::Offset { start, total: Some(_), .. } => Some(start.saturating_add(said()?)),
            _ => None,
        }
    }

    /// How a page is asked for.
    pub(super) fn ask(&self, place: &Place) -> Result<Ask> {
        let sized = |param: &Option<String>, size: &Option<u64>| {
            param.clone().zip(*size).map(|(param, size)| (param, size.to_string()))
        };
        let mut params = Vec::new();
        match (self, place) {
            (_, Place::Url(url)) => {
                let url = Url::parse(url).map_err(|e| Fault::us("a stored address cannot be read").because(e))?;
                return Ok(Ask::Url(url));
            }
            (Paginator::PageNumber { param, size_param, size, .. }, Place::Number(n)) => {
                params.push((param.clone(), n.to_string()));
                params.extend(sized(size_param, size));
            }
            (Paginator::Offset { param, size_param, size, .. }, Place::Offset(n)) => {
                params.push((param.clone(), n.to_string()));
                params.push((size_param.clone(), size.to_string()));
            }
            (
                Paginator::CursorInBody { param, size_param, size, .. }
                | Paginator::LastId { param, size_param, size, .. },
                place,
            ) => {
                params.extend(sized(size_param, size));
                match place {
                    Place::Cursor(text) | Place::After(text) => params.push((param.clone(), text.clone())),
                    _ => {}
                }
            }
            (Paginator::NextUrlInBody { size_param, size, .. } | Paginator::LinkHeader { size_param, size }, _) => {
                params.extend(sized(size_param, size));
            }
            (Paginator::None, _) => {}
            (_, other) => {
                return Err(Fault::user(format!("the stored cursor ({}) does not fit the paginator", other.word()))
                    .hint("The settings have changed since: begin anew with `--fresh`."));
            }
        }
        Ok(Ask::Params(params))
    }

    /// The place behind this one; `None` is the end. `here` is the address that was called.
    pub(super) fn next(&self, place: &Place, page: &Page, headers: &HeaderMap, here: &Url) -> Result<Option<Place>> {
        let count = page.records as u64;
        let fact = |at: usize| page.facts.get(at).and_then(Option::as_deref).filter(|text| !text.is_empty());
        let number = |at: usize| fact(at).and_then(|text| text.trim().parse::<u64>().ok());
        Ok(match (self, place) {
            (Paginator::PageNumber { size, start, .. }, Place::Number(n)) => {
                let last = number(0).is_some_and(|pages| n + 1 >= start.saturating_add(pages));
                let short = size.is_some_and(|size| count < size) && number(0).is_none();
                (count > 0 && !last && !short).then(|| Place::Number(n + 1))
            }
            (Paginator::Offset { size, start, .. }, Place::Offset(n)) => {
                let next = n + size;
                let last = number(0).is_some_and(|total| next >= start.saturating_add(total));
                let short = count < *size && number(0).is_none();
                (count > 0 && !last && !short).then_some(Place::Offset(next))
            }
            (Paginator::CursorInBody { more, .. }, _) => match (fact(0), more) {
                (_, Some(_)) if fact(1) == Some("false") => None,
                (None, Some(_)) if fact(1) == Some("true") => {
                    return Err(remote("the answer says that there is more, but not how to ask for it"));
                }
                (cursor, _) => cursor.map(|text| Place::Cursor(text.to_owned())),
            },
            (Paginator::NextUrlInBody { .. }, _) => fact(0).map(|text| follow(text, here)).transpose()?,
            (Paginator::LinkHeader { .. }, _) => {
                let links = headers.get_all(http::header::LINK).iter().filter_map(|v| v.to_str().ok());
                links.filter_map(next_link).next().map(|text| follow(text, here)).transpose()?
            }
            (Paginator::LastId { size, more, .. }, _) => {
                let ends = match more {
                    Some(_) => fact(1) != Some("true"),
                    None => size.is_some_and(|size| count < size),
                };
                match &page.last {
                    _ if count == 0 || ends => None,
                    Some(last) => Some(Place::After(last.clone())),
                    None => {
                        return Err(remote("the last record of a page has no id to go on from")
                            .hint("Check `paginator.field`."));
                    }
                }
            }
            _ => None,
        })
    }
}

impl Place {
    /// Whether it is known to be no further than this.
    pub(super) fn before(&self, end: Option<u64>) -> bool {
        match (self, end) {
            (Place::Number(n) | Place::Offset(n), Some(end)) => *n < end,
            _ => true,
        }
    }

    fn word(&self) -> &'static str {
        match self {
            Place::First => "the first page",
            Place::Number(_) => "a page's number",
            Place::Offset(_) => "a record's number",
            Place::Cursor(_) => "a cursor",
            Place::Url(_) => "an address",
            Place::After(_) => "an id",
        }
    }
}

fn remote(what: &'static str) -> Fault {
    Fault::new(Blame::Remote, Retry::Never, what)
}

/// The address of the next page, which has to be where this one is: credentials go along.
fn follow(text: &str, here: &Url) -> Result<Place> {
    let url = here.join(text).map_err(|_| remote("the address of the next page cannot be read"))?;
    if url.origin() != here.origin() || !url.username().is_empty() || url.password().is_some() {
        return Err(remote("the answer sends the next call to another host or scheme, which is refused")
            .hint("Credentials must not leave the host of `base_url`. If the vendor really serves pages elsewhere, put that host into `base_url`."));
    }
    Ok(Place::Url(url.into()))
}

/// The target of `rel="next"` in a `Link` header (RFC 8288).
fn next_link(header: &str) -> Option<&str> {
    let mut rest = header;
    loop {
        let (_, after) = rest.split_once('<')?;
        let (target, after) = after.split_once('>')?;
        // Parameters run to the comma before the next target; a comma may also stand inside quotes.
        let end = after.find(",<").or_else(|| after.find(", <")).unwrap_or(after.len());
        let next = after[..end].split(';').filter_map(|p| p.split_once('=')).any(|(name, value)| {
            let value = value.trim().trim_matches('"');
            name.trim().eq_ignore_ascii_case("rel") && value.split_whitespace().any(|r| r.eq_ignore_ascii_case("next"))
        });
        if next {
            return Some(target);
        }
        rest = &after[end..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_link_is_found_among_others() {
        let header = "<https://a.example/?p=1>; rel=\"prev\", <https://a.example/?p=3,4>; title=\"a, b\"; REL=next";
        assert_eq!(next_link(header), Some("https://a.example/?p=3,4"));
        assert_eq!(next_link("<https://a.example/>; rel=\"last\""), None);
        assert_eq!(next_link("nonsense"), None);
    }

    #[test]
    fn only_the_own_host_is_followed() {
        let here = Url::parse("https://api.example/v1/list?x=1").unwrap();
        assert_eq!(follow("/v1/list?p=2", &here).unwrap(), Place::Url("https://api.example/v1/list?p=2".to_owned()));
        for wrong in [
            "http://api.example/",
            "https://api.example:8443/",
            "//evil.example/",
            "https://me@api.example/",
            "file:///etc",
        ] {
            assert!(follow(wrong, &here).is_err(), "{wrong}");
        }
    }
}
