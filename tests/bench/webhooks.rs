//! What a delivery costs: committed before it is answered, at 64 connections, against bare commits of the same rows.

use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use catalog::{Clock, SecretRef, SystemClock};
use chrono::Days;
use connectors::webhook::sign;
use pipelines::embedded::{Durability, PrivatePostgres, scratch};
use pipelines::show::thousands;
use sqlx::{PgPool, Row};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::{Result, say};

const CONNECTIONS: usize = 64;
/// One delivery of so many is a repetition of the one before.
const REPEATED: u64 = 50;
const SECRET: &str = "whsec_cHJvcGZsb3cgYmVuY2ggc2lnbnMgd2l0aCB0aGlz";

/// Runs the figures.
pub(crate) async fn webhooks(propflow: &Path, dir: &Path, scale: f64, live_only: bool) -> Result<()> {
    let seconds = Duration::from_secs_f64((10.0 * scale).max(1.0));
    let server = PrivatePostgres::start(&scratch("bench-hooks"), Durability::Full).await?;
    let (url, folder) = (server.url().to_owned(), server.dir().to_owned());
    let pool = catalog::store::connect(&url, CONNECTIONS as u32 + 8).await?;
    let home = dir.join("hooks");
    std::fs::create_dir_all(home.join("specs"))?;
    std::fs::set_permissions(&home, std::fs::Permissions::from_mode(0o755))?;
    std::fs::write(home.join("secret"), SECRET)?;
    let secret = SecretRef::parse(&format!("file:{}", home.join("secret").display()))?;
    let spec = format!(
        "name = \"intake_bookings\"\nabout = \"bench\"\n[source]\nconnector = \"intake\"\nstream = \"bookings\"\n\
         read = \"changes\"\n[source.settings]\nsecrets = [\"{secret}\"]\n[[sinks]]\nsink = \"postgres\"\n"
    );
    std::fs::write(home.join("specs").join("intake.toml"), spec)?;
    let serve = |arguments: &[&str]| Serve::start(propflow, &url, &home, arguments);

    say(&format!("\nwebhooks: {CONNECTIONS} connections, signed bodies of {} bytes", body(0).len()));
    // It brings the database up to date.
    drop(serve(&["--no-work"])?);
    sqlx::query("create table if not exists ops.floor (like ops.deliveries including all)").execute(&pool).await?;
    if !live_only {
        crowd(&serve, &pool, &secret, seconds).await?;
    }
    live(&serve, &pool, &secret, scale).await?;
    pool.close().await;
    server.stop().await;
    std::fs::remove_dir_all(folder)?;
    Ok(())
}

/// As many as it can take, and none of them lost.
async fn crowd(
    serve: &impl Fn(&[&str]) -> Result<Serve>,
    pool: &PgPool,
    secret: &SecretRef,
    seconds: Duration,
) -> Result<()> {
    let service = serve(&["--no-work"])?;
    let one = floor(pool, 1, seconds / 3).await?;
    let many = floor(pool, CONNECTIONS, seconds / 3).await?;
    say(&format!("  floor   INSERT and commit, one row each, 1 connection     {:>8} a second", thousands(one)));
    say(&format!(
        "  floor   the same at {CONNECTIONS} connections                      {:>8} a second",
        thousands(many)
    ));
    // Warm: pools, caches, the first pages of the table.
    load(&service.address, secret, "warm", seconds / 5).await?;
    let mut best = Load::default();
    for round in 0..3 {
        let some = load(&service.address, secret, &format!("r{round}"), seconds).await?;
        if some.a_second() > best.a_second() {
            best = some;
        }
    }
    say(&format!(
        "  ours    committed, then answered                          {:>8} a second, p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms (asked: 10,000 and p99 below 50 ms)",
        thousands(best.a_second()),
        best.at(0.5),
        best.at(0.99),
        best.at(1.0)
    ));
    drop(service);

    // Killed in the middle: who was answered is on the books, and nobody is there twice.
    let mut service = serve(&["--no-work"])?;
    let address = service.address.clone();
    let killer = tokio::spawn({
        let pid = service.child.id();
        async move {
            tokio::time::sleep(Duration::from_millis(1500)).await;
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), nix::sys::signal::Signal::SIGKILL);
        }
    });
    let cut = load(&address, secret, "kill", Duration::from_secs(20)).await?;
    killer.await?;
    service.child.wait()?;
    let rows =
        sqlx::query("select delivery_id from ops.deliveries where delivery_id like 'kill-%'").fetch_all(pool).await?;
    let kept: HashSet<String> = rows.iter().map(|r| r.get(0)).collect();
    let lost = cut.answered.iter().filter(|id| !kept.contains(*id)).count();
    say(&format!(
        "  ours    killed after 1.5 s: {} answered, {lost} of them lost, {} kept twice",
        thousands(cut.answered.len() as u64),
        rows.len() - kept.len()
    ));
    Ok(())
}

/// Deliveries a second of an installation that is busy.
const RATE: u32 = 100;

/// At a steady rate, with the worker in the same process: how long until a delivery stands in what readers see, settled
/// with all others of its property.
async fn live(serve: &impl Fn(&[&str]) -> Result<Serve>, pool: &PgPool, secret: &SecretRef, scale: f64) -> Result<()> {
    sqlx::query("delete from ops.deliveries").execute(pool).await?;
    // Without its property a booking waits, and nothing is settled.
    sqlx::query(
        "insert into sync.listing_map (connection, listing_id, property_id) \
         select 'intake', 'P-' || n, 'P-' || n from generate_series(0, 199) n on conflict do nothing",
    )
    .execute(pool)
    .await?;
    let count = (f64::from(RATE) * 60.0 * scale).max(200.0) as u64;
    let tick = Duration::from_secs(1) / RATE;

    // The floor: the delivery alone, committed and read again.
    let mut floor = Vec::new();
    let began = Instant::now();
    let mut connection = pool.acquire().await?;
    for n in 0..count / 4 {
        tokio::time::sleep_until((began + tick * n as u32).into()).await;
        let sent = Instant::now();
        sqlx::query(
            "insert into ops.floor (connector, connection, delivery_id, event, state, headers, body, received_at, next_at) \
             values ('intake', 'intake', $1, 'booking-created', 'received', '{}', $2, now(), now())",
        )
        .bind(format!("live-{n}"))
        .bind(body(n).into_bytes())
        .execute(&mut *connection)
        .await?;
        sqlx::query("select 1 from ops.floor where delivery_id = $1")
            .bind(format!("live-{n}"))
            .fetch_one(&mut *connection)
            .await?;
        floor.push(sent.elapsed().as_secs_f64() * 1000.0);
    }
    drop(connection);
    let floor = sorted(floor);
    say(&format!(
        "  floor   at {RATE} a second, INSERT, commit and read again: p50 {:.1} ms, p99 {:.1} ms",
        part(&floor, 0.5),
        part(&floor, 0.99)
    ));

    let service = serve(&[])?;
    let (began, number) = (Instant::now(), Arc::new(AtomicU64::new(0)));
    let mut senders = JoinSet::new();
    for _ in 0..8 {
        let (number, secret, pool, address) = (number.clone(), secret.clone(), pool.clone(), service.address.clone());
        senders.spawn(async move {
            let mut stream = TcpStream::connect(&address).await.map_err(|e| e.to_string())?;
            let mut watching = JoinSet::new();
            loop {
                let n = number.fetch_add(1, Ordering::Relaxed);
                if n >= count {
                    break;
                }
                tokio::time::sleep_until((began + tick * n as u32).into()).await;
                let request = request(&secret, &format!("live-{n}"), &body(n)).map_err(|e| e.to_string())?;
                let sent = Instant::now();
                stream.write_all(&request).await.map_err(|e| e.to_string())?;
                let status = answer(&mut stream).await.map_err(|e| e.to_string())?;
                if status != 202 {
                    return Err(format!("a delivery was answered {status}"));
                }
                // Not in step with anything, and few enough to be no load.
                if n % 37 == 0 {
                    watching.spawn(seen(pool.clone(), format!("B{n}"), sent));
                }
            }
            Ok::<_, String>(watching.join_all().await)
        });
    }
    let mut seen = Vec::new();
    while let Some(sender) = senders.join_next().await {
        seen.extend(sender??);
    }
    let late = seen.iter().filter(|s| s.is_none()).count();
    let seen = sorted(seen.into_iter().flatten().collect());
    let deadline = Instant::now() + Duration::from_secs(60);
    let took = loop {
        let took: Vec<f64> = sqlx::query_scalar(
            "select 1000 * extract(epoch from processed_at - received_at)::float8 from ops.deliveries \
             where state = 'processed' order by 1",
        )
        .fetch_all(pool)
        .await?;
        if took.len() as u64 == count || Instant::now() > deadline {
            break took;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let there: i64 = sqlx::query_scalar("select count(*) from serving.bookings").fetch_one(pool).await?;
    let runs: i64 =
        sqlx::query_scalar("select count(*) from ops.runs where trigger = 'webhook'").fetch_one(pool).await?;
    say(&format!(
        "  ours    at {RATE} a second for {} s, from sending until it is seen in serving.bookings: {} watched, p50 {:.0} ms, p99 {:.0} ms, max {:.0} ms, {late} never seen (asked: p99 below 1000 ms)",
        count / u64::from(RATE),
        seen.len(),
        part(&seen, 0.5),
        part(&seen, 0.99),
        part(&seen, 1.0)
    ));
    say(&format!(
        "  ours    from its coming to the commit of its run: {} of {count} in {runs} runs, p50 {:.0} ms, p99 {:.0} ms; {there} bookings are there",
        took.len(),
        part(&took, 0.5),
        part(&took, 0.99)
    ));
    Ok(())
}

/// How long it takes until readers see a booking, in milliseconds; `None` when they do not.
async fn seen(pool: PgPool, booking: String, sent: Instant) -> Option<f64> {
    while sent.elapsed() < Duration::from_secs(60) {
        let there: Option<i32> = sqlx::query_scalar("select 1 from serving.bookings where source_booking_id = $1")
            .bind(&booking)
            .fetch_optional(&pool)
            .await
            .ok()?;
        if there.is_some() {
            return Some(sent.elapsed().as_secs_f64() * 1000.0);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    None
}

fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}

/// A value of a sorted list, by how much of the list lies below it.
fn part(sorted: &[f64], part: f64) -> f64 {
    sorted.get(((sorted.len() as f64 - 1.0) * part) as usize).copied().unwrap_or(f64::NAN)
}

/// The service in a process of its own; killed when dropped.
pub(crate) struct Serve {
    child: Child,
    pub(crate) address: String,
}

impl Serve {
    pub(crate) fn start(propflow: &Path, url: &str, home: &Path, arguments: &[&str]) -> Result<Self> {
        let mut command = Command::new(propflow);
        command.args(["serve", "--listen", "127.0.0.1:0", "--specs"]).arg(home.join("specs")).args(arguments);
        command.env("DATABASE_URL", url).stdout(Stdio::piped()).stdin(Stdio::null());
        let mut child = command.spawn()?;
        let output = child.stdout.take().ok_or("the service has no output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        let address = line.split_once("http://").and_then(|(_, rest)| rest.split(',').next());
        Ok(Self { address: address.ok_or("the service does not say where it listens")?.to_owned(), child })
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One stay after the other in each of 200 properties, a year ahead at most.
fn body(n: u64) -> String {
    let arrival = SystemClock.now().date_naive() + Days::new(1 + n / 200 % 120 * 3);
    let departure = arrival + Days::new(3);
    format!(
        "{{\"booking_id\":\"B{n}\",\"platform\":\"direct\",\"property_id\":\"P-{}\",\"guest_name\":\"Ada Example\",\
         \"guest_email\":\"ada.{n}@guest.example\",\"check_in\":\"{arrival}\",\
         \"check_out\":\"{departure}\",\"guest_count\":2,\"booking_status\":\"confirmed\",\"total_amount\":612.50,\
         \"currency\":\"USD\",\"special_requests\":\"a cot, a late arrival and a parking space\"}}",
        n % 200
    )
}

fn request(secret: &SecretRef, id: &str, body: &str) -> Result<Vec<u8>> {
    let sent = SystemClock.now().timestamp();
    let signature = sign(secret, id, sent, body.as_bytes())?;
    Ok(format!(
        "POST /api/webhooks/booking-created HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         webhook-id: {id}\r\nwebhook-timestamp: {sent}\r\nwebhook-signature: {signature}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes())
}

/// Reads one answer and gives its status.
pub(crate) async fn answer(stream: &mut TcpStream) -> Result<u16> {
    let mut seen = Vec::with_capacity(512);
    let mut buffer = [0; 2048];
    loop {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return Err("the connection ended".into());
        }
        seen.extend_from_slice(&buffer[..read]);
        let Some(end) = seen.windows(4).position(|w| w == b"\r\n\r\n") else { continue };
        let head = std::str::from_utf8(&seen[..end])?;
        let length =
            head.lines().find_map(|l| l.strip_prefix("content-length: ")).map_or(Ok(0), str::parse::<usize>)?;
        if seen.len() >= end + 4 + length {
            return Ok(head.get(9..12).unwrap_or_default().parse()?);
        }
    }
}

/// What a crowd of senders saw.
#[derive(Debug, Default)]
struct Load {
    answered: Vec<String>,
    /// Milliseconds, in order.
    took: Vec<f64>,
    wall: Duration,
}

impl Load {
    fn a_second(&self) -> u64 {
        if self.wall.is_zero() { 0 } else { (self.took.len() as f64 / self.wall.as_secs_f64()) as u64 }
    }

    fn at(&self, part: f64) -> f64 {
        self::part(&self.took, part)
    }
}

/// Sends as fast as answers come, over every connection, until the time is over or the service is gone.
async fn load(address: &str, secret: &SecretRef, name: &str, time: Duration) -> Result<Load> {
    let (number, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let mut senders = JoinSet::new();
    let began = Instant::now();
    for _ in 0..CONNECTIONS {
        let (number, over, secret) = (number.clone(), over.clone(), secret.clone());
        let (address, name) = (address.to_owned(), name.to_owned());
        senders.spawn(async move {
            let (mut answered, mut took) = (Vec::new(), Vec::new());
            let Ok(mut stream) = TcpStream::connect(&address).await else { return (answered, took) };
            let _ = stream.set_nodelay(true);
            while !over.load(Ordering::Relaxed) {
                let n = number.fetch_add(1, Ordering::Relaxed);
                let n = if n % REPEATED == 0 { n.saturating_sub(1) } else { n };
                let id = format!("{name}-{n}");
                let Ok(request) = request(&secret, &id, &body(n)) else { break };
                let sent = Instant::now();
                if stream.write_all(&request).await.is_err() {
                    break;
                }
                match answer(&mut stream).await {
                    Ok(200 | 202) => {
                        took.push(sent.elapsed().as_secs_f64() * 1000.0);
                        answered.push(id);
                    }
                    _ => break,
                }
            }
            (answered, took)
        });
    }
    let stop = over.clone();
    let timer = tokio::spawn(async move {
        tokio::time::sleep(time).await;
        stop.store(true, Ordering::Relaxed);
    });
    let mut load = Load::default();
    while let Some(sender) = senders.join_next().await {
        let (answered, took) = sender?;
        load.answered.extend(answered);
        load.took.extend(took);
    }
    timer.abort();
    load.wall = began.elapsed();
    load.took.sort_by(f64::total_cmp);
    Ok(load)
}

/// Rows of a delivery's size, each in a statement and a commit of its own. Gives how many a second.
async fn floor(pool: &PgPool, connections: usize, time: Duration) -> Result<u64> {
    let mut writers = JoinSet::new();
    let began = Instant::now();
    for writer in 0..connections {
        let pool = pool.clone();
        writers.spawn(async move {
            let mut count = 0_u64;
            let Ok(mut connection) = pool.acquire().await else { return count };
            while began.elapsed() < time {
                let done = sqlx::query(
                    "insert into ops.floor (connector, connection, delivery_id, event, state, headers, body, received_at, next_at) \
                     values ('intake', 'intake', $1, 'booking-created', 'received', '{}', $2, now(), now())",
                )
                .bind(format!("{connections}-{writer}-{count}"))
                .bind(body(count).into_bytes())
                .execute(&mut *connection)
                .await;
                if done.is_err() {
                    break;
                }
                count += 1;
            }
            count
        });
    }
    let mut count = 0;
    while let Some(some) = writers.join_next().await {
        count += some?;
    }
    Ok((count as f64 / began.elapsed().as_secs_f64()) as u64)
}
