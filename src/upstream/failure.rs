//! Why a request to a source failed, in the classes that decide what follows.

use std::time::Duration;

use reqwest::{Response, StatusCode, header::HeaderMap};
use url::Url;

use super::{
    Origin,
    limits::{asked_wait, is_exhausted, limited_wait},
};
use crate::util::{
    clock,
    http_client::{SendError, find, guard::ResolveError, innermost},
    redact,
    units::{HumanDuration, Size, Time},
};

/// Why a request to a source failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The credentials cannot be read or sent.
    #[error("{0}")]
    Credentials(String),
    /// The source answered 401, or 403 without a sign of a limit.
    #[error("the source answered {0}")]
    Unauthorized(u16),
    /// The source asks for fewer requests: 429, 503 with a wait, or 403 with a wait or an exhausted
    /// limit.
    #[error("the source answered {status}")]
    RateLimited {
        /// The HTTP status.
        status: u16,
        /// The wait that the source asked for.
        retry_after: Option<Duration>,
    },
    /// No connection could be made: refused, no such name, no TLS, or too late.
    #[error("{0}")]
    Unreachable(String),
    /// The connection was closed, reset or silent before the head of an answer.
    #[error("{0}")]
    Silent(String),
    /// The source answered 404.
    #[error("the source answered 404: it does not know this job")]
    NotFound,
    /// The source answered 410.
    #[error("the source answered 410: it no longer has this job")]
    Gone,
    /// The source answered another 4xx, so the same request will not succeed.
    #[error("the source answered {0}")]
    Rejected(u16),
    /// The request cannot be made: a variable is missing, or it would carry credentials to another
    /// origin.
    #[error("{0}")]
    Refused(String),
    /// The 4xx to the request for a result is the error of the job.
    #[error("the source answered {0} to the request for the result, so the job failed")]
    JobFailed(u16),
    /// The answer may be better next time: 5xx, a 4xx that may pass, or a body that was cut, hung
    /// or cannot be read.
    #[error("{0}")]
    Transient(String),
    /// The result is larger than the configuration allows.
    #[error("the job is larger than max_job_size ({0})")]
    TooLarge(Size),
}

impl Failure {
    /// Every label that [`label`](Self::label) returns.
    pub const LABELS: [&str; 9] = [
        "unauthorized",
        "limited",
        "unreachable",
        "not_found",
        "gone",
        "rejected",
        "refused",
        "trouble",
        "too_large",
    ];

    /// Returns the label for metrics.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Credentials(_) | Self::Unauthorized(_) => "unauthorized",
            Self::RateLimited { .. } => "limited",
            Self::Unreachable(_) | Self::Silent(_) => "unreachable",
            Self::NotFound => "not_found",
            Self::Gone => "gone",
            Self::Rejected(_) | Self::JobFailed(_) => "rejected",
            Self::Refused(_) => "refused",
            Self::Transient(_) => "trouble",
            Self::TooLarge(_) => "too_large",
        }
    }
}

/// Returns the failure that the status of an answer stands for.
pub(super) fn refusal(response: &Response) -> Option<Failure> {
    classify(response.status(), response.headers(), clock::now())
}

/// Classifies an answer by its status and, for limits, its headers.
fn classify(status: StatusCode, headers: &HeaderMap, now: Time) -> Option<Failure> {
    let retry_after = asked_wait(headers, now);
    let limited = Failure::RateLimited { status: status.as_u16(), retry_after };
    Some(match status.as_u16() {
        200..=299 => return None,
        429 => Failure::RateLimited { status: 429, retry_after: limited_wait(headers, now) },
        503 if retry_after.is_some() => limited,
        // GitHub's limits: a 403 with a wait, or with nothing left of the allowance.
        403 if retry_after.is_some() || is_exhausted(headers) => limited,
        401 | 403 => Failure::Unauthorized(status.as_u16()),
        404 => Failure::NotFound,
        410 => Failure::Gone,
        // These say that the same request may succeed later (RFC 9110, section 15.5; RFC 8470).
        408 | 409 | 421 | 423 | 425 => Failure::Transient(format!("the source answered {}", status.as_u16())),
        400..=499 => Failure::Rejected(status.as_u16()),
        _ => Failure::Transient(format!("the source answered {}", status.as_u16())),
    })
}

/// Returns the failure of a request that would carry credentials to another origin.
pub(super) fn foreign(address: &str) -> Failure {
    let origin = Origin::of(address).map_or_else(|| "no URL".to_owned(), |origin| origin.to_string());
    Failure::Refused(format!(
        "the address is of a foreign origin ({origin}), which gets no credentials; name it in allow_origins if it may"
    ))
}

/// Returns the failure of a body that did not arrive in time.
pub(super) fn timed_out(after: HumanDuration) -> Failure {
    Failure::Transient(format!("the rest of the answer did not come within {after}"))
}

/// Returns the failure of a request without the head of an answer in time.
pub(super) fn silent(after: HumanDuration) -> Failure {
    Failure::Silent(format!("no answer within {after}"))
}

/// Returns the failure of a request that brought no head of an answer.
pub(super) fn unanswered(error: &SendError) -> Failure {
    let error = match error {
        SendError::Proxy(proxy) => return Failure::Unreachable(proxy.to_string()),
        SendError::Peer(error) => error,
    };
    if let Some(ResolveError::Blocked(blocked)) = find(error) {
        let text = format!("no connection: {blocked}, which only an address in the place of the name opens");
        return Failure::Unreachable(text);
    }
    match error.is_connect() {
        true => Failure::Unreachable(format!("no connection: {}", innermost(error))),
        false => Failure::Silent(format!("the connection broke: {}", innermost(error))),
    }
}

/// Returns the failure of a body that broke off.
pub(super) fn broken_off(error: &reqwest::Error) -> Failure {
    Failure::Transient(format!("the connection broke: {}", innermost(error)))
}

/// Returns a failure at another origin, which says nothing about the source.
pub(super) fn elsewhere(url: &Url, what: &str) -> Failure {
    Failure::Transient(format!("the result is at {}, which {what}", redact::url(url)))
}
