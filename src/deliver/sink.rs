//! A place where events go, whatever its kind.

use crate::{
    deliver::{config::SinkConfig, disk::Disk, message::Message, outcome::AttemptOutcome, webhook::Webhook},
    util::{http_client::Outgoing, units::Time},
};

/// A sink that is ready to take events.
#[derive(Clone, Debug)]
pub enum Sink {
    /// An HTTP endpoint.
    Webhook(Webhook),
    /// A folder.
    Disk(Disk),
}

/// A sink that cannot be used as it is configured.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("sinks.{sink}.{key}: {reason}")]
pub struct SinkError {
    /// The sink's name.
    pub sink: String,
    /// The key below it.
    pub key: &'static str,
    /// What is wrong with it; no secret is in it.
    pub reason: String,
}

impl SinkError {
    pub(super) fn new(sink: &str, key: &'static str, reason: impl Into<String>) -> Self {
        Self { sink: sink.to_owned(), key, reason: reason.into() }
    }
}

impl Sink {
    /// Opens the sink `name`; nothing is sent or written.
    ///
    /// # Errors
    /// When it cannot be used as it is configured.
    pub fn open(name: &str, config: &SinkConfig, outgoing: &Outgoing) -> Result<Self, SinkError> {
        match config {
            SinkConfig::Webhook(webhook) => Webhook::new(name, webhook, outgoing).map(Self::Webhook),
            SinkConfig::Disk(disk) => Disk::new(name, disk).map(Self::Disk),
        }
    }

    /// Hands `message` over once; `now` is the instant of this attempt.
    pub async fn attempt(&self, message: &Message, now: Time) -> AttemptOutcome {
        match self {
            Self::Webhook(webhook) => webhook.attempt(message, now).await,
            Self::Disk(disk) => disk.attempt(message, now).await,
        }
    }

    /// Where it points, fit to be shown: a URL without credentials and query, or a folder.
    #[must_use]
    pub fn target(&self) -> String {
        match self {
            Self::Webhook(webhook) => webhook.target(),
            Self::Disk(disk) => disk.target(),
        }
    }
}
