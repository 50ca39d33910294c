//! What a request to the daemon can fail by, and the way out of it.

use std::time::Duration;

use http::StatusCode;

use crate::{api::Code, util::units::rounded};

/// Why the daemon gave no usable answer. Every message has the form `what failed: why`; [`hint`](Self::hint) is the way out.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No daemon listens at the address.
    #[error("no daemon answers at {url}: {cause}")]
    Unreachable {
        /// The address of the daemon.
        url: String,
        /// The reason that the system gives.
        cause: String,
    },
    /// The answer did not begin in time.
    #[error("the daemon at {url} did not answer within {}", rounded(*after))]
    Slow {
        /// The address of the daemon.
        url: String,
        /// The time that the client waited.
        after: Duration,
    },
    /// The answer stopped in the middle.
    #[error("the answer of {url} stopped: no data came for {}", rounded(*after))]
    Silent {
        /// The address of the daemon.
        url: String,
        /// The time that the client waited.
        after: Duration,
    },
    /// The connection broke during the exchange.
    #[error("the connection to {url} broke: {cause}")]
    Broken {
        /// The address of the daemon.
        url: String,
        /// The reason that the system gives.
        cause: String,
    },
    /// The daemon answered with a problem.
    #[error("the daemon refused: {}", with_code(detail, code))]
    Refused {
        /// The HTTP status.
        status: StatusCode,
        /// The problem's `detail`, a sentence for people.
        detail: String,
        /// The problem's `code`, a word for programs.
        code: String,
    },
    /// Another program answered.
    #[error("{url} answered {status}, which is no answer of tidings")]
    Foreign {
        /// The address of the daemon.
        url: String,
        /// The HTTP status.
        status: StatusCode,
    },
    /// The answer has an unknown shape.
    #[error("cannot read the answer of {url}: {cause}")]
    Unreadable {
        /// The address of the daemon.
        url: String,
        /// The first mistake in it.
        cause: String,
    },
    /// No header can hold the token.
    #[error("the daemon's token cannot be sent: it holds a line break or another control character")]
    Token,
    /// The HTTP client could not be built.
    #[error("cannot build an HTTP client: {0}")]
    Setup(String),
}

/// Puts `code` at the end of the first line of `detail`: a rejected configuration comes with a line for each mistake.
fn with_code(detail: &str, code: &str) -> String {
    match detail.trim_end().split_once('\n') {
        None => format!("{} ({code})", detail.trim_end()),
        Some((first, others)) => format!("{first} ({code})\n{others}"),
    }
}

impl ClientError {
    /// Returns the way out, where there is one.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Unreachable { .. } => {
                Some("start a daemon with `tidings run`, or name it with --url or TIDINGS_URL")
            }
            Self::Refused { status: StatusCode::UNAUTHORIZED, .. } => {
                Some("give the daemon's token with --token-file or TIDINGS_TOKEN")
            }
            Self::Refused { .. } if self.misses_source() => Some("name the source with --source"),
            Self::Foreign { .. } => Some("another program may listen there; check --url and server.listen"),
            Self::Token => Some("correct --token (TIDINGS_TOKEN) or `server.token`: a token is one line"),
            Self::Unreadable { .. } => Some("use the same version of tidings for client and daemon"),
            _ => None,
        }
    }

    /// Whether the same request may succeed a moment later: the daemon restarts, or is starting.
    #[must_use]
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Slow { .. } | Self::Silent { .. } | Self::Broken { .. } => true,
            Self::Refused { status, .. } | Self::Foreign { status, .. } => {
                matches!(status.as_u16(), 429 | 500 | 502 | 503 | 504)
            }
            Self::Unreadable { .. } | Self::Token | Self::Setup(_) => false,
        }
    }

    /// Whether the daemon has several sources, and the request names none.
    #[must_use]
    pub(crate) fn misses_source(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if code == Code::SourceMissing.as_str())
    }

    /// Whether the daemon does not know the record that was asked for.
    #[must_use]
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if matches!(status.as_u16(), 404 | 410))
    }
}
