//! Copies from an address to an address. There is no ledger: the destination itself keeps how far a copy has come.

use catalog::{Fault, Result};
use connectors::Read;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::app::{App, address};
use crate::plan::{direct, models_for, targets};
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
    /// Whether to begin anew: neither to go on with an interrupted copy, nor to read only what has changed.
    pub fresh: bool,
    /// ISO 4217 code of amounts without a currency.
    pub currency: String,
    /// Country of phone numbers without a country code.
    pub region: String,
}

/// Copies what the source has: everything, or, where the stream can be read by changes and the destination has a former
/// copy of it, what has changed since. A copy that was interrupted goes on behind its last slice.
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
                .hint("Name one behind the address, as in `rest:FILE.toml#STREAM`, or write a pipeline file and use `propflow run`."));
        }
    };
    // A copy is about what the source says; what a reader of a pipeline sees of it is asked for by name.
    let models: Vec<_> =
        models_for(&stream.datasets)?.into_iter().filter(|m| copy.serve || m.layer != "serve").collect();
    let (to, settings) = address(&copy.dest, "destination", sinks::ALL)?;
    let mut sink = to.open(Value::Object(settings), env(&world, to.name)).await?;
    sink.check().await?;
    let targets: Vec<_> = targets(&models).into_iter().chain(direct(&stream.datasets)).collect();
    let datasets: Vec<&str> = targets.iter().map(|t| t.dataset.name.as_str()).collect();
    let kept = sink.keep(&name(&copy, &stream.name), &datasets).await?;
    let read = match &kept {
        Some(kept) if stream.changes && !copy.fresh => Read::Changes { since: Some(kept.cursor.clone()) },
        _ if stream.changes => Read::Changes { since: None },
        _ => Read::Snapshot,
    };
    let job = Job {
        pipeline: format!("copy {}", from.name),
        trigger: "manual".to_owned(),
        connection: from.name.to_owned(),
        read,
        only: copy.only,
        fresh: copy.fresh,
        kept,
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

/// What the destination knows a copy by: the source and what of it is wanted. A file is told apart by where it is; an
/// address may hold a secret, so that only its digest goes there.
fn name(copy: &Copy, stream: &str) -> String {
    let (kind, rest) = copy.source.split_once(':').unwrap_or((&copy.source, ""));
    let file = rest.split_once('#').map_or(rest, |(file, _)| file);
    let file = std::fs::canonicalize(file).map_or_else(|_| file.to_owned(), |path| path.display().to_string());
    let file = match url::Url::parse(&file) {
        Ok(url) if url.has_host() => {
            let digest = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_URL, file.as_bytes());
            format!("{} {digest}", catalog::SafeUrl(url))
        }
        _ => file,
    };
    let mut name = format!("{kind}:{file}");
    for part in std::iter::once(stream).chain(copy.only.iter().map(String::as_str)) {
        name.push('#');
        name.push_str(part);
    }
    if copy.serve {
        name.push_str(" serve");
    }
    name
}
