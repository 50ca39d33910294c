//! The request budget of a key: what the sources that share it may send together.
//!
//! A [`SharedBudget`] holds the rate, the places for requests in flight, and the health of the key:
//! whether requests are limited or refused, and the pause that follows. A source without `budget`
//! has one of its own; nothing else differs. Each flow of requests has a [`Claim`], and the claims
//! that wait take turns ([`turns`]), so that none starves another.
//!
//! Its lock is taken after that of a schedule, and held for one decision.

mod claim;
mod config;
mod turns;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use self::turns::{Turns, Waits, Want};
pub use self::{
    claim::Claim,
    config::{BudgetConfig, MAX_IN_FLIGHT, MAX_REQUESTS_PER_SECOND},
};
use super::{
    Health, HealthState, RequestTimes, SourceSign, Task,
    lanes::{Lane, Lanes, Room},
};
use crate::util::budget::Budget;

/// The limits of a budget.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// The most requests a second.
    pub rate: f64,
    /// The most requests in flight.
    pub max_in_flight: usize,
    /// The longest pause after a limit or a refusal, unless the source asks for a longer one.
    pub longest_pause: Duration,
}

/// The request budget of a key.
#[derive(Debug)]
pub struct SharedBudget {
    name: Option<String>,
    state: Mutex<BudgetState>,
}

#[derive(Debug)]
pub(super) struct BudgetState {
    rate: Budget,
    lanes: Lanes,
    /// The health of the key.
    pub(super) key: Health,
    turns: Turns,
    /// Wakes those who wait behind a claim.
    wakes: BTreeMap<u64, Arc<Notify>>,
    /// The open watches of each schedule, by its claim.
    open: BTreeMap<u64, usize>,
    /// What the last limit or refusal said.
    last_error: Option<String>,
}

impl SharedBudget {
    /// Creates a budget with a full bucket. One that sources share by its `name` has one.
    #[must_use]
    pub fn new(name: Option<&str>, limits: Limits, now: Instant) -> Self {
        let state = BudgetState {
            rate: Budget::new(limits.rate, now),
            lanes: Lanes::new(limits.max_in_flight),
            key: Health::new(limits.longest_pause),
            turns: Turns::default(),
            wakes: BTreeMap::new(),
            open: BTreeMap::new(),
            last_error: None,
        };
        Self { name: name.map(str::to_owned), state: Mutex::new(state) }
    }

    /// Returns the name by which sources share it.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, BudgetState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the limits. What was used up stays so.
    pub fn set_limits(&self, limits: Limits, now: Instant) {
        let mut state = self.lock();
        state.rate.set_rate(limits.rate, now);
        state.lanes.set_max(limits.max_in_flight);
        state.key.set_longest(limits.longest_pause);
        state.wake_all();
    }

    /// Takes out all tokens.
    pub fn empty(&self, now: Instant) {
        self.lock().rate.empty(now);
    }

    /// Continues for another budget as well, whose source moved here: with no more tokens, and with
    /// its pause.
    pub fn absorb(&self, other: &Self, now: Instant) {
        let (rate, limited) = {
            let other = other.lock();
            let mut limited = Health::new(Duration::ZERO);
            limited.absorb(&other.key);
            (other.rate.clone(), limited)
        };
        let mut state = self.lock();
        state.rate.absorb(&rate, now);
        state.key.absorb(&limited);
    }

    /// Forgets that the key is refused: a source has a new configuration.
    pub fn reconsider(&self, now: Instant) {
        let mut state = self.lock();
        state.key.reconsider(now);
        state.wake_all();
    }

    /// Returns until when the source asked for no requests, if that lasts.
    #[must_use]
    pub fn asked_until(&self, now: Instant) -> Option<Instant> {
        self.lock().key.asked_until(now)
    }

    /// Takes up a wait that the source asked for before a restart.
    pub fn ask_until(&self, until: Instant, now: Instant) {
        let wait = until.saturating_duration_since(now);
        let mut state = self.lock();
        if state.key.asked_until(now).is_none_or(|known| known < until) && !wait.is_zero() {
            state.last_error = Some("it asked for a wait before the restart".to_owned());
            let request = RequestTimes { number: u64::MAX, sent: now, now };
            state.record(request, SourceSign::Ill(HealthState::Limited, Some(wait)), 0.0);
        }
    }

    /// Lets one request through, because the key has changed.
    pub fn try_again(&self) {
        let mut state = self.lock();
        state.key.try_again();
        state.wake_all();
    }

    /// Brings the end of a pause forward by the time for which the machine slept.
    pub fn slept(&self, by: Duration) {
        let mut state = self.lock();
        state.key.slept(by);
        state.wake_all();
    }

    /// Returns the state of the key, and the end of its pause.
    #[must_use]
    pub fn key_state(&self, now: Instant) -> (HealthState, Option<Instant>) {
        let state = self.lock();
        (state.key.state(), state.key.paused_until(now))
    }

    /// Returns what the last limit or refusal said, while the key is limited or refused.
    #[must_use]
    pub fn last_error(&self) -> Option<String> {
        let state = self.lock();
        state.last_error.clone().filter(|_| state.key.state() != HealthState::Ok)
    }

    /// Records what a limit or a refusal said.
    pub fn set_last_error(&self, error: &str) {
        self.lock().last_error = Some(error.to_owned());
    }

    /// Returns the configured rate in requests a second.
    #[must_use]
    pub fn max_requests_per_second(&self) -> f64 {
        self.lock().rate.full()
    }

    /// Returns the requests a second that are allowed now, and the share of them that was sent
    /// recently (0 to 1).
    #[must_use]
    pub fn in_use(&self, now: Instant) -> (f64, f64) {
        self.lock().rate.in_use(now)
    }
}

impl BudgetState {
    fn join(&mut self, wake: Arc<Notify>) -> u64 {
        let claim = self.turns.join();
        self.wakes.insert(claim, wake);
        claim
    }

    fn leave(&mut self, claim: u64) {
        self.retire(claim);
        self.lanes.leave(claim);
        self.turns.leave(claim);
        self.wakes.remove(&claim);
        self.wake_all();
    }

    /// Ends the waits of a schedule that asks no more.
    pub(super) fn retire(&mut self, claim: u64) {
        self.open.remove(&claim);
        let before = self.turns.withdraw(claim);
        self.end(claim, before);
    }

    /// Begins a decision of a schedule with `open` watches. It ends with [`end`](Self::end).
    pub(super) fn begin(&mut self, claim: u64, open: usize) -> Waits {
        self.set_open(claim, open);
        self.turns.withdraw(claim)
    }

    /// Ends a decision. What the claim waited for `before` and needs no more goes to the others.
    pub(super) fn end(&mut self, claim: u64, before: Waits) {
        for want in self.turns.dropped(claim, before) {
            self.wake_waiting(claim, want);
        }
    }

    pub(super) fn set_open(&mut self, claim: u64, open: usize) {
        self.open.insert(claim, open);
    }

    /// Takes a token in turn.
    ///
    /// # Errors
    /// The time at which to ask again. The claim counts as waiting until then.
    pub(super) fn take(&mut self, claim: u64, now: Instant) -> Result<(), Instant> {
        let taken = self.rate.take_beside(self.turns.ahead(claim, Want::Token), now);
        match taken {
            Ok(()) => self.turns.serve(claim, Want::Token),
            Err(_) => self.turns.wait(claim, Want::Token),
        }
        taken
    }

    /// Takes a token that others leave: while some wait, only one in [`turns::SPARE_TURN`].
    ///
    /// # Errors
    /// The time at which to ask again.
    pub(super) fn take_spare(&mut self, claim: u64, now: Instant) -> Result<(), Instant> {
        let others = self.turns.others(claim, Want::Token).count();
        if others > 0 && self.turns.may_take_as_all(claim) {
            return self.take(claim, now);
        }
        if others > 0 {
            let mut rate = self.rate.clone();
            return Err(rate.take_beside(others + 1, now).err().unwrap_or(now + SPARE_AGAIN));
        }
        self.rate.take_spare(now)?;
        self.turns.serve(claim, Want::Token);
        Ok(())
    }

    pub(super) fn pay(&mut self, requests: u32, now: Instant) {
        self.rate.pay(requests, now);
    }

    /// Takes the next probe of a key that is limited or refused, in turn.
    pub(super) fn takes_probe(&mut self, claim: u64) -> bool {
        let is_first = self.turns.ahead(claim, Want::Probe) == 0;
        if !is_first {
            self.turns.wait(claim, Want::Probe);
        }
        is_first
    }

    /// Records that a claim waits to probe the key.
    pub(super) fn awaits_probe(&mut self, claim: u64) {
        self.turns.wait(claim, Want::Probe);
    }

    /// Records a probe of the key.
    pub(super) fn probed(&mut self, claim: u64, now: Instant) {
        self.turns.serve(claim, Want::Probe);
        self.key.probed(now);
    }

    /// Returns whether a lane has a place for this claim, by turns.
    pub(super) fn room(&mut self, claim: u64, lane: Lane, now: Instant) -> Room {
        let want = Want::from(lane);
        let ahead = self.turns.ahead(claim, want);
        let sources = self.open.values().filter(|open| **open > 0).count();
        let room = self.lanes.room(lane, claim, ahead, sources, now);
        if matches!(room, Room::Full(_)) {
            self.turns.wait(claim, want);
        }
        room
    }

    /// Takes a place for a request.
    pub(super) fn begin_request(&mut self, claim: u64, number: u64, task: Task, lane: Lane, now: Instant) {
        self.turns.serve(claim, lane.into());
        self.lanes.begin(claim, number, task, lane, now);
    }

    /// Gives the place of a request back.
    pub(super) fn finish_request(&mut self, claim: u64, number: u64, task: Task) {
        self.key.dismiss(number);
        if let Some(lane) = self.lanes.finish(number, task) {
            self.wake_waiting(claim, lane.into());
        }
    }

    pub(super) fn in_flight(&self, claim: u64) -> usize {
        self.lanes.of(claim)
    }

    /// Records what a request says about the key. `random` lies in [0, 1). Returns the length of the
    /// pause that begins with it.
    pub(super) fn record(
        &mut self,
        request: RequestTimes,
        sign: SourceSign,
        random: f64,
    ) -> Option<Duration> {
        let (before, were_own) = (self.key.decision(), self.key.limits_are_own());
        let open = self.open.values().sum();
        let pause = self.key.record(request, sign, open, random);
        if sign == SourceSign::OwnLimit && !were_own && self.key.limits_are_own() {
            // The limits were those of single jobs, so the source never asked for fewer requests.
            self.rate.restore(request.now);
        }
        if pause.is_some() && self.key.state() == HealthState::Limited {
            self.rate.shrink(request.now);
        }
        if self.key.decision() != before {
            self.wake_all();
        }
        pause
    }

    fn wake_waiting(&self, claim: u64, want: Want) {
        for other in self.turns.others(claim, want) {
            if let Some(wake) = self.wakes.get(&other) {
                wake.notify_one();
            }
        }
    }

    fn wake_all(&self) {
        for wake in self.wakes.values() {
            wake.notify_one();
        }
    }
}

/// When a claim that takes what others leave asks again, if nothing tells a better time.
const SPARE_AGAIN: Duration = Duration::from_millis(50);
