//! Generation v1: form posts of `{Interface}/{Method}`.
//!
//! A call worked only if the status is 200, the body parses and its `Status` is `Success`: refusals come with HTTP 200.

use std::collections::HashMap;

use arrow::array::RecordBatch;
use bytes::Bytes;
use catalog::{Fault, Note, Reject, Result};
use quick_xml::events::Event;
use quick_xml::reader::Reader;
use secrecy::ExposeSecret;

use super::datasets::Item;
use super::leads::{self, Lead};
use super::v2::NOT_ENTITLED;
use super::{ResMan, Trouble};
use crate::http::Cause;
use crate::mits::parser::{self, Options};
use crate::rows::{Object, cell};

/// The methods that answer with a marketing feed, the best first. The older dialect says the same with fewer fields.
pub(super) const FEEDS: [&str; 2] = ["MITS/GetMarketing4_0", "MITS/GetMarketing2_0"];

/// One item of a list, its keys in lower case: XML and JSON look the same from here on.
#[derive(Debug, Default)]
pub(super) struct Row(HashMap<String, String>);

impl Item for Row {
    fn text(&self, path: &str) -> Option<String> {
        self.0.get(&path.to_ascii_lowercase()).filter(|text| !text.is_empty()).cloned()
    }
}

/// An answer: the keys beside the list, and the list.
#[derive(Debug, Default)]
pub(super) struct Answer {
    keys: Row,
    list: Option<Vec<Row>>,
}

/// What a marketing feed brought.
#[derive(Debug, Default)]
pub(super) struct Feed {
    pub(super) rows: Vec<(&'static str, RecordBatch)>,
    pub(super) rejects: Vec<Reject>,
    pub(super) notes: Vec<Note>,
    pub(super) properties: u64,
}

impl ResMan {
    /// The list that a method answers with. Without a property the call is for the whole account.
    pub(super) async fn v1_list(
        &self,
        method: &'static str,
        list: &'static str,
        property: Option<&str>,
    ) -> Result<Vec<Row>, Trouble> {
        self.v1_list_of(method, list, property, &[]).await
    }

    /// The same with fields of the method's own.
    pub(super) async fn v1_list_of(
        &self,
        method: &'static str,
        list: &'static str,
        property: Option<&str>,
        more: &[(&str, &str)],
    ) -> Result<Vec<Row>, Trouble> {
        let account = self.account().await?;
        let mut fields = vec![("AccountID", account)];
        fields.extend(property.map(|id| ("PropertyID", id)));
        fields.extend(more);
        let answer = self.v1(method, &fields, "application/json", |body| answer(body, list)).await?;
        answer.list.ok_or_else(|| Trouble::Scope(Fault::remote(format!("`{method}` answered without `{list}`"))))
    }

    /// The leads of a property that a filter finds.
    pub(super) async fn v1_prospects(&self, property: &str, filter: &[(&str, &str)]) -> Result<Vec<Lead>, Trouble> {
        let mut fields = vec![("AccountID", self.account().await?), ("PropertyID", property)];
        fields.extend(filter);
        self.v1("MITS/SearchProspects", &fields, "application/xml", leads::answer).await
    }

    /// The account that belongs to a subdomain.
    pub(super) async fn v1_account_id(&self, subdomain: &str) -> Result<String, Trouble> {
        let fields = [("Subdomain", subdomain)];
        let answer = self.v1("Account/GetAccountID", &fields, "application/json", |body| answer(body, "")).await?;
        let id = answer.keys.text("AccountID");
        id.ok_or_else(|| Trouble::Stop(Fault::remote("`Account/GetAccountID` answered without an account")))
    }

    /// A property's marketing feed. XML is asked for, since these methods answer with it whatever was asked.
    pub(super) async fn v1_feed(&self, method: &'static str, property: &str) -> Result<Feed, Trouble> {
        let mut fields = vec![("AccountID", self.account().await?), ("PropertyID", property)];
        if self.include_concessions_in_pricing {
            fields.push(("includeConcessionsInLeaseTermPricing", "True"));
        }
        if self.full_pricing_matrix {
            fields.push(("IncludeFullPricingMatrix", "True"));
        }
        let options = Options { property_id: Some(property.to_owned()), ..Options::default() };
        self.v1(method, &fields, "application/xml", move |body| feed(body, &options)).await
    }

    /// Posts and parses. A body that cannot be used is fetched once more: the vendor's proxy sometimes answers for it.
    async fn v1<T: Send + 'static>(
        &self,
        method: &'static str,
        fields: &[(&str, &str)],
        accept: &str,
        parse: impl Fn(&[u8]) -> Result<T> + Clone + Send + 'static,
    ) -> Result<T, Trouble> {
        let url = self.v1_url.join(method).map_err(|e| Fault::us("an address cannot be built").because(e))?;
        let mut form =
            vec![("IntegrationPartnerID", self.partner_id.expose_secret()), ("ApiKey", self.api_key.expose_secret())];
        form.extend(fields);
        for last in [false, true] {
            let request = self.client.request(http::Method::POST, url.clone()).header(http::header::ACCEPT, accept);
            let answer = self.client.call(request.form(&form)).await.map_err(|refusal| match refusal.cause {
                Cause::Final => Trouble::TooMuch(refusal.fault),
                Cause::Status(_, Some(NOT_ENTITLED)) => Trouble::Off(refusal.fault),
                Cause::Status(status, _) if status.as_u16() == 404 => Trouble::Off(refusal.fault),
                _ => refusal.into(),
            })?;
            let body: Bytes = answer.body;
            let parse = parse.clone();
            // A large feed would hold up everything else on this thread.
            let parsed = tokio::task::spawn_blocking(move || parse(&body)).await;
            match parsed.map_err(|e| Fault::us("the reader of an answer died").because(e))? {
                Ok(parsed) => return Ok(parsed),
                Err(fault) if last || !fault.is_retryable() => {
                    let refused = fault.message.to_ascii_lowercase();
                    let fault = fault.at(format!("`{method}`"));
                    // There is no code for it, and no status: only the text says that it is for every call.
                    return Err(if refused.contains("not permitted") || refused.contains("not entitled") {
                        Trouble::Off(fault)
                    } else if refused.contains("credential") || refused.contains("api key") {
                        let stop = Fault { blame: catalog::Blame::User, ..fault };
                        Trouble::Stop(
                            stop.hint("Check `partner_id` and `api_key`, and that the account has granted access."),
                        )
                    } else {
                        Trouble::Scope(fault)
                    });
                }
                Err(_) => {}
            }
        }
        Err(Trouble::Scope(Fault::us("a call without a try")))
    }
}

fn unusable(what: &str) -> Fault {
    Fault::remote(format!("the answer is {what}")).hint("The vendor may be under maintenance: try again later.")
}

/// Reads an answer by its first byte: neither the headers nor what was asked for are to be trusted.
fn answer(body: &[u8], list: &str) -> Result<Answer> {
    let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body).trim_ascii_start();
    let answer = match body.first() {
        Some(b'{') => json(body, list)?,
        Some(b'<') => xml(body, list)?,
        None => return Err(unusable("empty")),
        Some(_) => return Err(unusable("neither JSON nor XML")),
    };
    succeeded(answer)
}

fn succeeded(answer: Answer) -> Result<Answer> {
    match answer.keys.text("Status") {
        Some(status) if status.eq_ignore_ascii_case("Success") => Ok(answer),
        Some(status) => {
            let why = answer.keys.text("ErrorDescription");
            Err(parser::refusal(&status, why.as_deref().unwrap_or("without a reason")))
        }
        None => Err(unusable("without a status")),
    }
}

fn json(body: &[u8], list: &str) -> Result<Answer> {
    let row = |object: Object<'_>| {
        Row(object.into_iter().filter_map(|(key, value)| Some((key.to_ascii_lowercase(), cell(value)?))).collect())
    };
    let keys: Object<'_> = serde_json::from_slice(body).map_err(|_| unusable("malformed JSON"))?;
    let items = match crate::rows::field(&keys, list).map(|items| items.get()) {
        None => None,
        Some("null") => Some(Vec::new()),
        Some(items) => {
            let items: Vec<Object<'_>> = serde_json::from_str(items).map_err(|_| unusable("in another shape"))?;
            Some(items.into_iter().map(row).collect())
        }
    };
    Ok(Answer { keys: row(keys), list: items })
}

/// `<ResMan>`: keys, and a list of elements that hold texts.
fn xml(body: &[u8], list: &str) -> Result<Answer> {
    let mut reader = Reader::from_reader(body);
    let mut answer = Answer::default();
    let mut names: Vec<String> = Vec::new();
    let mut text = String::new();
    loop {
        match reader.read_event().map_err(|_| unusable("malformed XML"))? {
            Event::Start(e) => {
                let name = e.local_name().into_inner().to_owned();
                if names.is_empty() && name != "ResMan" {
                    return Err(unusable("some other document"));
                }
                names.push(name);
                text.clear();
                if let [_, outer] = names.as_slice()
                    && outer == list
                {
                    answer.list.get_or_insert_default();
                }
                if let [_, outer, _] = names.as_slice()
                    && outer == list
                {
                    answer.list.get_or_insert_default().push(Row::default());
                }
            }
            Event::Empty(e) if names.len() == 1 && e.local_name().into_inner() == list => {
                answer.list.get_or_insert_default();
            }
            Event::Text(e) => text.push_str(&e),
            Event::CData(e) => text.push_str(&e),
            Event::GeneralRef(e) => {
                text.push_str(&quick_xml::escape::unescape(&format!("&{};", &*e)).unwrap_or_default())
            }
            Event::DocType(_) => return Err(unusable("an HTML page")),
            Event::End(_) => {
                let value = || text.trim().to_owned();
                match names.as_slice() {
                    [_, key] if key != list => _ = answer.keys.0.insert(key.to_ascii_lowercase(), value()),
                    [_, outer, _, key] if outer == list => {
                        if let Some(row) = answer.list.as_mut().and_then(|rows| rows.last_mut()) {
                            row.0.insert(key.to_ascii_lowercase(), value());
                        }
                    }
                    _ => {}
                }
                text.clear();
                names.pop();
            }
            Event::Eof if names.is_empty() => return Ok(answer),
            Event::Eof => return Err(unusable("cut off")),
            _ => {}
        }
    }
}

fn feed(body: &[u8], options: &Options) -> Result<Feed> {
    let start = body.trim_ascii_start();
    if start.starts_with(b"{") {
        succeeded(json(start, "")?)?;
        return Err(unusable("JSON, where XML was asked for"));
    }
    let mut feed = Feed::default();
    let summary = parser::parse(body, options, &mut |chunk| {
        feed.rows.extend(chunk.rows);
        feed.rejects.extend(chunk.rejects);
        std::ops::ControlFlow::Continue(())
    });
    let summary = summary.map_err(|fault| {
        // The vendor's own refusal stays; a feed that cannot be read may come whole the next time.
        if fault.message.starts_with(parser::REFUSED) { fault } else { fault.retry(catalog::Retry::Backoff) }
    })?;
    feed.notes = summary.notes;
    feed.properties = summary.properties;
    Ok(feed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_renderings_read_alike() {
        let json = br#" {"Units": [{"UnitNumber": "12&3", "Floor": 2, "City": null}], "Status": "Success"}"#;
        let xml = b"<ResMan><Units><Unit><UnitNumber>12&amp;3</UnitNumber><Floor>2</Floor><City/></Unit></Units>\
            <Status>Success</Status></ResMan>";
        for body in [json.as_slice(), xml.as_slice()] {
            let rows = answer(body, "Units").unwrap().list.unwrap();
            assert_eq!(rows.len(), 1);
            assert_eq!(rows[0].text("UnitNumber").as_deref(), Some("12&3"));
            assert_eq!(rows[0].text("FLOOR").as_deref(), Some("2"));
            assert_eq!(rows[0].text("City"), None);
        }
    }

    #[test]
    fn only_success_is_success() {
        let refused = br#"{"Status": "Failed", "ErrorDescription": "no such property"}"#;
        let fault = answer(refused, "Units").unwrap_err();
        assert_eq!(fault.message, "the vendor answered `Failed`: no such property");
        assert!(!fault.is_retryable());
        for body in [&b""[..], b"<html></html>", b"busy", b"{\"Units\": [", br#"{"Units": []}"#, b"<ResMan><Status>"] {
            assert!(answer(body, "Units").unwrap_err().is_retryable());
        }
    }
}
