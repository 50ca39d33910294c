//! The types of notices: what tidings tells of itself.

use serde::{Deserialize, Serialize};

/// The type of a notice. Each is about one subject: a sink or a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Notice {
    /// A sink keeps failing: its breaker opened.
    SinkFailing,
    /// A sink that failed takes deliveries again.
    SinkRecovered,
    /// A delivery became a dead letter.
    DeliveryDead,
    /// A source is `unauthorized` or `failing`, or has been `limited` for a while.
    SourceUnhealthy,
    /// A source that was not well answers again.
    SourceRecovered,
}

impl Notice {
    /// Every notice, in the order of the documentation.
    pub const ALL: [Self; 5] = [
        Self::SinkFailing,
        Self::SinkRecovered,
        Self::DeliveryDead,
        Self::SourceUnhealthy,
        Self::SourceRecovered,
    ];

    /// Returns the type of its event.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SinkFailing => "tidings.sink.failing",
            Self::SinkRecovered => "tidings.sink.recovered",
            Self::DeliveryDead => "tidings.delivery.dead",
            Self::SourceUnhealthy => "tidings.source.unhealthy",
            Self::SourceRecovered => "tidings.source.recovered",
        }
    }

    /// Returns whether its subject is a sink; a source otherwise.
    #[must_use]
    pub const fn is_about_sink(self) -> bool {
        matches!(self, Self::SinkFailing | Self::SinkRecovered | Self::DeliveryDead)
    }
}
