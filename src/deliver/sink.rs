//! A sink of either kind.

use crate::{
    deliver::{
        config::SinkConfig, disk::Disk, error::SinkError, message::Message, outcome::AttemptOutcome,
        webhook::Webhook,
    },
    util::{http_client::Outgoing, units::Time},
};

/// An open sink.
#[derive(Clone, Debug)]
pub enum Sink {
    /// An HTTP endpoint.
    Webhook(Webhook),
    /// A folder.
    Disk(Disk),
}

impl Sink {
    /// Opens the sink `name`. Sends and writes nothing.
    ///
    /// # Errors
    /// When its configuration cannot be used.
    pub fn open(name: &str, config: &SinkConfig, outgoing: &Outgoing) -> Result<Self, SinkError> {
        match config {
            SinkConfig::Webhook(webhook) => Webhook::new(name, webhook, outgoing).map(Self::Webhook),
            SinkConfig::Disk(disk) => Disk::new(name, disk).map(Self::Disk),
        }
    }

    /// Sends `message` once, at `now`.
    pub async fn attempt(&self, message: &Message, now: Time) -> AttemptOutcome {
        match self {
            Self::Webhook(webhook) => webhook.attempt(message, now).await,
            Self::Disk(disk) => disk.attempt(message, now).await,
        }
    }

    /// Returns the address for display: a URL without credentials and query, or a folder.
    #[must_use]
    pub fn shown(&self) -> String {
        match self {
            Self::Webhook(webhook) => webhook.shown(),
            Self::Disk(disk) => disk.shown(),
        }
    }
}
