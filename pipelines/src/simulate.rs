//! Simulated vendors and generated files, from the command line.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::time::Duration;

use catalog::{Clock, Fault, Result, SystemClock};

use clap::{Args, ValueEnum};
use fixtures::mits::{FeedShape, Pricing, write_feed};
use fixtures::people::{PeopleShape, write_people};
use fixtures::resman::{self, Options as ResManOptions, Simulator};
use fixtures::world::{Shape, World};
use fixtures::{calendars, desk, guesty, hostaway, ownerrez, stays};
use tokio_util::sync::CancellationToken;

use crate::cli::{End, print};

/// Which vendor to simulate, and how large.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// The vendor
    #[arg(value_enum)]
    vendor: Vendor,
    /// Number of properties
    #[arg(long, default_value_t = 5)]
    properties: usize,
    /// Units of each property, 60 without it; of a booking channel the stays of each listing when the world begins, 24
    /// without it, of calendars 14
    #[arg(long)]
    units: Option<usize>,
    /// The same seed gives the same world
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The port, for ResMan the first of two; 0 takes free ones
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Time that each call takes, in milliseconds
    #[arg(long, default_value_t = 0)]
    latency_ms: u64,
    /// Changes to make to the world each minute
    #[arg(long, default_value_t = 0)]
    changes: usize,
    #[command(flatten)]
    trouble: Trouble,
}

/// How the vendor misbehaves, and when.
#[derive(Debug, Clone, Args)]
struct Trouble {
    /// Let the vendor misbehave now and then; several ways, apart by commas, take turns
    #[arg(long, value_enum, value_delimiter = ',', value_name = "HOW")]
    misbehave: Vec<How>,
    /// Misbehave on this path only, such as `MITS/GetMarketing4_0` or `/v1/listings`; with a `*` at its end on all that begin so
    #[arg(long, value_name = "PATH", default_value = "*", requires = "misbehave")]
    on: String,
    /// Misbehave on each Nth call, 1 for all
    #[arg(long, value_name = "N", default_value_t = 10, requires = "misbehave")]
    every: usize,
    /// Answer the first N calls well
    #[arg(long, value_name = "N", default_value_t = 0, requires = "misbehave")]
    after: usize,
    /// Misbehave N times in each way and then no more
    #[arg(long, value_name = "N", requires = "misbehave")]
    times: Option<usize>,
    /// How late a slow answer is, in milliseconds
    #[arg(long, default_value_t = 5_000, requires = "misbehave")]
    slow_ms: u64,
    /// When a 429 says to come back, in seconds
    #[arg(long, default_value_t = 1, requires = "misbehave")]
    retry_after_secs: u64,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum How {
    /// 429 with `Retry-After`
    #[value(alias = "429")]
    TooManyRequests,
    /// 503
    #[value(alias = "503")]
    ServerError,
    /// Wrong credentials, whatever was sent
    #[value(alias = "401")]
    Unauthorized,
    /// The right answer, late
    Slow,
    /// A body that is announced whole, sent in part and then cut off
    CutBody,
    /// A body that ends halfway and yet has its announced length
    Malformed,
    /// A maintenance page in HTML with status 200
    Html,
    /// An answer without a body
    Empty,
}

impl Trouble {
    /// The ways to misbehave, each with the number of calls before its turn.
    fn turns(&self) -> impl Iterator<Item = (How, usize)> {
        let apart = |i: usize| i * self.every / self.misbehave.len().max(1);
        self.misbehave.iter().enumerate().map(move |(i, how)| (*how, self.after + apart(i)))
    }

    fn times(&self) -> usize {
        self.times.unwrap_or(usize::MAX)
    }

    fn late(&self) -> Duration {
        Duration::from_millis(self.slow_ms)
    }

    fn of_resman(&self, simulator: &Simulator) {
        use resman::Misbehaviour as M;
        for (how, after) in self.turns() {
            let misbehaviour = match how {
                How::TooManyRequests => M::TooManyRequests { retry_after_secs: self.retry_after_secs },
                How::ServerError => M::ServerError { status: 503, retry_after_secs: None },
                How::Unauthorized => M::Unauthorized,
                How::Slow => M::Slow(self.late()),
                How::CutBody => M::CutBody,
                How::Malformed => M::Malformed,
                How::Html => M::Html,
                How::Empty => M::Empty,
            };
            let rule = resman::Rule::on(&self.on, misbehaviour);
            simulator.misbehave(rule.after(after).every(self.every).times(self.times()));
        }
    }

    fn of_guesty(&self, simulator: &guesty::Simulator) {
        use guesty::Misbehaviour as M;
        for (how, after) in self.turns() {
            let misbehaviour = match how {
                How::TooManyRequests => M::TooManyRequests { retry_after: self.retry_after_secs.to_string() },
                How::ServerError => M::Status(503),
                How::Unauthorized => M::Status(401),
                How::Slow => M::Slow(self.late()),
                How::CutBody => M::CutBody,
                How::Malformed => M::Malformed,
                How::Html => M::Html,
                How::Empty => M::Empty,
            };
            let rule = guesty::Rule::on(&self.on, misbehaviour);
            simulator.misbehave(rule.after(after).every(self.every).times(self.times()));
        }
    }

    /// The rules for `OwnerRez` and Hostaway.
    fn of_desk(&self) -> impl Iterator<Item = desk::Rule> {
        use desk::Misbehaviour as M;
        self.turns().map(|(how, after)| {
            let misbehaviour = match how {
                How::TooManyRequests => M::TooManyRequests { retry_after_secs: Some(self.retry_after_secs) },
                How::ServerError => M::ServerError { status: 503 },
                How::Unauthorized => M::Unauthorized,
                How::Slow => M::Slow(self.late()),
                How::CutBody => M::CutBody,
                How::Malformed => M::Malformed,
                How::Html => M::Html,
                How::Empty => M::Empty,
            };
            desk::Rule::on(&self.on, misbehaviour).after(after).every(self.every).times(self.times())
        })
    }

    fn of_calendars(&self, simulator: &calendars::Simulator) {
        use calendars::Glitch as G;
        for (how, after) in self.turns() {
            let glitch = match how {
                How::TooManyRequests => G::TooManyRequests { retry_after_secs: self.retry_after_secs },
                How::ServerError => G::Status(503),
                How::Unauthorized => G::Status(401),
                How::Slow => G::Slow(self.late()),
                How::CutBody => G::CutBody,
                How::Malformed => G::Truncated,
                How::Html => G::Html,
                How::Empty => G::Nothing,
            };
            let rule = calendars::Rule::always(glitch).path(&self.on);
            simulator.misbehave(rule.after(after).every(self.every).times(self.times()));
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Vendor {
    /// Listings and bookings; `--properties` is the number of listings, `--units` of stays of each
    Guesty,
    /// Properties and units
    Resman,
    /// Bookings, holds, listings and guests
    Ownerrez,
    /// Reservations and listings
    Hostaway,
    /// The calendars that Airbnb, VRBO and Booking.com export, and Airbnb's partner API; a listing for each property
    Calendars,
}

/// What to generate.
#[derive(Debug, Clone, Args)]
pub struct GenerateOptions {
    /// What kind of file
    #[arg(value_enum)]
    kind: GeneratedKind,
    /// Where to
    #[arg(required_unless_present = "out")]
    file: Option<PathBuf>,
    /// Where to, said as a flag
    #[arg(long, value_name = "FILE", conflicts_with = "file")]
    out: Option<PathBuf>,
    /// Number of rows of a contact list
    #[arg(long, default_value_t = 10_000)]
    rows: usize,
    /// The share of rows of a contact list that repeat a person, from 0 to 0.9
    #[arg(long, default_value_t = 0.15, value_name = "SHARE")]
    duplicates: f64,
    /// Number of properties
    #[arg(long, default_value_t = 50)]
    properties: usize,
    /// Units of each property
    #[arg(long, default_value_t = 300)]
    units: usize,
    /// The same seed gives the same file
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum GeneratedKind {
    /// A MITS 4.1 marketing feed
    Mits,
    /// A contact list as CSV; its column `person` is the truth about who is who
    People,
}

/// The environment variables that point the built-in pipelines at a simulated ResMan.
pub fn environment(simulator: &Simulator) -> Vec<(&'static str, String)> {
    let credentials = simulator.credentials();
    vec![
        ("RESMAN_V1_URL", simulator.base_url_v1()),
        ("RESMAN_V2_URL", simulator.base_url_v2()),
        ("RESMAN_PARTNER_ID", credentials.partner_id.clone()),
        ("RESMAN_API_KEY", credentials.api_key.clone()),
        ("RESMAN_ACCOUNT_ID", credentials.account_id.clone()),
        // The simulator has no limit to respect.
        ("RESMAN_CALLS_PER_SEC", "1000".to_owned()),
    ]
}

/// Serves a simulated vendor until stopped.
pub async fn simulate(options: Options, out: &mut dyn Write, stop: &CancellationToken) -> Result<End> {
    match options.vendor {
        Vendor::Resman => {}
        Vendor::Calendars => return simulate_calendars(options, out, stop).await,
        Vendor::Guesty | Vendor::Ownerrez | Vendor::Hostaway => return simulate_channel(options, out, stop).await,
    }
    let shape = Shape {
        seed: options.seed,
        properties: options.properties,
        units: options.units.unwrap_or(UNITS),
        today: SystemClock.today(chrono_tz::UTC),
    };
    let simulator = Simulator::start(
        World::generate(shape),
        ResManOptions {
            port: (options.port != 0).then_some(options.port),
            latency: Duration::from_millis(options.latency_ms),
            ..ResManOptions::default()
        },
    )
    .await?;
    options.trouble.of_resman(&simulator);
    print(
        out,
        format_args!("# a simulated ResMan of {} properties; its credentials are invented", options.properties),
    )?;
    for (name, value) in environment(&simulator) {
        print(out, format_args!("export {name}='{value}'"))?;
    }
    let mut minute = tokio::time::interval(Duration::from_secs(60));
    minute.tick().await;
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(End::Done),
            _ = minute.tick(), if options.changes > 0 => {
                let changes = simulator.with_world(|world| world.mutate(options.changes));
                print(out, format_args!("# {} changes", changes.len()))?;
            }
        }
    }
}

/// Serves exported calendars until stopped.
async fn simulate_calendars(options: Options, out: &mut dyn Write, stop: &CancellationToken) -> Result<End> {
    let stays = options.units.unwrap_or(CALENDAR_STAYS);
    let shape = stays::Shape { seed: options.seed, listings: options.properties, stays, now: SystemClock.now() };
    let simulator = calendars::Simulator::start(
        stays::Shared::new(stays::Stays::new(shape)),
        calendars::Options {
            port: (options.port != 0).then_some(options.port),
            latency: Duration::from_millis(options.latency_ms),
            ..calendars::Options::default()
        },
    )
    .await?;
    options.trouble.of_calendars(&simulator);
    print(out, format_args!("# simulated calendars of {} listings; their tokens are invented", options.properties))?;
    print(out, format_args!("export AIRBNB_ALLOW_PRIVATE=true VRBO_ALLOW_PRIVATE=true"))?;
    for index in 0..options.properties {
        let (number, listing) = (index + 1, simulator.stays().lock().listings[index].clone());
        print(out, format_args!("# booking.com: {}", simulator.booking_url(index)))?;
        for (site, id, url) in [
            ("AIRBNB", &listing.airbnb_id, simulator.airbnb_url(index)),
            ("VRBO", &listing.vrbo_id, simulator.vrbo_url(index)),
        ] {
            print(out, format_args!("export {site}_LISTING_{number}='{id}' {site}_FEED_{number}='{url}'"))?;
            print(
                out,
                format_args!(
                    "export {site}_PROPERTY_{number}='{}' {site}_ZONE_{number}='{}'",
                    listing.property, listing.zone
                ),
            )?;
        }
    }
    each_minute(simulator.stays(), options.changes, out, stop).await
}

/// Units of each property of a simulated ResMan.
const UNITS: usize = 60;
/// Stays of each listing of a simulated booking channel.
const STAYS: usize = 24;
/// Stays of each listing whose calendar is simulated.
const CALENDAR_STAYS: usize = 14;

/// Serves a simulated channel manager until stopped.
async fn simulate_channel(options: Options, out: &mut dyn Write, stop: &CancellationToken) -> Result<End> {
    // Listings are spread over the managers and nobody in turn.
    let (listings, stays) = (options.properties * 4, options.units.unwrap_or(STAYS));
    let shape = stays::Shape { seed: options.seed, listings, stays, now: SystemClock.now() };
    let shared = stays::Shared::new(stays::Stays::new(shape));
    let port = (options.port != 0).then_some(options.port);
    let latency = Duration::from_millis(options.latency_ms);
    // Held until the end: dropping one closes its port.
    let (_ownerrez, _hostaway, _guesty, variables);
    if let Vendor::Hostaway = options.vendor {
        let settings = hostaway::Options { port, latency, ..hostaway::Options::default() };
        let simulator = hostaway::Simulator::start(shared.clone(), settings).await?;
        options.trouble.of_desk().for_each(|rule| simulator.misbehave(rule));
        let c = simulator.credentials();
        variables = vec![
            ("HOSTAWAY_URL", simulator.base_url()),
            ("HOSTAWAY_ACCOUNT_ID", c.account_id.clone()),
            ("HOSTAWAY_CLIENT_SECRET", c.client_secret.clone()),
            ("HOSTAWAY_WEBHOOK_PASSWORD", c.webhook_password.clone()),
            ("HOSTAWAY_CALLS_PER_SEC", "1000".to_owned()),
        ];
        _hostaway = simulator;
    } else if let Vendor::Guesty = options.vendor {
        let settings = guesty::Options { port, windows: Some([15, 120, 5000]), ..guesty::Options::default() };
        let simulator = guesty::Simulator::start(shared.clone(), settings).await?;
        if !latency.is_zero() {
            simulator.misbehave(guesty::Rule::on("*", guesty::Misbehaviour::Slow(latency)));
        }
        options.trouble.of_guesty(&simulator);
        variables = vec![
            ("GUESTY_BASE_URL", simulator.base_url()),
            ("GUESTY_TOKEN_URL", simulator.token_url()),
            ("GUESTY_CLIENT_ID", simulator.client_id().to_owned()),
            ("GUESTY_CLIENT_SECRET", simulator.client_secret().to_owned()),
        ];
        _guesty = simulator;
    } else {
        let settings = ownerrez::Options { port, latency, ..ownerrez::Options::default() };
        let simulator = ownerrez::Simulator::start(shared.clone(), settings).await?;
        options.trouble.of_desk().for_each(|rule| simulator.misbehave(rule));
        let c = simulator.credentials();
        variables = vec![
            ("OWNERREZ_URL", simulator.base_url()),
            ("OWNERREZ_TOKEN", c.access_token.clone()),
            ("OWNERREZ_CLIENT_ID", c.client_id.clone()),
            ("OWNERREZ_WEBHOOK_PASSWORD", c.webhook_password.clone()),
            ("OWNERREZ_CALLS_PER_SEC", "1000".to_owned()),
        ];
        _ownerrez = simulator;
    }
    print(
        out,
        format_args!("# a simulated channel manager of {} listings; its credentials are invented", options.properties),
    )?;
    for (name, value) in variables {
        print(out, format_args!("export {name}='{value}'"))?;
    }
    each_minute(&shared, options.changes, out, stop).await
}

/// Lets the world of stays go with the clock, with some changes each minute, until stopped.
async fn each_minute(
    world: &stays::Shared,
    changes: usize,
    out: &mut dyn Write,
    stop: &CancellationToken,
) -> Result<End> {
    let mut minute = tokio::time::interval(Duration::from_secs(60));
    minute.tick().await;
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(End::Done),
            _ = minute.tick() => {
                let mut stays = world.lock();
                stays.now = SystemClock.now();
                let made = (0..changes).filter(|_| stays.mutate().is_some()).count();
                drop(stays);
                if made > 0 {
                    print(out, format_args!("# {made} changes"))?;
                }
            }
        }
    }
}

/// Writes a generated file.
pub fn generate(options: GenerateOptions) -> Result<End> {
    let path = options.file.or(options.out).ok_or_else(|| Fault::user("no file is named").hint("Add `--out FILE`."))?;
    if !(0.0..=0.9).contains(&options.duplicates) {
        return Err(Fault::user(format!("`--duplicates {}` is not between 0 and 0.9", options.duplicates)));
    }
    let failed = |e| Fault::user(format!("`{}` cannot be written", path.display())).because(e);
    let file = File::create(&path).map_err(failed)?;
    let mut writer = BufWriter::with_capacity(1 << 20, file);
    match options.kind {
        GeneratedKind::Mits => {
            let shape = FeedShape {
                seed: options.seed,
                properties: options.properties,
                units: options.units,
                today: SystemClock.today(chrono_tz::UTC),
                pricing: Pricing::default(),
            };
            write_feed(&mut writer, shape).map_err(failed)?;
        }
        GeneratedKind::People => {
            let shape = PeopleShape { seed: options.seed, rows: options.rows, duplicates: options.duplicates };
            write_people(&mut writer, shape).map_err(failed)?;
        }
    }
    writer.flush().map_err(failed)?;
    Ok(End::Done)
}
