//! Chooses the next request: whether the source may be asked, which lane has its turn, and whether
//! it has a free place.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    Entry, HealthState, ListUse, Next, Schedule, Task,
    budget::BudgetState,
    health::FIRST_PAUSE,
    lanes::{Lane, Room},
    learned::decide::PollReason,
    polls::Polls,
};
use crate::util::{due_queue::DueQueue, units::Time};

/// The shortest time between two forced requests to a paused source.
const FORCED_INTERVAL: Duration = Duration::from_secs(1);

/// The most forced requests that wait.
const MAX_FORCED: usize = 1000;

/// While other jobs are ready, one request in this many is for a failing job.
const RETRY_TURN: usize = 16;

/// What [`Schedule::choose`] finds.
enum Choice {
    /// This lane has its turn.
    Lane(Lane),
    /// No lane has a place before a slow request is cut.
    Crowded,
    /// No lane has a request before this time.
    Wait(Option<Instant>),
}

impl Schedule {
    /// Returns what the driver does next.
    pub fn next(&mut self, now: Instant, wall: Time) -> Next {
        let shared = Arc::clone(self.claim.budget());
        let mut budget = shared.lock();
        let waited = budget.begin(self.claim.id, self.entries.len());
        let next = self.next_within(&mut budget, now, wall);
        budget.end(self.claim.id, waited);
        next
    }

    fn next_within(&mut self, budget: &mut BudgetState, now: Instant, wall: Time) -> Next {
        if let Some(next) = self.next_forced(budget, now) {
            return next;
        }
        if let Some(until) = self.pause(budget, now) {
            if budget.key.paused_until(now).is_some() && (self.has_idle() || self.list_probes()) {
                budget.awaits_probe(self.claim.id);
            }
            let forced = self.forced_from.filter(|_| !self.forced.is_empty());
            return Next::Wait(Some(forced.map_or(until, |at| at.min(until))));
        }
        if self.state_by(budget) != HealthState::Ok {
            return self.probe(budget, now);
        }
        if let Some(number) = self.witness(budget, wall) {
            return match budget.take(self.claim.id, now) {
                Ok(()) => {
                    for health in [&mut self.host, &mut budget.key] {
                        if health.doubters().is_some() {
                            health.call_witness(number);
                        }
                    }
                    self.start(budget, number, Lane::Retry, now)
                }
                Err(at) => Next::Wait(Some(at)),
            };
        }
        let has_more = self.advance(now, wall);
        if self.list_turn(self.is_any_ready(now)) {
            return match budget.take(self.claim.id, now) {
                Ok(()) => self.start_list(ListUse::Asked),
                Err(_) if has_more => Next::Yield,
                Err(at) => Next::Wait(Some(at)),
            };
        }
        let lane = match self.choose(budget, now) {
            Choice::Lane(lane) => lane,
            _ if has_more => return Next::Yield,
            Choice::Crowded => return Next::Cut,
            Choice::Wait(until) => return Next::Wait(until),
        };
        match self.take_lane_token(budget, lane, now) {
            Ok(())
                if lane == Lane::Poll
                    && let Some(list) = self.list_instead(now) =>
            {
                self.start_list(list)
            }
            Ok(()) => {
                self.take(lane, now).map_or(Next::Yield, |number| self.start(budget, number, lane, now))
            }
            Err(_) if has_more => Next::Yield,
            Err(at) => Next::Wait(Some(at)),
        }
    }

    /// Takes a token of the budget for a request of this lane. While other jobs may become ready, a
    /// failing job takes only what they leave.
    ///
    /// # Errors
    /// The time at which to ask again.
    fn take_lane_token(&self, budget: &mut BudgetState, lane: Lane, now: Instant) -> Result<(), Instant> {
        if lane != Lane::Retry || self.turn.is_multiple_of(RETRY_TURN) {
            return budget.take(self.claim.id, now);
        }
        budget.take_spare(self.claim.id, now).map_err(|at| {
            // A job that is ready and has no place gets one when another request ends, so only
            // later ones count.
            let others = [self.ready_at(Lane::Poll), self.ready_at(Lane::Fetch)];
            let next = others.into_iter().flatten().filter(|due| *due > now).min();
            next.map_or(at, |next| next.min(at))
        })
    }

    /// Returns the state that decides what is sent: that of the key, else that of the host.
    #[must_use]
    pub fn state(&self) -> HealthState {
        self.state_by(&self.claim.lock())
    }

    pub(super) fn state_by(&self, budget: &BudgetState) -> HealthState {
        match budget.key.state() {
            HealthState::Ok => self.host.state(),
            state => state,
        }
    }

    /// Returns when the pause ends, if there is one.
    #[must_use]
    pub fn paused_until(&self, now: Instant) -> Option<Instant> {
        self.pause(&self.claim.lock(), now)
    }

    fn pause(&self, budget: &BudgetState, now: Instant) -> Option<Instant> {
        budget.key.paused_until(now).max(self.host.paused_until(now))
    }

    /// Returns whether a watch has no request in flight.
    fn has_idle(&self) -> bool {
        self.entries.iter().any(|(number, _)| is_idle(&self.polls, &self.fetches, number))
    }

    /// Returns when the next request for a watch is due, and the reason for that time. A pause of
    /// the source comes before the job's own reason. `None` if the watch waits for no request.
    #[must_use]
    pub fn next_request(&self, number: u64, now: Instant) -> Option<(Instant, &'static str)> {
        let (entry, due) = self.entry(number)?;
        let due = due?;
        if self.forced.contains(&number) {
            return Some((self.forced_from.unwrap_or(now).max(now), PollReason::Asked.word()));
        }
        let reason = match self.state() {
            HealthState::Ok => "",
            HealthState::Unauthorized => "source_unauthorized",
            HealthState::Limited => "source_limited",
            HealthState::Failing => "source_failing",
        };
        let paused = self.paused_until(now).filter(|until| *until > due);
        Some(paused.map_or((due, entry.reason()), |until| (until, reason)))
    }

    /// Makes a poll due now. Returns `false` if the watch is not being polled.
    pub fn poll_now(&mut self, number: u64, now: Instant) -> bool {
        let Some(entry) = self.entries.get_mut(number).filter(|entry| entry.task == Task::Poll) else {
            return false;
        };
        let is_due = entry.due.is_some_and(|due| due <= now);
        if is_due && (entry.reason.is_asked() || entry.reason == PollReason::Deadline) {
            // However often it is asked for, it keeps its place.
            entry.reason = PollReason::Asked;
        } else if !self.polls.is_running(number) {
            self.retries.remove(number);
            self.poll_at(number, now, PollReason::Asked);
        }
        true
    }

    /// Makes the next request for a watch due now, even if the source is paused: the pause may be
    /// long, and the caller may know better. Such forced requests are a second apart. Returns `false` if
    /// the watch waits for no request.
    pub fn request_now(&mut self, number: u64, now: Instant) -> bool {
        let is_fetch = self.entries.get(number).is_some_and(|entry| entry.task == Task::Fetch);
        if is_fetch && !self.fetches.is_running(&number) {
            self.retries.remove(number);
            self.fetches.schedule(number, now);
        }
        let is_known = is_fetch || self.poll_now(number, now);
        let is_paused = self.paused_until(now).is_some();
        if is_known && is_paused && self.forced.len() < MAX_FORCED && !self.forced.contains(&number) {
            self.forced.push_back(number);
        }
        is_known
    }

    /// Returns the next forced request, while the source is paused.
    fn next_forced(&mut self, budget: &mut BudgetState, now: Instant) -> Option<Next> {
        if self.pause(budget, now).is_none() {
            self.forced.clear();
        }
        if self.forced.is_empty() || self.forced_from.is_some_and(|from| now < from) {
            return None;
        }
        if let Err(at) = budget.take(self.claim.id, now) {
            return Some(Next::Wait(Some(at)));
        }
        let is_ready = |number: &u64| {
            self.entries.get(*number).is_some() && is_idle(&self.polls, &self.fetches, *number)
        };
        let number = self.forced.pop_front().filter(is_ready)?;
        self.forced_from = Some(now + FORCED_INTERVAL);
        Some(self.start(budget, number, Lane::Poll, now))
    }

    /// Returns the job to request because other jobs cast doubt on the source. A poll comes before
    /// a fetch, since results can have failures of their own, and a job that was answered before
    /// comes before the others.
    fn witness(&mut self, budget: &BudgetState, wall: Time) -> Option<u64> {
        let doubters = budget.key.doubters().or_else(|| self.host.doubters())?;
        let (polls, fetches, min) = (&self.polls, &self.fetches, self.config.min_interval.0);
        let is_other = |number: u64| !doubters.contains(&number);
        let has_polls =
            self.entries.iter().any(|(number, entry)| entry.task == Task::Poll && is_other(number));
        let fits = |entry: &Entry| {
            (entry.task == Task::Poll || !has_polls)
                && entry.track.unseen_for(wall) >= min
                && is_idle(polls, fetches, entry.number)
                && is_other(entry.number)
        };
        let entries = &mut self.entries;
        let mut pick = |also: fn(&Entry) -> bool| entries.in_turn(|entry| fits(entry) && also(entry));
        pick(|entry| entry.failures.is_none() && entry.was_seen())
            .or_else(|| pick(|entry| entry.failures.is_none()))
            .or_else(|| pick(|_| true))
    }

    /// Sends one request at a time while the source is not ok, for a different job each time.
    fn probe(&mut self, budget: &mut BudgetState, now: Instant) -> Next {
        if !self.has_idle() && !self.list_probes() {
            return Next::Wait(None);
        }
        let of_key = budget.key.state() != HealthState::Ok;
        if of_key && !budget.takes_probe(self.claim.id) {
            // Another source probes the key now, and its answer counts here, too.
            return Next::Wait(Some(now + FIRST_PAUSE));
        }
        if let Err(at) = budget.take(self.claim.id, now) {
            return Next::Wait(Some(at));
        }
        let (polls, fetches) = (&self.polls, &self.fetches);
        let probed = self.entries.in_turn(|entry| is_idle(polls, fetches, entry.number));
        if probed.is_none() && !self.list_probes() {
            return Next::Wait(None);
        }
        if of_key {
            budget.probed(self.claim.id, now);
        }
        if self.host.state() != HealthState::Ok {
            self.host.probed(now);
        }
        match probed {
            Some(number) => self.start(budget, number, Lane::Retry, now),
            None => self.start_list(ListUse::Asked),
        }
    }

    /// Chooses the lane whose turn it is. Polls and fetches alternate; failing jobs come last, but
    /// get their share.
    fn choose(&self, budget: &mut BudgetState, now: Instant) -> Choice {
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
                true => match budget.room(self.claim.id, lane, now) {
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
        // The queue of polls needs attention then, even if no lane has a place.
        until = until.into_iter().chain(self.polls.next_time()).min();
        if is_crowded { Choice::Crowded } else { Choice::Wait(until) }
    }

    fn is_any_ready(&self, now: Instant) -> bool {
        [Lane::Poll, Lane::Fetch, Lane::Retry].into_iter().any(|lane| self.is_ready(lane, now))
    }

    fn start_list(&mut self, list: ListUse) -> Next {
        self.begin_list(list);
        Next::List(list)
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

    fn start(&mut self, budget: &mut BudgetState, number: u64, lane: Lane, now: Instant) -> Next {
        let Some(entry) = self.entries.get_mut(number) else {
            self.polls.remove(number);
            self.fetches.remove(number);
            return Next::Yield;
        };
        (entry.due, entry.answered) = (None, false);
        let task = entry.task;
        match task {
            Task::Poll => {
                entry.track.hook = entry.track.hook.sent();
                self.polls.begin(number);
            }
            Task::Fetch => self.fetches.begin(number),
        }
        self.retries.remove(number);
        budget.begin_request(self.claim.id, number, task, lane, now);
        self.turn = self.turn.wrapping_add(1);
        Next::Run(number)
    }
}

/// Returns whether no request for a watch is in flight.
fn is_idle(polls: &Polls, fetches: &DueQueue<u64>, number: u64) -> bool {
    !polls.is_running(number) && !fetches.is_running(&number)
}
