//! The callers that wait for a job.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::Notify;

/// The callers that wait for a change of a job, by watch.
#[derive(Debug, Default)]
pub struct Waiters {
    waiting: Mutex<HashMap<u64, Arc<Notify>>>,
}

impl Waiters {
    /// Resolves when the watch is settled. Counts from the call on, even before the first poll of
    /// the future.
    pub fn wait(&self, watch: u64) -> impl Future<Output = ()> + use<> {
        let notify = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            // Callers that gave up leave an entry behind. A sweep keeps the map from growing.
            if waiting.len() >= 1024 {
                waiting.retain(|_, notify| Arc::strong_count(notify) > 1);
            }
            Arc::clone(waiting.entry(watch).or_default())
        };
        notify.notified_owned()
    }

    /// Wakes every caller that waits for this watch.
    pub fn settled(&self, watch: u64) {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&watch);
        if let Some(notify) = waiting {
            notify.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_end_between_arming_and_waiting_is_not_missed() {
        let waiters = Waiters::default();
        let (first, second) = (waiters.wait(1), waiters.wait(1));
        waiters.settled(1);
        first.await;
        second.await;
    }
}
