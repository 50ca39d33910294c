//! The deliveries that a worker has before it: the queue of one sink, or those of all callbacks.

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
    /// Makes a delivery due at `at`.
    pub fn schedule(&mut self, key: DeliveryKey, at: Instant) {
        match self {
            Self::Sink(queue) => queue.schedule(key, at),
            Self::Callbacks(origins) => origins.schedule(key, at),
        }
    }

    /// Makes a delivery due, unless it is known.
    pub fn take_over(&mut self, key: DeliveryKey, at: Instant) {
        match self {
            Self::Sink(queue) => queue.take_over(key, at),
            Self::Callbacks(origins) => origins.take_over(key, at),
        }
    }

    /// Forgets a delivery that is gone.
    pub fn forget(&mut self, key: DeliveryKey) {
        match self {
            Self::Sink(queue) => queue.forget(key),
            Self::Callbacks(origins) => origins.forget(key),
        }
    }

    /// Everything that waits, each with the time at which it is due.
    pub fn drain(&mut self) -> Vec<(DeliveryKey, Instant)> {
        match self {
            Self::Sink(queue) => queue.drain(),
            Self::Callbacks(origins) => origins.drain(),
        }
    }

    /// Stops taking deliveries, or goes on.
    pub fn pause(&mut self, paused: bool) {
        match self {
            Self::Sink(queue) => queue.pause(paused),
            Self::Callbacks(origins) => origins.pause(paused),
        }
    }

    /// Asks everyone as if they worked. `true` when a breaker closed.
    pub fn reset(&mut self, now: Instant) -> bool {
        match self {
            Self::Sink(queue) => queue.reset(now),
            Self::Callbacks(origins) => origins.reset(now),
        }
    }

    /// What to do now.
    pub fn next(&mut self, now: Instant) -> Next {
        match self {
            Self::Sink(queue) => queue.next(now),
            Self::Callbacks(origins) => origins.next(now),
        }
    }

    /// Changes the queue of a delivery; `None` when there is none.
    pub fn with<T>(&mut self, key: DeliveryKey, change: impl FnOnce(&mut Queue) -> T) -> Option<T> {
        match self {
            Self::Sink(queue) => Some(change(queue)),
            Self::Callbacks(origins) => origins.with(key, change),
        }
    }

    /// Ends what [`Next::Take`] began.
    pub fn finish(&mut self, key: DeliveryKey, again: Option<Instant>, now: Instant) {
        match self {
            Self::Sink(queue) => queue.finish(key, again, now),
            Self::Callbacks(origins) => origins.finish(key, again, now),
        }
    }

    /// When a failed delivery is tried again.
    #[must_use]
    pub fn retry(&self) -> &RetryConfig {
        match self {
            Self::Sink(queue) => &queue.limits().retry,
            Self::Callbacks(origins) => origins.retry(),
        }
    }

    /// Whether the events of one job go one after another.
    #[must_use]
    pub fn is_ordered(&self) -> bool {
        match self {
            Self::Sink(queue) => queue.limits().ordered,
            Self::Callbacks(_) => false,
        }
    }

    /// The callbacks, if it is them.
    pub fn callbacks(&mut self) -> Option<&mut Origins> {
        match self {
            Self::Sink(_) => None,
            Self::Callbacks(origins) => Some(origins),
        }
    }

    /// Pending deliveries: in all, and of these in flight.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        match self {
            Self::Sink(queue) => queue.counts(),
            Self::Callbacks(origins) => origins.counts(),
        }
    }

    /// The delivery of the oldest event.
    #[must_use]
    pub fn oldest(&self) -> Option<DeliveryKey> {
        match self {
            Self::Sink(queue) => queue.oldest(),
            Self::Callbacks(origins) => origins.oldest(),
        }
    }
}
