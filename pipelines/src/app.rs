//! What the commands share: the database, the pipeline files, opening a plan.

use std::path::PathBuf;
use std::sync::Arc;

use catalog::quota::LocalQuota;
use catalog::store::{PgQuota, PgTokens, connect, migrate};
use catalog::token::LocalTokens;
use catalog::{Blame, Clock, Fault, Result, SystemClock};
use connectors::Read;
use serde_json::{Map, Value};
use sqlx::PgPool;

use crate::embedded::{Durability, PrivatePostgres, home};
use crate::names;
use crate::plan::{self, Plan};
use crate::progress::Observer;
use crate::run::{Job, World, env, settle_pending};
use crate::settle;
use crate::spec::{self, SinkSpec};

/// Connections of one process: one for the lease, one for the sink's transaction, one for the quota, and some to spare.
const CONNECTIONS: u32 = 12;

/// The database that holds the ledger and the tables.
#[derive(Debug)]
pub struct Database {
    /// A pool on it.
    pub pool: PgPool,
    /// Its URL. Holds a password: never print it.
    pub url: String,
    private: Option<PrivatePostgres>,
}

impl Database {
    /// Opens the database of `url`, or the private one of this user, and brings it up to date.
    pub async fn open(url: Option<&str>) -> Result<Arc<Self>> {
        let database = match url {
            Some(url) => {
                let pool = connect(url, CONNECTIONS).await.map_err(|fault| match fault.blame {
                    Blame::Remote => fault.hint(
                        "Check that the server runs, and that `DATABASE_URL` or `--database-url` names its host and port; \
                         without either a private server is started.",
                    ),
                    _ => fault,
                })?;
                Self { pool, url: url.to_owned(), private: None }
            }
            None => Self::private(PrivatePostgres::start(&home().join("postgres"), Durability::Full).await?).await?,
        };
        database.migrate().await?;
        Ok(Arc::new(database))
    }

    /// Uses a private server that was started elsewhere, without migrating it.
    pub async fn private(server: PrivatePostgres) -> Result<Self> {
        let url = server.url().to_owned();
        Ok(Self { pool: connect(&url, CONNECTIONS).await?, url, private: Some(server) })
    }

    /// Applies what is missing: ledgers, canonical tables, serving views, the queue's tables.
    pub async fn migrate(&self) -> Result<()> {
        migrate(&self.pool).await?;
        sinks::postgres::migrate(&self.pool).await?;
        crate::settle::setup(&self.pool).await?;
        crate::services::setup(&self.pool).await?;
        crate::contacts::telling::setup(&self.pool).await?;
        crate::jobs::setup(&self.pool).await
    }

    /// The folder of a private server.
    pub fn private_dir(&self) -> Option<PathBuf> {
        self.private.as_ref().map(|p| p.dir().to_owned())
    }

    /// Whether this is the private server, started by this process or another.
    pub fn is_private(&self) -> bool {
        self.private.is_some()
    }

    /// Closes the pool and stops a private server of our own.
    pub async fn close(self: Arc<Self>) {
        self.pool.close().await;
        // Whoever else holds this has ended its work; should one not have, the server stops when it lets go.
        if let Some(server) = Arc::into_inner(self).and_then(|this| this.private) {
            server.stop().await;
        }
    }
}

/// Settings that every command takes.
#[derive(Debug, Clone)]
pub struct App {
    /// The folder of pipeline files; without one, the built-in ones.
    pub specs: Option<PathBuf>,
    /// The server to use; without one, a private server.
    pub database_url: Option<String>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Who is told of progress.
    pub observer: Arc<dyn Observer>,
}

impl App {
    /// An app on the machine's clock.
    pub fn new(specs: Option<PathBuf>, database_url: Option<String>, observer: Arc<dyn Observer>) -> Self {
        Self { specs, database_url, clock: Arc::new(SystemClock), observer }
    }

    /// Opens the database.
    pub async fn database(&self) -> Result<Arc<Database>> {
        Database::open(self.database_url.as_deref()).await
    }

    /// Checks every pipeline file.
    pub async fn plans(&self) -> Result<(Vec<Plan>, Vec<Fault>)> {
        Ok(plan::check(&spec::files(self.specs.as_deref())?).await)
    }

    /// The plans of all pipeline files, or every problem of any of them.
    pub async fn sound_plans(&self) -> Result<Vec<Plan>> {
        let (plans, faults) = self.plans().await?;
        if faults.is_empty() { Ok(plans) } else { Err(all_of(&faults)) }
    }

    /// The files of one pipeline, whatever else is wrong with them.
    ///
    /// # Errors
    /// When there is none, with the near names.
    pub fn named(&self, name: &str) -> Result<Vec<spec::SpecFile>> {
        let files = spec::files(self.specs.as_deref())?;
        let (mut known, mut wanted) = (Vec::new(), Vec::new());
        for file in files {
            let named = file.text.parse::<toml::Table>().ok().and_then(|t| t.get("name")?.as_str().map(str::to_owned));
            match named {
                Some(n) if n == name => wanted.push(file),
                Some(n) => known.push(n),
                None => {}
            }
        }
        if wanted.is_empty() {
            return Err(Fault::user(format!("there is no pipeline `{name}`"))
                .hint(names::hint(name, known.iter().map(String::as_str))));
        }
        Ok(wanted)
    }

    /// The plan of one pipeline. Problems of other files do not matter here.
    pub async fn plan(&self, name: &str) -> Result<Plan> {
        let wanted = self.named(name)?;
        let (mut plans, faults) = plan::check(&wanted).await;
        if faults.is_empty()
            && let Some(plan) = plans.pop()
        {
            return Ok(plan);
        }
        Err(all_of(&faults))
    }

    /// The world for runs on this database.
    pub fn world(&self, database: Option<&Database>) -> World {
        World {
            ledger: database.map(|d| d.pool.clone()),
            clock: self.clock.clone(),
            quota: match database {
                Some(d) => Arc::new(PgQuota::new(d.pool.clone())),
                None => Arc::new(LocalQuota::default()),
            },
            tokens: match database {
                Some(d) => Arc::new(PgTokens::new(d.pool.clone())),
                None => Arc::new(LocalTokens::default()),
            },
            observer: self.observer.clone(),
        }
    }

    /// Settles what is pending or due, into every place that a pipeline of bookings writes to. Gives the number of
    /// properties.
    ///
    /// # Errors
    /// When a sink cannot be opened, or as for [`settle_pending`].
    pub async fn settle(&self, plans: &[Plan], database: &Database, trigger: &str) -> Result<usize> {
        let world = self.world(Some(database));
        if !settle::pending(&database.pool, world.clock.now()).await? {
            return Ok(0);
        }
        let mut places: Vec<&SinkSpec> = Vec::new();
        let own = SinkSpec { sink: "postgres".to_owned(), settings: Map::new() };
        for plan in plans.iter().filter(|p| p.models.iter().any(|m| m.layer == settle::LAYER)) {
            for sink in &plan.spec.sinks {
                let keeps = sink.sink == own.sink && !sink.settings.contains_key("url");
                if !keeps && !places.iter().any(|p| p.sink == sink.sink && p.settings == sink.settings) {
                    places.push(sink);
                }
            }
        }
        places.push(&own);
        let mut opened = Vec::new();
        for place in places {
            opened.push(open_sink(place, &world, database, 0).await?);
        }
        settle_pending(&world, trigger, transforms::models::layer(settle::LAYER)?, opened).await
    }

    /// Opens a plan's source and sinks.
    pub async fn job(&self, plan: &Plan, database: &Database, asked: Asked) -> Result<Job> {
        let world = self.world(Some(database));
        let spec = &plan.spec;
        catalog::store::connections::usable(&database.pool, &spec.source.connector, spec.connection()).await?;
        let source = open_source(spec, &world).await?;
        let name = &spec.source.connector;
        let stream = source
            .streams()
            .into_iter()
            .find(|s| s.name == spec.source.stream)
            .ok_or_else(|| Fault::us(format!("connector `{name}` has lost stream `{}`", spec.source.stream)))?;
        let freshness_limit_secs = i64::from(spec.freshness.limit_hours) * 3600;
        let mut opened = Vec::new();
        for sink in &spec.sinks {
            opened.push(open_sink(sink, &world, database, freshness_limit_secs).await?);
        }
        let included = spec.source.settings.get("include_concessions_in_pricing").and_then(Value::as_bool);
        Ok(Job {
            pipeline: spec.name.clone(),
            trigger: asked.trigger,
            source,
            stream,
            connection: spec.connection().to_owned(),
            read: asked.read.unwrap_or_else(|| spec.source.read.into()),
            only: asked.only,
            fresh: asked.fresh,
            kept: None,
            models: plan.models.clone(),
            sinks: opened,
            currency: spec.defaults.currency.clone(),
            region: spec.defaults.region.clone(),
            concessions_included: included.unwrap_or(false),
            freshness_limit_secs,
            deliveries: None,
        })
    }
}

/// What was asked of a pipeline.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Who asked; a word that the ledger knows.
    pub trigger: String,
    /// How much to read; `None` is what the pipeline file says.
    pub read: Option<Read>,
    /// Only these scopes.
    pub only: Vec<String>,
    /// Do not resume.
    pub fresh: bool,
}

/// Opens the source of a pipeline file.
pub async fn open_source(spec: &spec::Spec, world: &World) -> Result<Box<dyn connectors::Source>> {
    let entry = connectors::find(&spec.source.connector)
        .ok_or_else(|| Fault::us(format!("connector `{}` has left the registry", spec.source.connector)))?;
    entry.open(Value::Object(spec.source.settings.clone()), env(world, spec.connection())).await
}

/// Opens a sink. A `postgres` sink without an address is the ledger's own database, and then keeps the cursors.
async fn open_sink(
    spec: &SinkSpec,
    world: &World,
    database: &Database,
    freshness_limit_secs: i64,
) -> Result<Box<dyn sinks::Sink>> {
    if spec.sink == "postgres" && !spec.settings.contains_key("url") {
        let settings = Value::Object(spec.settings.clone());
        let options = sinks::postgres::Options::of_ledger(settings, freshness_limit_secs)?;
        return Ok(Box::new(sinks::postgres::PostgresSink::new(database.pool.clone(), options)));
    }
    let entry =
        sinks::find(&spec.sink).ok_or_else(|| Fault::us(format!("sink `{}` has left the registry", spec.sink)))?;
    entry.open(Value::Object(spec.settings.clone()), env(world, &spec.sink)).await
}

/// Many faults as one, each on its line.
pub fn all_of(faults: &[Fault]) -> Fault {
    match faults {
        [] => Fault::us("a pipeline is unusable without a reason"),
        [one] => {
            let fault = Fault::new(one.blame, one.retry, one.chain());
            match &one.hint {
                Some(hint) => fault.hint(hint.clone()),
                None => fault,
            }
        }
        many => {
            let lines: Vec<String> = many
                .iter()
                .map(|f| format!("- {}{}", f.chain(), f.hint.as_ref().map_or(String::new(), |h| format!(". {h}"))))
                .collect();
            Fault::user(format!("{} problems:\n{}", many.len(), lines.join("\n")))
        }
    }
}

/// The settings of an address such as `mits:feed.xml`, and the component's name.
pub fn address<L: ?Sized + 'static>(
    text: &str,
    what: &str,
    all: &'static [catalog::Entry<L>],
) -> Result<(&'static catalog::Entry<L>, Map<String, Value>)> {
    let known = || all.iter().map(|e| e.name);
    let Some((name, rest)) = text.split_once(':') else {
        return Err(Fault::user(format!("`{text}` is not an address of a {what}"))
            .hint(format!("Write it as `NAME:REST`; {}", names::hint(text, known()))));
    };
    let name = if name == "postgresql" { "postgres" } else { name };
    let entry = all
        .iter()
        .find(|e| e.name == name)
        .ok_or_else(|| Fault::user(format!("there is no {what} `{name}`")).hint(names::hint(name, known())))?;
    if rest.trim().is_empty() {
        return Err(Fault::user(format!("nothing stands behind `{name}:`"))
            .hint("Name a file, a folder or an address there, such as `mits:feed.xml` or `parquet:out/`."));
    }
    match entry.address(rest) {
        Some(Value::Object(settings)) => Ok((entry, settings)),
        _ => Err(Fault::user(format!("{what} `{name}` cannot be used by address alone"))
            .hint("Write a pipeline file and use `propflow run`.")),
    }
}
