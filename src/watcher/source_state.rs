//! What the steps of one source share: its client, the store, the schedule and the counters.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicBool},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::{SourceMetrics, status_cache::StatusCache};
use crate::{
    model::job::JobId,
    routing::Routing,
    schedule::{Schedule, Stamps},
    store::{Store, Watch},
    upstream::{NO_STATUS, Source},
    util::{clock, process, waiters::Waiters},
};

/// A source with its open watches.
pub struct SourceState {
    /// The client of the source.
    pub source: Source,
    /// The store that records every step.
    pub store: Store,
    /// The routes of events to sinks.
    pub routing: Arc<Routing>,
    /// The counters of all sources.
    pub metrics: Arc<SourceMetrics>,
    /// The last status bodies, for the proxy.
    pub status_cache: StatusCache,
    /// Callers that wait for the next poll of a job.
    pub polled: Waiters,
    schedule: Mutex<Schedule>,
    /// The log already says that most jobs are missing.
    pub(super) most_missing: AtomicBool,
    wake: Notify,
    /// Unknown status words that the log has named.
    unknown: Mutex<BTreeSet<String>>,
    last_error: Mutex<Option<String>>,
}

impl SourceState {
    /// Creates the state of a source, with an empty schedule.
    #[must_use]
    pub fn new(mut source: Source, store: Store, routing: Arc<Routing>, metrics: Arc<SourceMetrics>) -> Self {
        source.requests = metrics.requests.with_label_values(&[source.name.as_str()]);
        let config = &source.config;
        let (rate, max) = (config.max_requests_per_second, process::in_flight(config.max_in_flight));
        let schedule = Schedule::new(&config.polling, rate, max, Instant::now());
        Self {
            status_cache: StatusCache::new(config.proxy.max_age.0),
            polled: Waiters::default(),
            schedule: Mutex::new(schedule),
            most_missing: AtomicBool::new(false),
            source,
            store,
            routing,
            metrics,
            wake: Notify::new(),
            unknown: Mutex::default(),
            last_error: Mutex::default(),
        }
    }

    /// Locks the schedule. Hold the lock briefly.
    pub fn schedule(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over from the previous state of the same source: the learned model, the health and the
    /// rest of the request budget. The watches are not among it.
    pub fn inherit(&self, before: &Self) {
        self.schedule().inherit(&mut before.schedule());
    }

    /// Schedules `watch`, or updates what the schedule knows of it.
    pub fn add(&self, watch: &Watch) {
        let moment = clock::moment();
        let stamps = Stamps::steady(watch, &clock::timeline(), moment);
        self.schedule().add_stamped(watch, stamps, Instant::now(), moment.steady);
        self.wake.notify_one();
    }

    /// Schedules `watch` unless the schedule has it. The task learns of it by [`wake`](Self::wake).
    pub fn load(&self, watch: &Watch) {
        let moment = clock::moment();
        let stamps = Stamps::steady(watch, &clock::timeline(), moment);
        let mut schedule = self.schedule();
        if schedule.entry(watch.number).is_none() {
            schedule.add_stamped(watch, stamps, Instant::now(), moment.steady);
        }
    }

    /// Wakes the task, so that it asks the schedule again.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Removes a watch from the schedule.
    pub fn remove(&self, number: u64) {
        self.schedule().remove(number);
    }

    /// Makes a poll due now. Returns `false` if the watch is not being polled.
    pub fn poll_now(&self, number: u64) -> bool {
        let is_polled = self.schedule().poll_now(number, Instant::now());
        self.wake.notify_one();
        is_polled
    }

    /// Makes the next request for a watch due now, even if its source is paused.
    pub fn request_now(&self, number: u64) {
        self.schedule().request_now(number, Instant::now());
        self.wake.notify_one();
    }

    /// Makes due what the machine slept through, and drops the cached statuses, which are older
    /// than they seem.
    pub fn slept(&self, by: Duration) {
        self.status_cache.clear();
        self.schedule().slept(by, Instant::now());
        self.wake.notify_one();
    }

    /// Waits until a caller changed the schedule.
    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Waits for a token of the request budget, for a further request of a running task.
    pub(super) async fn take_token(&self) {
        loop {
            let taken = self.schedule().take_token(Instant::now());
            match taken {
                Ok(()) => return,
                Err(at) => sleep_until(at).await,
            }
        }
    }

    /// Returns the last error of the source.
    #[must_use]
    pub fn last_error(&self) -> Option<String> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_last_error(&self, error: String) {
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    /// Warns once of each unknown status word, and of a body without a status.
    pub(super) fn warn_unknown_status(&self, status: &str, job_id: &JobId) {
        /// Bounds the memory that a source can fill with words of its own.
        const MAX_WORDS: usize = 100;
        let mut unknown = self.unknown.lock().unwrap_or_else(PoisonError::into_inner);
        if unknown.len() == MAX_WORDS || !unknown.insert(status.to_owned()) {
            return;
        }
        let source = &self.source.name;
        if status == NO_STATUS {
            let status_at = self.source.profile.status_at.join(" ");
            return tracing::warn!(
                source, %job_id, status_at, "answer without a status; the job counts as not finished; \
                `tidings source test {source} {job_id}` shows the answer"
            );
        }
        tracing::warn!(source, %job_id, status, "unknown status; it counts as not finished");
    }
}
