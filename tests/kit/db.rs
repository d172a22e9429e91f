//! A database for one test.
//!
//! `DATABASE_URL` names the server; without it one private server is started per test process. Either way each test gets
//! a database of its own, migrated already.

use std::path::Path;
use std::sync::LazyLock;

use pipelines::embedded::{Durability, PrivatePostgres, scratch};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, PgPool};
use tokio::sync::OnceCell;
use uuid::Uuid;

/// The server, and a template that every test's database is copied from.
#[derive(Debug)]
struct Server {
    url: String,
    template: String,
    /// Never dropped, since statics are not: the server then dies with this process.
    _private: Option<PrivatePostgres>,
}

static SERVER: OnceCell<Server> = OnceCell::const_new();

/// Tests run on runtimes of their own that end with them; the server is started from one that does not.
static RUNTIME: LazyLock<tokio::runtime::Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap());

/// A test's own database, dropped with this value.
#[derive(Debug)]
pub struct TestDb {
    /// Its URL.
    pub url: String,
    /// A pool on it.
    pub pool: PgPool,
    name: String,
}

impl TestDb {
    /// Makes one.
    pub async fn new() -> Self {
        let server = server().await;
        let name = format!("propflow_test_{}", Uuid::now_v7().simple());
        execute(&server.url, &format!("create database {name} template {}", server.template)).await;
        let url = with_database(&server.url, &name);
        let pool = catalog::store::connect(&url, 10).await.unwrap();
        Self { url, pool, name }
    }
}

impl Drop for TestDb {
    fn drop(&mut self) {
        let Some(server) = SERVER.get() else { return };
        let (url, sql) = (server.url.clone(), format!("drop database if exists {} with (force)", self.name));
        // The test's own runtime may be going down: use the other one, and wait, so that nothing is left behind.
        let dropped = RUNTIME.spawn(async move { execute(&url, &sql).await });
        let (sender, receiver) = std::sync::mpsc::channel();
        RUNTIME.spawn(async move {
            let _ = dropped.await;
            let _ = sender.send(());
        });
        let _ = receiver.recv();
    }
}

/// The URL of the server that the tests use, with its administrative database.
pub async fn server_url() -> String {
    server().await.url.clone()
}

async fn server() -> &'static Server {
    SERVER.get_or_init(|| async { RUNTIME.spawn(start()).await.unwrap() }).await
}

async fn start() -> Server {
    let (url, private) = match std::env::var("DATABASE_URL") {
        Ok(url) => (url, None),
        Err(_) => {
            sweep();
            let dir = scratch(&format!("test-{}", std::process::id()));
            let server = PrivatePostgres::start(&dir, Durability::Fast).await.unwrap();
            (server.url().to_owned(), Some(server))
        }
    };
    let template = format!("propflow_template_{}", Uuid::now_v7().simple());
    execute(&url, &format!("create database {template}")).await;
    let pool = catalog::store::connect(&with_database(&url, &template), 1).await.unwrap();
    catalog::store::migrate(&pool).await.unwrap();
    pool.close().await;
    Server { url, template, _private: private }
}

/// Removes what test processes that are gone left behind.
fn sweep() {
    for entry in std::fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(pid) = name.strip_prefix("propflow-test-").and_then(|rest| rest.split('-').next()) else { continue };
        if !Path::new("/proc").join(pid).exists() {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

async fn execute(url: &str, sql: &str) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    connection.execute(AssertSqlSafe(sql.to_owned())).await.unwrap();
    connection.close().await.unwrap();
}

/// The same server, another database.
pub fn with_database(url: &str, name: &str) -> String {
    let mut url = url::Url::parse(url).unwrap();
    url.set_path(name);
    url.into()
}
