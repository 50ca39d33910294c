//! The turns of an ordered sink: one attempt in flight for each job.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The watches with an attempt in flight, and the events about no job, whose numbers are none of a watch. The store knows the order of pending deliveries; this set
/// also covers a redelivery of an earlier event while a later one is in flight.
#[derive(Debug, Default)]
pub struct JobOrder(Mutex<HashSet<u64>>);

/// The right to attempt a delivery of a watch, until it is dropped.
#[derive(Debug)]
pub struct JobTurn<'a> {
    order: &'a JobOrder,
    watch: u64,
}

impl JobOrder {
    /// Takes the turn of a watch. Returns `None` while another delivery has it.
    pub fn take(&self, watch: u64) -> Option<JobTurn<'_>> {
        // A turn is made only once it is taken, because dropping one ends it.
        let free = self.lock().insert(watch);
        free.then(|| JobTurn { order: self, watch })
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for JobTurn<'_> {
    fn drop(&mut self) {
        self.order.lock().remove(&self.watch);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_has_one_turn_at_a_time() {
        let order = JobOrder::default();
        let first = order.take(1);
        assert!(first.is_some() && order.take(2).is_some());
        assert!(order.take(1).is_none() && order.take(1).is_none());
        drop(first);
        order.take(1).unwrap();
    }
}
