//! What one attempt came to, and its errors in short words that hold no secret.

use std::{error::Error, io, time::Duration};

use crate::{
    deliver::{encode::envelope::PayloadError, webhook::sign::SignError},
    model::delivery::ErrorClass,
    util::{
        http_client::{
            ProxyError, find,
            guard::{Blocked, ResolveError},
        },
        secret::SecretError,
    },
};

pub(super) use crate::util::http_client::plain;

/// What one attempt came to.
#[derive(Clone, Debug, PartialEq)]
pub struct AttemptOutcome {
    /// The HTTP status, when there was an answer.
    pub status: Option<u16>,
    /// What went wrong, when something did. Short; no secret, credential or query of a URL is in it.
    pub error: Option<String>,
    /// The kind of what went wrong.
    pub error_class: Option<ErrorClass>,
    /// The answer's body, at most its first KiB.
    pub response: Option<String>,
    /// How long it took.
    pub duration: Duration,
    /// What is to be done next.
    pub result: AttemptResult,
}

/// What an attempt leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttemptResult {
    /// The sink took it.
    Delivered,
    /// The next step of the schedule.
    Failed {
        /// What the sink asked for: not before this wait is over.
        retry_after: Option<Duration>,
    },
    /// No further attempt makes sense.
    FailedForGood {
        /// Why.
        reason: String,
    },
}

/// What went wrong with an attempt: its kind, and a short text without secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AttemptFailure {
    pub(super) class: ErrorClass,
    pub(super) text: String,
}

impl AttemptFailure {
    pub(super) fn new(class: ErrorClass, text: impl Into<String>) -> Self {
        Self { class, text: text.into() }
    }

    /// An answer that came before the event was sent whole, by a receiver that takes no more of it.
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

impl From<PayloadError> for AttemptFailure {
    fn from(error: PayloadError) -> Self {
        Self::new(ErrorClass::Payload, error.to_string())
    }
}

impl From<SecretError> for AttemptFailure {
    fn from(error: SecretError) -> Self {
        Self::new(ErrorClass::Config, error.to_string())
    }
}

impl From<SignError> for AttemptFailure {
    fn from(error: SignError) -> Self {
        let class = match error {
            SignError::Source(_) | SignError::Secret(_) => ErrorClass::Config,
            SignError::Payload(_) | SignError::Changed => ErrorClass::Payload,
        };
        Self::new(class, error.to_string())
    }
}

impl AttemptOutcome {
    /// An attempt that succeeded.
    #[must_use]
    pub(super) fn delivered(duration: Duration) -> Self {
        let result = AttemptResult::Delivered;
        Self { status: None, error: None, error_class: None, response: None, duration, result }
    }

    /// An attempt that came to nothing before it began, as the sink cannot be used.
    #[must_use]
    pub(super) fn refused(error: impl Into<String>) -> Self {
        Self::failed(AttemptFailure::new(ErrorClass::Config, error), Duration::ZERO)
    }

    /// An attempt that a fault of ours ended.
    #[must_use]
    pub(super) fn broken(error: impl Into<String>) -> Self {
        Self::failed(AttemptFailure::new(ErrorClass::Internal, error), Duration::ZERO)
    }

    /// An attempt that was not made, as nothing is left that could be sent.
    #[must_use]
    pub(super) fn unreadable(reason: &str) -> Self {
        let result = AttemptResult::FailedForGood { reason: reason.to_owned() };
        Self { result, ..Self::failed(AttemptFailure::new(ErrorClass::Payload, reason), Duration::ZERO) }
    }

    /// The wait that the receiver asked for.
    #[must_use]
    pub(super) fn asked(&self) -> Option<Duration> {
        match &self.result {
            AttemptResult::Failed { retry_after } => *retry_after,
            AttemptResult::Delivered | AttemptResult::FailedForGood { .. } => None,
        }
    }

    /// An attempt that failed and got no answer.
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
}

/// What broke an exchange, judged by the types in the chain of errors, never by their text. `connecting` says that no
/// connection had come about.
pub(super) fn classify(error: &(dyn Error + 'static), connecting: bool) -> AttemptFailure {
    use crate::model::delivery::ErrorClass as Class;
    if let Some(stored) = find::<PayloadError>(error) {
        return AttemptFailure::new(Class::Payload, stored.to_string());
    }
    if let Some(proxy) = find::<ProxyError>(error) {
        return AttemptFailure::new(Class::Proxy, proxy.to_string());
    }
    if let Some(resolve) = find::<ResolveError>(error) {
        let blocked = matches!(resolve, ResolveError::Blocked(_));
        return AttemptFailure::new(
            if blocked { Class::Blocked } else { Class::NameNotFound },
            resolve.to_string(),
        );
    }
    if let Some(tls) = find::<rustls::Error>(error) {
        return AttemptFailure::new(Class::Tls, format!("TLS: {tls}"));
    }
    let io = find::<io::Error>(error).map(io::Error::kind);
    if connecting && io == Some(io::ErrorKind::TimedOut) {
        return AttemptFailure::new(Class::Timeout, "timed out connecting");
    }
    if let Some((class, text)) = io.and_then(kind) {
        return AttemptFailure::new(class, text);
    }
    match find::<hyper::Error>(error) {
        Some(error) if error.is_timeout() => {
            AttemptFailure::new(Class::Timeout, "the connection answers no ping")
        }
        Some(error) if error.is_incomplete_message() => AttemptFailure::new(Class::Reset, CUT_SHORT),
        Some(error) if error.is_parse() => AttemptFailure::new(Class::NotHttp, "the answer is not HTTP"),
        _ if connecting => AttemptFailure::new(Class::Connect, "cannot connect"),
        _ => AttemptFailure::new(Class::Reset, "the exchange broke off"),
    }
}

const CUT_SHORT: &str = "connection closed before the answer was complete";

fn kind(kind: io::ErrorKind) -> Option<(ErrorClass, &'static str)> {
    use io::ErrorKind as Kind;
    Some(match kind {
        Kind::ConnectionRefused => (ErrorClass::Connect, "connection refused"),
        Kind::ConnectionReset | Kind::ConnectionAborted | Kind::BrokenPipe => {
            (ErrorClass::Reset, "connection reset")
        }
        Kind::HostUnreachable => (ErrorClass::Connect, "host unreachable"),
        Kind::NetworkUnreachable => (ErrorClass::Connect, "network unreachable"),
        Kind::TimedOut => (ErrorClass::Timeout, "connection timed out"),
        Kind::UnexpectedEof => (ErrorClass::Reset, CUT_SHORT),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_is_written_as_it_is_named() {
        for class in ErrorClass::ALL {
            assert_eq!(serde_json::to_value(class).unwrap(), class.as_str());
        }
    }
}
