//! Changes carried to ResMan at once, behind the answer's back, with the outbox as the net.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;
use uuid::Uuid;

use super::Service;
use crate::contacts::find;
use crate::outbox;

/// Changes that are carried to ResMan at once, at a time; each holds a connection to the database. The rest is left to the
/// outbox's worker, which hears of it with the commit.
const CARRIED_AT_ONCE: usize = 3;
/// Changes that wait for that.
const QUEUED: usize = 512;
/// Messages of one contact that are carried in a row.
const CARRIED: usize = 20;
/// How long one is carried before it is left to the worker.
const CARRY: Duration = Duration::from_secs(60);

/// Room for the changes that are carried at once, and for those that wait for it.
#[derive(Debug, Clone)]
pub(super) struct Haste {
    room: Arc<Semaphore>,
    queue: Arc<Semaphore>,
}

impl Default for Haste {
    fn default() -> Self {
        Self { room: Arc::new(Semaphore::new(CARRIED_AT_ONCE)), queue: Arc::new(Semaphore::new(QUEUED)) }
    }
}

/// Has what is due for a contact carried to ResMan now, behind the answer's back.
pub(super) fn carry(service: &Service, contact: Uuid) {
    let Ok(place) = service.haste.queue.clone().try_acquire_owned() else { return };
    let service = service.clone();
    tokio::spawn(async move {
        let Ok(_permit) = service.haste.room.clone().acquire_owned().await else { return };
        drop(place);
        let pool = &service.database.pool;
        // Looked for anew behind each one: what was put there meanwhile found the lane occupied, and was left to us.
        let work = async || -> catalog::Result<()> {
            for _ in 0..CARRIED {
                let Some(message) = find::due(pool, contact, service.app.clock.now()).await? else { break };
                // A worker may have been faster; it goes on with the lane then.
                if !outbox::attempt(pool, &service.couriers, Some(message)).await? {
                    break;
                }
            }
            Ok(())
        };
        if let Ok(Err(fault)) = timeout(CARRY, work()).await {
            tracing::warn!(error = fault.chain(), "a change could not be carried at once");
        }
    });
}
