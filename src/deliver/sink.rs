//! The kinds of sinks.

use super::{Disk, SinkConfig, Webhook, parcel::Parcel, report::Report, sign::SignError};
use crate::units::Time;

/// Why a sink cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The URL.
    #[error("its URL cannot be used: {0}")]
    Url(String),
    /// A header.
    #[error("its header `{0}` cannot be sent")]
    Header(String),
    /// A secret.
    #[error("its secret cannot be used: {0}")]
    Secret(#[from] SignError),
    /// The client.
    #[error("no HTTP client: {0}")]
    Client(#[from] reqwest::Error),
}

/// One place where events go.
pub enum Sink {
    /// An HTTP endpoint.
    Webhook(Box<Webhook>),
    /// A folder.
    Disk(Disk),
}

impl Sink {
    /// Sets a sink up; sends and writes nothing.
    ///
    /// # Errors
    /// When the configuration cannot be used.
    pub fn open(config: &SinkConfig, proxy: Option<&str>) -> Result<Self, SinkError> {
        Ok(match config {
            SinkConfig::Webhook(webhook) => Self::Webhook(Box::new(Webhook::new(webhook, proxy)?)),
            SinkConfig::Disk(disk) => Self::Disk(Disk::new(disk)),
        })
    }

    /// Hands an event over once.
    pub async fn attempt(&self, parcel: &Parcel, now: Time) -> Report {
        match self {
            Self::Webhook(webhook) => webhook.attempt(parcel, now).await,
            Self::Disk(disk) => disk.attempt(parcel, now).await,
        }
    }

    /// Where it points: a URL without credentials and query, or a folder.
    #[must_use]
    pub fn target(&self) -> String {
        match self {
            Self::Webhook(webhook) => webhook.target(),
            Self::Disk(disk) => disk.target(),
        }
    }
}
