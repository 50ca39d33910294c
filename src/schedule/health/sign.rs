//! The words of health: the state of a source, and what one request says about it.

use std::time::Duration;

use tokio::time::Instant;

/// The state of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthState {
    /// It answers.
    Ok,
    /// It refuses the key.
    Unauthorized,
    /// It asks for fewer requests.
    Limited,
    /// It does not answer, or answers 5xx to every job.
    Failing,
}

impl HealthState {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Ok, Self::Unauthorized, Self::Limited, Self::Failing];

    /// Returns the word that every surface uses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unauthorized => "unauthorized",
            Self::Limited => "limited",
            Self::Failing => "failing",
        }
    }
}

/// What one request says about its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceSign {
    /// The source answered about the job.
    Well,
    /// The source answered, but could say nothing about the job.
    Heard,
    /// The source may be in this state, and may ask for a wait. Enough jobs must say so.
    Suspect(HealthState, Option<Duration>),
    /// The source is in this state, and may ask for a wait.
    Ill(HealthState, Option<Duration>),
    /// The source limits this job again, although it answered about others meanwhile.
    OwnLimit,
    /// The request says nothing about the source.
    Silent,
}

/// The times of one request.
#[derive(Clone, Copy, Debug)]
pub struct RequestTimes {
    /// The number of its watch.
    pub number: u64,
    /// When it was sent.
    pub sent: Instant,
    /// When it was answered, or failed.
    pub now: Instant,
}
