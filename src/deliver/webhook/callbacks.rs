//! The shared client of callbacks, and the check of their URLs.

use std::sync::Arc;

use url::Url;

use super::{
    address::parse_url,
    transport::{Transport, TransportConfig},
};
use crate::{
    deliver::{
        config::{CALLBACK_SINK, CallbackConfig, WebhookConfig},
        error::SinkError,
    },
    util::http_client::{
        Outgoing,
        guard::{Blocked, Trust, check_url},
    },
};

/// Idle connections that callbacks keep to one host.
pub(super) const CALLBACK_IDLE: usize = 4;

/// New connections of callbacks, over all hosts, after which the idle ones are closed. Each caller
/// may name another host, and each open connection takes a descriptor of the process.
pub(super) const CALLBACK_CONNECTIONS: usize = 256;

/// The guarded client that all callbacks share, so that they reuse connections.
///
/// The client uses no proxy. A proxy resolves names itself, and the guard cannot check addresses
/// that it does not see.
#[derive(Clone, Debug)]
pub struct Callbacks {
    pub(super) transport: Arc<Transport>,
    pub(super) trust: Arc<Trust>,
}

/// The reason to refuse a callback.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCallback {
    /// The URL cannot be posted to.
    #[error("{0}")]
    Url(String),
    /// The guard blocks the address.
    #[error(transparent)]
    Blocked(Blocked),
}

impl Callbacks {
    /// Builds the client.
    ///
    /// # Errors
    /// When the TLS library cannot be set up.
    pub fn new(config: &CallbackConfig) -> Result<Self, SinkError> {
        let trust = Trust::Callback { allow: config.allow.clone() };
        Self::resolving(Outgoing::direct(trust.clone()), Arc::new(trust))
    }

    pub(super) fn resolving(outgoing: Outgoing, trust: Arc<Trust>) -> Result<Self, SinkError> {
        let route = TransportConfig::new(outgoing, CALLBACK_IDLE, WebhookConfig::to("").timeout.0);
        Self::over(TransportConfig { retire_after: CALLBACK_CONNECTIONS, ..route }, trust)
    }

    pub(super) fn over(route: TransportConfig, trust: Arc<Trust>) -> Result<Self, SinkError> {
        let transport = Transport::new(route)
            .map_err(|_| SinkError::new(CALLBACK_SINK, "url", "the HTTP client cannot be set up"))?;
        Ok(Self { transport: Arc::new(transport), trust })
    }

    /// Checks whether a callback may name this URL, without a DNS query.
    ///
    /// # Errors
    /// The reason to refuse it, in words for the caller.
    pub fn check(&self, url: &str) -> Result<Url, BadCallback> {
        let url = parse_url(url).map_err(BadCallback::Url)?;
        match check_url(&url, &self.trust) {
            Ok(()) => Ok(url),
            Err(blocked @ Blocked::Address(_)) => Err(BadCallback::Blocked(blocked)),
            Err(other) => Err(BadCallback::Url(other.to_string())),
        }
    }
}
