//! The looks of one source: who waits for its time, who waits for the budget, and who is being looked at.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use super::learned::levels::{LevelQueue, Standing};

/// The queue of looks, with those under way. Its time counts in microseconds from the start.
#[derive(Debug)]
pub(super) struct Polls {
    queue: LevelQueue,
    /// Looks under way, each with where its watch stands afterwards.
    running: HashMap<u64, Option<Standing>>,
    start: Instant,
}

impl Polls {
    pub(super) fn new(start: Instant) -> Self {
        Self { queue: LevelQueue::default(), running: HashMap::new(), start }
    }

    /// The tick at which a time has come.
    pub(super) fn tick(&self, at: Instant) -> u64 {
        let nanos = at.saturating_duration_since(self.start).as_nanos();
        u64::try_from(nanos.div_ceil(1000)).unwrap_or(u64::MAX)
    }

    fn passed(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.start).as_micros()).unwrap_or(u64::MAX)
    }

    /// Takes a watch in, or moves it; one that is being looked at stands there afterwards.
    pub(super) fn put(&mut self, number: u64, standing: Standing) {
        match self.running.get_mut(&number) {
            Some(after) => *after = Some(standing),
            None => self.queue.put(number, standing),
        }
    }

    /// Forgets a watch. A look under way goes on, and nothing follows it.
    pub(super) fn remove(&mut self, number: u64) {
        self.queue.remove(number);
        if let Some(after) = self.running.get_mut(&number) {
            *after = None;
        }
    }

    /// Asks where the watches stand whose time has come, `most` of them at the most. Whether there are more.
    pub(super) fn advance(
        &mut self,
        now: Instant,
        most: usize,
        standing: impl FnMut(u64) -> Standing,
    ) -> bool {
        self.queue.advance(self.passed(now), most, standing)
    }

    /// Returns the watch that comes first, and takes it out of the queue.
    pub(super) fn pop(&mut self) -> Option<u64> {
        self.queue.pop().map(|(number, _)| number)
    }

    /// Begins a poll, of a watch in the queue or not; it runs until [`finish`](Self::finish).
    pub(super) fn begin(&mut self, number: u64) {
        self.queue.remove(number);
        self.running.insert(number, None);
    }

    /// Ends a look.
    pub(super) fn finish(&mut self, number: u64) {
        if let Some(Some(standing)) = self.running.remove(&number) {
            self.queue.put(number, standing);
        }
    }

    /// When something is to be done next.
    pub(super) fn next_time(&self) -> Option<Instant> {
        let tick = self.queue.next_time().filter(|tick| *tick < u64::MAX)?;
        self.start.checked_add(Duration::from_micros(tick))
    }

    /// Whether somebody waits for the budget.
    pub(super) fn is_ready(&self) -> bool {
        self.ready() > 0
    }

    /// How many wait for the budget.
    pub(super) fn ready(&self) -> usize {
        self.queue.ready()
    }

    pub(super) fn is_running(&self, number: u64) -> bool {
        self.running.contains_key(&number)
    }
}
