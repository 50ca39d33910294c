//! The queue of one sink: which delivery is attempted next, and when.
//!
//! | module | decides |
//! | --- | --- |
//! | [`decision`] | what an outcome means for its delivery and its sink; **the only place that makes a dead letter** |
//! | [`retry`] | when a failed delivery is attempted again |
//! | [`breaker`] | whether a failing sink gets more than probes |
//! | `pace` | the rate after an outage or overload |
//! | `streak` | whether a sink counts as failing |
//! | [`limits`], [`order`] | attempts in flight, and the turns of an ordered sink |
//! | [`origins`], [`backlog`] | a queue for each origin of callbacks |
//!
//! The room is pure: time and randomness are arguments, and the worker drives it. A delivery that
//! waits for its sink keeps its due time and its schedule; only attempts use up steps. The queue
//! must not know how an attempt is made.

pub(crate) mod backlog;
pub(crate) mod breaker;
pub(crate) mod decision;
pub(crate) mod limits;
pub(crate) mod origins;
mod health;
mod pace;
pub(crate) mod retry;
mod streak;
pub(crate) mod order;

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use crate::{
    deliver::queue::{
        breaker::{Admission, Breaker},
        limits::Limits,
        pace::Pace,
        retry::whole,
        streak::FailureStreak,
    },
    store::DeliveryKey,
    util::{budget::Budget, due_queue::DueQueue},
};

/// The longest wait; longer ones are cut to it.
const LONGEST: Duration = Duration::from_hours(24 * 365);

/// The pause between probes once deliveries are overdue by more than their whole schedule.
const OVERDUE_PAUSE: Duration = Duration::from_millis(200);

/// Attempts whose outcomes are on their way to the disk. With so many the queue waits for the disk.
const MAX_RECORDING: usize = 256;

/// The next step of the worker.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Attempt this delivery and call [`Queue::update_breaker`], or call [`Queue::defer`]; then
    /// call [`Queue::finish`].
    Take(DeliveryKey),
    /// Wait until this time, or until the queue changes.
    Wait(Option<Instant>),
}

/// A change of the breaker by an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerChange {
    /// The breaker opened.
    Opened,
    /// The breaker closed.
    Closed,
}

/// An attempt in flight.
#[derive(Clone, Copy, Debug)]
struct InFlight {
    began: Instant,
    failed: Option<LastFailure>,
    /// The outcome is known. Only its record is not durable yet.
    has_ended: bool,
}

/// The last failure of a delivery.
#[derive(Clone, Copy, Debug)]
struct LastFailure {
    /// Deliveries that the sink had taken before.
    took: u64,
    /// When the sink allows the next attempt; unset when the failure was not the sink's.
    outage: Option<Instant>,
}

/// The pending deliveries of one sink.
#[derive(Debug)]
pub struct Queue {
    limits: Limits,
    /// Deliveries without a failed attempt since the start of the daemon.
    fresh: DueQueue<DeliveryKey>,
    /// Deliveries with a failed attempt.
    tried: DueQueue<DeliveryKey>,
    /// The last failure of each delivery in `tried`.
    failed: HashMap<DeliveryKey, LastFailure>,
    in_flight: HashMap<DeliveryKey, InFlight>,
    /// How many of those have ended, and are being recorded.
    recording: usize,
    /// The number of deliveries that the sink took, and the time of the last.
    took: u64,
    took_at: Option<Instant>,
    streak: FailureStreak,
    breaker: Breaker,
    pace: Pace,
    rate: Option<Budget>,
    paused: bool,
    quiet_until: Option<Instant>,
    /// Whether a fresh delivery is next while the sink is failing.
    fresh_next: bool,
}

impl Queue {
    /// Returns an empty queue.
    #[must_use]
    pub fn new(limits: Limits, now: Instant) -> Self {
        Self {
            fresh: DueQueue::default(),
            tried: DueQueue::default(),
            failed: HashMap::new(),
            in_flight: HashMap::new(),
            recording: 0,
            took: 0,
            took_at: None,
            streak: FailureStreak::default(),
            breaker: Breaker::new(limits.breaker_attempts),
            pace: Pace::new(limits.first_in_flight, limits.max_in_flight),
            rate: limits.max_per_second.map(|rate| Budget::new(rate, now)),
            paused: false,
            quiet_until: None,
            fresh_next: true,
            limits,
        }
    }

    fn lane(&mut self, key: DeliveryKey) -> &mut DueQueue<DeliveryKey> {
        if self.failed.contains_key(&key) { &mut self.tried } else { &mut self.fresh }
    }

    fn due(&self, key: DeliveryKey) -> Option<Instant> {
        self.fresh.due(&key).or_else(|| self.tried.due(&key))
    }

    fn keys(&self) -> impl Iterator<Item = DeliveryKey> {
        self.fresh.keys().chain(self.tried.keys()).copied()
    }

    /// Schedules a delivery at `at`.
    pub fn schedule(&mut self, key: DeliveryKey, at: Instant) {
        self.lane(key).schedule(key, at);
    }

    /// Forgets a delivery whose records are gone.
    pub fn forget(&mut self, key: DeliveryKey) {
        self.lane(key).remove(key);
        if !self.in_flight.contains_key(&key) {
            self.failed.remove(&key);
        }
    }

    /// Removes and returns the waiting deliveries with their due times. Deliveries in flight stay.
    pub fn drain(&mut self) -> Vec<(DeliveryKey, Instant)> {
        let keys: Vec<DeliveryKey> = self.keys().collect();
        let due = keys.into_iter().filter_map(|key| {
            let due = self.due(key)?;
            self.forget(key);
            Some((key, due))
        });
        due.collect()
    }

    /// Schedules a delivery, unless the queue has it.
    pub fn take_over(&mut self, key: DeliveryKey, at: Instant) {
        if self.due(key).is_none() && !self.in_flight.contains_key(&key) {
            self.schedule(key, at);
        }
    }

    /// Pauses or resumes the queue. Attempts in flight go on.
    pub fn pause(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// Releases the next delivery, or returns until when to wait.
    pub fn release_next(&mut self, now: Instant) -> Next {
        let Some(at) = self.ready_at() else { return Next::Wait(None) };
        if at > now {
            return Next::Wait(Some(at));
        }
        if let Some(Err(at)) = self.rate.as_mut().map(|rate| rate.take(now)) {
            return Next::Wait(Some(at));
        }
        let Some(key) = self.choose(now) else { return Next::Wait(None) };
        self.in_flight.insert(key, InFlight { began: now, failed: None, has_ended: false });
        self.pace.spend(now);
        self.breaker.probe(key);
        Next::Take(key)
    }

    /// Returns when the next delivery may go: it is due, no silence holds, and breaker and pace
    /// admit it. `None` means not before a change.
    #[must_use]
    pub fn ready_at(&self) -> Option<Instant> {
        if self.paused || self.unanswered() >= self.pace.window() || self.recording >= MAX_RECORDING {
            return None;
        }
        let due = self.fresh.next_due().into_iter().chain(self.tried.next_due()).min()?;
        let probe_at = match self.breaker.admission() {
            Admission::Attempt => None,
            Admission::Probe(until) => Some(until.min(self.overdue_at(due))),
            Admission::Hold => return None,
        };
        [Some(due), self.quiet_until, probe_at, self.pace.next()].into_iter().flatten().max()
    }

    /// Returns the latest time of a probe. A delivery overdue by a whole schedule would be a dead
    /// letter without the breaker, so it is attempted soon, and no outage keeps it for ever.
    fn overdue_at(&self, due: Instant) -> Instant {
        let whole = whole(&self.limits.retry).min(LONGEST);
        let opened = self.breaker.opened_at().unwrap_or(due);
        (due + whole).max(opened + OVERDUE_PAUSE)
    }

    /// Takes the delivery that has been due the longest. While the sink is failing, deliveries that
    /// failed before and fresh ones alternate, so that no single event is every probe or holds up
    /// the others.
    fn choose(&mut self, now: Instant) -> Option<DeliveryKey> {
        let is_failing = self.breaker.admission() != Admission::Attempt || self.pace.rate().is_some();
        let fresh = if is_failing {
            self.fresh_next = !self.fresh_next;
            !self.fresh_next
        } else {
            let (fresh, tried) = (self.fresh.next_due(), self.tried.next_due());
            tried.is_none_or(|tried| fresh.is_some_and(|fresh| fresh <= tried))
        };
        let (first, second) =
            if fresh { (&mut self.fresh, &mut self.tried) } else { (&mut self.tried, &mut self.fresh) };
        first.take(now).or_else(|| second.take(now))
    }

    /// Returns whether the queue has a delivery, waiting or in flight.
    #[must_use]
    pub fn knows(&self, key: DeliveryKey) -> bool {
        self.in_flight.contains_key(&key) || self.due(key).is_some()
    }

    /// Schedules a released delivery for later without an attempt, unless it was scheduled since.
    pub fn defer(&mut self, key: DeliveryKey, at: Instant) {
        if self.due(key).is_none() {
            self.schedule(key, at);
        }
    }

    /// Returns the permit of a released delivery that was not attempted.
    pub fn refund(&mut self, now: Instant) {
        self.pace.refund(now);
        if let Some(rate) = &mut self.rate {
            rate.refund();
        }
    }

    /// Ends a release. The delivery is due at `again`, unless it was scheduled since.
    pub fn finish(&mut self, key: DeliveryKey, again: Option<Instant>, now: Instant) {
        self.breaker.abandoned(key, now);
        let Some(attempt) = self.in_flight.remove(&key) else { return };
        self.recording -= usize::from(attempt.has_ended);
        let due = self.due(key).or(again);
        let lane = self.lane(key);
        lane.remove(key);
        lane.finish(key);
        match due {
            Some(at) => {
                if let Some(failed) = attempt.failed {
                    self.failed.insert(key, failed);
                }
                self.schedule(key, at);
            }
            None => {
                self.failed.remove(&key);
            }
        }
    }

    /// Returns the limits of the sink.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Returns the number of pending deliveries, and how many of them are in flight.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        (self.fresh.len() + self.tried.len(), self.unanswered())
    }

    /// Returns how many attempts the sink has not answered. Those that are being recorded take
    /// nobody's place.
    fn unanswered(&self) -> usize {
        self.in_flight.len() - self.recording
    }

    /// Returns the delivery of the oldest event.
    #[must_use]
    pub fn oldest(&self) -> Option<DeliveryKey> {
        self.keys().min()
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod simulation;
