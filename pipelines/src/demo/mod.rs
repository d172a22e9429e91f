//! Everything at work, in a minute, on this machine alone.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use catalog::store::runs;
use catalog::{Fault, Result};
use clap::Args;
use fixtures::resman::{Misbehaviour, Options as ResManOptions, Rule, Simulator};
use fixtures::world::{Shape, World};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::channels::Coast;
use self::house::House;
use crate::app::{App, Database};
use crate::cli::{End, print, wrote};
use crate::embedded::{Durability, PrivatePostgres, scratch};
use crate::render::Format;
use crate::wiring::{self, Wire};
use crate::{show, sql};

mod channels;
mod house;
mod inventory;
mod people;

/// How large the demo is.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Properties of the simulated account
    #[arg(long, default_value_t = 6)]
    properties: usize,
    /// Units of each property
    #[arg(long, default_value_t = 80)]
    units: usize,
    /// Places to stay, spread over Guesty, OwnerRez, Hostaway and nobody in turn
    #[arg(long, default_value_t = 8)]
    listings: usize,
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

/// What every act of the demo needs.
struct Scene<'a> {
    app: &'a App,
    database: &'a Arc<Database>,
    /// A folder for files with secrets.
    dir: &'a Path,
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
    lake: &Path,
    out: &mut dyn Write,
    stop: &CancellationToken,
) -> Result<End> {
    let today = app.clock.today(chrono_tz::UTC);
    let world =
        World::generate(Shape { seed: options.seed, properties: options.properties, units: options.units, today });
    let resman_options = ResManOptions { latency: Duration::from_millis(3), ..ResManOptions::default() };
    let resman = Simulator::start(world, resman_options).await?;
    let coast = Coast::start(options.seed, options.listings, app.clock.now()).await?;
    let postgres = match stage.drop {
        Some(_) => "a scratch database on the server of DATABASE_URL",
        None => "a private server, started for this demo",
    };
    print(out, format_args!("PostgreSQL    {postgres}"))?;
    print(
        out,
        format_args!("ResMan        simulated at {} (v1) and {} (v2)", resman.base_url_v1(), resman.base_url_v2()),
    )?;
    print(
        out,
        format_args!(
            "channels      Guesty, OwnerRez, Hostaway and the calendars of Airbnb and VRBO, simulated over one world"
        ),
    )?;
    print(out, format_args!("lake          {}\n", lake.display()))?;

    let mut wires = vec![Wire::resman(&resman)];
    wires.extend(coast.wires(&stage.dir)?);
    let specs = wiring::write(&stage.dir, lake, &wires, &coast.mail_settings())?;
    let app = App { specs: Some(specs), ..app.clone() };
    let scene = Scene { app: &app, database: &stage.database, dir: &stage.dir };

    print(
        out,
        format_args!("1. The morning pull, from the schedule through the job queue. One feed answers 502 at first."),
    )?;
    coast.staff(&scene).await?;
    let trouble = Misbehaviour::ServerError { status: 502, retry_after_secs: None };
    resman.misbehave(Rule::on("MITS/GetMarketing4_0", trouble).times(1));
    inventory::pull(&scene, out, stop).await?;
    coast.check(&scene, out).await?;

    print(
        out,
        format_args!(
            "\n2. The day goes on: units are let, prices and fees move, stays are booked, moved and called off. Then the noon pull."
        ),
    )?;
    let quoted = inventory::first_available(&scene).await?;
    resman.with_world(|world| {
        if let Some((property, unit)) = &quoted {
            world.lease_unit(property, unit);
        }
        world.mutate(options.properties * 4);
    });
    let changes = coast.live(&scene, options.listings * 4);
    inventory::pull(&scene, out, stop).await?;
    inventory::compare(&scene, &resman, quoted, out).await?;
    print(out, format_args!("{changes} changes of stays at the channels."))?;
    coast.check(&scene, out).await?;

    print(out, format_args!("\n3. In the afternoon the channels tell of changes themselves, by signed webhooks.\n"))?;
    let house = House::open(&scene, stop).await?;
    let acts = async {
        coast.tell(&scene, &house, out).await?;
        print(out, format_args!(""))?;
        coast.show(&scene, out).await?;
        print(out, format_args!("\n4. People: the chatbot writes through the API, the office works in ResMan.\n"))?;
        people::play(&scene, &house, &resman, out).await
    }
    .await;
    let closed = house.close().await;
    acts.and(closed)?;

    print(out, format_args!("5. Three questions of an analyst, in SQL over the lake and the serving tables.\n"))?;
    inventory::questions(&scene, lake, out).await?;

    print(out, format_args!("6. The books."))?;
    let runs = runs::list(&scene.database.pool, None, 14).await?;
    print(out, format_args!("{}", show::runs(&runs)))?;
    ask(&scene, out, "\nWhat could not be taken as it came?", None, REJECTS).await?;
    Ok(End::Done)
}

const REJECTS: &str = "\
select pipeline, dataset, kind, count(*) as rows, min(reason) as reason from ops.rejects where resolved_at is null \
group by pipeline, dataset, kind order by rows desc, pipeline limit 8";

/// Asks in SQL, as `propflow sql` does.
async fn ask(scene: &Scene<'_>, out: &mut dyn Write, question: &str, lake: Option<&Path>, query: &str) -> Result<()> {
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
        database_url: Some(scene.database.url.clone()),
        width: None,
    };
    sql::run(&options, out).await?;
    wrote(writeln!(out))
}
