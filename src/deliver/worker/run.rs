//! The loop of a worker: it starts an attempt for each delivery that the queue releases, and waits
//! otherwise.

use std::{collections::HashMap, sync::Arc};

use tokio::{
    select,
    task::{Id, JoinError, JoinSet},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{STORE_RETRY_WAIT, SinkWorker, target::Target};
use crate::{
    deliver::queue::Next,
    store::{DeliveryKey, StoreError},
    util::due_queue::wait_until,
};

/// New callbacks whose origin is read before the next attempt starts.
const ORIGINS_AT_ONCE: usize = 64;

impl SinkWorker {
    /// Delivers until `stop`, then waits for the attempts in flight.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut tasks = JoinSet::new();
        let mut in_flight: HashMap<Id, DeliveryKey> = HashMap::new();
        let term = self.store.term();
        while stop.run_until_cancelled(term.holds()).await.is_some() {
            let more_origins = self.assign_origins().await;
            let next = self.backlog().release_next(Instant::now());
            let until = match next {
                Next::Take(key) => {
                    let worker = Arc::clone(&self);
                    let task = tasks.spawn(async move { worker.deliver(key).await });
                    in_flight.insert(task.id(), key);
                    continue;
                }
                Next::Wait(until) => [until, more_origins].into_iter().flatten().min(),
            };
            select! {
                () = wait_until(until) => {}
                () = self.wake.notified() => {}
                Some(done) = tasks.join_next_with_id() => self.finish(done, &mut in_flight),
                () = stop.cancelled() => {}
            }
        }
        while let Some(done) = tasks.join_next_with_id().await {
            self.finish(done, &mut in_flight);
        }
    }

    /// Assigns new callbacks to the queues of their origins, a bounded number at a time. Returns
    /// when to continue.
    async fn assign_origins(&self) -> Option<Instant> {
        for _ in 0..ORIGINS_AT_ONCE {
            let key = self.backlog().callbacks()?.unassigned()?;
            let Ok(origin) = Target::callback_origin(&self.store, key).await else {
                return Some(Instant::now() + STORE_RETRY_WAIT);
            };
            self.backlog().callbacks()?.assign_origin(key, origin.as_ref(), Instant::now());
        }
        Some(Instant::now())
    }

    /// Ends an attempt in the queue. A delivery whose attempt panicked or could not use the store
    /// is retried soon.
    fn finish(
        &self,
        done: Result<(Id, Result<(), StoreError>), JoinError>,
        in_flight: &mut HashMap<Id, DeliveryKey>,
    ) {
        let (id, is_retried) = match done {
            Ok((id, result)) => (id, result.is_err()),
            Err(error) => {
                self.metrics.panics.inc();
                (error.id(), true)
            }
        };
        let Some(key) = in_flight.remove(&id) else { return };
        let now = Instant::now();
        self.backlog().finish(key, is_retried.then(|| now + STORE_RETRY_WAIT), now);
    }
}
