//! Decides what to do next for a source: which of its watches is due, and whether its budget and
//! its health allow a request.
//!
//! [`Schedule`] is a record with pure transitions. Time and randomness are arguments, and it does
//! no I/O: it must not know the network, the clock or the store's writes. The task that drives it
//! is in [`crate::watcher`].
//!
//! Where things are: `next_poll` says when a poll is due, `policy` and `learned` compute the wait,
//! `dispatch` chooses the next request on one of the `lanes`, `health` says whether the source may
//! be asked, `failing` handles jobs whose requests fail, `hooks` takes what the source announces, and
//! `summary` shows all of it.

mod budget;
mod config;
mod entries;
mod dispatch;
mod entry;
mod failing;
mod health;
mod history;
mod hooks;
mod lanes;
pub mod learned;
mod learner;
mod lists;
mod next_poll;
mod packed;
mod policy;
mod polls;
mod pool;
mod summary;
mod sleep;
mod stamps;
mod watches;

#[cfg(test)]
mod tests;

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use tokio::time::Instant;

pub use budget::{BudgetConfig, Claim, Limits, MAX_IN_FLIGHT, MAX_REQUESTS_PER_SECOND, SharedBudget};
pub use config::{ListPolling, PollingConfig, Strategy};
pub use entry::{Entry, Task, Track};
pub use failing::{JobFacts, SourceFacts};
pub use health::{Health, HealthState, RequestTimes, SourceSign};
pub use history::{FailureHistory, FailureRow, FailureRowKind};
pub use hooks::HookStats;
pub use lanes::SLOW;
pub use learner::{PendingCompletion, PollingStats};
pub use lists::{Evidence, ListUse};
pub use policy::{next_wait, resumed_wait};
pub use stamps::Stamps;
pub use summary::{CurveSummary, KindSummary};

use self::{
    entries::Entries,
    learned::{decide::PollReason, levels::Standing},
    learner::{Learner, waits},
    lists::Lists,
    next_poll::{NEVER, stand},
    polls::Polls,
    pool::Pool,
};
use crate::{
    model::status_answer::StatusAnswer,
    util::{due_queue::DueQueue, units::Time},
};

/// The most watches that one call advances.
const MOST: usize = 1000;
/// The number of curves after which one call stops building more.
const MOST_CURVES: usize = 8;

/// What the driver does next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Runs the task of this watch, then calls [`Schedule::done`].
    Run(u64),
    /// Requests a page of the source's list, then calls [`Schedule::list_done`].
    List(ListUse),
    /// Cuts the slowest request, if one is slow enough, so that another job gets its place. Then
    /// calls `done`.
    Cut,
    /// Yields to other tasks, and asks again.
    Yield,
    /// Waits until this time, or until a caller changes the schedule.
    Wait(Option<Instant>),
}

/// The open watches of one source.
#[derive(Debug)]
pub struct Schedule {
    config: PollingConfig,
    /// Its claim on the budget of its key.
    claim: Claim,
    entries: Entries,
    statuses: Pool<String>,
    polls: Polls,
    learner: Learner,
    fetches: DueQueue<u64>,
    /// Polls and fetches of jobs whose last request failed, by the time of the next.
    retries: DueQueue<u64>,
    /// Jobs that the source does not know or no longer has.
    missing: HashSet<u64>,
    /// Jobs whose next request a caller forces while the source is paused.
    forced: VecDeque<u64>,
    /// When the next of them may be sent.
    forced_from: Option<Instant>,
    /// Requests sent so far. The lanes take turns by it.
    turn: usize,
    lists: Lists,
    /// The health of the host. The budget has that of the key.
    host: Health,
}

impl Schedule {
    /// Creates an empty schedule with a budget of its own.
    #[must_use]
    pub fn new(config: &PollingConfig, rate: f64, max_in_flight: usize, now: Instant) -> Self {
        let limits = Limits { rate, max_in_flight, longest_pause: config.longest_pause() };
        let budget = Arc::new(SharedBudget::new(None, limits, now));
        Self::with_claim(config, Claim::new(&budget, Arc::default()), now)
    }

    /// Creates an empty schedule whose requests come out of the budget of this claim.
    #[must_use]
    pub fn with_claim(config: &PollingConfig, claim: Claim, now: Instant) -> Self {
        Self {
            config: config.clone(),
            claim,
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
            lists: Lists::default(),
            host: Health::new(config.longest_pause()),
        }
    }

    /// Returns the entry of a watch, and when its next poll is due.
    #[must_use]
    pub fn entry(&self, number: u64) -> Option<(&Entry, Option<Instant>)> {
        self.entries.get(number).map(|entry| (entry, entry.due))
    }

    /// Returns the entry of a watch for the driver to change.
    pub fn entry_mut(&mut self, number: u64) -> Option<&mut Entry> {
        self.entries.get_mut(number)
    }

    /// Records the status that a poll found. Returns whether it is new, or `None` if the watch is
    /// gone.
    pub fn record_status(&mut self, number: u64, status: &str, at_work: bool) -> Option<bool> {
        let entry = self.entries.get_mut(number)?;
        let same =
            entry.status.as_ref().is_some_and(|known| **known == status) && entry.track.at_work == at_work;
        if !same {
            entry.status = Some(self.statuses.share(status.to_owned()));
            entry.track.at_work = at_work;
        }
        Some(!same)
    }

    /// Returns the numbers of watches that wait for a poll and for a fetch.
    #[must_use]
    pub fn open(&self) -> (usize, usize) {
        let fetching = self.entries.fetching();
        (self.entries.len() - fetching, fetching)
    }

    /// Returns the number of requests in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.claim.lock().in_flight(self.claim.id)
    }

    /// Advances the queue of polls to `now`, in bounded time. Returns whether any are left to
    /// advance.
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

    /// Pays for further requests that a task has already sent.
    pub fn pay(&mut self, requests: u32, now: Instant) {
        self.claim.lock().pay(requests, now);
    }

    /// Returns whether the deadline of a watch with a running job has passed. `ahead` is how far
    /// the source's clock is ahead of ours, in milliseconds. If the source's clock is more than a
    /// day behind, one of the two is wrong, and the deadline waits for both.
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

    /// Records the end of a task. With `again` it schedules the task once more; otherwise the store
    /// has told what is next.
    pub fn done(&mut self, number: u64, task: Task, again: bool, now: Instant, wall: Time, random: f64) {
        self.host.dismiss(number);
        self.claim.lock().finish_request(self.claim.id, number, task);
        if again {
            self.again(number, task, now, wall, random);
        }
        match task {
            Task::Poll => self.polls.finish(number),
            Task::Fetch => self.fetches.finish(number),
        }
    }

    /// Records that a job is still running: learns from it, and keeps what the source says about
    /// its times.
    pub fn record_running(&mut self, number: u64, answer: &StatusAnswer, now: Instant, wall: Time) {
        let Some(entry) = self.entries.get_mut(number) else { return };
        entry.answered = true;
        entry.hint = answer.hint.into();
        if entry.reason == PollReason::Listed {
            self.lists.were_wrong(now);
        }
        self.learner.record_running(&mut entry.track, answer, now, wall);
    }

    /// Returns what the schedule knows of a job that finished. The caller passes it to
    /// [`record_finished`](Self::record_finished) after the store recorded the end.
    #[must_use]
    pub fn pending_completion(&self, number: u64, finished: bool) -> Option<PendingCompletion> {
        let entry = self.entries.get(number)?;
        let (track, registered_at) = (entry.track.clone(), entry.registered_at);
        Some(PendingCompletion { track, registered_at, polls: u64::from(entry.polls), finished })
    }

    /// Records that a job finished, and learns from it. `random` lies in [0, 1).
    pub fn record_finished(
        &mut self,
        pending: &mut PendingCompletion,
        answer: &StatusAnswer,
        now: Instant,
        wall: Time,
        random: f64,
    ) {
        let ended_at = answer.by_steady_clock(answer.ended_at);
        self.compare_with_lists(ended_at, pending.track.last_seen(), now);
        self.learner.record_finished(pending, answer, now, wall, random);
    }

    /// Takes over from the previous schedule of the same source, without its watches.
    pub fn inherit(&mut self, before: &mut Self) {
        self.learner.model = std::mem::take(&mut before.learner.model);
        self.learner.stats = before.learner.stats;
        self.learner.lessons = before.learner.lessons;
        self.learner.hooks = before.learner.hooks;
        self.learner.early_hooks = before.learner.early_hooks;
    }

    /// Ends the claim on the budget, because the driver asks no more.
    pub fn retire(&self) {
        self.claim.lock().retire(self.claim.id);
    }
}
