//! `intake`: bookings that other systems send by webhook.

mod said;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use catalog::standing::Tables;
use catalog::{Component, Cursor, Env, Fault, Result, SecretRef};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use self::said::{Known, Row, Said};
use crate::rows::{Object, Table, cell};
use crate::source::{Event, Request, Source, Stream};
use crate::webhook::{Decoded, Delivery, EVENT_HEADER, Identity, Refused, Standard, Webhook};

/// The events that say something, each the end of an endpoint's path.
pub const EVENTS: [&str; 5] =
    ["booking-created", "booking-updated", "booking-cancelled", "guest-checked-in", "guest-checked-out"];

const STREAM: &str = "bookings";
const DATASET: &str = "channel_reservations";

/// Who may send.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Signing secrets by reference, each `whsec_` and the key in base64; any of them is accepted.
    #[serde(default = "secrets")]
    pub secrets: Vec<SecretRef>,
}

fn secrets() -> Vec<SecretRef> {
    SecretRef::parse("env:PROPFLOW_INTAKE_SECRET").into_iter().collect()
}

/// The connector.
#[derive(Debug)]
pub struct Intake {
    secrets: Vec<SecretRef>,
    standard: Standard,
    connection: String,
    tables: Arc<dyn Tables>,
}

#[async_trait]
impl Component for Intake {
    type Live = dyn Source;
    type Config = Config;
    const NAME: &'static str = "intake";
    const ABOUT: &'static str = "bookings that other systems send by signed webhooks";

    async fn open(config: Config, env: Env) -> Result<Box<dyn Source>> {
        if config.secrets.is_empty() {
            return Err(Fault::user("`secrets` of `intake` is empty").hint("Name at least one signing secret."));
        }
        // The secrets are not read here: who does not use this connector need not set one. Without it every delivery
        // is refused, and `check` says why.
        Ok(Box::new(Self {
            standard: Standard::new(config.secrets.clone()),
            secrets: config.secrets,
            connection: env.connection,
            tables: env.tables,
        }))
    }
}

#[async_trait]
impl Source for Intake {
    fn streams(&self) -> Vec<Stream> {
        vec![Stream {
            name: STREAM.into(),
            about: "bookings, as they are sent".into(),
            datasets: catalog::datasets::wire::channels().into_iter().filter(|d| d.name == DATASET).collect(),
            backfill: false,
            changes: true,
            objects: false,
        }]
    }

    async fn check(&self) -> Result<()> {
        self.secrets.iter().try_for_each(|secret| secret.resolve().map(drop))
    }

    /// There is nothing to ask for: what was sent is with whoever received it.
    fn read(&self, request: Request) -> BoxStream<'_, Result<Event>> {
        if request.stream != STREAM {
            let fault = Fault::user(format!("`intake` has no stream `{}`", request.stream));
            return stream::iter([Err(fault.hint("It has one stream, `bookings`."))]).boxed();
        }
        stream::iter([Ok(Event::Checkpoint(Cursor(json!({}))))]).boxed()
    }

    fn webhook(&self) -> Option<&dyn Webhook> {
        Some(self)
    }
}

#[async_trait]
impl Webhook for Intake {
    fn verify(&self, delivery: &Delivery) -> Result<(), Refused> {
        self.standard.verify(delivery)
    }

    fn identify(&self, delivery: &Delivery) -> Result<Identity, Refused> {
        let object = parse(&delivery.body).map_err(|text| Refused::Malformed(Cow::Borrowed(text)))?;
        let said = object.get("event").and_then(|event| cell(event));
        let path = delivery.headers.get(EVENT_HEADER).and_then(|event| event.to_str().ok());
        let event = match (path, said) {
            (Some(path), Some(said)) if path != said => {
                return Err(Refused::Malformed("the body's `event` is not the one of this address".into()));
            }
            (Some(path), _) => path.to_owned(),
            (None, Some(said)) => said,
            (None, None) => return Err(Refused::Malformed("the body has no `event`".into())),
        };
        if EVENTS.contains(&&*event) {
            booking_id(&object).map_err(|text| Refused::Malformed(Cow::Borrowed(text)))?;
        }
        // Behind `verify` the id is always there.
        let id = Standard::id(delivery).unwrap_or_default().to_owned();
        Ok(Identity { id, event })
    }

    fn decode(&self, delivery: &Delivery) -> Result<Decoded> {
        match self.said(delivery)? {
            Some(said) => Ok(Decoded { stream: STREAM.into(), events: vec![rows(&said.row)?], ..Decoded::default() }),
            None => Ok(Decoded::default()),
        }
    }

    /// A sender tells what has changed, in any order and again: what is left open stays as it is, and what is older than
    /// what is known changes nothing.
    async fn complete(&self, told: &mut [(Delivery, Decoded)]) -> Result<()> {
        let mut events = Vec::new();
        for (place, (delivery, _)) in told.iter().enumerate() {
            events.extend(self.said(delivery)?.map(|said| (place, said)));
        }
        let ids: BTreeSet<String> = events.iter().map(|(_, said)| said.id.clone()).collect();
        let ids: Vec<String> = ids.into_iter().collect();
        let stored = self.tables.reservations(&self.connection, &ids).await?;
        let mut known: BTreeMap<String, Known> = stored.into_iter().map(|(id, stored)| (id, stored.into())).collect();
        events.sort_by_key(|(_, said)| said.order());
        for (place, said) in events {
            let decoded = &mut told[place].1;
            let (row, aside) = said.onto(&mut known);
            decoded.events = vec![rows(&row)?];
            decoded.events.extend(said.unreadable(&self.connection).map(Event::Reject));
            decoded.aside = aside;
        }
        Ok(())
    }
}

impl Intake {
    /// What a delivery itself says; nothing if its event is unknown.
    fn said(&self, delivery: &Delivery) -> Result<Option<Said>> {
        let Ok(Identity { event, .. }) = self.identify(delivery) else {
            return Err(Fault::user("the body is not a booking"));
        };
        if !EVENTS.contains(&&*event) {
            return Ok(None);
        }
        let object = parse(&delivery.body).map_err(Fault::user)?;
        let id = booking_id(&object).map_err(Fault::user)?;
        let value = |field: &str| object.get(field).and_then(|v| cell(v)).filter(|v| !v.trim().is_empty());
        let mut row = Row::from([
            ("connection", self.connection.clone()),
            ("connector", Self::NAME.to_owned()),
            ("reservation_id", id.clone()),
            ("segment", "0".to_owned()),
            ("identity", "strong".to_owned()),
        ]);
        row.extend(FIELDS.into_iter().filter_map(|(column, field)| Some((column, value(field)?))));
        let status = (event == "booking-cancelled").then(|| "cancelled".to_owned());
        row.extend(value("booking_status").or(status).map(|status| ("status", status)));
        let stay = match &*event {
            "guest-checked-in" => Some("checked_in"),
            "guest-checked-out" => Some("checked_out"),
            _ => None,
        };
        row.extend(stay.map(|stay| ("stay_status", stay.to_owned())));
        let sent = Standard::sent_at(delivery).unwrap_or(delivery.received_at).min(delivery.received_at);
        Ok(Some(Said::new(id, event == "booking-created", row, value("updated_at"), sent, delivery.received_at)))
    }
}

/// A row of the wire table.
fn rows(row: &Row) -> Result<Event> {
    let mut table = Table::of(DATASET)?;
    table.add();
    for (column, value) in row {
        table.put(table.column(column)?, value);
    }
    Ok(Event::Rows { dataset: DATASET.into(), batch: table.finish()? })
}

/// Columns that are a field of the body as it is written.
const FIELDS: [(&str, &str); 14] = [
    ("platform", "platform"),
    ("listing_id", "property_id"),
    ("guest_name", "guest_name"),
    ("guest_email", "guest_email"),
    ("guest_phone", "guest_phone"),
    ("check_in", "check_in"),
    ("check_out", "check_out"),
    ("guest_count", "guest_count"),
    ("total_amount", "total_amount"),
    ("currency", "currency"),
    ("special_requests", "special_requests"),
    ("notes", "booking_notes"),
    ("booked_at", "created_at"),
    ("created_at", "created_at"),
];

fn parse(body: &[u8]) -> Result<Object<'_>, &'static str> {
    let text = std::str::from_utf8(body).map_err(|_| "the body is not UTF-8")?;
    serde_json::from_str::<HashMap<String, &RawValue>>(text).map_err(|_| "the body is not a JSON object")
}

fn booking_id(object: &Object<'_>) -> Result<String, &'static str> {
    let text = object.get("booking_id").ok_or("the body has no `booking_id`")?;
    let scalar = !text.get().starts_with(['{', '[']);
    let id = cell(text).filter(|id| scalar && !id.trim().is_empty()).ok_or("`booking_id` is not a text or a number")?;
    if id.len() > 200 {
        return Err("`booking_id` is longer than 200 bytes");
    }
    Ok(id.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray};
    use bytes::Bytes;
    use catalog::standing::NoTables;
    use chrono::{DateTime, Utc};
    use http::HeaderMap;

    use super::*;

    fn intake() -> Intake {
        Intake {
            secrets: secrets(),
            standard: Standard::new(secrets()),
            connection: "site".to_owned(),
            tables: Arc::new(NoTables),
        }
    }

    fn delivery(event: &str, body: &str) -> Delivery {
        let mut headers = HeaderMap::new();
        headers.insert(EVENT_HEADER, event.parse().unwrap());
        headers.insert("webhook-id", "msg_1".parse().unwrap());
        headers.insert("webhook-timestamp", "1780000000".parse().unwrap());
        Delivery { headers, body: Bytes::copy_from_slice(body.as_bytes()), received_at: DateTime::<Utc>::MAX_UTC }
    }

    fn row(event: &str, body: &str) -> HashMap<String, String> {
        let mut decoded = intake().decode(&delivery(event, body)).unwrap();
        assert_eq!((decoded.events.len(), decoded.objects.len()), (1, 0));
        let Some(Event::Rows { batch, dataset }) = decoded.events.pop() else { panic!("no rows") };
        assert_eq!((&*dataset, batch.num_rows()), (DATASET, 1));
        let schema = batch.schema();
        let cells = schema.fields().iter().zip(batch.columns()).filter_map(|(field, column)| {
            let column = column.as_string::<i32>();
            column.is_valid(0).then(|| (field.name().clone(), column.value(0).to_owned()))
        });
        cells.collect()
    }

    #[test]
    fn a_booking_is_taken_as_it_is_written_and_nothing_else_of_it() {
        let body = r#"{"booking_id": 77, "platform": "direct", "property_id": "P-1", "guest_name": "Ada Example",
            "guest_email": null, "guest_phone": "", "check_in": "2026-07-01", "check_out": "2026-07-04", "guest_count": 2,
            "booking_status": "confirmed", "total_amount": 1500.00, "currency": "EUR", "booking_notes": "late",
            "card_number": "4111111111111111", "door_code": "1234", "passport": "X1"}"#;
        let row = row("booking-created", body);
        assert_eq!(row["reservation_id"], "77");
        assert_eq!(row["total_amount"], "1500.00", "amounts keep their digits");
        assert_eq!((&*row["listing_id"], &*row["notes"], &*row["status"]), ("P-1", "late", "confirmed"));
        assert_eq!((&*row["connection"], &*row["segment"]), ("site", "0"));
        assert_eq!(row["updated_at"], "2026-05-28T20:26:40Z", "the time of the delivery");
        assert!(!row.contains_key("guest_email") && !row.contains_key("guest_phone"), "absent is not empty");
        assert!(row.values().all(|v| !v.contains("4111") && v != "1234" && v != "X1"), "a secret went on");
    }

    #[test]
    fn the_event_fills_what_the_body_leaves_open() {
        let body = r#"{"booking_id": "b"}"#;
        assert_eq!(row("booking-cancelled", body)["status"], "cancelled");
        assert_eq!(row("guest-checked-in", body)["stay_status"], "checked_in");
        assert_eq!(row("guest-checked-out", body)["stay_status"], "checked_out");
        let unknown = intake().decode(&delivery("booking-admired", body)).unwrap();
        assert!(unknown.events.is_empty() && unknown.objects.is_empty());
    }

    #[test]
    fn what_is_no_booking_is_malformed() {
        let deep = format!("{{\"booking_id\": \"b\", \"x\": {}}}", "[".repeat(5000));
        for body in [
            "",
            "null",
            "[]",
            "{",
            "{}",
            r#"{"booking_id": {}}"#,
            r#"{"booking_id": " "}"#,
            &deep,
            r#"{"booking_id": "b", "event": "booking-updated"}"#,
        ] {
            let refused = intake().identify(&delivery("booking-created", body));
            assert!(matches!(refused, Err(Refused::Malformed(_))), "{}", &body[..body.len().min(40)]);
        }
    }
}
