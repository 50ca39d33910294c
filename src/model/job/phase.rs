//! The phase of a watch.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The phase of a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Its status is being polled.
    Watching,
    /// A terminal status was seen; the full job is not stored yet.
    Fetching,
    /// The event is on its way to at least one sink.
    Delivering,
    /// Every delivery succeeded, or none was routed.
    Done,
    /// No delivery is pending and at least one is a dead letter.
    Dead,
}

impl Phase {
    /// Returns the word that every surface uses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Watching => "watching",
            Self::Fetching => "fetching",
            Self::Delivering => "delivering",
            Self::Done => "done",
            Self::Dead => "dead",
        }
    }

    /// Returns whether nothing is left to do.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Dead)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
