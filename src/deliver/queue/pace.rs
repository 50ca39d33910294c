//! The rate of attempts after an outage or overload. Pure.
//!
//! A working sink has no limit but its own. After an outage, or the first silence that a sink asks
//! for, the rate starts low and grows by one attempt a second with each success, so it doubles
//! about every second. Overload cuts the rate below what the sink took in the last second. From
//! there it grows by a few percent a second, over later silences too.

use std::time::Duration;

use tokio::time::Instant;

/// Attempts a second after an outage.
const START: f64 = 2.0;

/// The lowest rate, in attempts a second.
const LEAST: f64 = 0.2;

/// The rate that lifts the limit.
const ENOUGH: f64 = 1000.0;

/// The share of the sink's throughput that remains after overload.
const BACK_OFF: f64 = 0.8;

/// The growth of the rate by each success after overload: 5 % a second.
const CAREFUL: f64 = 0.05;

/// The time after which overload is forgotten.
const MEMORY: Duration = Duration::from_secs(60);

/// The time by which a late timer may shorten the next gap.
const SLACK: Duration = Duration::from_millis(20);

const SECOND: Duration = Duration::from_secs(1);

/// The pace of one sink.
#[derive(Clone, Debug)]
pub struct Pace {
    /// The current and the highest limit of attempts in flight.
    window: usize,
    max: usize,
    /// The limit in attempts a second; unset for no limit.
    rate: Option<f64>,
    next: Option<Instant>,
    /// The time of the last cut. Attempts that began before it cause no other cut.
    cut_at: Option<Instant>,
    /// Whether the rate has met the sink's limit.
    overloaded: bool,
    /// The start of the current second, and the successes of the previous and the current one.
    second: Option<Instant>,
    taken: [u32; 2],
}

impl Pace {
    /// Returns a pace without a rate, with `window` attempts in flight at first and `max` at most.
    #[must_use]
    pub fn new(window: usize, max: usize) -> Self {
        Self {
            window: window.min(max),
            max,
            rate: None,
            next: None,
            cut_at: None,
            overloaded: false,
            second: None,
            taken: [0; 2],
        }
    }

    /// Returns the most attempts in flight.
    #[must_use]
    pub fn window(&self) -> usize {
        self.window
    }

    /// Returns the limit in attempts a second; `None` for no limit.
    #[must_use]
    pub fn rate(&self) -> Option<f64> {
        self.rate
    }

    /// Returns when the next attempt may start; `None` for at once.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.next.filter(|_| self.rate.is_some())
    }

    /// Records the start of an attempt.
    pub fn spend(&mut self, now: Instant) {
        if let Some(rate) = self.rate {
            let from = self.next.map_or(now, |next| next.max(now.checked_sub(SLACK).unwrap_or(now)));
            self.next = Some(from + Duration::from_secs_f64(1.0 / rate));
        }
    }

    /// Takes back the start of an attempt that was not made.
    pub fn refund(&mut self, now: Instant) {
        self.next = self.next.map(|_| now);
    }

    /// Restarts at `from` with the lowest rate and one attempt in flight.
    pub fn restart(&mut self, from: Instant) {
        *self = Self { rate: Some(START), next: Some(from), ..Self::new(1, self.max) };
    }

    /// Records a success.
    pub fn taken(&mut self, now: Instant) {
        self.turn_second(now);
        self.taken[1] += 1;
        self.window = (self.window + 1).min(self.max);
        if self.cut_at.is_some_and(|at| now.saturating_duration_since(at) >= MEMORY) {
            (self.cut_at, self.overloaded) = (None, false);
        }
        let growth = if self.overloaded { CAREFUL } else { 1.0 };
        self.rate = self.rate.map(|rate| rate + growth).filter(|rate| *rate < ENOUGH || self.overloaded);
    }

    /// Records that an attempt, begun at `began`, met overload.
    pub fn overloaded(&mut self, began: Instant, now: Instant) {
        self.turn_second(now);
        if self.is_before_cut(began) {
            return;
        }
        let took = f64::from(self.taken[0].max(self.taken[1]));
        match self.rate {
            // The rate doubles from here until the sink is overloaded again.
            None => self.slow_down(took.max(START), now),
            Some(rate) => {
                self.slow_down((rate.min(took.max(rate / 2.0)) * BACK_OFF).max(LEAST), now);
                self.overloaded = true;
            }
        }
    }

    /// Records that an attempt, begun at `began`, met overload, and that the sink asked for silence
    /// until `until`. The known rate stays, because searching for it after each silence would
    /// exceed it each time.
    pub fn silenced(&mut self, began: Instant, until: Instant, now: Instant) {
        self.turn_second(now);
        let (known, took_none) = ((self.rate, self.overloaded), self.taken == [0; 2]);
        self.overloaded(began, now);
        if took_none {
            // The silence was too short; the rate is not to blame.
            (self.rate, self.overloaded) = known;
        }
        if !self.overloaded {
            return self.restart(until);
        }
        self.rate = self.rate.map(|rate| rate.max(START));
        (self.window, self.next) = (1, Some(until));
    }

    /// Records that an attempt, begun at `began`, failed.
    pub fn failed(&mut self, began: Instant, now: Instant) {
        self.window = (self.window / 2).max(1);
        if let Some(rate) = self.rate.filter(|_| !self.is_before_cut(began)) {
            self.slow_down((rate / 2.0).max(START.min(rate)), now);
        }
    }

    fn slow_down(&mut self, rate: f64, now: Instant) {
        self.rate = Some(rate);
        self.next = Some(now + Duration::from_secs_f64(1.0 / rate));
        self.cut_at = Some(now);
    }

    fn is_before_cut(&self, began: Instant) -> bool {
        self.cut_at.is_some_and(|at| began < at)
    }

    fn turn_second(&mut self, now: Instant) {
        let begun = *self.second.get_or_insert(now);
        let elapsed = now.saturating_duration_since(begun);
        if elapsed >= SECOND {
            self.taken = [if elapsed < 2 * SECOND { self.taken[1] } else { 0 }, 0];
            self.second = Some(now);
        }
    }
}
