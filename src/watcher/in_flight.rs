//! The requests of a source that are in flight, and how far each has come.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    task::{AbortHandle, Id},
    time::Instant,
};

use crate::schedule::{RequestTimes, SLOW, Task};

/// An answer that arrives with this many bytes a second on average is not slow.
const BRISK: f64 = 65_536.0;

/// Marks an answer that has arrived whole.
const WHOLE: u64 = u64::MAX;

/// A poll or a fetch in flight.
#[derive(Clone, Debug)]
pub(super) struct InFlight {
    /// The number of its watch.
    pub(super) number: u64,
    sent: Instant,
    received: Arc<AtomicU64>,
    /// The milliseconds from `sent` to the last request of several.
    again: Arc<AtomicU64>,
}

impl InFlight {
    /// Creates a request that is sent now.
    pub(super) fn new(number: u64) -> Self {
        Self { number, sent: Instant::now(), received: Arc::default(), again: Arc::default() }
    }

    /// Records bytes of the answer.
    pub(super) fn received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Records that the answer has arrived whole. The rest is the daemon's own work, which is never
    /// cut.
    pub(super) fn arrived(&self) {
        self.received.store(WHOLE, Ordering::Relaxed);
    }

    /// Records that a further request for the same job is sent now.
    pub(super) fn sends_again(&self) {
        let lasted = u64::try_from(self.sent.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.again.store(lasted, Ordering::Relaxed);
        self.received.store(0, Ordering::Relaxed);
    }

    /// Returns the times of the request, answered now.
    pub(super) fn times(&self) -> RequestTimes {
        RequestTimes { number: self.number, sent: self.sent, now: Instant::now() }
    }

    /// Returns the bytes a second of a request that is slow enough to be cut.
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    fn slow_rate(&self, now: Instant) -> Option<f64> {
        let received = self.received.load(Ordering::Relaxed);
        let since = self.sent + Duration::from_millis(self.again.load(Ordering::Relaxed));
        let lasted = now.saturating_duration_since(since);
        let rate = received as f64 / lasted.as_secs_f64().max(1.0);
        (received != WHOLE && lasted >= SLOW && rate < BRISK).then_some(rate)
    }
}

/// The requests of one source that are in flight, by the id of their tokio task.
#[derive(Debug, Default)]
pub(super) struct InFlightRequests(HashMap<Id, (InFlight, Task, AbortHandle)>);

impl InFlightRequests {
    pub(super) fn add(&mut self, request: InFlight, task: Task, handle: AbortHandle) {
        self.0.insert(handle.id(), (request, task, handle));
    }

    pub(super) fn get(&self, id: Id) -> Option<&InFlight> {
        self.0.get(&id).map(|(request, ..)| request)
    }

    pub(super) fn remove(&mut self, id: Id) -> Option<(u64, Task)> {
        self.0.remove(&id).map(|(request, task, _)| (request.number, task))
    }

    /// Aborts the slowest request, if one is slow enough.
    pub(super) fn cut_slowest(&mut self, now: Instant) -> Option<(InFlight, Task)> {
        let slow = self
            .0
            .iter()
            .filter_map(|(id, (request, ..))| Some((*id, request.slow_rate(now)?, request.sent)));
        let (id, ..) = slow.min_by(|(_, a, since), (_, b, then)| a.total_cmp(b).then(since.cmp(then)))?;
        let (request, task, handle) = self.0.remove(&id)?;
        handle.abort();
        Some((request, task))
    }

    /// Aborts the polls.
    pub(super) fn abort_polls(&self) {
        self.0.values().filter(|(_, task, _)| *task == Task::Poll).for_each(|(.., handle)| handle.abort());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_slowest_is_cut_and_never_one_that_arrived_whole() {
        let mut requests = InFlightRequests::default();
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..4 {
            let request = InFlight::new(number);
            requests.add(request, Task::Fetch, tasks.spawn(std::future::pending::<()>()));
        }
        let by =
            |number| requests.0.values().find(|(request, ..)| request.number == number).unwrap().0.clone();
        by(0).received(10);
        by(1).arrived();
        by(2).received(100_000_000);
        let first = by(1);
        let late = Instant::now() + Duration::from_secs(10);
        assert!(requests.cut_slowest(Instant::now()).is_none(), "no request has run long enough");
        assert_eq!(requests.cut_slowest(late).unwrap().0.number, 3);
        assert_eq!(requests.cut_slowest(late).unwrap().0.number, 0);
        assert!(requests.cut_slowest(late).is_none(), "one arrived whole, one is brisk");
        tokio::time::advance(Duration::from_secs(10)).await;
        first.sends_again();
        assert!(requests.cut_slowest(Instant::now()).is_none(), "its next request has just begun");
        assert_eq!(requests.cut_slowest(Instant::now() + Duration::from_secs(10)).unwrap().0.number, 1);
    }
}
