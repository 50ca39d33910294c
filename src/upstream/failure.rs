//! Why a request to a source brought nothing, in the terms that decide what happens next.

use std::time::Duration;

use reqwest::{
    Response, StatusCode,
    header::{HeaderMap, RETRY_AFTER},
};

use url::Url;

use super::Origin;
use crate::{
    clock,
    retry_after::parse_retry_after,
    units::{Size, Span},
};

/// More characters of a URL are not shown.
const MAX_SHOWN: usize = 200;

/// Why a request to a source brought no answer that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// 401 or 403, or the key cannot be read.
    #[error("{0}")]
    Unauthorized(String),
    /// 404.
    #[error("the source answered 404: it does not know this job")]
    NotFound,
    /// 429 or 503: the source asks for patience.
    #[error("the source answered {status}")]
    Limited {
        /// The HTTP status.
        status: u16,
        /// How long it asked us to wait.
        retry_after: Option<Duration>,
    },
    /// Any other 4xx.
    #[error("the source answered {0}")]
    Rejected(u16),
    /// The request cannot be made: a variable is missing, or it would carry credentials to a foreign origin.
    #[error("{0}")]
    Refused(String),
    /// The 4xx to the request for a result is the error that the job ended with.
    #[error("the source answered {0} to the request for the result, so the job failed")]
    JobFailed(u16),
    /// 5xx, a time-out, a connection that was refused or cut, or an answer that makes no sense.
    #[error("{0}")]
    Trouble(String),
    /// The job is larger than the configuration allows; asking again would not help.
    #[error("the job is larger than max_job_size ({0})")]
    TooLarge(Size),
}

impl Failure {
    /// Every word that [`label`](Self::label) knows.
    pub const LABELS: [&str; 7] =
        ["unauthorized", "not_found", "limited", "rejected", "refused", "trouble", "too_large"];

    /// A word for metrics.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Unauthorized(_) => "unauthorized",
            Self::NotFound => "not_found",
            Self::Limited { .. } => "limited",
            Self::Rejected(_) | Self::JobFailed(_) => "rejected",
            Self::Refused(_) => "refused",
            Self::Trouble(_) => "trouble",
            Self::TooLarge(_) => "too_large",
        }
    }
}

/// How long an answer asks to wait.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let header = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    header.and_then(|text| parse_retry_after(text, clock::now()))
}

/// What the status of an answer says against it.
pub(super) fn refusal(response: &Response) -> Option<Failure> {
    let status = response.status();
    Some(match status {
        _ if status.is_success() => return None,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            Failure::Unauthorized(format!("the source answered {}", status.as_u16()))
        }
        StatusCode::NOT_FOUND => Failure::NotFound,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            Failure::Limited { status: status.as_u16(), retry_after: retry_after(response.headers()) }
        }
        _ if status.is_client_error() => Failure::Rejected(status.as_u16()),
        _ => Failure::Trouble(format!("the source answered {}", status.as_u16())),
    })
}

/// A request that would carry credentials to an origin that may not have them.
pub(super) fn foreign(address: &str) -> Failure {
    let origin = Origin::of(address).map_or_else(|| "no URL".to_owned(), |origin| origin.to_string());
    Failure::Refused(format!(
        "the address is of a foreign origin ({origin}), which gets no credentials; name it in allow_origins if it may"
    ))
}

/// No answer in time.
pub(super) fn timed_out(after: Span) -> Failure {
    Failure::Trouble(format!("no answer within {after}"))
}

/// A failure at an origin that is not the source's, from which nothing follows for the source.
pub(super) fn elsewhere(url: &Url, what: &str) -> Failure {
    Failure::Trouble(format!("the result is at {}, which {what}", shown(url)))
}

/// A URL without its query, where links carry their signatures.
pub(super) fn shown(url: &Url) -> String {
    let text = format!("{}{}", url.origin().ascii_serialization(), url.path());
    text.chars().take(MAX_SHOWN).collect()
}

/// The innermost cause says what happened; the outer ones repeat the URL.
pub(super) fn innermost(error: &reqwest::Error) -> &(dyn std::error::Error + 'static) {
    let mut cause: &(dyn std::error::Error + 'static) = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause
}

/// No connection, or one that broke.
pub(super) fn trouble(error: &reqwest::Error) -> Failure {
    let what = if error.is_connect() { "no connection" } else { "the connection broke" };
    Failure::Trouble(format!("{what}: {}", innermost(error)))
}
