//! Hooks of the source: each makes one poll due, and ends teach how far hooks can be relied upon.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    Schedule, Task,
    entry::HookState,
    learned::{decide::PollReason, reliability::Ends},
    learner::PendingCompletion,
};
use crate::util::units::Time;

/// The most quick polls after a hook whose job still runs. The last one comes after seven times
/// the shortest interval.
const QUICK_POLLS: u8 = 4;
/// The half-life of what is known of hooks ahead of the status, in such hooks.
const EARLY_HALF_LIFE: f64 = 10.0;
/// The share of early hooks that must have announced an end, for more than one quick poll.
const WORTH_MORE: f64 = 0.2;

/// What hooks have brought since the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct HookStats {
    /// Ends that a hook announced before a poll found them.
    pub announced: u64,
    /// Ends that a poll found without a hook.
    pub missed: u64,
    /// The announced ends of which the source told when they happened.
    pub timed: u64,
    /// The sum of the times from these ends to the poll that the hook caused, in seconds.
    pub delay: f64,
}

/// What hooks that come before the status shows an end have meant.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct EarlyHooks(Ends);

impl EarlyHooks {
    /// Records whether the job of such a hook finished within the quick polls.
    pub(super) fn record(&mut self, is_end: bool) {
        self.0.record(is_end, EARLY_HALF_LIFE);
    }

    /// Returns how many quick polls the next one is worth. A source that sends hooks for progress
    /// costs one.
    fn polls(self) -> u8 {
        if 1.0 - self.0.missed_beside(0.5, 1.0) < WORTH_MORE { 1 } else { QUICK_POLLS }
    }
}

impl Schedule {
    /// Lets polls thin out while hooks announce ends.
    pub fn expect_hooks(&mut self, expected: bool) {
        self.learner.has_hooks = expected;
    }

    /// Records a hook for a watch: its next poll is due now. Returns `false` if the watch is not being
    /// polled.
    ///
    /// A flood of hooks for one job leads to one poll at a time, at the shortest interval.
    pub fn announce(&mut self, number: u64, now: Instant, wall: Time) -> bool {
        let min = self.config.min_interval.0;
        let Some(entry) = self.entries.get_mut(number).filter(|entry| entry.task == Task::Poll) else {
            return false;
        };
        let before = std::mem::replace(&mut entry.track.hook, HookState::Due);
        if before == HookState::Due {
            return true;
        }
        let wait = match before {
            HookState::None | HookState::Due => Duration::ZERO,
            HookState::Polled(_) | HookState::Spent => min.saturating_sub(entry.track.unseen_for(wall)),
        };
        // The poll in flight may have been answered before the job finished: another one follows.
        if !self.polls.is_running(number) {
            self.retries.remove(number);
            self.poll_at(number, now + wait, PollReason::Hook);
        }
        true
    }

    /// Makes another poll due soon after a hook whose poll found the job running: the status may be
    /// behind the hook. Returns `false` where the usual poll follows.
    pub(super) fn again_after_hook(&mut self, number: u64, now: Instant) -> bool {
        let most = self.learner.early_hooks.polls();
        let Some(entry) = self.entries.get_mut(number) else { return false };
        let min = self.config.min_interval.0;
        let wait = match entry.track.hook {
            HookState::None | HookState::Spent => return false,
            // The hook came during the poll.
            HookState::Due => min,
            HookState::Polled(polls) if polls <= most => {
                min.saturating_mul(1 << polls.saturating_sub(1).min(QUICK_POLLS))
            }
            HookState::Polled(_) => {
                entry.track.hook = HookState::Spent;
                self.learner.early_hooks.record(false);
                return false;
            }
        };
        self.poll_at(number, now + wait, PollReason::Hook);
        true
    }

    /// Returns what hooks have brought since the start, and the share of ends that they announce (0
    /// to 1) as it was learned over restarts, if any end is known.
    #[must_use]
    pub fn hooks(&self) -> (HookStats, Option<f64>) {
        (self.learner.hooks, self.learner.model.parent().hooks().announced())
    }
}

/// Returns whether a hook announced an end, or `None` where no hook could: the end, or the last time
/// at which the job was seen running, lies before the watch or before the start.
pub(super) fn judged(
    pending: &PendingCompletion,
    ended_at: Option<Time>,
    listening: Duration,
    wall: Time,
) -> Option<bool> {
    let (track, registered_at) = (&pending.track, pending.registered_at);
    if track.hook.has_announced() {
        return Some(true);
    }
    let could_come = if let Some(at) = ended_at {
        at >= registered_at && wall.since(at) <= listening
    } else {
        let since_registered = wall.since(registered_at);
        track.is_bracketed(registered_at) && track.unseen_for(wall).min(since_registered) <= listening
    };
    could_come.then_some(false)
}
