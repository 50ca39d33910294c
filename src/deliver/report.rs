//! What one attempt came to, and its errors in short words that hold no secret.

use std::{error::Error, io, time::Duration};

use super::{envelope::PayloadError, guard::ResolveError};

/// What one attempt came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The HTTP status, when there was an answer.
    pub status: Option<u16>,
    /// What went wrong, when something did. Short; no secret, credential or query of a URL is in it.
    pub error: Option<String>,
    /// The answer's body, at most its first KiB.
    pub response: Option<String>,
    /// How long it took.
    pub duration: Duration,
    /// What is to be done next.
    pub verdict: Verdict,
}

/// What an attempt leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The sink took it.
    Delivered,
    /// The next step of the schedule.
    Retry {
        /// What the sink asked for: not before this wait is over.
        not_before: Option<Duration>,
    },
    /// No further attempt makes sense.
    Dead {
        /// Why.
        reason: String,
    },
}

impl Report {
    /// An attempt that succeeded.
    #[must_use]
    pub(super) fn delivered(duration: Duration) -> Self {
        Self { status: None, error: None, response: None, duration, verdict: Verdict::Delivered }
    }

    /// An attempt that came to nothing before it began.
    #[must_use]
    pub(super) fn refused(error: impl Into<String>) -> Self {
        Self::failed(error, Duration::ZERO)
    }

    /// An attempt that failed and got no answer.
    #[must_use]
    pub(super) fn failed(error: impl Into<String>, duration: Duration) -> Self {
        let verdict = Verdict::Retry { not_before: None };
        Self { status: None, error: Some(error.into()), response: None, duration, verdict }
    }
}

/// An I/O error without the ` (os error 28)` that means nothing to most.
pub(super) fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    match text.rfind(" (os error ") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}

/// What broke an exchange, judged by the types in the chain of errors, never by their text.
pub(super) fn class(error: &reqwest::Error) -> String {
    if let Some(stored) = find::<PayloadError>(error) {
        return stored.to_string();
    }
    if let Some(resolve) = find::<ResolveError>(error) {
        return resolve.to_string();
    }
    if error.is_dns() {
        return "name not found".to_owned();
    }
    if let Some(tls) = find::<rustls::Error>(error) {
        return format!("TLS: {tls}");
    }
    if error.is_timeout() {
        return "timed out connecting".to_owned();
    }
    if let Some(kind) = find::<io::Error>(error).and_then(|error| kind(error.kind())) {
        return kind.to_owned();
    }
    match find::<hyper::Error>(error) {
        Some(error) if error.is_incomplete_message() => "connection closed before the answer was complete",
        Some(error) if error.is_parse() => "the answer is not HTTP",
        _ if error.is_connect() => "cannot connect",
        _ => "the exchange broke off",
    }
    .to_owned()
}

fn kind(kind: io::ErrorKind) -> Option<&'static str> {
    match kind {
        io::ErrorKind::ConnectionRefused => Some("connection refused"),
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe => {
            Some("connection reset")
        }
        io::ErrorKind::HostUnreachable => Some("host unreachable"),
        io::ErrorKind::NetworkUnreachable => Some("network unreachable"),
        io::ErrorKind::TimedOut => Some("connection timed out"),
        io::ErrorKind::UnexpectedEof => Some("connection closed before the answer was complete"),
        _ => None,
    }
}

/// The first error of type `T` in the chain. `io::Error` leaves the error that it wraps out of `source()`,
/// so it is looked into by hand; the innermost one of its kind is the one that says something.
fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let below = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => find::<T>(inner),
        None => error.source().and_then(find::<T>),
    };
    below.or_else(|| error.downcast_ref())
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::*;

    #[test]
    fn io_errors_lose_their_number() {
        assert_eq!(plain(&io::Error::from_raw_os_error(28)), "No space left on device");
        assert_eq!(plain(&io::Error::other("odd")), "odd");
    }

    #[test]
    fn an_error_inside_an_io_error_is_found() {
        let inner = rustls::Error::DecryptError;
        let outer = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, inner.clone()));
        assert_eq!(find::<rustls::Error>(&outer), Some(&inner));
        assert!(find::<fmt::Error>(&outer).is_none());
    }
}
