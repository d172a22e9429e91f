//! The command line.

use std::collections::BTreeSet;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use catalog::store::runs::Status;
use catalog::{Blame, Fault, Result};
use chrono::{DateTime, NaiveDate, Utc};
use clap::{Args, Parser, Subcommand};
use connectors::Read;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::app::{App, Asked, Database};
use crate::copy::{Copy, copy};
use crate::progress::{Observer, Silent};
use crate::render::Format;
use crate::run::{Summary, run};
use crate::show::{self, Bars};
use crate::{authorise, books, demo, docs, enrich, map, matching, privacy, service, services, simulate, sql, worker};

/// Keeps property management, booking channels, a leasing chatbot and an analytics lake in agreement.
#[derive(Debug, Parser)]
#[command(name = "propflow", version, after_help = EXIT_CODES, max_term_width = 120)]
pub struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 all done; 1 a fault of propflow itself; 2 something for you to mend (settings, \
credentials, folders); 3 ended, but a property could not be read; 4 a system outside failed, try again later; \
130 stopped by Ctrl-C.";

/// Settings of every command.
#[derive(Debug, Clone, Args)]
struct Common {
    /// PostgreSQL to use; without it a private server is started
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, global = true, value_name = "URL")]
    database_url: Option<String>,
    /// Folder of pipeline files; without it the built-in pipelines
    #[arg(long, env = "PROPFLOW_SPECS", global = true, value_name = "DIR")]
    specs: Option<PathBuf>,
    /// Print results as JSON, and log as JSON
    #[arg(long, global = true)]
    json: bool,
    /// Print no progress
    #[arg(long, short, global = true)]
    quiet: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show everything at work: simulated vendors, a private database, a lake, three questions in SQL
    Demo(demo::Options),
    /// Run a pipeline once, now
    Run {
        /// The pipeline's name; `propflow list` shows them
        pipeline: String,
        /// Only this scope, such as a property id; may be repeated
        #[arg(long, value_name = "ID")]
        only: Vec<String>,
        /// Begin anew, even if an interrupted run could go on
        #[arg(long)]
        fresh: bool,
    },
    /// Work off jobs and schedules until stopped
    Work {
        /// Jobs at a time
        #[arg(long, default_value_t = 2)]
        concurrency: usize,
        /// Do what is due, then end
        #[arg(long)]
        once: bool,
    },
    /// Read a range of the past
    Backfill {
        /// The pipeline's name
        pipeline: String,
        /// First day
        #[arg(long)]
        from: NaiveDate,
        /// Last day
        #[arg(long)]
        to: NaiveDate,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// Copy from an address to an address without a ledger: `copy mits:feed.xml parquet:out/`. The destination keeps how
    /// far it came: the next copy goes on where one was interrupted, or with what has changed since
    Copy {
        /// Where from, as `CONNECTOR:REST`
        source: String,
        /// Where to, as `SINK:REST`
        dest: String,
        /// Only this scope, such as a property id; may be repeated
        #[arg(long, value_name = "ID")]
        only: Vec<String>,
        /// Also compute what readers of a pipeline see: available units, costs, fee schedule, price history
        #[arg(long)]
        serve: bool,
        /// Write rows and values that were refused to this file, as JSON lines
        #[arg(long, value_name = "FILE")]
        rejects: Option<PathBuf>,
        /// Begin anew: neither go on with an interrupted copy nor read only what has changed since the last one
        #[arg(long)]
        fresh: bool,
        /// ISO 4217 code of amounts without a currency
        #[arg(long, default_value = "USD")]
        currency: String,
        /// Country of phone numbers without a country code
        #[arg(long, default_value = "US")]
        region: String,
    },
    /// Find the records of one person in files
    Match(matching::Options),
    /// Read conversations of a file: summary, topics, mood and what the renter wants, as JSON lines
    Enrich(enrich::Options),
    /// Ask the lake, files or the database in SQL
    Sql(sql::Options),
    /// Show the latest runs, or one of them in full
    Status {
        /// One run
        #[arg(long, value_name = "ID")]
        run: Option<Uuid>,
        /// Only this pipeline
        #[arg(long)]
        pipeline: Option<String>,
        /// How many
        #[arg(long, default_value_t = 15)]
        limit: u32,
    },
    /// Show the rows and values that were refused, with the reason
    Rejects(books::RejectsOptions),
    /// Serve webhooks and the API, and work off jobs and schedules, until stopped
    Serve(service::ServeOptions),
    /// Make, show and revoke API keys
    #[command(subcommand)]
    Keys(service::KeysCommand),
    /// Show what vendors sent, and what became of it
    Deliveries(service::DeliveriesOptions),
    /// Let the owner of a vendor's account authorise a connection (OAuth 2.0)
    Authorise(authorise::Options),
    /// Show connections that were stopped, stop or purge one, or let one be used again
    #[command(args_conflicts_with_subcommands = true)]
    Connections {
        #[command(subcommand)]
        command: Option<service::ConnectionsCommand>,
        /// Let this connection be used again
        #[arg(long, value_name = "NAME")]
        resume: Option<String>,
    },
    /// Write down or erase what is stored of one person
    #[command(subcommand)]
    Gdpr(privacy::Command),
    /// Read again what is on the books as refused or failed, or process deliveries once more
    Replay {
        /// The pipeline's name
        #[arg(required_unless_present_any = ["delivery", "connection"], conflicts_with_all = ["delivery", "connection"])]
        pipeline: Option<String>,
        #[command(flatten)]
        deliveries: service::ReplayOptions,
    },
    /// Show which property each listing of a booking channel is, or say it: `map airbnb 9719 P-0003`
    Map(map::Options),
    /// Show the jobs that were given up, or run one again
    Jobs {
        /// Run this job again
        #[arg(long, value_name = "ID")]
        requeue: Option<String>,
    },
    /// Show what waits to be delivered to vendors and people, or try again what was given up
    Outbox {
        /// Only messages in this state
        #[arg(long, value_parser = ["waiting", "delivered", "dead", "withdrawn"])]
        state: Option<String>,
        /// Try this message again, at once if it waits, or `all` that were given up
        #[arg(long, value_name = "ID|all")]
        replay: Option<String>,
        /// How many
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
    /// Show the services around stays, the rules that plan them, or note a request
    Services {
        #[command(subcommand)]
        command: Option<services::books::Command>,
    },
    /// Show pipelines, connectors, sinks, models, datasets
    List {
        /// One connector or sink, with the schema of its settings
        name: Option<String>,
    },
    /// Check pipeline files and report every problem at once
    Check {
        /// Also call the vendors and sinks
        #[arg(long)]
        live: bool,
    },
    /// Bring the database up to date
    Migrate,
    /// Run the private database in the foreground and print its URL
    Db,
    /// Run a simulated vendor in the foreground
    Simulate(simulate::Options),
    /// Write a generated file to try things on
    Generate(simulate::GenerateOptions),
    /// Print generated documentation
    Docs {
        /// Which page
        #[arg(value_parser = ["serving", "datasets"])]
        page: String,
    },
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Everything was done.
    Done,
    /// Done, but not everything could be read.
    Partial,
    /// Stopped on request.
    Stopped,
}

impl From<End> for ExitCode {
    fn from(end: End) -> Self {
        ExitCode::from(match end {
            End::Done => 0,
            End::Partial => 3,
            End::Stopped => 130,
        })
    }
}

fn exit_code(fault: &Fault) -> u8 {
    match fault.blame {
        Blame::Us => 1,
        Blame::User => 2,
        Blame::Remote => 4,
    }
}

/// Runs the program.
pub async fn main() -> ExitCode {
    let cli = Cli::parse();
    start_logs(cli.common.json);
    let json = cli.common.json;
    let stop = stop_on_signal();
    match dispatch(cli, &stop).await {
        Ok(end) => end.into(),
        Err(fault) => {
            let mut err = io::stderr().lock();
            let shown = if json {
                writeln!(
                    err,
                    "{}",
                    json!({ "error": fault.chain(), "hint": fault.hint, "blame": format!("{:?}", fault.blame).to_lowercase(), "retry": fault.is_retryable() })
                )
            } else {
                show::fault(&mut err, &fault)
            };
            // Nobody is left to tell when standard error is closed.
            let _ = shown;
            ExitCode::from(exit_code(&fault))
        }
    }
}

/// The first Ctrl-C or SIGTERM asks for a clean end, the second one ends at once.
fn stop_on_signal() -> CancellationToken {
    let stop = CancellationToken::new();
    let token = stop.clone();
    tokio::spawn(async move {
        use tokio::signal::unix::{SignalKind, signal};
        let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
        else {
            return;
        };
        tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
        token.cancel();
        let _ = writeln!(io::stderr(), "ending after the slice under way; once more to end now");
        tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
        #[expect(clippy::exit, reason = "asked for twice")]
        std::process::exit(130);
    });
    stop
}

fn start_logs(json: bool) {
    use tracing_subscriber::EnvFilter;
    let filter =
        EnvFilter::try_from_env("PROPFLOW_LOG").unwrap_or_else(|_| EnvFilter::new("warn,propflow=warn,sqlx=error"));
    let ansi = io::stderr().is_terminal();
    let logs =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_target(false).with_ansi(ansi);
    // A second start happens only in tests, which keep the first one.
    let _ = if json { logs.json().try_init() } else { logs.try_init() };
}

async fn dispatch(cli: Cli, stop: &CancellationToken) -> Result<End> {
    let common = cli.common;
    let observer: Arc<dyn Observer> = if common.json || common.quiet || !io::stderr().is_terminal() {
        Arc::new(Silent)
    } else {
        Arc::new(Bars::default())
    };
    let app = App::new(common.specs.clone(), common.database_url.clone(), observer);
    let out = &mut io::stdout();
    match cli.command {
        Command::Demo(options) => demo::demo(&app, options, out, stop).await,
        Command::Run { pipeline, only, fresh } => {
            let asked = Asked { trigger: "manual".to_owned(), read: None, only, fresh };
            run_plan(&app, &pipeline, asked, common.json, out, stop).await
        }
        Command::Work { concurrency, once } => {
            let database = app.database().await?;
            let end = worker::work(
                &app,
                &database,
                worker::Options { concurrency, once, ..worker::Options::default() },
                stop,
            )
            .await;
            database.close().await;
            end.map(|()| End::Done)
        }
        Command::Backfill { pipeline, from, to, dry_run } => {
            backfill(&app, &pipeline, from, to, dry_run, common.json, out, stop).await
        }
        Command::Copy { source, dest, only, serve, rejects, fresh, currency, region } => {
            let began = Instant::now();
            let summary = copy(&app, Copy { source, dest, only, serve, fresh, currency, region }, stop).await?;
            if let Some(path) = rejects {
                keep_rejects(&path, &summary)?;
            }
            print_summary(out, &summary, began, common.json)
        }
        Command::Match(options) => matching::run(&options, common.json, common.quiet, out).await,
        Command::Enrich(options) => {
            enrich::run(&options, common.quiet, out)?;
            Ok(End::Done)
        }
        Command::Sql(mut options) => {
            if common.json {
                options.format = Format::Json;
            }
            options.width = terminal_size::terminal_size_of(&*out).map(|(width, _)| width.0);
            ask(&app, &mut options, out).await?;
            Ok(End::Done)
        }
        Command::Status { run, pipeline, limit } => {
            with_database(&app, async |database| {
                if let Some(name) = &pipeline
                    && catalog::store::runs::list(&database.pool, Some(name), 1).await?.is_empty()
                {
                    app.named(name)?;
                }
                books::status(database, run, pipeline.as_deref(), limit, common.json, &mut io::stdout()).await
            })
            .await
        }
        Command::Rejects(options) => {
            with_database(&app, async |database| {
                books::rejects(database, &options, common.json, &mut io::stdout()).await
            })
            .await
        }
        Command::Serve(options) => {
            service::serve(&app, &options, out, stop).await?;
            Ok(End::Done)
        }
        Command::Keys(command) => {
            let work = async |database: &Database| {
                service::keys(&app, database, &command, common.json, &mut io::stdout()).await
            };
            with_database(&app, work).await
        }
        Command::Deliveries(options) => {
            with_database(&app, async |database| {
                service::deliveries(database, &options, common.json, &mut io::stdout()).await
            })
            .await
        }
        Command::Authorise(options) => {
            with_database(&app, async |database| {
                let input = io::BufReader::new(io::stdin());
                authorise::authorise(&app, database, &options, input, &mut io::stdout(), stop).await
            })
            .await
        }
        Command::Connections { command: Some(command), .. } => {
            let work = async |database: &Database| {
                service::stop_connection(&app, database, &command, common.json, &mut io::stdout()).await
            };
            with_database(&app, work).await
        }
        Command::Connections { command: None, resume } => {
            with_database(&app, async |database| {
                service::connections(database, resume.as_deref(), common.json, &mut io::stdout()).await
            })
            .await
        }
        Command::Gdpr(command) => {
            let work = async |database: &Database| {
                privacy::gdpr(&app, database, &command, common.json, &mut io::stdout()).await
            };
            with_database(&app, work).await
        }
        Command::Replay { pipeline: None, deliveries } => {
            with_database(&app, async |database| service::replay(database, &deliveries, &mut io::stdout()).await).await
        }
        Command::Replay { pipeline: Some(pipeline), .. } => {
            let database = app.database().await?;
            let only = books::scopes_to_replay(&database, &pipeline).await?;
            database.close().await;
            if only.is_empty() {
                app.named(&pipeline)?;
                match common.json {
                    true => print(out, format_args!("{}", json!({ "pipeline": pipeline, "replayed": false })))?,
                    false => print(out, format_args!("nothing of `{pipeline}` is waiting to be replayed"))?,
                }
                return Ok(End::Done);
            }
            let asked = Asked { trigger: "replay".to_owned(), read: None, only, fresh: true };
            run_plan(&app, &pipeline, asked, common.json, out, stop).await
        }
        Command::Map(options) => {
            let work =
                async |database: &Database| map::map(&app, database, &options, common.json, &mut io::stdout()).await;
            with_database(&app, work).await
        }
        Command::Jobs { requeue } => {
            let work = async |database: &Database| {
                books::jobs(database, requeue.as_deref(), common.json, &mut io::stdout()).await
            };
            with_database(&app, work).await
        }
        Command::Outbox { state, replay, limit } => {
            let now = app.clock.now();
            let work = async |database: &Database| {
                let asked = books::OutboxOptions { state, replay, limit };
                books::outbox(database, &asked, now, common.json, &mut io::stdout()).await
            };
            with_database(&app, work).await
        }
        Command::Services { command } => {
            let now = app.clock.now();
            let work = async |database: &Database| {
                let command = command.unwrap_or_default();
                services::books::services(database, &command, now, common.json, &mut io::stdout()).await
            };
            with_database(&app, work).await
        }
        Command::List { name } => {
            books::list(&app, name.as_deref(), common.json, out).await?;
            Ok(End::Done)
        }
        Command::Check { live } => check(&app, live, common.json, out).await,
        Command::Migrate => {
            let database = app.database().await?;
            database.close().await;
            match common.json {
                true => print(out, format_args!("{}", json!({ "migrated": true })))?,
                false => print(out, format_args!("the database is up to date"))?,
            }
            Ok(End::Done)
        }
        Command::Db => {
            let database = app.database().await?;
            if !database.is_private() {
                return Err(Fault::user("`DATABASE_URL` is set, so there is no private database to run")
                    .hint("Unset it first."));
            }
            print(out, format_args!("DATABASE_URL={}", database.url))?;
            stop.cancelled().await;
            database.close().await;
            Ok(End::Done)
        }
        Command::Simulate(options) => simulate::simulate(options, out, stop).await,
        Command::Generate(options) => simulate::generate(options),
        Command::Docs { page } => {
            print(out, format_args!("{}", docs::page(&page).trim_end()))?;
            Ok(End::Done)
        }
    }
}

/// Answers a query; for one to the database, that is the app's, or the private server.
async fn ask(app: &App, options: &mut sql::Options, out: &mut dyn Write) -> Result<()> {
    if !options.db {
        return sql::run(options, out).await.map(|_| ());
    }
    let database = app.database().await?;
    options.database_url = Some(database.url.clone());
    let answered = sql::run(options, out).await;
    database.close().await;
    answered.map(|_| ())
}

/// Writes one line to standard output. A reader that went away, as `head` does, is no fault of anybody.
pub fn print(out: &mut dyn Write, line: std::fmt::Arguments<'_>) -> Result<()> {
    wrote(writeln!(out, "{line}"))
}

/// Turns a failed write to standard output into a fault, except a closed pipe.
pub fn wrote(result: io::Result<()>) -> Result<()> {
    match result {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(Fault::user("the output cannot be written").because(e)),
        _ => Ok(()),
    }
}

async fn with_database(app: &App, work: impl AsyncFnOnce(&Database) -> Result<()>) -> Result<End> {
    let database = app.database().await?;
    let result = work(&database).await;
    database.close().await;
    result.map(|()| End::Done)
}

async fn run_plan(
    app: &App,
    name: &str,
    asked: Asked,
    json: bool,
    out: &mut dyn Write,
    stop: &CancellationToken,
) -> Result<End> {
    // The plan first: a bad file should not cost the start of a database.
    let plan = app.plan(name).await?;
    let database = app.database().await?;
    let began = Instant::now();
    if asked.fresh {
        let action = if asked.trigger == "replay" { "replay" } else { "run_fresh" };
        books::audit(&database, action, name, json!({ "only": asked.only })).await?;
    }
    let result = match app.job(&plan, &database, asked).await {
        Ok(job) => run(&app.world(Some(&database)), job, stop).await,
        Err(fault) => Err(fault),
    };
    database.close().await;
    print_summary(out, &result?, began, json)
}

fn keep_rejects(path: &std::path::Path, summary: &Summary) -> Result<()> {
    let mut text = Vec::new();
    for reject in &summary.unrecorded {
        serde_json::to_writer(&mut text, reject).map_err(|e| Fault::us("a reject has no JSON form").because(e))?;
        text.push(b'\n');
    }
    std::fs::write(path, text).map_err(|e| Fault::user(format!("`{}` cannot be written", path.display())).because(e))
}

fn print_summary(out: &mut dyn Write, summary: &Summary, began: Instant, json: bool) -> Result<End> {
    if json {
        let text = serde_json::to_string(summary).map_err(|e| Fault::us("a summary has no JSON form").because(e))?;
        print(out, format_args!("{text}"))?;
    } else {
        wrote(show::summary(out, summary, began.elapsed()))?;
    }
    Ok(match summary.status {
        Status::Partial => End::Partial,
        Status::Stopped => End::Stopped,
        _ => End::Done,
    })
}

#[expect(clippy::too_many_arguments, reason = "the command's own flags")]
async fn backfill(
    app: &App,
    name: &str,
    from: NaiveDate,
    to: NaiveDate,
    dry_run: bool,
    json: bool,
    out: &mut dyn Write,
    stop: &CancellationToken,
) -> Result<End> {
    if to < from {
        return Err(Fault::user(format!("`--to {to}` is before `--from {from}`")));
    }
    let plan = app.plan(name).await?;
    let database = app.database().await?;
    let result = backfill_on(app, &plan, &database, from, to, dry_run, json, out, stop).await;
    database.close().await;
    result
}

#[expect(clippy::too_many_arguments, reason = "the command's own flags")]
async fn backfill_on(
    app: &App,
    plan: &crate::plan::Plan,
    database: &Database,
    from: NaiveDate,
    to: NaiveDate,
    dry_run: bool,
    json: bool,
    out: &mut dyn Write,
    stop: &CancellationToken,
) -> Result<End> {
    if !dry_run {
        books::audit(database, "backfill", &plan.spec.name, json!({ "from": from, "to": to })).await?;
    }
    let (from_at, until) = (midnight(from), midnight(to) + chrono::TimeDelta::days(1));
    let asked = Asked {
        trigger: "backfill".to_owned(),
        read: Some(Read::Backfill { from: from_at, until }),
        only: Vec::new(),
        fresh: false,
    };
    let job = app.job(plan, database, asked).await?;
    if job.stream.backfill {
        if dry_run {
            print(out, format_args!("would ask `{}` for everything from {from} to {to}", plan.spec.connection()))?;
            return Ok(End::Done);
        }
        let began = Instant::now();
        let summary = run(&app.world(Some(database)), job, stop).await?;
        return print_summary(out, &summary, began, json);
    }
    // The vendor keeps no past of this stream. The lake does: history tables are rebuilt from what was observed.
    let restored = crate::backfill::from_lake(plan, database, from_at, until, dry_run).await?;
    print(
        out,
        format_args!(
            "`{}` keeps no past of `{}`; {} {} observations of {from} to {to} from the lake in `{}`, {} of them new",
            plan.spec.connection(),
            plan.spec.source.stream,
            if dry_run { "would restore" } else { "restored" },
            show::thousands(restored.received),
            restored.lake,
            show::thousands(restored.inserted),
        ),
    )?;
    Ok(End::Done)
}

fn midnight(day: NaiveDate) -> DateTime<Utc> {
    day.and_time(chrono::NaiveTime::MIN).and_utc()
}

async fn check(app: &App, live: bool, json: bool, out: &mut dyn Write) -> Result<End> {
    let (plans, mut faults) = app.plans().await?;
    let (couriers, wrong) = crate::couriers::check(app.specs.as_deref())?;
    faults.extend(wrong);
    let mut doubtful = BTreeSet::new();
    if live && !plans.is_empty() {
        let mut opened = std::collections::BTreeSet::new();
        let database = app.database().await?;
        for plan in &plans {
            let before = faults.len();
            let asked = Asked { trigger: "manual".to_owned(), read: None, only: Vec::new(), fresh: false };
            match app.job(plan, &database, asked).await {
                Ok(job) => {
                    opened.insert(&plan.spec.source.connector);
                    let place = |what: &str| format!("{}: {what}", plan.place);
                    if let Err(fault) = job.source.check().await {
                        faults.push(fault.at(place(&plan.spec.source.connector)));
                    }
                    for (sink, spec) in job.sinks.iter().zip(&plan.spec.sinks) {
                        if let Err(fault) = sink.check().await {
                            faults.push(fault.at(place(&spec.sink)));
                        }
                    }
                }
                Err(fault) => faults.push(fault.at(&plan.place)),
            }
            if faults.len() > before {
                doubtful.insert(plan.place.clone());
            }
        }
        // What is written to beside being read; others need no settings until somebody uses them.
        for courier in couriers.iter().filter(|c| opened.contains(&c.courier)) {
            let carriers = crate::outbox::Couriers::new(app, database.pool.clone());
            let checked = match carriers.get(&courier.courier, courier.connection()).await {
                Ok(open) => open.check().await,
                Err(fault) => Err(fault),
            };
            if let Err(fault) = checked {
                faults.push(fault.at(format!("courier `{}`", courier.courier)));
            }
        }
        database.close().await;
    }
    if json {
        let list: Vec<_> = faults.iter().map(|f| json!({ "error": f.chain(), "hint": f.hint })).collect();
        print(
            out,
            format_args!(
                "{}",
                json!({ "pipelines": plans.iter().map(|p| &p.spec.name).collect::<Vec<_>>(), "problems": list })
            ),
        )?;
    } else {
        for plan in plans.iter().filter(|plan| !doubtful.contains(&plan.place)) {
            print(out, format_args!("ok: {} ({})", plan.spec.name, plan.place))?;
        }
    }
    if faults.is_empty() { Ok(End::Done) } else { Err(crate::app::all_of(&faults)) }
}
