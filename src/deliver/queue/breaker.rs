//! The circuit breaker: while a sink keeps failing, one delivery at a time probes it. Pure.
//!
//! ```text
//! closed ──half of the attempts of a minute failed, of at least ten───────▶ open
//!    ▲                                                                      │ a pause
//!    └────the probe succeeded──── half-open ◀──one delivery is the probe────┘
//!                                     └──────the probe failed: the next pause──▶ open
//! ```

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use crate::{deliver::config::RetryConfig, model::sink::BreakerState, store::DeliveryKey};

/// The time over which the breaker counts attempts.
pub const WINDOW: Duration = Duration::from_secs(60);

/// Attempts in the window below which the breaker stays closed.
pub const MIN_ATTEMPTS: u32 = 10;

/// The least time over which attempts must fail; many failures in one instant are one incident.
pub const MIN_TIME: Duration = Duration::from_secs(1);

/// The share of failed attempts that opens the breaker.
pub const FAILURE_SHARE: f64 = 0.5;

/// The bounds of a pause. Pauses follow the retry schedule of the sink, and at most double each
/// time.
const PAUSE: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);

/// The pause of a sink that has no retry schedule.
const USUAL_PAUSE: Duration = Duration::from_secs(5);

/// The length of a slot; the window consists of slots.
const SLOT: Duration = Duration::from_secs(5);

/// The results of the attempts of a slot.
#[derive(Clone, Copy, Debug)]
struct Slot {
    begun: Instant,
    taken: u32,
    failed: u32,
    first_failure: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Open { until: Instant },
    HalfOpen { probe: DeliveryKey },
}

/// The admission of attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Every attempt.
    Attempt,
    /// One attempt as the probe, from this time on.
    Probe(Instant),
    /// No attempt while the probe is in flight.
    Hold,
}

/// The breaker of one sink.
#[derive(Debug)]
pub struct Breaker {
    slots: VecDeque<Slot>,
    state: State,
    /// Failed probes in a row.
    failed_probes: usize,
    opened_at: Option<Instant>,
    /// Attempts in the window below which it stays closed.
    attempts: u32,
}

impl Default for Breaker {
    fn default() -> Self {
        Self::new(MIN_ATTEMPTS)
    }
}

impl Breaker {
    /// Returns a closed breaker that opens only after `attempts` attempts a minute.
    #[must_use]
    pub fn new(attempts: u32) -> Self {
        Self { slots: VecDeque::new(), state: State::Closed, failed_probes: 0, opened_at: None, attempts }
    }

    /// Returns which attempts are admitted.
    #[must_use]
    pub fn admission(&self) -> Admission {
        match self.state {
            State::Closed => Admission::Attempt,
            State::Open { until } => Admission::Probe(until),
            State::HalfOpen { .. } => Admission::Hold,
        }
    }

    /// Makes the attempt of `key` the probe, if the breaker is open.
    pub fn probe(&mut self, key: DeliveryKey) {
        if let State::Open { .. } = self.state {
            self.state = State::HalfOpen { probe: key };
        }
    }

    /// Records a success. Returns whether that closed the breaker.
    pub fn taken(&mut self, now: Instant) -> bool {
        let closed = self.close();
        self.slot(now).taken += 1;
        closed
    }

    /// Closes the breaker. Returns whether it was not closed.
    pub fn close(&mut self) -> bool {
        let closed = self.state != State::Closed;
        if closed {
            *self = Self::new(self.attempts);
        }
        closed
    }

    /// Records a failed attempt of `key`; `random` lies in [0, 1). Returns whether that opened the
    /// closed breaker.
    pub fn failed(&mut self, key: DeliveryKey, retry: &RetryConfig, now: Instant, random: f64) -> bool {
        let slot = self.slot(now);
        slot.failed += 1;
        slot.first_failure.get_or_insert(now);
        if self.state == State::Closed && self.is_failing(now) {
            self.failed_probes = 0;
            self.open(retry, now, random);
            return true;
        }
        // Attempts that began before the breaker opened do not count.
        self.failed_probe(key, retry, now, random);
        false
    }

    /// Opens the breaker again if the attempt of `key` was the probe.
    pub fn failed_probe(&mut self, key: DeliveryKey, retry: &RetryConfig, now: Instant, random: f64) {
        if self.state == (State::HalfOpen { probe: key }) {
            self.failed_probes += 1;
            self.open(retry, now, random);
        }
    }

    /// Records that the attempt of `key` said nothing about the sink. If it was the probe, the next
    /// attempt is.
    pub fn abandoned(&mut self, key: DeliveryKey, now: Instant) {
        if self.state == (State::HalfOpen { probe: key }) {
            self.state = State::Open { until: now };
        }
    }

    fn open(&mut self, retry: &RetryConfig, now: Instant, random: f64) {
        let step =
            |at: usize| retry.schedule.get(at).or(retry.schedule.last()).map_or(USUAL_PAUSE, |step| step.0);
        let doubled = step(0).max(*PAUSE.start()).saturating_mul(1 << self.failed_probes.min(16));
        let pause = step(self.failed_probes).min(doubled).clamp(*PAUSE.start(), *PAUSE.end());
        self.opened_at = Some(now);
        // Spreads the probes of sinks that failed in the same outage.
        self.state = State::Open { until: now + pause.mul_f64(1.0 + 0.2 * (random - 0.5)) };
    }

    fn slot(&mut self, now: Instant) -> &mut Slot {
        while self.slots.front().is_some_and(|slot| now.saturating_duration_since(slot.begun) >= WINDOW) {
            self.slots.pop_front();
        }
        if self.slots.back().is_none_or(|slot| now.saturating_duration_since(slot.begun) >= SLOT) {
            self.slots.push_back(Slot { begun: now, taken: 0, failed: 0, first_failure: None });
        }
        let last = self.slots.len() - 1;
        &mut self.slots[last]
    }

    fn counts(&self, now: Instant) -> (u32, u32) {
        let recent = self.slots.iter().filter(|slot| now.saturating_duration_since(slot.begun) < WINDOW);
        recent.fold((0, 0), |(taken, failed), slot| (taken + slot.taken, failed + slot.failed))
    }

    fn is_failing(&self, now: Instant) -> bool {
        let (taken, failed) = self.counts(now);
        let first = self.slots.iter().find_map(|slot| slot.first_failure);
        let lasts = first.is_some_and(|first| now.saturating_duration_since(first) >= MIN_TIME);
        lasts
            && taken + failed >= self.attempts
            && f64::from(failed) >= FAILURE_SHARE * f64::from(taken + failed)
    }

    /// Returns the share of successful attempts in the last minute; `None` without attempts.
    #[must_use]
    pub fn success_share(&self, now: Instant) -> Option<f64> {
        let (taken, failed) = self.counts(now);
        (taken + failed > 0).then(|| f64::from(taken) / f64::from(taken + failed))
    }

    /// Returns when the breaker last opened, or the last probe failed.
    #[must_use]
    pub fn opened_at(&self) -> Option<Instant> {
        self.opened_at
    }

    /// Returns when the next probe may start; `None` unless the breaker is open.
    #[must_use]
    pub fn probe_at(&self) -> Option<Instant> {
        match self.state {
            State::Open { until } => Some(until),
            State::Closed | State::HalfOpen { .. } => None,
        }
    }

    /// Returns the state.
    #[must_use]
    pub fn state(&self) -> BreakerState {
        match self.state {
            State::Closed => BreakerState::Closed,
            State::Open { .. } => BreakerState::Open,
            State::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }
}

#[cfg(test)]
mod tests;
