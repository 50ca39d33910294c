//! A circuit breaker: a sink that keeps failing is asked now and then, by one real delivery at a time, instead of
//! by all of them. Pure: the present and the randomness are arguments.
//!
//! ```text
//! closed ──half of the attempts of a minute failed, of ten at the least──▶ open
//!    ▲                                                                      │ a pause
//!    └────the probe was taken──── half-open ◀──one delivery is the probe────┘
//!                                     └──────the probe failed: the next pause──▶ open
//! ```

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use crate::{deliver::config::RetryConfig, model::sink::BreakerState, store::DeliveryKey};

/// The stretch of time over which the share of failures is taken.
pub const WINDOW: Duration = Duration::from_secs(60);

/// Attempts in the window below which nothing is concluded.
pub const MIN_ATTEMPTS: u32 = 10;

/// For how long attempts must have failed: many that fail in one instant are one incident.
pub const MIN_TIME: Duration = Duration::from_secs(1);

/// The share of failed attempts from which on the breaker opens.
pub const FAILURE_SHARE: f64 = 0.5;

/// Pauses follow the sink's own retry schedule, but at most double each time, within these bounds.
const PAUSE: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);

/// The pause of a sink that has no retry schedule.
const USUAL_PAUSE: Duration = Duration::from_secs(5);

/// The window is kept in slots of this length.
const SLOT: Duration = Duration::from_secs(5);

/// What came of the attempts of a slot.
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

/// Whether an attempt may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It may.
    Attempt,
    /// From then on, as the probe.
    Probe(Instant),
    /// Not while a probe is in flight.
    Hold,
}

/// The breaker of one sink.
#[derive(Debug)]
pub struct Breaker {
    slots: VecDeque<Slot>,
    state: State,
    /// Failed probes in a streak.
    failed_probes: usize,
    opened_at: Option<Instant>,
    /// Attempts in the window below which nothing is concluded.
    attempts: u32,
}

impl Default for Breaker {
    fn default() -> Self {
        Self::new(MIN_ATTEMPTS)
    }
}

impl Breaker {
    /// One that concludes nothing from fewer than `attempts` attempts a minute.
    #[must_use]
    pub fn new(attempts: u32) -> Self {
        Self { slots: VecDeque::new(), state: State::Closed, failed_probes: 0, opened_at: None, attempts }
    }

    /// Whether an attempt may be made.
    #[must_use]
    pub fn admission(&self) -> Admission {
        match self.state {
            State::Closed => Admission::Attempt,
            State::Open { until } => Admission::Probe(until),
            State::HalfOpen { .. } => Admission::Hold,
        }
    }

    /// Makes an attempt with `key` the probe, unless it is closed.
    pub fn probe(&mut self, key: DeliveryKey) {
        if let State::Open { .. } = self.state {
            self.state = State::HalfOpen { probe: key };
        }
    }

    /// Notes that the sink took a delivery. `true` when that closed the breaker.
    pub fn taken(&mut self, now: Instant) -> bool {
        let closed = self.close();
        self.slot(now).taken += 1;
        closed
    }

    /// Closes it, whatever happened before. `true` when it was not closed.
    pub fn close(&mut self) -> bool {
        let closed = self.state != State::Closed;
        if closed {
            *self = Self::new(self.attempts);
        }
        closed
    }

    /// Notes an attempt with `key` that failed; `random` lies in [0, 1). `true` when the breaker, closed before,
    /// opened.
    pub fn failed(&mut self, key: DeliveryKey, retry: &RetryConfig, now: Instant, random: f64) -> bool {
        let slot = self.slot(now);
        slot.failed += 1;
        slot.first_failure.get_or_insert(now);
        if self.state == State::Closed && self.is_too_much(now) {
            self.failed_probes = 0;
            self.open(retry, now, random);
            return true;
        }
        // Another attempt that began before it opened says nothing new.
        self.failed_probe(key, retry, now, random);
        false
    }

    /// Opens it again if the attempt with `key` was the probe.
    pub fn failed_probe(&mut self, key: DeliveryKey, retry: &RetryConfig, now: Instant, random: f64) {
        if self.state == (State::HalfOpen { probe: key }) {
            self.failed_probes += 1;
            self.open(retry, now, random);
        }
    }

    /// Notes that an attempt with `key` told nothing about the sink. If it was the probe, the next is.
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
        // Sinks that one outage struck do not all come back at the same instant.
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

    fn is_too_much(&self, now: Instant) -> bool {
        let (taken, failed) = self.counts(now);
        let first = self.slots.iter().find_map(|slot| slot.first_failure);
        let lasts = first.is_some_and(|first| now.saturating_duration_since(first) >= MIN_TIME);
        lasts
            && taken + failed >= self.attempts
            && f64::from(failed) >= FAILURE_SHARE * f64::from(taken + failed)
    }

    /// The share of attempts that succeeded in the last minute; `None` without any.
    #[must_use]
    pub fn success_share(&self, now: Instant) -> Option<f64> {
        let (taken, failed) = self.counts(now);
        (taken + failed > 0).then(|| f64::from(taken) / f64::from(taken + failed))
    }

    /// When it opened last, or the last probe failed.
    #[must_use]
    pub fn opened_at(&self) -> Option<Instant> {
        self.opened_at
    }

    /// When a probe may be made; `None` unless it is open.
    #[must_use]
    pub fn probe_at(&self) -> Option<Instant> {
        match self.state {
            State::Open { until } => Some(until),
            State::Closed | State::HalfOpen { .. } => None,
        }
    }

    /// The word for it.
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
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::util::units::HumanDuration;

    fn key(event: u64) -> DeliveryKey {
        DeliveryKey::new(event, "evt", "app")
    }

    fn retry() -> RetryConfig {
        RetryConfig { schedule: vec![HumanDuration::secs(2), HumanDuration::secs(300)], jitter: 0.0 }
    }

    /// A breaker that has just opened.
    fn open(now: Instant) -> Breaker {
        let mut breaker = Breaker::default();
        let begun = now.checked_sub(MIN_TIME).unwrap();
        assert!((0..20).all(|event| !breaker.failed(key(event), &retry(), begun, 0.5)), "all in one instant");
        assert!(breaker.failed(key(20), &retry(), now, 0.5));
        breaker
    }

    /// The pauses of a breaker whose probes fail.
    fn pauses() -> [Duration; 7] {
        let mut now = Instant::now();
        let mut breaker = open(now);
        std::array::from_fn(|_| {
            let at = breaker.probe_at().unwrap();
            let pause = at - now;
            now = at;
            breaker.probe(key(1));
            breaker.failed(key(1), &retry(), now, 0.5);
            pause
        })
    }

    #[test]
    fn half_of_the_attempts_of_a_minute_open_it_and_less_does_not() {
        let start = Instant::now();
        for (taken, failed, opens) in [(0, 9, false), (0, 10, true), (10, 9, false), (10, 10, true)] {
            let mut breaker = Breaker::default();
            (0..taken).for_each(|_| assert!(!breaker.taken(start)));
            let later = start + MIN_TIME;
            let opened = (0..failed).any(|event| {
                let now = if event == 0 { start } else { later };
                breaker.failed(key(event), &retry(), now, 0.5)
            });
            assert_eq!(opened, opens, "{taken} taken, {failed} failed");
        }
        let mut slow = Breaker::default();
        let opened = (0..100).any(|event| {
            let now = start + Duration::from_secs(7) * u32::try_from(event).unwrap();
            slow.failed(key(event), &retry(), now, 0.5)
        });
        assert!(!opened, "nine failures a minute are too few to conclude anything");
    }

    #[test]
    fn one_probe_a_pause_and_the_pauses_follow_the_schedule() {
        let start = Instant::now();
        let mut breaker = open(start);
        let first = start + Duration::from_secs(2);
        assert_eq!(breaker.admission(), Admission::Probe(first));
        breaker.probe(key(1));
        assert_eq!((breaker.state(), breaker.admission()), (BreakerState::HalfOpen, Admission::Hold));
        // One that was under way when it opened does not count as the probe.
        assert!(!breaker.failed(key(9), &retry(), first, 0.5));
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        breaker.failed(key(1), &retry(), first, 0.5);
        let second = first + Duration::from_secs(4);
        assert_eq!(breaker.probe_at(), Some(second), "twice the first pause, not the next step of 300 s");
        assert_eq!(pauses(), [2, 4, 8, 16, 32, 60, 60].map(Duration::from_secs));
        breaker.probe(key(3));
        breaker.abandoned(key(3), second);
        assert_eq!(breaker.admission(), Admission::Probe(second));
        breaker.probe(key(4));
        assert!(breaker.taken(second));
        assert_eq!((breaker.state(), breaker.admission()), (BreakerState::Closed, Admission::Attempt));
        assert_eq!(breaker.success_share(second), Some(1.0));
    }

    proptest! {
        #[test]
        fn it_never_lets_more_than_one_through_while_it_is_not_closed(
            steps in prop::collection::vec((0u64..30_000, 0u64..5, 0u8..4), 1..200), random in 0.0..1.0f64,
        ) {
            let mut now = Instant::now();
            let mut breaker = open(now);
            let mut probe: Option<DeliveryKey> = None;
            for (gap, event, what) in steps {
                now += Duration::from_millis(gap);
                let key = key(event);
                match what {
                    0 => if let Admission::Probe(until) = breaker.admission() && until <= now {
                        prop_assert_eq!(probe, None);
                        breaker.probe(key);
                        probe = Some(key);
                    },
                    1 => { breaker.failed(key, &retry(), now, random); }
                    2 => { breaker.taken(now); }
                    _ => breaker.abandoned(key, now),
                }
                if breaker.state() != BreakerState::HalfOpen { probe = None; }
                if let Some(until) = breaker.probe_at() {
                    prop_assert!(until <= now + PAUSE.end().mul_f64(1.1));
                }
            }
        }
    }
}
