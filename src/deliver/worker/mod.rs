//! One task a sink: it attempts the deliveries that its queue releases, and records each outcome
//! together with the next step.
//!
//! [`run`] is the loop, [`attempt`] one attempt from the delivery's record to its outcome's,
//! [`ordering`] the turns of an ordered sink, [`target`] what an attempt is made with, and
//! [`sinks`] all workers by name.
//!
//! The worker holds the clock, the randomness and the store. It must not know how a queue decides,
//! or how a target sends.

mod attempt;
mod ordering;
mod run;
pub(crate) mod sinks;
mod stats;
mod status;
pub(crate) mod target;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use crate::{
    deliver::{
        message::Message,
        metrics::SinkMetrics,
        queue::{backlog::Backlog, order::JobOrder, retry::wait_for},
        worker::{stats::SinkStats, status::attempt_record, target::Target},
    },
    model::delivery::DeliveryAttempt,
    store::{DeliveryKey, Store},
    util::{clock, units::Time},
};

/// The wait before a delivery is retried whose records could not be read.
const STORE_RETRY_WAIT: Duration = Duration::from_secs(1);

/// The worker of one sink.
pub struct SinkWorker {
    /// The sink's name.
    pub name: String,
    target: Target,
    store: Store,
    metrics: Arc<SinkMetrics>,
    backlog: Mutex<Backlog>,
    wake: Notify,
    stats: Mutex<SinkStats>,
    order: JobOrder,
}

impl SinkWorker {
    /// Returns the worker of the sink `name`, with these pending deliveries.
    #[must_use]
    pub fn new(
        name: &str,
        target: Target,
        backlog: Backlog,
        store: Store,
        metrics: Arc<SinkMetrics>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            target,
            store,
            metrics,
            backlog: Mutex::new(backlog),
            wake: Notify::new(),
            stats: Mutex::default(),
            order: JobOrder::default(),
        }
    }

    /// Schedules a delivery at `due`, a time that was set when the wall clock said `as_of`.
    pub fn schedule(&self, key: DeliveryKey, due: Time, as_of: Time) {
        let at = Instant::now() + wait_for(self.backlog().retry(), due, as_of);
        self.backlog().schedule(key, at);
        self.wake.notify_one();
    }

    /// Returns how long a delivery that is due at `due` still waits.
    pub(super) fn wait_for(&self, due: Time) -> Duration {
        wait_for(self.backlog().retry(), due, clock::now())
    }

    /// Empties the queue, and returns each waiting delivery with its due time.
    pub(super) fn drain(&self) -> Vec<(DeliveryKey, Instant)> {
        self.backlog().drain()
    }

    /// Schedules a delivery of the previous worker, unless this one has it already.
    pub(super) fn take_over(&self, key: DeliveryKey, at: Instant) {
        self.backlog().take_over(key, at);
        self.wake.notify_one();
    }

    /// Forgets a delivery whose records are gone. An attempt in flight goes on, and the store
    /// ignores its outcome.
    pub fn forget(&self, key: DeliveryKey) {
        self.backlog().forget(key);
    }

    /// Pauses the sink since `since`, or resumes it. Attempts in flight go on.
    pub fn pause(&self, since: Option<Time>) {
        self.stats().paused_at = since;
        self.backlog().pause(since.is_some());
        self.wake.notify_one();
    }

    /// Closes the breaker and ends the silence that the sink asked for, so that deliveries are
    /// attempted again.
    pub fn reset(&self) {
        let closed = self.backlog().reset(Instant::now());
        if closed {
            tracing::info!(sink = self.name, "breaker reset");
        }
        self.wake.notify_one();
    }

    /// Sends a test event once, outside the queue. When the sink takes it, its breaker closes, and what it failed before does not
    /// count any more.
    pub async fn test(&self) -> DeliveryAttempt {
        let now = clock::now();
        let id = format!("evt_test{:016x}", rand::random::<u64>());
        let message = Message::test(id, now, "If you can read this, tidings can reach this sink.");
        let outcome = self.target.test(&message, now).await;
        if outcome.error.is_none() {
            self.backlog().works();
            self.reset();
        }
        attempt_record(&outcome, now)
    }

    fn backlog(&self) -> MutexGuard<'_, Backlog> {
        self.backlog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stats(&self) -> MutexGuard<'_, SinkStats> {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
