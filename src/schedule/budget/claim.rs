//! A claim on a budget: that of a schedule, or of a flow of other requests.

use std::{sync::Arc, time::Duration};

use tokio::{
    select,
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::{BudgetState, SharedBudget, turns::Want};
use crate::schedule::{HealthState, RequestTimes, SourceSign, health::FIRST_PAUSE};

/// A claim on a budget. It takes its turn among the others.
#[derive(Debug)]
pub struct Claim {
    budget: Arc<SharedBudget>,
    wake: Arc<Notify>,
    pub(in crate::schedule) id: u64,
}

impl Claim {
    /// Adds a claim. `wake` is notified when it should ask again before the time that it was told.
    #[must_use]
    pub fn new(budget: &Arc<SharedBudget>, wake: Arc<Notify>) -> Self {
        let id = budget.lock().join(Arc::clone(&wake));
        Self { budget: Arc::clone(budget), wake, id }
    }

    /// Returns its budget.
    #[must_use]
    pub fn budget(&self) -> &Arc<SharedBudget> {
        &self.budget
    }

    pub(in crate::schedule) fn lock(&self) -> std::sync::MutexGuard<'_, BudgetState> {
        self.budget.lock()
    }

    /// Waits for a token. Only one caller may wait at a time.
    pub async fn take(&self) {
        // A caller that stops waiting must not hold up the others.
        let _withdraw = Withdraw(self);
        loop {
            let taken = self.lock().take(self.id, Instant::now());
            let Err(at) = taken else { return };
            select! {
                () = sleep_until(at) => {}
                () = self.wake.notified() => {}
            }
        }
    }

    /// Waits for a token that others leave, or for one in [`SPARE_TURN`](super::turns::SPARE_TURN) while they wait. Only one
    /// caller may wait at a time.
    pub async fn take_spare(&self) {
        let _withdraw = Withdraw(self);
        loop {
            let taken = self.lock().take_spare(self.id, Instant::now());
            let Err(at) = taken else { return };
            sleep_until(at).await;
        }
    }

    /// Waits for a token, and while the key is limited for the end of the pause: then the request is
    /// the probe. Only one caller may wait at a time.
    ///
    /// # Errors
    /// The time at which to ask again, if it is after `until`.
    pub async fn take_unless_limited(&self, until: Instant) -> Result<(), Instant> {
        let _withdraw = Withdraw(self);
        loop {
            let now = Instant::now();
            let taken = self.lock().take_unless_limited(self.id, now);
            let Err(at) = taken else { return Ok(()) };
            if at > until {
                return Err(at);
            }
            select! {
                () = sleep_until(at) => {}
                () = self.wake.notified() => {}
            }
        }
    }
}

impl Claim {
    /// Records the answer to a request that was not about a watched job: whether it was a limit, with
    /// the status and the wait that it asks for. `random` lies in [0, 1).
    pub fn record_creation(
        &self,
        sent: Instant,
        limit: Option<(u16, Option<Duration>)>,
        now: Instant,
        random: f64,
    ) {
        let sign = match limit {
            None => SourceSign::Heard,
            // As for a watched job: a 503 may be this request's own.
            Some((503, asked)) => SourceSign::Suspect(HealthState::Limited, asked),
            Some((_, asked)) => SourceSign::Ill(HealthState::Limited, asked),
        };
        let mut state = self.lock();
        if let Some((status, _)) = limit {
            state.last_error = Some(format!("the source answered {status} to a creation"));
        }
        state.record(RequestTimes { number: u64::MAX, sent, now }, sign, random);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.lock().leave(self.id);
    }
}

/// Ends the waits of a claim when dropped.
struct Withdraw<'a>(&'a Claim);

impl Drop for Withdraw<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        let before = state.turns.withdraw(self.0.id);
        state.end(self.0.id, before);
    }
}

impl BudgetState {
    fn take_unless_limited(&mut self, claim: u64, now: Instant) -> Result<(), Instant> {
        let is_limited = self.key.state() == HealthState::Limited;
        if is_limited && let Some(until) = self.key.paused_until(now) {
            let before = self.turns.withdraw(claim);
            self.end(claim, before);
            self.turns.wait(claim, Want::Probe);
            return Err(until);
        }
        if is_limited && !self.takes_probe(claim) {
            return Err(now + FIRST_PAUSE);
        }
        self.take(claim, now)?;
        if is_limited {
            self.probed(claim, now);
        }
        Ok(())
    }
}
