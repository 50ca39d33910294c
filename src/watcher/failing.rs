//! Records answers and failures: asks [`failure`](super::failure) what one means, and tells the
//! schedule and the log.

use std::sync::atomic::Ordering;

use super::{
    SourceState, TaskResult,
    failure::{JobMeaning, Meaning, judge, judge_own, row_kind},
    in_flight::InFlight,
};
use crate::{
    model::job::JobId,
    schedule::{FailureRowKind, HealthState, SourceSign},
    upstream::Failure,
    util::clock,
};

/// Failures of a job in a row at which the log warns of it, once.
const KEEPS_FAILING: u32 = 5;

impl SourceState {
    /// Returns whether the last request for a job failed.
    pub(super) fn has_failed(&self, number: u64) -> bool {
        self.schedule().entry(number).is_some_and(|(entry, _)| entry.failures.is_some())
    }

    /// Records that the source answered about a job.
    pub(super) fn record_answer(&self, request: &InFlight) {
        let mut schedule = self.schedule();
        let before = schedule.state();
        schedule.record_answer(request.times());
        if schedule.missing() == 0 {
            self.most_missing.store(false, Ordering::Relaxed);
        }
        self.log_recovery(before, schedule.state());
    }

    /// Records a failure that has nothing to do with the source. Returns the number of failures of
    /// the job in a row.
    pub(super) fn record_own_failure(&self, request: &InFlight, error: String) -> u32 {
        let (times, wall) = (request.times(), clock::steady());
        let mut schedule = self.schedule();
        let Some((job, _)) = schedule.failure_facts(times, FailureRowKind::Transient, wall) else { return 0 };
        let history = judge_own(&job, error);
        let failures = history.count;
        schedule.record_failure(request.number, history);
        failures
    }

    /// Records a failed request: what it means for its job and for the source.
    pub(super) async fn record_failure(
        &self,
        request: &InFlight,
        job_id: &JobId,
        failure: &Failure,
    ) -> TaskResult {
        let source = &self.source.name;
        tracing::debug!(source, %job_id, error = %failure, "request failed");
        let Some(meaning) = self.apply_failure(request, failure) else { return TaskResult::Advanced };
        let failures = meaning.failures_in_a_row();
        if failures == KEEPS_FAILING {
            let error = failure.to_string();
            tracing::warn!(source, %job_id, error, failures, "job keeps failing; other jobs go on");
        }
        let JobMeaning::Lost { reason, .. } = meaning.job else { return TaskResult::Repeat };
        self.give_up(request.number, &reason).await;
        TaskResult::Advanced
    }

    /// Judges a failure and applies the result to the schedule. Returns `None` if the watch is
    /// gone.
    fn apply_failure(&self, request: &InFlight, failure: &Failure) -> Option<Meaning> {
        let times = request.times();
        let grace = self.source.config.not_found_grace.map(|grace| grace.0);
        let mut schedule = self.schedule();
        let (job, source) = schedule.failure_facts(times, row_kind(failure), clock::steady())?;
        let meaning = judge(failure, &job, &source, grace, times.now);
        match &meaning.job {
            JobMeaning::Retry(history) => schedule.record_failure(times.number, (**history).clone()),
            JobMeaning::Blameless { limited_at } => {
                schedule.record_blameless(times.number, failure.to_string(), *limited_at, times.now);
            }
            JobMeaning::Lost { .. } => {}
        }
        let before = schedule.state();
        let pause = schedule.record_sign(times, meaning.source, rand::random());
        let after = schedule.state();
        if meaning.most_missing && !self.most_missing.swap(true, Ordering::Relaxed) {
            let (source, missing) = (&self.source.name, source.missing);
            tracing::warn!(source, missing, "most jobs are missing at once; none is given up meanwhile");
        }
        if meaning.is_about_source() {
            self.set_last_error(failure.to_string());
        }
        let is_own = matches!(meaning.source, SourceSign::Ill(HealthState::Unauthorized, _));
        if matches!(after, HealthState::Limited | HealthState::Unauthorized) && pause.is_some() && !is_own {
            self.budget.set_last_error(&failure.to_string());
        }
        if let Some(pause) = pause.filter(|_| before != after) {
            let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
            let (source, budget) = (&self.source.name, self.budget.name());
            let error = failure.to_string();
            tracing::warn!(source, budget, error, pause_ms, "source is {}", after.as_str());
        }
        self.log_recovery(before, after);
        Some(meaning)
    }

    /// Logs that the source answers again, if it did not before.
    pub(super) fn log_recovery(&self, before: HealthState, after: HealthState) {
        if before != HealthState::Ok && after == HealthState::Ok {
            let (source, budget) = (&self.source.name, self.budget.name());
            tracing::info!(source, budget, "source answers again");
        }
    }
}
