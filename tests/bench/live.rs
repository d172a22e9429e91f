//! What a change costs that somebody waits for: a contact taken in, the way to ResMan, and the way to everybody who listens.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use catalog::store::events::{self, Event};
use catalog::{Clock, Env, SystemClock};
use fixtures::people::{PeopleShape, people};
use fixtures::resman::{Options, Simulator};
use fixtures::world::{Shape, World};
use pipelines::app::{App, Database};
use pipelines::contacts::service::NewContact;
use pipelines::contacts::{Contact, Contacts, Patch, Source, identity};
use pipelines::embedded::{Durability, PrivatePostgres, scratch};
use pipelines::http::Service;
use pipelines::http::caller::{self, Role};
use pipelines::progress::Silent;
use pipelines::show::thousands;
use serde_json::json;
use sqlx::PgPool;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::webhooks::{Serve, answer};
use crate::{Result, say};

/// Who post contacts at a time.
const POSTERS: usize = 200;
/// Who listen.
const CLIENTS: usize = 2000;
/// Events a second while delays are measured: 2,000 clients make 160,000 deliveries of them.
const RATE: f64 = 80.0;

/// Milliseconds, in order.
struct Delays(Vec<f64>);

impl Delays {
    fn of(mut all: Vec<f64>) -> Self {
        all.sort_by(f64::total_cmp);
        Self(all)
    }

    fn at(&self, part: f64) -> f64 {
        self.0.get(((self.0.len() as f64 - 1.0) * part) as usize).copied().unwrap_or(f64::NAN)
    }
}

impl std::fmt::Display for Delays {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms", self.at(0.5), self.at(0.99), self.at(1.0))
    }
}

async fn key(pool: &PgPool) -> Result<String> {
    let roles = [Role::Chatbot, Role::Staff, Role::Operator];
    let made = caller::make("bench".to_owned(), &roles, None, &SystemClock);
    let mut connection = pool.acquire().await?;
    catalog::store::keys::insert(&mut connection, &made.kept).await?;
    Ok(made.text)
}

// ---- contacts ----

/// Contacts over HTTP, with the simulated ResMan behind, in this process.
pub(crate) async fn api(scale: f64) -> Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let server = PrivatePostgres::start(&scratch("bench-api"), Durability::Full).await?;
    let (url, folder) = (server.url().to_owned(), server.dir().to_owned());
    let pool = catalog::store::connect(&url, 24).await?;
    catalog::store::migrate(&pool).await?;
    let secrets = scratch("bench-api-secrets");
    std::fs::create_dir_all(&secrets)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let shape = Shape { seed: 5, properties: 1, units: 6, today: crate::today() };
    let simulator = Simulator::start(World::generate(shape), Options::default()).await?;
    let property = simulator.with_world(|w| w.properties[0].id.clone());
    let app = App { specs: None, database_url: Some(url.clone()), clock: clock.clone(), observer: Arc::new(Silent) };
    let database = Database::open(Some(&url)).await?;
    let service = Service::open(&app, &database).await?;
    let secret = |name: &str, value: &str| -> Result<String> {
        std::fs::write(secrets.join(name), value)?;
        Ok(format!("file:{}", secrets.join(name).display()))
    };
    let settings = json!({
        "v1_url": simulator.base_url_v1(), "partner_id": secret("partner", &simulator.credentials().partner_id)?,
        "api_key": secret("key", &simulator.credentials().api_key)?,
        "account_id": simulator.credentials().account_id, "lead_source": "DomIQ", "agent": "* DomIQ",
        "limits": {"calls_per_sec": 100_000, "burst": 100_000, "parallel": 8},
    });
    let env = Env { clock, ..Env::default() };
    let courier = sinks::find_courier("resman").ok_or("there is no such courier")?.open(settings, env).await?;
    service.couriers.insert("resman", "resman", courier.into()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    let stop = CancellationToken::new();
    let serving = tokio::spawn({
        let (service, stop) = (service.clone(), stop.clone());
        async move { service.serve(listener, &stop).await }
    });
    let key = key(&pool).await?;

    // One after another: how long ResMan has to wait for what the chatbot has heard.
    let count = ((300.0 * scale) as usize).max(20);
    let mut stream = TcpStream::connect(&address).await?;
    stream.set_nodelay(true)?;
    for n in 0..count {
        stream.write_all(&post(&key, &property, n)).await?;
        let status = answer(&mut stream).await?;
        if status != 201 {
            return Err(format!("a contact was answered with {status}").into());
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    settled(&pool, count).await?;
    let took = Delays::of(
        sqlx::query_scalar("select 1000 * extract(epoch from settled_at - created_at)::float8 from sync.outbox where state = 'delivered'")
            .fetch_all(&pool)
            .await?,
    );
    say(&format!(
        "\napi: contacts over HTTP, the simulated ResMan behind; {count} one after another, then {POSTERS} at a time"
    ));
    say(&format!("  ours    from the chatbot's word to ResMan's answer: {took} (asked: p99 below 250 ms)"));

    let total = ((4000.0 * scale) as usize).max(POSTERS);
    let (next, failed) = (Arc::new(AtomicU64::new(count as u64)), Arc::new(AtomicU64::new(0)));
    let until = (count + total) as u64;
    let began = Instant::now();
    let mut posters = JoinSet::new();
    for _ in 0..POSTERS {
        let (next, failed, address, key, property) =
            (next.clone(), failed.clone(), address.clone(), key.clone(), property.clone());
        posters.spawn(async move {
            let mut took = Vec::new();
            let Ok(mut stream) = TcpStream::connect(&address).await else { return took };
            let _ = stream.set_nodelay(true);
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= until {
                    return took;
                }
                let sent = Instant::now();
                let done = stream.write_all(&post(&key, &property, n as usize)).await.is_ok()
                    && matches!(answer(&mut stream).await, Ok(201));
                if done {
                    took.push(sent.elapsed().as_secs_f64() * 1000.0);
                } else {
                    failed.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }
    let took = Delays::of(posters.join_all().await.concat());
    let wall = began.elapsed();
    let floor = plain(&pool, total).await?;
    say(&format!(
        "  floor   the same rows by plain inserts, {POSTERS} at a time over 12 connections: {:.0} a second, {}",
        total as f64 / floor.0.as_secs_f64(),
        floor.1
    ));
    say(&format!(
        "  ours    POST /api/resman/contacts: {:.0} a second, {took}, {} errors (asked: none)",
        took.0.len() as f64 / wall.as_secs_f64(),
        failed.load(Ordering::Relaxed)
    ));
    stop.cancel();
    serving.await??;
    drop(service);
    one_of_many(&pool, ((1_000_000.0 * scale) as usize).max(1000)).await?;
    database.pool.close().await;
    pool.close().await;
    server.stop().await;
    std::fs::remove_dir_all(folder)?;
    std::fs::remove_dir_all(secrets)?;
    Ok(())
}

/// A request that brings somebody nobody knows.
fn post(key: &str, property: &str, n: usize) -> Vec<u8> {
    let (first, last) = name(n);
    let body = json!({ "contact_data": {
        "first_name": first, "last_name": last, "email": format!("{first}.{last}.{n}@mail.example"),
        "phone": phone(n), "property_id": property, "source": "chatbot",
        "initial_interaction": { "type": "chat", "timestamp": "2026-06-01T11:59:00Z", "message": "Is there a pool?" },
    } })
    .to_string();
    format!(
        "POST /api/resman/contacts HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Names of which few are alike.
fn name(n: usize) -> (String, String) {
    const SYLLABLES: [&str; 16] =
        ["ba", "ce", "di", "fo", "gu", "ha", "je", "ki", "lo", "mu", "na", "pe", "ri", "so", "tu", "va"];
    let word = |seed: usize| {
        let mut state = (seed as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32;
        let mut out = String::new();
        for _ in 0..4 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            out.push_str(SYLLABLES[(state >> 60) as usize]);
        }
        out
    };
    (word(n), word(n + 10_000_000))
}

fn phone(n: usize) -> String {
    format!("+1{}{}{:04}", 201 + n / 1_000_000 % 700, 555, n % 10_000)
}

async fn settled(pool: &PgPool, count: usize) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let done: i64 =
            sqlx::query_scalar("select count(*) from sync.outbox where state = 'delivered'").fetch_one(pool).await?;
        if done as usize >= count {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!("only {done} of {count} messages arrived").into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The rows of so many contacts, copied one contact a transaction into tables of the same shape.
async fn plain(pool: &PgPool, total: usize) -> Result<(Duration, Delays)> {
    const TABLES: [(&str, &str); 4] = [
        ("contacts", "id"),
        ("contact_keys", "contact_id"),
        ("contact_history", "contact_id"),
        ("interactions", "contact_id"),
    ];
    sqlx::query("create schema floor").execute(pool).await?;
    for table in TABLES.iter().map(|t| t.0).chain(["audit_log", "outbox", "events"]) {
        let sql = format!("create table floor.{table} (like sync.{table} including all excluding identity)");
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(pool).await?;
    }
    let ids: Vec<uuid::Uuid> = sqlx::query_scalar("select id from sync.contacts order by id desc limit $1")
        .bind(total as i64)
        .fetch_all(pool)
        .await?;
    let (audit, message, event): (i64, i64, i64) = sqlx::query_as(
        "select (select max(id) from sync.audit_log), (select max(id) from sync.outbox), (select max(seq) from sync.events)",
    )
    .fetch_one(pool)
    .await?;
    let connections = Arc::new(tokio::sync::Semaphore::new(12));
    let ids = Arc::new(Mutex::new(ids.into_iter().enumerate()));
    let began = Instant::now();
    let mut writers = JoinSet::new();
    for _ in 0..POSTERS {
        let (pool, ids, connections) = (pool.clone(), ids.clone(), connections.clone());
        writers.spawn(async move {
            let mut took = Vec::new();
            loop {
                let next = ids.lock().await.next();
                let Some((n, id)) = next else { return Ok(took) };
                let sent = Instant::now();
                let _turn = connections.acquire().await;
                let mut tx = pool.begin().await?;
                for (table, column) in TABLES {
                    let sql = format!("insert into floor.{table} select * from sync.{table} where {column} = $1");
                    sqlx::query(sqlx::AssertSqlSafe(sql)).bind(id).execute(&mut *tx).await?;
                }
                for (table, key, of) in [("audit_log", "id", audit), ("outbox", "id", message), ("events", "seq", event)] {
                    // The newest row again, under a key of its own.
                    let unique = if table == "outbox" { ", 'dedupe_key', $2::text" } else { "" };
                    let sql = format!(
                        "insert into floor.{table} select (jsonb_populate_record(t, jsonb_build_object('{key}', $2::bigint{unique}))).* \
                         from sync.{table} t where {key} = $1"
                    );
                    sqlx::query(sqlx::AssertSqlSafe(sql)).bind(of).bind(n as i64 + 1).execute(&mut *tx).await?;
                }
                tx.commit().await?;
                took.push(sent.elapsed().as_secs_f64() * 1000.0);
            }
        });
    }
    let mut took = Vec::new();
    while let Some(some) = writers.join_next().await {
        let some: Result<Vec<f64>, sqlx::Error> = some?;
        took.extend(some?);
    }
    Ok((began.elapsed(), Delays::of(took)))
}

/// One contact against the index of very many.
async fn one_of_many(pool: &PgPool, rows: usize) -> Result<()> {
    let contacts = Contacts::new(pool.clone(), Arc::new(SystemClock));
    let property = "P-many";
    let began = Instant::now();
    sqlx::query("alter table sync.contact_keys drop constraint contact_keys_contact_id_fkey").execute(pool).await?;
    let template: serde_json::Value =
        sqlx::query_scalar("select to_jsonb(c) from sync.contacts c limit 1").fetch_one(pool).await?;
    let mut template: Contact = sqlx::query_as("select (jsonb_populate_record(null::sync.contacts, $1)).*")
        .bind(template)
        .fetch_one(pool)
        .await?;
    template.property_id = property.to_owned();
    let mut known = Vec::new();
    let mut batch = Batch::default();
    for (n, person) in people(PeopleShape { seed: 3, rows, duplicates: 0.0 }).enumerate() {
        let given = |t: &str| Some(t.to_owned()).filter(|t| !t.is_empty());
        let patch = Patch {
            first_name: given(&person.given_name),
            last_name: given(&person.family_name),
            email: given(&person.email),
            phone: given(&person.phone),
            ..Patch::default()
        };
        let contact = Contact {
            id: uuid::Uuid::now_v7(),
            first_name: person.given_name.clone(),
            last_name: person.family_name.clone(),
            email: patch.email.clone(),
            phone: patch.phone.clone(),
            ..template.clone()
        };
        batch.add(&contact);
        if n % (rows / 600).max(1) == 0 {
            known.push(patch);
        }
        if batch.ids.len() == 20_000 {
            std::mem::take(&mut batch).write(pool, &template).await?;
        }
    }
    batch.write(pool, &template).await?;
    sqlx::query("analyze sync.contacts, sync.contact_keys").execute(pool).await?;
    say(&format!(
        "  {} contacts of one property are stored after {:.0} s",
        thousands(rows as u64),
        began.elapsed().as_secs_f64()
    ));
    let (mut new, mut again) = (Vec::new(), Vec::new());
    for (n, patch) in known.into_iter().enumerate() {
        let somebody = n % 2 == 0;
        let (first, last) = name(5_000_000 + n);
        let patch = if somebody {
            Patch {
                email: Some(format!("{first}@mail.example")),
                phone: Some(phone(5_000_000 + n)),
                first_name: Some(first),
                last_name: Some(last),
                ..patch
            }
        } else {
            patch
        };
        let person = NewContact { property_id: property.to_owned(), patch, interaction: None };
        let sent = Instant::now();
        match contacts.create(&person, Source::Chatbot, "bench").await {
            Ok(_) => {
                let took = sent.elapsed().as_secs_f64() * 1000.0;
                if somebody { new.push(took) } else { again.push(took) }
            }
            // Some generated values are wrong on purpose, as people's are.
            Err(trouble) if trouble.fault().blame == catalog::Blame::User => {}
            Err(trouble) => return Err(trouble.fault().chain().into()),
        }
    }
    say(&format!("  ours    somebody new among them: {} (asked: p99 below 20 ms)", Delays::of(new)));
    say(&format!("  ours    somebody known among them: {}", Delays::of(again)));
    Ok(())
}

/// Rows on their way into the two tables that the matcher reads.
#[derive(Default)]
struct Batch {
    ids: Vec<uuid::Uuid>,
    first: Vec<String>,
    last: Vec<String>,
    email: Vec<Option<String>>,
    phone: Vec<Option<String>>,
    keys: Vec<i64>,
    owners: Vec<uuid::Uuid>,
}

impl Batch {
    fn add(&mut self, c: &Contact) {
        self.ids.push(c.id);
        self.first.push(c.first_name.clone());
        self.last.push(c.last_name.clone());
        self.email.push(c.email.clone());
        self.phone.push(c.phone.clone());
        let mut keys = identity::keys(&identity::record(c, "US"));
        keys.sort_unstable();
        keys.dedup();
        self.owners.extend(std::iter::repeat_n(c.id, keys.len()));
        self.keys.extend(keys);
    }

    async fn write(self, pool: &PgPool, like: &Contact) -> Result<()> {
        let mut tx = pool.begin().await?;
        sqlx::query("set local synchronous_commit = off").execute(&mut *tx).await?;
        sqlx::query(
            "insert into sync.contacts (id, property_id, first_name, last_name, email, phone, status, source, preferences, \
             email_opt_out, phone_opt_out, text_opt_out, enrichment, interaction_count, provenance, base, pushed, version, \
             domiq_version, resman_version, created_at, updated_at, aliases) \
             select i, $2, f, l, e, p, 'new', 'chatbot', '{}', false, false, false, '{}', 0, '{}', '{}', '{}', 1, 1, 0, $7, $7, '{}' \
             from unnest($1::uuid[], $3::text[], $4::text[], $5::text[], $6::text[]) t (i, f, l, e, p)",
        )
        .bind(&self.ids)
        .bind(&like.property_id)
        .bind(&self.first)
        .bind(&self.last)
        .bind(&self.email)
        .bind(&self.phone)
        .bind(like.created_at)
        .execute(&mut *tx)
        .await?;
        sqlx::query("insert into sync.contact_keys (key, contact_id) select * from unnest($1::bigint[], $2::uuid[])")
            .bind(&self.keys)
            .bind(&self.owners)
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }
}

// ---- listeners ----

/// What all listeners have seen, and when.
#[derive(Default)]
struct Seen {
    deliveries: AtomicU64,
    bytes: AtomicU64,
    /// When each event was committed, by its number.
    sent: std::sync::Mutex<Vec<Instant>>,
    over: AtomicBool,
}

/// 2,000 listeners of one service, in processes of their own; beside a program that only writes the same bytes.
pub(crate) async fn live(propflow: &Path, dir: &Path, scale: f64) -> Result<()> {
    let server = PrivatePostgres::start(&scratch("bench-live"), Durability::Full).await?;
    let (url, folder) = (server.url().to_owned(), server.dir().to_owned());
    let pool = catalog::store::connect(&url, 4).await?;
    let home = dir.join("live");
    std::fs::create_dir_all(home.join("specs"))?;
    let service = Serve::start(propflow, &url, &home, &["--no-work"])?;
    let key = key(&pool).await?;
    let clients = ((CLIENTS as f64 * scale.min(1.0)) as usize).max(20);
    let burst = ((400.0 * scale) as usize).max(50);
    let paced = ((800.0 * scale) as usize).max(80);
    say(&format!(
        "\nlive: {} WebSocket clients of one service, {} bytes an event",
        thousands(clients as u64),
        frame(1).len()
    ));

    let seen = Arc::new(Seen::default());
    let mut sockets = JoinSet::new();
    for _ in 0..clients {
        let stream = listen(&service.address, &key).await?;
        sockets.spawn(read(stream, seen.clone(), false));
    }
    // One that never reads, with little room.
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(4096)?;
    let slow = upgrade(socket.connect(service.address.parse()?).await?, &service.address, &key).await?;

    let (rate, delays) = ours(&pool, &seen, clients, burst, paced).await?;
    seen.over.store(true, Ordering::Relaxed);
    let each = seen.bytes.load(Ordering::Relaxed) / seen.deliveries.load(Ordering::Relaxed).max(1);
    drop((slow, sockets, service));
    let (floor_rate, floor_delays) = floor(clients, burst, paced, each as usize).await?;
    say(&format!(
        "  floor   write of the same bytes to each socket, one after another: {} deliveries a second; {floor_delays}",
        thousands(floor_rate)
    ));
    say(&format!(
        "  ours    {burst} events at once, commit to last client: {} deliveries a second (asked: 160,000)",
        thousands(rate)
    ));
    say(&format!(
        "  ours    {RATE} events a second, {} deliveries a second, one client that does not read: {delays} (asked: p99 below 250 ms)",
        thousands((RATE * clients as f64) as u64)
    ));
    pool.close().await;
    server.stop().await;
    std::fs::remove_dir_all(folder)?;
    Ok(())
}

fn event(n: usize) -> Event {
    Event {
        topic: "contacts".to_owned(),
        property_id: Some("P-1".to_owned()),
        kind: "updated".to_owned(),
        key: "019e0000-0000-7000-8000-000000000000".to_owned(),
        version: n as i64,
        data: json!({ "status": "active", "lead_score": 42, "changed": ["email", "phone"] }),
    }
}

fn frame(n: usize) -> String {
    serde_json::to_string(&event(n)).unwrap_or_default()
}

async fn append(pool: &PgPool, seen: &Seen, all: &[Event]) -> Result<()> {
    let mut tx = pool.begin().await?;
    events::append(&mut tx, all, SystemClock.now()).await?;
    {
        // Before it can be seen, so that no delay is counted too small.
        let mut sent = seen.sent.lock().map_err(|_| "a reader panicked")?;
        sent.extend(std::iter::repeat_n(Instant::now(), all.len()));
    }
    Ok(tx.commit().await?)
}

async fn ours(pool: &PgPool, seen: &Arc<Seen>, clients: usize, burst: usize, paced: usize) -> Result<(u64, Delays)> {
    // All are there once they have seen one.
    append(pool, seen, &[event(0)]).await?;
    until(seen, clients as u64).await?;
    let before = seen.deliveries.load(Ordering::Relaxed);
    let began = Instant::now();
    for _ in 0..burst / 50 {
        append(pool, seen, &(0..50).map(event).collect::<Vec<_>>()).await?;
    }
    let many = (burst / 50 * 50 * clients) as u64;
    until(seen, before + many).await?;
    let rate = (many as f64 / began.elapsed().as_secs_f64()) as u64;
    let delays = pace(seen, clients, paced, async |n| append(pool, seen, &[event(n)]).await).await?;
    Ok((rate, delays))
}

/// Sends one event after another at the rate, and tells how long each delivery took.
async fn pace(
    seen: &Arc<Seen>,
    clients: usize,
    count: usize,
    send: impl AsyncFn(usize) -> Result<()>,
) -> Result<Delays> {
    DELAYS.lock().map_err(|_| "a reader panicked")?.clear();
    TIMED.store(true, Ordering::Relaxed);
    let before = seen.deliveries.load(Ordering::Relaxed);
    let mut tick = tokio::time::interval(Duration::from_secs_f64(1.0 / RATE));
    for n in 0..count {
        tick.tick().await;
        send(n).await?;
    }
    until(seen, before + (count * clients) as u64).await?;
    TIMED.store(false, Ordering::Relaxed);
    let all = std::mem::take(&mut *DELAYS.lock().map_err(|_| "a reader panicked")?);
    Ok(Delays::of(all))
}

static TIMED: AtomicBool = AtomicBool::new(false);
static DELAYS: std::sync::Mutex<Vec<f64>> = std::sync::Mutex::new(Vec::new());

async fn until(seen: &Seen, deliveries: u64) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(120);
    while seen.deliveries.load(Ordering::Relaxed) < deliveries {
        if Instant::now() > deadline {
            return Err(format!("{} of {deliveries} deliveries came", seen.deliveries.load(Ordering::Relaxed)).into());
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}

async fn listen(address: &str, key: &str) -> Result<TcpStream> {
    upgrade(TcpStream::connect(address).await?, address, key).await
}

async fn upgrade(mut stream: TcpStream, address: &str, key: &str) -> Result<TcpStream> {
    stream.set_nodelay(true)?;
    let request = format!(
        "GET /api/live?topics=contacts HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {key}\r\nconnection: upgrade\r\n\
         upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    if !head.starts_with(b"HTTP/1.1 101") {
        return Err("the service makes no WebSocket of it".into());
    }
    Ok(stream)
}

/// Counts frames: a listener that costs as little as one can. `raw` streams have no greeting.
async fn read(mut stream: TcpStream, seen: Arc<Seen>, raw: bool) {
    let (mut buffer, mut filled) = (vec![0_u8; 16 * 1024], 0);
    // The greeting is a frame, and so is each event, in the order of its number.
    let mut frames = usize::from(raw);
    loop {
        let read = match stream.read(&mut buffer[filled..]).await {
            Ok(0) | Err(_) => return,
            Ok(read) => read,
        };
        filled += read;
        let (mut at, mut events, mut bytes) = (0, 0, 0);
        while let Some((end, data)) = whole(&buffer[at..filled]) {
            if data {
                if frames > 0 {
                    events += 1;
                    bytes += end;
                }
                frames += 1;
            }
            at += end;
        }
        buffer.copy_within(at..filled, 0);
        filled -= at;
        if events > 0 {
            if TIMED.load(Ordering::Relaxed)
                && let (Ok(sent), Ok(mut delays)) = (seen.sent.lock(), DELAYS.lock())
            {
                let now = Instant::now();
                let upto = (frames - 1).min(sent.len());
                delays
                    .extend(sent[upto.saturating_sub(events)..upto].iter().map(|s| (now - *s).as_secs_f64() * 1000.0));
            }
            seen.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
            seen.deliveries.fetch_add(events as u64, Ordering::Relaxed);
        }
    }
}

/// The end of the first whole frame, and whether it is an event.
fn whole(bytes: &[u8]) -> Option<(usize, bool)> {
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    let (head, length) = match second & 0x7f {
        126 => (4, usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]))),
        127 => return None,
        short => (2, usize::from(short)),
    };
    let heartbeat = length < 100 && bytes.len() >= head + length && bytes[head..head + length].starts_with(b"{\"seq\"");
    (bytes.len() >= head + length).then_some((head + length, first & 0x0f == 1 && !heartbeat))
}

/// A server on a thread of its own that writes each event to each socket, and knows nothing else.
async fn floor(clients: usize, burst: usize, paced: usize, bytes: usize) -> Result<(u64, Delays)> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let (tell, mut told) = watch::channel(0_usize);
    let length = bytes.saturating_sub(4) as u16;
    let mut one = vec![0x81, 126, (length >> 8) as u8, length as u8];
    one.resize(bytes, b'x');
    let writer = std::thread::spawn(move || -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async move {
            listener.set_nonblocking(true)?;
            let listener = TcpListener::from_std(listener)?;
            let mut sockets = Vec::new();
            for _ in 0..clients {
                let stream = listener.accept().await?.0;
                stream.set_nodelay(true)?;
                sockets.push(stream);
            }
            let mut written = 0;
            while told.changed().await.is_ok() {
                let wanted = *told.borrow_and_update();
                for _ in written..wanted {
                    for socket in &mut sockets {
                        socket.write_all(&one).await?;
                    }
                }
                written = wanted;
            }
            Ok(())
        })
    });
    let seen = Arc::new(Seen::default());
    let mut sockets = JoinSet::new();
    for _ in 0..clients {
        sockets.spawn(read(TcpStream::connect(address).await?, seen.clone(), true));
    }
    let send = async |many: usize| -> Result<()> {
        let mut sent = seen.sent.lock().map_err(|_| "a reader panicked")?;
        sent.extend(std::iter::repeat_n(Instant::now(), many));
        tell.send_modify(|n| *n += many);
        Ok(())
    };
    send(1).await?;
    until(&seen, clients as u64).await?;
    let began = Instant::now();
    send(burst).await?;
    until(&seen, ((burst + 1) * clients) as u64).await?;
    let rate = ((burst * clients) as f64 / began.elapsed().as_secs_f64()) as u64;
    let delays = pace(&seen, clients, paced, async |_| send(1).await).await?;
    drop(tell);
    drop(sockets);
    writer.join().map_err(|_| "the writer panicked")??;
    Ok((rate, delays))
}
