//! VRBO's partner documents (`bookingRequest`, `bookingUpdate`), as a public builder makes them. Nobody has checked this
//! against VRBO itself.

use catalog::{Blame, Fault, Result, Retry};
use chrono::{DateTime, SecondsFormat, Utc};
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event as Xml};

use crate::rows::{Table, columns};
use crate::source::Event;
use crate::webhook::is_payment;

/// The longest document that is read, in bytes.
const MAX_BYTES: usize = 1 << 20;
/// How deep its elements may nest.
const MAX_DEPTH: usize = 16;
/// How many of its elements are kept.
const MAX_LEAVES: usize = 5_000;

/// A document's texts. What belongs to a payment is never taken out of it.
#[derive(Debug)]
pub(super) struct Document {
    /// The name of its outermost element.
    pub(super) name: String,
    leaves: Vec<Leaf>,
}

#[derive(Debug)]
struct Leaf {
    /// Names of the elements around it and its own, joined by slashes.
    path: String,
    text: String,
    currency: Option<String>,
}

fn bad(message: &'static str) -> Fault {
    Fault::new(Blame::Remote, Retry::Never, message)
}

/// Reads a document.
///
/// # Errors
/// When it is no well-formed XML within the limits, or carries declarations of its own.
pub(super) fn read(body: &[u8]) -> Result<Document> {
    if body.len() > MAX_BYTES {
        return Err(bad("the document is longer than a mebibyte"));
    }
    let text = std::str::from_utf8(body).map_err(|_| bad("the document is not UTF-8"))?;
    let mut reader = Reader::from_str(text);
    reader.config_mut().expand_empty_elements = true;
    let mut document = Document { name: String::new(), leaves: Vec::new() };
    let mut open: Vec<Leaf> = Vec::new();
    let mut passed_over = 0_usize;
    loop {
        let event = reader.read_event().map_err(|_| bad("the document is not well-formed XML"))?;
        match event {
            Xml::Start(element) => {
                let name = element.local_name().into_inner().to_owned();
                if passed_over > 0 || is_payment(&name) {
                    passed_over += 1;
                } else {
                    if open.is_empty() && !document.name.is_empty() {
                        return Err(bad("the document has two outermost elements"));
                    }
                    open.push(leaf(&open, &name, &element)?);
                }
                if open.len() + passed_over > MAX_DEPTH {
                    return Err(bad("the elements of the document nest too deep"));
                }
                if document.name.is_empty() {
                    document.name = name.chars().take(100).collect();
                }
            }
            Xml::End(_) if passed_over > 0 => passed_over -= 1,
            Xml::End(_) => {
                let Some(done) = open.pop() else { return Err(bad("the document is not well-formed XML")) };
                if !done.text.trim().is_empty() {
                    document.leaves.push(Leaf { text: done.text.trim().to_owned(), ..done });
                }
                if document.leaves.len() > MAX_LEAVES {
                    return Err(bad("the document has too many elements"));
                }
            }
            Xml::Text(text) if passed_over == 0 => write(&mut open, &text),
            Xml::CData(text) if passed_over == 0 => write(&mut open, &text),
            Xml::GeneralRef(name) if passed_over == 0 => {
                let resolved = match &*name {
                    "amp" => Some('&'),
                    "lt" => Some('<'),
                    "gt" => Some('>'),
                    "quot" => Some('"'),
                    "apos" => Some('\''),
                    _ => name.resolve_char_ref().ok().flatten(),
                };
                let resolved =
                    resolved.ok_or_else(|| bad("the document refers to an entity that XML does not have"))?;
                write(&mut open, resolved.encode_utf8(&mut [0; 4]));
            }
            Xml::DocType(_) => return Err(bad("the document carries a DOCTYPE, which is refused")),
            Xml::Eof => break,
            _ => {}
        }
    }
    if !open.is_empty() || passed_over > 0 || document.name.is_empty() {
        return Err(bad("the document ends before it is complete"));
    }
    Ok(document)
}

fn leaf(open: &[Leaf], name: &str, element: &BytesStart<'_>) -> Result<Leaf> {
    let path = open.last().map_or_else(|| name.to_owned(), |parent| format!("{}/{name}", parent.path));
    let mut currency = None;
    for attribute in element.attributes().with_checks(false) {
        let attribute = attribute.map_err(|_| bad("an attribute of the document is malformed"))?;
        if attribute.key.local_name().into_inner() == "currency" {
            currency = Some(attribute.value.trim().to_owned());
        }
    }
    Ok(Leaf { path, text: String::new(), currency })
}

fn write(open: &mut [Leaf], text: &str) {
    if let Some(leaf) = open.last_mut() {
        leaf.text.push_str(text);
    }
}

impl Document {
    /// The text at the end of this path, the first one if there are several.
    fn text(&self, path: &str) -> Option<&str> {
        self.all(path).next().map(|leaf| leaf.text.as_str())
    }

    fn all(&self, path: &str) -> impl Iterator<Item = &Leaf> {
        let path = path.to_owned();
        self.leaves.iter().filter(move |leaf| {
            leaf.path.strip_suffix(path.as_str()).is_some_and(|front| front.is_empty() || front.ends_with('/'))
        })
    }

    /// What the items come to and in which currency; nothing when they are of several, or one is no number.
    fn total(&self) -> Option<(String, String)> {
        let mut sum = 0_i128;
        let mut currency: Option<&str> = None;
        for item in self.all("orderItem/totalAmount") {
            let own = item.currency.as_deref()?;
            if currency.is_some_and(|currency| currency != own) {
                return None;
            }
            currency = Some(own);
            sum = sum.checked_add(ten_thousandths(&item.text)?)?;
        }
        let (sign, whole, rest) = (if sum < 0 { "-" } else { "" }, sum.abs() / 10_000, sum.abs() % 10_000);
        let rest = if rest % 100 == 0 { format!("{:02}", rest / 100) } else { format!("{rest:04}") };
        Some((format!("{sign}{whole}.{rest}"), currency?.to_owned()))
    }
}

/// A decimal text with up to four places, in ten-thousandths, so that a sum is exact.
fn ten_thousandths(text: &str) -> Option<i128> {
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |text| (true, text));
    let (whole, places) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || whole.len() > 15 || places.len() > 4 || !digits(whole) || !digits(places) {
        return None;
    }
    let value: i128 = format!("{whole}{places:0<4}").parse().ok()?;
    Some(if negative { -value } else { value })
}

columns! {
    Columns of "channel_reservations":
        connection connector reservation_id segment identity external_code platform listing_id parent_listing_id guest_name
        guest_first_name guest_last_name guest_email guest_phone check_in check_out adults children pets status total_amount
        currency special_requests created_at updated_at
}

/// The row of a document; none for documents that are about something else.
///
/// # Errors
/// When it is about a booking and does not say which.
pub(super) fn row(document: &Document, connection: &str, received_at: DateTime<Utc>) -> Result<Option<Event>> {
    let request = match document.name.as_str() {
        "bookingRequest" => true,
        "bookingUpdate" => false,
        _ => return Ok(None),
    };
    let text = |path: &str| document.text(path);
    let id = text("inquiryId").or_else(|| text("reservationId")).or_else(|| text("externalReservationId"));
    let id = id.ok_or_else(|| bad("the document names no booking: it has no `inquiryId`"))?;
    let (first, last) = (text("inquirer/firstName"), text("inquirer/lastName"));
    let name: Vec<&str> = [first, last].into_iter().flatten().collect();
    let total = document.total();
    let received = received_at.to_rfc3339_opts(SecondsFormat::Millis, true);

    let mut table = Table::of("channel_reservations")?;
    let (c, kind) = (Columns::of(&table)?, table.column("type")?);
    table.add();
    for (column, value) in [
        (c.connection, Some(connection)),
        (c.connector, Some("vrbo")),
        (c.reservation_id, Some(id)),
        (c.segment, Some("0")),
        (c.identity, Some("strong")),
        (c.external_code, text("trackingUuid")),
        (c.platform, text("listingChannel").or(Some("vrbo"))),
        (c.listing_id, text("unitExternalId").or_else(|| text("listingExternalId"))),
        (c.parent_listing_id, text("unitExternalId").and_then(|_| text("listingExternalId"))),
        (c.guest_name, (!name.is_empty()).then(|| name.join(" ")).as_deref()),
        (c.guest_first_name, first),
        (c.guest_last_name, last),
        (c.guest_email, text("inquirer/emailAddress")),
        (c.guest_phone, text("inquirer/phoneNumber")),
        (c.check_in, text("reservationDates/beginDate")),
        (c.check_out, text("reservationDates/endDate")),
        (c.adults, text("numberOfAdults")),
        (c.children, text("numberOfChildren")),
        (c.pets, text("numberOfPets")),
        (kind, Some("booking")),
        // A request carries no status: until it is answered it is as unconfirmed as one that says so.
        (c.status, text("reservationStatus").or(request.then_some("UNCONFIRMED"))),
        (c.total_amount, total.as_ref().map(|(amount, _)| amount.as_str())),
        (c.currency, total.as_ref().map(|(_, currency)| currency.as_str())),
        (c.special_requests, text("bookingRequestDetails/message").or_else(|| text("message"))),
        (c.created_at, text("reservationOriginationDate")),
        (c.updated_at, text("lastUpdatedDate").or(Some(&received))),
    ] {
        if let Some(value) = value {
            table.put(column, value);
        }
    }
    Ok(Some(Event::Rows { dataset: table.name().into(), batch: table.finish()? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_exact() {
        let items = |amounts: &[(&str, &str)]| {
            let items: String = amounts
                .iter()
                .map(|(c, a)| format!("<orderItem><totalAmount currency=\"{c}\">{a}</totalAmount></orderItem>"))
                .collect();
            read(format!("<bookingUpdate><orderItemList>{items}</orderItemList></bookingUpdate>").as_bytes())
                .unwrap()
                .total()
        };
        let usd = |text: &str| Some((text.to_owned(), "USD".to_owned()));
        assert_eq!(items(&[("USD", "0.10"), ("USD", "0.20"), ("USD", "1020")]), usd("1020.30"));
        assert_eq!(items(&[("USD", "10.005"), ("USD", "-20")]), usd("-9.9950"));
        assert_eq!(items(&[("USD", "1"), ("EUR", "1")]), None);
        assert_eq!(items(&[("USD", "1,000.00")]), None);
        assert_eq!(items(&[]), None);
    }

    #[test]
    fn what_is_no_document_is_refused() {
        for (body, reason) in [
            ("", "ends before"),
            ("<a>", "ends before"),
            ("<a></b>", "well-formed"),
            ("<a/><b/>", "two outermost"),
            ("<!DOCTYPE a [<!ENTITY x \"y\">]><a>&x;</a>", "DOCTYPE"),
            ("<a>&x;</a>", "entity"),
            (&"<a>".repeat(20), "too deep"),
        ] {
            let fault = read(body.as_bytes()).unwrap_err();
            assert!(fault.message.contains(reason), "{body}: {fault}");
        }
    }
}
