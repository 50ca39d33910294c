//! `[sinks.NAME]` with `type = "webhook"`.

use std::{collections::BTreeMap, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Format, RetryConfig, every_event};
use crate::util::{
    secret::{Secret, SecretValue},
    units::HumanDuration,
};

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
    /// finished job, `job.*`. `group.*` and `tidings.*` take those of groups and notices.
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
    /// Returns a webhook with the defaults.
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

fn envelope() -> Format {
    Format::Envelope
}

fn fifteen_seconds() -> HumanDuration {
    HumanDuration::secs(15)
}

fn sixteen() -> usize {
    16
}
