//! The polls of one source: the watches that wait for their time or for the budget, and those in
//! flight.
//!
//! Polls that somebody asks for and polls that are due by their own time take turns: however much
//! is asked for, every second poll is for the others while any of them waits.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use super::learned::levels::{ASKED, LEVELS, LevelQueue, Standing};

/// The queue of polls. Its time is in microseconds since the start.
#[derive(Debug)]
pub(super) struct Polls {
    queue: LevelQueue,
    /// The polls in flight, each with the standing of its watch afterwards.
    running: HashMap<u64, Option<Standing>>,
    /// The last poll out of the queue was asked for.
    was_asked: bool,
    start: Instant,
}

impl Polls {
    pub(super) fn new(start: Instant) -> Self {
        Self { queue: LevelQueue::default(), running: HashMap::new(), was_asked: false, start }
    }

    /// Returns the tick of an instant.
    pub(super) fn tick(&self, at: Instant) -> u64 {
        let nanos = at.saturating_duration_since(self.start).as_nanos();
        u64::try_from(nanos.div_ceil(1000)).unwrap_or(u64::MAX)
    }

    fn passed(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.start).as_micros()).unwrap_or(u64::MAX)
    }

    /// Adds or moves a watch. A watch with a poll in flight gets this standing afterwards.
    pub(super) fn put(&mut self, number: u64, standing: Standing) {
        match self.running.get_mut(&number) {
            Some(after) => *after = Some(standing),
            None => self.queue.put(number, standing),
        }
    }

    /// Removes a watch. A poll in flight goes on, and nothing follows it.
    pub(super) fn remove(&mut self, number: u64) {
        self.queue.remove(number);
        if let Some(after) = self.running.get_mut(&number) {
            *after = None;
        }
    }

    /// Advances up to `most` watches whose timer has fired. Returns whether any are left.
    pub(super) fn advance(
        &mut self,
        now: Instant,
        most: usize,
        standing: impl FnMut(u64) -> Standing,
    ) -> bool {
        self.queue.advance(self.passed(now), most, standing)
    }

    /// Takes the watch whose turn it is out of the queue. A turn that nobody needs goes to the other
    /// side.
    pub(super) fn pop(&mut self) -> Option<u64> {
        let (asked, others) = (ASKED..ASKED + 1, 0..LEVELS);
        let turns = if self.was_asked { [others, asked] } else { [asked, others] };
        let (number, level) = turns.into_iter().find_map(|levels| self.queue.pop(levels))?;
        self.was_asked = level == ASKED;
        Some(number)
    }

    /// Begins a poll of a watch. It is in flight until [`finish`](Self::finish).
    pub(super) fn begin(&mut self, number: u64) {
        self.queue.remove(number);
        self.running.insert(number, None);
    }

    /// Ends a poll.
    pub(super) fn finish(&mut self, number: u64) {
        if let Some(Some(standing)) = self.running.remove(&number) {
            self.queue.put(number, standing);
        }
    }

    /// Returns when the queue needs attention next.
    pub(super) fn next_time(&self) -> Option<Instant> {
        let tick = self.queue.next_time().filter(|tick| *tick < u64::MAX)?;
        self.start.checked_add(Duration::from_micros(tick))
    }

    /// Returns whether a watch waits for the budget.
    pub(super) fn is_ready(&self) -> bool {
        self.ready() > 0
    }

    /// Returns the number of watches that wait for the budget.
    pub(super) fn ready(&self) -> usize {
        self.queue.ready()
    }

    pub(super) fn is_running(&self, number: u64) -> bool {
        self.running.contains_key(&number)
    }
}
