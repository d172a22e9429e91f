//! Airbnb's partner API, as integrators' code shows it. Nobody has checked this against Airbnb itself.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use catalog::slice::RejectKind;
use catalog::standing::{Standing, Tables};
use catalog::{Clock, Cursor, Env, Fault, Reject, Result, SecretRef};
use chrono::{DateTime, Days, Utc};
use http::{Method, StatusCode};
use schemars::JsonSchema;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use url::Url;

use crate::authority::{App, Authority, Style};
use crate::emit::Emit;
use crate::http::{Cause, Client, Limits, Refusal, address};
use crate::ical::{Listed, Position};
use crate::rows::{Object, Table, cell, columns, field};
use crate::source::{Event, Read, Request};
use crate::webhook::{Decoded, Delivery, Identity, Refused, Webhook, any_basic, body_id};

/// The account of a contract partner.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PartnerConfig {
    /// Must be true: it says that you know that nobody has checked this against Airbnb itself.
    pub unverified: bool,
    /// The API's address.
    #[serde(default = "base_url")]
    pub base_url: String,
    /// The application's key, by reference.
    pub api_key: SecretRef,
    /// The application's secret, by reference.
    pub api_secret: SecretRef,
    /// What the host's consent gave, by reference; access tokens are made of it. Left out: what `propflow authorise` got.
    #[serde(default)]
    pub refresh_token: Option<SecretRef>,
    /// Where the host consents.
    #[serde(default = "authorize_url")]
    pub authorize_url: String,
    /// Where Airbnb sends the host back to, as the application is registered there.
    #[serde(default)]
    pub redirect_uri: Option<String>,
    /// Airbnb's number of the host. With it, a callback about a withdrawn authorisation counts only if it names this host:
    /// one application has the callbacks of all its hosts.
    #[serde(default)]
    pub host_id: Option<String>,
    /// The host's listings.
    pub listings: Vec<PartnerListing>,
    /// Stays that ended up to so many days ago are read.
    #[serde(default = "days_back")]
    pub days_back: u32,
    /// Stays that begin within so many days are read.
    #[serde(default = "days_ahead")]
    pub days_ahead: u32,
    /// User and password that Airbnb presents with its callbacks, since it does not sign them. Without a password
    /// callbacks are not taken.
    #[serde(default = "callback_user")]
    pub callback_user: String,
    /// The passwords that are taken, by reference: one, or two while it is being replaced. They should be long and random.
    #[serde(default)]
    pub callback_passwords: Vec<SecretRef>,
    /// One password more, as a single one was written before `callback_passwords`.
    #[serde(default)]
    pub callback_password: Option<SecretRef>,
}

/// A listing of the host.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PartnerListing {
    /// Airbnb's number for it.
    pub listing: String,
    /// The property that it belongs to.
    #[serde(default)]
    pub property: Option<String>,
}

fn authorize_url() -> String {
    "https://www.airbnb.com/oauth2/auth".to_owned()
}

fn base_url() -> String {
    "https://api.airbnb.com".to_owned()
}

fn days_back() -> u32 {
    60
}

fn days_ahead() -> u32 {
    540
}

fn callback_user() -> String {
    "airbnb".to_owned()
}

/// Reservations of a page.
const PAGE: usize = 50;
/// Pages of one listing, at most: no listing has ten thousand stays in two years.
const MAX_PAGES: usize = 200;
/// How long an access token is taken to last when the answer does not say.
const LIFE: Duration = Duration::from_secs(3600);

/// The API, opened.
pub(super) struct Partner {
    client: Client,
    base: Url,
    config: PartnerConfig,
    connection: String,
    clock: Arc<dyn Clock>,
    tables: Arc<dyn Tables>,
    authority: Authority,
    callbacks: Option<Callbacks>,
}

impl fmt::Debug for Partner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Partner({})", self.connection)
    }
}

columns! {
    Columns of "channel_reservations":
        connection connector reservation_id segment identity external_code platform listing_id guest_id guest_name
        guest_first_name guest_last_name guest_email guest_phone guest_locale check_in check_out check_in_time check_out_time
        time_zone adults children infants guest_count status presence host_payout subtotal_amount tax_amount paid_amount
        currency booked_at created_at updated_at
}

impl Partner {
    pub(super) fn open(config: PartnerConfig, limits: &Limits, env: &Env) -> Result<Self> {
        if !config.unverified {
            return Err(Fault::user("the partner API of `airbnb` is off")
                .hint("Set `unverified = true` if you know that nobody has checked it against Airbnb itself."));
        }
        let mut base = address("partner.base_url", &config.base_url)?;
        base.set_path(&format!("{}/v2/", base.path().trim_end_matches('/')));
        // The budget's name shows up in logs, so it must not be the key itself.
        let key = config.api_key.resolve()?;
        let account: String = body_id(key.expose_secret().as_bytes()).chars().take(12).collect();
        let client = Client::new(&format!("airbnb/{account}"), env, limits.clone())?;
        let mut tokens = base.join("oauth2/authorizations").map_err(|e| Fault::us("no address").because(e))?;
        tokens.set_query(Some("_unwrapped=true"));
        let app = App {
            vendor: "Airbnb",
            connector: "airbnb",
            connection: env.connection.clone(),
            consent: address("partner.authorize_url", &config.authorize_url)?,
            token: tokens,
            client_id: key.expose_secret().to_owned(),
            client_secret: config.api_secret.resolve()?,
            redirect: config.redirect_uri.clone(),
            style: Style::Json,
            user_agent: concat!("propflow/", env!("CARGO_PKG_VERSION")).to_owned(),
            grant: config.refresh_token.as_ref().map(SecretRef::resolve).transpose()?,
            lifetime: Some(LIFE),
        };
        let authority = Authority::new(app, client.clone(), env);
        let passwords: Vec<_> = config.callback_passwords.iter().chain(&config.callback_password).cloned().collect();
        let callbacks = (!passwords.is_empty()).then(|| Callbacks {
            user: config.callback_user.clone(),
            passwords,
            host_id: config.host_id.clone(),
        });
        Ok(Self {
            client,
            base,
            connection: env.connection.clone(),
            clock: env.clock.clone(),
            tables: env.tables.clone(),
            authority,
            callbacks,
            config,
        })
    }

    pub(super) fn webhook(&self) -> Option<&dyn Webhook> {
        self.callbacks.as_ref().map(|callbacks| callbacks as &dyn Webhook)
    }

    pub(super) fn authority(&self) -> &Authority {
        &self.authority
    }

    pub(super) async fn check(&self) -> Result<()> {
        match self.config.listings.first() {
            None => self.authority.token(None).await.map(drop),
            // A token that was kept may be worth nothing by now: only a call tells.
            Some(listing) => {
                let query = [("listing_id", listing.listing.clone()), ("_limit", "1".to_owned())];
                self.get("reservations/", &query).await.map(drop)
            }
        }
    }

    /// Reads the window of every listing that is not done yet. A listing that fails leaves the others alone.
    pub(super) async fn read(&self, request: &Request, position: &mut Position, emit: &mut Emit) -> Result<()> {
        let changes = matches!(request.read, Read::Changes { .. });
        let done = match position.after.as_deref() {
            None => 0,
            Some(after) => match after.strip_prefix("partner/") {
                Some(after) => self.config.listings.iter().position(|l| l.listing == after).map_or(0, |at| at + 1),
                // The calendars come behind.
                None => self.config.listings.len(),
            },
        };
        let standing = match changes {
            true => self.tables.standing(&self.connection, self.clock.now().date_naive()).await?,
            false => Vec::new(),
        };
        for listing in self.config.listings.iter().skip(done) {
            if !request.only.is_empty() && !request.only.contains(&listing.listing) {
                continue;
            }
            match self.listing(listing, changes, &standing, position, emit).await {
                Ok(()) => {
                    position.after = Some(format!("partner/{}", listing.listing));
                    emit.event(Event::Checkpoint(Cursor::of(position)?)).await?;
                }
                Err(fault) if fault.blame == catalog::Blame::Us => return Err(fault),
                Err(fault) => {
                    let fault = fault.at(format!("listing `{}`", listing.listing));
                    emit.event(Event::Failed { scope: listing.listing.clone(), fault }).await?;
                }
            }
        }
        Ok(())
    }

    async fn listing(
        &self,
        listing: &PartnerListing,
        changes: bool,
        standing: &[Standing],
        position: &mut Position,
        emit: &mut Emit,
    ) -> Result<()> {
        let today = self.clock.now().date_naive();
        let (from, until) =
            (today - Days::new(self.config.days_back.into()), today + Days::new(self.config.days_ahead.into()));
        let mut rows = Rows::new(&self.connection)?;
        let mut seen: BTreeMap<String, Listed> = BTreeMap::new();
        for page in 0.. {
            if page >= MAX_PAGES {
                return Err(Fault::remote(format!("more than {MAX_PAGES} pages of reservations")));
            }
            let query = [
                ("listing_id", listing.listing.clone()),
                ("start_date", from.to_string()),
                ("end_date", until.to_string()),
                ("_limit", PAGE.to_string()),
                ("_offset", (page * PAGE).to_string()),
            ];
            let body = self.get("reservations/", &query).await?;
            #[derive(Deserialize)]
            struct Page<'a> {
                #[serde(borrow)]
                reservations: Vec<&'a RawValue>,
            }
            let page: Page<'_> = serde_json::from_slice(&body).map_err(strange)?;
            for raw in &page.reservations {
                let object: Object<'_> = serde_json::from_str(raw.get()).map_err(strange)?;
                let Some(code) = text(&object, "confirmation_code") else {
                    rows.refuse(&object);
                    continue;
                };
                let version = text(&object, "updated_at").unwrap_or_else(|| body_id(raw.get().as_bytes()));
                let check_out = text(&object, "end_date").unwrap_or_default();
                let listed = Listed { listing: listing.listing.clone(), version, check_out };
                let known = changes && position.reservations.get(&code) == Some(&listed);
                // A page may repeat what the one before held, when something was booked in between.
                if seen.insert(code, listed).is_none() && !known {
                    rows.put(&object);
                }
            }
            if page.reservations.len() < PAGE {
                break;
            }
        }
        let first = !position.reservations.values().any(|known| known.listing == listing.listing);
        if changes {
            // A callback may have told a stay that no list showed before it went.
            for known in standing.iter().filter(|known| known.named && known.listing == listing.listing) {
                let (listing, check_out) = (listing.listing.clone(), known.until.to_string());
                let listed = Listed { listing, version: String::new(), check_out };
                position.reservations.entry(known.id.clone()).or_insert(listed);
            }
            self.missing(listing, &today.to_string(), &seen, position, &mut rows).await?;
            position.reservations.extend(seen);
        }
        if let Some(property) = listing.property.as_ref().filter(|_| !changes || first) {
            let mut table = Table::of("channel_listings")?;
            table.add();
            for (column, value) in [
                ("connection", self.connection.as_str()),
                ("connector", "airbnb"),
                ("listing_id", &listing.listing),
                ("property", property),
                ("channel_ids", &json!({ "airbnb": listing.listing }).to_string()),
            ] {
                table.put(table.column(column)?, value);
            }
            emit.event(Event::Rows { dataset: table.name().into(), batch: table.finish()? }).await?;
        }
        rows.hand_out(emit).await
    }

    /// Asks for coming stays that the window does not list any more, one by one: they may have moved to another listing.
    async fn missing(
        &self,
        listing: &PartnerListing,
        today: &str,
        seen: &BTreeMap<String, Listed>,
        position: &mut Position,
        rows: &mut Rows,
    ) -> Result<()> {
        let ours = |listed: &Listed| listed.listing == listing.listing;
        let missing: Vec<String> = position
            .reservations
            .iter()
            .filter(|(code, listed)| ours(listed) && !seen.contains_key(*code))
            .map(|(code, _)| code.clone())
            .collect();
        for code in missing {
            let past = position.reservations.get(&code).is_some_and(|listed| listed.check_out.as_str() < today);
            if !past {
                self.one(&code, rows).await?;
            }
            position.reservations.remove(&code);
        }
        Ok(())
    }

    /// One reservation as it is now, or that it is gone.
    async fn one(&self, code: &str, rows: &mut Rows) -> Result<()> {
        let sound = !code.is_empty() && code.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if !sound {
            return Err(Fault::user("a reservation's code holds letters and digits only"));
        }
        match self.call(&format!("reservations/{code}"), &[]).await {
            Ok(body) => {
                #[derive(Deserialize)]
                struct One<'a> {
                    #[serde(borrow)]
                    reservation: &'a RawValue,
                }
                let one: One<'_> = serde_json::from_slice(&body).map_err(strange)?;
                let object: Object<'_> = serde_json::from_str(one.reservation.get()).map_err(strange)?;
                rows.put(&object);
                Ok(())
            }
            Err(Refusal { cause: Cause::Status(StatusCode::NOT_FOUND | StatusCode::GONE, _), .. }) => {
                if !self.tables.stored(&self.connection, &[code.to_owned()]).await?.is_empty() {
                    rows.gone(code, self.clock.now());
                }
                Ok(())
            }
            Err(refusal) => Err(refusal.fault),
        }
    }

    /// These reservations as they are now.
    pub(super) async fn objects(&self, ids: &[String], emit: &mut Emit) -> Result<()> {
        let mut rows = Rows::new(&self.connection)?;
        let codes: BTreeSet<&str> = ids.iter().map(|id| id.strip_prefix("reservation:").unwrap_or(id)).collect();
        for code in codes {
            self.one(code, &mut rows).await?;
        }
        rows.hand_out(emit).await?;
        emit.event(Event::Checkpoint(Cursor::of(&Position::default())?)).await
    }

    async fn get(&self, path: &str, query: &[(&str, String)]) -> Result<bytes::Bytes> {
        Ok(self.call(path, query).await?)
    }

    /// A call with a token. One that is refused is renewed once.
    async fn call(&self, path: &str, query: &[(&str, String)]) -> Result<bytes::Bytes, Refusal> {
        let ours = |fault| Refusal { cause: Cause::Unreachable, fault };
        let url = self.base.join(path).map_err(|e| ours(Fault::us("an address cannot be built").because(e)))?;
        let mut refused: Option<SecretString> = None;
        loop {
            let token = self.authority.token(refused.as_ref()).await.map_err(ours)?;
            let request = self
                .client
                .request(Method::GET, url.clone())
                .query(query)
                .header("X-Airbnb-API-Key", self.config.api_key.resolve().map_err(ours)?.expose_secret())
                .header("X-Airbnb-OAuth-Token", token.expose_secret());
            match self.client.call(request).await {
                Ok(answer) => return Ok(answer.body),
                Err(Refusal { cause: Cause::Status(StatusCode::UNAUTHORIZED, _), .. }) if refused.is_none() => {
                    refused = Some(token);
                }
                Err(refusal) => return Err(refusal),
            }
        }
    }
}

fn strange(error: serde_json::Error) -> Fault {
    // The text of the error may quote the answer; its place does not.
    Fault::remote(format!("the answer is not what is known of it, at line {} column {}", error.line(), error.column()))
        .hint("Nobody has checked the partner API against Airbnb itself: its answers may have another shape.")
}

/// Rows of reservations under construction.
struct Rows {
    table: Table,
    columns: Columns,
    kind: usize,
    connection: String,
    rejects: Vec<Reject>,
}

impl Rows {
    fn new(connection: &str) -> Result<Self> {
        let table = Table::of("channel_reservations")?;
        let (columns, kind) = (Columns::of(&table)?, table.column("type")?);
        Ok(Self { table, columns, kind, connection: connection.to_owned(), rejects: Vec::new() })
    }

    fn begin(&mut self, code: &str) {
        let c = self.columns;
        self.table.add();
        for (column, value) in [
            (c.connection, self.connection.as_str()),
            (c.connector, "airbnb"),
            (c.reservation_id, code),
            (c.segment, "0"),
        ] {
            self.table.put(column, value);
        }
    }

    fn gone(&mut self, code: &str, at: DateTime<Utc>) {
        self.begin(code);
        self.table.put(self.columns.presence, "gone");
        self.table.put(self.columns.updated_at, &at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true));
    }

    /// Only what a booking needs is taken; everything else about the guest stays where it is.
    fn put(&mut self, object: &Object<'_>) {
        let Some(code) = text(object, "confirmation_code") else { return self.refuse(object) };
        let details: Object<'_> =
            field(object, "guest_details").and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default();
        let phones: Vec<&RawValue> = field(object, "guest_phone_numbers")
            .and_then(|raw| serde_json::from_str(raw.get()).ok())
            .unwrap_or_default();
        let (first, last) = (text(object, "guest_first_name"), text(object, "guest_last_name"));
        let name: Vec<&str> = [first.as_deref(), last.as_deref()].into_iter().flatten().collect();
        let from = text(object, "check_in_datetime");
        let until = text(object, "check_out_datetime");
        let (from, until) = (from.as_deref().map(clock), until.as_deref().map(clock));
        let zone = text(object, "time_zone").or_else(|| from.and_then(|(_, zone)| zone).map(str::to_owned));
        // The numbers are more than a double can hold, so they come as text too.
        let number = |name: &str| text(object, &format!("{name}_str")).or_else(|| text(object, name));
        self.begin(&code);
        let c = self.columns;
        for (column, value) in [
            (c.identity, Some("strong".to_owned())),
            (c.platform, Some("airbnb".to_owned())),
            (self.kind, Some("reservation".to_owned())),
            (c.external_code, Some(code)),
            (c.listing_id, number("listing_id")),
            (c.guest_id, number("guest_id")),
            (c.guest_name, (!name.is_empty()).then(|| name.join(" "))),
            (c.guest_email, text(object, "guest_email")),
            (c.guest_phone, phones.first().and_then(|phone| cell(phone)).filter(|phone| !phone.is_empty())),
            (c.guest_locale, text(object, "guest_preferred_locale")),
            (c.check_in, text(object, "start_date")),
            (c.check_out, text(object, "end_date")),
            (c.check_in_time, from.and_then(|(time, _)| time).map(str::to_owned)),
            (c.check_out_time, until.and_then(|(time, _)| time).map(str::to_owned)),
            (c.time_zone, zone),
            (c.adults, text(&details, "number_of_adults")),
            (c.children, text(&details, "number_of_children")),
            (c.infants, text(&details, "number_of_infants")),
            (c.guest_count, text(object, "number_of_guests").filter(|_| details.is_empty())),
            (c.status, text(object, "status_type")),
            // What the guest pays is not told. The twins without `_accurate` are rounded.
            (c.host_payout, text(object, "expected_payout_amount_accurate")),
            (c.subtotal_amount, text(object, "listing_base_price_accurate")),
            (c.tax_amount, text(object, "occupancy_tax_amount_paid_to_host_accurate")),
            (c.paid_amount, text(object, "total_paid_amount_accurate")),
            (c.currency, text(object, "host_currency")),
            (c.booked_at, text(object, "booked_at")),
            (c.created_at, text(object, "created_at")),
            (c.updated_at, text(object, "updated_at")),
            (c.guest_first_name, first),
            (c.guest_last_name, last),
        ] {
            if let Some(value) = value {
                self.table.put(column, &value);
            }
        }
    }

    fn refuse(&mut self, object: &Object<'_>) {
        self.rejects.push(Reject {
            dataset: "channel_reservations".to_owned(),
            scope: Some(self.connection.clone()),
            key: text(object, "listing_id_str").unwrap_or_default(),
            kind: RejectKind::Row,
            reason: "a reservation without `confirmation_code`".to_owned(),
            payload: json!({ "listing_id": text(object, "listing_id_str") }),
        });
    }

    async fn hand_out(mut self, emit: &mut Emit) -> Result<()> {
        if self.table.rows() > 0 {
            emit.event(Event::Rows { dataset: self.table.name().into(), batch: self.table.finish()? }).await?;
        }
        for reject in self.rejects {
            emit.event(Event::Reject(reject)).await?;
        }
        Ok(())
    }
}

/// A value as text; empty is nothing.
fn text(object: &Object<'_>, key: &str) -> Option<String> {
    object.get(key).and_then(|value| cell(value)).filter(|text| !text.is_empty())
}

/// Time of day and zone of `2026-09-06T15:00+01:00[Europe/London]`, which is no RFC 3339.
fn clock(text: &str) -> (Option<&str>, Option<&str>) {
    let time = text.split_once('T').and_then(|(_, rest)| rest.get(..5)).filter(|time| {
        time.bytes().enumerate().all(|(at, byte)| if at == 2 { byte == b':' } else { byte.is_ascii_digit() })
    });
    let zone = text.split_once('[').and_then(|(_, rest)| rest.strip_suffix(']'));
    (time, zone)
}

/// Airbnb's notifications. They are not signed, so they prove themselves by user and password, and nothing that they say is
/// believed: the reservation is read again.
#[derive(Debug)]
struct Callbacks {
    user: String,
    passwords: Vec<SecretRef>,
    host_id: Option<String>,
}

#[derive(Deserialize)]
struct Callback<'a> {
    action: Cow<'a, str>,
    #[serde(default, borrow)]
    reservation: Option<&'a RawValue>,
    #[serde(default, borrow)]
    confirmation_code: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    host_id: Option<&'a RawValue>,
    #[serde(default, borrow)]
    host_id_str: Option<&'a RawValue>,
}

/// The actions after which a reservation is another.
const RESERVATION_ACTIONS: [&str; 6] = [
    "reservation_acceptance_confirmation",
    "reservation_alteration_confirmation",
    "reservation_cancellation_confirmation",
    "reservation_requested",
    "reservation_request_voided",
    "payout_notification",
];

impl Webhook for Callbacks {
    fn verify(&self, delivery: &Delivery) -> Result<(), Refused> {
        any_basic(delivery, &self.user, &self.passwords)
    }

    fn identify(&self, delivery: &Delivery) -> Result<Identity, Refused> {
        let callback: Callback<'_> = serde_json::from_slice(&delivery.body)
            .map_err(|_| Refused::Malformed("the body is not JSON with an `action`".into()))?;
        Ok(Identity { id: body_id(&delivery.body), event: callback.action.chars().take(100).collect() })
    }

    fn decode(&self, delivery: &Delivery) -> Result<Decoded> {
        let callback: Callback<'_> = serde_json::from_slice(&delivery.body).map_err(strange)?;
        let mut decoded = Decoded { stream: "bookings".into(), ..Decoded::default() };
        if callback.action == "authorization_revoked" {
            let named = callback.host_id_str.or(callback.host_id).and_then(cell);
            decoded.revoked = self.host_id.is_none() || self.host_id == named;
            decoded.aside = Some("it is about another host than `host_id` of the settings");
        } else if RESERVATION_ACTIONS.contains(&&*callback.action) {
            let reservation: Object<'_> =
                callback.reservation.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default();
            let code = text(&reservation, "confirmation_code").or(callback.confirmation_code.map(Cow::into_owned));
            let code = code.ok_or_else(|| {
                Fault::remote(format!("a callback `{}` without `confirmation_code`", callback.action))
            })?;
            decoded.objects.push(format!("reservation:{code}"));
        }
        Ok(decoded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_with_their_zone_in_brackets() {
        assert_eq!(clock("2026-09-06T15:00+01:00[Europe/London]"), (Some("15:00"), Some("Europe/London")));
        assert_eq!(clock("2026-09-06T15:00:00Z"), (Some("15:00"), None));
        for strange in ["", "2026-09-06", "T1", "Té:00x", "2026-09-06T[x"] {
            assert_eq!(clock(strange).0, None, "{strange}");
        }
    }
}
