//! `[sinks.NAME]` and `[callbacks]`: where events go.

use std::{collections::BTreeMap, path::PathBuf};

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    deliver::encode::envelope::Wrapping,
    util::{
        secret::{Secret, SecretValue},
        units::HumanDuration,
    },
};

/// The name under which the webhooks that watches bring along are listed; no configured sink may have it.
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
    /// The event types this sink takes, as patterns.
    #[must_use]
    pub fn events(&self) -> &[String] {
        match self {
            Self::Webhook(webhook) => &webhook.events,
            Self::Disk(disk) => &disk.events,
        }
    }

    /// The retries of a failed delivery.
    #[must_use]
    pub fn retry(&self) -> &RetryConfig {
        match self {
            Self::Webhook(webhook) => &webhook.retry,
            Self::Disk(disk) => &disk.retry,
        }
    }

    /// Attempts under way at once.
    #[must_use]
    pub fn max_in_flight(&self) -> usize {
        match self {
            Self::Webhook(webhook) => webhook.max_in_flight,
            Self::Disk(disk) => disk.max_in_flight,
        }
    }

    /// Attempts a second, over all deliveries.
    #[must_use]
    pub fn max_per_second(&self) -> Option<f64> {
        match self {
            Self::Webhook(webhook) => webhook.max_per_second,
            Self::Disk(disk) => disk.max_per_second,
        }
    }

    /// Whether a part of it is in a file of its own that is not read again by itself.
    #[must_use]
    pub fn has_template_file(&self) -> bool {
        matches!(self, Self::Webhook(webhook) if webhook.template_file.is_some())
    }

    /// Whether the events of one job go one after another.
    #[must_use]
    pub fn ordered(&self) -> bool {
        match self {
            Self::Webhook(webhook) => webhook.ordered,
            Self::Disk(disk) => disk.ordered,
        }
    }

    /// `webhook` or `disk`.
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

impl Format {
    /// What is put around the job; `None` for a template, which may do anything.
    #[must_use]
    pub const fn wrapping(self) -> Option<Wrapping> {
        match self {
            Self::Envelope => Some(Wrapping::Envelope),
            Self::Raw => Some(Wrapping::Raw),
            Self::CloudEvents => Some(Wrapping::CloudEvents),
            Self::CloudEventsBinary => Some(Wrapping::CloudEventsBinary),
            Self::Template => None,
        }
    }
}

/// The method of a webhook's requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// `POST`.
    #[default]
    Post,
    /// `PUT`.
    Put,
    /// `PATCH`.
    Patch,
}

impl From<Method> for http::Method {
    fn from(method: Method) -> Self {
        match method {
            Method::Post => Self::POST,
            Method::Put => Self::PUT,
            Method::Patch => Self::PATCH,
        }
    }
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
    /// The schedule that Standard Webhooks recommends and Svix uses: eight attempts in about 28 hours.
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

/// An HTTP endpoint that events are sent to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// The http or https URL of the endpoint. One of `url` and `url_file` must be set.
    pub url: Option<String>,
    /// The file with the URL, for one that is a secret, as those of Slack, Teams and Discord are.
    /// Read again when it changes.
    pub url_file: Option<PathBuf>,
    /// The proxy for this sink: its URL, or `none`. Unset: `server.proxy`, except for
    /// `server.no_proxy`.
    pub proxy: Option<String>,
    /// The signing secret: `whsec_…`, or `whsk_…` for ed25519. Unset, as all four keys of secrets:
    /// requests are not signed.
    pub secret: Option<Secret>,
    /// The file with the signing secret, read again when it changes.
    pub secret_file: Option<PathBuf>,
    /// Several signing secrets, for a rotation: each of them signs.
    #[serde(default)]
    pub secrets: Vec<Secret>,
    /// The file with several signing secrets, one a line, read again when it changes.
    pub secrets_file: Option<PathBuf>,
    /// Additional headers of every request: a text, or `{ file = "…" }`, which is read again when
    /// it changes.
    #[serde(default)]
    pub headers: BTreeMap<String, SecretValue>,
    /// The token for `Authorization: Bearer …`. Unset: none.
    pub bearer: Option<Secret>,
    /// The file with the token, read again when it changes.
    pub bearer_file: Option<PathBuf>,
    /// The file with certificates in PEM that the receiver's may come from, beside the usual
    /// authorities. Read again when it changes.
    pub ca_file: Option<PathBuf>,
    /// The file with the client certificate in PEM, followed by its chain. Read again when it
    /// changes. Unset: none.
    pub client_cert_file: Option<PathBuf>,
    /// The file with the private key of the client certificate in PEM, read again when it changes.
    pub client_key_file: Option<PathBuf>,
    /// The event types that the sink takes; `*` stands for any text. Unset: every event of a
    /// finished job.
    #[serde(default = "every_event")]
    pub events: Vec<String>,
    /// The content of a request.
    #[serde(default = "envelope")]
    pub format: Format,
    /// The Jinja template of the body, for `format = "template"`.
    pub template: Option<String>,
    /// The file with the template, read for every attempt.
    pub template_file: Option<PathBuf>,
    /// The media type of the body, for `format = "template"`. Unset: `application/json`. A JSON
    /// body is checked before it is sent.
    pub content_type: Option<String>,
    /// The method of the requests.
    #[serde(default)]
    pub method: Method,
    /// The longest silence: the wait for a connection, between two steps of the upload, and for the
    /// whole answer after it. An attempt may take this time and 1 s for each 128 KiB of the event,
    /// at most one hour more.
    #[serde(default = "fifteen_seconds")]
    pub timeout: HumanDuration,
    /// Requests in flight, at most.
    #[serde(default = "sixteen")]
    pub max_in_flight: usize,
    /// Attempts per second over all deliveries, at most. Unset: unlimited.
    pub max_per_second: Option<f64>,
    /// Whether to send the events of one job in their order. A later one waits until those before
    /// it are delivered or dead letters.
    #[serde(default)]
    pub ordered: bool,
    /// The retries of a failed delivery.
    #[serde(default)]
    pub retry: RetryConfig,
}

impl WebhookConfig {
    /// A webhook with the defaults.
    #[must_use]
    pub fn to(url: impl Into<String>) -> Self {
        Self {
            url: Some(url.into()),
            url_file: None,
            proxy: None,
            secret: None,
            secret_file: None,
            secrets: Vec::new(),
            secrets_file: None,
            headers: BTreeMap::new(),
            bearer: None,
            bearer_file: None,
            ca_file: None,
            client_cert_file: None,
            client_key_file: None,
            events: every_event(),
            format: envelope(),
            template: None,
            template_file: None,
            content_type: None,
            method: Method::Post,
            timeout: fifteen_seconds(),
            max_in_flight: sixteen(),
            max_per_second: None,
            ordered: false,
            retry: RetryConfig::default(),
        }
    }
}

/// The compression of a file on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Zstandard; the name gets `.zst`.
    Zstd,
}

/// A folder that each finished job is written to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DiskConfig {
    /// The folder, created if it is missing.
    pub dir: PathBuf,
    /// The path of a file below the folder. Its placeholders are `{source}` `{job_id}` `{outcome}`
    /// `{event_id}` `{yyyy}` `{mm}` `{dd}`, filled in safely. A file of another job is never
    /// replaced: the event then gets a file beside it.
    #[serde(default = "by_source_and_job")]
    pub path: String,
    /// The event types that the sink takes; `*` stands for any text. Unset: every event of a
    /// finished job.
    #[serde(default = "every_event")]
    pub events: Vec<String>,
    /// The content of a file: `envelope`, `raw` or `cloudevents`.
    #[serde(default = "raw")]
    pub format: Format,
    /// The compression of the files. Unset: none.
    pub compress: Option<Compression>,
    /// Files being written, at most.
    #[serde(default = "four")]
    pub max_in_flight: usize,
    /// Files per second over all deliveries, at most. Unset: unlimited.
    pub max_per_second: Option<f64>,
    /// Whether to send the events of one job in their order. A later one waits until those before
    /// it are delivered or dead letters.
    #[serde(default)]
    pub ordered: bool,
    /// The retries of a failed write.
    #[serde(default)]
    pub retry: RetryConfig,
}

impl DiskConfig {
    /// A folder with the defaults.
    #[must_use]
    pub fn to(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            path: by_source_and_job(),
            events: every_event(),
            format: raw(),
            compress: None,
            max_in_flight: four(),
            max_per_second: None,
            ordered: false,
            retry: RetryConfig::default(),
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

fn every_event() -> Vec<String> {
    vec!["job.*".to_owned()]
}

fn envelope() -> Format {
    Format::Envelope
}

fn raw() -> Format {
    Format::Raw
}

fn fifteen_seconds() -> HumanDuration {
    HumanDuration::secs(15)
}

fn sixteen() -> usize {
    16
}

fn four() -> usize {
    4
}

fn by_source_and_job() -> String {
    "{source}/{job_id}.json".to_owned()
}
