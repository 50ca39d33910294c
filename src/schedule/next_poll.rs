//! When the next poll of a watch is due, and where the watch stands at that time.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    Entry, Schedule, Strategy, Task,
    failing::{relapsed_wait, retry_wait},
    learned::{
        decide::{LONGEST_HINT, PollReason, reconsider_at},
        levels::{ASKED, LEVELS},
    },
    learner::{Learner, span, waits},
    packed::PackedWait,
    policy::next_wait,
};
use crate::{store::Watch, util::units::Time};

impl Schedule {
    pub(super) fn first_poll(&mut self, watch: &Watch, now: Instant, wall: Time) {
        let relapses = self.entries.get(watch.number).map_or(0, |entry| entry.relapses);
        if relapses > 0 {
            // The status says that the job finished, and the result that it did not. That may go on
            // forever.
            return self.retry_at(watch.number, now + relapsed_wait(&self.config, relapses), now, wall);
        }
        let resumed = self.entries.get(watch.number).is_some_and(|entry| entry.wait != PackedWait::NONE);
        if self.config.strategy == Strategy::Learned {
            return self.poll_as_learned(watch.number, now, wall);
        }
        let first = if resumed { Duration::ZERO } else { next_wait(&self.config, None, 0.0) };
        self.poll_at(watch.number, now + first, self.reason());
        self.no_later_than_deadline(watch.number, now, wall);
    }

    /// Returns the reason for the next poll if no curve and nothing unusual decided it.
    fn reason(&self) -> PollReason {
        if self.config.strategy == Strategy::Fixed { PollReason::Fixed } else { PollReason::Backoff }
    }

    pub(super) fn poll_at(&mut self, number: u64, due: Instant, reason: PollReason) {
        self.poll_by(number, due, reason, due);
    }

    /// Makes a poll due, to be reconsidered at `until`.
    fn poll_by(&mut self, number: u64, due: Instant, reason: PollReason, until: Instant) {
        let Some(entry) = self.entries.get_mut(number) else { return };
        (entry.due, entry.reason) = (Some(due), reason);
        self.polls.put(number, waits(self.polls.tick(until)));
    }

    fn poll_as_learned(&mut self, number: u64, now: Instant, wall: Time) {
        let Some(entry) = self.entries.get(number) else { return };
        let next = self.learner.next_poll(number, entry, now, wall);
        let due = now + span(next.age - entry.track.age(wall));
        self.poll_by(number, due, next.reason, reconsider(now, due));
    }

    pub(super) fn again(&mut self, number: u64, task: Task, now: Instant, wall: Time, random: f64) {
        let Some(entry) = self.entries.get_mut(number).filter(|entry| entry.task == task) else { return };
        let history = entry.failures.as_deref();
        if let Some(history) = history.filter(|history| history.is_own) {
            let due = now + retry_wait(&self.config, history, random);
            return self.retry_at(number, due, now, wall);
        }
        if task == Task::Poll && history.is_none() && self.again_after_hook(number, now) {
            return self.no_later_than_deadline(number, now, wall);
        }
        let Some(entry) = self.entries.get_mut(number) else { return };
        let history = entry.failures.as_deref();
        if task == Task::Poll && history.is_some_and(|history| history.limited_at.is_some()) {
            // A poll soon shows whether the limit is this job's own.
            self.poll_at(number, now + self.config.min_interval.0, PollReason::Retry);
            return self.no_later_than_deadline(number, now, wall);
        }
        let (learned, blameless) = (self.config.strategy == Strategy::Learned, history.is_some());
        if task == Task::Poll && learned && (entry.answered || blameless) {
            entry.wait = PackedWait::NONE;
            return self.poll_as_learned(number, now, wall);
        }
        let wait = match entry.wait.get() {
            Some(wait) if blameless => wait,
            wait => next_wait(&self.config, Some(wait.unwrap_or(self.config.min_interval.0)), random),
        };
        entry.wait = Some(wait).into();
        // What the source asks for with an answer that the job still runs.
        let hint = entry.hint.get().filter(|_| task == Task::Poll && entry.answered);
        let hint = hint.map(|hint| hint.min(span(LONGEST_HINT))).filter(|hint| *hint > wait);
        let due = now + hint.unwrap_or(wait);
        match task {
            Task::Poll if hint.is_some() => self.poll_at(number, due, PollReason::Hint),
            Task::Poll => self.poll_at(number, due, if learned { PollReason::Retry } else { self.reason() }),
            // The source is paused, or is asked for the result soon.
            Task::Fetch if blameless => self.fetches.schedule(number, now),
            Task::Fetch => self.fetches.schedule(number, due),
        }
        self.no_later_than_deadline(number, now, wall);
    }

    /// Makes the next request of a failing job due, or its deadline if that comes before.
    fn retry_at(&mut self, number: u64, due: Instant, now: Instant, wall: Time) {
        let Some(entry) = self.entries.get_mut(number) else { return };
        let is_early = |last: &Instant| entry.deadline > wall && *last < due;
        let due = Some(now + entry.deadline.since(wall)).filter(is_early).unwrap_or(due);
        (entry.due, entry.reason) = (Some(due), PollReason::Retry);
        self.retries.schedule(number, due);
    }

    /// Moves the last poll to the deadline: every job is polled at its deadline.
    pub(super) fn no_later_than_deadline(&mut self, number: u64, now: Instant, wall: Time) {
        let Some(entry) = self.entries.get(number) else { return };
        let last = now + entry.deadline.since(wall);
        if let Some(due) = self.retries.due(&number) {
            return self.retry_at(number, due, now, wall);
        }
        match entry.task {
            Task::Poll if entry.due.is_some_and(|due| due > last) => {
                self.poll_at(number, last, PollReason::Deadline);
            }
            Task::Fetch if self.fetches.due(&number).is_some_and(|due| due > last) => {
                self.fetches.schedule(number, last);
            }
            _ => {}
        }
    }
}

/// Returns when to reconsider a poll that is due then.
fn reconsider(now: Instant, due: Instant) -> Instant {
    let wait = due.saturating_duration_since(now).as_secs_f64();
    now + span(reconsider_at(0.0, wait))
}

/// Returns the level of a watch whose timer has fired, and how many ticks it stays there. A poll
/// that is not due yet is reconsidered: what was learned meanwhile may bring it forward.
pub(super) fn stand(
    learner: &mut Learner,
    number: u64,
    entry: &mut Entry,
    now: Instant,
    wall: Time,
) -> (Option<u8>, u64) {
    let ticks = |wait: Duration| u64::try_from(wait.as_micros()).unwrap_or(u64::MAX).saturating_add(1);
    let learned = learner.strategy == Strategy::Learned;
    let due = entry.due.unwrap_or(now);
    if due > now && learned && entry.reason != PollReason::Retry {
        let next = learner.next_poll(number, entry, now, wall);
        let sooner = now + span(next.age - entry.track.age(wall));
        if sooner < due {
            (entry.due, entry.reason) = (Some(sooner), next.reason);
        }
    }
    let due = entry.due.unwrap_or(now);
    if due > now {
        let until = if learned { reconsider(now, due) } else { due };
        return (None, ticks(until - now));
    }
    match entry.reason {
        reason if reason.is_asked() => return (Some(ASKED), NEVER),
        PollReason::Deadline => return (Some(LEVELS - 1), NEVER),
        _ => {}
    }
    if !learned {
        return (Some(0), NEVER);
    }
    let (level, promoted) = learner.level(entry, now, wall);
    (Some(level), ticks(promoted))
}

/// A tick that never comes.
pub(super) const NEVER: u64 = u64::MAX;
