//! What to do next for a sink: which delivery is due, and whether the sink may be asked now.
//!
//! [`Queue`] is a record with pure transitions: the time and the randomness are arguments. The task that drives
//! it is the worker. A delivery that waits because of the sink stays due as it is: it is taken when the sink may be
//! asked again, and only attempts use up its schedule.

pub mod backlog;
pub mod breaker;
pub mod decision;
pub mod limits;
pub mod origins;
mod pace;
pub mod retry;
mod streak;
pub mod order;

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use crate::{
    deliver::queue::{
        breaker::{Admission, Breaker},
        decision::SinkSignal,
        limits::Limits,
        pace::Pace,
        retry::whole,
        streak::FailureStreak,
    },
    store::DeliveryKey,
    util::{budget::Budget, due_queue::DueQueue},
};

/// The longest silence of a whole sink that answered 429; a single delivery waits as long as it was asked.
const MAX_QUIET: Duration = Duration::from_secs(60);

/// A sink that took an event so recently takes others.
const TAKING: Duration = Duration::from_secs(10);

/// A wait beyond this need not be told apart from it.
const LONGEST: Duration = Duration::from_hours(24 * 365);

/// The pause between probes once deliveries have waited for longer than their whole schedule takes.
const OVERDUE_PAUSE: Duration = Duration::from_millis(200);

/// What the driver is to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Attempt this delivery and tell [`Queue::record`], or tell [`Queue::defer`]; then [`Queue::finish`].
    Take(DeliveryKey),
    /// Nothing is to be done before this time, or before somebody calls.
    Wait(Option<Instant>),
}

/// What an attempt did to the breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerChange {
    /// It opened.
    Opened,
    /// It closed.
    Closed,
}

/// An attempt in flight.
#[derive(Clone, Copy, Debug)]
struct InFlight {
    began: Instant,
    failed: Option<LastFailure>,
}

/// The last failure of a delivery.
#[derive(Clone, Copy, Debug)]
struct LastFailure {
    /// Deliveries that the sink had taken by then.
    took: u64,
    /// It was the sink's; the delivery may go again from then on, as far as the sink is concerned.
    outage: Option<Instant>,
}

/// The deliveries of one sink that are pending.
#[derive(Debug)]
pub struct Queue {
    limits: Limits,
    /// Deliveries of which no attempt failed since the start.
    fresh: DueQueue<DeliveryKey>,
    /// Deliveries of which one failed.
    tried: DueQueue<DeliveryKey>,
    /// Those in `tried`.
    failed: HashMap<DeliveryKey, LastFailure>,
    running: HashMap<DeliveryKey, InFlight>,
    /// Deliveries that the sink took since the start, and when it took the last.
    took: u64,
    took_at: Option<Instant>,
    streak: FailureStreak,
    breaker: Breaker,
    pace: Pace,
    rate: Option<Budget>,
    paused: bool,
    quiet_until: Option<Instant>,
    /// While the sink is in trouble it is the turn of a fresh delivery.
    fresh_next: bool,
}

impl Queue {
    /// An empty queue.
    #[must_use]
    pub fn new(limits: Limits, now: Instant) -> Self {
        Self {
            fresh: DueQueue::default(),
            tried: DueQueue::default(),
            failed: HashMap::new(),
            running: HashMap::new(),
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

    /// Makes a delivery due at `at`.
    pub fn schedule(&mut self, key: DeliveryKey, at: Instant) {
        self.lane(key).schedule(key, at);
    }

    /// Forgets a delivery that is gone.
    pub fn forget(&mut self, key: DeliveryKey) {
        self.lane(key).remove(key);
        if !self.running.contains_key(&key) {
            self.failed.remove(&key);
        }
    }

    /// Everything that waits, each with the time at which it is due; the queue keeps what is in flight.
    pub fn drain(&mut self) -> Vec<(DeliveryKey, Instant)> {
        let keys: Vec<DeliveryKey> = self.keys().collect();
        let due = keys.into_iter().filter_map(|key| {
            let due = self.due(key)?;
            self.forget(key);
            Some((key, due))
        });
        due.collect()
    }

    /// Makes a delivery due, unless it is known.
    pub fn take_over(&mut self, key: DeliveryKey, at: Instant) {
        if self.due(key).is_none() && !self.running.contains_key(&key) {
            self.schedule(key, at);
        }
    }

    /// Stops taking deliveries, or goes on. Attempts in flight go on.
    pub fn pause(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// Asks the sink again as if it worked, from a low rate up. `true` when the breaker was not closed.
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

    /// What to do now.
    pub fn next(&mut self, now: Instant) -> Next {
        let Some(at) = self.ready_at() else { return Next::Wait(None) };
        if at > now {
            return Next::Wait(Some(at));
        }
        if let Some(Err(at)) = self.rate.as_mut().map(|rate| rate.take(now)) {
            return Next::Wait(Some(at));
        }
        let Some(key) = self.choose(now) else { return Next::Wait(None) };
        self.running.insert(key, InFlight { began: now, failed: None });
        self.pace.spend(now);
        self.breaker.probe(key);
        Next::Take(key)
    }

    /// When the next delivery may go: once it is due, the silence that the sink asked for is over, and breaker and
    /// pace allow one. `None` before something changes.
    #[must_use]
    pub fn ready_at(&self) -> Option<Instant> {
        if self.paused || self.running.len() >= self.pace.window() {
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

    /// When a probe is made at the latest. A delivery that is due for longer than a whole schedule takes would be
    /// a dead letter by now without the breaker: it is tried soon, so that an outage does not keep it for ever.
    fn overdue_at(&self, due: Instant) -> Instant {
        let whole = whole(&self.limits.retry).min(LONGEST);
        let opened = self.breaker.opened_at().unwrap_or(due);
        (due + whole).max(opened + OVERDUE_PAUSE)
    }

    /// The delivery to attempt: the one due the longest. While the sink is in trouble those that failed before and
    /// the others take order, so that no event is the probe again and again, and none holds up the others.
    fn choose(&mut self, now: Instant) -> Option<DeliveryKey> {
        let troubled = self.breaker.admission() != Admission::Attempt || self.pace.rate().is_some();
        let fresh = if troubled {
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

    /// Whether it has a delivery, waiting or in flight.
    #[must_use]
    pub fn knows(&self, key: DeliveryKey) -> bool {
        self.running.contains_key(&key) || self.due(key).is_some()
    }

    /// Whether the sink took another event since this delivery failed last.
    #[must_use]
    pub fn passed_by(&self, key: DeliveryKey) -> bool {
        self.failed.get(&key).is_some_and(|failed| failed.took < self.took)
    }

    /// Whether the sink took an event within the last seconds.
    #[must_use]
    pub fn is_taking(&self, now: Instant) -> bool {
        self.took_at.is_some_and(|at| now.saturating_duration_since(at) < TAKING)
    }

    /// Notes what an attempt said about the sink, which may have asked for a wait; `random` lies in [0, 1).
    pub fn record(
        &mut self,
        key: DeliveryKey,
        signal: SinkSignal,
        asked: Option<Duration>,
        now: Instant,
        random: f64,
    ) -> Option<BreakerChange> {
        let began = self.running.get(&key).map_or(now, |run| run.began);
        if signal == SinkSignal::Works {
            self.pace.taken(now);
            let change = self.answered(now);
            if change.is_some() {
                self.bring_forward(now);
            }
            (self.took, self.took_at, self.streak) = (self.took + 1, Some(now), FailureStreak::default());
            return change;
        }
        if let Some(run) = self.running.get_mut(&key) {
            let outage = (signal == SinkSignal::Fails).then(|| now + asked.unwrap_or_default().min(LONGEST));
            run.failed = Some(LastFailure { took: self.took, outage });
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

    /// The sink answered as one that works.
    fn answered(&mut self, now: Instant) -> Option<BreakerChange> {
        self.breaker.taken(now).then(|| {
            self.pace.restart(now);
            BreakerChange::Closed
        })
    }

    /// Makes what failed in the outage that is over due again, unless the sink asked for a longer wait: the steps
    /// of the schedule were for the outage.
    fn bring_forward(&mut self, now: Instant) {
        for (key, failed) in &self.failed {
            if let Some(from) = failed.outage.filter(|_| failed.took == self.took)
                && self.tried.due(key).is_some_and(|due| due > from.max(now))
            {
                self.tried.schedule(*key, from.max(now));
            }
        }
    }

    /// Sends nothing for a while; afterwards deliveries go out one by one at first.
    fn throttle(&mut self, wait: Duration, began: Instant, now: Instant) {
        let until = now + wait.min(MAX_QUIET);
        self.quiet_until = self.quiet_until.max(Some(until));
        self.pace.silenced(began, until, now);
    }

    /// Makes a delivery that was taken due later, without an attempt, unless something made it due meanwhile.
    pub fn defer(&mut self, key: DeliveryKey, at: Instant) {
        if self.due(key).is_none() {
            self.schedule(key, at);
        }
    }

    /// Takes back what [`Next::Take`] counted, when no attempt was made.
    pub fn refund(&mut self, now: Instant) {
        self.pace.refund(now);
        if let Some(rate) = &mut self.rate {
            rate.refund();
        }
    }

    /// Ends what [`Next::Take`] began. With `again` the delivery is due then, unless something else made it due.
    pub fn finish(&mut self, key: DeliveryKey, again: Option<Instant>, now: Instant) {
        self.breaker.abandoned(key, now);
        let Some(run) = self.running.remove(&key) else { return };
        let due = self.due(key).or(again);
        let lane = self.lane(key);
        lane.remove(key);
        lane.finish(key);
        match due {
            Some(at) => {
                if let Some(failed) = run.failed {
                    self.failed.insert(key, failed);
                }
                self.schedule(key, at);
            }
            None => {
                self.failed.remove(&key);
            }
        }
    }

    /// How the sink may be asked.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The breaker.
    #[must_use]
    pub fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    /// Whether the sink keeps failing.
    #[must_use]
    pub fn is_failing(&self, now: Instant) -> bool {
        self.breaker.admission() != Admission::Attempt || self.streak.is_failing(now)
    }

    /// Attempts that failed since the last success.
    #[must_use]
    pub fn failures_in_row(&self) -> u64 {
        self.streak.count()
    }

    /// Until when nothing is sent, because the sink asked for it.
    #[must_use]
    pub fn quiet_until(&self, now: Instant) -> Option<Instant> {
        self.quiet_until.filter(|until| *until > now)
    }

    /// Attempts a second for now; `None` for no limit.
    #[must_use]
    pub fn rate(&self) -> Option<f64> {
        self.pace.rate()
    }

    /// Pending deliveries: in all, and of these in flight.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        (self.fresh.len() + self.tried.len(), self.running.len())
    }

    /// The delivery of the oldest event.
    #[must_use]
    pub fn oldest(&self) -> Option<DeliveryKey> {
        self.keys().min()
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod simulation;
