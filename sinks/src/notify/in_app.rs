//! `in_app`: notices that people see in the program, as rows of `sync.notifications`.

use std::sync::Arc;

use async_trait::async_trait;
use catalog::store::outbox::Message;
use catalog::store::pg::fault;
use catalog::{Clock, Component, Env, Result, SecretRef, store};
use schemars::JsonSchema;
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::Value;
use sqlx::PgPool;

use super::notice;
use crate::Courier;

/// Where the table is.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The URL of another database than propflow's own, by reference.
    #[serde(default)]
    pub url: Option<SecretRef>,
}

/// The courier.
#[derive(Debug)]
pub struct InApp {
    pool: PgPool,
    clock: Arc<dyn Clock>,
}

impl InApp {
    /// One that writes into this database.
    pub fn new(pool: PgPool, clock: Arc<dyn Clock>) -> Self {
        Self { pool, clock }
    }
}

#[async_trait]
impl Component for InApp {
    type Live = dyn Courier;
    type Config = Config;
    const NAME: &'static str = "in_app";
    const ABOUT: &'static str = "Notices inside the program: rows of sync.notifications";

    async fn open(config: Config, env: Env) -> Result<Box<dyn Courier>> {
        let url =
            config.url.ok_or_else(|| catalog::Fault::user("`in_app` needs the `url` of a database"))?.resolve()?;
        Ok(Box::new(Self::new(store::connect(url.expose_secret(), 2).await?, env.clock)))
    }
}

#[async_trait]
impl Courier for InApp {
    async fn check(&self) -> Result<()> {
        let reached = sqlx::query("select from sync.notifications limit 1").execute(&self.pool).await;
        reached.map(|_| ()).map_err(|e| fault("cannot reach the notices", e))
    }

    async fn deliver(&self, message: &Message) -> Result<Option<Value>> {
        let notice = notice(message, Self::NAME)?;
        sqlx::query(
            "insert into sync.notifications (dedupe_key, audience, recipient, property_id, subject, body, created_at) \
             values ($1, $2, $3, $4, $5, $6, $7) on conflict (dedupe_key) do nothing",
        )
        .bind(&message.dedupe_key)
        .bind(&notice.audience)
        .bind(&notice.to)
        .bind(&notice.property_id)
        .bind(&notice.subject)
        .bind(&notice.text)
        .bind(self.clock.now())
        .execute(&self.pool)
        .await
        .map_err(|e| fault("cannot write a notice", e))?;
        Ok(None)
    }
}
