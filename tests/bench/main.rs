//! `just bench`: what propflow costs, each figure beside its floor in the same run.
//!
//! Run it with `--release`, on a quiet machine. Sizes can be made smaller with `--scale 0.1`. Nothing here is a test:
//! speed depends on the machine, so a person reads the figures.

mod cost;
mod ical;
mod live;
mod matching;
mod rest;
mod webhooks;

use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use catalog::{Slice, SliceId, WriteMode};
use chrono::{DateTime, NaiveDate, Utc};
use fixtures::mits::{FeedShape, Pricing, write_feed};
use fixtures::units::unit_batches;
use nix::sys::resource::UsageWho;
use pipelines::embedded::{Durability, PrivatePostgres, scratch};
use pipelines::show::thousands;
use sinks::{Sink, Target};
use sqlx::{Executor, PgPool};
use uuid::Uuid;

use self::cost::{Cost, MEASURE, cost, cpu, measure};

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// What `--only` takes.
const FIGURES: [&str; 11] =
    ["feed", "ical", "load", "pull", "match", "rest", "api", "live", "quota", "webhooks", "arrival"];

fn main() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|a| a == MEASURE) {
        return measure(&arguments[1..]);
    }
    let (mut scale, mut only) = (1.0, None);
    let mut words = arguments.iter().map(String::as_str);
    while let Some(word) = words.next() {
        match (word, words.next()) {
            ("--scale", Some(number)) => scale = number.parse::<f64>()?,
            ("--only", Some(name)) if FIGURES.contains(&name) => only = Some(name.to_owned()),
            _ => {
                say(&format!("usage: propflow-bench [--scale 0.1] [--only {}]", FIGURES.join("|")));
                return Ok(if word == "--help" { ExitCode::SUCCESS } else { ExitCode::from(2) });
            }
        }
    }
    let wanted = |name: &str| only.as_deref().is_none_or(|o| o == name);
    if cfg!(debug_assertions) {
        say("these are figures of a debug build; run `just bench`");
    }
    let runtime = tokio::runtime::Runtime::new()?;
    let bench = Bench { propflow: std::env::current_exe()?.with_file_name("propflow"), scale, dir: scratch("bench") };
    std::fs::create_dir_all(&bench.dir)?;
    let result = runtime.block_on(async {
        if wanted("feed") {
            bench.feed()?;
        }
        if wanted("ical") {
            ical::bench(scale)?;
        }
        if wanted("load") {
            bench.load().await?;
        }
        if wanted("pull") {
            bench.pull().await?;
        }
        if wanted("match") {
            matching::run(bench.sized(1_000_000)).await?;
        }
        if wanted("rest") {
            rest::run(&bench.propflow, &bench.dir, bench.scale).await?;
        }
        if wanted("api") {
            live::api(scale).await?;
        }
        if wanted("live") {
            live::live(&bench.propflow, &bench.dir, scale).await?;
        }
        if wanted("quota") {
            rest::limits(&bench.propflow, &bench.dir).await?;
        }
        if wanted("webhooks") || wanted("arrival") {
            let only_arrival = only.as_deref() == Some("arrival");
            webhooks::webhooks(&bench.propflow, &bench.dir, scale, only_arrival).await?;
        }
        Ok(())
    });
    std::fs::remove_dir_all(&bench.dir)?;
    result.map(|()| ExitCode::SUCCESS)
}

#[expect(clippy::print_stdout, reason = "the figures are this program's output")]
fn say(line: &str) {
    println!("{line}");
}

fn today() -> NaiveDate {
    NaiveDate::from_ymd_opt(2026, 6, 1).unwrap_or_default()
}

struct Bench {
    propflow: PathBuf,
    scale: f64,
    dir: PathBuf,
}

/// CPU seconds of all children that have ended.
fn children() -> Result<Duration> {
    cpu(UsageWho::RUSAGE_CHILDREN)
}

fn seconds(d: Duration) -> String {
    format!("{:.2} s", d.as_secs_f64())
}

impl Bench {
    fn sized(&self, n: usize) -> usize {
        ((n as f64 * self.scale) as usize).max(2)
    }

    /// A marketing feed to Parquet, against a scan of its XML events that does nothing else; then one ten times as long,
    /// for which the memory should be the same.
    fn feed(&self) -> Result<()> {
        let units = 300;
        let mut peaks = Vec::new();
        for (properties, times) in [(self.sized(1000), 3), (self.sized(10_000), 1)] {
            let path = self.dir.join("feed.xml");
            let shape = FeedShape { seed: 1, properties, units, today: today(), pricing: Pricing::default() };
            let bytes = write_feed(std::io::BufWriter::with_capacity(1 << 20, std::fs::File::create(&path)?), shape)?;
            let mib = bytes as f64 / f64::from(1 << 20);
            say(&format!("\nfeed: {} properties x {units} units, {mib:.0} MiB of XML", thousands(properties as u64)));
            let (mut floor, mut copy) = (None::<Cost>, None::<Cost>);
            for _ in 0..times {
                let scanned = scan(&path)?;
                floor = Some(floor.filter(|f| f.wall <= scanned.wall).unwrap_or(scanned));
                let out = self.dir.join("lake");
                let c = cost(
                    Command::new(&self.propflow)
                        .arg("copy")
                        .arg(format!("mits:{}", path.display()))
                        .arg(format!("parquet:{}", out.display())),
                )?;
                std::fs::remove_dir_all(&out)?;
                let peak_mib = copy.map_or(0, |b| b.peak_mib).max(c.peak_mib);
                copy = Some(Cost { peak_mib, ..copy.filter(|b| b.wall <= c.wall).unwrap_or(c) });
            }
            std::fs::remove_file(path)?;
            let (Some(floor), Some(copy)) = (floor, copy) else { continue };
            peaks.push(copy.peak_mib);
            say(&format!(
                "  floor   bare XML event scan      {:>9}  {:.0} MiB/s, {} of CPU",
                seconds(floor.wall),
                mib / floor.wall.as_secs_f64(),
                seconds(floor.cpu)
            ));
            say(&format!(
                "  ours    copy mits: to parquet:   {:>9}  {:.0} MiB/s, {} of CPU",
                seconds(copy.wall),
                mib / copy.wall.as_secs_f64(),
                seconds(copy.cpu)
            ));
            say(&format!(
                "  speed   {:.0} % of the floor (asked: at least 60 %)",
                100.0 * floor.wall.as_secs_f64() / copy.wall.as_secs_f64()
            ));
            say(&format!("  memory  peak {} MiB (asked: below 300 MiB)", copy.peak_mib));
        }
        if let [small, large] = peaks[..] {
            let growth = 100.0 * (large as f64 / small as f64 - 1.0);
            say(&format!("  memory  {growth:+.0} % for a feed ten times as long (asked: flat)"));
        }
        Ok(())
    }

    /// Unit rows into PostgreSQL, against `COPY` of the same rows from a file into the same table.
    async fn load(&self) -> Result<()> {
        let rows = self.sized(1_000_000);
        let server = PrivatePostgres::start(&scratch("bench-pg"), Durability::Full).await?;
        let url = server.url().to_owned();
        let folder = server.dir().to_owned();
        let pool = catalog::store::connect(&url, 6).await?;
        catalog::store::migrate(&pool).await?;
        say(&format!("\nload: {} unit rows into PostgreSQL", thousands(rows as u64)));
        let dataset = catalog::datasets::find("units").ok_or("the catalog has no units")?.clone();
        let target = Target { mode: WriteMode::Upsert, dataset };
        // Each is done twice, as the floor is, and the better one counts: the disk has its own rhythm.
        let mut first = Duration::MAX;
        for _ in 0..2 {
            pool.execute("drop table if exists core.units cascade").await?;
            first = first.min(load(&pool, &target, unit_batches(1, rows, 8192, None)).await?);
        }
        let (mut equal, mut changed) = (Duration::MAX, Duration::MAX);
        for percent in [Some(1.0), None] {
            changed = changed.min(load(&pool, &target, unit_batches(1, rows, 8192, percent)).await?);
            equal = equal.min(load(&pool, &target, unit_batches(1, rows, 8192, percent)).await?);
        }
        // The floor: the table's own rows, out to a file and back into a table of the same shape, keys included.
        let file = self.dir.join("units.copy");
        let psql = |sql: &str| cost(Command::new("psql").arg(&url).args(["-v", "ON_ERROR_STOP=1", "-qc", sql]));
        psql(&format!("\\copy core.units to '{}'", file.display()))?;
        pool.execute("create table core.floor (like core.units including all)").await?;
        let mut floor = Duration::MAX;
        for _ in 0..2 {
            pool.execute("truncate core.floor").await?;
            floor = floor.min(psql(&format!("\\copy core.floor from '{}'", file.display()))?.wall);
        }
        pool.close().await;
        server.stop().await;
        std::fs::remove_dir_all(folder)?;
        say(&format!("  floor   psql \\copy from a file     {:>9}", seconds(floor)));
        say(&format!(
            "  ours    first load               {:>9}  {:.0} % of the floor's speed (asked: at least 70 %)",
            seconds(first),
            100.0 * floor.as_secs_f64() / first.as_secs_f64()
        ));
        say(&format!(
            "  ours    again, 1 % changed       {:>9}  {:.1} % of the first (asked: at most 5 %)",
            seconds(changed),
            100.0 * changed.as_secs_f64() / first.as_secs_f64()
        ));
        say(&format!(
            "  ours    again, nothing changed   {:>9}  {:.1} % of the first",
            seconds(equal),
            100.0 * equal.as_secs_f64() / first.as_secs_f64()
        ));
        Ok(())
    }

    /// A whole inventory pull from the simulator in a process of its own. PostgreSQL is started here, so that what it costs
    /// is not counted with ours.
    async fn pull(&self) -> Result<()> {
        let (properties, units, latency) = (self.sized(200), 300, 50);
        say(&format!(
            "\npull: {} properties x {units} units from the simulator, {latency} ms a call",
            thousands(properties as u64)
        ));
        let server = PrivatePostgres::start(&scratch("bench-pg"), Durability::Full).await?;
        let mut simulator = Command::new(&self.propflow)
            .args(["simulate", "resman", "--properties", &properties.to_string(), "--units", &units.to_string()])
            .args(["--latency-ms", &latency.to_string()])
            .stdout(Stdio::piped())
            .spawn()?;
        let result = self.pull_from(&mut simulator, server.url());
        simulator.kill()?;
        simulator.wait()?;
        let folder = server.dir().to_owned();
        server.stop().await;
        std::fs::remove_dir_all(folder)?;
        result
    }

    fn pull_from(&self, simulator: &mut std::process::Child, url: &str) -> Result<()> {
        use std::io::BufRead;
        let output = simulator.stdout.take().ok_or("the simulator has no output")?;
        let mut environment = Vec::new();
        for line in BufReader::new(output).lines() {
            let line = line?;
            if let Some((name, value)) = line.strip_prefix("export ").and_then(|l| l.split_once('=')) {
                environment.push((name.to_owned(), value.trim_matches('\'').to_owned()));
            }
            if environment.len() == 6 {
                break;
            }
        }
        let propflow = || {
            let mut command = Command::new(&self.propflow);
            command.env("DATABASE_URL", url).env("PROPFLOW_LAKE", self.dir.join("lake"));
            command.envs(environment.iter().map(|(n, v)| (n, v)));
            command
        };
        cost(propflow().arg("migrate"))?;
        for what in ["first pull", "second pull"] {
            let c = cost(propflow().args(["run", "resman_inventory", "--fresh"]))?;
            say(&format!(
                "  ours    {what:<24} {:>9}  {} of CPU, {:.0} % of wall (asked: below 20 %), peak {} MiB",
                seconds(c.wall),
                seconds(c.cpu),
                100.0 * c.cpu.as_secs_f64() / c.wall.as_secs_f64(),
                c.peak_mib
            ));
        }
        std::io::stdout().flush()?;
        Ok(())
    }
}

/// Reads every XML event of a file and does nothing with it.
fn scan(path: &Path) -> Result<Cost> {
    let (began, before) = (Instant::now(), cpu(UsageWho::RUSAGE_SELF)?);
    let mut reader = quick_xml::Reader::from_reader(BufReader::with_capacity(1 << 20, std::fs::File::open(path)?));
    let mut buffer = Vec::new();
    let mut events = 0u64;
    while !matches!(reader.read_event_into(&mut buffer)?, quick_xml::events::Event::Eof) {
        events += 1;
        buffer.clear();
    }
    std::hint::black_box(events);
    Ok(Cost { wall: began.elapsed(), cpu: cpu(UsageWho::RUSAGE_SELF)? - before, peak_mib: 0 })
}

/// One slice through the sink, from the first row to the commit.
async fn load(
    pool: &PgPool,
    target: &Target,
    batches: impl Iterator<Item = arrow::array::RecordBatch>,
) -> Result<Duration> {
    let mut sink = sinks::postgres::PostgresSink::new(
        pool.clone(),
        sinks::postgres::Options { ledger: false, ..sinks::postgres::Options::default() },
    );
    sink.prepare(std::slice::from_ref(target)).await?;
    let id = SliceId { run: Uuid::now_v7(), number: 0 };
    // Making the rows is not what is measured.
    let batches: Vec<_> = batches.collect();
    let began = Instant::now();
    sink.begin(id).await?;
    for batch in batches {
        sink.write(&target.dataset.name, batch).await?;
    }
    let slice = Slice {
        id,
        pipeline: "bench".to_owned(),
        observed_at: DateTime::<Utc>::UNIX_EPOCH,
        complete: std::collections::BTreeMap::new(),
        cursor: None,
        follows: None,
        rejects: Vec::new(),
        notes: Vec::new(),
    };
    sink.commit(&slice).await?;
    Ok(began.elapsed())
}
