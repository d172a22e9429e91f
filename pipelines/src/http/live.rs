//! What changes, told to those who listen, over WebSockets.
//!
//! One task a process reads new events as PostgreSQL announces them and puts each, written out once, into a ring that all
//! clients read at their own speed. A client that comes reads from the database until it has caught up. One that falls
//! behind the ring is closed with its last number, with which it may come again; nobody waits for it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use catalog::store::events::{self, ANNOUNCED, Numbered};
use catalog::store::pg::fault;
use catalog::{Fault, Result};
use futures::SinkExt;
use http::{HeaderMap, HeaderValue, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::PgPool;
use sqlx::postgres::PgListener;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{Semaphore, broadcast};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Service;
use super::api::{Access, Endpoint, Scope};
use super::caller::{Caller, Role};
use super::error::{Kind, Problem};
use super::extract::Query;
use super::guard::may;

/// Who may listen.
const LISTENERS: &[Role] = &[Role::Chatbot, Role::Operator, Role::Analyst, Role::Staff];
/// What can be listened to.
const TOPICS: [&str; 4] = ["bookings", "conflicts", "contacts", "merges"];
/// Events that a client may be behind.
const RING: usize = 4096;
/// Events that are read from the database at once.
const BATCH: i64 = 256;
/// How long the ring is held for clients that have more than half of it before them, for each batch: time enough for a
/// client that reads, and no more than that for one that does not.
const PACE: Duration = Duration::from_millis(50);
/// How often the events are looked at when nothing is announced: an announcement can be lost with its connection.
const POLL: Duration = Duration::from_secs(2);
/// The pause after the database failed.
const PAUSE: Duration = Duration::from_secs(1);
/// How often a client is asked whether it lives, and its key whether it is good.
const BEAT: Duration = Duration::from_secs(20);
/// Beats that may pass without a sign of life.
const MISSED: u32 = 2;
/// How long a client may take over one write.
const STUCK: Duration = Duration::from_secs(20);
/// How long it may take to say who it is.
const GREETING: Duration = Duration::from_secs(10);
/// How long the last words may take.
const FAREWELL: Duration = Duration::from_secs(2);
/// Clients at a time.
const CLIENTS: usize = 10_000;
/// The longest message of a client.
const MESSAGE_BYTES: usize = 4096;
/// Events that are written before they are flushed.
const FLUSH: usize = 64;

/// An event as it is sent.
#[derive(Debug)]
struct Frame {
    seq: i64,
    topic: String,
    property: Option<String>,
    text: Utf8Bytes,
}

impl Frame {
    fn of(event: Numbered) -> Result<Self> {
        #[derive(Serialize)]
        struct Told<'a> {
            #[serde(rename = "type")]
            kind: &'static str,
            #[serde(flatten)]
            event: &'a Numbered,
        }
        let text = serde_json::to_string(&Told { kind: "event", event: &event })
            .map_err(|e| Fault::us("an event has no JSON form").because(e))?;
        Ok(Self { seq: event.seq, topic: event.event.topic, property: event.event.property_id, text: text.into() })
    }
}

/// Those who listen.
#[derive(Debug)]
pub struct Live {
    pool: PgPool,
    ring: broadcast::Sender<Arc<Frame>>,
    room: Arc<Semaphore>,
    open: TaskTracker,
    stop: CancellationToken,
}

impl Live {
    pub(super) fn new(pool: PgPool) -> Self {
        Self {
            pool,
            ring: broadcast::Sender::new(RING),
            room: Arc::new(Semaphore::new(CLIENTS)),
            open: TaskTracker::new(),
            stop: CancellationToken::new(),
        }
    }

    /// Feeds the ring until stopped, then says goodbye to everybody.
    pub(super) async fn run(&self, stop: &CancellationToken) {
        let mut position = None;
        let mut listener = None;
        while !stop.is_cancelled() {
            let turn = self.turn(&mut position, &mut listener);
            let ended = tokio::select! { ended = turn => ended, () = stop.cancelled() => break };
            if let Err(fault) = ended {
                tracing::warn!(error = fault.chain(), "events cannot be read");
                listener = None;
                tokio::select! { () = sleep(PAUSE) => {}, () = stop.cancelled() => {} }
            }
        }
        self.stop.cancel();
        self.open.close();
        if timeout(FAREWELL * 2, self.open.wait()).await.is_err() {
            tracing::warn!("{} listeners did not end in time", self.open.len());
        }
    }

    /// Reads what is new, then waits for more.
    async fn turn(&self, position: &mut Option<i64>, listener: &mut Option<PgListener>) -> Result<()> {
        let failed = |e| fault("cannot listen for events", e);
        let waiting = match listener {
            Some(listener) => listener,
            None => {
                let mut new = PgListener::connect_with(&self.pool).await.map_err(failed)?;
                new.listen(ANNOUNCED).await.map_err(failed)?;
                listener.insert(new)
            }
        };
        // Listening comes first, so that nothing falls between.
        let mut from = match *position {
            Some(position) => position,
            None => events::head(&self.pool).await?,
        };
        *position = Some(from);
        loop {
            let batch = events::since(&self.pool, from, BATCH).await?;
            let last = i64::try_from(batch.len()).unwrap_or(BATCH) < BATCH;
            for event in batch {
                from = event.seq;
                // Nobody listening is no error.
                let _ = self.ring.send(Arc::new(Frame::of(event)?));
                *position = Some(from);
            }
            if last {
                break;
            }
            let held = Instant::now();
            while self.ring.len() > RING / 2 && held.elapsed() < PACE {
                sleep(Duration::from_millis(1)).await;
            }
        }
        match timeout(POLL, waiting.recv()).await {
            Ok(Err(error)) => Err(failed(error)),
            Ok(Ok(_)) | Err(_) => Ok(()),
        }
    }
}

/// What to listen to.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LiveQuery {
    /// The topics, with commas between them: `bookings`, `conflicts`, `contacts`, `merges`; all if it is absent.
    topics: Option<String>,
    /// The last number that was seen: what came since is told first.
    since: Option<i64>,
}

/// The first message of a client that sends no header.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Greeting {
    key: String,
    topics: Option<Vec<String>>,
    since: Option<i64>,
}

pub(super) fn live_about() -> Endpoint {
    Endpoint::get("/api/live", Access::Socket(LISTENERS), Scope::Own)
        .about("A WebSocket on which each change is told once and in order. See docs/contacts.md.")
        .query::<LiveQuery>()
        .answers_as(101, "It is one", "application/json")
        .problems(&[400, 422, 503])
}

pub(super) async fn live(
    State(service): State<Service>,
    caller: Result<Caller, Problem>,
    headers: HeaderMap,
    Query(query): Query<LiveQuery>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let wrong = |_| {
        Problem::new(Kind::Malformed, "this address takes WebSockets")
            .hint("Ask with `connection: upgrade` and `upgrade: websocket`.")
    };
    let topics = query.topics.map(|t| topics(t.split(','))).transpose()?;
    let upgrade = upgrade.map_err(wrong)?;
    let permit =
        service.live.room.clone().try_acquire_owned().map_err(|_| {
            Problem::new(Kind::Unavailable, "too many clients listen").retry_after(Duration::from_secs(10))
        })?;
    let token = service.live.open.token();
    let key = headers.get(header::AUTHORIZATION).cloned();
    Ok(upgrade.max_message_size(MESSAGE_BYTES).max_frame_size(MESSAGE_BYTES).on_upgrade(async move |socket| {
        let _held = (permit, token);
        let known = caller.ok().zip(key);
        converse(service, socket, known, topics, query.since).await;
    }))
}

fn topics<'a>(asked: impl Iterator<Item = &'a str>) -> Result<BTreeSet<&'static str>, Problem> {
    let find = |word: &str| TOPICS.into_iter().find(|t| *t == word.trim());
    let found: Option<BTreeSet<_>> = asked.map(find).collect();
    found.filter(|f| !f.is_empty()).ok_or_else(|| {
        Problem::new(Kind::Invalid, "there is no such topic").hint(format!("Use some of {}.", TOPICS.join(", ")))
    })
}

/// Why a conversation ends.
enum End {
    /// The client went, or nothing reaches it.
    Gone,
    /// It is told why.
    Told { code: u16, word: &'static str },
}

const UNAUTHENTICATED: End = End::Told { code: 4001, word: "unauthenticated" };
const MALFORMED: End = End::Told { code: 4002, word: "malformed" };
const FORBIDDEN: End = End::Told { code: 4003, word: "forbidden" };
const BEHIND: End = End::Told { code: 4008, word: "behind" };
const SILENT: End = End::Told { code: 4009, word: "silent" };
const UNAVAILABLE: End = End::Told { code: 1011, word: "unavailable" };
const ENDING: End = End::Told { code: 1001, word: "ending" };

/// One client.
struct Client {
    service: Service,
    socket: WebSocket,
    caller: Caller,
    /// The header with its key, which may be revoked while it listens.
    key: HeaderMap,
    topics: BTreeSet<&'static str>,
    /// The last number that it has, whether that was for it or not.
    last: i64,
}

async fn converse(
    service: Service,
    mut socket: WebSocket,
    known: Option<(Caller, HeaderValue)>,
    asked: Option<BTreeSet<&'static str>>,
    since: Option<i64>,
) {
    let greeted = match known {
        Some((caller, key)) => Ok((caller, key, asked, since)),
        None => greeting(&service, &mut socket, asked, since).await,
    };
    let (caller, key, asked, since) = match greeted {
        Ok(greeted) => greeted,
        Err(end) => return farewell(&mut socket, &end, 0).await,
    };
    let topics = asked.unwrap_or_else(|| TOPICS.into());
    let key = HeaderMap::from_iter([(header::AUTHORIZATION, key)]);
    let mut client = Client { service, socket, caller, key, topics, last: since.unwrap_or(0) };
    let stop = client.service.live.stop.clone();
    let end = tokio::select! {
        biased;
        () = stop.cancelled() => ENDING,
        end = client.listen(since) => end.err().unwrap_or(End::Gone),
    };
    farewell(&mut client.socket, &end, client.last).await;
}

async fn greeting(
    service: &Service,
    socket: &mut WebSocket,
    asked: Option<BTreeSet<&'static str>>,
    since: Option<i64>,
) -> Result<(Caller, HeaderValue, Option<BTreeSet<&'static str>>, Option<i64>), End> {
    let first = tokio::select! {
        first = timeout(GREETING, socket.recv()) => first,
        () = service.live.stop.cancelled() => return Err(ENDING),
    };
    let Ok(Some(Ok(Message::Text(text)))) = first else { return Err(UNAUTHENTICATED) };
    let greeting: Greeting = serde_json::from_str(&text).map_err(|_| MALFORMED)?;
    let key = HeaderValue::try_from(format!("Bearer {}", greeting.key)).map_err(|_| UNAUTHENTICATED)?;
    let headers = HeaderMap::from_iter([(header::AUTHORIZATION, key.clone())]);
    let caller = service.keys.caller(&headers).await.map_err(|_| UNAUTHENTICATED)?;
    may(&caller, LISTENERS).map_err(|_| FORBIDDEN)?;
    let named = greeting.topics.map(|t| topics(t.iter().map(String::as_str))).transpose().map_err(|_| MALFORMED)?;
    Ok(((*caller).clone(), key, named.or(asked), greeting.since.or(since)))
}

/// Says why it ends and what the client has, in words that fit a close frame.
async fn farewell(socket: &mut WebSocket, end: &End, last: i64) {
    let End::Told { code, word } = end else { return };
    let reason = json!({ "code": word, "last": last }).to_string().into();
    let _ = timeout(FAREWELL, socket.send(Message::Close(Some(CloseFrame { code: *code, reason })))).await;
}

impl Client {
    async fn listen(&mut self, since: Option<i64>) -> Result<(), End> {
        let pool = self.service.live.pool.clone();
        let lost = |fault: Fault| {
            tracing::warn!(error = fault.chain(), "a listener could not be served");
            UNAVAILABLE
        };
        let head = events::head(&pool).await.map_err(lost)?;
        let oldest = events::oldest(&pool).await.map_err(lost)?;
        self.last = since.unwrap_or(head);
        self.say(&json!({ "type": "hello", "seq": head, "oldest": oldest })).await?;
        if self.last < oldest - 1 || self.last > head {
            // What lies between is gone, or the number is of another database: the client has to read anew what it shows.
            let from = if self.last > head { head } else { oldest - 1 };
            self.say(&json!({ "type": "gap", "since": self.last, "from": from })).await?;
            self.last = from;
        }
        // Most of it before the ring is held, the rest after: then nothing falls between, and little is held.
        self.catch_up(&pool).await.map_err(|e| e.unwrap_or_else(lost))?;
        let mut ring = self.service.live.ring.subscribe();
        self.catch_up(&pool).await.map_err(|e| e.unwrap_or_else(lost))?;
        let mut beat = interval_at(Instant::now() + BEAT, BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut silent = 0;
        loop {
            tokio::select! {
                frame = ring.recv() => {
                    let mut next = match frame {
                        Ok(frame) => Some(frame),
                        Err(RecvError::Lagged(_)) => return Err(BEHIND),
                        Err(RecvError::Closed) => return Err(ENDING),
                    };
                    for _ in 0..FLUSH {
                        let Some(frame) = next.take() else { break };
                        self.tell(&frame).await?;
                        next = match ring.try_recv() {
                            Ok(frame) => Some(frame),
                            Err(TryRecvError::Lagged(_)) => { self.flush().await?; return Err(BEHIND) }
                            Err(TryRecvError::Empty | TryRecvError::Closed) => None,
                        };
                    }
                    if let Some(frame) = next {
                        self.tell(&frame).await?;
                    }
                    self.flush().await?;
                }
                said = self.socket.recv() => match said {
                    Some(Ok(Message::Close(_))) | Some(Err(_)) | None => return Ok(()),
                    Some(Ok(_)) => silent = 0,
                },
                _ = beat.tick() => {
                    if silent >= MISSED {
                        return Err(SILENT);
                    }
                    silent += 1;
                    match self.service.keys.caller(&self.key).await {
                        Ok(caller) => self.caller = (*caller).clone(),
                        Err(problem) if problem.is(Kind::Unauthenticated) => return Err(UNAUTHENTICATED),
                        // The database is away; that says nothing about the key.
                        Err(_) => {}
                    }
                    self.say(&json!({ "type": "heartbeat", "seq": self.last })).await?;
                    self.write(Message::Ping(bytes::Bytes::new())).await?;
                    self.flush().await?;
                }
            }
        }
    }

    /// Tells what the database has behind the last number.
    async fn catch_up(&mut self, pool: &PgPool) -> Result<(), Caught> {
        loop {
            let batch = events::since(pool, self.last, BATCH).await.map_err(Caught::Lost)?;
            let whole = i64::try_from(batch.len()).unwrap_or(BATCH) < BATCH;
            for event in batch {
                let frame = Frame::of(event).map_err(Caught::Lost)?;
                self.tell(&frame).await.map_err(Caught::End)?;
            }
            self.flush().await.map_err(Caught::End)?;
            if whole {
                return Ok(());
            }
        }
    }

    /// Tells an event, if it is for this client and new to it.
    async fn tell(&mut self, frame: &Frame) -> Result<(), End> {
        if frame.seq <= self.last {
            return Ok(());
        }
        let own = match &frame.property {
            Some(property) => self.caller.sees(property),
            None => self.caller.properties.is_none(),
        };
        if own && self.topics.contains(frame.topic.as_str()) {
            self.write(Message::Text(frame.text.clone())).await?;
        }
        self.last = frame.seq;
        Ok(())
    }

    async fn say(&mut self, what: &serde_json::Value) -> Result<(), End> {
        self.write(Message::Text(what.to_string().into())).await
    }

    async fn write(&mut self, message: Message) -> Result<(), End> {
        match timeout(STUCK, self.socket.feed(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(End::Gone),
        }
    }

    async fn flush(&mut self) -> Result<(), End> {
        match timeout(STUCK, self.socket.flush()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(End::Gone),
        }
    }
}

/// Why catching up ended early.
enum Caught {
    End(End),
    Lost(Fault),
}

impl Caught {
    fn unwrap_or_else(self, lost: impl Fn(Fault) -> End) -> End {
        match self {
            Caught::End(end) => end,
            Caught::Lost(fault) => lost(fault),
        }
    }
}
