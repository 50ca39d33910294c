//! What a failed request means for its job and for the source. Pure: facts go in, the meaning comes
//! out.
//!
//! A failure belongs to one job or to the source. It belongs to the source if no connection can be
//! made, if the source asks for fewer requests, or if several jobs in a row meet the same refusal
//! or silence; the schedule counts those jobs in [`Health`](crate::schedule::Health). Any other
//! failure is the job's own, and no other job notices it.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    schedule::{FailureHistory, FailureRowKind, HealthState, JobFacts, SourceFacts, SourceSign},
    upstream::Failure,
};

/// 404 or 410 answers in a row after which a job is lost, if they lasted long enough. Retab's own
/// client gives up at the third. A new job can take a moment to appear, so the daemon waits for one
/// more.
const MISSING: u32 = 4;

/// How long a job must be missing before it is lost, if the source never answered about it.
const NEVER_SEEN: Duration = Duration::from_secs(30);

/// The same if the source answered about it before: a gateway that lost its routes answers 404,
/// too.
const SEEN_BEFORE: Duration = Duration::from_mins(10);

/// How long the source must answer 410 before a job is lost.
const GONE: Duration = Duration::from_mins(1);

/// Other 4xx answers in a row after which a job is lost, if they lasted [`REJECTED_FOR`].
const REJECTED: u32 = 10;

/// How long other 4xx answers must last before a job is lost.
const REJECTED_FOR: Duration = Duration::from_mins(10);

/// Failures in a row after which a job past its deadline is lost, if the source answers about other
/// jobs. A part of a source can be down for a while, above all when it starts together with the
/// daemon.
const OVERDUE: u32 = 4;

/// How long those failures must last.
const OVERDUE_FOR: Duration = Duration::from_mins(1);

/// The same if there are no other jobs to compare with.
const OVERDUE_ALONE: Duration = Duration::from_mins(10);

/// The longest interval between fetches of a result that is too large. Only a new configuration
/// changes that.
const TOO_LARGE: Duration = Duration::from_hours(1);

/// A shorter wait that a source asks for counts as no wait.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);

/// What a failure means.
#[derive(Clone, Debug)]
pub struct Meaning {
    /// What it means for the job.
    pub job: JobMeaning,
    /// What it means for the source.
    pub source: SourceSign,
    /// Most jobs are missing at once, this one among them.
    pub most_missing: bool,
}

/// What a failure means for its job.
#[derive(Clone, Debug)]
pub enum JobMeaning {
    /// The failure is the source's. The job keeps its history.
    Blameless {
        /// When the source limited this job, if the failure is a limit.
        limited_at: Option<Instant>,
    },
    /// The failure is the job's own. The schedule repeats the request at the job's own growing
    /// intervals, by this history.
    Retry(Box<FailureHistory>),
    /// The job is lost.
    Lost {
        /// Why.
        reason: String,
        /// Failures in a row, this one included.
        failures: u32,
    },
}

impl Meaning {
    /// Returns how many failures of its own the job has in a row, this one included.
    #[must_use]
    pub const fn failures_in_a_row(&self) -> u32 {
        match &self.job {
            JobMeaning::Blameless { .. } => 0,
            JobMeaning::Retry(history) => history.count,
            JobMeaning::Lost { failures, .. } => *failures,
        }
    }

    /// Returns whether the failure says something about the source that an operator should see.
    #[must_use]
    pub const fn is_about_source(&self) -> bool {
        !matches!(self.source, SourceSign::Well | SourceSign::OwnLimit | SourceSign::Silent)
    }
}

/// Returns the row of failures that a failure continues or begins.
#[must_use]
pub const fn row_kind(failure: &Failure) -> FailureRowKind {
    match failure {
        Failure::NotFound => FailureRowKind::Missing,
        Failure::Gone => FailureRowKind::Gone,
        Failure::Rejected(_) | Failure::Refused(_) | Failure::Unauthorized(403) => FailureRowKind::Rejected,
        _ => FailureRowKind::Transient,
    }
}

/// Judges a failure by the history of its job and the health of the source. `grace` is the
/// configured time for which a job may be missing.
#[must_use]
pub fn judge(
    failure: &Failure,
    job: &JobFacts,
    source: &SourceFacts,
    grace: Option<Duration>,
    now: Instant,
) -> Meaning {
    let sign = sign(failure, source);
    let limited_at = matches!(failure, Failure::RateLimited { .. }).then_some(now);
    let is_known_state = matches!(sign, SourceSign::Suspect(state, _) if state == source.state);
    let step = if matches!(sign, SourceSign::Ill(..)) || is_known_state {
        JobMeaning::Blameless { limited_at }
    } else if let Some(reason) = lost(failure, job, source, grace, now) {
        JobMeaning::Lost { reason, failures: job.history.count }
    } else {
        JobMeaning::Retry(Box::new(FailureHistory {
            asked: asked_wait(failure),
            longest: longest_interval(failure),
            limited_at,
            ..judge_own(job, failure.to_string())
        }))
    };
    let most_missing = row_kind(failure).is_missing() && source.are_most_missing();
    Meaning { job: step, source: sign, most_missing }
}

/// Judges a failure that has nothing to do with the source: a full disk, a panic, a request that
/// was cut. Returns the history by which the schedule repeats the request.
#[must_use]
pub fn judge_own(job: &JobFacts, error: String) -> FailureHistory {
    FailureHistory { last_error: error, is_own: true, ..job.history.clone() }
}

/// Returns what a failure says about the source.
fn sign(failure: &Failure, source: &SourceFacts) -> SourceSign {
    match failure {
        Failure::Credentials(_) => SourceSign::Ill(HealthState::Unauthorized, None),
        Failure::Unauthorized(_) => SourceSign::Suspect(HealthState::Unauthorized, None),
        Failure::RateLimited { status, retry_after } => limit_sign(*status, *retry_after, source),
        Failure::Unreachable(_) if source.heard_since_sent => SourceSign::Silent,
        Failure::Unreachable(_) => SourceSign::Ill(HealthState::Failing, None),
        Failure::Silent(_) => SourceSign::Suspect(HealthState::Failing, None),
        Failure::NotFound
        | Failure::Gone
        | Failure::Rejected(_)
        | Failure::JobFailed(_)
        | Failure::TooLarge(_) => SourceSign::Well,
        Failure::Transient(_) => SourceSign::Heard,
        Failure::Refused(_) => SourceSign::Silent,
    }
}

/// Returns what a failed request for a list says about the source. It says nothing about a job, so
/// whatever is not about the connection, the key or a limit is the list's own.
#[must_use]
pub const fn list_sign(failure: &Failure) -> SourceSign {
    match failure {
        Failure::Credentials(_) => SourceSign::Ill(HealthState::Unauthorized, None),
        Failure::Unauthorized(_) => SourceSign::Suspect(HealthState::Unauthorized, None),
        Failure::RateLimited { retry_after, .. } => SourceSign::Ill(HealthState::Limited, *retry_after),
        Failure::Unreachable(_) => SourceSign::Ill(HealthState::Failing, None),
        Failure::Silent(_) => SourceSign::Suspect(HealthState::Failing, None),
        _ => SourceSign::Silent,
    }
}

fn limit_sign(status: u16, retry_after: Option<Duration>, source: &SourceFacts) -> SourceSign {
    let is_short = retry_after.unwrap_or_default() < SHORTEST_WAIT;
    match status {
        // The source limits this job again and again, and answers about others: the limit is the
        // job's own.
        _ if source.well_since_limited => SourceSign::OwnLimit,
        // The source asks for no wait, and it answered about others while this request was in
        // flight.
        _ if source.well_since_sent && is_short => SourceSign::Silent,
        503 => SourceSign::Suspect(HealthState::Limited, retry_after),
        _ if source.limits_are_own => SourceSign::Suspect(HealthState::Limited, retry_after),
        _ => SourceSign::Ill(HealthState::Limited, retry_after),
    }
}

fn asked_wait(failure: &Failure) -> Option<Duration> {
    match failure {
        Failure::RateLimited { retry_after, .. } => *retry_after,
        _ => None,
    }
}

fn longest_interval(failure: &Failure) -> Option<Duration> {
    matches!(failure, Failure::TooLarge(_)).then_some(TOO_LARGE)
}

/// Returns why a job is lost, if it is.
fn lost(
    failure: &Failure,
    job: &JobFacts,
    source: &SourceFacts,
    grace: Option<Duration>,
    now: Instant,
) -> Option<String> {
    let row = job.history.row;
    let lasted = now.saturating_duration_since(row.since);
    let is_enough = |(count, duration)| row.count >= count && lasted >= duration;
    if row_limit(job, source, grace).is_some_and(is_enough) {
        return Some(format!("{failure} (the {}th time in a row)", row.count));
    }
    is_overdue(job, source, now).then(|| format!("the deadline passed; last, {failure}"))
}

/// Returns how many failures in a row, over how long, make a job lost. `None` if no number does.
///
/// If most jobs are missing at once, the source lost its routes. Then it keeps the jobs that it
/// answered about before. The others get the longer time, but not forever: the source may know none
/// of them.
fn row_limit(job: &JobFacts, source: &SourceFacts, grace: Option<Duration>) -> Option<(u32, Duration)> {
    let are_most_missing = source.are_most_missing();
    let usual = if job.was_seen { SEEN_BEFORE } else { NEVER_SEEN };
    match job.history.row.kind {
        FailureRowKind::Missing if are_most_missing && job.was_seen => None,
        FailureRowKind::Missing | FailureRowKind::Gone if are_most_missing => Some((MISSING, SEEN_BEFORE)),
        FailureRowKind::Missing => Some((MISSING, grace.unwrap_or(usual))),
        FailureRowKind::Gone => Some((MISSING, grace.unwrap_or(GONE).min(GONE))),
        FailureRowKind::Rejected => Some((REJECTED, REJECTED_FOR)),
        FailureRowKind::Transient => None,
    }
}

/// Returns whether a job past its deadline has failed long enough, while the source could be asked.
fn is_overdue(job: &JobFacts, source: &SourceFacts, now: Instant) -> bool {
    let failed_for = now.saturating_duration_since(job.history.since);
    let answers_others = source.well_since_first && failed_for >= OVERDUE_FOR;
    let is_alone = source.open < 3 && failed_for >= OVERDUE_ALONE;
    job.is_overdue
        && job.history.count >= OVERDUE
        && source.state == HealthState::Ok
        && !source.are_most_missing()
        && (answers_others || is_alone)
}

#[cfg(test)]
mod tests;
