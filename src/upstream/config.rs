//! `[sources.NAME]`: an upstream API, and the limits of requests to it.

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
    /// Words for a job that has not finished.
    pub pending: Vec<String>,
    /// Words for a job that finished with a result.
    pub completed: Vec<String>,
    /// Words for a job that finished with an error.
    pub failed: Vec<String>,
    /// Words for a job that was stopped.
    pub cancelled: Vec<String>,
    /// Words for a job that the source dropped.
    pub expired: Vec<String>,
}

/// One upstream API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SourceConfig {
    /// The built-in profile of this API, or `custom`.
    #[serde(rename = "type")]
    pub profile: SourceType,
    /// Scheme, host and optional path of the API. Default: that of the profile.
    pub base_url: Option<String>,
    /// The key, sent in `api_key_header`.
    pub api_key: Option<Secret>,
    /// The file that holds the key. It is read again when it changes.
    pub api_key_file: Option<PathBuf>,
    /// The header that carries the key, instead of the profile's own.
    pub api_key_header: Option<String>,
    /// The word before the key. Default: that of the profile, else `Bearer` in `Authorization` and
    /// none elsewhere.
    pub api_key_scheme: Option<String>,
    /// Further headers of every request: text, or `{ file = "…" }`, which is read again when it
    /// changes.
    pub headers: BTreeMap<String, SecretValue>,
    /// Variables of the paths. A variable of the same name that comes with a watch replaces it.
    pub vars: BTreeMap<String, String>,
    /// The path of a job's light status, with `{id}` and other variables: `/v1/jobs/{id}/status`.
    pub status_path: Option<String>,
    /// The path of a heavier status route, for a server that lacks the light one.
    pub fallback_status_path: Option<String>,
    /// JSON pointers to the status word in the status body. The first that is present counts.
    pub status_at: Option<Vec<String>>,
    /// JSON pointers to values that keep a job pending, whatever its status word is: while one of
    /// them is `true` or one of the `pending` words.
    pub pending_while: Option<Vec<String>>,
    /// JSON pointers to the failure of a job that counts as completed: it failed if one of them
    /// holds anything but `false`. A value among the `cancelled` or `expired` words means that
    /// instead.
    pub failed_at: Option<Vec<String>>,
    /// Whether a status body without a status is an error. Unset or `false`: the job counts as not
    /// finished.
    pub status_required: Option<bool>,
    /// What each status word means.
    pub outcomes: Option<Outcomes>,
    /// The pending words that say that the job is being worked on.
    pub running: Option<Vec<String>>,
    /// The path of a finished job's result. It can take values from the status body:
    /// `/files/{/output_id}`. Unset: the status body is the result.
    pub result_path: Option<String>,
    /// The path of the result together with the request that made the job, for `include_request`.
    pub result_with_request_path: Option<String>,
    /// A JSON pointer to the part of the result that is delivered. Unset: all of it.
    pub result_at: Option<String>,
    /// JSON pointers to the status in the result. A result whose status is not final is fetched
    /// again.
    pub result_status_at: Option<Vec<String>>,
    /// Whether a 4xx answer to the request for the result is the error of the job. These never are:
    /// 400, 401, 403, 404, 407, 408, 409, 410, 421, 425 and 429.
    pub result_4xx_is_failure: Option<bool>,
    /// JSON pointers into a 4xx or 5xx answer to the request for the result. If one of them holds
    /// something, the answer is the error of the job and not of the source. The answers that
    /// `result_4xx_is_failure` excludes never are.
    pub result_failure_at: Option<Vec<String>>,
    /// Whether an HTML page can be the result. Unset or `false`: it counts as an error page, and
    /// the result is fetched again.
    pub result_may_be_html: Option<bool>,
    /// JSON pointers to the error of a failed job in the status body. The first that is present
    /// counts.
    pub error_at: Option<Vec<String>>,
    /// A JSON pointer to the operation that the job runs, in the status body. Polling learns by it.
    pub endpoint_at: Option<String>,
    /// A JSON pointer to the job's own metadata in the status body, an object.
    pub metadata_at: Option<String>,
    /// JSON pointers to the creation time of the job in the status body: epoch seconds,
    /// milliseconds or ISO 8601.
    pub created_at: Option<Vec<String>>,
    /// JSON pointers to its start time.
    pub started_at: Option<Vec<String>>,
    /// JSON pointers to its end time.
    pub ended_at: Option<Vec<String>>,
    /// JSON pointers to a value that differs between runs of a job, such as a counter of retries.
    pub attempt_at: Option<Vec<String>>,
    /// A header beside `Retry-After` with the wait before the next poll. A name that ends in `-ms`
    /// counts milliseconds.
    pub poll_hint_header: Option<String>,
    /// Further origins that may get the key and the headers. A result at any other origin is
    /// fetched without them.
    pub allow_origins: Option<Vec<String>>,
    /// The path where a POST creates a job. The proxy watches jobs that are created there.
    pub create_path: Option<String>,
    /// A JSON pointer to the id of the job in the answer to that POST.
    pub created_id_at: Option<String>,
    /// The path where a POST runs a job again.
    pub retry_path: Option<String>,
    /// The most requests a second over all watches of this source, polls and fetches together.
    pub max_requests_per_second: f64,
    /// The most requests in flight.
    pub max_in_flight: usize,
    /// The longest wait for a status answer, and the longest silence while a result arrives.
    pub timeout: HumanDuration,
    /// The largest result. A finished job with a larger one is fetched again at long intervals.
    pub max_job_size: Size,
    /// Whether the stored job also holds the request that made it.
    pub include_request: bool,
    /// How long the source may answer 404 for a job before it is lost. Default: 30s for a job that
    /// was never seen, 10m for one that was.
    pub not_found_grace: Option<HumanDuration>,
    /// How long after its end a job's result may still appear. Until then the status is requested
    /// again while it does not name the result, and an empty result is fetched again. Afterwards
    /// the status body, or the empty result, is delivered.
    pub result_grace: HumanDuration,
    /// When to poll.
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
