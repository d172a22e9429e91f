//! Generation v2: `GET` of JSON lists with Basic auth and the account in a header.

use catalog::{Fault, Result};
use secrecy::ExposeSecret;
use serde_json::value::RawValue;

use super::{ResMan, Trouble};
use crate::http::Cause;
use crate::rows::{Object, field};

/// The `code` of a 401 that means: good credentials, but not for this path.
pub(super) const NOT_ENTITLED: i64 = 20001;

/// A list as it came.
#[derive(Debug)]
pub(super) struct Items(Vec<Box<RawValue>>);

impl Items {
    /// The items. One that is not an object is a fault: the list has another shape than is known.
    pub(super) fn objects(&self, path: &str) -> Result<Vec<Object<'_>>, Trouble> {
        let items = self.0.iter().map(|item| serde_json::from_str(item.get()));
        items.collect::<Result<_, _>>().map_err(|_| Trouble::Scope(strange(path)))
    }
}

fn strange(path: &str) -> Fault {
    Fault::remote(format!("`/{path}` answered in another shape than is known"))
        .hint("The vendor may be under maintenance, or has changed its API.")
}

impl ResMan {
    /// The list under `key` that a path answers with.
    pub(super) async fn v2_list(
        &self,
        path: &'static str,
        key: &'static str,
        query: &[(&str, &str)],
    ) -> Result<Items, Trouble> {
        let account = self.account().await?;
        let url = self.v2_url.join(path).map_err(|e| Fault::us("an address cannot be built").because(e))?;
        // A body that cannot be used is fetched once more: the vendor's proxy sometimes answers for it.
        for _ in 0..2 {
            let request = self
                .client
                .request(http::Method::GET, url.clone())
                .basic_auth(self.partner_id.expose_secret(), Some(self.api_key.expose_secret()))
                .header("ResMan-Account-Id", account)
                .header(http::header::ACCEPT, "application/json")
                .query(query);
            let answer = self.client.call(request).await.map_err(|refusal| match refusal.cause {
                Cause::Status(status, Some(NOT_ENTITLED)) if matches!(status.as_u16(), 401 | 403) => {
                    Trouble::Off(refusal.fault)
                }
                Cause::Status(status, _) if status.as_u16() == 404 => Trouble::Off(refusal.fault),
                _ => refusal.into(),
            })?;
            if let Some(items) = items(&answer.body, key) {
                return Ok(Items(items));
            }
        }
        Err(Trouble::Scope(strange(path)))
    }
}

fn items(body: &[u8], key: &str) -> Option<Vec<Box<RawValue>>> {
    let answer: Object<'_> = serde_json::from_slice(body).ok()?;
    match field(&answer, key)?.get() {
        "null" => Some(Vec::new()),
        list => serde_json::from_str(list).ok(),
    }
}
