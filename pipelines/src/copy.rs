//! One-off copies from an address to an address, without a ledger.

use catalog::{Fault, Result};
use connectors::Read;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::app::{App, address};
use crate::plan::models_for;
use crate::run::{Job, Summary, env, run};

/// What to copy.
#[derive(Debug, Clone)]
pub struct Copy {
    /// Where from, such as `mits:feed.xml`.
    pub source: String,
    /// Where to, such as `parquet:out/` or `postgres://…`.
    pub dest: String,
    /// Only these scopes; empty means all.
    pub only: Vec<String>,
    /// Whether to compute the served tables too.
    pub serve: bool,
    /// ISO 4217 code of amounts without a currency.
    pub currency: String,
    /// Country of phone numbers without a country code.
    pub region: String,
}

/// Copies everything that the source has now.
///
/// # Errors
/// When an address names nothing, or when the run fails; see [`run`].
pub async fn copy(app: &App, copy: Copy, stop: &CancellationToken) -> Result<Summary> {
    let world = app.world(None);
    let (from, settings) = address(&copy.source, "source", connectors::ALL)?;
    let source = from.open(Value::Object(settings), env(&world, from.name)).await?;
    let stream = match source.streams().as_slice() {
        [only] => only.clone(),
        many => {
            let names: Vec<_> = many.iter().map(|s| &*s.name).collect();
            return Err(Fault::user(format!("`{}` has several streams: {}", from.name, names.join(", ")))
                .hint("Write a pipeline file and use `propflow run`."));
        }
    };
    // A copy is about what the source says; what a reader of a pipeline sees of it is asked for by name.
    let models = models_for(&stream.datasets)?.into_iter().filter(|m| copy.serve || m.layer != "serve").collect();
    let (to, settings) = address(&copy.dest, "destination", sinks::ALL)?;
    let sink = to.open(Value::Object(settings), env(&world, to.name)).await?;
    sink.check().await?;
    let job = Job {
        pipeline: format!("copy {}", from.name),
        trigger: "manual".to_owned(),
        connection: from.name.to_owned(),
        read: Read::Snapshot,
        only: copy.only,
        fresh: true,
        models,
        stream,
        source,
        sinks: vec![sink],
        currency: copy.currency,
        region: copy.region,
        concessions_included: false,
        freshness_limit_secs: 0,
        deliveries: None,
    };
    run(&world, job, stop).await
}
