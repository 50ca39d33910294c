//! The class of a broken exchange, by the types in the chain of errors and never by their text.

use std::{error::Error, io};

use crate::{
    deliver::{encode::payload::PayloadError, outcome::AttemptFailure},
    model::delivery::ErrorClass,
    util::http_client::{ProxyError, find, guard::ResolveError, innermost},
};

/// Returns the failure behind `error`. `connecting` says that there was no connection yet.
pub(super) fn classify(error: &(dyn Error + 'static), connecting: bool) -> AttemptFailure {
    if let Some(stored) = find::<PayloadError>(error) {
        return AttemptFailure::new(ErrorClass::Payload, stored.to_string());
    }
    if let Some(proxy) = find::<ProxyError>(error) {
        return AttemptFailure::new(ErrorClass::Proxy, proxy.to_string());
    }
    if let Some(resolve) = find::<ResolveError>(error) {
        let blocked = matches!(resolve, ResolveError::Blocked(_));
        return AttemptFailure::new(
            if blocked { ErrorClass::Blocked } else { ErrorClass::NameNotFound },
            resolve.to_string(),
        );
    }
    if find::<rustls::Error>(error).is_some() {
        return AttemptFailure::new(ErrorClass::Tls, innermost(error).to_string());
    }
    let io = find::<io::Error>(error).map(io::Error::kind);
    if connecting && io == Some(io::ErrorKind::TimedOut) {
        return AttemptFailure::new(ErrorClass::Timeout, "timed out connecting");
    }
    if let Some((class, text)) = io.and_then(of_io) {
        return AttemptFailure::new(class, text);
    }
    match find::<hyper::Error>(error) {
        Some(error) if error.is_timeout() => {
            AttemptFailure::new(ErrorClass::Timeout, "the connection answers no ping")
        }
        Some(error) if error.is_incomplete_message() => AttemptFailure::new(ErrorClass::Reset, CUT_SHORT),
        Some(error) if error.is_parse() => AttemptFailure::new(ErrorClass::NotHttp, "the answer is not HTTP"),
        _ if connecting => AttemptFailure::new(ErrorClass::Connect, "cannot connect"),
        _ => AttemptFailure::new(ErrorClass::Reset, "the exchange broke off"),
    }
}

const CUT_SHORT: &str = "connection closed before the answer was complete";

fn of_io(kind: io::ErrorKind) -> Option<(ErrorClass, &'static str)> {
    Some(match kind {
        io::ErrorKind::ConnectionRefused => (ErrorClass::Connect, "connection refused"),
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe => {
            (ErrorClass::Reset, "connection reset")
        }
        io::ErrorKind::HostUnreachable => (ErrorClass::Connect, "host unreachable"),
        io::ErrorKind::NetworkUnreachable => (ErrorClass::Connect, "network unreachable"),
        io::ErrorKind::TimedOut => (ErrorClass::Timeout, "connection timed out"),
        io::ErrorKind::UnexpectedEof => (ErrorClass::Reset, CUT_SHORT),
        _ => return None,
    })
}
