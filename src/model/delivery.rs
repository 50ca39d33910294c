//! The states of a delivery, the record of an attempt, and the classes of its errors.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::util::units::Time;

/// The state of a delivery.
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
    /// A dead letter; it can be redelivered.
    Dead,
}

impl DeliveryState {
    /// Returns the word for the state, as the API writes it.
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
    /// The sink is paused until an operator resumes it.
    Paused,
    /// The sink asked for silence (`Retry-After`).
    Limited,
    /// The sink keeps failing; its breaker is open until the next probe.
    Failing,
    /// The sink is not in the configuration.
    NotConfigured,
}

/// The record of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryAttempt {
    /// The start of the attempt.
    pub at: Time,
    /// The duration in milliseconds.
    pub duration_ms: u64,
    /// The HTTP status, if the receiver answered.
    pub status: Option<u16>,
    /// The error, unless the attempt succeeded.
    pub error: Option<String>,
    /// The class of the error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_class: Option<ErrorClass>,
    /// The first KiB of the answer's body.
    pub response: Option<String>,
}

/// The class of an attempt's error, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// The DNS knows no address of the receiver.
    NameNotFound,
    /// The guard blocks the receiver's address; nothing was sent.
    Blocked,
    /// The proxy failed; the receiver was not reached.
    Proxy,
    /// No connection could be opened.
    Connect,
    /// The two sides agree on no encryption, or one does not trust the certificate of the other.
    Tls,
    /// The attempt took too long.
    Timeout,
    /// The connection broke before the event was sent and the answer was complete.
    Reset,
    /// The answer is not HTTP.
    NotHttp,
    /// An HTTP status other than 2xx.
    Status,
    /// The receiver redirects, and tidings follows no redirects.
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
    /// Every class.
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

    /// Returns the word for the class, as the API writes it.
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
