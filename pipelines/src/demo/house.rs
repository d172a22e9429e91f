//! The service that runs behind the demo, and who talks to it.

use std::time::{Duration, Instant};

use catalog::store::keys;
use catalog::store::pg::fault;
use catalog::{Fault, Result};
use futures::StreamExt;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_util::sync::CancellationToken;

use super::Scene;
use crate::http::Service;
use crate::http::caller::{self, Role};
use crate::worker;

/// Nothing of the demo takes this long, unless it goes wrong.
const PATIENCE: Duration = Duration::from_secs(60);

/// `propflow serve`, in this process.
pub(super) struct House {
    /// Where it listens, without a slash at the end.
    pub(super) url: String,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<Result<()>>>,
}

impl House {
    pub(super) async fn open(scene: &Scene<'_>, stop: &CancellationToken) -> Result<Self> {
        let failed = |e| Fault::us("the demo's service cannot listen").because(e);
        let service = Service::open(scene.app, scene.database).await?;
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(failed)?;
        let url = format!("http://{}", listener.local_addr().map_err(failed)?);
        let stop = stop.child_token();
        let serve = tokio::spawn({
            let stop = stop.clone();
            async move { service.serve(listener, &stop).await }
        });
        let work = tokio::spawn({
            let (app, database, stop) = (scene.app.clone(), scene.database.clone(), stop.clone());
            async move { worker::work(&app, &database, worker::Options::default(), &stop).await }
        });
        Ok(Self { url, stop, tasks: vec![serve, work] })
    }

    /// Ends it as Ctrl-C would.
    pub(super) async fn close(self) -> Result<()> {
        self.stop.cancel();
        for task in self.tasks {
            task.await.map_err(|e| Fault::us("the demo's service broke").because(e))??;
        }
        Ok(())
    }
}

/// Makes an API key.
pub(super) async fn key(scene: &Scene<'_>, roles: &[Role]) -> Result<String> {
    let made = caller::make("demo".to_owned(), roles, None, &*scene.app.clock);
    let mut connection = scene.database.pool.acquire().await.map_err(|e| fault("cannot keep an API key", e))?;
    keys::insert(&mut connection, &made.kept).await?;
    Ok(made.text)
}

/// Asks until there is an answer, and says how long that took.
pub(super) async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Result<Option<T>>) -> Result<(T, Duration)> {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask().await? {
            return Ok((answer, start.elapsed()));
        }
        if start.elapsed() > PATIENCE {
            return Err(Fault::us(format!("waited {} s in vain for {what}", PATIENCE.as_secs())));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A client of the live socket.
pub(super) struct Listener(JoinHandle<()>, tokio::sync::mpsc::UnboundedReceiver<(Instant, Value)>);

impl Listener {
    pub(super) async fn connect(house: &House, key: &str, topics: &str) -> Result<Self> {
        let failed = |why: String| Fault::us("the live socket cannot be reached").because(std::io::Error::other(why));
        let address = house.url.trim_start_matches("http://");
        let stream = TcpStream::connect(address).await.map_err(|e| failed(e.to_string()))?;
        let request = format!("ws://{address}/api/live?topics={topics}");
        let mut request = request.into_client_request().map_err(|e| failed(e.to_string()))?;
        let bearer = format!("Bearer {key}").parse().map_err(|_| failed("the key is no header".to_owned()))?;
        request.headers_mut().insert("authorization", bearer);
        let (mut socket, _) = client_async(request, stream).await.map_err(|e| failed(e.to_string()))?;
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
        let reader = tokio::spawn(async move {
            while let Some(Ok(message)) = socket.next().await {
                let Message::Text(text) = message else { continue };
                let Ok(value) = serde_json::from_str(&text) else { continue };
                if sender.send((Instant::now(), value)).is_err() {
                    break;
                }
            }
        });
        let mut this = Self(reader, receiver);
        this.next(|said| said["type"] == "hello").await?;
        Ok(this)
    }

    /// The next thing that is told and wanted, with when it came and what was told before it.
    pub(super) async fn next(&mut self, wanted: impl Fn(&Value) -> bool) -> Result<(Instant, Vec<Value>)> {
        let mut told = Vec::new();
        let look = async {
            while let Some((at, said)) = self.1.recv().await {
                let found = wanted(&said);
                told.push(said);
                if found {
                    return Some(at);
                }
            }
            None
        };
        match tokio::time::timeout(PATIENCE, look).await {
            Ok(Some(at)) => Ok((at, told)),
            _ => Err(Fault::us("the live socket did not tell what had happened")),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.abort();
    }
}
