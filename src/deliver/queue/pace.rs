//! How fast a sink is asked after trouble: from one attempt at a time up, as it takes them. Pure.
//!
//! Without trouble there is no limit but the sink's own. After an outage, or a first silence that the sink asked for,
//! the rate starts low and doubles about every second (by one attempt a second for each success). Overload sets it below
//! what the sink took in the last second, and lets it grow by a few percent a second from there, over later silences too.

use std::time::Duration;

use tokio::time::Instant;

/// Attempts a second after an outage.
const START: f64 = 2.0;

/// The lowest rate, in attempts a second.
const LEAST: f64 = 0.2;

/// The rate from which on none is kept.
const ENOUGH: f64 = 1000.0;

/// The share of what the sink takes that is kept after overload.
const BACK_OFF: f64 = 0.8;

/// How much each success adds to the rate after overload: 5 % a second.
const CAREFUL: f64 = 0.05;

/// For how long overload is remembered.
const MEMORY: Duration = Duration::from_secs(60);

/// Attempts that a timer held up may follow this much closer.
const SLACK: Duration = Duration::from_millis(20);

const SECOND: Duration = Duration::from_secs(1);

/// The pace of one sink.
#[derive(Clone, Debug)]
pub struct Pace {
    /// Attempts in flight at once, and the most there may ever be.
    window: usize,
    max: usize,
    /// Attempts a second; `None` for no limit.
    rate: Option<f64>,
    next: Option<Instant>,
    /// When the rate was last cut. What an attempt that began before says has been heeded.
    cut_at: Option<Instant>,
    /// The rate at which it is overloaded was met.
    overloaded: bool,
    /// Successes in the second that began then, and in the one before.
    second: Option<Instant>,
    taken: [u32; 2],
}

impl Pace {
    /// No limit but `max` in flight, of which `window` at first.
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

    /// Attempts that may be in flight at once.
    #[must_use]
    pub fn window(&self) -> usize {
        self.window
    }

    /// Attempts a second; `None` for no limit.
    #[must_use]
    pub fn rate(&self) -> Option<f64> {
        self.rate
    }

    /// When the next attempt may be made; `None` for at once.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.next.filter(|_| self.rate.is_some())
    }

    /// Counts an attempt.
    pub fn spend(&mut self, now: Instant) {
        if let Some(rate) = self.rate {
            let from = self.next.map_or(now, |next| next.max(now.checked_sub(SLACK).unwrap_or(now)));
            self.next = Some(from + Duration::from_secs_f64(1.0 / rate));
        }
    }

    /// Takes back an attempt that was not made.
    pub fn refund(&mut self, now: Instant) {
        self.next = self.next.map(|_| now);
    }

    /// Begins low, one attempt at a time, at `from`.
    pub fn restart(&mut self, from: Instant) {
        *self = Self { rate: Some(START), next: Some(from), ..Self::new(1, self.max) };
    }

    /// Notes a success.
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

    /// Notes that an attempt that `began` then met overload.
    pub fn overloaded(&mut self, began: Instant, now: Instant) {
        self.turn_second(now);
        if self.heeded(began) {
            return;
        }
        let took = f64::from(self.taken[0].max(self.taken[1]));
        match self.rate {
            // How much it can take is found out from here, in steps that double.
            None => self.slow_down(took.max(START), now),
            Some(rate) => {
                self.slow_down((rate.min(took.max(rate / 2.0)) * BACK_OFF).max(LEAST), now);
                self.overloaded = true;
            }
        }
    }

    /// Notes that an attempt that `began` then met overload, and that the sink wants silence until `until`. What is known
    /// of its rate holds: found out anew after each silence, it would be exceeded each time.
    pub fn silenced(&mut self, began: Instant, until: Instant, now: Instant) {
        self.turn_second(now);
        let (known, took_none) = ((self.rate, self.overloaded), self.taken == [0; 2]);
        self.overloaded(began, now);
        if took_none {
            // It was the silence that was too short.
            (self.rate, self.overloaded) = known;
        }
        if !self.overloaded {
            return self.restart(until);
        }
        self.rate = self.rate.map(|rate| rate.max(START));
        (self.window, self.next) = (1, Some(until));
    }

    /// Notes that an attempt that `began` then failed.
    pub fn failed(&mut self, began: Instant, now: Instant) {
        self.window = (self.window / 2).max(1);
        if let Some(rate) = self.rate.filter(|_| !self.heeded(began)) {
            self.slow_down((rate / 2.0).max(START.min(rate)), now);
        }
    }

    fn slow_down(&mut self, rate: f64, now: Instant) {
        self.rate = Some(rate);
        self.next = Some(now + Duration::from_secs_f64(1.0 / rate));
        self.cut_at = Some(now);
    }

    fn heeded(&self, began: Instant) -> bool {
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
