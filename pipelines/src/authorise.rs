//! Authorisation of a connection by the owner of its account.

use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::net::SocketAddr;

use axum::Router;
use axum::extract::Query;
use axum::http::StatusCode;
use catalog::store::connections;
use catalog::store::pg::fault;
use catalog::{Fault, Result};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use url::Url;
use uuid::Uuid;

use crate::app::{App, Database, open_source};
use crate::books;
use crate::cli::print;

/// What is asked.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// The connection, or a pipeline that uses it
    pub connection: String,
    /// Wait here for the vendor to send the owner's browser back, such as 127.0.0.1:8399; without it, paste the code
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
}

/// Prints the address at which the owner consents, takes the code that comes back, and keeps what it gives. A connection
/// that was stopped because its authorisation had ended is in use again.
///
/// # Errors
/// When no such connection is authorised in this way, when the owner refuses, or when the vendor does not take the code.
pub async fn authorise(
    app: &App,
    database: &Database,
    options: &Options,
    input: impl BufRead + Send + 'static,
    out: &mut dyn Write,
    stop: &CancellationToken,
) -> Result<()> {
    let name = &options.connection;
    let world = app.world(Some(database));
    let mut found = None;
    for plan in app.sound_plans().await? {
        if plan.spec.connection() == name || plan.spec.name == *name {
            let source = open_source(&plan.spec, &world).await?;
            if source.authority().is_some() {
                found = Some((plan.spec.source.connector.clone(), plan.spec.connection().to_owned(), source));
                break;
            }
        }
    }
    let (connector, connection, source) = found.ok_or_else(|| {
        Fault::user(format!("no connection `{name}` is authorised by the owner of its account")).hint(
            "That takes a pipeline file with the app's settings: `oauth` of `ownerrez`, or `partner` of `airbnb`.",
        )
    })?;
    let authority = source.authority().ok_or_else(|| Fault::us("a connector has lost its authorisation"))?;
    let state = Uuid::new_v4().simple().to_string();
    let code = match options.listen {
        Some(address) => {
            let listening = |e| Fault::user(format!("`--listen {address}` cannot be listened on")).because(e);
            let listener = TcpListener::bind(address).await.map_err(listening)?;
            let own = format!("http://{}/", listener.local_addr().map_err(listening)?);
            let redirect = authority.redirect().unwrap_or(&own).to_owned();
            say(out, &authority.consent(Some(&redirect), &state))?;
            returned(listener, state, stop).await?
        }
        None => {
            say(out, &authority.consent(None, &state))?;
            print(out, format_args!("Then paste the code, or the whole address that the browser was sent to:"))?;
            pasted(input, &state, stop).await?
        }
    };
    authority.accept(code).await?;
    let what = "cannot let the connection be used";
    let mut tx = database.pool.begin().await.map_err(|e| fault(what, e))?;
    connections::set(&mut tx, &connector, &connection, false, "the owner of its account authorised it").await?;
    tx.commit().await.map_err(|e| fault(what, e))?;
    books::audit(database, "authorise", &connection, json!({ "connector": connector })).await?;
    print(out, format_args!("connection `{connection}` of `{connector}` is authorised"))
}

fn say(out: &mut dyn Write, consent: &Url) -> Result<()> {
    print(out, format_args!("The owner of the account has to open this address and agree:\n\n  {consent}\n"))
}

fn ended() -> Fault {
    Fault::user("the authorisation was not completed")
        .hint("Run the command again; an address is good for one attempt.")
}

/// The code in the parameters of an address that the vendor sent the owner back to.
fn code_of(parameters: &HashMap<String, String>, state: &str) -> Result<String> {
    if parameters.get("state").map(String::as_str) != Some(state) {
        return Err(Fault::user("that is the answer to another attempt").hint("Use the address that was printed last."));
    }
    if let Some(code) = parameters.get("code").filter(|code| !code.is_empty()) {
        return Ok(code.clone());
    }
    Err(Fault::user("the owner of the account did not agree"))
}

/// The code that a person types or pastes.
async fn pasted(input: impl BufRead + Send + 'static, state: &str, stop: &CancellationToken) -> Result<String> {
    // A line that never ends is no code.
    let line = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        std::io::Read::take(input, 8192).read_line(&mut line).map(|_| line)
    });
    let line = tokio::select! {
        line = line => line,
        () = stop.cancelled() => return Err(ended()),
    };
    let line = line.map_err(|e| Fault::us("the reader of the code died").because(e))?;
    let line = line.map_err(|e| Fault::user("the code cannot be read").because(e))?;
    let line = line.trim();
    if line.is_empty() {
        return Err(ended());
    }
    match Url::parse(line).ok().filter(|url| url.has_host()) {
        Some(url) => code_of(&url.query_pairs().into_owned().collect(), state),
        None => Ok(line.to_owned()),
    }
}

/// The code that the vendor sends the owner's browser back with.
async fn returned(listener: TcpListener, state: String, stop: &CancellationToken) -> Result<String> {
    let (sender, mut codes) = mpsc::channel(1);
    let page = move |Query(parameters): Query<HashMap<String, String>>| async move {
        match code_of(&parameters, &state) {
            // A stranger's call, or the browser asking for an icon: the owner is still to come.
            Err(fault) if parameters.get("state") != Some(&state) => {
                (StatusCode::BAD_REQUEST, fault.message.to_string())
            }
            code => {
                let text = match &code {
                    Ok(_) => "Thank you. You can close this page.".to_owned(),
                    Err(fault) => fault.message.to_string(),
                };
                let _ = sender.try_send(code);
                (StatusCode::OK, text)
            }
        }
    };
    let done = CancellationToken::new();
    let server =
        axum::serve(listener, Router::new().fallback(page)).with_graceful_shutdown(done.clone().cancelled_owned());
    let server = tokio::spawn(server.into_future());
    let code = tokio::select! {
        code = codes.recv() => code.ok_or_else(ended),
        () = stop.cancelled() => Err(ended()),
    };
    done.cancel();
    // The page goes out before the program ends, unless the browser does not take it.
    let _ = tokio::time::timeout(std::time::Duration::from_secs(2), server).await;
    code?
}
