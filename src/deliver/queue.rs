//! What to do next for a sink: which delivery is due, and whether the sink may be asked now.
//!
//! [`Queue`] is a record with pure transitions: the time and the randomness are arguments. The task that drives
//! it is the courier.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use super::{
    RetryConfig, SinkConfig,
    breaker::{Breaker, Pass},
};
use crate::{budget::Budget, due_queue::DueQueue, store::DeliveryKey};

/// The longest a whole sink keeps quiet because it answered 429; a single delivery waits as long as it was asked.
const MAX_QUIET: Duration = Duration::from_secs(60);

/// When a delivery whose time is over is looked at again while a probe is under way.
const PROBE_PATIENCE: Duration = Duration::from_secs(5);

/// A wait beyond this need not be told apart from it.
const LONG: Duration = Duration::from_hours(365 * 24);

/// How a sink may be asked.
#[derive(Clone, Debug)]
pub struct Limits {
    /// When a failed delivery is tried again.
    pub retry: RetryConfig,
    /// Attempts under way at once.
    pub max_in_flight: usize,
    /// Attempts a second.
    pub max_per_second: Option<f64>,
    /// The events of one job go one after another.
    pub ordered: bool,
    /// Whether failures of some deliveries say something about the others.
    pub breaker: bool,
}

impl From<&SinkConfig> for Limits {
    fn from(config: &SinkConfig) -> Self {
        Self {
            retry: config.retry().clone(),
            max_in_flight: config.max_in_flight(),
            max_per_second: config.max_per_second(),
            ordered: config.ordered(),
            breaker: true,
        }
    }
}

/// What the driver is to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Attempt this delivery, after [`Queue::gate`] was asked, and tell [`Queue::finish`] afterwards.
    Take(DeliveryKey),
    /// Nothing is to be done before this time, or before somebody calls.
    Wait(Option<Instant>),
}

/// Whether a due delivery may go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// It may.
    Open,
    /// The sink keeps failing: the delivery is held and comes back by itself.
    Held,
    /// The sink kept failing until the delivery's whole schedule was over.
    Over,
}

/// The deliveries of one sink that are pending.
#[derive(Debug)]
pub struct Queue {
    limits: Limits,
    due: DueQueue<DeliveryKey>,
    /// Those that would be attempted if the breaker were closed, each with the time since when. They are in `due`
    /// too, at the end of their schedule.
    held: BTreeMap<DeliveryKey, Instant>,
    breaker: Breaker,
    rate: Option<Budget>,
    paused: bool,
    quiet_until: Option<Instant>,
}

impl Queue {
    /// An empty queue.
    #[must_use]
    pub fn new(limits: Limits, now: Instant) -> Self {
        Self {
            rate: limits.max_per_second.map(|rate| Budget::new(rate, now)),
            limits,
            due: DueQueue::default(),
            held: BTreeMap::new(),
            breaker: Breaker::default(),
            paused: false,
            quiet_until: None,
        }
    }

    /// Makes a delivery due at `at`.
    pub fn schedule(&mut self, key: DeliveryKey, at: Instant) {
        self.held.remove(&key);
        self.due.schedule(key, at);
    }

    /// Forgets a delivery that is gone.
    pub fn forget(&mut self, key: DeliveryKey) {
        self.held.remove(&key);
        self.due.remove(key);
    }

    /// Everything that waits, each with the time at which it is due. What a breaker held is due at once: it was to go as soon
    /// as the sink works again.
    pub fn drain(&mut self, now: Instant) -> Vec<(DeliveryKey, Instant)> {
        let held = std::mem::take(&mut self.held);
        let keys: Vec<DeliveryKey> = self.due.keys().copied().collect();
        let all = keys.into_iter().filter_map(|key| {
            let due = self.due.due(&key)?;
            self.due.remove(key);
            Some((key, if held.contains_key(&key) { now } else { due }))
        });
        all.collect()
    }

    /// Makes a delivery due, unless it is known.
    pub fn take_over(&mut self, key: DeliveryKey, at: Instant) {
        if self.due.due(&key).is_none() && !self.due.is_running(&key) {
            self.due.schedule(key, at);
        }
    }

    /// Stops taking deliveries, or goes on. Attempts under way go on.
    pub fn pause(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// What to do now.
    pub fn next(&mut self, now: Instant) -> Next {
        if self.paused || self.due.running() >= self.limits.max_in_flight {
            return Next::Wait(None);
        }
        if let Some(until) = self.quiet_until.filter(|until| *until > now) {
            return Next::Wait(Some(until));
        }
        let probe_at = self.breaker.probe_at().filter(|_| !self.held.is_empty());
        if probe_at.is_some_and(|at| at <= now)
            && let Some((oldest, _)) = self.held.first_key_value()
        {
            self.due.schedule(*oldest, now);
        }
        let Some(due) = self.due.next_due() else { return Next::Wait(None) };
        if due > now {
            return Next::Wait(Some(probe_at.map_or(due, |at| due.min(at))));
        }
        if let Some(Err(at)) = self.rate.as_mut().map(|rate| rate.take(now)) {
            return Next::Wait(Some(at));
        }
        self.due.take(now).map_or(Next::Wait(None), Next::Take)
    }

    /// Asks for an attempt of a delivery that was taken; `left` is how long the rest of its schedule is.
    ///
    /// An open breaker saves requests; it does not change when a delivery is given up: one that was held for the
    /// rest of its schedule, while the sink kept failing, is over.
    pub fn gate(&mut self, key: DeliveryKey, left: Duration, now: Instant) -> Gate {
        let until = match self.breaker.pass(key, now) {
            Pass::Attempt => {
                self.held.remove(&key);
                return Gate::Open;
            }
            Pass::Hold(until) => until,
        };
        let since = *self.held.entry(key).or_insert(now);
        let end = since + left.min(LONG);
        if now >= end && self.breaker.last_failure().is_some_and(|at| at > since) {
            self.held.remove(&key);
            return Gate::Over;
        }
        self.due.schedule(key, end.max(until.unwrap_or(now + PROBE_PATIENCE)));
        Gate::Held
    }

    /// Takes note that the sink took a delivery; what was held goes out. `true` when that closed the breaker.
    pub fn taken(&mut self, now: Instant) -> bool {
        let closed = self.limits.breaker && self.breaker.taken(now);
        if closed {
            for key in std::mem::take(&mut self.held).into_keys() {
                self.due.schedule(key, now);
            }
        }
        closed
    }

    /// Takes note that the sink failed; `random` lies in [0, 1). `true` when the breaker, closed before, opened.
    pub fn failed(&mut self, key: DeliveryKey, now: Instant, random: f64) -> bool {
        self.limits.breaker && self.breaker.failed(key, &self.limits.retry, now, random)
    }

    /// Takes note that the sink asks for fewer requests: nothing goes to it for a while.
    pub fn keep_quiet(&mut self, wait: Duration, now: Instant) {
        let until = now + wait.min(MAX_QUIET);
        self.quiet_until = self.quiet_until.max(Some(until));
    }

    /// Makes a delivery that was taken due later, without an attempt, unless something made it due meanwhile.
    pub fn put_off(&mut self, key: DeliveryKey, at: Instant) {
        if self.due.due(&key).is_none() {
            self.due.schedule(key, at);
        }
    }

    /// Ends what [`Next::Take`] began. With `again` the delivery is due then, unless something else made it due.
    pub fn finish(&mut self, key: DeliveryKey, again: Option<Instant>, now: Instant) {
        self.breaker.abandoned(key, now);
        if let Some(at) = again
            && self.due.due(&key).is_none()
        {
            self.due.schedule(key, at);
        }
        self.due.finish(key);
    }

    /// How a failed delivery is tried again.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The breaker.
    #[must_use]
    pub fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    /// Pending deliveries: in all, and of these under way.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        (self.due.len(), self.due.running())
    }

    /// The delivery of the oldest event.
    #[must_use]
    pub fn oldest(&self) -> Option<DeliveryKey> {
        self.due.keys().min().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api::view::BreakerState, units::Span};

    const HOUR: Duration = Duration::from_secs(3600);

    fn key(event: u64) -> DeliveryKey {
        DeliveryKey::new(event, "evt", "app")
    }

    fn limits() -> Limits {
        Limits {
            retry: RetryConfig { schedule: vec![Span::secs(10)], jitter: 0.0 },
            max_in_flight: 2,
            max_per_second: None,
            ordered: false,
            breaker: true,
        }
    }

    /// Lets ten deliveries fail, so that the breaker opens; the last one of `events` is a fresh one.
    fn failing(now: Instant) -> Queue {
        let begun = now.checked_sub(Duration::from_secs(1)).unwrap();
        let mut queue = Queue::new(limits(), begun);
        for event in 0..10 {
            let at = if event == 0 { begun } else { now };
            queue.schedule(key(event), at);
            assert_eq!(queue.next(at), Next::Take(key(event)));
            assert_eq!(queue.gate(key(event), HOUR, at), Gate::Open);
            assert_eq!(queue.failed(key(event), at, 0.5), event == 9);
            queue.finish(key(event), Some(now + HOUR), at);
        }
        queue
    }

    /// Takes what is due and asks for it.
    fn ask(queue: &mut Queue, now: Instant, left: Duration) -> (DeliveryKey, Gate) {
        let Next::Take(key) = queue.next(now) else { panic!("something is due") };
        (key, queue.gate(key, left, now))
    }

    #[test]
    fn it_takes_as_many_as_may_be_in_flight_and_none_while_paused() {
        let now = Instant::now();
        let mut queue = Queue::new(limits(), now);
        (1..=3).for_each(|event| queue.schedule(key(event), now));
        queue.pause(true);
        assert_eq!(queue.next(now), Next::Wait(None));
        queue.pause(false);
        assert_eq!([queue.next(now), queue.next(now)], [Next::Take(key(1)), Next::Take(key(2))]);
        assert_eq!(queue.next(now), Next::Wait(None));
        assert_eq!((queue.counts(), queue.oldest()), ((3, 2), Some(key(1))));
        queue.finish(key(1), None, now);
        assert_eq!(queue.next(now), Next::Take(key(3)));
    }

    #[test]
    fn a_rate_and_a_wish_for_fewer_requests_hold_for_the_whole_sink() {
        let now = Instant::now();
        let mut queue = Queue::new(Limits { max_per_second: Some(1.0), ..limits() }, now);
        (1..=2).for_each(|event| queue.schedule(key(event), now));
        assert_eq!(queue.next(now), Next::Take(key(1)));
        let Next::Wait(Some(at)) = queue.next(now) else { panic!("one a second") };
        assert!(at > now + Duration::from_millis(900));
        queue.keep_quiet(HOUR, now);
        assert_eq!(queue.next(at), Next::Wait(Some(now + MAX_QUIET)));
        assert_eq!(queue.next(now + MAX_QUIET), Next::Take(key(2)));
    }

    #[test]
    fn an_open_breaker_holds_what_is_due_and_a_success_lets_it_go() {
        let start = Instant::now();
        let mut queue = failing(start);
        assert_eq!(queue.breaker().state(), BreakerState::Open);
        for event in 20..23 {
            queue.schedule(key(event), start);
            assert_eq!(ask(&mut queue, start, HOUR), (key(event), Gate::Held));
            queue.finish(key(event), None, start);
        }
        let probe_at = start + Duration::from_secs(10);
        assert_eq!(queue.next(start), Next::Wait(Some(probe_at)));
        assert_eq!(ask(&mut queue, probe_at, HOUR), (key(20), Gate::Open), "the oldest is the probe");
        assert_eq!(queue.next(probe_at), Next::Wait(Some(start + HOUR)), "and the only one");
        assert!(queue.taken(probe_at));
        queue.finish(key(20), None, probe_at);
        assert_eq!(ask(&mut queue, probe_at, HOUR), (key(21), Gate::Open));
        assert_eq!(ask(&mut queue, probe_at, HOUR), (key(22), Gate::Open));
    }

    #[test]
    fn a_delivery_is_over_once_it_was_held_for_the_rest_of_its_schedule() {
        let start = Instant::now();
        let mut queue = failing(start);
        let (made, left) = (start + Duration::from_secs(1), Duration::from_secs(2));
        for event in 20..22 {
            queue.schedule(key(event), made);
            assert_eq!(ask(&mut queue, made, left), (key(event), Gate::Held));
            queue.finish(key(event), None, made);
        }
        // Nothing failed since they were made, so it is the probe that decides.
        let probe_at = start + Duration::from_secs(10);
        assert_eq!(ask(&mut queue, probe_at, left), (key(20), Gate::Open));
        assert_eq!(ask(&mut queue, probe_at, left), (key(21), Gate::Held));
        queue.finish(key(21), None, probe_at);
        queue.failed(key(20), probe_at, 0.5);
        queue.finish(key(20), Some(probe_at), probe_at);
        assert_eq!(ask(&mut queue, probe_at, left), (key(20), Gate::Held), "it is held anew");
        queue.finish(key(20), None, probe_at);
        let later = probe_at + PROBE_PATIENCE;
        assert_eq!(ask(&mut queue, later, left), (key(21), Gate::Over));
    }

    #[test]
    fn a_probe_that_says_nothing_hands_on_to_the_next() {
        let start = Instant::now();
        let mut queue = failing(start);
        let now = start + Duration::from_secs(11);
        (20..22).for_each(|event| queue.schedule(key(event), now));
        assert_eq!(ask(&mut queue, now, HOUR), (key(20), Gate::Open));
        queue.finish(key(20), None, now);
        assert_eq!(ask(&mut queue, now, HOUR), (key(21), Gate::Open));
    }
}
