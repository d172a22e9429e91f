//! Which connections take deliveries, by the pipeline files.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use connectors::Source;
use tokio::sync::Mutex;

use crate::app::{App, open_source};
use crate::plan::Plan;
use crate::run::World;

/// How long what was read from the files is used. An edited file needs no restart.
const KEPT: Duration = Duration::from_secs(30);
/// How often the files are read again for a connection that is not in them.
const LOOKED_AGAIN: Duration = Duration::from_secs(2);

/// A connection with its pipelines.
pub struct Open {
    /// Its pipelines, one a stream as a rule.
    pub plans: Vec<Plan>,
    /// Its source, which checks and understands deliveries.
    pub source: Box<dyn Source>,
}

impl fmt::Debug for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Open({:?})", self.plans.iter().map(|p| &p.spec.name).collect::<Vec<_>>())
    }
}

type Known = HashMap<(String, String), Arc<Open>>;

/// The connections of all pipeline files whose vendor sends deliveries.
#[derive(Debug)]
pub struct Connections {
    app: App,
    world: World,
    known: RwLock<(Arc<Known>, Option<Instant>)>,
    reading: Mutex<()>,
    fixed: bool,
}

impl Connections {
    /// Those of an app's pipeline files. They are read when the first one is asked for.
    pub fn new(app: App, world: World) -> Self {
        Self { app, world, known: RwLock::new((Arc::default(), None)), reading: Mutex::new(()), fixed: false }
    }

    /// Just this one, whatever the pipeline files say: for programs that bring a source of their own.
    pub fn fixed(app: App, world: World, connector: &str, connection: &str, open: Open) -> Self {
        let known = Known::from([((connector.to_owned(), connection.to_owned()), Arc::new(open))]);
        Self { fixed: true, known: RwLock::new((Arc::new(known), None)), ..Self::new(app, world) }
    }

    /// The connection of that connector and name, if a pipeline file has it and its vendor sends deliveries.
    pub async fn get(&self, connector: &str, connection: &str) -> Option<Arc<Open>> {
        let key = (connector.to_owned(), connection.to_owned());
        let (known, read_at) = self.now();
        let found = known.get(&key).cloned();
        let age = read_at.map_or(Duration::MAX, |at| at.elapsed());
        if self.fixed || age < LOOKED_AGAIN || (found.is_some() && age < KEPT) {
            return found;
        }
        if found.is_some() {
            // One reads, the others go on with what is known.
            let Ok(_turn) = self.reading.try_lock() else { return found };
            self.read().await;
        } else {
            let _turn = self.reading.lock().await;
            if self.now().1 == read_at {
                self.read().await;
            }
        }
        self.now().0.get(&key).cloned()
    }

    fn now(&self) -> (Arc<Known>, Option<Instant>) {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        (known.0.clone(), known.1)
    }

    async fn read(&self) {
        let before = self.now().0;
        let mut known = Known::new();
        let mut broken = false;
        match self.app.plans().await {
            Ok((plans, faults)) => {
                for fault in &faults {
                    broken = true;
                    tracing::warn!(error = %fault.chain(), "a pipeline file has a problem; its connection stays as it was");
                }
                let mut grouped: HashMap<(String, String), Vec<Plan>> = HashMap::new();
                for plan in plans {
                    let key = (plan.spec.source.connector.clone(), plan.spec.connection().to_owned());
                    grouped.entry(key).or_default().push(plan);
                }
                for (key, plans) in grouped {
                    match open_source(&plans[0].spec, &self.world).await {
                        Ok(source) if source.webhook().is_some() => {
                            known.insert(key, Arc::new(Open { plans, source }));
                        }
                        Ok(_) => {}
                        Err(fault) => {
                            broken = true;
                            tracing::warn!(error = %fault.chain(), "connection `{}` cannot be opened", key.1);
                        }
                    }
                }
            }
            Err(fault) => {
                broken = true;
                tracing::warn!(error = %fault.chain(), "the pipeline files cannot be read; the known ones stay in force");
            }
        }
        if broken {
            for (key, open) in &*before {
                known.entry(key.clone()).or_insert_with(|| open.clone());
            }
        }
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = (Arc::new(known), Some(Instant::now()));
    }
}
