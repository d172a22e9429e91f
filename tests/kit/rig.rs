//! A whole installation for one test: simulated ResMan, database, lake, clock, pipeline files.

use std::collections::BTreeMap;
use std::sync::Arc;

use catalog::store::PgQuota;
use catalog::{Result, TestClock};
use chrono::{DateTime, NaiveDate, TimeZone, Utc};
use fixtures::resman::{Options, Simulator};
use fixtures::world::{Shape, World};
use pipelines::app::{App, Asked, Database};
use pipelines::progress::Silent;
use pipelines::run::{Job, Summary, run};
use sqlx::{AssertSqlSafe, PgPool};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::db::TestDb;

/// The pipeline that the rig runs.
pub const PIPELINE: &str = "resman_inventory";

/// The day on which every rig's world begins.
pub fn today() -> NaiveDate {
    NaiveDate::from_ymd_opt(2026, 6, 1).unwrap()
}

/// The installation.
#[derive(Debug)]
pub struct Rig {
    /// Its database.
    pub db: TestDb,
    /// The same, as the program holds it.
    pub database: Arc<Database>,
    /// The folder of its lake, pipeline files and secrets.
    pub dir: TempDir,
    /// Its vendor.
    pub simulator: Simulator,
    /// Its time.
    pub clock: TestClock,
    /// Its program.
    pub app: App,
}

impl Rig {
    /// A small account: three properties of a dozen units.
    pub async fn small() -> Self {
        Self::of(3, 12, 11).await
    }

    /// An account of a size.
    pub async fn of(properties: usize, units: usize, seed: u64) -> Self {
        let world = World::generate(Shape { seed, properties, units, today: today() });
        let simulator = Simulator::start(world, Options::default()).await.unwrap();
        let db = TestDb::new().await;
        let database = Database::open(Some(&db.url)).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let clock = TestClock::at(now());
        let specs = pipelines::wiring::write_specs(dir.path(), &simulator, &dir.path().join("lake")).unwrap();
        let app = App {
            specs: Some(specs),
            database_url: Some(db.url.clone()),
            clock: Arc::new(clock.clone()),
            observer: Arc::new(Silent),
        };
        // A test must not wait for a vendor's rate limit; the quota has tests of its own.
        Self { db, database, dir, simulator, clock, app }
    }

    /// The pool.
    pub fn pool(&self) -> &PgPool {
        &self.db.pool
    }

    /// The lake's folder as text.
    pub fn lake(&self) -> String {
        self.dir.path().join("lake").display().to_string()
    }

    /// The built-in pipeline, opened.
    pub async fn job(&self) -> Job {
        let plan = self.app.plan(PIPELINE).await.unwrap();
        let asked = Asked { trigger: "manual".to_owned(), read: None, only: Vec::new(), fresh: false };
        self.app.job(&plan, &self.database, asked).await.unwrap()
    }

    /// Runs a job to its end.
    pub async fn run(&self, job: Job) -> Result<Summary> {
        let mut world = self.app.world(Some(&self.database));
        world.quota = Arc::new(PgQuota::new(self.db.pool.clone()));
        run(&world, job, &CancellationToken::new()).await
    }

    /// One pull of everything.
    pub async fn pull(&self) -> Summary {
        self.run(self.job().await).await.unwrap()
    }

    /// Every row of every table in `core`, as JSON without the bookkeeping columns, sorted.
    pub async fn tables(&self) -> BTreeMap<String, Vec<String>> {
        let names: Vec<String> =
            sqlx::query_scalar("select table_name::text from information_schema.tables where table_schema = 'core'")
                .fetch_all(self.pool())
                .await
                .unwrap();
        let mut tables = BTreeMap::new();
        for name in names {
            let rows: Vec<String> = sqlx::query_scalar(AssertSqlSafe(format!(
                "select ((to_jsonb(t) - 'created_at' - 'updated_at' - 'deleted_at') || \
                   jsonb_build_object('gone', t.deleted_at is not null))::text from core.\"{name}\" t order by 1"
            )))
            .fetch_all(self.pool())
            .await
            .unwrap();
            tables.insert(name, rows);
        }
        tables
    }

    /// The newest rows of the lake, by dataset, as CSV lines without the bookkeeping columns.
    pub async fn lake_tables(&self) -> BTreeMap<String, Vec<String>> {
        let context = transforms::session().unwrap();
        let names = pipelines::lake::register(&context, &self.lake()).await.unwrap();
        let mut tables = BTreeMap::new();
        for dataset in catalog::datasets::stored().into_iter().filter(|d| names.contains(&d.name)) {
            let columns: Vec<_> = dataset.columns.iter().map(|c| format!("\"{}\"", c.name)).collect();
            let sql = format!("select {} from \"{}\"", columns.join(", "), dataset.name);
            let batches = context.sql(&sql).await.unwrap().collect().await.unwrap();
            let mut csv = Vec::new();
            let mut writer = arrow::csv::WriterBuilder::new().with_header(false).build(&mut csv);
            for batch in &batches {
                writer.write(batch).unwrap();
            }
            drop(writer);
            let mut lines: Vec<String> = String::from_utf8(csv).unwrap().lines().map(str::to_owned).collect();
            lines.sort();
            tables.insert(dataset.name, lines);
        }
        tables
    }

    /// The unit numbers that the chatbot sees, by property.
    pub async fn served(&self) -> BTreeMap<String, Vec<String>> {
        let rows: Vec<(String, String)> =
            sqlx::query_as("select property_id, unit_number from serving.available_units order by 1, 2")
                .fetch_all(self.pool())
                .await
                .unwrap();
        let mut served: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (property, unit) in rows {
            served.entry(property).or_default().push(unit);
        }
        served
    }

    /// The unit numbers that the vendor offers, by property.
    pub fn truth(&self) -> BTreeMap<String, Vec<String>> {
        self.simulator.with_world(|world| {
            world
                .properties
                .iter()
                .map(|p| {
                    let mut units = world.offered_units(&p.id);
                    units.sort();
                    (p.id.clone(), units)
                })
                .filter(|(_, units)| !units.is_empty())
                .collect()
        })
    }
}

/// The instant at which every rig's clock begins: noon of [`today`] in UTC.
pub fn now() -> DateTime<Utc> {
    Utc.from_utc_datetime(&today().and_hms_opt(12, 0, 0).unwrap())
}
