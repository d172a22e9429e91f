//! A manager and a site's calendars tell of the same places: real connectors, from pipeline files to the one calendar.

#![expect(clippy::unwrap_used, reason = "the functions below are parts of tests")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use catalog::quota::LocalQuota;
use catalog::store::runs::Status;
use catalog::{Clock, TestClock};
use chrono::{Days, NaiveDate, TimeDelta, TimeZone, Utc};
use fixtures::stays::{Kind, Listing, Manager, Platform, Shape, Shared, Stays};
use fixtures::{calendars, guesty};
use kit::db::TestDb;
use kit::vendors::secret;
use pipelines::app::{App, Asked, Database};
use pipelines::progress::Silent;
use pipelines::run::{Summary, run};
use serde_json::json;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

const PIPELINES: [&str; 2] = ["guesty_bookings", "airbnb_bookings"];
/// Nights ahead that are compared.
const AHEAD: usize = 150;

/// One world behind a manager's account and a site's calendars, and an installation that reads both.
struct Coast {
    db: TestDb,
    database: Arc<Database>,
    clock: TestClock,
    app: App,
    stays: Shared,
    _sims: (guesty::Simulator, calendars::Simulator),
    _dir: TempDir,
}

/// The property behind a listing: the calendars' settings name those that nobody manages; a managed one is found by the
/// number on Airbnb that its listing at the manager has.
fn property(l: &Listing) -> String {
    match l.manager {
        Manager::Guesty => format!("guesty:{}", l.manager_id),
        _ => l.property.clone(),
    }
}

fn ours(l: &Listing) -> bool {
    matches!(l.manager, Manager::Guesty | Manager::None)
}

impl Coast {
    async fn new(seed: u64) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let now = Utc.with_ymd_and_hms(2026, 6, 1, 15, 0, 0).unwrap();
        let stays = Shared::new(Stays::new(Shape { seed, listings: 8, stays: 8, now }));
        let manager = guesty::Simulator::start(stays.clone(), guesty::Options::default()).await.unwrap();
        let site = calendars::Simulator::start(stays.clone(), calendars::Options::default()).await.unwrap();
        let db = TestDb::new().await;
        let database = Database::open(Some(&db.url)).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let listings = stays.lock().listings.clone();
        let feeds: Vec<_> = (listings.iter().filter(|l| ours(l)))
            .map(|l| {
                let url = secret(dir.path(), &format!("feed{}", l.index), &site.airbnb_url(l.index));
                let mut feed = json!({ "listing": l.airbnb_id, "url": url, "zone": l.zone.name() });
                if l.manager == Manager::None {
                    feed["property"] = json!(l.property);
                }
                feed
            })
            .collect();
        let limits = json!({
            "calls_per_sec": 100_000, "burst": 1000, "calls_per_min": 10_000_000, "calls_per_hour": 10_000_000,
            "backoff_ms": 1,
        });
        let account = json!({
            "base_url": manager.base_url(), "token_url": manager.token_url(),
            "client_id": secret(dir.path(), "id", manager.client_id()),
            "client_secret": secret(dir.path(), "key", manager.client_secret()),
            "rescan_secs": 0, "calendar_secs": 0, "calendar_days": AHEAD + 60, "limits": limits,
        });
        write_spec(dir.path(), PIPELINES[0], "guesty", &account);
        write_spec(
            dir.path(),
            PIPELINES[1],
            "airbnb",
            &json!({ "feeds": feeds, "allow_private": true, "limits": { "calls_per_sec": 100_000, "burst": 1000 } }),
        );
        let clock = TestClock::at(now);
        let app = App {
            specs: Some(dir.path().join("specs")),
            database_url: Some(db.url.clone()),
            clock: Arc::new(clock.clone()),
            observer: Arc::new(Silent),
        };
        Self { db, database, clock, app, stays, _sims: (manager, site), _dir: dir }
    }

    async fn pull(&self, pipeline: &str) -> Summary {
        let plan = self.app.plan(pipeline).await.unwrap();
        let asked = Asked { trigger: "manual".to_owned(), read: None, only: Vec::new(), fresh: false };
        let job = self.app.job(&plan, &self.database, asked).await.unwrap();
        let mut world = self.app.world(Some(&self.database));
        world.quota = Arc::new(LocalQuota::default());
        let summary = run(&world, job, &CancellationToken::new()).await.unwrap_or_else(|f| panic!("{}", f.chain()));
        assert_eq!(summary.status, Status::Succeeded, "{:?}", summary.failed_scopes);
        summary
    }

    fn pass(&self, time: TimeDelta) {
        self.stays.lock().pass(time);
        self.clock.advance(time);
        assert_eq!(self.clock.now(), self.stays.lock().now);
    }

    async fn compare(&self, context: &str) {
        let days: Vec<(String, NaiveDate, String, bool)> =
            sqlx::query_as("select property_id, day, state, conflict from core.calendar_days where deleted_at is null")
                .fetch_all(&self.db.pool)
                .await
                .unwrap();
        let days: BTreeMap<(String, NaiveDate), (String, bool)> =
            days.into_iter().map(|(p, d, s, c)| ((p, d), (s, c))).collect();
        let stays = self.stays.lock();
        let mut wrong = Vec::new();
        for l in stays.listings.iter().filter(|l| ours(l)) {
            for night in stays.today(l.index).iter_days().take(AHEAD) {
                let taker = stays.night(l.index, night);
                let (found, conflict) = days
                    .get(&(property(l), night))
                    .unwrap_or_else(|| panic!("{context}: {} has no {night}", property(l)));
                let wanted = match taker {
                    None => "free",
                    // A calendar says of its site's own stays that they are; of all else that the nights are closed.
                    Some(r) if l.manager == Manager::None => {
                        let own = r.kind == Kind::Stay && r.platform == Platform::Airbnb;
                        if own && r.status != fixtures::stays::Status::Pending { "booked" } else { "blocked" }
                    }
                    Some(r) => match (r.kind, guesty::is_reservation(&stays, r)) {
                        (Kind::Owner, _) => "owner",
                        (_, false) => "blocked",
                        (Kind::Hold, _) => "held",
                        (_, true) if r.status == fixtures::stays::Status::Pending => "held",
                        _ => "booked",
                    },
                };
                if found != wanted || *conflict {
                    wrong.push(format!(
                        "{} on {night} is {found} (conflict {conflict}), but {wanted}: {taker:?}",
                        property(l)
                    ));
                }
            }
        }
        assert!(
            wrong.is_empty(),
            "{context}: {} nights are wrong, first {:#?}",
            wrong.len(),
            &wrong[..wrong.len().min(3)]
        );
    }
}

fn write_spec(dir: &Path, name: &str, connector: &str, settings: &serde_json::Value) {
    let spec = json!({
        "name": name, "about": "a test",
        "source": { "connector": connector, "connection": connector, "stream": "bookings", "read": "changes", "settings": settings },
        "sinks": [{ "sink": "postgres" }],
    });
    let specs = dir.join("specs");
    std::fs::create_dir_all(&specs).unwrap();
    std::fs::write(specs.join(format!("{name}.toml")), toml::to_string(&spec).unwrap()).unwrap();
}

#[tokio::test]
async fn a_manager_and_calendars_of_one_world_make_its_calendar() {
    let coast = Coast::new(5).await;
    for pipeline in PIPELINES {
        coast.pull(pipeline).await;
    }
    coast.compare("at first").await;
    // A stay that both tell is one booking.
    let twice: i64 = sqlx::query_scalar(
        "select count(*) from (select booking_id from core.booking_sources where role <> 'echo' and present \
         group by 1 having count(distinct connection) = 2) x",
    )
    .fetch_one(&coast.db.pool)
    .await
    .unwrap();
    assert!(twice > 0, "nothing is told by both");
    {
        let mut stays = coast.stays.lock();
        let now = stays.now;
        let mut changes = 0;
        while changes < 25 {
            stays.pass(TimeDelta::minutes(1));
            changes += usize::from(stays.mutate().is_some());
        }
        // A new booking through each site at a managed place and one that nobody manages.
        for index in 0..stays.listings.len() {
            let from = stays.today(index) + Days::new(20);
            stays.book_next(index, from, 2, Platform::Airbnb).unwrap();
        }
        coast.clock.advance(stays.now - now);
    }
    // A calendar that has lost a stay is believed once it said so for hours.
    for _ in 0..5 {
        coast.pass(TimeDelta::hours(2));
        coast.pull(PIPELINES[1]).await;
    }
    coast.pull(PIPELINES[0]).await;
    coast.compare("after the changes").await;
    // Nothing new, nothing written.
    for pipeline in PIPELINES {
        let again = coast.pull(pipeline).await;
        let written: u64 = again.rows.values().map(|c| c.inserted + c.updated + c.deleted).sum();
        assert_eq!(written, 0, "`{pipeline}`: {:?}", again.rows);
    }
}
