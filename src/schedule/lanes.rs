//! The requests in flight, and whether one more may be sent.
//!
//! Polls, fetches and requests for failing jobs have lanes of their own, so that none of them waits
//! for another. A request that takes longer than [`SLOW`] gives its place back and goes on, so a
//! hung answer holds no place that another job needs. Only if [`CROWD`] times the usual number are
//! in flight is a slow one cut.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use tokio::time::Instant;

use super::Task;

/// How long a request keeps its place.
pub const SLOW: Duration = Duration::from_secs(1);

/// The most requests in flight, as a multiple of `max_in_flight`.
const CROWD: usize = 4;

/// The lane of failing jobs holds one part in this many of `max_in_flight`.
const RETRY_SHARE: usize = 4;

/// The lane of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// The status of a job that does not fail.
    Poll,
    /// The result of a job that does not fail.
    Fetch,
    /// A job whose last request failed.
    Retry,
}

/// Whether a lane has a free place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// It has one.
    Free,
    /// It has one at this time, or when a request ends.
    Full(Instant),
    /// It has one after a slow request is cut.
    Crowded,
}

#[derive(Debug)]
pub(super) struct Lanes {
    max_in_flight: usize,
    /// The requests in flight. The poll that saw the end of a job may still be ending while its
    /// result is fetched.
    runs: HashMap<(u64, Task), Run>,
    /// The number of them, by claim.
    counts: BTreeMap<u64, usize>,
    /// The requests that hold a place, oldest first, by lane.
    placed: [BTreeSet<(Instant, u64)>; 3],
}

#[derive(Debug)]
struct Run {
    claim: u64,
    lane: Lane,
    since: Instant,
}

impl Lanes {
    pub(super) fn new(max_in_flight: usize) -> Self {
        Self { max_in_flight, runs: HashMap::new(), counts: BTreeMap::new(), placed: Default::default() }
    }

    pub(super) fn set_max(&mut self, max_in_flight: usize) {
        self.max_in_flight = max_in_flight;
    }

    /// Takes a place for a request.
    pub(super) fn begin(&mut self, claim: u64, number: u64, task: Task, lane: Lane, now: Instant) {
        self.runs.insert((number, task), Run { claim, lane, since: now });
        *self.counts.entry(claim).or_default() += 1;
        self.placed[lane as usize].insert((now, number));
    }

    /// Gives the place of a request back. Returns its lane.
    pub(super) fn finish(&mut self, number: u64, task: Task) -> Option<Lane> {
        let Run { claim, lane, since } = self.runs.remove(&(number, task))?;
        if let Some(count) = self.counts.get_mut(&claim) {
            *count -= 1;
        }
        self.placed[lane as usize].remove(&(since, number));
        Some(lane)
    }

    /// Gives the places of a claim back.
    pub(super) fn leave(&mut self, claim: u64) {
        let left = self.runs.iter().filter(|(_, run)| run.claim == claim).map(|(key, _)| *key);
        for (number, task) in left.collect::<Vec<_>>() {
            self.finish(number, task);
        }
        self.counts.remove(&claim);
    }

    /// Returns the number of requests of a claim in flight.
    pub(super) fn of(&self, claim: u64) -> usize {
        self.counts.get(&claim).copied().unwrap_or_default()
    }

    /// Returns whether a lane has a free place for a claim now, with so many claims `ahead` of it
    /// and so many `sources` at work. Hung answers of one source take only its own part of what may
    /// be in flight.
    pub(super) fn room(
        &mut self,
        lane: Lane,
        claim: u64,
        ahead: usize,
        sources: usize,
        now: Instant,
    ) -> Room {
        let places = match lane {
            Lane::Poll | Lane::Fetch => self.max_in_flight,
            Lane::Retry => self.max_in_flight.div_ceil(RETRY_SHARE),
        };
        let placed = &mut self.placed[lane as usize];
        while placed.first().is_some_and(|(since, _)| *since + SLOW <= now) {
            placed.pop_first();
        }
        let crowd = CROWD * self.max_in_flight;
        if placed.len() + ahead >= places {
            return Room::Full(placed.first().map_or(now, |(since, _)| *since) + SLOW);
        }
        if self.runs.len() < crowd || self.of(claim) < crowd / sources.max(1) {
            return Room::Free;
        }
        // A job that fails already takes no other job's place.
        if lane == Lane::Retry { Room::Full(now + SLOW) } else { Room::Crowded }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_slow_gives_its_place_back_and_goes_on() {
        let start = Instant::now();
        let mut lanes = Lanes::new(2);
        lanes.begin(1, 1, Task::Fetch, Lane::Fetch, start);
        lanes.begin(1, 2, Task::Fetch, Lane::Fetch, start);
        assert_eq!(lanes.room(Lane::Fetch, 1, 0, 1, start), Room::Full(start + SLOW));
        assert_eq!(lanes.room(Lane::Poll, 1, 0, 1, start), Room::Free, "fetches take no place of polls");
        assert_eq!(lanes.room(Lane::Fetch, 1, 0, 1, start + SLOW), Room::Free);
        assert_eq!(lanes.of(1), 2);
        lanes.finish(1, Task::Fetch);
        lanes.finish(2, Task::Fetch);
        assert_eq!(lanes.of(1), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_poll_that_ends_after_the_fetch_began_gives_back_its_own_place() {
        let start = Instant::now();
        let mut lanes = Lanes::new(1);
        lanes.begin(1, 1, Task::Poll, Lane::Poll, start);
        lanes.begin(1, 1, Task::Fetch, Lane::Fetch, start);
        lanes.finish(1, Task::Poll);
        assert_eq!(lanes.room(Lane::Poll, 1, 0, 1, start), Room::Free, "another job is polled at once");
        assert_eq!(lanes.room(Lane::Fetch, 1, 0, 1, start), Room::Full(start + SLOW), "the fetch goes on");
        lanes.finish(1, Task::Fetch);
        assert_eq!((lanes.of(1), lanes.room(Lane::Fetch, 1, 0, 1, start)), (0, Room::Free));
    }

    #[tokio::test(start_paused = true)]
    async fn failing_jobs_have_a_share_and_a_crowd_is_bounded() {
        let start = Instant::now();
        let mut lanes = Lanes::new(4);
        lanes.begin(1, 0, Task::Poll, Lane::Retry, start);
        assert_eq!(lanes.room(Lane::Retry, 1, 0, 1, start), Room::Full(start + SLOW));
        for number in 1..16 {
            let now = start + SLOW * u32::try_from(number).unwrap();
            assert_eq!(lanes.room(Lane::Poll, 1, 0, 1, now), Room::Free);
            lanes.begin(1, number, Task::Poll, Lane::Poll, now);
        }
        let late = start + SLOW * 60;
        assert_eq!(lanes.room(Lane::Poll, 1, 0, 1, late), Room::Crowded);
        assert_eq!(lanes.room(Lane::Retry, 1, 0, 1, late), Room::Full(late + SLOW));
        lanes.finish(3, Task::Poll);
        assert_eq!(lanes.room(Lane::Poll, 1, 0, 1, late), Room::Free);
    }
}
