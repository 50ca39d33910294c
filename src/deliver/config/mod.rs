//! The configuration of this room: `[sinks.NAME]` and `[callbacks]`.

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::util::units::HumanDuration;

mod disk;
mod webhook;

pub use disk::{Compression, DiskConfig};
pub use webhook::{Method, WebhookConfig};

/// The name of the callbacks among the sinks; no configured sink may have it.
pub const CALLBACK_SINK: &str = "callback";

/// A destination of events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[expect(
    clippy::large_enum_variant,
    reason = "there are a few sinks in a process, and a box helps nobody who reads one"
)]
pub enum SinkConfig {
    /// An HTTP endpoint.
    Webhook(WebhookConfig),
    /// A folder.
    Disk(DiskConfig),
}

impl SinkConfig {
    /// Returns the event types that the sink takes, as patterns.
    #[must_use]
    pub fn events(&self) -> &[String] {
        match self {
            Self::Webhook(webhook) => &webhook.events,
            Self::Disk(disk) => &disk.events,
        }
    }

    /// Returns the retry schedule.
    #[must_use]
    pub fn retry(&self) -> &RetryConfig {
        match self {
            Self::Webhook(webhook) => &webhook.retry,
            Self::Disk(disk) => &disk.retry,
        }
    }

    /// Returns the most attempts in flight.
    #[must_use]
    pub fn max_in_flight(&self) -> usize {
        match self {
            Self::Webhook(webhook) => webhook.max_in_flight,
            Self::Disk(disk) => disk.max_in_flight,
        }
    }

    /// Returns the most attempts a second, over all deliveries.
    #[must_use]
    pub fn max_per_second(&self) -> Option<f64> {
        match self {
            Self::Webhook(webhook) => webhook.max_per_second,
            Self::Disk(disk) => disk.max_per_second,
        }
    }

    /// Returns whether a part of the configuration is in a template file, so that equal keys may
    /// mean another sink.
    #[must_use]
    pub fn has_template_file(&self) -> bool {
        matches!(self, Self::Webhook(webhook) if webhook.template_file.is_some())
    }

    /// Returns whether the events of one job are delivered in order.
    #[must_use]
    pub fn ordered(&self) -> bool {
        match self {
            Self::Webhook(webhook) => webhook.ordered,
            Self::Disk(disk) => disk.ordered,
        }
    }

    /// Returns `webhook` or `disk`.
    #[must_use]
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::Webhook(_) => "webhook",
            Self::Disk(_) => "disk",
        }
    }
}

/// The content of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// The event with the job under `data`.
    Envelope,
    /// The job alone.
    Raw,
    /// A `CloudEvents` 1.0 event in JSON (structured mode) with the job under `data`.
    #[serde(rename = "cloudevents")]
    CloudEvents,
    /// The job alone with a `CloudEvents` 1.0 event in the headers (binary mode).
    #[serde(rename = "cloudevents-binary")]
    CloudEventsBinary,
    /// The text that `template` renders.
    Template,
}

/// The retries of a failed delivery.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetryConfig {
    /// The waits before the second, third, … attempt. After the last one the delivery becomes a
    /// dead letter.
    pub schedule: Vec<HumanDuration>,
    /// The random share by which each wait is longer or shorter, from 0 to 1.
    pub jitter: f64,
}

impl Default for RetryConfig {
    /// Returns the schedule that Standard Webhooks recommends and Svix uses: eight attempts in about
    /// 28 hours.
    fn default() -> Self {
        const MINUTE: u64 = 60;
        const HOUR: u64 = 60 * MINUTE;
        Self {
            schedule: [5, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 10 * HOUR]
                .map(HumanDuration::secs)
                .to_vec(),
            jitter: 0.2,
        }
    }
}

/// The webhooks that watches name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CallbackConfig {
    /// Whether a watch may name its own webhook.
    pub enabled: bool,
    /// Address ranges that callbacks, and results at other origins, may reach although they are
    /// loopback or private.
    #[schemars(with = "Vec<String>")]
    pub allow: Vec<IpNet>,
}

impl Default for CallbackConfig {
    fn default() -> Self {
        Self { enabled: true, allow: Vec::new() }
    }
}

/// Every event of an end; the default of `events`.
fn every_event() -> Vec<String> {
    vec!["job.*".to_owned()]
}
