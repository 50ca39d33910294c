//! One task a source: it asks the schedule what is due, and has it polled or fetched.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    select,
    sync::Notify,
    task::{Id, JoinError, JoinSet},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    model::job::{EventType, JobId, Outcome},
    routing::Routing,
    schedule::{HealthState, Next, Schedule, SourceSign, Stamps, Task},
    store::{Store, Watch, WatchStage},
    telemetry::{SpanKind, TraceSpan, number, text},
    upstream::{Failure, NO_STATUS, Source},
    util::{clock, due_queue::wait_until, process, waiters::Waiters},
    watcher::{fetch, poll, status_cache::StatusCache},
};

use super::{
    failure::{Decision, JobStep, decide, row_kind},
    flight::{Flight, Flights},
    metrics::SourceMetrics,
};

/// How often a refused key is looked at again.
const KEY_CHECK: Duration = Duration::from_millis(500);

/// Failures of a job in a row at which the log says so, once.
const KEEPS_FAILING: u32 = 5;

/// How soon a slow request is looked for again, when none could be cut.
const CUT_AGAIN: Duration = Duration::from_millis(250);

/// A source with its open watches.
pub struct SourceState {
    /// The client.
    pub source: Source,
    /// Where everything is recorded.
    pub store: Store,
    /// Which sinks an event goes to.
    pub routing: Arc<Routing>,
    /// What is counted.
    pub metrics: Arc<SourceMetrics>,
    /// The last looks, for the proxy.
    pub status_cache: StatusCache,
    /// Who waits for the next look at a job.
    pub polled: Waiters,
    schedule: Mutex<Schedule>,
    /// It was said that most jobs are missing.
    many_missing: AtomicBool,
    wake: Notify,
    unknown: Mutex<std::collections::BTreeSet<String>>,
    last_error: Mutex<Option<String>>,
}

/// What a task means for its watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Carry it out again after a while.
    Again,
    /// The record moved on, and the store has told what is next.
    Moved,
}

impl SourceState {
    /// A state with an empty schedule.
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
            many_missing: AtomicBool::new(false),
            source,
            store,
            routing,
            metrics,
            wake: Notify::new(),
            unknown: Mutex::default(),
            last_error: Mutex::default(),
        }
    }

    /// The schedule; hold it briefly.
    pub fn schedule(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes on from what another state of the same source knows: what was learned, how the source is, what of its budget
    /// is left. Its watches are not among it.
    pub fn inherit(&self, before: &Self) {
        self.schedule().inherit(&mut before.schedule());
    }

    /// Takes in a watch that is to be followed.
    pub fn add(&self, watch: &Watch) {
        let moment = clock::moment();
        let stamps = Stamps::steady(watch, &clock::timeline(), moment);
        self.schedule().add_stamped(watch, stamps, Instant::now(), moment.steady);
        self.wake.notify_one();
    }

    /// Lets a watch go.
    pub fn remove(&self, number: u64) {
        self.schedule().remove(number);
    }

    /// Makes a look due now. `false` when the watch is not being polled.
    pub fn poll_now(&self, number: u64) -> bool {
        let polled = self.schedule().poll_now(number, Instant::now());
        self.wake.notify_one();
        polled
    }

    /// The machine slept: what was to be done meanwhile is due, and what was seen before is old.
    pub fn slept(&self, by: Duration) {
        self.status_cache.clear();
        self.schedule().slept(by, Instant::now());
        self.wake.notify_one();
    }

    /// Makes the next request for a watch due now, also while its source is paused.
    pub fn request_now(&self, number: u64) {
        self.schedule().request_now(number, Instant::now());
        self.wake.notify_one();
    }

    /// Whether the last request for a job failed.
    pub(crate) fn has_failed(&self, number: u64) -> bool {
        self.schedule().entry(number).is_some_and(|(entry, _)| entry.failures.is_some())
    }

    /// What went wrong last at the source.
    #[must_use]
    pub fn last_error(&self) -> Option<String> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Follows until `stop`, then waits for what is under way.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut tasks = JoinSet::new();
        let mut flights = Flights::default();
        while !stop.is_cancelled() {
            let next = self.schedule().next(Instant::now(), clock::steady());
            let until = match next {
                Next::Run(number) => {
                    self.start(number, &mut tasks, &mut flights);
                    continue;
                }
                Next::Cut if self.cut(&mut flights) => continue,
                Next::Cut => Some(Instant::now() + CUT_AGAIN),
                Next::Yield => {
                    tokio::task::yield_now().await;
                    continue;
                }
                Next::Wait(until) => until,
            };
            select! {
                () = wait_until(self.key_check(until)) => self.look_at_key(),
                () = self.wake.notified() => {}
                Some(done) = tasks.join_next_with_id() => self.finish(done, &mut flights),
                () = stop.cancelled() => {}
            }
        }
        // A poll that is cut short costs nothing; a job that is being stored is worth the wait.
        flights.abort_polls();
        while let Some(done) = tasks.join_next_with_id().await {
            self.finish(done, &mut flights);
        }
    }

    fn start(self: &Arc<Self>, number: u64, tasks: &mut JoinSet<Step>, flights: &mut Flights) {
        let task = self.schedule().entry(number).map(|(entry, _)| entry.task);
        let Some(task) = task else {
            return self.schedule().done(number, Task::Poll, false, Instant::now(), clock::steady(), 0.0);
        };
        let (state, flight) = (Arc::clone(self), Flight::new(number));
        let own = flight.clone();
        let handle = tasks.spawn(async move {
            match task {
                Task::Poll => poll::poll(&state, &own).await,
                Task::Fetch => fetch::fetch(&state, &own).await,
            }
        });
        flights.add(flight, task, handle);
    }

    /// Ends a task. A panic in one job's work is that job's failure, not the end of the others.
    fn finish(&self, done: Result<(Id, Step), JoinError>, flights: &mut Flights) {
        let (id, step) = match done {
            Ok((id, step)) => (id, step),
            Err(error) => {
                if error.is_panic() {
                    self.metrics.panics.inc();
                    if let Some(flight) = flights.get(error.id()) {
                        self.own_failure(flight, "its work panicked; the log has the details".to_owned());
                    }
                }
                (error.id(), Step::Again)
            }
        };
        let Some((number, task)) = flights.remove(id) else { return };
        self.done(number, task, step);
    }

    fn done(&self, number: u64, task: Task, step: Step) {
        let again = step == Step::Again;
        let now = Instant::now();
        let mut schedule = self.schedule();
        schedule.pay(self.source.take_unpaid(), now);
        schedule.done(number, task, again, now, clock::steady(), rand::random());
    }

    /// Cuts the slowest request, so that another job gets its place. `false` when none is slow enough.
    fn cut(&self, flights: &mut Flights) -> bool {
        let Some((flight, task)) = flights.cut_slowest(Instant::now()) else { return false };
        let name = &self.source.name;
        tracing::debug!(source = name, number = flight.number, "slow request cut in favour of another job");
        self.own_failure(&flight, "the answer came too slowly while other jobs waited".to_owned());
        self.done(flight.number, task, Step::Again);
        true
    }

    /// A refused key may have been replaced: look before the pause is over.
    fn key_check(&self, until: Option<Instant>) -> Option<Instant> {
        let refused = self.schedule().health.state() == HealthState::Unauthorized;
        let check = refused.then(|| Instant::now() + KEY_CHECK);
        match (until, check) {
            (Some(until), Some(check)) => Some(until.min(check)),
            (until, check) => until.or(check),
        }
    }

    fn look_at_key(&self) {
        if self.schedule().health.state() == HealthState::Unauthorized && self.source.key_changed() {
            tracing::info!(source = self.source.name, "the key changed; the source is asked again");
            self.schedule().health.try_again();
        }
    }

    /// Waits for a further token of the budget.
    pub(crate) async fn token(&self) {
        loop {
            let taken = self.schedule().take_token(Instant::now());
            match taken {
                Ok(()) => return,
                Err(at) => sleep_until(at).await,
            }
        }
    }

    /// Records that the source answered about a job.
    pub(crate) fn answered(&self, flight: &Flight) {
        let mut schedule = self.schedule();
        let before = schedule.health.state();
        schedule.record_answer(flight.request());
        if schedule.missing() == 0 {
            self.many_missing.store(false, Ordering::Relaxed);
        }
        self.log_change(before, schedule.health.state());
    }

    /// Records a failure of this job alone, of which its source is no part. Returns how many there were in a row.
    pub(crate) fn own_failure(&self, flight: &Flight, error: String) -> u32 {
        let mut schedule = self.schedule();
        let failure = Failure::Transient(error);
        let Some(point) = schedule.standpoint(flight.request(), row_kind(&failure), clock::steady()) else {
            return 0;
        };
        let mut history = point.history;
        (history.last_error, history.is_own) = (failure.to_string(), true);
        let count = history.count;
        schedule.record_failure(flight.number, history);
        count
    }

    /// Records a failed request: what it means for its job and for the source.
    pub(crate) async fn failed(&self, flight: &Flight, job_id: &JobId, failure: &Failure) -> Step {
        let name = &self.source.name;
        tracing::debug!(source = name, %job_id, error = %failure, "request failed");
        let Some((step, failures)) = self.record_failure(flight, failure) else { return Step::Moved };
        if failures == KEEPS_FAILING {
            tracing::warn!(source = name, %job_id, error = %failure, failures, "job keeps failing; other jobs go on");
        }
        let JobStep::Lost(reason) = step else { return Step::Again };
        self.give_up(flight.number, &reason).await;
        Step::Moved
    }

    /// Judges a failure and records what it means. Returns that, and how many failures of its own the job has in a row;
    /// `None` when the watch is gone.
    fn record_failure(&self, flight: &Flight, failure: &Failure) -> Option<(JobStep, u32)> {
        let (request, kind) = (flight.request(), row_kind(failure));
        let mut schedule = self.schedule();
        let mut point = schedule.standpoint(request, kind, clock::steady())?;
        let before = schedule.health.state();
        let grace = self.source.config.not_found_grace.map(|grace| grace.0);
        let Decision { job: step, source: sign } = decide(failure, &point, grace, request.now);
        let limited_at = matches!(failure, Failure::RateLimited { .. }).then_some(request.now);
        let failures = if step == JobStep::Blameless { 0 } else { point.history.count };
        if kind.is_missing() && point.are_many_missing() && !self.many_missing.swap(true, Ordering::Relaxed) {
            let (source, missing) = (&self.source.name, point.missing);
            tracing::warn!(source, missing, "most jobs are missing at once; none is lost meanwhile");
        }
        match &step {
            JobStep::Retry { asked, longest } => {
                let history = &mut point.history;
                (history.asked, history.longest, history.limited_at) = (*asked, *longest, limited_at);
                (history.last_error, history.is_own) = (failure.to_string(), true);
                schedule.record_failure(request.number, point.history);
            }
            JobStep::Blameless => {
                schedule.record_blameless(request.number, failure.to_string(), limited_at, request.now);
            }
            JobStep::Lost(_) => {}
        }
        let pause = schedule.record_sign(request, sign, rand::random());
        if !matches!(sign, SourceSign::Well | SourceSign::OwnLimit | SourceSign::Silent) {
            *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure.to_string());
        }
        let state = schedule.health.state();
        if let Some(pause) = pause.filter(|_| before != state) {
            let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
            tracing::warn!(source = self.source.name, error = %failure, pause_ms, "source is {}", state.as_str());
        }
        self.log_change(before, state);
        Some((step, failures))
    }

    fn log_change(&self, before: HealthState, after: HealthState) {
        if before != HealthState::Ok && after == HealthState::Ok {
            tracing::info!(source = self.source.name, "source answers again");
        }
    }

    /// The sinks for an event, decided with the record that is being written.
    pub(crate) fn route(&self) -> impl Fn(&Watch, EventType) -> Vec<String> + Clone + Send + use<> {
        let router = self.routing.router();
        move |watch, event| router.sinks(watch, event)
    }

    /// Counts an event that was made.
    pub(crate) fn count(&self, event: EventType) {
        self.metrics.events.with_label_values(&[self.source.name.as_str(), event.word()]).inc();
    }

    /// Records the span of a job: from its registration to its event.
    pub(crate) fn record(&self, watch: &Watch, outcome: Outcome, polls: u64) {
        self.metrics.spans.record(&watch.trace(), SpanKind::Internal, || TraceSpan {
            name: "job",
            id: None,
            start: watch.registered_at,
            end: clock::now(),
            attributes: vec![
                ("tidings.source", text(&watch.source)),
                ("tidings.job_id", text(watch.job_id.as_str())),
                ("tidings.outcome", text(outcome.as_str())),
                ("tidings.polls", number(polls)),
            ],
            error: (outcome == Outcome::Lost).then(|| "lost".to_owned()),
        });
    }

    /// Gives a job up: its event says that it is lost, and why.
    pub(crate) async fn give_up(&self, number: u64, reason: &str) {
        let polls = self.schedule().entry(number).map_or(0, |(entry, _)| entry.polls);
        self.store.lose(number, reason, polls, self.route(), clock::now()).await;
        if let Ok(Some(watch)) = self.store.watch(number)
            && watch.stage == WatchStage::Finished
        {
            self.count(EventType::Ended(Outcome::Lost));
            self.record(&watch, Outcome::Lost, polls);
            tracing::warn!(source = self.source.name, job_id = %watch.job_id, reason, "the job is lost");
        }
    }

    /// Warns once about a status word that nobody knows, or a body in which no status is found.
    pub(crate) fn warn_unknown(&self, status: &str, job_id: &JobId) {
        /// A source that makes up words must not fill the memory.
        const MAX_WORDS: usize = 100;
        let mut unknown = self.unknown.lock().unwrap_or_else(PoisonError::into_inner);
        if unknown.len() < MAX_WORDS && unknown.insert(status.to_owned()) {
            let source = &self.source.name;
            if status == NO_STATUS {
                let looked_at = self.source.profile.status_at.join(" ");
                return tracing::warn!(
                    source, %job_id, looked_at, "the answer has no status where it is looked for, so the job counts as not \
                    finished; `tidings source test {source} {job_id}` shows what came"
                );
            }
            tracing::warn!(source, %job_id, status, "an unknown status; it counts as not finished");
        }
    }
}
