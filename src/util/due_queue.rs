//! A queue by time: one entry a key, with at most one run in flight for each.

use std::{
    collections::{BTreeSet, HashMap},
    hash::Hash,
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

/// Keys with the times at which they are due.
#[derive(Debug)]
pub struct DueQueue<K> {
    due: BTreeSet<(Instant, K)>,
    slots: HashMap<K, Slot>,
    running: usize,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    /// The time at which the key is due; during a run, the time after it.
    due: Option<Instant>,
    running: bool,
}

impl<K> Default for DueQueue<K> {
    fn default() -> Self {
        Self { due: BTreeSet::new(), slots: HashMap::new(), running: 0 }
    }
}

impl<K: Copy + Ord + Hash> DueQueue<K> {
    /// Makes `key` due at `at`, in the place of its earlier time. During a run the time applies
    /// after it.
    pub fn schedule(&mut self, key: K, at: Instant) {
        let slot = self.slots.entry(key).or_insert(Slot { due: None, running: false });
        if let Some(before) = slot.due.replace(at)
            && !slot.running
        {
            self.due.remove(&(before, key));
        }
        if !slot.running {
            self.due.insert((at, key));
        }
    }

    /// Forgets `key`. A run in flight continues, and no run follows.
    pub fn remove(&mut self, key: K) {
        let Some(slot) = self.slots.get_mut(&key) else { return };
        if let Some(at) = slot.due.take() {
            self.due.remove(&(at, key));
        }
        if !slot.running {
            self.slots.remove(&key);
        }
    }

    /// Takes the key that has been due longest. It counts as running until
    /// [`finish`](Self::finish).
    pub fn take(&mut self, now: Instant) -> Option<K> {
        let (_, key) = *self.due.first().filter(|(at, _)| *at <= now)?;
        self.begin(key);
        Some(key)
    }

    /// Starts a run of `key`, due or not. It counts as running until [`finish`](Self::finish).
    pub fn begin(&mut self, key: K) {
        let slot = self.slots.entry(key).or_insert(Slot { due: None, running: false });
        if let Some(at) = slot.due.take() {
            self.due.remove(&(at, key));
        }
        if !slot.running {
            slot.running = true;
            self.running += 1;
        }
    }

    /// Ends a run. The key stays if it was made due again meanwhile.
    pub fn finish(&mut self, key: K) {
        let Some(slot) = self.slots.get_mut(&key).filter(|slot| slot.running) else { return };
        slot.running = false;
        self.running -= 1;
        match slot.due {
            Some(at) => {
                self.due.insert((at, key));
            }
            None => {
                self.slots.remove(&key);
            }
        }
    }

    /// Makes every key due earlier by `by`, running ones after their run.
    pub(crate) fn bring_forward(&mut self, by: Duration) {
        for slot in self.slots.values_mut() {
            slot.due = slot.due.map(|due| due.checked_sub(by).unwrap_or(due));
        }
        let waiting = self.slots.iter().filter(|(_, slot)| !slot.running);
        self.due = waiting.filter_map(|(key, slot)| Some((slot.due?, *key))).collect();
    }

    /// Returns the time at which the next key is due.
    #[must_use]
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Returns the time at which `key` is due, or due again after its run.
    #[must_use]
    pub fn due(&self, key: &K) -> Option<Instant> {
        self.slots.get(key).and_then(|slot| slot.due)
    }

    /// Whether `key` is running.
    #[must_use]
    pub(crate) fn is_running(&self, key: &K) -> bool {
        self.slots.get(key).is_some_and(|slot| slot.running)
    }

    /// Returns every key, in no order.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.slots.keys()
    }

    #[cfg(test)]
    fn running(&self) -> usize {
        self.running
    }

    /// Returns the number of keys, running ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }
}

/// Waits until the given instant; without one, for ever.
pub(crate) async fn wait_until(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_run_a_key_and_the_latest_word_counts() {
        let now = Instant::now();
        let later = now + Duration::from_secs(5);
        let mut queue = DueQueue::default();
        queue.schedule(1, later);
        queue.schedule(1, now);
        assert_eq!(queue.take(now), Some(1));
        queue.schedule(1, now);
        assert_eq!(queue.take(now), None, "a running key is not taken twice");
        queue.finish(1);
        assert_eq!(queue.take(now), Some(1));
        queue.finish(1);
        assert!(queue.len() == 0);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_sleep_everything_is_due_earlier() {
        let now = Instant::now();
        let hours = |n: u64| Duration::from_secs(n * 3600);
        let mut queue = DueQueue::default();
        (1..=4).for_each(|key| queue.schedule(key, now + hours(key)));
        queue.schedule(0, now);
        assert_eq!(queue.take(now), Some(0));
        queue.schedule(0, now + hours(3));
        queue.bring_forward(hours(2));
        assert_eq!([queue.take(now), queue.take(now), queue.take(now)], [Some(1), Some(2), None]);
        assert_eq!((queue.next_due(), queue.due(&0)), (Some(now + hours(1)), Some(now + hours(1))));
        queue.finish(0);
        assert_eq!(queue.take(now + hours(1)), Some(0));
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_nothing_runs_twice(steps in prop::collection::vec((0u8..4, 0u8..6, 0u64..20), 1..200)) {
            let start = Instant::now();
            let mut queue = DueQueue::default();
            let mut running = std::collections::BTreeSet::new();
            let mut wanted = std::collections::BTreeSet::new();
            for (what, key, at) in steps {
                match what {
                    0 | 1 => { queue.schedule(key, start + Duration::from_secs(at)); wanted.insert(key); }
                    2 => if let Some(key) = queue.take(start + Duration::from_secs(at)) {
                        prop_assert!(running.insert(key), "{key} runs twice");
                        wanted.remove(&key);
                    },
                    _ => { queue.finish(key); running.remove(&key); }
                }
                prop_assert_eq!(queue.running(), running.len());
            }
            for key in running { queue.finish(key); }
            let mut taken = std::collections::BTreeSet::new();
            while let Some(key) = queue.take(start + Duration::from_secs(100)) { taken.insert(key); }
            prop_assert_eq!(taken, wanted);
        }
    }
}
