//! The HTTP service: webhooks, the REST API, health and figures.
//!
//! [`routes`] is the map. Each endpoint stands in the file of its noun: query, answer, description, handler. An endpoint
//! cannot be added without a rule who may call it ([`api::Endpoint`]); [`error`] is the only place that knows the status
//! codes of errors. What endpoints need hangs on [`Service`].

pub mod api;
pub mod caller;
mod carry;
mod contacts;
mod deliveries;
pub mod error;
pub mod extract;
mod guard;
mod health;
mod insight;
mod leads;
pub mod live;
mod merges;
pub mod metrics;
mod page;
pub mod paging;
mod preferences;
mod relay;
pub mod routes;
mod server;
mod shell;
mod webhooks;

use std::sync::Arc;

use catalog::Result;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::caller::KeyRing;
use self::carry::Haste;
use self::live::Live;
use self::metrics::Metrics;
use crate::app::{App, Database};
use crate::contacts::Contacts;
use crate::inbox::{Connections, Inbox};
use crate::outbox::Couriers;

/// What every endpoint may use. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Service(Arc<Parts>);

/// What hangs on a [`Service`].
#[derive(Debug)]
pub struct Parts {
    /// The program.
    pub app: App,
    /// Its database.
    pub database: Arc<Database>,
    /// Who may ask.
    pub keys: KeyRing,
    /// Where deliveries go.
    pub inbox: Inbox,
    /// Who is known.
    pub contacts: Contacts,
    /// Who carries messages out.
    pub couriers: Arc<Couriers>,
    /// Who listens.
    pub live: Live,
    haste: Haste,
    /// What is counted.
    pub metrics: Metrics,
    /// The description of all endpoints, as text.
    description: std::sync::OnceLock<String>,
}

impl std::ops::Deref for Service {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl Service {
    /// A service on a database. The pipeline files say which connections take deliveries.
    pub async fn open(app: &App, database: &Arc<Database>) -> Result<Self> {
        let connections = Arc::new(Connections::new(app.clone(), app.world(Some(database))));
        Ok(Self(Arc::new(Parts {
            app: app.clone(),
            database: database.clone(),
            keys: KeyRing::new(database.pool.clone(), app.clock.clone()),
            inbox: Inbox::open(app, database, connections).await?,
            contacts: Contacts::new(database.pool.clone(), app.clock.clone()),
            couriers: Couriers::new(app, database.pool.clone()),
            live: Live::new(database.pool.clone()),
            haste: Haste::default(),
            metrics: Metrics::default(),
            description: std::sync::OnceLock::new(),
        })))
    }

    /// The description of the API as `OpenAPI` 3.1.
    pub fn description(&self) -> Value {
        routes::all(self).1
    }

    /// Serves until stopped: then no new connection is taken, requests under way are answered, and what was accepted is
    /// made durable.
    ///
    /// # Errors
    /// When the listener breaks.
    pub async fn serve(&self, listener: TcpListener, stop: &CancellationToken) -> Result<()> {
        let ended = stop.child_token();
        let serve = async {
            let served = server::serve(listener, shell::wrap(self), stop).await;
            ended.cancel();
            served
        };
        let (served, ()) = tokio::join!(serve, self.live.run(&ended));
        self.inbox.drain().await;
        served
    }
}
