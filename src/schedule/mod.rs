//! What to do next for a source: which of its watches is due, whether its budget and its health allow a request.
//!
//! [`Schedule`] is a record with pure transitions: it takes the time and the randomness as arguments and does no
//! I/O. The task that drives it is in [`crate::follow`].

mod config;
mod entries;
mod entry;
mod health;
pub mod learned;
mod learner;
mod looks;
mod policy;
mod polls;
mod pool;
mod seeing;
mod sleep;
mod stamps;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use tokio::time::Instant;

pub use config::{PollingConfig, Strategy};
pub use entry::{Entry, Task, Track, Trouble};
pub use health::{Health, State};
pub use learner::{Ended, Seen, Tally};
pub use policy::{next_wait, resumed_wait};
pub use seeing::{Curves, KindSeen};
pub use stamps::Stamps;

use self::{
    entries::Entries,
    learned::{decide::Reason, levels::Standing},
    learner::{Learner, waits},
    looks::{NEVER, stand},
    polls::Polls,
    pool::Pool,
};
use crate::{
    budget::Budget,
    due_queue::DueQueue,
    store::{Stage, Watch},
    units::Time,
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
    /// Give this watch up: its deadline passed while the source could not be asked. Then tell `done`.
    Overdue(u64),
    /// Let others have a turn, and ask again.
    Yield,
    /// Nothing is to be done before this time, or before somebody calls.
    Wait(Option<Instant>),
}

/// The open watches of one source.
#[derive(Debug)]
pub struct Schedule {
    config: PollingConfig,
    max_in_flight: usize,
    entries: Entries,
    statuses: Pool<String>,
    polls: Polls,
    learner: Learner,
    fetches: DueQueue<u64>,
    deadlines: BTreeSet<(Time, u64)>,
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
            max_in_flight,
            entries: Entries::default(),
            statuses: Pool::default(),
            polls: Polls::new(now),
            learner: Learner::new(config, now),
            fetches: DueQueue::default(),
            deadlines: BTreeSet::new(),
            budget: Budget::new(rate, now),
            health: Health::new(config.longest_pause()),
        }
    }

    /// Takes a watch in, or takes note of what changed about it.
    pub fn follow(&mut self, watch: &Watch, now: Instant, wall: Time) {
        self.follow_stamped(watch, Stamps::of(watch), now, wall);
    }

    /// The same, with the stamps of the watch by the clock that `wall` tells.
    pub fn follow_stamped(&mut self, watch: &Watch, stamps: Stamps, now: Instant, wall: Time) {
        let task = match watch.stage {
            Stage::Watching => Task::Poll,
            Stage::Fetching => Task::Fetch,
            Stage::Ended => return self.unfollow(watch.number),
        };
        let own = stamps.registered_at.after(self.config.deadline.0);
        let deadline = stamps.deadline.unwrap_or(own);
        let status = watch.status.as_ref().map(|status| self.statuses.share(status.clone()));
        if let Some(entry) = self.entries.get_mut(watch.number) {
            self.deadlines.remove(&(entry.deadline, watch.number));
            entry.deadline = deadline;
            entry.status.clone_from(&status);
            entry.at_work = watch.started.is_some();
            entry.registered_at = stamps.registered_at;
            if entry.task == task {
                self.deadlines.insert((deadline, watch.number));
                return self.no_later_than_deadline(watch.number, now, wall);
            }
        }
        let polls = self.entries.get(watch.number).map_or(watch.polls, |entry| entry.polls);
        let entry = Entry { status, polls, ..self.entry_of(watch, &stamps, task, deadline, wall) };
        self.entries.insert(watch.number, entry);
        self.deadlines.insert((deadline, watch.number));
        match task {
            Task::Poll => {
                self.fetches.remove(watch.number);
                self.first_look(watch, now, wall);
            }
            Task::Fetch => {
                self.polls.remove(watch.number);
                self.fetches.schedule(watch.number, now);
            }
        }
    }

    fn entry_of(&mut self, watch: &Watch, stamps: &Stamps, task: Task, deadline: Time, wall: Time) -> Entry {
        let label = self.learner.label_of(&watch.labels);
        let kind = self.learner.kind(watch.endpoint.as_deref(), label);
        let age = wall.since(stamps.registered_at);
        let fresh = age < self.config.longest_pause();
        Entry {
            task,
            status: None,
            at_work: watch.started.is_some(),
            polls: watch.polls,
            track: Track::new(watch, stamps, kind),
            due: None,
            reason: Reason::Asked,
            wait: (!fresh).then(|| resumed_wait(&self.config, age)),
            answered: false,
            hint: None,
            registered_at: stamps.registered_at,
            deadline,
            trouble: None,
        }
    }

    /// Lets a watch go. A request under way goes on; the store finds that its word no longer counts.
    pub fn unfollow(&mut self, number: u64) {
        if let Some(entry) = self.entries.remove(number) {
            self.deadlines.remove(&(entry.deadline, number));
        }
        self.polls.remove(number);
        self.fetches.remove(number);
    }

    /// Makes a look due now. `false` when the watch is not being polled.
    pub fn look_now(&mut self, number: u64, now: Instant) -> bool {
        let polled = self.entries.get(number).is_some_and(|entry| entry.task == Task::Poll);
        if polled && !self.polls.is_running(number) {
            self.look_at(number, now, Reason::Asked);
        }
        polled
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
    pub fn note(&mut self, number: u64, status: &str, at_work: bool) -> Option<bool> {
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
        let fetching = self.fetches.len().min(self.entries.len());
        (self.entries.len() - fetching, fetching)
    }

    /// Requests under way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.polls.running() + self.fetches.running()
    }

    /// What to do now. Fetches go first: what they bring may not exist for long.
    pub fn next(&mut self, now: Instant, wall: Time) -> Next {
        if let Some(until) = self.health.paused_until(now) {
            return self.overdue(wall).map_or_else(
                || Next::Wait(Some(until.min(self.next_deadline(now, wall).unwrap_or(until)))),
                Next::Overdue,
            );
        }
        if self.in_flight() >= self.health.allowance(self.max_in_flight) {
            return Next::Wait(None);
        }
        let more = self.advance(now, wall);
        if !self.polls.is_ready() && self.fetches.next_due().is_none_or(|due| due > now) {
            let next = self.fetches.next_due().into_iter().chain(self.polls.next_time()).min();
            return if more { Next::Yield } else { Next::Wait(next) };
        }
        if let Err(at) = self.budget.take(now) {
            return if more { Next::Yield } else { Next::Wait(Some(at)) };
        }
        let taken = self.fetches.take(now).or_else(|| self.take_poll());
        taken.map_or(Next::Wait(None), Next::Run)
    }

    fn take_poll(&mut self) -> Option<u64> {
        let number = self.polls.take()?;
        if let Some(entry) = self.entries.get_mut(number) {
            entry.due = None;
            entry.answered = false;
        }
        Some(number)
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
        if again {
            self.again(number, task, now, wall, random);
        }
        match task {
            Task::Poll => self.polls.finish(number),
            Task::Fetch => self.fetches.finish(number),
        }
    }

    /// A job was seen alive: what that teaches, and what the source says of its times.
    pub fn alive(&mut self, number: u64, seen: &Seen, now: Instant, wall: Time) {
        let Some(entry) = self.entries.get_mut(number) else { return };
        entry.answered = true;
        entry.hint = seen.hint;
        self.learner.alive(&mut entry.track, seen, now, wall);
    }

    /// What is known of a job whose end was seen, to be told to [`ended`](Self::ended) once that is recorded.
    #[must_use]
    pub fn ending(&self, number: u64, finished: bool) -> Option<Ended> {
        let entry = self.entries.get(number)?;
        let (track, registered_at) = (entry.track.clone(), entry.registered_at);
        Some(Ended { track, registered_at, polls: entry.polls, finished })
    }

    /// A job was seen to have ended. `random` lies in [0, 1).
    pub fn ended(&mut self, ended: &mut Ended, seen: &Seen, now: Instant, wall: Time, random: f64) {
        self.learner.ended(ended, seen, now, wall, random);
    }

    /// Goes on from what another schedule of the same source knows, its watches aside. Of the budget what is left counts, so
    /// that a new one is no way around it.
    pub fn inherit(&mut self, before: &mut Self) {
        self.learner.model = std::mem::take(&mut before.learner.model);
        self.learner.tally = before.learner.tally;
        self.learner.lessons = before.learner.lessons;
        self.budget.inherit(&before.budget);
        self.health.inherit(&before.health);
    }

    /// The source asks for fewer requests.
    pub fn shrink_budget(&mut self, now: Instant) {
        self.budget.shrink(now);
    }

    fn next_deadline(&self, now: Instant, wall: Time) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| now + deadline.since(wall))
    }

    /// A watch past its deadline that nobody is looking at.
    fn overdue(&mut self, wall: Time) -> Option<u64> {
        let past = self.deadlines.iter().take_while(|(deadline, _)| *deadline <= wall);
        let idle = past
            .map(|(_, number)| *number)
            .find(|number| !self.polls.is_running(*number) && !self.fetches.is_running(number))?;
        let entry = self.entries.get(idle)?;
        self.deadlines.remove(&(entry.deadline, idle));
        Some(idle)
    }
}
