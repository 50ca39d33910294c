//! The next look: what the curve says, within what the operator, the source and the deadline say.

use super::{
    bins::{age as sane, within},
    forecast::{Forecast, Progress},
};

/// What the operator says, all in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policy {
    /// θ: how much delay one look is worth.
    pub theta: f64,
    /// No two looks at one job are closer than this.
    pub min_interval: f64,
    /// No two looks at one job are further apart than this, but for a source that asks for patience.
    pub max_interval: f64,
    /// A finished job is to be noticed within this time, whatever it costs.
    pub max_delay: Option<f64>,
}

impl Default for Policy {
    fn default() -> Self {
        Self { theta: 0.2, min_interval: 0.25, max_interval: 3600.0, max_delay: None }
    }
}

/// What is known of a job when its next look is decided. Ages are in seconds since its creation.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Situation {
    /// How far it is known to have come.
    pub known: Progress,
    /// Its age now.
    pub now: f64,
    /// Its age at the last look.
    pub polled: Option<f64>,
    /// The age at which it expires or is given up.
    pub deadline: Option<f64>,
    /// How long the source asked to wait at the last look, in seconds.
    pub hint: Option<f64>,
    /// Somebody said that it may be over.
    pub asked: bool,
    /// In [0, 1), the same for all looks at this job: the jobs below [`EXPLORERS`] are looked at more often.
    pub luck: f64,
    /// In [0, 1), the same until the next look.
    pub jitter: f64,
}

/// When to look next, and why then.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NextPoll {
    /// The age of the job at the look, in seconds: now or later, but for a deadline that has passed.
    pub age: f64,
    /// What decided.
    pub reason: PollReason,
}

/// What decided when the next look is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PollReason {
    /// How long jobs of this kind have taken.
    Learned,
    /// The same, while nothing has been learned.
    Prior,
    /// This job is one of the few that are looked at more often, so that a change is noticed.
    Exploring,
    /// The least time between two looks.
    MinInterval,
    /// The longest time between two looks.
    MaxInterval,
    /// The objective for the delay.
    MaxDelay,
    /// The job expires or is given up then.
    Deadline,
    /// The source asked for patience.
    Hint,
    /// Somebody asked for a look.
    Asked,
    /// The last look failed: it is tried again after a growing pause.
    Retry,
    /// The strategy `backoff`.
    Backoff,
    /// The strategy `fixed`.
    Fixed,
}

impl PollReason {
    /// The word for it, as the API says it.
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
            Self::Retry => "retry",
            Self::Backoff => "backoff",
            Self::Fixed => "fixed",
        }
    }
}

/// The part of the jobs that explore.
pub const EXPLORERS: f64 = 0.06;
/// The longest wait a source can ask for, in seconds.
pub const LONGEST_HINT: f64 = 120.0;

/// When to look next at a job.
///
/// The looks lie where a result would have been waiting for θ in the mean, give or take a quarter of θ.
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

/// The next look of a job that explores, at the latest: when its age and ten seconds has grown by six tenths. So a few
/// jobs are looked at early whatever was learned, about as often on every scale.
#[must_use]
pub fn explore(age: f64) -> f64 {
    age + (age + 10.0) * 0.6
}

/// When to decide again about a look that is far away: at half of the wait, and no sooner than after a second. No
/// request is made then; but when what was learned meanwhile says to look sooner, it counts at once. A look is never
/// put off that way: while nobody looks nothing is learned either.
#[must_use]
pub fn reconsider_at(now: f64, due: f64) -> f64 {
    (now + ((due - now) / 2.0).max(1.0)).min(due)
}
