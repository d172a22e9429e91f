//! Everything at work, in a minute, on this machine alone.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use catalog::store::runs;
use catalog::{Fault, Result};
use clap::Args;
use fixtures::resman::{Misbehaviour, Options as ResManOptions, Rule, Simulator};
use fixtures::world::{Shape, World};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::app::{App, Database};
use crate::cli::{End, print, wrote};
use crate::embedded::{Durability, PrivatePostgres, scratch};
use crate::render::Format;
use crate::simulate::write_specs;
use crate::{show, sql, worker};

/// How large the demo is.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Properties of the simulated account
    #[arg(long, default_value_t = 6)]
    properties: usize,
    /// Units of each property
    #[arg(long, default_value_t = 80)]
    units: usize,
    /// The same seed gives the same world
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Keep the lake in this folder
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// Where the demo's rows go: a scratch database on the given server, or a private server.
struct Stage {
    database: Arc<Database>,
    dir: PathBuf,
    /// The server's own URL and the name of the scratch database to drop.
    drop: Option<(String, String)>,
}

/// Runs the demo.
///
/// # Errors
/// Whatever a user's own run would fail with; the demo takes the same way.
pub async fn demo(app: &App, options: Options, out: &mut dyn Write, stop: &CancellationToken) -> Result<End> {
    let began = Instant::now();
    let stage = Stage::set(app.database_url.as_deref()).await?;
    let lake = options.keep.clone().unwrap_or_else(|| stage.dir.join("lake"));
    let result = play(app, &options, &stage, &lake, out, stop).await;
    stage.clear().await;
    let end = result?;
    print(out, format_args!("\nThe demo took {:.1} s.", began.elapsed().as_secs_f64()))?;
    if let Some(kept) = &options.keep {
        print(
            out,
            format_args!(
                "The lake is in `{0}`; try: propflow sql --lake {0} \"select * from units limit 5\"",
                kept.display()
            ),
        )?;
    } else {
        print(out, format_args!("Nothing is left behind; `propflow demo --keep DIR` keeps the lake."))?;
    }
    Ok(end)
}

impl Stage {
    async fn set(url: Option<&str>) -> Result<Self> {
        let dir = scratch("demo");
        std::fs::create_dir_all(&dir).map_err(|e| {
            Fault::user(format!("`{}` cannot be made", dir.display())).hint("Check `TMPDIR`.").because(e)
        })?;
        let Some(server) = url else {
            // The server's folder lies apart from the demo's: as root, it belongs to another user.
            let server = PrivatePostgres::start(&scratch("demo-pg"), Durability::Fast).await?;
            let database = Arc::new(Database::private(server).await?);
            database.migrate().await?;
            return Ok(Self { database, dir, drop: None });
        };
        let name = format!("propflow_demo_{}", &Uuid::now_v7().simple().to_string()[..12]);
        admin(server, &format!("create database {name}")).await.map_err(|fault| {
            fault.hint(
                "The demo makes a database of its own on the server of `DATABASE_URL`: let its user create databases.",
            )
        })?;
        let mut scratch_url =
            url::Url::parse(server).map_err(|e| Fault::user("`DATABASE_URL` is not a URL").because(e))?;
        scratch_url.set_path(&name);
        let database = Database::open(Some(scratch_url.as_str())).await?;
        Ok(Self { database, dir, drop: Some((server.to_owned(), name)) })
    }

    async fn clear(self) {
        let pg = self.database.private_dir();
        self.database.close().await;
        if let Some((server, name)) = &self.drop {
            // Failing to tidy up must not hide how the demo ended.
            let _ = admin(server, &format!("drop database if exists {name} with (force)")).await;
        }
        for dir in pg.iter().chain([&self.dir]) {
            let _ = std::fs::remove_dir_all(dir);
        }
    }
}

async fn admin(url: &str, sql: &str) -> Result<()> {
    let failed = |e| catalog::store::pg::fault("the demo's database cannot be made", e);
    let mut connection = PgConnection::connect(url).await.map_err(failed)?;
    connection.execute(AssertSqlSafe(sql.to_owned())).await.map_err(failed)?;
    connection.close().await.map_err(failed)
}

async fn play(
    app: &App,
    options: &Options,
    stage: &Stage,
    lake: &std::path::Path,
    out: &mut dyn Write,
    stop: &CancellationToken,
) -> Result<End> {
    let say = |out: &mut dyn Write, text: std::fmt::Arguments<'_>| print(out, text);
    let today = app.clock.today(chrono_tz::UTC);
    let world =
        World::generate(Shape { seed: options.seed, properties: options.properties, units: options.units, today });
    let simulator =
        Simulator::start(world, ResManOptions { latency: Duration::from_millis(3), ..ResManOptions::default() })
            .await?;
    say(
        out,
        format_args!(
            "PostgreSQL    {}",
            if stage.drop.is_some() {
                "a scratch database on the server of DATABASE_URL"
            } else {
                "a private server, started for this demo"
            }
        ),
    )?;
    say(
        out,
        format_args!(
            "ResMan        simulated at {} (v1) and {} (v2)",
            simulator.base_url_v1(),
            simulator.base_url_v2()
        ),
    )?;
    say(out, format_args!("lake          {}\n", lake.display()))?;

    let specs = write_specs(&stage.dir, &simulator, lake)?;
    let app = App { specs: Some(specs), ..app.clone() };

    say(
        out,
        format_args!("1. The morning pull, from the schedule through the job queue. One feed answers 502 at first."),
    )?;
    simulator.misbehave(
        Rule::on("MITS/GetMarketing4_0", Misbehaviour::ServerError { status: 502, retry_after_secs: None }).times(1),
    );
    pull(&app, stage, out, stop).await?;

    say(out, format_args!("\n2. The day goes on: units are let, prices and fees move. Then the noon pull."))?;
    let quoted = first_available(&stage.database).await?;
    simulator.with_world(|world| {
        if let Some((property, unit)) = &quoted {
            world.lease_unit(property, unit);
        }
        world.mutate(options.properties * 4);
    });
    pull(&app, stage, out, stop).await?;
    if let Some((property, unit)) = &quoted {
        let still: bool = sqlx::query_scalar(
            "select exists (select from serving.available_units where property_id = $1 and unit_number = $2)",
        )
        .bind(property)
        .bind(unit)
        .fetch_one(&stage.database.pool)
        .await
        .map_err(|e| catalog::store::pg::fault("cannot read the serving tables", e))?;
        if still {
            return Err(Fault::us(format!("unit {unit} was let and is still offered")));
        }
        say(
            out,
            format_args!("Unit {unit} was on offer in the morning and let at noon: the chatbot no longer sees it."),
        )?;
    }
    let truth: usize = simulator.with_world(|w| w.properties.iter().map(|p| w.offered_units(&p.id).len()).sum());
    let served: i64 = sqlx::query_scalar("select count(*) from serving.available_units")
        .fetch_one(&stage.database.pool)
        .await
        .map_err(|e| catalog::store::pg::fault("cannot read the serving tables", e))?;
    say(out, format_args!("On offer at the vendor: {truth}; in serving.available_units: {served}."))?;
    if usize::try_from(served).ok() != Some(truth) {
        return Err(Fault::us(format!("the vendor offers {truth} units and the chatbot sees {served}")));
    }

    say(out, format_args!("\n3. Three questions of an analyst, in SQL over the lake and the serving tables.\n"))?;
    ask(
        out,
        "What does the cheapest two-bedroom of each property cost, all required fees included?",
        None,
        CHEAPEST,
        &stage.database,
    )
    .await?;
    ask(
        out,
        "How many units are on offer per floor plan size, and at which rent?",
        Some(lake),
        BY_SIZE,
        &stage.database,
    )
    .await?;
    ask(out, "Which prices moved since the morning?", Some(lake), MOVED, &stage.database).await?;

    say(out, format_args!("4. The books."))?;
    let runs = runs::list(&stage.database.pool, None, 10).await?;
    say(out, format_args!("{}", show::runs(&runs)))?;
    Ok(End::Done)
}

const CHEAPEST: &str = "\
select p.name as property, c.unit_number as unit, c.lease_term_months as months, c.rent, \
  c.required_monthly_fees as fees, c.total_monthly_cost as a_month, c.total_move_in_cost as to_move_in \
from serving.unit_costs c \
join serving.available_units u using (property_id, unit_number) \
join serving.properties p using (property_id) \
where u.bedrooms = 2 and c.total_monthly_cost is not null and not c.stale \
  and c.total_monthly_cost = (select min(x.total_monthly_cost) from serving.unit_costs x \
    join serving.available_units y using (property_id, unit_number) where x.property_id = c.property_id and y.bedrooms = 2) \
order by c.total_monthly_cost, p.name, c.unit_number, c.lease_term_months limit 8";

const BY_SIZE: &str = "\
select bedrooms, bathrooms, count(*) as units, min(rent_from) as lowest, cast(avg(rent_from) as decimal(10,2)) as average, \
  max(rent_from) as highest \
from available_units group by bedrooms, bathrooms order by bedrooms, bathrooms";

const MOVED: &str = "\
select unit_number as unit, lease_term_months as months, previous_rent, rent, rent - previous_rent as moved \
from price_changes where previous_rent is not null and rent is not null and rent <> previous_rent \
order by abs(rent - previous_rent) desc, unit_number, lease_term_months limit 8";

async fn ask(
    out: &mut dyn Write,
    question: &str,
    lake: Option<&std::path::Path>,
    query: &str,
    database: &Database,
) -> Result<()> {
    print(out, format_args!("{question}"))?;
    print(out, format_args!("  {}\n", query.split_whitespace().collect::<Vec<_>>().join(" ")))?;
    let options = sql::Options {
        sql: Some(query.to_owned()),
        lake: lake.map(|l| l.display().to_string()),
        as_of: None,
        print_views: false,
        db: lake.is_none(),
        format: Format::Table,
        timeout_secs: 60,
        database_url: Some(database.url.clone()),
        width: None,
    };
    sql::run(&options, out).await?;
    wrote(writeln!(out))
}

/// Lets the schedules' ticks become jobs and works them off.
async fn pull(app: &App, stage: &Stage, out: &mut dyn Write, stop: &CancellationToken) -> Result<()> {
    let before = runs::list(&stage.database.pool, None, 1000).await?.len();
    worker::run_scheduled_now(app, &stage.database, "demo", stop).await?;
    let runs = runs::list(&stage.database.pool, None, 1000).await?;
    let new = &runs[..runs.len().saturating_sub(before)];
    let rows = sqlx::query(
        "select d.key as dataset, sum((d.value->>'received')::int8)::int8 as received, sum((d.value->>'inserted')::int8)::int8 as inserted, \
           sum((d.value->>'updated')::int8)::int8 as updated, sum((d.value->>'unchanged')::int8)::int8 as unchanged, \
           sum((d.value->>'deleted')::int8)::int8 as deleted \
         from ops.slices s, jsonb_each(s.rows) d where s.run_id = any($1) group by 1 order by 1",
    )
    .bind(new.iter().map(|r| r.id).collect::<Vec<_>>())
    .fetch_all(&stage.database.pool)
    .await
    .map_err(|e| catalog::store::pg::fault("cannot read the run ledger", e))?;
    let number = |r: &sqlx::postgres::PgRow, name: &str| u64::try_from(r.get::<i64, _>(name)).unwrap_or_default();
    let counts = rows
        .iter()
        .map(|r| {
            let counts = catalog::Receipt {
                received: number(r, "received"),
                inserted: number(r, "inserted"),
                updated: number(r, "updated"),
                unchanged: number(r, "unchanged"),
                deleted: number(r, "deleted"),
            };
            (r.get::<String, _>("dataset"), counts)
        })
        .collect();
    print(out, format_args!("{}", show::counts(&counts)))?;
    for run in new {
        if let Some(fault) = &run.fault {
            return Err(Fault::us(format!("the demo's run of `{}` failed: {fault}", run.pipeline)));
        }
        print(
            out,
            format_args!(
                "{} {} by {}: {} rows read, {} rejected",
                run.pipeline,
                run.status.as_str(),
                run.trigger,
                show::thousands(run.rows_read.unsigned_abs()),
                run.rows_rejected
            ),
        )?;
    }
    if new.is_empty() {
        return Err(Fault::us("the schedule started no run"));
    }
    Ok(())
}

async fn first_available(database: &Database) -> Result<Option<(String, String)>> {
    let row = sqlx::query(
        "select property_id, unit_number from serving.available_units order by property_id, unit_number limit 1",
    )
    .fetch_optional(&database.pool)
    .await
    .map_err(|e| catalog::store::pg::fault("cannot read the serving tables", e))?;
    Ok(row.map(|r| (r.get("property_id"), r.get("unit_number"))))
}
