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
pub(crate) async fn webhooks(propflow: &Path, dir: &Path, scale: f64) -> Result<()> {
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
    let service = serve(&["--no-work"])?;
    let one = floor(&pool, 1, seconds / 3).await?;
    let many = floor(&pool, CONNECTIONS, seconds / 3).await?;
    say(&format!("  floor   INSERT and commit, one row each, 1 connection     {:>8} a second", thousands(one)));
    say(&format!(
        "  floor   the same at {CONNECTIONS} connections                      {:>8} a second",
        thousands(many)
    ));
    // Warm: pools, caches, the first pages of the table.
    load(&service.address, &secret, "warm", seconds / 5).await?;
    let mut best = Load::default();
    for round in 0..3 {
        let some = load(&service.address, &secret, &format!("r{round}"), seconds).await?;
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
    let cut = load(&address, &secret, "kill", Duration::from_secs(20)).await?;
    killer.await?;
    service.child.wait()?;
    let rows =
        sqlx::query("select delivery_id from ops.deliveries where delivery_id like 'kill-%'").fetch_all(&pool).await?;
    let kept: HashSet<String> = rows.iter().map(|r| r.get(0)).collect();
    let lost = cut.answered.iter().filter(|id| !kept.contains(*id)).count();
    say(&format!(
        "  ours    killed after 1.5 s: {} answered, {lost} of them lost, {} kept twice",
        thousands(cut.answered.len() as u64),
        rows.len() - kept.len()
    ));
    drop(service);

    // One now and then, with the worker in the same process.
    sqlx::query("delete from ops.deliveries").execute(&pool).await?;
    let service = serve(&[])?;
    let count = ((100.0 * scale) as u64).max(10);
    let mut stream = TcpStream::connect(&service.address).await?;
    for n in 0..count {
        let request = request(&secret, &format!("slow-{n}"), &body(n))?;
        stream.write_all(&request).await?;
        answer(&mut stream).await?;
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    let took = loop {
        let took: Vec<f64> = sqlx::query_scalar(
            "select extract(epoch from processed_at - received_at)::float8 from ops.deliveries where state = 'processed' order by 1",
        )
        .fetch_all(&pool)
        .await?;
        if took.len() as u64 == count || Instant::now() > deadline {
            break took;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let at = |part: f64| took.get(((took.len() as f64 - 1.0) * part) as usize).copied().unwrap_or(f64::NAN) * 1000.0;
    say(&format!(
        "  ours    from its coming to the commit of its run: {} of {count}, p50 {:.0} ms, p99 {:.0} ms (asked: p99 below 1000 ms)",
        took.len(),
        at(0.5),
        at(0.99)
    ));
    drop(service);
    pool.close().await;
    server.stop().await;
    std::fs::remove_dir_all(folder)?;
    Ok(())
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

fn body(n: u64) -> String {
    format!(
        "{{\"booking_id\":\"B{n}\",\"platform\":\"direct\",\"property_id\":\"P-{}\",\"guest_name\":\"Ada Example\",\
         \"guest_email\":\"ada@guest.example\",\"guest_phone\":\"+1 512 555 0101\",\"check_in\":\"2026-07-01\",\
         \"check_out\":\"2026-07-04\",\"guest_count\":2,\"booking_status\":\"confirmed\",\"total_amount\":612.50,\
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
        self.took.get(((self.took.len() as f64 - 1.0) * part) as usize).copied().unwrap_or(f64::NAN)
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
    sqlx::query("create table if not exists ops.floor (like ops.deliveries including all)").execute(pool).await?;
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
