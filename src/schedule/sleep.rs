//! The sleep of the machine: waits are timed by a clock that stood still meanwhile.

use std::time::Duration;

use tokio::time::Instant;

use super::{Schedule, Task};

impl Schedule {
    /// Lets one request through, because the credentials have changed.
    pub fn try_again(&mut self) {
        self.host.try_again();
        self.claim.budget().try_again();
    }

    /// Brings every wait forward by the time for which the machine slept. The budget is told once,
    /// by [`SharedBudget::slept`](super::SharedBudget::slept).
    pub fn slept(&mut self, by: Duration, now: Instant) {
        let earlier = |due: Instant| due.checked_sub(by).unwrap_or(now).max(now);
        let is_retried = |number| self.retries.due(&number).is_some();
        let polls = self.entries.iter().filter(|(_, entry)| entry.task == Task::Poll);
        let polls = polls.filter(|(number, _)| !is_retried(*number));
        let waiting = polls.filter_map(|(number, entry)| Some((number, earlier(entry.due?), entry.reason)));
        for (number, due, reason) in waiting.collect::<Vec<_>>() {
            self.poll_at(number, due, reason);
        }
        self.fetches.bring_forward(by);
        self.retries.bring_forward(by);
        self.host.slept(by);
    }
}
