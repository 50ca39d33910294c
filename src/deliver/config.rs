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

/// One place where events go.
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

    /// When a failed delivery is tried again.
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

/// What a sink is handed.
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
    /// What `template` makes of the event.
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

/// When a failed delivery is tried again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetryConfig {
    /// The wait before each further attempt; after the last one the delivery is a dead letter.
    pub schedule: Vec<HumanDuration>,
    /// The share by which each wait is lengthened or shortened at random, from 0 to 1.
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
    /// Where to post; http or https.
    pub url: Option<String>,
    /// The file that holds that URL, where it is a secret, as those of Slack, Teams and Discord are; read again when it changes.
    pub url_file: Option<PathBuf>,
    /// The proxy for this sink alone: its URL, or `none`. By default `server.proxy`, apart from `server.no_proxy`.
    pub proxy: Option<String>,
    /// The signing secret: `whsec_…`, or `whsk_…` for ed25519.
    pub secret: Option<Secret>,
    /// The file that holds the signing secret; read again when it changes.
    pub secret_file: Option<PathBuf>,
    /// Several signing secrets during a rotation: all of them sign.
    #[serde(default)]
    pub secrets: Vec<Secret>,
    /// The file that holds several signing secrets, one a line; read again when it changes.
    pub secrets_file: Option<PathBuf>,
    /// Headers added to every request; a value is text or `{ file = "…" }`, read again when it changes.
    #[serde(default)]
    pub headers: BTreeMap<String, SecretValue>,
    /// A token that is sent as `Authorization: Bearer …`.
    pub bearer: Option<Secret>,
    /// The file that holds the token; read again when it changes.
    pub bearer_file: Option<PathBuf>,
    /// Certificates in PEM that the receiver's may come from, beside the usual authorities; read again when it changes.
    pub ca_file: Option<PathBuf>,
    /// The certificate in PEM, its chain after it, that is shown to the receiver; read again when it changes.
    pub client_cert_file: Option<PathBuf>,
    /// The private key of that certificate in PEM; read again when it changes.
    pub client_key_file: Option<PathBuf>,
    /// The event types it takes; `*` stands for anything.
    #[serde(default = "every_event")]
    pub events: Vec<String>,
    /// What is sent.
    #[serde(default = "envelope")]
    pub format: Format,
    /// With `format = "template"`: the body as a Jinja template over the event.
    pub template: Option<String>,
    /// The file that holds the template; read for every attempt, so a change of it needs no restart.
    pub template_file: Option<PathBuf>,
    /// With `format = "template"`: the media type of the body, `application/json` when it is left out. What is JSON by it is
    /// checked before it is sent.
    pub content_type: Option<String>,
    /// The method of the requests.
    #[serde(default)]
    pub method: Method,
    /// The longest silence: the wait for a connection, between two steps of the upload, and for the whole answer after it. A
    /// whole attempt may take this and 1 s more for each 128 KiB of the event, at most an hour more.
    #[serde(default = "fifteen_seconds")]
    pub timeout: HumanDuration,
    /// Requests under way at once.
    #[serde(default = "sixteen")]
    pub max_in_flight: usize,
    /// Attempts a second at the most, over all deliveries; unlimited when left out.
    pub max_per_second: Option<f64>,
    /// Hand over the events of one job one after another, in the order in which they were made: a later one waits
    /// until those before it are delivered or dead letters.
    #[serde(default)]
    pub ordered: bool,
    /// When a failed delivery is tried again.
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

/// How a file on disk is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Zstandard; `.zst` is added to the name.
    Zstd,
}

/// A folder that each finished job is written to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DiskConfig {
    /// The folder; made when it is missing.
    pub dir: PathBuf,
    /// The file's path below the folder. `{source}` `{job_id}` `{outcome}` `{event_id}` `{yyyy}` `{mm}` `{dd}`
    /// are filled in, made safe. A file of another job is never replaced: the event is then written beside it.
    #[serde(default = "by_source_and_job")]
    pub path: String,
    /// The event types it takes; `*` stands for anything.
    #[serde(default = "every_event")]
    pub events: Vec<String>,
    /// What is written: `envelope`, `raw` or `cloudevents`.
    #[serde(default = "raw")]
    pub format: Format,
    /// Compress the files.
    pub compress: Option<Compression>,
    /// Files written at once.
    #[serde(default = "four")]
    pub max_in_flight: usize,
    /// Files a second at the most, over all deliveries; unlimited when left out.
    pub max_per_second: Option<f64>,
    /// Hand over the events of one job one after another, in the order in which they were made: a later one waits
    /// until those before it are delivered or dead letters.
    #[serde(default)]
    pub ordered: bool,
    /// When a failed write is tried again.
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

/// Webhooks that a watch brings along.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CallbackConfig {
    /// Whether a watch may name its own webhook.
    pub enabled: bool,
    /// Address ranges opened to callbacks and to results at other origins, which may otherwise not reach loopback or private networks.
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
