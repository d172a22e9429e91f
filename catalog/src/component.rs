//! How connectors and sinks are found, configured and opened.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures::future::BoxFuture;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::quota::LocalQuota;
use crate::standing::{NoTables, Tables};
use crate::token::LocalTokens;
use crate::{Clock, Fault, Quota, Result, SystemClock, Tokens};

/// What a component may use of the world.
#[derive(Debug, Clone)]
pub struct Env {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The shared call budgets.
    pub quota: Arc<dyn Quota>,
    /// The shared access tokens.
    pub tokens: Arc<dyn Tokens>,
    /// What stands in the tables already.
    pub tables: Arc<dyn Tables>,
    /// The name of the connection, as the pipeline file gives it. Rows of an account-wide list carry it as their scope.
    pub connection: String,
}

impl Default for Env {
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            quota: Arc::new(LocalQuota::default()),
            tokens: Arc::new(LocalTokens::default()),
            tables: Arc::new(NoTables),
            connection: "default".to_owned(),
        }
    }
}

/// A connector or a sink: a name, settings, and a way to open it. Typed here, erased by [`Entry`].
#[async_trait]
pub trait Component {
    /// The trait object it opens to: `dyn Source` or `dyn Sink`.
    type Live: ?Sized;
    /// Its settings. Unknown keys must be refused (`#[serde(deny_unknown_fields)]`).
    type Config: DeserializeOwned + JsonSchema + Send;

    /// Its name in pipeline files and addresses.
    const NAME: &'static str;
    /// One line for `propflow list`.
    const ABOUT: &'static str;

    /// Opens it. Faults on settings that cannot work; makes no call outside.
    async fn open(config: Self::Config, env: Env) -> Result<Box<Self::Live>>;

    /// The settings for a one-off address, `NAME:REST`, as `propflow copy` takes them. `None` when this component needs
    /// more than an address.
    fn address(rest: &str) -> Option<Value> {
        let _ = rest;
        None
    }
}

type Open<L> = fn(Value, Env) -> BoxFuture<'static, Result<Box<L>>>;

/// A registered component, its types erased.
pub struct Entry<L: ?Sized> {
    /// Its name.
    pub name: &'static str,
    /// One line about it.
    pub about: &'static str,
    open: Open<L>,
    check: fn(&Value) -> Result<()>,
    schema: fn() -> Value,
    address: fn(&str) -> Option<Value>,
}

impl<L: ?Sized + 'static> Entry<L> {
    /// Registers a component.
    pub const fn of<C>() -> Self
    where
        C: Component<Live = L> + 'static,
    {
        Self {
            name: C::NAME,
            about: C::ABOUT,
            open: |settings, env| {
                Box::pin(async move {
                    let config = parse::<C>(settings)?;
                    C::open(config, env).await
                })
            },
            check: |settings| parse::<C>(settings.clone()).map(|_| ()),
            schema: || schemars::schema_for!(C::Config).to_value(),
            address: C::address,
        }
    }

    /// Opens the component with its settings.
    pub async fn open(&self, settings: Value, env: Env) -> Result<Box<L>> {
        (self.open)(settings, env).await
    }

    /// Whether the settings fit, without opening anything.
    pub fn check(&self, settings: &Value) -> Result<()> {
        (self.check)(settings)
    }

    /// The JSON Schema of the settings.
    pub fn schema(&self) -> Value {
        (self.schema)()
    }

    /// The settings for a one-off address; see [`Component::address`].
    pub fn address(&self, rest: &str) -> Option<Value> {
        (self.address)(rest)
    }
}

impl<L: ?Sized> fmt::Debug for Entry<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Entry({})", self.name)
    }
}

fn parse<C: Component>(settings: Value) -> Result<C::Config> {
    serde_path_to_error::deserialize(settings).map_err(|e| {
        let (path, inner) = (e.path().to_string(), e.inner());
        Fault::user(match path.as_str() {
            "." => format!("settings of `{}`: {inner}", C::NAME),
            path => format!("settings of `{}`: `{path}`: {inner}", C::NAME),
        })
    })
}
