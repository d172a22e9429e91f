//! Figures for Prometheus, in its text format.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use catalog::store::pg::fault;
use catalog::store::{connections, deliveries};
use http::header::CONTENT_TYPE;

use super::Service;
use super::api::{Access, Endpoint, Scope};
use super::error::Result;

/// Upper bounds of the buckets of durations, in seconds.
const BOUNDS: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// How long what was read from the database is shown: a scraper must not be a load.
const READ_KEPT: Duration = Duration::from_secs(2);

#[derive(Debug, Default, Clone)]
struct Durations {
    buckets: [u64; BOUNDS.len()],
    count: u64,
    sum: f64,
}

/// What this process has counted.
#[derive(Debug, Default)]
pub struct Metrics {
    requests: Mutex<BTreeMap<(&'static str, String, u16), Durations>>,
    deliveries: Mutex<BTreeMap<(String, &'static str), u64>>,
    read: tokio::sync::Mutex<Option<(Instant, String)>>,
}

impl Metrics {
    /// Counts a request: its method, the pattern of its address, its status and how long it took.
    pub(super) fn request(&self, method: &http::Method, route: &str, status: u16, took: Duration) {
        let method = match method.as_str() {
            "GET" => "GET",
            "POST" => "POST",
            "PUT" => "PUT",
            "DELETE" => "DELETE",
            "HEAD" => "HEAD",
            // Anybody can invent methods, and each would be a series.
            _ => "OTHER",
        };
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let durations = requests.entry((method, route.to_owned(), status)).or_default();
        let secs = took.as_secs_f64();
        if let Some(bucket) = BOUNDS.iter().position(|bound| secs <= *bound) {
            durations.buckets[bucket] += 1;
        }
        durations.count += 1;
        durations.sum += secs;
    }

    /// Counts a delivery by what became of it at the door. `connection` is one that exists, or `unknown`.
    pub(super) fn delivery(&self, connection: &str, outcome: &'static str) {
        let mut deliveries = self.deliveries.lock().unwrap_or_else(PoisonError::into_inner);
        match deliveries.get_mut(&(connection.to_owned(), outcome)) {
            Some(count) => *count += 1,
            None => drop(deliveries.insert((connection.to_owned(), outcome), 1)),
        }
    }

    fn counted(&self) -> String {
        let mut out = String::new();
        head(
            &mut out,
            "propflow_http_request_duration_seconds",
            "histogram",
            "Requests by method, address and status.",
        );
        for ((method, route, status), d) in &*self.requests.lock().unwrap_or_else(PoisonError::into_inner) {
            let labels = format!("method=\"{method}\",route=\"{}\",status=\"{status}\"", label(route));
            let name = "propflow_http_request_duration_seconds";
            let mut sum = 0;
            for (bound, count) in BOUNDS.iter().zip(d.buckets) {
                sum += count;
                let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {sum}");
            }
            let _ = writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {}", d.count);
            let _ = writeln!(out, "{name}_sum{{{labels}}} {}", d.sum);
            let _ = writeln!(out, "{name}_count{{{labels}}} {}", d.count);
        }
        head(&mut out, "propflow_deliveries_total", "counter", "Deliveries that came in here, by what became of them.");
        for ((connection, outcome), count) in &*self.deliveries.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = writeln!(
                out,
                "propflow_deliveries_total{{connection=\"{}\",outcome=\"{outcome}\"}} {count}",
                label(connection)
            );
        }
        out
    }
}

fn head(out: &mut String, name: &str, kind: &str, about: &str) {
    let _ = writeln!(out, "# HELP {name} {about}\n# TYPE {name} {kind}");
}

fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// What the database knows, for all processes on it.
async fn read(service: &Service) -> catalog::Result<String> {
    let pool = &service.database.pool;
    let mut out = String::new();
    head(&mut out, "propflow_deliveries", "gauge", "Deliveries that wait, were given up or refused.");
    for (connector, connection, state, count) in deliveries::open(pool).await? {
        let _ = writeln!(
            out,
            "propflow_deliveries{{connector=\"{}\",connection=\"{}\",state=\"{state}\"}} {count}",
            label(&connector),
            label(&connection)
        );
    }
    head(&mut out, "propflow_connections_stopped", "gauge", "Connections whose authorisation was withdrawn.");
    let stopped = connections::list(pool).await?.iter().filter(|c| c.revoked).count();
    let _ = writeln!(out, "propflow_connections_stopped {stopped}");
    let (waiting, running) = crate::jobs::depth(pool).await?;
    head(&mut out, "propflow_jobs", "gauge", "Jobs that are due and wait, and jobs that run.");
    let _ = writeln!(out, "propflow_jobs{{state=\"waiting\"}} {waiting}\npropflow_jobs{{state=\"running\"}} {running}");
    let ages: Vec<(String, f64)> = sqlx::query_as(
        "select pipeline, extract(epoch from now() - max(finished_at))::float8 from ops.runs \
         where status in ('succeeded', 'partial') group by pipeline order by pipeline",
    )
    .fetch_all(pool)
    .await
    .map_err(|e| fault("cannot read the ages of runs", e))?;
    head(&mut out, "propflow_run_age_seconds", "gauge", "Seconds since a run of the pipeline last ended well.");
    for (pipeline, age) in ages {
        let _ = writeln!(out, "propflow_run_age_seconds{{pipeline=\"{}\"}} {age:.0}", label(&pipeline));
    }
    Ok(out)
}

pub(super) fn metrics_about() -> Endpoint {
    Endpoint::get("/metrics", Access::Open, Scope::Free)
        .about("Figures for Prometheus. They name pipelines and connections, no property and no person.")
        .answers_as(200, "The figures", "text/plain")
        .problems(&[503])
}

pub(super) async fn metrics(State(service): State<Service>) -> Result<Response> {
    let mut kept = service.metrics.read.lock().await;
    let fresh = kept.as_ref().filter(|(at, _)| at.elapsed() < READ_KEPT).map(|(_, text)| text.clone());
    let read = match fresh {
        Some(text) => text,
        None => {
            let text = read(&service).await?;
            *kept = Some((Instant::now(), text.clone()));
            text
        }
    };
    drop(kept);
    let text = service.metrics.counted() + &read;
    Ok(([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}
