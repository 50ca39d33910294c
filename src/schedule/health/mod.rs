//! The health of a source: whether requests may be sent. It holds for all of its watches.
//!
//! There are two of them. That of the *host* is each source's own: whether it answers at all, and
//! whether there are credentials to ask with. That of the *key* belongs to the budget, and so to
//! every source that shares it: whether requests are limited, or the key is refused.
//!
//! [`sign`] has the words, [`evidence`] counts what the jobs said, [`pause`] says how long nothing
//! is sent. What a single failure says about the source is decided elsewhere, by the watcher; this
//! module adds the decisions up.

mod evidence;
mod pause;
mod sign;

use std::time::Duration;

use tokio::time::Instant;

pub(super) use pause::FIRST_PAUSE;
pub use pause::MAX_RETRY_AFTER;
pub use sign::{HealthState, RequestTimes, SourceSign};

use self::{
    evidence::Evidence,
    pause::{Pause, UNAUTHORIZED_PAUSE},
};

/// The health of a source, with the pause that follows from it.
///
/// While the source is not ok, one request goes out at the end of each pause: a probe, of a
/// different job each time. Any answer to a request that was sent after the failure makes the
/// source ok at once. A wait that the source asked for lasts to its end, unless the source answers
/// a request that a caller forced meanwhile.
#[derive(Debug)]
pub struct Health {
    state: HealthState,
    pause: Pause,
    /// When the state or the pause changed. A request that was sent before does not count as
    /// another failure.
    changed: Option<Instant>,
    evidence: Evidence,
    longest: Duration,
}

impl Health {
    /// Creates the health of a source that is ok. Its pauses grow up to `longest`.
    #[must_use]
    pub fn new(longest: Duration) -> Self {
        Self {
            state: HealthState::Ok,
            pause: Pause::default(),
            changed: None,
            evidence: Evidence::default(),
            longest: longest.max(UNAUTHORIZED_PAUSE),
        }
    }

    /// Continues for another health: keeps the wait that the source asked that one for. It takes over
    /// no other failure.
    pub fn absorb(&mut self, other: &Self) {
        if other.state == HealthState::Limited && other.pause.end() > self.pause.end() {
            self.state = other.state;
            self.pause = other.pause.clone();
            self.changed = other.changed;
        }
    }

    /// Forgets that the key is refused: a new configuration may be the remedy.
    pub fn reconsider(&mut self, now: Instant) {
        if self.state == HealthState::Unauthorized {
            self.recover(now);
        }
    }

    /// Records that the host answers, whatever it says, and so that there were credentials.
    pub fn reached(&mut self, now: Instant) {
        if matches!(self.state, HealthState::Failing | HealthState::Unauthorized) {
            self.recover(now);
        }
    }

    /// Changes the longest pause.
    pub fn set_longest(&mut self, longest: Duration) {
        self.longest = longest.max(UNAUTHORIZED_PAUSE);
    }

    /// Returns what decides whether requests are sent: the state, the end of the pause, and whether
    /// a witness should be called.
    pub(super) fn decision(&self) -> (HealthState, Option<Instant>, bool) {
        (self.state, self.pause.end(), self.doubters().is_some())
    }

    /// Returns the state that decides what is sent.
    #[must_use]
    pub fn state(&self) -> HealthState {
        self.state
    }

    /// Returns the state to show. A source is shown as failing, too, while every job fails for its
    /// own reasons.
    #[must_use]
    pub fn shown(&self, open: usize, now: Instant) -> HealthState {
        match self.state {
            HealthState::Ok if self.evidence.all_fail(open, now) => HealthState::Failing,
            state => state,
        }
    }

    /// Returns the jobs that cast doubt on the source, while the schedule should call a witness.
    #[must_use]
    pub fn doubters(&self) -> Option<&[u64]> {
        self.evidence.doubters().filter(|_| self.state == HealthState::Ok)
    }

    /// Records the witness: the job that is requested because the source is doubted. Its answer
    /// decides.
    pub fn call_witness(&mut self, number: u64) {
        self.evidence.call_witness(number);
    }

    /// Records that the request for a job has ended.
    pub fn dismiss(&mut self, number: u64) {
        self.evidence.dismiss(number);
    }

    /// Returns when the pause ends, if there is one.
    #[must_use]
    pub fn paused_until(&self, now: Instant) -> Option<Instant> {
        self.pause.until(now)
    }

    /// Returns when the wait ends that the source asked for, if it lasts.
    #[must_use]
    pub fn asked_until(&self, now: Instant) -> Option<Instant> {
        self.pause.asked_until(now)
    }

    /// Returns whether the limits of this source are those of single jobs, so that one more says
    /// nothing about the source.
    #[must_use]
    pub fn limits_are_own(&self) -> bool {
        self.evidence.limits_are_own()
    }

    /// Records an answer about a job that had been limited: the limit was the source's.
    pub fn limit_passed(&mut self) {
        self.evidence.forget_own_limits();
    }

    /// Returns whether the source answered anything at or after a time.
    #[must_use]
    pub fn was_heard_since(&self, since: Instant) -> bool {
        self.evidence.was_heard_since(since)
    }

    /// Returns whether the source answered about a job at or after a time.
    #[must_use]
    pub fn was_well_since(&self, since: Instant) -> bool {
        self.evidence.was_well_since(since)
    }

    /// Returns the number of jobs that the source answered about since a time, as far as it is
    /// remembered.
    #[must_use]
    pub fn jobs_well_since(&self, since: Instant) -> usize {
        self.evidence.jobs_well_since(since)
    }

    /// Records a probe. The next one follows after the pause, even if this one is still in flight.
    pub fn probed(&mut self, now: Instant) {
        self.pause.probed(now);
    }

    /// Records what a request says about a source with `open` watches. `random` lies in [0, 1).
    /// Returns the length of the pause that begins with it.
    pub fn record(
        &mut self,
        request: RequestTimes,
        sign: SourceSign,
        open: usize,
        random: f64,
    ) -> Option<Duration> {
        match sign {
            SourceSign::Silent => {}
            SourceSign::OwnLimit => self.evidence.own_limit(request.number),
            SourceSign::Well => {
                self.heard(request, true);
                self.evidence.well(request);
            }
            SourceSign::Heard => {
                self.heard(request, false);
                self.evidence.own_failure(request);
            }
            SourceSign::Suspect(state, asked) => return self.suspect(request, state, asked, open, random),
            SourceSign::Ill(state, asked) => return self.failed(request, state, asked, random),
        }
        None
    }

    fn suspect(
        &mut self,
        request: RequestTimes,
        state: HealthState,
        asked: Option<Duration>,
        open: usize,
        random: f64,
    ) -> Option<Duration> {
        if !self.evidence.suspect(request, state, self.state == state, open) {
            return None;
        }
        if state == HealthState::Limited && self.state != state {
            self.evidence.forget_own_limits();
        }
        self.failed(request, state, asked, random)
    }

    fn heard(&mut self, request: RequestTimes, is_well: bool) {
        self.evidence.heard(request);
        let is_from_before = self.changed.is_some_and(|changed| request.sent < changed);
        let lasts = match self.state {
            HealthState::Ok | HealthState::Failing => false,
            HealthState::Unauthorized | HealthState::Limited => is_from_before,
        };
        let is_asked = self.asked_until(request.now).is_some() && (is_from_before || !is_well);
        if !lasts && !is_asked {
            self.recover(request.now);
        }
    }

    fn recover(&mut self, now: Instant) {
        if self.state != HealthState::Ok {
            self.changed = Some(now);
        }
        self.state = HealthState::Ok;
        self.pause.clear();
    }

    fn failed(
        &mut self,
        request: RequestTimes,
        state: HealthState,
        asked: Option<Duration>,
        random: f64,
    ) -> Option<Duration> {
        let (now, asked) = (request.now, asked.map(|asked| asked.min(MAX_RETRY_AFTER)));
        self.pause.ask(asked, now);
        // All requests in flight count as one failure.
        if self.state != HealthState::Ok && self.changed.is_some_and(|changed| request.sent < changed) {
            self.pause.extend();
            return None;
        }
        (self.state, self.changed) = (state, Some(now));
        Some(self.pause.begin(state, asked, self.longest, now, random))
    }

    /// Shortens the pause by the time for which the machine slept.
    pub fn slept(&mut self, by: Duration) {
        self.pause.slept(by);
    }

    /// Lets one request through, because the reason for the pause may be gone. A pause that the
    /// source asked for stays.
    pub fn try_again(&mut self) {
        self.pause.cut();
    }
}

#[cfg(test)]
mod tests;
