//! `copy rest:` of booking records, beside `COPY` of the same rows and DuckDB reading the same pages.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fixtures::rest::{Options, Rate, Simulator};
use pipelines::embedded::{Durability, PrivatePostgres, scratch};
use pipelines::show::thousands;
use sqlx::{Executor, PgPool};

use crate::{Result, say, seconds};

const SEED: u64 = 1;

/// What a command cost.
#[derive(Debug, Clone, Copy, Default)]
struct Cost {
    wall: Duration,
    /// Of the command itself.
    ours: Duration,
    /// Of the database server.
    server: Duration,
    peak_mib: u64,
}

impl Cost {
    fn cpu(&self) -> Duration {
        self.ours + self.server
    }
}

/// A database server whose CPU seconds can be told.
struct Server {
    postgres: PrivatePostgres,
    pid: u32,
    pool: PgPool,
}

/// Fields of `/proc/PID/stat` behind the name: user and system ticks, and those of children that have ended.
fn ticks(pid: u32) -> Option<(u32, [u64; 4])> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some((u32::try_from(number(1)?).ok()?, [number(11)?, number(12)?, number(13)?, number(14)?]))
}

fn duration(ticks: u64) -> Duration {
    // `USER_HZ` is 100 on every Linux that Rust runs on.
    Duration::from_millis(ticks * 10)
}

impl Server {
    async fn start() -> Result<Self> {
        let postgres = PrivatePostgres::start(&scratch("bench-rest-pg"), Durability::Full).await?;
        let pid = std::fs::read_to_string(postgres.dir().join("data/postmaster.pid"))?;
        let pid = pid.lines().next().ok_or("the server has no pid")?.trim().parse()?;
        let pool = catalog::store::connect(postgres.url(), 2).await?;
        // It would run at times of its own choosing, for one side or the other.
        pool.execute("alter system set autovacuum = off").await?;
        pool.execute("select pg_reload_conf()").await?;
        Ok(Self { postgres, pid, pool })
    }

    /// CPU of the server and all its processes, ended ones included.
    fn cpu(&self) -> Duration {
        let mut sum = ticks(self.pid).map_or(0, |(_, t)| t.iter().sum());
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let pid = entry.file_name().to_string_lossy().parse::<u32>();
            if let Some((parent, own)) = pid.ok().and_then(ticks)
                && parent == self.pid
            {
                sum += own[0] + own[1];
            }
        }
        duration(sum)
    }

    async fn stop(self) -> Result<()> {
        self.pool.close().await;
        let dir = self.postgres.dir().to_owned();
        self.postgres.stop().await;
        Ok(std::fs::remove_dir_all(dir)?)
    }
}

/// Runs a command to its end. Its own peak is read while it runs: what the kernel reports afterwards counts this process in.
fn cost(command: &mut Command, server: Option<&Server>) -> Result<Cost> {
    let before = server.map(Server::cpu).unwrap_or_default();
    let children = crate::children()?;
    let began = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let mut peak_kib = 0;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        peak_kib = peak_kib.max(high_water(child.id()));
        std::thread::sleep(Duration::from_millis(2));
    };
    let wall = began.elapsed();
    if !status.success() {
        let mut text = String::new();
        if let Some(mut pipe) = child.stderr.take() {
            std::io::Read::read_to_string(&mut pipe, &mut text)?;
        }
        return Err(format!("{command:?}: {text}").into());
    }
    let ours = crate::children()? - children;
    // The server's processes end a moment after their clients.
    std::thread::sleep(Duration::from_millis(300));
    let server = server.map(Server::cpu).unwrap_or_default() - before;
    Ok(Cost { wall, ours, server, peak_mib: peak_kib / 1024 })
}

fn high_water(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.and_then(|l| l.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Settings of a connector for the simulated API.
fn settings(base_url: &str, size: usize, limits: &str) -> String {
    format!(
        r#"base_url = "{base_url}"

[limits]
{limits}

[[streams]]
name = "bookings"
path = "v1/bookings/page"
records = "data.items"
key = ["id"]
paginator = {{ kind = "page_number", size_param = "size", size = {size}, pages = "meta.pages" }}
incremental = {{ field = "updated_at", param = "updated_since", until_param = "updated_before" }}
columns = [
  {{ name = "id", type = "int" }},
  {{ name = "confirmation_code", type = "text" }},
  {{ name = "status", type = "text" }},
  {{ name = "channel", type = "text" }},
  {{ name = "listing_id", type = "text" }},
  {{ name = "guest_name", type = "text", sensitive = true }},
  {{ name = "guest_email", type = "text", sensitive = true }},
  {{ name = "guest_phone", type = "text", sensitive = true }},
  {{ name = "check_in", type = "date" }},
  {{ name = "check_out", type = "date" }},
  {{ name = "nights", type = "int" }},
  {{ name = "adults", type = "int" }},
  {{ name = "total", type = "money" }},
  {{ name = "currency", type = "text" }},
  {{ name = "booked_at", path = "created_at", type = "instant" }},
  {{ name = "changed_at", path = "updated_at", type = "instant" }},
]
"#
    )
}

const UNLIMITED: &str = "calls_per_sec = 1000000\nburst = 100000";

fn report(what: &str, cost: &Cost, note: &str) {
    say(&format!(
        "  {what:<33} {:>9}  CPU {} ({} ours, {} PostgreSQL), peak {} MiB{note}",
        seconds(cost.wall),
        seconds(cost.cpu()),
        seconds(cost.ours),
        seconds(cost.server),
        cost.peak_mib
    ));
}

fn ratio(a: &Cost, b: &Cost) -> f64 {
    a.cpu().as_secs_f64() / b.cpu().as_secs_f64().max(0.01)
}

/// All figures of the REST connector.
pub(crate) async fn run(propflow: &Path, dir: &Path, scale: f64) -> Result<()> {
    let records = ((1_000_000.0 * scale) as usize).max(2000);
    say(&format!("\nrest: {} booking records of 16 fields, 1,000 a page", thousands(records as u64)));
    let simulator = Simulator::start(records, SEED, Options { page_size: 1000, ..Options::default() }).await?;
    let file = dir.join("bookings.toml");
    std::fs::write(&file, settings(&simulator.base_url(), 1000, UNLIMITED))?;
    let bench = Rest { propflow: propflow.to_owned(), dir: dir.to_owned(), source: format!("rest:{}", file.display()) };
    bench.postgres(&simulator, records).await?;
    bench.parquet(&simulator, records).await?;
    drop(simulator);
    Ok(())
}

/// What does not depend on how fast the machine is: the quota that is kept, and the pages that a kill costs.
pub(crate) async fn limits(propflow: &Path, dir: &Path) -> Result<()> {
    let bench = Rest { propflow: propflow.to_owned(), dir: dir.to_owned(), source: String::new() };
    bench.quota().await?;
    bench.killed().await
}

struct Rest {
    propflow: PathBuf,
    dir: PathBuf,
    source: String,
}

impl Rest {
    fn copy(&self, to: &str) -> Command {
        let mut command = Command::new(&self.propflow);
        command.args(["copy", &self.source, to]);
        command
    }

    async fn postgres(&self, simulator: &Simulator, records: usize) -> Result<()> {
        let server = Server::start().await?;
        let to = format!("postgres:{}", server.postgres.url().trim_start_matches("postgres:"));
        let mut best: Option<(Cost, Cost)> = None;
        for _ in 0..2 {
            server.pool.execute("drop schema if exists core cascade").await?;
            let ours = cost(&mut self.copy(&to), Some(&server))?;
            let rows = self.dir.join("rows.copy");
            server.pool.execute("checkpoint").await?;
            let psql = |sql: &str| {
                cost(
                    Command::new("psql").args([server.postgres.url(), "-v", "ON_ERROR_STOP=1", "-qc", sql]),
                    Some(&server),
                )
            };
            psql(&format!("\\copy core.rest_bookings to '{}'", rows.display()))?;
            server.pool.execute("create table core.floor (like core.rest_bookings including all)").await?;
            let floor = psql(&format!("\\copy core.floor from '{}'", rows.display()))?;
            server.pool.execute("drop table core.floor; checkpoint").await?;
            std::fs::remove_file(rows)?;
            if best.as_ref().is_none_or(|(b, f)| ratio(&ours, &floor) < ratio(b, f)) {
                best = Some((ours, floor));
            }
        }
        let Some((ours, floor)) = best else { return Ok(()) };
        let stored: i64 = sqlx::query_scalar("select count(*) from core.rest_bookings").fetch_one(&server.pool).await?;
        report("floor   COPY of the same rows", &floor, "");
        report("ours    to PostgreSQL, keyed", &ours, &format!(", {} rows", thousands(stored.unsigned_abs())));
        say(&format!("          {:.2} times the floor's CPU (asked: at most 2.75, and 100 MiB)", ratio(&ours, &floor)));
        let same = cost(&mut self.copy(&to), Some(&server))?;
        report("ours    again, nothing changed", &same, "");
        simulator.touch(SEED, 100);
        let changed = cost(&mut self.copy(&to), Some(&server))?;
        report("ours    again, 1 % changed", &changed, " (asked: 0.6 s, 0.5 s of CPU)");
        let fresh = |what: &str| -> Result<()> {
            let all = cost(self.copy(&to).arg("--fresh"), Some(&server))?;
            report(what, &all, " (asked: 15 s of CPU)");
            Ok(())
        };
        fresh("ours    all again, all equal")?;
        simulator.touch(SEED, 1);
        fresh("ours    all again, all changed")?;
        let after: i64 = sqlx::query_scalar("select count(*) from core.rest_bookings").fetch_one(&server.pool).await?;
        if after != stored || usize::try_from(stored) != Ok(records) {
            return Err(format!("{records} records made {stored}, then {after} rows").into());
        }
        server.stop().await
    }

    async fn parquet(&self, simulator: &Simulator, records: usize) -> Result<()> {
        // The same pages as files, for the one that cannot page: bare lists, which spares it the envelope.
        let pages = self.dir.join("pages");
        std::fs::create_dir_all(&pages)?;
        // Another part of the program may have chosen a provider; any will do.
        _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::new();
        for page in 0..records.div_ceil(1000) {
            let url = format!("{}/v1/bookings/link?size=1000&cursor=c{}", simulator.base_url(), page * 1000);
            let body = client.get(url).send().await?.bytes().await?;
            std::fs::write(pages.join(format!("{page:06}.json")), body)?;
        }
        let python = std::env::var("PROPFLOW_BENCH_PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let script = format!(
            "import duckdb\nc = duckdb.connect()\nc.execute('set threads = 2')\nc.execute(\"copy (select * from read_json('{}/*.json', \
             format='array', columns={{id:'BIGINT', confirmation_code:'VARCHAR', status:'VARCHAR', channel:'VARCHAR', \
             listing_id:'VARCHAR', guest_name:'VARCHAR', guest_email:'VARCHAR', guest_phone:'VARCHAR', check_in:'DATE', \
             check_out:'DATE', nights:'BIGINT', adults:'BIGINT', total:'DECIMAL(14,2)', currency:'VARCHAR', \
             created_at:'TIMESTAMP', updated_at:'TIMESTAMP'}})) to '{}' (format parquet, compression zstd)\")\n",
            pages.display(),
            self.dir.join("duck.parquet").display()
        );
        let mut best: (Option<Cost>, Option<Cost>) = (None, None);
        for _ in 0..2 {
            let lake = self.dir.join("rest-lake");
            let ours = cost(&mut self.copy(&format!("parquet:{}", lake.display())), None)?;
            if best.0.is_none_or(|b| ours.cpu() < b.cpu()) {
                best.0 = Some(ours);
            }
            std::fs::remove_dir_all(lake)?;
            match cost(Command::new(&python).args(["-c", &script]), None) {
                Ok(floor) if best.1.is_none_or(|b| floor.cpu() < b.cpu()) => best.1 = Some(floor),
                Ok(_) => {}
                Err(error) => {
                    say(&format!("  floor   DuckDB is missing: {}", error.to_string().lines().last().unwrap_or("")))
                }
            }
        }
        if let Some(ours) = best.0 {
            report("ours    to Parquet", &ours, "");
            if let Some(floor) = best.1 {
                report("floor   DuckDB, pages from files", &floor, "");
                say(&format!("          {:.2} times DuckDB's CPU (asked: at most 1.5)", ratio(&ours, &floor)));
            }
        }
        Ok(std::fs::remove_dir_all(pages)?)
    }

    /// 200 pages under a strict rate; then two workers and a backfill on one account.
    async fn quota(&self) -> Result<()> {
        let rate = Rate { per_sec: 50.0, burst: 5.0 };
        let options = || Options { page_size: 100, rate: Some(rate), ..Options::default() };
        let limits = "calls_per_sec = 50\nburst = 5";
        let simulator = Simulator::start(20_000, SEED, options()).await?;
        let file = self.dir.join("paced.toml");
        std::fs::write(&file, settings(&simulator.base_url(), 100, limits))?;
        let lake = self.dir.join("paced-lake");
        let alone = cost(
            Command::new(&self.propflow).args([
                "copy",
                &format!("rest:{}", file.display()),
                &format!("parquet:{}", lake.display()),
            ]),
            None,
        )?;
        let ideal = |calls: usize| (calls as f64 - 5.0) / 50.0;
        let calls = simulator.calls().len();
        say(&format!(
            "  quota   {calls} pages at 50/s, burst 5: {}, {:.2} of the ideal {:.2} s, {} refused (asked: at most 1.1, none)",
            seconds(alone.wall),
            alone.wall.as_secs_f64() / ideal(calls),
            ideal(calls),
            simulator.refused()
        ));
        let postgres = PrivatePostgres::start(&scratch("bench-rest-quota"), Durability::Full).await?;
        let simulator = Simulator::start(20_000, SEED, options()).await?;
        let specs = self.dir.join("paced-specs");
        std::fs::create_dir_all(&specs)?;
        let own = settings(&simulator.base_url(), 100, limits);
        for name in ["first", "second", "third"] {
            std::fs::write(
                self.dir.join(format!("{name}.toml")),
                own.replace("name = \"bookings\"", &format!("name = \"{name}\"")),
            )?;
            let spec = format!(
                "name = \"{name}\"\nabout = \"bookings\"\n[source]\nconnector = \"rest\"\nconnection = \"one\"\nstream = \"{name}\"\n\
                 settings.file = \"{}\"\n[[sinks]]\nsink = \"postgres\"\n",
                self.dir.join(format!("{name}.toml")).display()
            );
            std::fs::write(specs.join(format!("{name}.toml")), spec)?;
        }
        let propflow = |arguments: &[&str]| {
            let mut command = Command::new(&self.propflow);
            command.args(arguments).env("DATABASE_URL", postgres.url()).env("PROPFLOW_SPECS", &specs);
            command.stdout(Stdio::null());
            command
        };
        propflow(&["migrate"]).status()?;
        let began = Instant::now();
        let mut running = Vec::new();
        for arguments in [
            &["run", "first"][..],
            &["run", "second"],
            &["backfill", "third", "--from", "2026-01-01", "--to", "2026-12-31"],
        ] {
            running.push(propflow(arguments).spawn()?);
        }
        for mut child in running {
            if !child.wait()?.success() {
                return Err("a paced run failed".into());
            }
        }
        let wall = began.elapsed();
        let calls = simulator.calls().len();
        say(&format!(
            "  quota   {calls} pages of two runs and a backfill: {}, {:.2} of the ideal {:.2} s, {} refused",
            seconds(wall),
            wall.as_secs_f64() / ideal(calls),
            ideal(calls),
            simulator.refused()
        ));
        let dir = postgres.dir().to_owned();
        postgres.stop().await;
        Ok(std::fs::remove_dir_all(dir)?)
    }

    /// Killed halfway, into both kinds of destination.
    async fn killed(&self) -> Result<()> {
        let postgres = PrivatePostgres::start(&scratch("bench-rest-kill"), Durability::Full).await?;
        for to in [postgres.url().to_owned(), format!("parquet:{}", self.dir.join("killed-lake").display())] {
            let options = Options { page_size: 1000, latency: Duration::from_millis(5), ..Options::default() };
            let simulator = Simulator::start(200_000, SEED, options).await?;
            let file = self.dir.join("killed.toml");
            std::fs::write(&file, settings(&simulator.base_url(), 1000, UNLIMITED))?;
            let copy = || -> Result<Child> {
                Ok(Command::new(&self.propflow)
                    .args(["copy", &format!("rest:{}", file.display()), &to])
                    .stdout(Stdio::null())
                    .spawn()?)
            };
            let mut child = copy()?;
            while simulator.calls().len() < 100 {
                std::thread::sleep(Duration::from_millis(1));
            }
            child.kill()?;
            child.wait()?;
            let status = copy()?.wait()?;
            let calls = simulator.calls().len();
            say(&format!(
                "  kill    200 pages, SIGKILL at half, into {}: {} fetched again, ended {status} (asked: at most 2)",
                to.split(':').next().unwrap_or_default(),
                calls as i64 - 200
            ));
        }
        let dir = postgres.dir().to_owned();
        postgres.stop().await;
        Ok(std::fs::remove_dir_all(dir)?)
    }
}
