//! `[sources.NAME]`: an upstream API and how hard it may be asked.

use std::{collections::BTreeMap, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SourceType;
use crate::{
    schedule::PollingConfig,
    upstream::{ProxyConfig, ProxyForm, table_or_outgoing},
    util::{
        secret::{Secret, SecretValue},
        units::{HumanDuration, Size},
    },
};

/// What the status words of a source mean. Words are compared without case; `*` is any other word.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Outcomes {
    /// Not ended.
    pub pending: Vec<String>,
    /// Ended with a result.
    pub completed: Vec<String>,
    /// Ended with an error.
    pub failed: Vec<String>,
    /// Stopped by somebody.
    pub cancelled: Vec<String>,
    /// Dropped by the source.
    pub expired: Vec<String>,
}

/// One upstream API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SourceConfig {
    /// The built-in profile that says how this API is spoken to, or `custom`.
    #[serde(rename = "type")]
    pub profile: SourceType,
    /// Scheme, host and optional path of the API; defaults to the profile's own.
    pub base_url: Option<String>,
    /// The key, sent in `api_key_header`.
    pub api_key: Option<Secret>,
    /// The file that holds the key; read again when it changes.
    pub api_key_file: Option<PathBuf>,
    /// The header that carries the key, instead of the profile's own.
    pub api_key_header: Option<String>,
    /// The word before the key; `Bearer` in `Authorization` and none elsewhere, unless the profile says otherwise.
    pub api_key_scheme: Option<String>,
    /// Further headers of every request: text, or `{ file = "…" }` that is read again when it changes.
    pub headers: BTreeMap<String, SecretValue>,
    /// Variables of the paths, for every watch that brings none of the same name.
    pub vars: BTreeMap<String, String>,
    /// The path of a job's light status, with `{id}` and other variables: `/v1/jobs/{id}/status`.
    pub status_path: Option<String>,
    /// The same from a heavier route, for a server that lacks the light one.
    pub fallback_status_path: Option<String>,
    /// Where the status body has the status word: JSON pointers, of which the first that is present counts.
    pub status_at: Option<Vec<String>>,
    /// Where the status body says that a job has not ended, whatever its word is: it is pending while the value at one of
    /// these pointers is `true` or one of the `pending` words.
    pub pending_while: Option<Vec<String>>,
    /// Where the status body of a job that counts as completed says that it failed: it did when something other than `false`
    /// is at one of these pointers. A value among the `cancelled` or `expired` words means that instead.
    pub failed_at: Option<Vec<String>>,
    /// Whether a status body without a status is an error, and not a job that has not ended.
    pub status_required: Option<bool>,
    /// What each status word means.
    pub outcomes: Option<Outcomes>,
    /// The pending words that say that the job is being worked on.
    pub running: Option<Vec<String>>,
    /// The path of a finished job's result, also from the status body: `/files/{/output_id}`. Without it the status body
    /// is the result.
    pub result_path: Option<String>,
    /// The same with the request that made the job, for `include_request`.
    pub result_with_request_path: Option<String>,
    /// The part of the result that is delivered, as a JSON pointer; all of it by default.
    pub result_at: Option<String>,
    /// Where the result repeats the status, as pointers: one that is not final is fetched again.
    pub result_status_at: Option<Vec<String>>,
    /// Whether an answer of 4xx to the request for the result is the error that the job ended with. Those that pass are not: 400,
    /// 401, 403, 404, 407, 408, 409, 410, 421, 425 and 429.
    pub result_4xx_is_failure: Option<bool>,
    /// Where an answer of 4xx or 5xx to the request for the result says that it is the error that the job ended with, and not one of
    /// the source: it is when something is at one of these pointers. Those that pass are not.
    pub result_failure_at: Option<Vec<String>>,
    /// Whether an HTML page can be the result. By default it counts as an error page, and the result is asked for again.
    pub result_may_be_html: Option<bool>,
    /// Where the status body has the error of a failed job; the first pointer that is present counts.
    pub error_at: Option<Vec<String>>,
    /// Where the status body has the operation that the job runs; polling learns by it.
    pub endpoint_at: Option<String>,
    /// Where the status body has the job's own metadata, an object.
    pub metadata_at: Option<String>,
    /// Where the status body says when the job was created: epoch seconds, milliseconds or ISO 8601.
    pub created_at: Option<Vec<String>>,
    /// Where it says when the job was started.
    pub started_at: Option<Vec<String>>,
    /// Where it says when the job ended.
    pub ended_at: Option<Vec<String>>,
    /// What tells a retry in place from the run before.
    pub attempt_at: Option<Vec<String>>,
    /// A header beside `Retry-After` that says when to ask again; a name ending in `-ms` counts milliseconds.
    pub poll_hint_header: Option<String>,
    /// Origins beside that of `base_url` that may get the key and the headers. A result at any other is fetched without them.
    pub allow_origins: Option<Vec<String>>,
    /// The path where a POST creates a job; the proxy watches what is created there.
    pub create_path: Option<String>,
    /// Where the answer to that has the id of the job.
    pub created_id_at: Option<String>,
    /// The path where a POST runs a job again.
    pub retry_path: Option<String>,
    /// Requests per second over all watches of this source, polls and fetches together.
    pub max_requests_per_second: f64,
    /// Requests under way at once.
    pub max_in_flight: usize,
    /// The longest wait for a status answer, and the longest silence while a job is read.
    pub timeout: HumanDuration,
    /// A finished job over this size is given up as lost.
    pub max_job_size: Size,
    /// Whether the stored job also holds the request that made it.
    pub include_request: bool,
    /// How long the source may answer 404 for a job before it is lost. By default 30s for a job that was never seen, and 10m
    /// for one that was.
    pub not_found_grace: Option<HumanDuration>,
    /// How long after its end a job's result may still appear: the status is asked again while it does not say where the
    /// result is, and an empty result is fetched again. Afterwards the status body, or the empty result, is delivered.
    pub result_grace: HumanDuration,
    /// When to look.
    pub polling: PollingConfig,
    /// The drop-in proxy at `/proxy/NAME/`, and the proxy for requests to the source.
    #[serde(deserialize_with = "table_or_outgoing")]
    #[schemars(with = "ProxyForm")]
    pub proxy: ProxyConfig,
}

impl Default for SourceConfig {
    fn default() -> Self {
        Self {
            profile: SourceType::default(),
            base_url: None,
            api_key: None,
            api_key_file: None,
            api_key_header: None,
            api_key_scheme: None,
            headers: BTreeMap::new(),
            vars: BTreeMap::new(),
            status_path: None,
            fallback_status_path: None,
            status_at: None,
            pending_while: None,
            failed_at: None,
            status_required: None,
            outcomes: None,
            running: None,
            result_path: None,
            result_with_request_path: None,
            result_at: None,
            result_status_at: None,
            result_4xx_is_failure: None,
            result_failure_at: None,
            result_may_be_html: None,
            error_at: None,
            endpoint_at: None,
            metadata_at: None,
            created_at: None,
            started_at: None,
            ended_at: None,
            attempt_at: None,
            poll_hint_header: None,
            allow_origins: None,
            create_path: None,
            created_id_at: None,
            retry_path: None,
            max_requests_per_second: 20.0,
            max_in_flight: 32,
            timeout: HumanDuration::secs(30),
            max_job_size: Size::mib(512),
            include_request: false,
            not_found_grace: None,
            result_grace: HumanDuration::secs(30),
            polling: PollingConfig::default(),
            proxy: ProxyConfig::default(),
        }
    }
}
