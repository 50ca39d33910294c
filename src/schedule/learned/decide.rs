//! Decides the next poll: by the curve, within the bounds of the operator, the source and the
//! deadline.

use super::{
    bins::{age as sane, within},
    forecast::{Forecast, Progress},
};

/// The bounds of the operator, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policy {
    /// θ: the delay that one poll is worth.
    pub theta: f64,
    /// The shortest time between two polls of one job.
    pub min_interval: f64,
    /// The longest time between two polls of one job, unless the source asks for a longer wait.
    pub max_interval: f64,
    /// The longest time until a finished job is noticed, whatever it costs.
    pub max_delay: Option<f64>,
}

impl Policy {
    /// Returns the policy for jobs of which this share ends without a hook. Only their ends wait for
    /// a poll.
    #[must_use]
    pub fn with_hooks(&self, missed: f64) -> Self {
        Self { theta: self.theta / within(missed, 1e-3, 1.0), ..*self }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self { theta: 0.2, min_interval: 0.25, max_interval: 3600.0, max_delay: None }
    }
}

/// The facts of a job by which its next poll is decided. Ages are in seconds since its creation.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Situation {
    /// Its known progress.
    pub known: Progress,
    /// Its age now.
    pub now: f64,
    /// Its age at the last poll.
    pub polled: Option<f64>,
    /// The age at which it expires or is given up.
    pub deadline: Option<f64>,
    /// The wait that the source asked for at the last poll, in seconds.
    pub hint: Option<f64>,
    /// A caller asked for a poll.
    pub asked: bool,
    /// In [0, 1), the same for all polls of this job. Jobs below [`EXPLORERS`] are polled more
    /// often.
    pub luck: f64,
    /// In [0, 1), the same until the next poll.
    pub jitter: f64,
}

/// The time of the next poll, and its reason.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NextPoll {
    /// The age of the job at the poll, in seconds: now or later, unless a deadline has passed.
    pub age: f64,
    /// The reason.
    pub reason: PollReason,
}

/// The reason for the time of the next poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PollReason {
    /// The time that jobs of this kind have taken.
    Learned,
    /// The same, before anything was learned.
    Prior,
    /// This job is one of the few that are polled more often, so that a change is noticed.
    Exploring,
    /// The shortest time between two polls.
    MinInterval,
    /// The longest time between two polls.
    MaxInterval,
    /// The longest delay that is allowed.
    MaxDelay,
    /// The job expires or is given up then.
    Deadline,
    /// The source asked for a wait.
    Hint,
    /// A caller asked for a poll.
    Asked,
    /// A hook of the source announced that the job may have finished.
    Hook,
    /// The list of the source shows the job as finished.
    Listed,
    /// The last poll failed, so the next one follows after a growing pause.
    Retry,
    /// The strategy `backoff`.
    Backoff,
    /// The strategy `fixed`.
    Fixed,
}

impl PollReason {
    /// Returns whether somebody asked for the poll: a caller, a hook or a list.
    #[must_use]
    pub fn is_asked(self) -> bool {
        matches!(self, Self::Asked | Self::Hook | Self::Listed)
    }

    /// Returns the reason as the API names it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Learned => "learned",
            Self::Prior => "prior",
            Self::Exploring => "exploring",
            Self::MinInterval => "min_interval",
            Self::MaxInterval => "max_interval",
            Self::MaxDelay => "max_delay",
            Self::Deadline => "deadline",
            Self::Hint => "hint",
            Self::Asked => "asked",
            Self::Hook => "hook",
            Self::Listed => "listed",
            Self::Retry => "retry",
            Self::Backoff => "backoff",
            Self::Fixed => "fixed",
        }
    }
}

/// The share of jobs that explore.
pub const EXPLORERS: f64 = 0.06;
/// The longest wait that a source can ask for, in seconds.
pub const LONGEST_HINT: f64 = 120.0;

/// Decides the next poll of a job.
///
/// A poll lies where a result would have been waiting for θ on average, give or take a quarter of
/// θ.
#[must_use]
pub fn decide(forecast: &Forecast, policy: &Policy, job: &Situation) -> NextPoll {
    let now = sane(job.now);
    if job.asked {
        return NextPoll { age: now, reason: PollReason::Asked };
    }
    let theta = sane(policy.theta) * (0.75 + 0.5 * within(job.jitter, 0.0, 1.0));
    let last = job.polled.map_or(0.0, sane);
    let learned = if forecast.finishes > 0 { PollReason::Learned } else { PollReason::Prior };
    let mut next = NextPoll { age: forecast.next(job.known, theta), reason: learned };
    let mut no_later = |age: f64, reason| {
        if age < next.age {
            next = NextPoll { age, reason };
        }
    };
    if job.luck < EXPLORERS {
        no_later(explore(sane(job.known.age)), PollReason::Exploring);
    }
    no_later(last + sane(policy.max_interval), PollReason::MaxInterval);
    no_later(policy.max_delay.map_or(f64::INFINITY, |delay| last + sane(delay)), PollReason::MaxDelay);
    let mut no_earlier = |age: f64, reason| {
        if age > next.age {
            next = NextPoll { age, reason };
        }
    };
    no_earlier(job.hint.map_or(0.0, |hint| last + sane(hint).min(LONGEST_HINT)), PollReason::Hint);
    no_earlier(last + sane(policy.min_interval), PollReason::MinInterval);
    next.age = next.age.max(now);
    match job.deadline.map(sane) {
        Some(deadline) if deadline < next.age => {
            NextPoll { age: deadline.max(now), reason: PollReason::Deadline }
        }
        _ => next,
    }
}

/// Returns the latest age of the next poll of a job that explores: six tenths beyond its age and
/// ten seconds. So a few jobs are polled early whatever was learned, about as often on every scale.
#[must_use]
pub fn explore(age: f64) -> f64 {
    age + (age + 10.0) * 0.6
}

/// Returns when to reconsider a distant poll: after half of the wait, but not within a second.
/// Reconsidering sends no request. It can only bring the poll forward, by what was learned
/// meanwhile: without polls nothing would be learned.
#[must_use]
pub fn reconsider_at(now: f64, due: f64) -> f64 {
    (now + ((due - now) / 2.0).max(1.0)).min(due)
}
