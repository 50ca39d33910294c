//! One task a source: it asks the schedule what is due, and has it polled or fetched.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    select,
    sync::Notify,
    task::{AbortHandle, Id, JoinError, JoinSet},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    clock,
    due_queue::wait_until,
    fanout::Routing,
    fetch,
    job::{EventType, JobId, Outcome},
    poll,
    recent::Recent,
    schedule::{Next, Schedule, Stamps, State, Task},
    store::{Stage, Store, Watch},
    telemetry::{Metrics, Span, SpanKind, number, text},
    upstream::{Failure, NO_STATUS, Source},
    waiters::Waiters,
};

/// 404 answers in a row after which a job is lost, once its grace is over. Retab's own waiter gives up at the
/// third; a job can take a moment to be known, so one more is waited for.
const MAX_NOT_FOUND: u32 = 4;

/// Other 4xx answers in a row after which a job is lost.
const MAX_REJECTED: u32 = 10;

/// How often a refused key is looked at again.
const KEY_CHECK: Duration = Duration::from_millis(500);

/// A source with its open watches.
pub struct Follower {
    /// The client.
    pub source: Source,
    /// Where everything is recorded.
    pub store: Store,
    /// Which sinks an event goes to.
    pub routing: Arc<Routing>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The last looks, for the proxy.
    pub recent: Recent,
    /// Who waits for the next look at a job.
    pub looked: Waiters,
    schedule: Mutex<Schedule>,
    wake: Notify,
    unknown: Mutex<std::collections::BTreeSet<String>>,
    last_error: Mutex<Option<String>>,
}

/// A task under way.
struct Run {
    number: u64,
    task: Task,
    handle: AbortHandle,
}

/// What a task means for its watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Carry it out again after a while.
    Again,
    /// The record moved on, and the store has told what is next.
    Moved,
}

impl Follower {
    /// A follower with an empty schedule.
    #[must_use]
    pub fn new(mut source: Source, store: Store, routing: Arc<Routing>, metrics: Arc<Metrics>) -> Self {
        metrics.begin_source(&source.name);
        source.requests = metrics.sources.requests.with_label_values(&[source.name.as_str()]);
        let config = &source.config;
        let (rate, max) = (config.max_requests_per_second, config.max_in_flight);
        let schedule = Schedule::new(&config.polling, rate, max, Instant::now());
        Self {
            recent: Recent::new(config.proxy.max_age.0),
            looked: Waiters::default(),
            schedule: Mutex::new(schedule),
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

    /// Goes on from what another follower of the same source knows: what was learned, how the source is, what of its budget
    /// is left. Its watches are not among it.
    pub fn inherit(&self, before: &Self) {
        self.schedule().inherit(&mut before.schedule());
    }

    /// Takes in a watch that is to be followed.
    pub fn follow(&self, watch: &Watch) {
        let moment = clock::moment();
        let stamps = Stamps::steady(watch, &clock::timeline(), moment);
        self.schedule().follow_stamped(watch, stamps, Instant::now(), moment.steady);
        self.wake.notify_one();
    }

    /// Lets a watch go.
    pub fn unfollow(&self, number: u64) {
        self.schedule().unfollow(number);
    }

    /// Makes a look due now. `false` when the watch is not being polled.
    pub fn look_now(&self, number: u64) -> bool {
        let polled = self.schedule().look_now(number, Instant::now());
        self.wake.notify_one();
        polled
    }

    /// The machine slept: what was to be done meanwhile is due, and what was seen before is old.
    pub fn slept(&self, by: Duration) {
        self.recent.clear();
        self.schedule().slept(by, Instant::now());
        self.wake.notify_one();
    }

    /// What went wrong last at the source.
    #[must_use]
    pub fn last_error(&self) -> Option<String> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Follows until `stop`, then waits for what is under way.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut tasks = JoinSet::new();
        let mut running: HashMap<Id, Run> = HashMap::new();
        while !stop.is_cancelled() {
            let next = self.schedule().next(Instant::now(), clock::steady());
            let until = match next {
                Next::Run(number) => {
                    self.start(number, &mut tasks, &mut running);
                    continue;
                }
                Next::Overdue(number) => {
                    let follower = Arc::clone(&self);
                    tasks.spawn(async move {
                        follower.give_up(number, "the deadline passed before the source answered").await;
                        Step::Moved
                    });
                    continue;
                }
                Next::Yield => {
                    tokio::task::yield_now().await;
                    continue;
                }
                Next::Wait(until) => until,
            };
            select! {
                () = wait_until(self.key_check(until)) => self.look_at_key(),
                () = self.wake.notified() => {}
                Some(done) = tasks.join_next_with_id() => self.finish(done, &mut running),
                () = stop.cancelled() => {}
            }
        }
        // A look that is cut short costs nothing; a job that is being stored is worth the wait.
        running.values().filter(|run| run.task == Task::Poll).for_each(|run| run.handle.abort());
        while let Some(done) = tasks.join_next_with_id().await {
            self.finish(done, &mut running);
        }
    }

    fn start(self: &Arc<Self>, number: u64, tasks: &mut JoinSet<Step>, running: &mut HashMap<Id, Run>) {
        let task = self.schedule().entry(number).map(|(entry, _)| entry.task);
        let Some(task) = task else {
            return self.schedule().done(number, Task::Poll, false, Instant::now(), clock::steady(), 0.0);
        };
        let follower = Arc::clone(self);
        let handle = tasks.spawn(async move {
            match task {
                Task::Poll => poll::poll(&follower, number).await,
                Task::Fetch => fetch::fetch(&follower, number).await,
            }
        });
        running.insert(handle.id(), Run { number, task, handle });
    }

    /// Ends a task. A panic in one job's work is that job's failure, not the end of the others.
    fn finish(&self, done: Result<(Id, Step), JoinError>, running: &mut HashMap<Id, Run>) {
        let (id, step) = match done {
            Ok((id, step)) => (id, step),
            Err(error) => {
                if error.is_panic() {
                    self.metrics.panics.inc();
                }
                (error.id(), Step::Again)
            }
        };
        let Some(Run { number, task, .. }) = running.remove(&id) else { return };
        let again = step == Step::Again;
        let now = Instant::now();
        let mut schedule = self.schedule();
        schedule.pay(self.source.take_unpaid(), now);
        schedule.done(number, task, again, now, clock::steady(), rand::random());
    }

    /// A refused key may have been replaced: look before the pause is over.
    fn key_check(&self, until: Option<Instant>) -> Option<Instant> {
        let refused = self.schedule().health.state() == State::Unauthorized;
        let check = refused.then(|| Instant::now() + KEY_CHECK);
        match (until, check) {
            (Some(until), Some(check)) => Some(until.min(check)),
            (until, check) => until.or(check),
        }
    }

    fn look_at_key(&self) {
        if self.schedule().health.state() == State::Unauthorized && self.source.key_changed() {
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

    /// Takes note that the source answered about a job.
    pub(crate) fn answered(&self, number: u64) {
        let mut schedule = self.schedule();
        let before = schedule.health.state();
        schedule.health.answered(Instant::now());
        if before != State::Ok && schedule.health.state() == State::Ok {
            tracing::info!(source = self.source.name, "the source answers again");
        }
        if let Some(entry) = schedule.entry_mut(number) {
            entry.trouble = None;
        }
    }

    /// Takes note of a failure: what it means for the source, and whether the job is lost by it.
    pub(crate) async fn failed(&self, number: u64, job_id: &JobId, failure: &Failure, epoch: u64) -> Step {
        tracing::debug!(source = self.source.name, %job_id, error = %failure, "a request failed");
        let reason = {
            let mut schedule = self.schedule();
            self.note_source(&mut schedule, failure, epoch);
            let Some(entry) = schedule.entry_mut(number) else { return Step::Moved };
            let wall = clock::steady();
            let grace = wall >= entry.registered_at.after(self.source.config.not_found_grace.0);
            let deadline = entry.deadline;
            let trouble = entry.trouble.get_or_insert_default();
            trouble.last_error = failure.to_string();
            (trouble.not_found, trouble.rejected) = match failure {
                Failure::NotFound => (trouble.not_found + 1, 0),
                Failure::Rejected(_) | Failure::Refused(_) => (0, trouble.rejected + 1),
                _ => (0, 0),
            };
            match failure {
                Failure::NotFound if trouble.not_found >= MAX_NOT_FOUND && grace => {
                    Some(format!("{failure} (the {}th time in a row)", trouble.not_found))
                }
                Failure::Rejected(_) | Failure::Refused(_) if trouble.rejected >= MAX_REJECTED => {
                    Some(format!("{failure} (the {}th time in a row)", trouble.rejected))
                }
                Failure::TooLarge(_) => Some(failure.to_string()),
                _ if wall >= deadline => Some(format!("the deadline passed; last, {failure}")),
                _ => None,
            }
        };
        let Some(reason) = reason else { return Step::Again };
        self.give_up(number, &reason).await;
        Step::Moved
    }

    fn note_source(&self, schedule: &mut Schedule, failure: &Failure, epoch: u64) {
        let (state, asked) = match failure {
            Failure::Unauthorized(_) => (State::Unauthorized, None),
            Failure::Limited { retry_after, .. } => (State::Limited, *retry_after),
            Failure::Trouble(_) => (State::Failing, None),
            Failure::NotFound
            | Failure::Rejected(_)
            | Failure::Refused(_)
            | Failure::JobFailed(_)
            | Failure::TooLarge(_) => {
                return schedule.health.answered(Instant::now());
            }
        };
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure.to_string());
        let before = schedule.health.state();
        let limited = state == State::Limited && epoch == schedule.health.epoch();
        if limited {
            schedule.shrink_budget(Instant::now());
        }
        let pause = schedule.health.failed(state, asked, epoch, Instant::now(), rand::random());
        if before != state
            && let Some(pause) = pause
        {
            let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
            tracing::warn!(source = self.source.name, error = %failure, pause_ms, "the source is {}", state.as_str());
        }
    }

    /// The sinks for an event, decided with the record that is being written.
    pub(crate) fn route(&self) -> impl Fn(&Watch, EventType) -> Vec<String> + Clone + Send + use<> {
        let router = self.routing.router();
        move |watch, event| router.sinks(watch, event)
    }

    /// Counts an event that was made.
    pub(crate) fn count(&self, event: EventType) {
        self.metrics.sources.events.with_label_values(&[self.source.name.as_str(), event.word()]).inc();
    }

    /// Records the span of a job: from its registration to its event.
    pub(crate) fn record(&self, watch: &Watch, outcome: Outcome, polls: u64) {
        self.metrics.spans.record(&watch.trace(), SpanKind::Internal, || Span {
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
            && watch.stage == Stage::Ended
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
