//! The requests of a source that are in flight, and how far each has come.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{
    task::{AbortHandle, Id},
    time::Instant,
};

use crate::schedule::{RequestTimes, SLOW, Task};

/// An answer that comes at this many bytes a second on average is not slow either.
const BRISK: f64 = 65_536.0;

/// Marks an answer that has come whole.
const WHOLE: u64 = u64::MAX;

/// A poll or a fetch in flight.
#[derive(Clone, Debug)]
pub struct Flight {
    /// The number of its watch.
    pub number: u64,
    sent: Instant,
    received: Arc<AtomicU64>,
}

impl Flight {
    /// A request that goes out now.
    #[must_use]
    pub fn new(number: u64) -> Self {
        Self { number, sent: Instant::now(), received: Arc::default() }
    }

    /// Records bytes of the answer.
    pub fn received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Records that the answer has come whole: what follows is our own work, and is not cut.
    pub fn arrived(&self) {
        self.received.store(WHOLE, Ordering::Relaxed);
    }

    /// The request as the schedule knows it, answered now.
    #[must_use]
    pub fn request(&self) -> RequestTimes {
        RequestTimes { number: self.number, sent: self.sent, now: Instant::now() }
    }

    /// Bytes a second on average, of one that can be cut.
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    fn rate(&self, now: Instant) -> Option<f64> {
        let received = self.received.load(Ordering::Relaxed);
        let lasted = now.saturating_duration_since(self.sent);
        let rate = received as f64 / lasted.as_secs_f64().max(1.0);
        (received != WHOLE && lasted >= SLOW && rate < BRISK).then_some(rate)
    }
}

/// The flights of one source.
#[derive(Debug, Default)]
pub(super) struct Flights(HashMap<Id, (Flight, Task, AbortHandle)>);

impl Flights {
    pub(super) fn add(&mut self, flight: Flight, task: Task, handle: AbortHandle) {
        self.0.insert(handle.id(), (flight, task, handle));
    }

    pub(super) fn get(&self, id: Id) -> Option<&Flight> {
        self.0.get(&id).map(|(flight, ..)| flight)
    }

    pub(super) fn remove(&mut self, id: Id) -> Option<(u64, Task)> {
        self.0.remove(&id).map(|(flight, task, _)| (flight.number, task))
    }

    /// Aborts the slowest flight, if one is slow enough.
    pub(super) fn cut_slowest(&mut self, now: Instant) -> Option<(Flight, Task)> {
        let slow = self.0.iter().filter_map(|(id, (flight, ..))| Some((*id, flight.rate(now)?, flight.sent)));
        let (id, ..) = slow.min_by(|(_, a, since), (_, b, then)| a.total_cmp(b).then(since.cmp(then)))?;
        let (flight, task, handle) = self.0.remove(&id)?;
        handle.abort();
        Some((flight, task))
    }

    /// Aborts the polls.
    pub(super) fn abort_polls(&self) {
        self.0.values().filter(|(_, task, _)| *task == Task::Poll).for_each(|(.., handle)| handle.abort());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_slowest_is_cut_and_never_one_that_has_come_whole() {
        let mut flights = Flights::default();
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..4 {
            let flight = Flight::new(number);
            flights.add(flight, Task::Fetch, tasks.spawn(std::future::pending::<()>()));
        }
        let by = |number| flights.0.values().find(|(flight, ..)| flight.number == number).unwrap().0.clone();
        by(0).received(10);
        by(1).arrived();
        by(2).received(100_000_000);
        let late = Instant::now() + Duration::from_secs(10);
        assert!(flights.cut_slowest(Instant::now()).is_none(), "none has run long enough");
        assert_eq!(flights.cut_slowest(late).unwrap().0.number, 3);
        assert_eq!(flights.cut_slowest(late).unwrap().0.number, 0);
        assert!(flights.cut_slowest(late).is_none(), "one has come whole, one is brisk");
    }
}
