//! What to do next for a source: which of its watches is due, whether its budget and its health allow a request.
//!
//! [`Schedule`] is a record with pure transitions: it takes the time and the randomness as arguments and does no
//! I/O. The task that drives it is in [`crate::watcher`].

mod config;
mod entries;
mod dispatch;
mod entry;
mod failing;
mod health;
mod history;
mod lanes;
pub mod learned;
mod learner;
mod next_poll;
mod policy;
mod polls;
mod pool;
mod summary;
mod sleep;
mod stamps;
mod watches;

#[cfg(test)]
mod tests;

use std::collections::{HashSet, VecDeque};

use tokio::time::Instant;

pub use config::{PollingConfig, Strategy};
pub use entry::{Entry, Task, Track};
pub use failing::{JobFacts, SourceFacts};
pub use health::{Health, HealthState, RequestTimes, SourceSign};
pub use history::{FailureHistory, FailureRow, FailureRowKind};
pub use lanes::SLOW;
pub use learner::{PendingCompletion, PollingStats};
pub use policy::{next_wait, resumed_wait};
pub use stamps::Stamps;
pub use summary::{CurveSummary, KindSummary};

use self::{
    entries::Entries,
    lanes::Lanes,
    learned::levels::Standing,
    learner::{Learner, waits},
    next_poll::{NEVER, stand},
    polls::Polls,
    pool::Pool,
};
use crate::{
    model::status_answer::StatusAnswer,
    util::{budget::Budget, due_queue::DueQueue, units::Time},
};

/// Watches that one call asks where they stand, at the most.
const MOST: usize = 1000;
/// Curves that one call builds, about: it stops when there were so many.
const MOST_CURVES: usize = 8;

/// What the driver is to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Carry out this watch's task, and tell [`Schedule::done`] afterwards.
    Run(u64),
    /// Cut the slowest request, if one is slow enough, so that another job gets its place. Then tell `done`.
    Cut,
    /// Let others have a turn, and ask again.
    Yield,
    /// Nothing is to be done before this time, or before somebody calls.
    Wait(Option<Instant>),
}

/// The open watches of one source.
#[derive(Debug)]
pub struct Schedule {
    config: PollingConfig,
    lanes: Lanes,
    entries: Entries,
    statuses: Pool<String>,
    polls: Polls,
    learner: Learner,
    fetches: DueQueue<u64>,
    /// Jobs whose last request failed, polls and fetches, by the time of the next.
    retries: DueQueue<u64>,
    /// Jobs that the source does not know, or no longer has, and may have had before.
    missing: HashSet<u64>,
    /// Jobs that somebody wants polled although the source is paused.
    forced: VecDeque<u64>,
    /// When the next of them may be.
    forced_from: Option<Instant>,
    /// Requests begun: lanes take turns by it.
    turn: usize,
    budget: Budget,
    /// How the source is doing.
    pub health: Health,
}

impl Schedule {
    /// An empty schedule.
    #[must_use]
    pub fn new(config: &PollingConfig, rate: f64, max_in_flight: usize, now: Instant) -> Self {
        Self {
            config: config.clone(),
            lanes: Lanes::new(max_in_flight),
            entries: Entries::default(),
            statuses: Pool::default(),
            polls: Polls::new(now),
            learner: Learner::new(config, now),
            fetches: DueQueue::default(),
            retries: DueQueue::default(),
            missing: HashSet::new(),
            forced: VecDeque::new(),
            forced_from: None,
            turn: 0,
            budget: Budget::new(rate, now),
            health: Health::new(config.longest_pause()),
        }
    }

    /// What is known of a watch, and when its next look is due.
    #[must_use]
    pub fn entry(&self, number: u64) -> Option<(&Entry, Option<Instant>)> {
        self.entries.get(number).map(|entry| (entry, entry.due))
    }

    /// The same for an entry that the driver changes.
    pub fn entry_mut(&mut self, number: u64) -> Option<&mut Entry> {
        self.entries.get_mut(number)
    }

    /// Takes note of the status that a look found. Whether it is news; `None` when the watch is gone.
    pub fn record_status(&mut self, number: u64, status: &str, at_work: bool) -> Option<bool> {
        let entry = self.entries.get_mut(number)?;
        let same = entry.status.as_ref().is_some_and(|known| **known == status) && entry.at_work == at_work;
        if !same {
            entry.status = Some(self.statuses.share(status.to_owned()));
            entry.at_work = at_work;
        }
        Some(!same)
    }

    /// How many watches wait for each task: polls, fetches.
    #[must_use]
    pub fn open(&self) -> (usize, usize) {
        let fetching = self.entries.fetching();
        (self.entries.len() - fetching, fetching)
    }

    /// Requests in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.lanes.len()
    }

    /// Brings the queue up to now, in bounded time. Whether something is left to do.
    fn advance(&mut self, now: Instant, wall: Time) -> bool {
        let Self { polls, learner, entries, .. } = self;
        let enough = learner.model.rebuilt() + MOST_CURVES;
        let start = polls.tick(now);
        for _ in 0..MOST {
            let more = polls.advance(now, 1, |number| {
                let Some(entry) = entries.get_mut(number) else { return waits(NEVER) };
                let (level, wait) = stand(learner, number, entry, now, wall);
                Standing { level, until: start.saturating_add(wait) }
            });
            if !more || learner.model.rebuilt() >= enough {
                return more;
            }
        }
        true
    }

    /// A token for a further request of a task under way, or when there will be one.
    ///
    /// # Errors
    /// The time at which to ask again.
    pub fn take_token(&mut self, now: Instant) -> Result<(), Instant> {
        self.budget.take(now)
    }

    /// Pays for further requests that were sent already.
    pub fn pay(&mut self, requests: u32, now: Instant) {
        self.budget.pay(requests, now);
    }

    /// Whether the deadline of a watch whose job goes on has passed. `ahead` is how far the source's clock is ahead of ours
    /// in milliseconds: when it is more than a day behind, one of the two is wrong, and the deadline waits for both.
    pub fn is_overdue(&mut self, number: u64, wall: Time, ahead: i64) -> bool {
        const DAY: i64 = 86_400_000;
        let Some(entry) = self.entries.get_mut(number).filter(|entry| wall >= entry.deadline) else {
            return false;
        };
        let by_source = Time(wall.0.saturating_add(ahead));
        if ahead >= -DAY || by_source >= entry.deadline {
            return true;
        }
        entry.deadline.0 = entry.deadline.0.saturating_sub(ahead);
        false
    }

    /// Ends a task. With `again` the watch is due again; without, whatever the store told decides.
    pub fn done(&mut self, number: u64, task: Task, again: bool, now: Instant, wall: Time, random: f64) {
        self.lanes.finish(number, task);
        self.health.dismiss(number);
        if again {
            self.again(number, task, now, wall, random);
        }
        match task {
            Task::Poll => self.polls.finish(number),
            Task::Fetch => self.fetches.finish(number),
        }
    }

    /// A job was seen alive: what that teaches, and what the source says of its times.
    pub fn record_running(&mut self, number: u64, answer: &StatusAnswer, now: Instant, wall: Time) {
        let Some(entry) = self.entries.get_mut(number) else { return };
        entry.answered = true;
        entry.hint = answer.hint;
        self.learner.record_running(&mut entry.track, answer, now, wall);
    }

    /// What is known of a job whose end was seen, to be told to [`ended`](Self::ended) once that is recorded.
    #[must_use]
    pub fn pending_completion(&self, number: u64, finished: bool) -> Option<PendingCompletion> {
        let entry = self.entries.get(number)?;
        let (track, registered_at) = (entry.track.clone(), entry.registered_at);
        Some(PendingCompletion { track, registered_at, polls: entry.polls, finished })
    }

    /// A job was seen to have ended. `random` lies in [0, 1).
    pub fn record_finished(
        &mut self,
        pending: &mut PendingCompletion,
        answer: &StatusAnswer,
        now: Instant,
        wall: Time,
        random: f64,
    ) {
        self.learner.record_finished(pending, answer, now, wall, random);
    }

    /// Goes on from what another schedule of the same source knows, its watches aside. Of the budget what is left counts, so
    /// that a new one is no way around it.
    pub fn inherit(&mut self, before: &mut Self) {
        self.learner.model = std::mem::take(&mut before.learner.model);
        self.learner.stats = before.learner.stats;
        self.learner.lessons = before.learner.lessons;
        self.budget.inherit(&before.budget);
        self.health.inherit(&before.health);
    }

    /// The source asks for fewer requests.
    pub fn shrink_budget(&mut self, now: Instant) {
        self.budget.shrink(now);
    }
}
