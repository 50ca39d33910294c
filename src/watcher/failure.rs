//! What a failed request means: for its job, and for the source as a whole. Pure.
//!
//! A failure belongs to one job or to the source. It is the source's when no connection can be made, when the source asks
//! for fewer requests, or when several different jobs meet the same refusal or silence with no answer between; the last
//! is for [`Health`](crate::schedule::Health) to count. Otherwise it is the job's own, and no other job notices it.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    schedule::{FailureRowKind, HealthState, SourceSign, Standpoint},
    upstream::Failure,
};

/// 404 or 410 answers in a row after which a job is lost, once their time is over. Retab's own waiter gives up at the
/// third; a job can take a moment to be known, so one more is waited for.
const MISSING: u32 = 4;

/// How long a job is missing that was never seen, before it is lost.
const NEVER_SEEN: Duration = Duration::from_secs(30);

/// How long a job is missing that was seen before, before it is lost: a gateway that lost its routes answers 404, too.
const SEEN_BEFORE: Duration = Duration::from_mins(10);

/// How long 410 is answered for a job before it is lost.
const GONE: Duration = Duration::from_mins(1);

/// Other 4xx answers in a row after which a job is lost, once [`REJECTED_FOR`] is over.
const REJECTED: u32 = 10;

/// How long other 4xx are answered before a job is lost.
const REJECTED_FOR: Duration = Duration::from_mins(10);

/// Failures in a row after which a job past its deadline is lost, if the source answers about others: part of a source can
/// be out of order for a while, above all when it starts together with us.
const OVERDUE: u32 = 4;

/// How long the job has failed then.
const OVERDUE_FOR: Duration = Duration::from_mins(1);

/// The same when there is no other job to tell by.
const OVERDUE_ALONE: Duration = Duration::from_mins(10);

/// The longest interval between requests for a result that is too large: only a new configuration changes that.
const TOO_LARGE: Duration = Duration::from_hours(1);

/// A shorter wait that is asked for is as good as none.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);

/// What a failure means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What it means for the job.
    pub job: JobStep,
    /// What it says of the source.
    pub source: SourceSign,
}

/// What a failure means for its job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobStep {
    /// It is the source's failure: the job is polled on as if it had not been asked.
    Blameless,
    /// It is asked again at its own growing intervals.
    Retry {
        /// No sooner than this.
        asked: Option<Duration>,
        /// The longest interval, if it is not that of the polling.
        longest: Option<Duration>,
    },
    /// It is lost, for this reason.
    Lost(String),
}

/// Returns what a failure says of the job.
#[must_use]
pub const fn row_kind(failure: &Failure) -> FailureRowKind {
    match failure {
        Failure::NotFound => FailureRowKind::Missing,
        Failure::Gone => FailureRowKind::Gone,
        Failure::Rejected(_) | Failure::Refused(_) | Failure::Unauthorized(403) => FailureRowKind::Rejected,
        _ => FailureRowKind::Transient,
    }
}

/// Decides what a failure means. `grace` is how long a job may be missing, where the configuration says.
#[must_use]
pub fn decide(failure: &Failure, known: &Standpoint, grace: Option<Duration>, now: Instant) -> Decision {
    let sign = sign(failure, known);
    let step = match (failure, sign) {
        (_, SourceSign::Ill(..)) => JobStep::Blameless,
        // The source is in this state already: every job meets it.
        (_, SourceSign::Suspect(state, _)) if state == known.state => JobStep::Blameless,
        _ => match lost(failure, known, grace, now) {
            Some(reason) => JobStep::Lost(reason),
            None => JobStep::Retry { asked: asked(failure), longest: longest(failure) },
        },
    };
    Decision { job: step, source: sign }
}

fn sign(failure: &Failure, known: &Standpoint) -> SourceSign {
    match failure {
        Failure::Credentials(_) => SourceSign::Ill(HealthState::Unauthorized, None),
        Failure::Unauthorized(_) => SourceSign::Suspect(HealthState::Unauthorized, None),
        // One job that is limited again and again, while others are answered, speaks for itself alone.
        Failure::RateLimited { .. } if known.well_since_limited => SourceSign::OwnLimit,
        // It asks for no wait, and others were answered while this request was in flight.
        Failure::RateLimited { retry_after, .. }
            if known.well_since_sent && retry_after.unwrap_or_default() < SHORTEST_WAIT =>
        {
            SourceSign::Silent
        }
        Failure::RateLimited { status, retry_after } if *status == 503 || known.limits_are_own => {
            SourceSign::Suspect(HealthState::Limited, *retry_after)
        }
        Failure::RateLimited { retry_after, .. } => SourceSign::Ill(HealthState::Limited, *retry_after),
        Failure::Unreachable(_) if known.heard_since_sent => SourceSign::Silent,
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

fn asked(failure: &Failure) -> Option<Duration> {
    match failure {
        Failure::RateLimited { retry_after, .. } => *retry_after,
        _ => None,
    }
}

fn longest(failure: &Failure) -> Option<Duration> {
    matches!(failure, Failure::TooLarge(_)).then_some(TOO_LARGE)
}

/// Returns why a job is lost, if it is.
fn lost(failure: &Failure, known: &Standpoint, grace: Option<Duration>, now: Instant) -> Option<String> {
    let (history, row) = (&known.history, known.history.row);
    let lasted = now.saturating_duration_since(row.since);
    let in_a_row = || format!("{failure} (the {}th time in a row)", row.count);
    // While most jobs are missing at once, it is the source that lost its routes. Jobs that were never seen get the longer
    // time then, not all time: perhaps they are all strangers.
    let are_many = known.are_many_missing();
    let usual = if known.was_seen { SEEN_BEFORE } else { NEVER_SEEN };
    let (most, least) = match row.kind {
        FailureRowKind::Missing if are_many && known.was_seen => (u32::MAX, Duration::MAX),
        FailureRowKind::Missing | FailureRowKind::Gone if are_many => (MISSING, SEEN_BEFORE),
        FailureRowKind::Missing => (MISSING, grace.unwrap_or(usual)),
        FailureRowKind::Gone => (MISSING, grace.unwrap_or(GONE).min(GONE)),
        FailureRowKind::Rejected => (REJECTED, REJECTED_FOR),
        FailureRowKind::Transient => (u32::MAX, Duration::MAX),
    };
    if row.count >= most && lasted >= least {
        return Some(in_a_row());
    }
    let failed_for = now.saturating_duration_since(history.since);
    let can_be_asked = known.state == HealthState::Ok
        && !are_many
        && ((known.well_since_first && failed_for >= OVERDUE_FOR)
            || (known.open < 3 && failed_for >= OVERDUE_ALONE));
    (known.is_overdue && history.count >= OVERDUE && can_be_asked)
        .then(|| format!("the deadline passed; last, {failure}"))
}

#[cfg(test)]
mod tests;
