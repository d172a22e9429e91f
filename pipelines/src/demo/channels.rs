//! Booking channels: one world of stays behind four channels and a website, pulled and received, and the calendar made of them.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use catalog::store::pg::fault;
use catalog::{Fault, Result};
use chrono::{DateTime, Days, NaiveDate, Utc};
use connectors::webhook::sign;
use fixtures::desk::{Knobs, Post, Sender};
use fixtures::guesty::Sending;
use fixtures::mail::MailServer;
use fixtures::stays::{Booking, Kind, Listing, Manager, Platform, Shape, Shared, Status, Stays};
use fixtures::{calendars, guesty, hostaway, ownerrez};
use serde_json::{Value, json};

use super::house::{House, until};
use super::{Scene, ask};
use crate::cli::print;
use crate::map;
use crate::wiring::{Wire, secret};

/// Nights ahead that are compared.
const AHEAD: usize = 120;
/// Subjects of mails that are shown.
const SUBJECTS: usize = 4;
/// Stays of each listing when the world begins.
const STAYS: usize = 10;
/// The signing secrets of this demo, invented.
const GUESTY_SECRET: &str = "whsec_ZGVtbyBvZiBhIGNoYW5uZWwncyBzZWNyZXQ=";
const WEBSITE_SECRET: &str = "whsec_ZGVtbyBvZiBhIHdlYnNpdGUncyBzZWNyZXQ=";
/// The website's own name for the place that it lets.
const WEBSITE_LISTING: &str = "beach-house";

/// The coast: places to stay, and who lets them.
pub(super) struct Coast {
    stays: Shared,
    guesty: guesty::Simulator,
    ownerrez: ownerrez::Simulator,
    hostaway: hostaway::Simulator,
    /// The calendars that Airbnb and VRBO export.
    sites: calendars::Simulator,
    mail: MailServer,
}

/// What our calendar says about the nights ahead, beside the truth.
#[derive(Default)]
struct Compared {
    nights: usize,
    taken: usize,
    /// Taken there, free here: these would be booked twice.
    open: Vec<String>,
    /// Free there, taken here.
    shut: Vec<String>,
    /// The same at places whose calendar is all we have: it is believed only after it has said so for hours.
    held: usize,
}

impl Coast {
    pub(super) async fn start(seed: u64, listings: usize, now: DateTime<Utc>) -> Result<Self> {
        let stays = Shared::new(Stays::new(Shape { seed, listings, stays: STAYS, now }));
        Ok(Self {
            guesty: guesty::Simulator::start(stays.clone(), guesty::Options::default()).await?,
            ownerrez: ownerrez::Simulator::start(stays.clone(), ownerrez::Options::default()).await?,
            hostaway: hostaway::Simulator::start(stays.clone(), hostaway::Options::default()).await?,
            sites: calendars::Simulator::start(stays.clone(), calendars::Options::default()).await?,
            mail: MailServer::start().await?,
            stays,
        })
    }

    /// How the built-in pipelines reach it.
    pub(super) fn wires(&self, dir: &Path) -> Result<Vec<Wire>> {
        let limits = json!({ "calls_per_sec": 1000, "burst": 100, "backoff_ms": 20 });
        let listings = self.stays.lock().listings.clone();
        let managed = |by: Manager| -> BTreeMap<String, String> {
            let ours = listings.iter().filter(|l| l.manager == by);
            ours.map(|l| (l.manager_id.clone(), l.property.clone())).collect()
        };
        let calendar = |site: &str, listing: &Listing, id: &str, url: &str| -> Result<Value> {
            let url = secret(dir, &format!("{site}-{}", listing.index), url)?;
            Ok(json!({ "listing": id, "property": listing.property, "zone": listing.zone.name(), "url": url }))
        };
        let airbnb = (listings.iter().filter(|l| has_feed(l)))
            .map(|l| calendar("airbnb", l, &l.airbnb_id, &self.sites.airbnb_url(l.index)))
            .collect::<Result<Vec<_>>>()?;
        let vrbo = (listings.iter().filter(|l| l.manager == Manager::None))
            .map(|l| calendar("vrbo", l, &l.vrbo_id, &self.sites.vrbo_url(l.index)))
            .collect::<Result<Vec<_>>>()?;
        let (owner, host) = (self.ownerrez.credentials(), self.hostaway.credentials());
        let mut wires = vec![
            Wire {
                connector: "guesty",
                variables: vec![
                    ("GUESTY_BASE_URL", self.guesty.base_url()),
                    ("GUESTY_TOKEN_URL", self.guesty.token_url()),
                    ("GUESTY_CLIENT_ID", self.guesty.client_id().to_owned()),
                    ("GUESTY_CLIENT_SECRET", self.guesty.client_secret().to_owned()),
                ],
                settings: json!({
                    "webhook_secrets": [secret(dir, "guesty-webhook", GUESTY_SECRET)?],
                    "properties": managed(Manager::Guesty), "rescan_secs": 0, "calendar_secs": 0,
                    "limits": {
                        "calls_per_sec": 1000, "burst": 100, "calls_per_min": 100_000, "calls_per_hour": 1_000_000,
                        "backoff_ms": 20,
                    },
                }),
            },
            Wire {
                connector: "ownerrez",
                variables: vec![
                    ("OWNERREZ_URL", self.ownerrez.base_url()),
                    ("OWNERREZ_TOKEN", owner.access_token.clone()),
                    ("OWNERREZ_CLIENT_ID", owner.client_id.clone()),
                ],
                settings: json!({
                    "webhook": {
                        "user": owner.webhook_user, "user_id": owner.user_id,
                        "passwords": [secret(dir, "ownerrez-webhook", &owner.webhook_password)?],
                    },
                    "properties": managed(Manager::OwnerRez), "compare_every_secs": 0, "limits": limits,
                }),
            },
            Wire {
                connector: "hostaway",
                variables: vec![
                    ("HOSTAWAY_URL", self.hostaway.base_url()),
                    ("HOSTAWAY_ACCOUNT_ID", host.account_id.clone()),
                    ("HOSTAWAY_CLIENT_SECRET", host.client_secret.clone()),
                ],
                settings: json!({
                    "webhook": {
                        "login": host.webhook_login,
                        "passwords": [secret(dir, "hostaway-webhook", &host.webhook_password)?],
                    },
                    "properties": managed(Manager::Hostaway), "compare_every_secs": 0, "token_wait_ms": 0,
                    "limits": limits,
                }),
            },
            Wire {
                connector: "intake",
                variables: vec![("PROPFLOW_INTAKE_SECRET", WEBSITE_SECRET.to_owned())],
                settings: json!({}),
            },
        ];
        for (connector, feeds) in [("airbnb", airbnb), ("vrbo", vrbo)] {
            // A coast may be so small that somebody manages all of it.
            if !feeds.is_empty() {
                let settings = json!({ "feeds": feeds, "allow_private": true, "limits": limits });
                wires.push(Wire { connector, variables: Vec::new(), settings });
            }
        }
        Ok(wires)
    }

    /// The mail server, for the couriers.
    pub(super) fn mail_settings(&self) -> Vec<(&'static str, String)> {
        vec![
            ("SMTP_HOST", "127.0.0.1".to_owned()),
            ("SMTP_PORT", self.mail.port.to_string()),
            ("SMTP_SECURITY", "none".to_owned()),
            ("SMTP_FROM", "Coast Stays <stays@coast.example>".to_owned()),
        ]
    }

    /// Who does services and who owns the first place.
    pub(super) async fn staff(&self, scene: &Scene<'_>) -> Result<()> {
        let property = self.stays.lock().listings[0].property.clone();
        let failed = |e| fault("cannot write down who does services", e);
        for sql in [
            "insert into sync.staff (staff_id, name, channel, email) values ('crew', 'Coast Crew', 'email', 'crew@coast.example')",
            "insert into sync.owners (owner_id, name, channel, email) values ('shore', 'Shore Homes', 'email', 'owner@coast.example')",
        ] {
            sqlx::query(sql).execute(&scene.database.pool).await.map_err(failed)?;
        }
        sqlx::query(
            "insert into sync.property_services (property_id, owner_id, service_level) values ($1, 'shore', 'premium')",
        )
        .bind(property)
        .execute(&scene.database.pool)
        .await
        .map_err(failed)?;
        Ok(())
    }

    /// Some hours of a channel's life: stays booked, moved, called off, deleted.
    pub(super) fn live(&self, scene: &Scene<'_>, changes: usize) -> usize {
        let mut stays = self.stays.lock();
        stays.now = scene.app.clock.now();
        (0..changes).filter(|_| stays.mutate().is_some()).count()
    }

    /// Holds the calendar against the truth.
    ///
    /// # Errors
    /// When a taken night is free here, or a free one taken without a reason.
    pub(super) async fn check(&self, scene: &Scene<'_>, out: &mut dyn Write) -> Result<()> {
        let compared = self.compare(scene).await?;
        if let Some(night) = compared.open.first().or_else(|| compared.shut.first()) {
            return Err(Fault::us(format!("the calendar is wrong: {night}")));
        }
        let Compared { nights, taken, held, .. } = compared;
        print(
            out,
            format_args!(
                "Calendar: {nights} nights compared with the channels' truth, {taken} taken, none free that is taken."
            ),
        )?;
        if held > 0 {
            print(
                out,
                format_args!(
                    "{held} more stay closed for now: the calendar that they have no longer shows them, and is believed after some hours."
                ),
            )?;
        }
        Ok(())
    }

    async fn compare(&self, scene: &Scene<'_>) -> Result<Compared> {
        let days: Vec<(String, NaiveDate, String)> =
            sqlx::query_as("select property_id, day, state from serving.booking_calendar")
                .fetch_all(&scene.database.pool)
                .await
                .map_err(|e| fault("cannot read the calendar", e))?;
        let days: BTreeMap<(&str, NaiveDate), &str> =
            days.iter().map(|(property, day, state)| ((property.as_str(), *day), state.as_str())).collect();
        let stays = self.stays.lock();
        let mut compared = Compared::default();
        for listing in &stays.listings {
            for night in stays.today(listing.index).iter_days().skip(1).take(AHEAD) {
                let property = listing.property.as_str();
                let there = stays.night(listing.index, night).is_some();
                let here = days.get(&(property, night)).is_some_and(|state| *state != "free");
                compared.nights += 1;
                compared.taken += usize::from(there);
                match (there, here) {
                    (true, false) => compared.open.push(format!("{property} is free on {night}")),
                    (false, true) if has_feed(listing) => compared.held += 1,
                    (false, true) => compared.shut.push(format!("{property} is taken on {night}")),
                    _ => {}
                }
            }
        }
        Ok(compared)
    }

    /// What is around the stays: services, messages, figures.
    pub(super) async fn show(&self, scene: &Scene<'_>, out: &mut dyn Write) -> Result<()> {
        ask(scene, out, "Who told of the stays, and how many did two channels tell alike?", None, SOURCES).await?;
        ask(scene, out, "What has to be done around them next?", None, SERVICES).await?;
        let mails = self.mail.mails();
        let subjects: BTreeMap<String, usize> = mails.iter().fold(BTreeMap::new(), |mut all, mail| {
            *all.entry(mail.header("subject").unwrap_or_default()).or_default() += 1;
            all
        });
        print(out, format_args!("Mails to guests, owners and staff that are due: {}.", mails.len()))?;
        for (subject, count) in subjects.iter().take(SUBJECTS) {
            print(out, format_args!("  {count} x {subject}"))?;
        }
        let more: usize = subjects.values().skip(SUBJECTS).sum();
        if more > 0 {
            print(out, format_args!("  and {more} more"))?;
        }
        Ok(())
    }

    /// The afternoon: every channel tells of changes by webhook, in bad order, twice, forged and late.
    pub(super) async fn tell(&self, scene: &Scene<'_>, house: &House, out: &mut dyn Write) -> Result<()> {
        // What was pulled at noon is told no more.
        let (_, _) = (self.ownerrez.deliveries(), self.hostaway.deliveries());
        let first = self.stays.lock().changes.len();
        self.bustle(scene);
        let news = self.stays.lock().changes[first..].to_vec();
        let sending = |sending: Sending| -> Vec<Post> {
            let letters = self.guesty.letters(&news, GUESTY_SECRET, sending);
            letters.into_iter().map(|l| Post { headers: l.headers, body: l.body }).collect()
        };
        let twice = sending(Sending { duplicate: true, reorder: true, ..Sending::default() });
        let forged = sending(Sending { forge: true, ..Sending::default() });
        let stale = sending(Sending { age_secs: 3600, ..Sending::default() });
        let mut answers: BTreeMap<(&str, u16), usize> = BTreeMap::new();
        for (who, connection, posts) in [
            ("Guesty, each twice, newest first", "guesty/guesty", twice),
            ("Guesty, signed by somebody else", "guesty/guesty", forged),
            ("Guesty, signed an hour ago", "guesty/guesty", stale),
            ("OwnerRez", "ownerrez/ownerrez", self.ownerrez.deliveries()),
            ("Hostaway", "hostaway/hostaway", self.hostaway.deliveries()),
        ] {
            let url = format!("{}/api/webhooks/{connection}", house.url);
            for sent in Sender::new(Knobs::default()).send(&url, posts).await {
                let status = sent.status.ok_or_else(|| Fault::us(format!("a delivery of {who} was not answered")))?;
                *answers.entry((who, status)).or_default() += 1;
            }
        }
        self.website(scene, house).await?;
        for ((who, status), count) in &answers {
            print(out, format_args!("  {count:>3} x {status}  {who}"))?;
        }
        let (_, took) = until("the calendar to follow the webhooks", async || {
            let compared = self.compare(scene).await?;
            Ok((compared.open.is_empty() && compared.shut.is_empty()).then_some(()))
        })
        .await?;
        let stored: i64 = sqlx::query_scalar("select count(*) from ops.deliveries where state = 'processed'")
            .fetch_one(&scene.database.pool)
            .await
            .map_err(|e| fault("cannot read the deliveries", e))?;
        print(
            out,
            format_args!(
                "{stored} deliveries processed, each once; the calendar was right again {} after the last.",
                millis(took)
            ),
        )?;
        self.check(scene, out).await
    }

    /// On every managed place a stay is made, one moved by a day, one called off; on the first one also on the website.
    fn bustle(&self, scene: &Scene<'_>) {
        let mut stays = self.stays.lock();
        stays.now = scene.app.clock.now();
        for listing in stays.listings.clone() {
            if listing.manager == Manager::None {
                continue;
            }
            let soon = stays.today(listing.index) + Days::new(15);
            stays.book_next(listing.index, soon, 3, Platform::Direct);
            let ahead: Vec<(u64, NaiveDate, NaiveDate)> = (stays.reservations.iter())
                .filter(|r| r.listing == listing.index && r.kind == Kind::Stay && r.status == Status::Confirmed)
                .filter(|r| !r.deleted && r.moves.is_none() && r.check_in > soon)
                .map(|r| (r.number, r.check_in, r.check_out))
                .collect();
            if let [(moved, from, to), (off, ..), ..] = ahead[..] {
                stays.move_dates(moved, from, to + Days::new(1));
                stays.cancel(off, true);
            }
        }
    }

    /// A stay is booked on a website that nobody has tied to a property yet; then somebody does.
    async fn website(&self, scene: &Scene<'_>, house: &House) -> Result<()> {
        let (listing, check_in, number) = {
            let mut stays = self.stays.lock();
            let listing = stays.listings.iter().find(|l| l.manager == Manager::None).cloned();
            let Some(listing) = listing else { return Ok(()) };
            let from = stays.today(listing.index) + Days::new(30);
            let (kind, status) = (Kind::Stay, Status::Confirmed);
            let free = from.iter_days().take(AHEAD).find(|d| stays.free(listing.index, *d, *d + Days::new(2), None));
            let Some(check_in) = free else { return Ok(()) };
            let booking = Booking {
                listing: listing.index,
                check_in,
                check_out: check_in + Days::new(2),
                platform: Platform::Direct,
                kind,
                status,
            };
            (listing, check_in, stays.book(booking))
        };
        let body = json!({
            "booking_id": format!("web-{}", number.unwrap_or_default()), "platform": "direct",
            "property_id": WEBSITE_LISTING, "guest_name": "Rosa Quill", "guest_email": "rosa.quill@mail.example",
            "guest_phone": "+1 251 555 0188", "check_in": check_in, "check_out": check_in + Days::new(2),
            "guest_count": 2, "booking_status": "confirmed", "total_amount": "540.00", "currency": "USD",
        })
        .to_string();
        let sent = scene.app.clock.now().timestamp();
        let key = catalog::SecretRef::parse(&secret(scene.dir, "website", WEBSITE_SECRET)?)?;
        let signature = sign(&key, "web-1", sent, body.as_bytes())?;
        let headers = [
            ("content-type", "application/json".to_owned()),
            ("webhook-id", "web-1".to_owned()),
            ("webhook-timestamp", sent.to_string()),
            ("webhook-signature", signature),
        ];
        let headers = headers.map(|(name, value)| (name.to_owned(), value)).to_vec();
        let url = format!("{}/api/webhooks/booking-created", house.url);
        let answers = Sender::new(Knobs::default()).send(&url, vec![Post { headers, body }]).await;
        if answers.iter().any(|a| a.status != Some(202)) {
            return Err(Fault::us("the website's booking was not taken"));
        }
        until("the website's booking", async || {
            let waits: bool =
                sqlx::query_scalar("select exists (select from serving.unmapped_listings where listing_id = $1)")
                    .bind(WEBSITE_LISTING)
                    .fetch_one(&scene.database.pool)
                    .await
                    .map_err(|e| fault("cannot read the listings", e))?;
            Ok(waits.then_some(()))
        })
        .await?;
        let options = map::Options {
            connection: Some("intake".to_owned()),
            listing: Some(WEBSITE_LISTING.to_owned()),
            property: Some(listing.property),
        };
        map::map(scene.app, scene.database, &options, false, &mut std::io::sink()).await
    }
}

/// A calendar is read for places that nobody manages, and for Guesty's, which so are told of twice.
fn has_feed(listing: &Listing) -> bool {
    matches!(listing.manager, Manager::Guesty | Manager::None)
}

/// A time as people read it.
pub(super) fn millis(time: Duration) -> String {
    format!("{:.0} ms", time.as_secs_f64() * 1000.0)
}

const SOURCES: &str = "\
select platform, count(*) as bookings, count(*) filter (where booking_status = 'cancelled') as cancelled, \
  count(*) filter (where sources > 1) as told_by_two, sum(nights) filter (where booking_status <> 'cancelled') as nights \
from serving.bookings where kind = 'stay' group by platform order by bookings desc, platform";

const SERVICES: &str = "\
select due_local as due, property_id as property, service_type as service, trigger_event as because, state, staff_name as staff \
from serving.upcoming_services where due_at > now() order by due_at, property_id, service_type limit 6";
