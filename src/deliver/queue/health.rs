//! What a queue knows of its sink: it is updated by each attempt, and says whether the sink fails,
//! takes events, or asked for silence.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    BreakerChange, LONGEST, LastFailure, Queue,
    breaker::{Admission, Breaker},
    decision::SinkSignal,
    streak::FailureStreak,
};
use crate::store::DeliveryKey;

/// The longest silence of a whole sink that answered 429. A single delivery waits as long as the
/// sink asks.
pub(super) const MAX_QUIET: Duration = Duration::from_secs(60);

/// The time after a success for which a sink counts as taking events.
const TAKING: Duration = Duration::from_secs(10);

impl Queue {
    /// Updates breaker, pace and streak by what an attempt said about the sink. `asked` is the wait
    /// that the sink asked for; `random` lies in [0, 1).
    pub fn update_breaker(
        &mut self,
        key: DeliveryKey,
        signal: SinkSignal,
        asked: Option<Duration>,
        now: Instant,
        random: f64,
    ) -> Option<BreakerChange> {
        let began = self.end_attempt(key).unwrap_or(now);
        if signal == SinkSignal::Works {
            self.pace.taken(now);
            let change = self.answered(now);
            if change.is_some() {
                self.bring_forward(now);
            }
            (self.took, self.took_at, self.streak) = (self.took + 1, Some(now), FailureStreak::default());
            return change;
        }
        if let Some(attempt) = self.in_flight.get_mut(&key) {
            let outage = (signal == SinkSignal::Fails).then(|| now + asked.unwrap_or_default().min(LONGEST));
            attempt.failed = Some(LastFailure { took: self.took, outage });
        }
        if signal != SinkSignal::Nothing {
            self.streak.failed(key, signal, now);
        }
        match signal {
            SinkSignal::Refuses if self.breaker.admission() != Admission::Attempt => self.answered(now),
            SinkSignal::Works | SinkSignal::Nothing | SinkSignal::Refuses => None,
            SinkSignal::Fails => {
                self.pace.failed(began, now);
                let opened = self.breaker.failed(key, &self.limits.retry, now, random);
                opened.then_some(BreakerChange::Opened)
            }
            SinkSignal::FailsForOne => {
                self.breaker.failed_probe(key, &self.limits.retry, now, random);
                None
            }
            SinkSignal::Overloaded { quiet } => {
                self.breaker.failed_probe(key, &self.limits.retry, now, random);
                match quiet.filter(|wait| !wait.is_zero()) {
                    Some(wait) => self.throttle(wait, began, now),
                    None => self.pace.overloaded(began, now),
                }
                None
            }
        }
    }

    /// Frees the place of an attempt that has ended. Returns when it began.
    fn end_attempt(&mut self, key: DeliveryKey) -> Option<Instant> {
        let attempt = self.in_flight.get_mut(&key)?;
        self.recording += usize::from(!std::mem::replace(&mut attempt.has_ended, true));
        Some(attempt.began)
    }

    /// Closes the breaker after an answer of a working sink.
    fn answered(&mut self, now: Instant) -> Option<BreakerChange> {
        self.breaker.taken(now).then(|| {
            self.pace.restart(now);
            BreakerChange::Closed
        })
    }

    /// Brings forward the deliveries that failed in the outage, unless the sink asked for a longer
    /// wait. The waits of their schedules were for the outage, which is over.
    fn bring_forward(&mut self, now: Instant) {
        for (key, failed) in &self.failed {
            if let Some(from) = failed.outage.filter(|_| failed.took == self.took)
                && self.tried.due(key).is_some_and(|due| due > from.max(now))
            {
                self.tried.schedule(*key, from.max(now));
            }
        }
    }

    /// Stops sending for `wait`. Deliveries then start one by one.
    fn throttle(&mut self, wait: Duration, began: Instant, now: Instant) {
        let until = now + wait.min(MAX_QUIET);
        self.quiet_until = self.quiet_until.max(Some(until));
        self.pace.silenced(began, until, now);
    }

    /// Notes that the sink took a test event.
    pub fn works(&mut self) {
        self.streak.works();
    }

    /// Closes the breaker and ends a silence; the rate starts low. Returns whether the breaker was
    /// not closed.
    pub fn reset(&mut self, now: Instant) -> bool {
        let closed = self.breaker.close();
        let was_quiet = self.quiet_until.take().is_some_and(|until| until > now);
        if closed || was_quiet {
            self.pace.restart(now);
        }
        if closed {
            self.bring_forward(now);
        }
        closed
    }

    /// Returns whether the sink took another event since this delivery last failed.
    #[must_use]
    pub fn passed_by(&self, key: DeliveryKey) -> bool {
        self.failed.get(&key).is_some_and(|failed| failed.took < self.took)
    }

    /// Returns whether the sink took an event recently.
    #[must_use]
    pub fn is_taking(&self, now: Instant) -> bool {
        self.took_at.is_some_and(|at| now.saturating_duration_since(at) < TAKING)
    }

    /// Returns the breaker.
    #[must_use]
    pub fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    /// Returns whether the sink is failing.
    #[must_use]
    pub fn is_failing(&self, now: Instant) -> bool {
        self.breaker.admission() != Admission::Attempt || self.streak.is_failing(now)
    }

    /// Returns the number of failed attempts since the last success.
    #[must_use]
    pub fn failures_in_row(&self) -> u64 {
        self.streak.count()
    }

    /// Returns the end of the silence that the sink asked for.
    #[must_use]
    pub fn quiet_until(&self, now: Instant) -> Option<Instant> {
        self.quiet_until.filter(|until| *until > now)
    }

    /// Returns the current limit in attempts a second; `None` for no limit.
    #[must_use]
    pub fn rate(&self) -> Option<f64> {
        self.pace.rate()
    }
}
