//! The outcome of one attempt: facts alone. `queue::decision` says what they mean for the delivery
//! and its sink.

use std::time::Duration;

use crate::{
    model::delivery::ErrorClass,
    util::{
        http_client::{ProxyError, guard::Blocked},
        secret::SecretError,
    },
};

/// The outcome of one attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct AttemptOutcome {
    /// The HTTP status, if the receiver answered.
    pub status: Option<u16>,
    /// The error in a few words, unless the attempt succeeded. It holds no secret, no credentials
    /// and no query of a URL.
    pub error: Option<String>,
    /// The class of the error.
    pub error_class: Option<ErrorClass>,
    /// The first KiB of the answer's body.
    pub response: Option<String>,
    /// The duration of the attempt.
    pub duration: Duration,
    /// The result.
    pub result: AttemptResult,
}

/// The result of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttemptResult {
    /// The sink took the event.
    Delivered,
    /// The attempt failed, and another one may succeed.
    Failed {
        /// The least wait before it, as the receiver asked.
        retry_after: Option<Duration>,
    },
    /// The attempt failed, and so would every other.
    FailedForGood {
        /// The reason.
        reason: String,
    },
}

/// The error of an attempt: its class, and a short text without secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AttemptFailure {
    pub(super) class: ErrorClass,
    pub(super) text: String,
}

impl AttemptFailure {
    pub(super) fn new(class: ErrorClass, text: impl Into<String>) -> Self {
        Self { class, text: text.into() }
    }

    /// Returns the failure for a receiver that answered and took only a part of the event.
    pub(super) fn cut_short(status: u16) -> Self {
        Self::new(ErrorClass::Reset, format!("answered {status}, but did not take the whole event"))
    }
}

impl From<Blocked> for AttemptFailure {
    fn from(blocked: Blocked) -> Self {
        Self::new(ErrorClass::Blocked, blocked.to_string())
    }
}

impl From<ProxyError> for AttemptFailure {
    fn from(error: ProxyError) -> Self {
        Self::new(ErrorClass::Proxy, error.to_string())
    }
}

impl From<SecretError> for AttemptFailure {
    fn from(error: SecretError) -> Self {
        Self::new(ErrorClass::Config, error.to_string())
    }
}

impl AttemptOutcome {
    /// Returns the outcome of an attempt that succeeded.
    #[must_use]
    pub(super) fn delivered(duration: Duration) -> Self {
        let result = AttemptResult::Delivered;
        Self { status: None, error: None, error_class: None, response: None, duration, result }
    }

    /// Returns the outcome of an attempt that failed without an answer.
    #[must_use]
    pub(super) fn failed(failure: AttemptFailure, duration: Duration) -> Self {
        Self {
            status: None,
            error: Some(failure.text),
            error_class: Some(failure.class),
            response: None,
            duration,
            result: AttemptResult::Failed { retry_after: None },
        }
    }

    /// Returns the outcome for a sink that cannot be used as it is configured; nothing was sent.
    #[must_use]
    pub(super) fn misconfigured(error: impl Into<String>) -> Self {
        Self::failed(AttemptFailure::new(ErrorClass::Config, error), Duration::ZERO)
    }

    /// Returns the outcome of an attempt that a fault of tidings ended.
    #[must_use]
    pub(super) fn internal(error: impl Into<String>) -> Self {
        Self::failed(AttemptFailure::new(ErrorClass::Internal, error), Duration::ZERO)
    }

    /// Returns the outcome for an event that the store can no longer read; nothing was sent.
    #[must_use]
    pub(super) fn unreadable(reason: &str) -> Self {
        let result = AttemptResult::FailedForGood { reason: reason.to_owned() };
        Self { result, ..Self::failed(AttemptFailure::new(ErrorClass::Payload, reason), Duration::ZERO) }
    }

    /// Returns the wait that the receiver asked for.
    #[must_use]
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match &self.result {
            AttemptResult::Failed { retry_after } => *retry_after,
            AttemptResult::Delivered | AttemptResult::FailedForGood { .. } => None,
        }
    }
}
