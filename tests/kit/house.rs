//! A running HTTP service for one test: database, pipeline files, clock, and a sender that signs.

use std::sync::Arc;

use bytes::Bytes;
use catalog::{Clock, SecretRef, TestClock};
use connectors::webhook::sign;
use pipelines::app::{App, Database};
use pipelines::http::Service;
use pipelines::http::caller::{self, Role};
use pipelines::inbox::{Connections, work};
use pipelines::jobs::Outcome;
use pipelines::progress::Silent;
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::Value;
use sqlx::PgPool;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::db::TestDb;
use crate::rig;

/// The first signing secret of the house's connection `intake`.
pub const SECRET: &str = "whsec_cHJvcGZsb3cgdGVzdHMgc2lnbiB3aXRoIHRoaXM=";
/// The second one, which is live too.
pub const NEXT_SECRET: &str = "whsec_cHJvcGZsb3cgdGVzdHMgcm90YXRlIHRvIHRoaXM=";

/// A service that listens.
#[derive(Debug)]
pub struct House {
    /// Its database.
    pub db: TestDb,
    /// The same, as the program holds it.
    pub database: Arc<Database>,
    /// The folder of its pipeline files, secrets and lake.
    pub dir: TempDir,
    /// Its time.
    pub clock: TestClock,
    /// Its program.
    pub app: App,
    /// Its endpoints.
    pub service: Service,
    /// Where it listens, without a slash at the end.
    pub url: String,
    /// Ends it.
    pub stop: CancellationToken,
    /// Its server.
    pub server: JoinHandle<catalog::Result<()>>,
    client: reqwest::Client,
}

impl House {
    /// One with the connection `intake`, which loads into a lake.
    pub async fn new() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let db = TestDb::new().await;
        let database = Database::open(Some(&db.url)).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("secret"), SECRET).unwrap();
        std::fs::write(dir.path().join("next"), NEXT_SECRET).unwrap();
        std::fs::create_dir(dir.path().join("specs")).unwrap();
        let clock = TestClock::at(rig::now());
        let app = App {
            specs: Some(dir.path().join("specs")),
            database_url: Some(db.url.clone()),
            clock: Arc::new(clock.clone()),
            observer: Arc::new(Silent),
        };
        write_spec(&dir, "lake");
        let service = Service::open(&app, &database).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let server = tokio::spawn({
            let (service, stop) = (service.clone(), stop.clone());
            async move { service.serve(listener, &stop).await }
        });
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { db, database, dir, clock, app, service, url, stop, server, client }
    }

    /// The pool.
    pub fn pool(&self) -> &PgPool {
        &self.db.pool
    }

    /// Points the connection `intake` at another sink: the settings of `parquet`'s path.
    pub fn load_into(&self, lake: &str) {
        write_spec(&self.dir, lake);
    }

    /// The first signing secret, by reference.
    pub fn secret(&self) -> SecretRef {
        SecretRef::parse(&format!("file:{}", self.dir.path().join("secret").display())).unwrap()
    }

    /// A request.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url))
    }

    /// A delivery that is signed now.
    pub fn delivery(&self, path: &str, id: &str, body: impl Into<Bytes>) -> RequestBuilder {
        self.delivery_at(path, id, body, self.clock.now().timestamp())
    }

    /// A delivery that was signed at a time.
    pub fn delivery_at(&self, path: &str, id: &str, body: impl Into<Bytes>, sent: i64) -> RequestBuilder {
        let body: Bytes = body.into();
        let signature = sign(&self.secret(), id, sent, &body).unwrap();
        self.request(Method::POST, path)
            .header("webhook-id", id)
            .header("webhook-timestamp", sent)
            .header("webhook-signature", signature)
            .header("content-type", "application/json")
            .body(body)
    }

    /// Makes an API key.
    pub async fn key(&self, roles: &[Role], properties: Option<&[&str]>) -> String {
        let properties = properties.map(|p| p.iter().map(|p| (*p).to_owned()).collect());
        let made = caller::make("test".to_owned(), roles, properties, &self.clock);
        let mut connection = self.pool().acquire().await.unwrap();
        catalog::store::keys::insert(&mut connection, &made.kept).await.unwrap();
        made.text
    }

    /// The connections of the pipeline files as they are now.
    pub fn connections(&self) -> Connections {
        Connections::new(self.app.clone(), self.app.world(Some(&self.database)))
    }

    /// Works off the deliveries of `intake`, as its job does.
    pub async fn work_off(&self) -> Outcome {
        let stop = CancellationToken::new();
        let known = self.connections();
        work::work_off(&self.app, &self.database, &known, "intake", "intake", &stop).await.unwrap()
    }

    /// The states of all deliveries with their ids and reasons, in the order of their coming.
    pub async fn states(&self) -> Vec<(String, String, Option<String>)> {
        sqlx::query_as("select delivery_id, state, reason from ops.deliveries order by id")
            .fetch_all(self.pool())
            .await
            .unwrap()
    }
}

/// The status and the JSON of an answer.
pub async fn answer(request: RequestBuilder) -> (StatusCode, Value) {
    let response = request.send().await.unwrap();
    let status = response.status();
    (status, serde_json::from_str(&response.text().await.unwrap()).unwrap_or(Value::Null))
}

/// The body of a booking.
pub fn booking(id: &str) -> String {
    serde_json::json!({
        "booking_id": id, "platform": "direct", "property_id": "P-1", "guest_name": "Ada Example",
        "guest_email": "ada@guest.example", "guest_phone": "+1 512 555 0101", "check_in": "2026-07-01",
        "check_out": "2026-07-04", "guest_count": 2, "booking_status": "confirmed", "total_amount": "612.50",
        "currency": "USD",
    })
    .to_string()
}

fn write_spec(dir: &TempDir, lake: &str) {
    let at = |name: &str| dir.path().join(name).display().to_string();
    let spec = format!(
        "name = \"intake_bookings\"\nabout = \"bookings that are sent\"\n[source]\nconnector = \"intake\"\n\
         stream = \"bookings\"\nread = \"changes\"\n[source.settings]\nsecrets = [\"file:{}\", \"file:{}\"]\n\
         [[sinks]]\nsink = \"parquet\"\nsettings.path = \"{}\"\n",
        at("secret"),
        at("next"),
        at(lake)
    );
    std::fs::write(dir.path().join("specs").join("intake.toml"), spec).unwrap();
}
