//! The pending deliveries of a worker: the queue of one sink, or the queues of all callback
//! origins.

use tokio::time::Instant;

use crate::{
    deliver::{
        config::RetryConfig,
        queue::{Next, Queue, origins::Origins},
    },
    store::DeliveryKey,
};

/// Pending deliveries.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one a sink, and it stays where it is")]
pub enum Backlog {
    /// To one sink.
    Sink(Queue),
    /// To the origins of callbacks.
    Callbacks(Origins),
}

impl Backlog {
    /// Schedules a delivery at `at`.
    pub fn schedule(&mut self, key: DeliveryKey, at: Instant) {
        match self {
            Self::Sink(queue) => queue.schedule(key, at),
            Self::Callbacks(origins) => origins.schedule(key, at),
        }
    }

    /// Schedules a delivery, unless it is in the backlog.
    pub fn take_over(&mut self, key: DeliveryKey, at: Instant) {
        match self {
            Self::Sink(queue) => queue.take_over(key, at),
            Self::Callbacks(origins) => origins.take_over(key, at),
        }
    }

    /// Forgets a delivery whose records are gone.
    pub fn forget(&mut self, key: DeliveryKey) {
        match self {
            Self::Sink(queue) => queue.forget(key),
            Self::Callbacks(origins) => origins.forget(key),
        }
    }

    /// Removes and returns the waiting deliveries with their due times.
    pub fn drain(&mut self) -> Vec<(DeliveryKey, Instant)> {
        match self {
            Self::Sink(queue) => queue.drain(),
            Self::Callbacks(origins) => origins.drain(),
        }
    }

    /// Pauses or resumes.
    pub fn pause(&mut self, paused: bool) {
        match self {
            Self::Sink(queue) => queue.pause(paused),
            Self::Callbacks(origins) => origins.pause(paused),
        }
    }

    /// Closes all breakers and ends all silences. Returns whether a breaker was not closed.
    pub fn reset(&mut self, now: Instant) -> bool {
        match self {
            Self::Sink(queue) => queue.reset(now),
            Self::Callbacks(origins) => origins.reset(now),
        }
    }

    /// Notes that the sink took a test event. There is none for the origins of callbacks.
    pub fn works(&mut self) {
        if let Self::Sink(queue) = self {
            queue.works();
        }
    }

    /// Releases the next delivery, or returns until when to wait.
    pub fn release_next(&mut self, now: Instant) -> Next {
        match self {
            Self::Sink(queue) => queue.release_next(now),
            Self::Callbacks(origins) => origins.release_next(now),
        }
    }

    /// Calls `change` with the queue of a delivery; returns `None` when it has no queue.
    pub fn with<T>(&mut self, key: DeliveryKey, change: impl FnOnce(&mut Queue) -> T) -> Option<T> {
        match self {
            Self::Sink(queue) => Some(change(queue)),
            Self::Callbacks(origins) => origins.with(key, change),
        }
    }

    /// Ends a release; the delivery is due at `again`.
    pub fn finish(&mut self, key: DeliveryKey, again: Option<Instant>, now: Instant) {
        match self {
            Self::Sink(queue) => queue.finish(key, again, now),
            Self::Callbacks(origins) => origins.finish(key, again, now),
        }
    }

    /// Returns the retry schedule.
    #[must_use]
    pub fn retry(&self) -> &RetryConfig {
        match self {
            Self::Sink(queue) => &queue.limits().retry,
            Self::Callbacks(origins) => origins.retry(),
        }
    }

    /// Returns whether the sink takes the events of a job in order.
    #[must_use]
    pub fn is_ordered(&self) -> bool {
        match self {
            Self::Sink(queue) => queue.limits().ordered,
            Self::Callbacks(_) => false,
        }
    }

    /// Returns the queues of the origins, if the worker serves callbacks.
    pub fn callbacks(&mut self) -> Option<&mut Origins> {
        match self {
            Self::Sink(_) => None,
            Self::Callbacks(origins) => Some(origins),
        }
    }

    /// Returns the number of pending deliveries, and how many of them are in flight.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        match self {
            Self::Sink(queue) => queue.counts(),
            Self::Callbacks(origins) => origins.counts(),
        }
    }

    /// Returns the delivery of the oldest event.
    #[must_use]
    pub fn oldest(&self) -> Option<DeliveryKey> {
        match self {
            Self::Sink(queue) => queue.oldest(),
            Self::Callbacks(origins) => origins.oldest(),
        }
    }
}
