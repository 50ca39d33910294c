//! What to do next for a source: which of its watches is due, whether its budget and its health allow a request.
//!
//! [`Schedule`] is a record with pure transitions: it takes the time and the randomness as arguments and does no
//! I/O. The task that drives it is in [`crate::follow`].

mod config;
mod health;
pub mod learned;
mod policy;

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use tokio::time::Instant;

pub use config::{PollingConfig, Strategy};
pub use health::{Health, State};
pub use policy::{next_wait, resumed_wait};

use crate::{
    budget::Budget,
    due_queue::DueQueue,
    job::JobId,
    store::{Stage, Watch},
    units::Time,
};

/// What a watch needs next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// A look at its status.
    Poll,
    /// Its full job.
    Fetch,
}

/// What is known of an open watch beside its record.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The job.
    pub job_id: JobId,
    /// What it needs next.
    pub task: Task,
    /// The last status recorded.
    pub status: Option<String>,
    /// Its run was seen at work.
    pub at_work: bool,
    /// Status requests made.
    pub polls: u64,
    /// The wait before the last look.
    wait: Option<Duration>,
    /// When it was registered.
    pub registered_at: Time,
    /// When it is given up.
    pub deadline: Time,
    /// 404 answers in a row.
    pub not_found: u32,
    /// Other 4xx answers in a row.
    pub rejected: u32,
    /// What went wrong last.
    pub last_error: Option<String>,
}

/// What the driver is to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Carry out this watch's task, and tell [`Schedule::done`] afterwards.
    Run(u64),
    /// Give this watch up: its deadline passed while the source could not be asked. Then tell `done`.
    Overdue(u64),
    /// Nothing is to be done before this time, or before somebody calls.
    Wait(Option<Instant>),
}

/// The open watches of one source.
#[derive(Debug)]
pub struct Schedule {
    config: PollingConfig,
    max_in_flight: usize,
    entries: HashMap<u64, Entry>,
    polls: DueQueue<u64>,
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
            entries: HashMap::new(),
            polls: DueQueue::default(),
            fetches: DueQueue::default(),
            deadlines: BTreeSet::new(),
            budget: Budget::new(rate, now),
            health: Health::new(config.max_interval.0),
        }
    }

    /// Takes a watch in, or takes note of what changed about it.
    pub fn follow(&mut self, watch: &Watch, now: Instant, wall: Time) {
        let task = match watch.stage {
            Stage::Watching => Task::Poll,
            Stage::Fetching => Task::Fetch,
            Stage::Ended => return self.unfollow(watch.number),
        };
        let own = watch.registered_at.after(self.config.deadline.0);
        let deadline = watch.deadline.unwrap_or(own);
        if let Some(entry) = self.entries.get_mut(&watch.number) {
            self.deadlines.remove(&(entry.deadline, watch.number));
            entry.deadline = deadline;
            entry.status.clone_from(&watch.status);
            entry.at_work = watch.started.is_some();
            entry.registered_at = watch.registered_at;
            if entry.task == task {
                self.deadlines.insert((deadline, watch.number));
                return self.no_later_than_deadline(watch.number, now, wall);
            }
        }
        let age = wall.since(watch.registered_at);
        let fresh = age < self.config.max_interval.0;
        let wait = (!fresh).then(|| resumed_wait(&self.config, age));
        let polls = self.entries.get(&watch.number).map_or(watch.polls, |entry| entry.polls);
        let entry = Entry {
            job_id: watch.job_id.clone(),
            task,
            status: watch.status.clone(),
            at_work: watch.started.is_some(),
            polls,
            wait,
            registered_at: watch.registered_at,
            deadline,
            not_found: 0,
            rejected: 0,
            last_error: watch.last_error.clone(),
        };
        self.entries.insert(watch.number, entry);
        self.deadlines.insert((deadline, watch.number));
        match task {
            Task::Poll => {
                self.fetches.remove(watch.number);
                let first = if fresh { next_wait(&self.config, None, 0.0) } else { Duration::ZERO };
                self.polls.schedule(watch.number, now + first);
                self.no_later_than_deadline(watch.number, now, wall);
            }
            Task::Fetch => {
                self.polls.remove(watch.number);
                self.fetches.schedule(watch.number, now);
            }
        }
    }

    /// Lets a watch go. A request under way goes on; the store finds that its word no longer counts.
    pub fn unfollow(&mut self, number: u64) {
        if let Some(entry) = self.entries.remove(&number) {
            self.deadlines.remove(&(entry.deadline, number));
        }
        self.polls.remove(number);
        self.fetches.remove(number);
    }

    /// Makes a look due now. `false` when the watch is not being polled.
    pub fn look_now(&mut self, number: u64, now: Instant) -> bool {
        let polled = self.entries.get(&number).is_some_and(|entry| entry.task == Task::Poll);
        if polled && !self.polls.is_running(&number) {
            self.polls.schedule(number, now);
        }
        polled
    }

    /// What is known of a watch, and when its next look is due.
    #[must_use]
    pub fn entry(&self, number: u64) -> Option<(&Entry, Option<Instant>)> {
        self.entries.get(&number).map(|entry| (entry, self.polls.due(&number)))
    }

    /// The same for an entry that the driver changes.
    pub fn entry_mut(&mut self, number: u64) -> Option<&mut Entry> {
        self.entries.get_mut(&number)
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
        let queues = [&self.fetches, &self.polls];
        let Some(due) = queues.iter().filter_map(|queue| queue.next_due()).min() else {
            return Next::Wait(None);
        };
        if due > now {
            return Next::Wait(Some(due));
        }
        if let Err(at) = self.budget.take(now) {
            return Next::Wait(Some(at));
        }
        let taken = self.fetches.take(now).or_else(|| self.polls.take(now));
        taken.map_or(Next::Wait(None), Next::Run)
    }

    /// A token for a further request of a task under way, or when there will be one.
    ///
    /// # Errors
    /// The time at which to ask again.
    pub fn take_token(&mut self, now: Instant) -> Result<(), Instant> {
        self.budget.take(now)
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

    fn again(&mut self, number: u64, task: Task, now: Instant, wall: Time, random: f64) {
        let Some(entry) = self.entries.get_mut(&number).filter(|entry| entry.task == task) else { return };
        let wait = next_wait(&self.config, Some(entry.wait.unwrap_or(self.config.min_interval.0)), random);
        entry.wait = Some(wait);
        match task {
            Task::Poll => self.polls.schedule(number, now + wait),
            Task::Fetch => self.fetches.schedule(number, now + wait),
        }
        self.no_later_than_deadline(number, now, wall);
    }

    /// A deadline is always looked at: the last look is no later.
    fn no_later_than_deadline(&mut self, number: u64, now: Instant, wall: Time) {
        let Some(entry) = self.entries.get(&number) else { return };
        let last = now + entry.deadline.since(wall);
        let queue = match entry.task {
            Task::Poll => &mut self.polls,
            Task::Fetch => &mut self.fetches,
        };
        if queue.due(&number).is_some_and(|due| due > last) {
            queue.schedule(number, last);
        }
    }

    fn next_deadline(&self, now: Instant, wall: Time) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| now + deadline.since(wall))
    }

    /// A watch past its deadline that nobody is looking at.
    fn overdue(&mut self, wall: Time) -> Option<u64> {
        let past = self.deadlines.iter().take_while(|(deadline, _)| *deadline <= wall);
        let idle = past
            .map(|(_, number)| *number)
            .find(|number| !self.polls.is_running(number) && !self.fetches.is_running(number))?;
        let entry = self.entries.get(&idle)?;
        self.deadlines.remove(&(entry.deadline, idle));
        Some(idle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Span;

    fn watch(number: u64, stage: Stage) -> Watch {
        let json = serde_json::json!({
            "source": "retab", "job_id": format!("job_{number}"), "created_at": "2026-01-01T00:00:00Z",
            "registered_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z", "stage": stage,
        });
        Watch { number, ..serde_json::from_value(json).unwrap() }
    }

    fn wall() -> Time {
        Time::parse("2026-01-01T00:00:00Z").unwrap()
    }

    fn schedule(now: Instant) -> Schedule {
        Schedule::new(&PollingConfig::default(), 1000.0, 4, now)
    }

    #[tokio::test]
    async fn a_watch_is_looked_at_once_at_a_time_and_fetches_go_first() {
        let start = Instant::now();
        let mut schedule = schedule(start);
        schedule.follow(&watch(1, Stage::Watching), start, wall());
        assert_eq!(schedule.next(start, wall()), Next::Wait(Some(start + Duration::from_millis(250))));
        schedule.follow(&watch(2, Stage::Fetching), start, wall());
        let now = start + Duration::from_secs(1);
        assert_eq!(schedule.next(now, wall()), Next::Run(2));
        assert_eq!(schedule.next(now, wall()), Next::Run(1));
        assert!(schedule.look_now(1, now));
        assert_eq!(schedule.next(now, wall()), Next::Wait(None), "a look is under way");
        schedule.done(1, Task::Poll, true, now, wall(), 0.0);
        assert_eq!(schedule.next(now, wall()), Next::Wait(Some(now + Duration::from_millis(250))));
    }

    #[tokio::test]
    async fn a_poll_that_finds_the_end_leads_to_a_fetch() {
        let start = Instant::now();
        let mut schedule = schedule(start);
        schedule.follow(&watch(1, Stage::Watching), start, wall());
        let now = start + Duration::from_secs(1);
        assert_eq!(schedule.next(now, wall()), Next::Run(1));
        schedule.follow(&watch(1, Stage::Fetching), now, wall());
        schedule.done(1, Task::Poll, false, now, wall(), 0.0);
        assert_eq!(schedule.entry(1).unwrap().0.task, Task::Fetch);
        assert_eq!(schedule.next(now, wall()), Next::Run(1));
        schedule.unfollow(1);
        schedule.done(1, Task::Fetch, false, now, wall(), 0.0);
        assert_eq!((schedule.open(), schedule.in_flight()), ((0, 0), 0));
    }

    #[tokio::test]
    async fn a_deadline_passes_even_while_the_source_is_paused() {
        let start = Instant::now();
        let mut schedule = schedule(start);
        let mut short = watch(1, Stage::Watching);
        short.deadline = Some(wall().after(Duration::from_secs(5)));
        schedule.follow(&short, start, wall());
        schedule.health.failed(State::Limited, Some(Duration::from_secs(600)), 0, start, 0.0);
        assert_eq!(schedule.next(start, wall()), Next::Wait(Some(start + Duration::from_secs(5))));
        let (now, later) = (start + Duration::from_secs(5), wall().after(Duration::from_secs(5)));
        assert_eq!(schedule.next(now, later), Next::Overdue(1));
        assert!(matches!(schedule.next(now, later), Next::Wait(Some(_))));
    }

    #[tokio::test]
    async fn a_look_is_never_later_than_the_deadline() {
        let start = Instant::now();
        let config = PollingConfig { min_interval: Span::secs(20), ..PollingConfig::default() };
        let mut schedule = Schedule::new(&config, 10.0, 4, start);
        let mut short = watch(1, Stage::Watching);
        short.deadline = Some(wall().after(Duration::from_secs(5)));
        schedule.follow(&short, start, wall());
        assert_eq!(schedule.next(start, wall()), Next::Wait(Some(start + Duration::from_secs(5))));
    }
}
