//! Adds watches to the schedule, and removes them.

use tokio::time::Instant;

use super::{
    Entry, Schedule, Stamps, Task, Track, learned::decide::PollReason, learner::operation,
    packed::PackedWait, policy::resumed_wait,
};
use crate::{
    model::job::Kind,
    store::{Watch, WatchStage},
    util::units::Time,
};

impl Schedule {
    /// Adds a watch, or updates what is known of it.
    pub fn add(&mut self, watch: &Watch, now: Instant, wall: Time) {
        self.add_stamped(watch, Stamps::of(watch), now, wall);
    }

    /// Adds a watch with stamps by the clock that `wall` tells.
    pub fn add_stamped(&mut self, watch: &Watch, stamps: Stamps, now: Instant, wall: Time) {
        let task = match watch.stage {
            WatchStage::Watching => Task::Poll,
            WatchStage::Fetching => Task::Fetch,
            WatchStage::Finished => return self.remove(watch.number),
        };
        let own = stamps.registered_at.after(self.config.deadline.0);
        let deadline = stamps.deadline.unwrap_or(own);
        let status = watch.status.as_ref().map(|status| self.statuses.share(status.clone()));
        if let Some(entry) = self.entries.get_mut(watch.number) {
            entry.deadline = deadline;
            entry.status.clone_from(&status);
            entry.track.at_work = watch.started.is_some();
            entry.registered_at = stamps.registered_at;
            if entry.task == task {
                return self.no_later_than_deadline(watch.number, now, wall);
            }
        }
        let before = self.entries.get(watch.number);
        let polls = before.map_or(few(watch.polls), |entry| entry.polls);
        let relapses = before.map_or(0, |entry| entry.relapses.saturating_add(u8::from(task == Task::Poll)));
        let entry = Entry { status, polls, relapses, ..self.entry_of(watch, &stamps, task, deadline, wall) };
        self.entries.insert(watch.number, entry);
        self.retries.remove(watch.number);
        self.missing.remove(&watch.number);
        match task {
            Task::Poll => {
                self.fetches.remove(watch.number);
                self.first_poll(watch, now, wall);
            }
            Task::Fetch => {
                self.polls.remove(watch.number);
                match relapses {
                    0 => self.fetches.schedule(watch.number, now),
                    _ => self.retries.schedule(watch.number, now),
                }
            }
        }
    }

    fn entry_of(&mut self, watch: &Watch, stamps: &Stamps, task: Task, deadline: Time, wall: Time) -> Entry {
        let label = self.learner.label_of(&watch.labels);
        let kind = watch.kind.as_ref().and_then(Kind::beside_id);
        let kind = self.learner.kind(operation(kind, watch.endpoint.as_deref()), label);
        let age = wall.since(stamps.registered_at);
        let fresh = age < self.config.longest_pause();
        Entry {
            number: watch.number,
            task,
            status: None,
            polls: few(watch.polls),
            track: Track::new(watch, stamps, kind),
            due: None,
            reason: PollReason::Asked,
            wait: (!fresh).then(|| resumed_wait(&self.config, age)).into(),
            answered: false,
            relapses: 0,
            hint: PackedWait::NONE,
            registered_at: stamps.registered_at,
            deadline,
            failures: None,
        }
    }

    /// Removes a watch. A request in flight goes on, and the store ignores its answer.
    pub fn remove(&mut self, number: u64) {
        self.entries.remove(number);
        self.polls.remove(number);
        self.fetches.remove(number);
        self.retries.remove(number);
        self.missing.remove(&number);
    }
}

/// A count of polls, or the most that an entry counts.
fn few(polls: u64) -> u32 {
    u32::try_from(polls).unwrap_or(u32::MAX)
}
