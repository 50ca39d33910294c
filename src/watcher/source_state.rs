//! What the steps of one source share: its client, the store, the schedule and the counters.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicBool},
    time::Duration,
};

use tokio::{
    sync::{Notify, Semaphore},
    time::Instant,
};

use super::{
    Creations, SourceMetrics, hints::Hints, hooks::HookLog, lists::Lists, status_cache::StatusCache,
};
use crate::{
    model::status_answer::Hint,
    routing::Routing,
    schedule::{Claim, ListPolling, Schedule, SharedBudget, Stamps},
    store::{Store, Watch},
    upstream::{JobRef, ListProfile, NO_STATUS, Source},
    util::{clock, waiters::Waiters},
};

/// The answers to creations of one source that may wait for their id in memory.
const LATE_ANSWERS: usize = 4;

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
    /// The readings of its lists.
    pub lists: Lists,
    /// What came of the hooks of the source.
    pub hooks: HookLog,
    /// What asked for polls of late.
    pub(super) hints: Hints,
    /// Callers that wait for the next poll of a job.
    pub polled: Waiters,
    /// The request budget of the key, which other sources may share.
    pub budget: Arc<SharedBudget>,
    /// The creations that the proxy holds to the budget.
    pub creations: Creations,
    /// Places for answers to creations whose id comes late. They bound the memory.
    pub late_answers: Arc<Semaphore>,
    schedule: Mutex<Schedule>,
    /// The claim of further requests of running tasks, one after another.
    further: tokio::sync::Mutex<Claim>,
    /// That of the tasks which need many, or failed before.
    spare: tokio::sync::Mutex<Claim>,
    /// The log already says that most jobs are missing.
    pub(super) most_missing: AtomicBool,
    wake: Arc<Notify>,
    /// Unknown status words that the log has named.
    unknown: Mutex<BTreeSet<String>>,
    last_error: Mutex<Option<String>>,
}

impl SourceState {
    /// Creates the state of a source, with an empty schedule.
    #[must_use]
    pub fn new(
        mut source: Source,
        store: Store,
        routing: Arc<Routing>,
        metrics: Arc<SourceMetrics>,
        budget: &Arc<SharedBudget>,
    ) -> Self {
        source.requests = metrics.requests.with_label_values(&[source.name.as_str()]);
        let wake = Arc::new(Notify::new());
        let claim = Claim::new(budget, Arc::clone(&wake));
        let mut schedule = Schedule::with_claim(&source.config.polling, claim, Instant::now());
        let is_light = |list: &Arc<ListProfile>| !list.has_results;
        let lists = source.kinds().iter().map(|kind| kind.profile.list.as_ref().is_some_and(is_light));
        schedule.set_lists(lists, source.config.polling.list == ListPolling::Auto);
        schedule.expect_hooks(source.hooks.is_some());
        Self {
            hooks: HookLog::default(),
            hints: Hints::default(),
            status_cache: StatusCache::new(source.config.proxy.max_age.0),
            lists: Lists::default(),
            polled: Waiters::default(),
            budget: Arc::clone(budget),
            creations: Creations::new(budget),
            late_answers: Arc::new(Semaphore::new(LATE_ANSWERS)),
            schedule: Mutex::new(schedule),
            further: tokio::sync::Mutex::new(Claim::new(budget, Arc::default())),
            spare: tokio::sync::Mutex::new(Claim::new(budget, Arc::default())),
            most_missing: AtomicBool::new(false),
            source,
            store,
            routing,
            metrics,
            wake,
            unknown: Mutex::default(),
            last_error: Mutex::default(),
        }
    }

    /// Locks the schedule. Hold the lock briefly.
    pub fn schedule(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over from the previous state of the same source: the learned model, and what was used
    /// up of its request budget. The watches are not among it.
    pub fn inherit(&self, before: &Self) {
        self.schedule().inherit(&mut before.schedule());
        self.lists.inherit(&before.lists);
        self.hints.inherit(&before.hints);
        let now = Instant::now();
        if !Arc::ptr_eq(&self.budget, &before.budget) {
            self.budget.absorb(&before.budget, now);
        }
        self.budget.reconsider(now);
    }

    /// Asks for no more requests, because the task has ended.
    pub(super) fn retire(&self) {
        self.schedule().retire();
    }

    /// Schedules `watch`, or updates what the schedule knows of it.
    pub fn add(&self, watch: &Watch) {
        let moment = clock::moment();
        let stamps = Stamps::steady(watch, &clock::timeline(), moment);
        let mut schedule = self.schedule();
        schedule.uses_list(self.place_of_kind(watch));
        schedule.add_stamped(watch, stamps, Instant::now(), moment.steady);
        drop(schedule);
        self.wake.notify_one();
    }

    /// Schedules `watch` unless the schedule has it. The task learns of it by [`wake`](Self::wake).
    pub fn load(&self, watch: &Watch) {
        let moment = clock::moment();
        let stamps = Stamps::steady(watch, &clock::timeline(), moment);
        let mut schedule = self.schedule();
        if schedule.entry(watch.number).is_none() {
            schedule.uses_list(self.place_of_kind(watch));
            schedule.add_stamped(watch, stamps, Instant::now(), moment.steady);
        }
    }

    /// Returns the place of a watch's kind among those of its source.
    fn place_of_kind(&self, watch: &Watch) -> usize {
        let kind = super::job_of(watch).kind;
        self.source.kinds().iter().position(|known| kind.is_none() || known.name() == kind).unwrap_or(0)
    }

    /// Returns whether the list of a kind can be read; of the default kind without a name.
    ///
    /// # Errors
    /// A message that names the keys that are missing.
    pub fn check_list(&self, kind: Option<&str>) -> Result<(), String> {
        super::lists::list_of(self, kind).map(drop)
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
        if self.schedule().request_now(number, Instant::now()) {
            self.note_hint(number, Hint::Caller);
        }
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
        self.further.lock().await.take().await;
    }

    /// Waits for a token that nobody else needs, or one in a few. What a single job asks for then delays no other job.
    pub(super) async fn take_spare_token(&self) {
        self.spare.lock().await.take_spare().await;
    }

    /// Returns the last error of the source. While the key is limited or refused, that is what any
    /// source of the budget was told.
    #[must_use]
    pub fn last_error(&self) -> Option<String> {
        let of_key = self.budget.last_error();
        of_key.or_else(|| self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    pub(super) fn set_last_error(&self, error: String) {
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    /// Warns once of each unknown status word, and of a body without a status.
    pub(super) fn warn_unknown_status(&self, status: &str, job: JobRef<'_>) {
        /// Bounds the memory that a source can fill with words of its own.
        const MAX_WORDS: usize = 100;
        let job_id = job.id;
        let mut unknown = self.unknown.lock().unwrap_or_else(PoisonError::into_inner);
        if unknown.len() == MAX_WORDS || !unknown.insert(status.to_owned()) {
            return;
        }
        let source = &self.source.name;
        if status == NO_STATUS {
            let status_at = self.source.kind_of(job).map(|kind| kind.profile.status_at.join(" "));
            let status_at = status_at.unwrap_or_default();
            return tracing::warn!(
                source, %job_id, status_at, "answer without a status; the job counts as not finished; \
                `tidings source test {source} {job_id}` shows the answer"
            );
        }
        tracing::warn!(source, %job_id, status, "unknown status; it counts as not finished");
    }
}
