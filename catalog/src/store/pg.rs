//! Reaching the server and bringing it up to date.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection, PgConnection, PgPool};

use crate::{Fault, Result, Retry};

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("./migrations");

/// How long a server may take to answer.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Opens a pool. Fails at once, with address and reason, when the server cannot be used; a server that is just starting, or
/// has no connection left, is given [`CONNECT_TIMEOUT`].
pub async fn connect(url: &str, connections: u32) -> Result<PgPool> {
    // The parser's own message can repeat the URL, password included; and it takes any scheme.
    let ours = ["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme));
    let options = url.parse::<PgConnectOptions>().ok().filter(|_| ours).ok_or_else(|| {
        Fault::user("the database URL is not one that PostgreSQL understands")
            .hint("Write it as `postgres://user:password@host:5432/name`.")
    })?;
    let options = options.application_name("propflow");
    // A pool tries again until its time is over, whatever the reason, and then has forgotten it.
    match connect_one(&options).await {
        Ok(connection) => _ = connection.close().await,
        Err(e) if !(e.is_retryable() && says_later(&e)) => return Err(e),
        Err(_) => {}
    }
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(CONNECT_TIMEOUT)
        .connect_with(options)
        .await
        .map_err(|e| fault("cannot connect to PostgreSQL", e))
}

/// Opens one connection.
///
/// # Errors
/// With the server's address, when it refuses or does not answer within [`CONNECT_TIMEOUT`].
pub async fn connect_one(options: &PgConnectOptions) -> Result<PgConnection> {
    let what = format!("cannot connect to PostgreSQL at `{}`", address(options));
    match tokio::time::timeout(CONNECT_TIMEOUT, PgConnection::connect_with(options)).await {
        Ok(connection) => connection.map_err(|e| fault(&what, e)),
        Err(_) => {
            Err(Fault::remote(format!("{what}: no answer within {} seconds", CONNECT_TIMEOUT.as_secs()))
                .hint(UNREACHED))
        }
    }
}

const UNREACHED: &str = "Check that the server runs, and that host and port are those of its address.";

/// Where a server is, without user and password.
fn address(options: &PgConnectOptions) -> String {
    match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    }
}

/// Whether a server that answered may let us in soon: it starts or ends, or all its connections are taken.
fn says_later(fault: &Fault) -> bool {
    let cause = fault.source.as_deref().and_then(|e| e.downcast_ref::<sqlx::Error>());
    let code = cause.and_then(sqlx::Error::as_database_error).and_then(|e| e.code());
    code.is_some_and(|code| ["57P03", "53300"].contains(&&*code))
}

/// Applies the migrations that are missing. Safe to run from several processes at once.
pub async fn migrate(pool: &PgPool) -> Result<()> {
    let version: i32 = sqlx::query_scalar("select current_setting('server_version_num')::int")
        .fetch_one(pool)
        .await
        .map_err(|e| fault("cannot ask PostgreSQL for its version", e))?;
    if version < 150_000 {
        return Err(Fault::user(format!("PostgreSQL {} is too old", version / 10_000))
            .hint("propflow needs version 15 or later."));
    }
    MIGRATIONS.run(pool).await.map_err(|e| match e {
        sqlx::migrate::MigrateError::Execute(e) | sqlx::migrate::MigrateError::ExecuteMigration(e, _) => {
            fault("the database cannot be migrated", e)
        }
        other => Fault::user("the database was made by another version of propflow")
            .hint("Use the version that migrated it last, or a new database.")
            .because(other),
    })
}

/// Whether exactly this program's migrations have been applied.
pub async fn is_migrated(pool: &PgPool) -> Result<bool> {
    let applied: Vec<(i64, Vec<u8>)> =
        sqlx::query_as("select version, checksum from _sqlx_migrations where success order by version")
            .fetch_all(pool)
            .await
            .map_err(|e| fault("cannot read which migrations were applied", e))?;
    let own = MIGRATIONS.iter().filter(|m| !m.migration_type.is_down_migration());
    Ok(applied.iter().map(|(version, sum)| (*version, &**sum)).eq(own.map(|m| (m.version, &*m.checksum))))
}

/// Whether a fault says that the server, or the way to it, is not there: a connection was cut, refused or not answered, or the
/// server is ending or starting.
pub fn is_gone(fault: &Fault) -> bool {
    use sqlx::Error as E;
    match fault.source.as_deref().and_then(|e| e.downcast_ref::<E>()) {
        Some(E::Database(db)) => {
            db.code().is_some_and(|code| code.starts_with("08") || ["57P01", "57P02", "57P03"].contains(&&*code))
        }
        Some(E::Io(_) | E::PoolTimedOut | E::PoolClosed | E::WorkerCrashed) => true,
        _ => false,
    }
}

/// Turns a database error into a fault. What the server says about its own state decides blame and retry; the text
/// keeps to the server's message, which names tables and constraints but no values.
pub fn fault(what: &str, error: sqlx::Error) -> Fault {
    use sqlx::Error as E;
    let fault = match &error {
        E::Database(db) => {
            let code = db.code().unwrap_or_default().into_owned();
            match code.get(..2).unwrap_or("") {
                // Connection exceptions, operator intervention, insufficient resources except a full disk, rollbacks.
                "08" | "57" | "40" | "55" => Fault::remote(format!("{what}: {}", db.message())),
                "53" if code == "53100" => Fault::user(format!("{what}: the database's disk is full"))
                    .retry(Retry::Backoff)
                    .hint("Free space on the database server; the run goes on from its last slice."),
                "53" => Fault::remote(format!("{what}: {}", db.message())),
                "28" => Fault::user(format!("{what}: {}", db.message()))
                    .hint("Check user and password in the database URL."),
                "3D" => {
                    Fault::user(format!("{what}: {}", db.message())).hint("Create the database or name another one.")
                }
                "42" if code == "42501" => {
                    Fault::user(format!("{what}: {}", db.message())).hint("Grant the right to the database user.")
                }
                _ => Fault::us(format!("{what}: {}", db.message())),
            }
        }
        E::Io(e) => Fault::remote(format!("{what}: {e}")).hint(UNREACHED),
        E::Tls(_) => Fault::user(format!("{what}: the TLS connection failed")),
        E::PoolTimedOut | E::PoolClosed | E::WorkerCrashed => Fault::remote(format!("{what}: {error}")),
        _ => Fault::us(format!("{what}: {error}")),
    };
    fault.because(error)
}
