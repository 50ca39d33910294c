//! The lane of one origin: its queue, and its place in the agenda.

use std::sync::Arc;

use tokio::time::Instant;

use crate::{
    deliver::queue::Queue,
    model::sink::{OriginStatus, SinkState},
};

/// The deliveries to one origin.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) queue: Queue,
    pub(super) host: Arc<str>,
    /// The time of its entry in the agenda.
    pub(super) at: Option<Instant>,
    /// The start of its last attempt; lanes that wait longer go first.
    pub(super) served_at: Instant,
    pub(super) last_error: Option<String>,
}

impl Lane {
    /// Returns the status of the origin.
    pub(super) fn status(&self, origin: &str, now: Instant) -> OriginStatus {
        let (pending, in_flight) = self.queue.counts();
        let failing = self.queue.is_failing(now);
        OriginStatus {
            origin: origin.to_owned(),
            state: if failing { SinkState::Failing } else { SinkState::Ok },
            breaker: self.queue.breaker().state(),
            pending: pending as u64,
            in_flight: in_flight as u64,
            failures_in_row: self.queue.failures_in_row(),
            last_error: self.last_error.clone(),
        }
    }
}
