//! The pause of a source: how long nothing is sent after a failure.

use std::time::Duration;

use tokio::time::Instant;

use super::sign::HealthState;

/// The first pause after a failure. Each further failure doubles it.
pub(in crate::schedule) const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// The shortest pause while the source refuses the key: every request may count against a lockout.
pub(super) const UNAUTHORIZED_PAUSE: Duration = Duration::from_secs(1);

/// The longest wait that a source can ask for. After it the source is probed, whatever it asked
/// for.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// A shorter wait that a source asks for counts as no wait: the growing pause applies.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);

/// The pause of a source. It grows with each failure in a row.
#[derive(Clone, Debug, Default)]
pub(super) struct Pause {
    failures: u32,
    /// The pause that follows the next probe.
    length: Duration,
    until: Option<Instant>,
    /// The end of the pause that the source asked for.
    asked_until: Option<Instant>,
}

impl Pause {
    /// Begins a pause after a failure, of at most `longest`. `random` lies in [0, 1). Returns its
    /// length.
    pub(super) fn begin(
        &mut self,
        state: HealthState,
        asked: Option<Duration>,
        longest: Duration,
        now: Instant,
        random: f64,
    ) -> Duration {
        let random = random.clamp(0.0, 1.0);
        self.failures = self.failures.saturating_add(1);
        let first = if state == HealthState::Unauthorized { UNAUTHORIZED_PAUSE } else { FIRST_PAUSE };
        let backoff = first.saturating_mul(1 << (self.failures - 1).min(16)).min(longest);
        self.length = backoff.mul_f64(0.5 + random / 2.0);
        // Never earlier than asked; a little later, so that many clients do not come back at once.
        let pause = match asked {
            Some(asked) if asked >= SHORTEST_WAIT => asked + FIRST_PAUSE.mul_f64(random),
            asked => self.length.max(asked.unwrap_or_default()),
        };
        self.until = self.asked_until.max(Some(now + pause));
        pause
    }

    /// Records a wait that the source asks for. A longer one counts, whichever request brings it.
    pub(super) fn ask(&mut self, asked: Option<Duration>, now: Instant) {
        self.asked_until = self.asked_until.max(asked.map(|asked| now + asked));
    }

    /// Extends the pause to the end of the wait that the source asked for.
    pub(super) fn extend(&mut self) {
        self.until = self.until.max(self.asked_until);
    }

    /// Ends the pause.
    pub(super) fn clear(&mut self) {
        (self.failures, self.until, self.asked_until) = (0, None, None);
    }

    /// Cuts the pause to the wait that the source asked for.
    pub(super) fn cut(&mut self) {
        self.until = self.asked_until;
    }

    /// Records a probe. The next one follows after the pause, even if this one is still in flight.
    pub(super) fn probed(&mut self, now: Instant) {
        self.until = self.until.max(Some(now + self.length.max(FIRST_PAUSE)));
    }

    /// Shortens the pause by the time for which the machine slept.
    pub(super) fn slept(&mut self, by: Duration) {
        for until in [&mut self.until, &mut self.asked_until] {
            *until = until.map(|until| until.checked_sub(by).unwrap_or(until));
        }
    }

    /// Returns the end of the last pause.
    pub(super) fn end(&self) -> Option<Instant> {
        self.until
    }

    /// Returns when the pause ends, if it lasts.
    pub(super) fn until(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| *until > now)
    }

    /// Returns when the wait ends that the source asked for, if it lasts.
    pub(super) fn asked_until(&self, now: Instant) -> Option<Instant> {
        self.asked_until.filter(|until| *until > now)
    }
}
