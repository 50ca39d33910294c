//! The queues of callbacks, one for each origin. All share one worker; each has its own breaker and
//! pace. Each host has a share of the attempts in flight, so that a host that hangs takes nothing
//! from another. Pure.

mod host;
mod lane;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use tokio::time::Instant;
use url::Url;

use host::Host;
use lane::Lane;

use crate::{
    deliver::{
        config::RetryConfig,
        queue::{Next, Queue, decision::SinkSignal, limits::Limits},
    },
    model::sink::{OriginStatus, SinkState},
    store::DeliveryKey,
};

/// The most attempts in flight, over all hosts.
const MAX_IN_FLIGHT: usize = 96;

/// The most attempts in flight to unproven hosts: their last attempt failed, or they had none.
const MAX_UNPROVEN: usize = 64;

/// The most attempts in flight to one host, and to one origin.
pub const MAX_PER_HOST: usize = 8;

/// Attempts to one origin below which its breaker stays closed.
const BREAKER_ATTEMPTS: u32 = 3;

/// Hosts to remember without pending deliveries.
const MAX_IDLE_HOSTS: usize = 1024;

/// The most origins in a status.
const MAX_SHOWN: usize = 20;

/// The origin of a callback.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallbackOrigin {
    /// Scheme, host and port.
    pub origin: String,
    /// The host alone.
    pub host: String,
}

impl CallbackOrigin {
    /// Returns the origin of a URL. All invalid URLs share one.
    #[must_use]
    pub fn of(url: &str) -> Self {
        let Ok(url) = Url::parse(url) else { return Self::default() };
        let host = url.host_str().unwrap_or_default().to_owned();
        Self { origin: url.origin().ascii_serialization(), host }
    }
}

/// The pending callbacks.
#[derive(Debug)]
pub struct Origins {
    limits: Limits,
    lanes: HashMap<Arc<str>, Lane>,
    /// The next time of each lane, unless it waits for its host.
    agenda: BTreeSet<(Instant, Arc<str>)>,
    /// Lanes whose time has come and that wait because of [`MAX_UNPROVEN`].
    waiting: BTreeSet<(Instant, Arc<str>)>,
    hosts: HashMap<Arc<str>, Host>,
    of: HashMap<DeliveryKey, Arc<str>>,
    /// Deliveries whose origin has not been read yet, with their due times.
    unassigned: BTreeMap<DeliveryKey, Instant>,
    /// The attempts in flight, and whether each is to an unproven host.
    running: HashMap<DeliveryKey, bool>,
    unproven: usize,
    paused: bool,
}

impl Origins {
    /// Returns no callbacks, with this retry schedule.
    #[must_use]
    pub fn new(retry: RetryConfig) -> Self {
        Self {
            limits: Limits {
                retry,
                max_in_flight: MAX_PER_HOST,
                first_in_flight: 1,
                max_per_second: None,
                ordered: false,
                breaker_attempts: BREAKER_ATTEMPTS,
            },
            lanes: HashMap::new(),
            agenda: BTreeSet::new(),
            waiting: BTreeSet::new(),
            hosts: HashMap::new(),
            of: HashMap::new(),
            unassigned: BTreeMap::new(),
            running: HashMap::new(),
            unproven: 0,
            paused: false,
        }
    }

    /// Returns the retry schedule.
    #[must_use]
    pub fn retry(&self) -> &RetryConfig {
        &self.limits.retry
    }

    /// Schedules a delivery at `at`.
    pub fn schedule(&mut self, key: DeliveryKey, at: Instant) {
        if self.with(key, |queue| queue.schedule(key, at)).is_none() {
            self.unassigned.insert(key, at);
        }
    }

    /// Schedules a delivery, unless it is pending.
    pub fn take_over(&mut self, key: DeliveryKey, at: Instant) {
        if !self.of.contains_key(&key) {
            self.unassigned.entry(key).or_insert(at);
        }
    }

    /// Returns a delivery whose origin has not been read yet.
    #[must_use]
    pub fn unassigned(&self) -> Option<DeliveryKey> {
        self.unassigned.first_key_value().map(|(key, _)| *key)
    }

    /// Assigns a delivery to the lane of its origin; `None` means that the delivery is gone.
    pub fn assign_origin(&mut self, key: DeliveryKey, to: Option<&CallbackOrigin>, now: Instant) {
        let (Some(at), Some(to)) = (self.unassigned.remove(&key), to) else { return };
        let origin: Arc<str> = to.origin.as_str().into();
        if !self.lanes.contains_key(&origin) {
            let host: Arc<str> = to.host.as_str().into();
            self.hosts.entry(Arc::clone(&host)).or_default().lanes += 1;
            let queue = Queue::new(self.limits.clone(), now);
            self.lanes.insert(
                Arc::clone(&origin),
                Lane { queue, host, at: None, served_at: now, last_error: None },
            );
        }
        self.of.insert(key, origin);
        self.schedule(key, at);
    }

    /// Forgets a delivery whose records are gone.
    pub fn forget(&mut self, key: DeliveryKey) {
        self.unassigned.remove(&key);
        self.with(key, |queue| queue.forget(key));
        self.tidy(key);
    }

    /// Removes and returns the waiting deliveries with their due times.
    pub fn drain(&mut self) -> Vec<(DeliveryKey, Instant)> {
        let mut all: Vec<(DeliveryKey, Instant)> = std::mem::take(&mut self.unassigned).into_iter().collect();
        let keys: Vec<DeliveryKey> = self.of.keys().copied().collect();
        all.extend(self.lanes.values_mut().flat_map(|lane| lane.queue.drain()));
        for key in keys {
            self.tidy(key);
        }
        all
    }

    /// Pauses or resumes.
    pub fn pause(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// Closes every breaker and ends every silence. Returns whether a breaker was not closed.
    pub fn reset(&mut self, now: Instant) -> bool {
        let origins: Vec<Arc<str>> = self.lanes.keys().cloned().collect();
        let mut closed = false;
        for origin in origins {
            if let Some(lane) = self.lanes.get_mut(&origin) {
                closed |= lane.queue.reset(now);
            }
            self.refresh(&origin);
        }
        closed
    }

    /// Releases the next delivery, or returns until when to wait.
    pub fn release_next(&mut self, now: Instant) -> Next {
        if self.paused || self.running.len() >= MAX_IN_FLIGHT {
            return Next::Wait(None);
        }
        loop {
            let room = self.unproven < MAX_UNPROVEN;
            let waited = if room { self.waiting.pop_first() } else { None };
            let Some((at, origin)) = waited.or_else(|| self.agenda.first().cloned()) else {
                return Next::Wait(None);
            };
            if at > now {
                return Next::Wait(Some(at));
            }
            self.agenda.remove(&(at, Arc::clone(&origin)));
            let Some(lane) = self.lanes.get_mut(&origin) else { continue };
            lane.at = None;
            let Some(host) = self.hosts.get_mut(&lane.host) else { continue };
            // A failing origin does not hold up a working one on the same host.
            let share = host.share(lane.queue.failures_in_row() > 0);
            if host.running >= share {
                host.waiting.insert(origin);
                continue;
            }
            if !host.proven && !room {
                lane.at = Some(at);
                self.waiting.insert((at, origin));
                continue;
            }
            let next = lane.queue.release_next(now);
            if let Next::Take(key) = next {
                lane.served_at = now;
                host.running += 1;
                self.running.insert(key, !host.proven);
                self.unproven += usize::from(!host.proven);
            }
            self.refresh(&origin);
            if let Next::Take(_) = next {
                return next;
            }
        }
    }

    /// Calls `change` with the queue of a delivery; returns `None` when its origin has not been
    /// read yet.
    pub fn with<T>(&mut self, key: DeliveryKey, change: impl FnOnce(&mut Queue) -> T) -> Option<T> {
        let origin = self.of.get(&key).cloned()?;
        let lane = self.lanes.get_mut(&origin)?;
        let changed = change(&mut lane.queue);
        self.refresh(&origin);
        Some(changed)
    }

    /// Updates the share of a host by what an attempt said about it.
    pub fn update_host(&mut self, key: DeliveryKey, signal: SinkSignal, error: Option<&str>) {
        let lane = self.of.get(&key).and_then(|origin| self.lanes.get_mut(origin));
        let Some(lane) = lane else { return };
        lane.last_error = error.map(str::to_owned);
        let Some(host) = self.hosts.get_mut(&lane.host) else { return };
        host.update(signal);
    }

    /// Ends a release; the delivery is due at `again`.
    pub fn finish(&mut self, key: DeliveryKey, again: Option<Instant>, now: Instant) {
        self.with(key, |queue| queue.finish(key, again, now));
        if let Some(unproven) = self.running.remove(&key) {
            self.unproven -= usize::from(unproven);
            let lane = self.of.get(&key).and_then(|origin| self.lanes.get(origin));
            if let Some(host) = lane.and_then(|lane| self.hosts.get_mut(&lane.host)) {
                host.running -= 1;
                for origin in std::mem::take(&mut host.waiting) {
                    self.refresh(&origin);
                }
            }
        }
        self.tidy(key);
    }

    /// Moves a lane to its next time in the agenda.
    fn refresh(&mut self, origin: &Arc<str>) {
        let Some(lane) = self.lanes.get_mut(origin) else { return };
        if let Some(at) = lane.at.take() {
            let entry = (at, Arc::clone(origin));
            self.agenda.remove(&entry);
            self.waiting.remove(&entry);
        }
        lane.at = lane.queue.ready_at().map(|at| at.max(lane.served_at));
        if let Some(at) = lane.at {
            self.agenda.insert((at, Arc::clone(origin)));
        }
    }

    /// Removes a delivery that is in no queue, a lane without deliveries, and a host without lanes
    /// that is unproven or one too many.
    fn tidy(&mut self, key: DeliveryKey) {
        let Some(origin) = self.of.get(&key).cloned() else { return };
        let Some(lane) = self.lanes.get(&origin) else {
            self.of.remove(&key);
            return;
        };
        if !lane.queue.knows(key) {
            self.of.remove(&key);
        }
        if lane.queue.counts().0 > 0 {
            return;
        }
        let host = Arc::clone(&lane.host);
        if let Some(at) = lane.at {
            let entry = (at, Arc::clone(&origin));
            self.agenda.remove(&entry);
            self.waiting.remove(&entry);
        }
        self.lanes.remove(&origin);
        let many = self.hosts.len() > MAX_IDLE_HOSTS;
        if let Some(known) = self.hosts.get_mut(&host) {
            known.lanes -= 1;
            if known.lanes == 0 && (many || !known.proven) {
                self.hosts.remove(&host);
            }
        }
    }

    /// Returns the host of a delivery.
    #[must_use]
    pub fn host(&self, key: DeliveryKey) -> Option<String> {
        let lane = self.of.get(&key).and_then(|origin| self.lanes.get(origin))?;
        Some(lane.host.to_string()).filter(|host| !host.is_empty())
    }

    /// Returns the number of pending deliveries, and how many of them are in flight.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        (self.of.len() + self.unassigned.len(), self.running.len())
    }

    /// Returns the delivery of the oldest event.
    #[must_use]
    pub fn oldest(&self) -> Option<DeliveryKey> {
        self.of.keys().chain(self.unassigned.keys()).min().copied()
    }

    /// Returns the status of the first origins: failing ones first, then those with the most
    /// deliveries.
    #[must_use]
    pub fn statuses(&self, now: Instant) -> Vec<OriginStatus> {
        let mut statuses: Vec<OriginStatus> =
            self.lanes.iter().map(|(origin, lane)| lane.status(origin, now)).collect();
        statuses.sort_by_key(|status| {
            (status.state != SinkState::Failing, Reverse(status.pending), status.origin.clone())
        });
        statuses.truncate(MAX_SHOWN);
        statuses
    }
}

#[cfg(test)]
mod tests;
