//! Jobs whose requests fail: the facts that a failure is judged by, what is recorded of it, and
//! when the job is requested again.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    FailureHistory, FailureRowKind, HealthState, PollingConfig, RequestTimes, Schedule, SourceSign,
    health::MAX_RETRY_AFTER,
};
use crate::util::units::Time;

/// What the schedule knows of a job whose request failed.
#[derive(Clone, Debug)]
pub struct JobFacts {
    /// The failures of the job, with this one.
    pub history: FailureHistory,
    /// The source has answered about the job before.
    pub was_seen: bool,
    /// The deadline of the job has passed.
    pub is_overdue: bool,
}

/// What the schedule knows of a source that failed to answer about a job.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts")]
pub struct SourceFacts {
    /// The state of the source.
    pub state: HealthState,
    /// Its open watches.
    pub open: usize,
    /// The source answered some request after this one was sent.
    pub heard_since_sent: bool,
    /// The source answered about another job after this request was sent.
    pub well_since_sent: bool,
    /// The source answered about another job since this one began to fail.
    pub well_since_first: bool,
    /// The source answered about another job since it last limited this one.
    pub well_since_limited: bool,
    /// The limits of the source are those of single jobs.
    pub limits_are_own: bool,
    /// Jobs that the source does not know or no longer has, this one included.
    pub missing: usize,
    /// Jobs that the source answered about since this one went missing.
    pub well_since_missing: usize,
}

/// So few missing jobs say nothing about the source.
const FEW: usize = 2;

impl SourceFacts {
    /// Returns whether more jobs are missing than answered: then the source lost its routes, and
    /// not these jobs.
    #[must_use]
    pub fn are_most_missing(&self) -> bool {
        self.missing > FEW && self.missing > self.well_since_missing
    }
}

impl Schedule {
    /// Returns the number of jobs that are missing at the source.
    #[must_use]
    pub fn missing(&self) -> usize {
        self.missing.len()
    }

    /// Returns the facts by which a failure of this kind is judged. `None` if the watch is gone.
    #[must_use]
    pub fn failure_facts(
        &self,
        request: RequestTimes,
        kind: FailureRowKind,
        wall: Time,
    ) -> Option<(JobFacts, SourceFacts)> {
        let entry = self.entries.get(request.number)?;
        let before = entry.failures.as_deref();
        let limited_at = before.and_then(|failures| failures.limited_at);
        let mut history = before.cloned().unwrap_or_else(|| FailureHistory::new(request.now));
        history.record(kind, request.now);
        let is_new = kind.is_missing() && !self.missing.contains(&request.number);
        let budget = self.claim.lock();
        let source = SourceFacts {
            state: self.state_by(&budget),
            open: self.entries.len(),
            heard_since_sent: self.host.was_heard_since(request.sent),
            well_since_sent: budget.key.was_well_since(request.sent),
            well_since_first: self.host.was_well_since(history.since),
            well_since_limited: limited_at.is_some_and(|at| budget.key.was_well_since(at)),
            limits_are_own: budget.key.limits_are_own(),
            missing: self.missing.len() + usize::from(is_new),
            well_since_missing: self.host.jobs_well_since(history.row.since),
        };
        let (was_seen, is_overdue) = (entry.was_seen(), wall >= entry.deadline);
        Some((JobFacts { history, was_seen, is_overdue }, source))
    }

    /// Records a failure of the job's own, as it was judged.
    pub fn record_failure(&mut self, number: u64, history: FailureHistory) {
        let Some(entry) = self.entries.get_mut(number) else { return };
        match history.row.kind.is_missing() {
            true => self.missing.insert(number),
            false => self.missing.remove(&number),
        };
        entry.failures = Some(Box::new(history));
    }

    /// Records a failure that is the source's. The history of the job stays as it was.
    pub fn record_blameless(
        &mut self,
        number: u64,
        error: String,
        limited_at: Option<Instant>,
        now: Instant,
    ) {
        let Some(entry) = self.entries.get_mut(number) else { return };
        let history = entry.failures.get_or_insert_with(|| Box::new(FailureHistory::new(now)));
        (history.last_error, history.last_at) = (error, now);
        (history.limited_at, history.is_own) = (limited_at, false);
    }

    /// Records that the source answered about a job.
    pub fn record_answer(&mut self, request: RequestTimes) {
        self.record_sign(request, SourceSign::Well, 0.0);
        self.missing.remove(&request.number);
        if let Some(entry) = self.entries.get_mut(request.number) {
            let before = entry.failures.take();
            if before.is_some_and(|failures| failures.limited_at.is_some()) {
                self.claim.lock().key.limit_passed();
            }
        }
    }

    /// Returns the state to show. A source is shown as failing, too, while every job fails for its
    /// own reasons.
    #[must_use]
    pub fn shown_state(&self, now: Instant) -> HealthState {
        match self.state() {
            HealthState::Ok => self.host.shown(self.entries.len(), now),
            state => state,
        }
    }

    /// Returns whether the source answered anything at or after a time.
    #[must_use]
    pub fn was_heard_since(&self, since: Instant) -> bool {
        self.host.was_heard_since(since)
    }

    /// Records what a request says about the source: about its host, and about the key, which every
    /// source of the budget learns of. `random` lies in [0, 1). Returns the length of the pause that
    /// begins with it.
    pub fn record_sign(&mut self, request: RequestTimes, sign: SourceSign, random: f64) -> Option<Duration> {
        use HealthState::{Failing, Unauthorized};
        let open = self.entries.len();
        // Without credentials nothing is sent, so nobody refused a key that others share.
        if let SourceSign::Suspect(Failing, _) | SourceSign::Ill(Failing | Unauthorized, _) = sign {
            return self.host.record(request, sign, open, random);
        }
        match sign {
            SourceSign::Well | SourceSign::Heard => {
                self.host.record(request, sign, open, random);
            }
            // A refusal is an answer, too.
            SourceSign::Suspect(..) | SourceSign::Ill(HealthState::Limited, _) => {
                self.host.reached(request.now);
            }
            SourceSign::Ill(..) | SourceSign::OwnLimit | SourceSign::Silent => {}
        }
        let mut budget = self.claim.lock();
        budget.set_open(self.claim.id, open);
        budget.record(request, sign, random)
    }
}

/// Returns the wait before a job is polled again whose end turned out to be none, once more.
#[must_use]
pub(super) fn relapsed_wait(config: &PollingConfig, relapses: u8) -> Duration {
    let (min, max) = (config.min_interval.0, config.longest_pause());
    min.saturating_mul(1 << relapses.saturating_sub(1).min(24)).min(max.max(min))
}

/// Returns the wait before a failing job is requested again. Each failure doubles it, up to the
/// longest pause. `random` lies in [0, 1).
#[must_use]
pub(super) fn retry_wait(config: &PollingConfig, history: &FailureHistory, random: f64) -> Duration {
    let (min, max) = (config.min_interval.0, history.longest.unwrap_or_else(|| config.longest_pause()));
    let doubled = min.saturating_mul(1 << history.count.saturating_sub(1).min(24)).min(max.max(min));
    let wait = min + doubled.saturating_sub(min).mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0);
    wait.max(history.asked.unwrap_or_default().min(MAX_RETRY_AFTER))
}
