//! The task of one source: it asks the schedule for the next request, runs it, and records what it
//! means for the schedule.

use std::{sync::Arc, time::Duration};

use tokio::{
    select,
    task::{Id, JoinError, JoinSet},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    SourceState, fetch,
    in_flight::{InFlight, InFlightRequests},
    lists, poll,
};
use crate::{
    schedule::{HealthState, ListUse, Next, Task},
    util::{clock, due_queue::wait_until},
};

/// How often a refused key is compared with its file.
const KEY_CHECK: Duration = Duration::from_millis(500);

/// How soon the task checks again for a slow request, if it could cut none.
const CUT_AGAIN: Duration = Duration::from_millis(250);

/// What a finished poll or fetch means for its watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskResult {
    /// The schedule repeats the task later.
    Repeat,
    /// The record changed, and the store has told the schedule what is next.
    Advanced,
}

/// The task of one source. It polls and fetches until it is stopped.
pub struct SourceTask {
    state: Arc<SourceState>,
    running: JoinSet<TaskResult>,
    in_flight: InFlightRequests,
    /// Pages of the source's list that answer polls.
    pages: JoinSet<()>,
}

impl SourceTask {
    /// Creates the task. It does nothing before [`run`](Self::run).
    #[must_use]
    pub fn new(state: Arc<SourceState>) -> Self {
        Self { state, running: JoinSet::new(), in_flight: InFlightRequests::default(), pages: JoinSet::new() }
    }

    /// Polls and fetches until `stop`, then waits for the fetches in flight.
    pub async fn run(mut self, stop: CancellationToken) {
        let lists = tokio::spawn(lists::run(Arc::clone(&self.state), stop.clone()));
        let term = self.state.source.term().clone();
        while stop.run_until_cancelled(term.holds()).await.is_some() {
            let next = self.state.schedule().next(Instant::now(), clock::steady());
            let until = match next {
                Next::Run(number) => {
                    self.start(number);
                    continue;
                }
                Next::List(list) => {
                    self.start_list(list);
                    continue;
                }
                Next::Cut if self.cut_slowest() => continue,
                Next::Cut => Some(Instant::now() + CUT_AGAIN),
                Next::Yield => {
                    tokio::task::yield_now().await;
                    continue;
                }
                Next::Wait(until) => until,
            };
            select! {
                () = wait_until(self.next_key_check(until)) => self.check_key(),
                () = self.state.woken() => {}
                Some(done) = self.running.join_next_with_id() => self.finish(done),
                Some(done) = self.pages.join_next() => self.finish_list(&done),
                () = stop.cancelled() => {}
            }
        }
        self.state.retire();
        // Aborting a poll costs nothing. A fetch has a job on its way to the disk, so the task
        // waits for it.
        self.in_flight.abort_polls();
        self.pages.abort_all();
        while let Some(done) = self.running.join_next_with_id().await {
            self.finish(done);
        }
        // It ends at once: `run` of the lists catches its panics.
        let _ = lists.await;
    }

    fn start_list(&mut self, list: ListUse) {
        match list {
            ListUse::Asked => self.state.lists.grant(),
            ListUse::Polls(kind) => {
                let state = Arc::clone(&self.state);
                self.pages.spawn(async move { lists::answer_polls(&state, kind).await });
            }
        }
    }

    /// Records the end of a page that answers polls. After a panic it answered none.
    fn finish_list(&self, done: &Result<(), JoinError>) {
        if done.as_ref().is_err_and(JoinError::is_panic) {
            self.state.metrics.panics.inc();
            let mut schedule = self.state.schedule();
            schedule.lists_panicked(Instant::now());
        }
    }

    fn start(&mut self, number: u64) {
        let task = self.state.schedule().entry(number).map(|(entry, _)| entry.task);
        let Some(task) = task else {
            let mut schedule = self.state.schedule();
            return schedule.done(number, Task::Poll, false, Instant::now(), clock::steady(), 0.0);
        };
        let (state, request) = (Arc::clone(&self.state), InFlight::new(number));
        let own = request.clone();
        let handle = self.running.spawn(async move {
            match task {
                Task::Poll => poll::poll(&state, &own).await,
                Task::Fetch => fetch::fetch(&state, &own).await,
            }
        });
        self.in_flight.add(request, task, handle);
    }

    /// Records the end of a poll or fetch. A panic counts as a failure of that job alone.
    fn finish(&mut self, done: Result<(Id, TaskResult), JoinError>) {
        let (id, result) = match done {
            Ok((id, result)) => (id, result),
            Err(error) => {
                if error.is_panic() {
                    self.state.metrics.panics.inc();
                    if let Some(request) = self.in_flight.get(error.id()) {
                        let error = "its task panicked; the log has the details".to_owned();
                        self.state.record_own_failure(request, error);
                    }
                }
                (error.id(), TaskResult::Repeat)
            }
        };
        if let Some((number, task)) = self.in_flight.remove(id) {
            self.done(number, task, result);
        }
    }

    fn done(&self, number: u64, task: Task, result: TaskResult) {
        let (repeat, now) = (result == TaskResult::Repeat, Instant::now());
        let mut schedule = self.state.schedule();
        schedule.pay(self.state.source.take_unpaid(), now);
        schedule.done(number, task, repeat, now, clock::steady(), rand::random());
    }

    /// Cuts the slowest request, so that another job gets its place. Returns `false` if none is
    /// slow enough.
    fn cut_slowest(&mut self) -> bool {
        let Some((request, task)) = self.in_flight.cut_slowest(Instant::now()) else { return false };
        let source = &self.state.source.name;
        tracing::debug!(source, number = request.number, "slow request cut in favour of another job");
        let error = "the answer came too slowly while other jobs waited".to_owned();
        self.state.record_own_failure(&request, error);
        self.done(request.number, task, TaskResult::Repeat);
        true
    }

    /// Returns when to wake up: at `until`, or sooner if the source refuses the key, which may be
    /// replaced at any time.
    fn next_key_check(&self, until: Option<Instant>) -> Option<Instant> {
        let check = self.is_key_refused().then(|| Instant::now() + KEY_CHECK);
        until.into_iter().chain(check).min()
    }

    fn check_key(&self) {
        if self.is_key_refused() && self.state.source.key_changed() {
            tracing::info!(source = self.state.source.name, "key changed; polling again");
            self.state.schedule().try_again();
        }
    }

    fn is_key_refused(&self) -> bool {
        self.state.schedule().state() == HealthState::Unauthorized
    }
}
