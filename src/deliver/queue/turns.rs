//! Whose turn it is at an ordered sink: one attempt at a time for each job.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The watches with an attempt in flight. What is pending is in the store; this also covers an earlier event that
/// is sent again while a later one is in flight.
#[derive(Debug, Default)]
pub struct Turns(Mutex<HashSet<u64>>);

/// The right to attempt a delivery of a watch; ends when dropped.
#[derive(Debug)]
pub struct Turn<'a> {
    turns: &'a Turns,
    watch: u64,
}

impl Turns {
    /// Takes the turn of a watch; `None` while another delivery of it has the turn.
    pub fn take(&self, watch: u64) -> Option<Turn<'_>> {
        // Only a turn that was taken may exist: one that is dropped ends it.
        let free = self.lock().insert(watch);
        free.then(|| Turn { turns: self, watch })
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turns.lock().remove(&self.watch);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_has_one_turn_at_a_time() {
        let turns = Turns::default();
        let first = turns.take(1);
        assert!(first.is_some() && turns.take(2).is_some());
        assert!(turns.take(1).is_none() && turns.take(1).is_none());
        drop(first);
        turns.take(1).unwrap();
    }
}
