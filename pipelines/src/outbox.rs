//! Delivers what is in the outbox.
//!
//! A message is claimed, carried and settled in one transaction, so that a worker that dies gives it back. Several are
//! under way at once, but never two of one lane. New ones are announced by PostgreSQL; those that wait for a later try are
//! looked for when they are due.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use catalog::store::outbox::{self, ANNOUNCED, Message, Verdict};
use catalog::store::pg::fault;
use catalog::{Fault, Result, Retry};
use serde_json::Value;
use sinks::Courier;
use sinks::resman::Held;
use sqlx::PgPool;
use sqlx::postgres::PgListener;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::app::App;
use crate::contacts::Contacts;
use crate::contacts::inbound::{Reading, Told};
use crate::contacts::merges::Why;
use crate::contacts::push::{self, Prepared, Step};
use crate::contacts::service::Trouble;
use crate::couriers::CourierSpec;
use crate::jobs::{MAX_ATTEMPTS, MAX_DEFERRALS, backoff};
use crate::run::env;

/// How often the outbox is looked at when nothing is announced: an announcement can be lost with its connection.
const POLL: Duration = Duration::from_secs(2);
/// The pause after the database failed.
const PAUSE: Duration = Duration::from_secs(1);
/// The pause after a message's first try.
const SOON: Duration = Duration::from_secs(2);
/// Looks at what the other side holds before a message is put off: somebody is writing there.
const LOOKS: u32 = 4;

/// The couriers of an installation, each opened when its first message comes.
pub struct Couriers {
    app: App,
    pool: PgPool,
    contacts: Contacts,
    open: Mutex<HashMap<(String, String), Arc<dyn Courier>>>,
}

impl std::fmt::Debug for Couriers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Couriers")
    }
}

impl Couriers {
    /// The couriers that the app's files describe.
    pub fn new(app: &App, pool: PgPool) -> Arc<Self> {
        let contacts = Contacts::new(pool.clone(), app.clock.clone());
        Arc::new(Self { app: app.clone(), pool, contacts, open: Mutex::new(HashMap::new()) })
    }

    /// Uses this courier for a connection, in place of what the files say.
    pub async fn insert(&self, courier: &str, connection: &str, open: Arc<dyn Courier>) {
        self.open.lock().await.insert((courier.to_owned(), connection.to_owned()), open);
    }

    /// The courier of a connection.
    ///
    /// # Errors
    /// When no file describes it, or its settings cannot work. Both can be mended while the message waits.
    pub async fn get(&self, courier: &str, connection: &str) -> Result<Arc<dyn Courier>> {
        let key = (courier.to_owned(), connection.to_owned());
        let mut open = self.open.lock().await;
        if let Some(found) = open.get(&key) {
            return Ok(found.clone());
        }
        let spec = self.spec(courier, connection).map_err(|f| f.retry(Retry::Backoff))?;
        let entry = sinks::find_courier(courier)
            .ok_or_else(|| Fault::us(format!("courier `{courier}` has left the registry")))?;
        let mut world = self.app.world(None);
        world.quota = Arc::new(catalog::store::PgQuota::new(self.pool.clone()));
        let opened: Arc<dyn Courier> = if courier == "in_app" && !spec.settings.contains_key("url") {
            // Without another address, the notices stand beside the outbox.
            Arc::new(sinks::notify::in_app::InApp::new(self.pool.clone(), world.clock.clone()))
        } else {
            let opened = entry.open(Value::Object(spec.settings), env(&world, connection)).await;
            opened.map_err(|f| f.retry(Retry::Backoff))?.into()
        };
        open.insert(key, opened.clone());
        Ok(opened)
    }

    fn spec(&self, courier: &str, connection: &str) -> Result<CourierSpec> {
        crate::couriers::find(self.app.specs.as_deref(), courier, connection)
    }

    async fn look(&self, message: &Message) -> Result<Option<Vec<Held>>> {
        let Some(found) = self.get(&message.courier, &message.connection).await?.look(message).await? else {
            return Ok(None);
        };
        let held = found.into_iter().map(serde_json::from_value).collect::<serde_json::Result<_>>();
        held.map(Some).map_err(|e| Fault::us("what a courier saw cannot be read").because(e))
    }

    async fn carry(&self, message: &Message) -> Result<Option<Value>> {
        self.get(&message.courier, &message.connection).await?.deliver(message).await
    }
}

/// How to deliver.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Messages under way at once.
    pub parallel: usize,
    /// Deliver what is due, then end.
    pub drain: bool,
}

/// Delivers until stopped, or until nothing is due.
///
/// # Errors
/// Only while draining: a database that fails is otherwise waited for.
pub async fn work(pool: &PgPool, couriers: &Arc<Couriers>, options: Options, stop: &CancellationToken) -> Result<()> {
    let lanes = (0..options.parallel.max(1)).map(|_| async {
        let mut listener = None;
        while !stop.is_cancelled() {
            match attempt(pool, couriers, None).await {
                Ok(true) => {}
                Ok(false) if options.drain => return Ok(()),
                Ok(false) => wait(pool, couriers, &mut listener, stop).await,
                Err(fault) if options.drain => return Err(fault),
                Err(fault) => {
                    warn!(error = fault.chain(), "the outbox cannot be read");
                    listener = None;
                    tokio::select! { () = tokio::time::sleep(PAUSE) => {}, () = stop.cancelled() => {} }
                }
            }
        }
        Ok(())
    });
    futures::future::try_join_all(lanes).await.map(|_| ())
}

/// Waits until something is announced or due.
async fn wait(pool: &PgPool, couriers: &Couriers, listener: &mut Option<PgListener>, stop: &CancellationToken) {
    let due = outbox::next_due(pool).await.ok().flatten();
    let until = due.map(|due| (due - couriers.app.clock.now()).to_std().unwrap_or_default());
    // A lane whose head is under way elsewhere is due now and cannot be claimed: do not spin on it.
    let pause = until.map_or(POLL, |until| until.clamp(Duration::from_millis(50), POLL));
    if listener.is_none() {
        *listener = listen(pool).await.ok();
        // What was announced before we listened is found by looking once more.
        return;
    }
    let announced = async {
        match listener {
            Some(listener) => listener.recv().await.map(|_| ()),
            None => std::future::pending().await,
        }
    };
    let lost = tokio::select! {
        result = announced => result.is_err(),
        () = tokio::time::sleep(pause) => false,
        () = stop.cancelled() => false,
    };
    if lost {
        *listener = None;
    }
}

async fn listen(pool: &PgPool) -> Result<PgListener> {
    let failed = |e| fault("cannot listen for messages", e);
    let mut listener = PgListener::connect_with(pool).await.map_err(failed)?;
    listener.listen(ANNOUNCED).await.map_err(failed)?;
    Ok(listener)
}

/// Claims a message, carries it and settles it; `only` asks for one by its id, as the request path does right after the
/// commit. Says whether there was one to carry.
///
/// # Errors
/// When the database fails. What befalls the message is not an error: it is on record.
pub async fn attempt(pool: &PgPool, couriers: &Couriers, only: Option<i64>) -> Result<bool> {
    let mut only = only;
    for look in 1..=LOOKS {
        match step(pool, couriers, only, look == LOOKS).await? {
            Ended::Idle => return Ok(look > 1),
            Ended::Settled => return Ok(true),
            Ended::Heard(id) => only = Some(id),
        }
    }
    Ok(true)
}

/// How one go at a message ended.
enum Ended {
    /// There was none.
    Idle,
    /// It is on record how it fared.
    Settled,
    /// The other side said something new, which is settled now; the message is as it was.
    Heard(i64),
}

async fn step(pool: &PgPool, couriers: &Couriers, only: Option<i64>, last: bool) -> Result<Ended> {
    let failed = |e| fault("cannot reach the outbox", e);
    let clock = &couriers.app.clock;
    let mut tx = pool.begin().await.map_err(failed)?;
    let Some(message) = outbox::claim(&mut tx, clock.now(), only).await? else { return Ok(Ended::Idle) };
    let began = Instant::now();
    let prepared = if message.courier == "resman" { push::prepare(&mut tx, &message).await? } else { None };
    let contacts = match (&prepared, message.payload["property_id"].as_str()) {
        (Some(_), Some(property)) => couriers.contacts.at_by(&mut tx, property).await?,
        _ => couriers.contacts.clone(),
    };
    let mut outcome = push::Outcome::default();
    let result = match &prepared {
        None => couriers.carry(&message).await,
        Some(prepared) => match couriers.look(&prepared.message).await {
            Err(fault) => Err(fault),
            Ok(None) => couriers.carry(&prepared.message).await,
            Ok(Some(found)) => match contacts.fit(&mut tx, prepared, &found).await? {
                Step::Hear(_) | Step::Same(_) if last => {
                    Err(Fault::remote("ResMan changes the lead each time that it is read").retry(Retry::Backoff))
                }
                Step::Same(other) => {
                    tx.rollback().await.map_err(failed)?;
                    let why = Why { id: None, confidence: 1.0, rule: "made by us", actor: "outbox", own_lead: true };
                    let joined = contacts.join(prepared.contact_id(), other, &why).await;
                    joined.map_err(Trouble::into_fault)?;
                    return Ok(Ended::Heard(message.id));
                }
                Step::Hear(told) => {
                    // Not in this transaction: it must stand before anything is written over it.
                    tx.rollback().await.map_err(failed)?;
                    hear(&contacts, prepared, &told, prepared.deliveries).await?;
                    return Ok(Ended::Heard(message.id));
                }
                Step::Moot { reply, outcome: found } => {
                    outcome = found;
                    Ok(Some(reply.unwrap_or(Value::Null)))
                }
                Step::Post { message, outcome: brought } => {
                    outcome = brought;
                    couriers.carry(&message).await
                }
            },
        },
    };
    let mut verdict = match result {
        Ok(reply) => Verdict::Delivered(reply),
        Err(fault) => verdict(fault, message.attempts),
    };
    if let Verdict::Dead(fault) = &verdict {
        let (id, courier, kind) = (message.id, &message.courier, &message.kind);
        error!(message.id = id, error = fault.chain(), "message {id} ({kind}, by `{courier}`) was given up");
    }
    // How the person stands there is for the contact, not for the ledger.
    let held = match &mut verdict {
        Verdict::Delivered(Some(Value::Object(reply))) => reply.remove("held"),
        _ => None,
    };
    let held = held.and_then(|held| serde_json::from_value::<Held>(held).ok());
    outbox::settle(&mut tx, &message, &verdict, began.elapsed(), clock.now()).await?;
    let mut contact = None;
    if message.courier == "resman" {
        let (reply, dead) = match &verdict {
            Verdict::Delivered(reply) => (reply.as_ref(), None),
            Verdict::Dead(fault) => (None, Some(fault)),
            Verdict::Later { .. } => (None, None),
        };
        if reply.is_some() || dead.is_some() {
            contact = contacts.settled(&mut tx, &message, &outcome, reply, dead, clock.now()).await?;
        }
    }
    tx.commit().await.map_err(failed)?;
    if let (Some(prepared), Some(contact), Some(held)) = (&prepared, contact, held) {
        let told = prepared.told(&held);
        if prepared.speaks() && contacts.answered(&contact, &told) {
            // Somebody wrote between our look and our post. If this is lost with the process, the next poll brings it.
            hear(&contacts, prepared, &told, prepared.deliveries + 1).await?;
        }
    }
    Ok(Ended::Settled)
}

/// Settles what the other side says with the contact.
async fn hear(contacts: &Contacts, prepared: &Prepared, told: &Told, deliveries: i64) -> Result<()> {
    let contact = Some(prepared.contact_id());
    let reading = Reading { deliveries: Some(deliveries), contact, ..Reading::default() };
    match contacts.told_by(told, reading, "outbox").await {
        Ok(_) => Ok(()),
        Err(trouble) => Err(trouble.into_fault()),
    }
}

/// The same patience as jobs have, but for the first time: see [`crate::jobs::Outcome::failed`].
fn verdict(fault: Fault, attempts: i32) -> Verdict {
    let attempt = u32::try_from(attempts).unwrap_or(0);
    let (after, limit) = match fault.retry {
        Retry::Never => return Verdict::Dead(fault),
        // Most of what passes has passed in a moment, and somebody may wait.
        Retry::Backoff if attempt == 0 => (SOON, MAX_ATTEMPTS),
        Retry::Backoff => (backoff(attempt), MAX_ATTEMPTS),
        Retry::After(wait) => (wait, MAX_DEFERRALS),
    };
    if attempt + 1 >= limit {
        return Verdict::Dead(fault.at(format!("gave up after {} tries", attempt + 1)));
    }
    Verdict::Later { after, fault }
}
