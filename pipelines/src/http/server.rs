//! Connections: accepted, served as HTTP/1.1, and ended without losing a request.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use catalog::{Fault, Result};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::shell::Peer;

/// Connections at a time; others wait to be accepted.
const CONNECTIONS: usize = 4096;
/// How long a client may take over the head of a request, and over saying the next one.
const HEAD: Duration = Duration::from_secs(30);
/// The largest head of a request.
const HEAD_BYTES: usize = 64 * 1024;
/// How long requests under way may take when the server is to end.
const GRACE: Duration = Duration::from_secs(35);
/// The pause after the system had no room for a connection.
const PAUSE: Duration = Duration::from_millis(50);

/// Serves until stopped, then answers what is under way.
pub(super) async fn serve(listener: TcpListener, router: Router, stop: &CancellationToken) -> Result<()> {
    let (room, open) = (Arc::new(Semaphore::new(CONNECTIONS)), TaskTracker::new());
    loop {
        let permit = tokio::select! {
            () = stop.cancelled() => break,
            permit = room.clone().acquire_owned() => permit,
        };
        let Ok(permit) = permit else { return Err(Fault::us("the server counts its connections no more")) };
        let (stream, peer) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of files, or a client that was gone before its turn: neither ends the server.
                    tracing::warn!(error = %error, "a connection could not be accepted");
                    sleep(PAUSE).await;
                    continue;
                }
            },
        };
        let (router, stop) = (router.clone(), stop.clone());
        open.spawn(async move {
            converse(stream, Peer(peer.ip()), router, &stop).await;
            drop(permit);
        });
    }
    drop(listener);
    open.close();
    if timeout(GRACE, open.wait()).await.is_err() {
        tracing::warn!("{} connections did not end in time", open.len());
    }
    Ok(())
}

async fn converse(stream: TcpStream, peer: Peer, router: Router, stop: &CancellationToken) {
    // Small answers must not wait for more.
    let _ = stream.set_nodelay(true);
    let service = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: http::Request<Incoming>| {
        request.extensions_mut().insert(peer);
        service.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    // How a client ends its connection is its own affair.
    let _ = tokio::select! {
        end = connection.as_mut() => end,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
}
