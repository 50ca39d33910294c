//! Which request goes out next: whether the source may be asked, whose turn it is, and whether there is a place for it.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    Entry, HealthState, Next, Schedule, Task,
    lanes::{Lane, Room},
    learned::decide::PollReason,
};
use crate::util::units::Time;

/// Polls that somebody insists on while the source is paused come this far apart at least.
const FORCED_INTERVAL: Duration = Duration::from_secs(1);

/// Such polls that wait at most.
const MAX_FORCED: usize = 1000;

/// While others are ready, one request in so many is for a failing job.
const RETRY_TURN: usize = 16;

impl Schedule {
    /// Returns what to do now.
    pub fn next(&mut self, now: Instant, wall: Time) -> Next {
        if let Some(next) = self.next_forced(now) {
            return next;
        }
        if let Some(until) = self.health.paused_until(now) {
            let forced = self.forced_from.filter(|_| !self.forced.is_empty());
            return Next::Wait(Some(forced.map_or(until, |at| at.min(until))));
        }
        if self.health.state() != HealthState::Ok {
            return self.probe(now);
        }
        if let Some(number) = self.witness(wall) {
            return match self.budget.take(now) {
                Ok(()) => {
                    self.health.call_witness(number);
                    self.start(number, Lane::Retry, now)
                }
                Err(at) => Next::Wait(Some(at)),
            };
        }
        let more = self.advance(now, wall);
        match self.choose(now) {
            // While others may come any moment, a failing job takes only what they leave.
            Choice::Lane(Lane::Retry) if !self.turn.is_multiple_of(RETRY_TURN) => {
                match self.budget.take_spare(now) {
                    Ok(()) => self
                        .take(Lane::Retry, now)
                        .map_or(Next::Yield, |number| self.start(number, Lane::Retry, now)),
                    Err(_) if more => Next::Yield,
                    Err(at) => {
                        let others = [self.ready_at(Lane::Poll), self.ready_at(Lane::Fetch)];
                        // One that is ready and has no place comes with the end of another request.
                        let next = others.into_iter().flatten().filter(|due| *due > now).min();
                        Next::Wait(Some(next.map_or(at, |next| next.min(at))))
                    }
                }
            }
            Choice::Lane(lane) => match self.budget.take(now) {
                Ok(()) => self.take(lane, now).map_or(Next::Yield, |number| self.start(number, lane, now)),
                Err(_) if more => Next::Yield,
                Err(at) => Next::Wait(Some(at)),
            },
            _ if more => Next::Yield,
            Choice::Crowded => Next::Cut,
            Choice::Wait(until) => Next::Wait(until),
        }
    }

    /// Returns when the next request for a watch is due, and what decided that: a pause of its source comes before its own
    /// reasons. `None` when it is not waiting for one.
    #[must_use]
    pub fn next_request(&self, number: u64, now: Instant) -> Option<(Instant, &'static str)> {
        let (entry, due) = self.entry(number)?;
        let due = due?;
        if self.forced.contains(&number) {
            return Some((self.forced_from.unwrap_or(now).max(now), PollReason::Asked.word()));
        }
        let reason = match self.health.state() {
            HealthState::Ok => "",
            HealthState::Unauthorized => "source_unauthorized",
            HealthState::Limited => "source_limited",
            HealthState::Failing => "source_failing",
        };
        let paused = self.health.paused_until(now).filter(|until| *until > due);
        Some(paused.map_or((due, entry.reason()), |until| (until, reason)))
    }

    /// Makes a poll due now. `false` when the watch is not being polled.
    pub fn poll_now(&mut self, number: u64, now: Instant) -> bool {
        let polled = self.entries.get(number).is_some_and(|entry| entry.task == Task::Poll);
        if polled && !self.polls.is_running(number) {
            self.retries.remove(number);
            self.poll_at(number, now, PollReason::Asked);
        }
        polled
    }

    /// Makes a watch's next request due now, also while the source is paused: its pause may be long, and somebody knows
    /// better. Such requests are a second apart.
    pub fn request_now(&mut self, number: u64, now: Instant) {
        let is_fetch = self.entries.get(number).is_some_and(|entry| entry.task == Task::Fetch);
        if is_fetch && !self.fetches.is_running(&number) {
            self.retries.remove(number);
            self.fetches.schedule(number, now);
        }
        let is_known = is_fetch || self.poll_now(number, now);
        let is_paused = self.health.paused_until(now).is_some();
        if is_known && is_paused && self.forced.len() < MAX_FORCED && !self.forced.contains(&number) {
            self.forced.push_back(number);
        }
    }

    /// The next poll that somebody insists on, while the source is paused.
    fn next_forced(&mut self, now: Instant) -> Option<Next> {
        if self.health.paused_until(now).is_none() {
            self.forced.clear();
        }
        if self.forced.is_empty() || self.forced_from.is_some_and(|from| now < from) {
            return None;
        }
        if let Err(at) = self.budget.take(now) {
            return Some(Next::Wait(Some(at)));
        }
        let number = self.forced.pop_front().filter(|number| self.is_idle(*number))?;
        self.forced_from = Some(now + FORCED_INTERVAL);
        Some(self.start(number, Lane::Poll, now))
    }

    /// A job that is asked now because several others failed in a way that may be the source's: one that was answered well
    /// before, if there is one, and a poll while there are any, as results may have troubles of their own.
    fn witness(&mut self, wall: Time) -> Option<u64> {
        let doubters = self.health.doubters()?;
        let (polls, fetches, min) = (&self.polls, &self.fetches, self.config.min_interval.0);
        let is_polled = self
            .entries
            .iter()
            .any(|(number, entry)| entry.task == Task::Poll && !doubters.contains(&number));
        let fits = |entry: &Entry| {
            (entry.task == Task::Poll || !is_polled)
                && entry.track.unseen_for(wall) >= min
                && !polls.is_running(entry.number)
                && !fetches.is_running(&entry.number)
                && !doubters.contains(&entry.number)
        };
        let entries = &mut self.entries;
        let mut pick = |also: fn(&Entry) -> bool| entries.in_turn(|entry| fits(entry) && also(entry));
        pick(|entry| entry.failures.is_none() && entry.was_seen())
            .or_else(|| pick(|entry| entry.failures.is_none()))
            .or_else(|| pick(|_| true))
    }

    /// While the source is not well, one request at a time goes out, for a different job each time.
    fn probe(&mut self, now: Instant) -> Next {
        if let Err(at) = self.budget.take(now) {
            return Next::Wait(Some(at));
        }
        let (polls, fetches) = (&self.polls, &self.fetches);
        let is_idle = |entry: &Entry| !polls.is_running(entry.number) && !fetches.is_running(&entry.number);
        let Some(number) = self.entries.in_turn(is_idle) else { return Next::Wait(None) };
        self.health.probed(now);
        self.start(number, Lane::Retry, now)
    }

    fn is_idle(&self, number: u64) -> bool {
        !self.polls.is_running(number)
            && !self.fetches.is_running(&number)
            && self.entries.get(number).is_some()
    }

    /// Chooses the lane whose turn it is. Polls and fetches alternate; failing jobs come last, but are not forgotten.
    fn choose(&mut self, now: Instant) -> Choice {
        use Lane::{Fetch, Poll, Retry};
        let turns = match self.turn % RETRY_TURN {
            0 => [Retry, Fetch, Poll],
            turn if turn % 2 == 1 => [Fetch, Poll, Retry],
            _ => [Poll, Fetch, Retry],
        };
        let mut until = None;
        let mut is_crowded = false;
        for lane in turns {
            let wait = match self.is_ready(lane, now) {
                true => match self.lanes.room(lane, now) {
                    Room::Free => return Choice::Lane(lane),
                    Room::Full(until) => Some(until),
                    Room::Crowded => {
                        is_crowded = true;
                        None
                    }
                },
                false => self.ready_at(lane),
            };
            until = until.into_iter().chain(wait).min();
        }
        // The queue has more to do then, whether there are places or not.
        until = until.into_iter().chain(self.polls.next_time()).min();
        if is_crowded { Choice::Crowded } else { Choice::Wait(until) }
    }

    fn is_ready(&self, lane: Lane, now: Instant) -> bool {
        match lane {
            Lane::Poll => self.polls.is_ready(),
            Lane::Fetch | Lane::Retry => self.ready_at(lane).is_some_and(|due| due <= now),
        }
    }

    fn ready_at(&self, lane: Lane) -> Option<Instant> {
        match lane {
            Lane::Poll => self.polls.next_time(),
            Lane::Fetch => self.fetches.next_due(),
            Lane::Retry => self.retries.next_due(),
        }
    }

    fn take(&mut self, lane: Lane, now: Instant) -> Option<u64> {
        match lane {
            Lane::Poll => self.polls.pop(),
            Lane::Fetch => self.fetches.take(now),
            Lane::Retry => {
                let number = self.retries.take(now)?;
                self.retries.finish(number);
                Some(number)
            }
        }
    }

    fn start(&mut self, number: u64, lane: Lane, now: Instant) -> Next {
        let Some(entry) = self.entries.get_mut(number) else {
            self.polls.remove(number);
            self.fetches.remove(number);
            return Next::Yield;
        };
        (entry.due, entry.answered) = (None, false);
        let task = entry.task;
        match task {
            Task::Poll => self.polls.begin(number),
            Task::Fetch => self.fetches.begin(number),
        }
        self.retries.remove(number);
        self.lanes.begin(number, task, lane, now);
        self.turn = self.turn.wrapping_add(1);
        Next::Run(number)
    }
}

/// What [`Schedule::choose`] finds.
enum Choice {
    /// A request of this lane.
    Lane(Lane),
    /// None before a slow one is cut.
    Crowded,
    /// None before this time.
    Wait(Option<Instant>),
}
