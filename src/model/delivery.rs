//! What can become of an event on its way to a sink.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::util::units::Time;

/// Where a delivery stands.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    ToSchema,
    clap::ValueEnum,
    PartialOrd,
    Ord,
)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// An attempt is due or in flight.
    Pending,
    /// The sink took it.
    Delivered,
    /// Given up; it can be redelivered.
    Dead,
}

impl DeliveryState {
    /// The word used on every surface.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Dead => "dead",
        }
    }
}

/// What keeps a pending delivery from being attempted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WaitsFor {
    /// The sink is paused until it is resumed.
    Paused,
    /// The sink asked for a silence (`Retry-After`).
    Limited,
    /// The sink keeps failing; its breaker is open until the next probe.
    Failing,
    /// The sink is not in the configuration.
    NotConfigured,
}

/// One attempt of a delivery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryAttempt {
    /// When it began.
    pub at: Time,
    /// How long it took in milliseconds.
    pub duration_ms: u64,
    /// The HTTP status, when there was an answer.
    pub status: Option<u16>,
    /// What went wrong, when something did.
    pub error: Option<String>,
    /// The kind of what went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_class: Option<ErrorClass>,
    /// The answer's body, at most its first KiB.
    pub response: Option<String>,
}

/// What kind of failure an attempt met, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// The DNS knows no address of the receiver.
    NameNotFound,
    /// The receiver's address is out of bounds for this sink; nothing was sent.
    Blocked,
    /// The proxy failed; the receiver was not reached.
    Proxy,
    /// No connection came about.
    Connect,
    /// The two sides agree on no encryption, or one does not trust the certificate of the other.
    Tls,
    /// It took too long.
    Timeout,
    /// The connection broke off before the event was sent whole and the answer was complete.
    Reset,
    /// What came back is not HTTP.
    NotHttp,
    /// An HTTP status other than 2xx.
    Status,
    /// The receiver points elsewhere; redirects are not followed.
    Redirect,
    /// The stored job cannot be read.
    Payload,
    /// A secret, a header or a certificate of the sink cannot be used.
    Config,
    /// The sink's folder cannot be written to.
    Disk,
    /// A fault of tidings itself.
    Internal,
}

impl ErrorClass {
    /// Every one.
    pub const ALL: [Self; 14] = [
        Self::NameNotFound,
        Self::Blocked,
        Self::Proxy,
        Self::Connect,
        Self::Tls,
        Self::Timeout,
        Self::Reset,
        Self::NotHttp,
        Self::Status,
        Self::Redirect,
        Self::Payload,
        Self::Config,
        Self::Disk,
        Self::Internal,
    ];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NameNotFound => "name_not_found",
            Self::Blocked => "blocked",
            Self::Proxy => "proxy",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Reset => "reset",
            Self::NotHttp => "not_http",
            Self::Status => "status",
            Self::Redirect => "redirect",
            Self::Payload => "payload",
            Self::Config => "config",
            Self::Disk => "disk",
            Self::Internal => "internal",
        }
    }
}

impl fmt::Display for ErrorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
