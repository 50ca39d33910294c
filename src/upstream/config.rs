//! `[sources.NAME]`: an upstream API, and the limits of requests to it.

use std::{collections::BTreeMap, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{AuthConfig, SourceType};
use crate::{
    schedule::{MAX_IN_FLIGHT, MAX_REQUESTS_PER_SECOND, PollingConfig},
    upstream::{DiscoverConfig, HooksConfig, ListNext, ProxyConfig, ProxyForm, table_or_outgoing},
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

/// What the HTTP status of an answer to a status request means, instead of a word.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HttpOutcomes {
    /// Codes for a job that has not finished.
    pub pending: Vec<u16>,
    /// Codes for a job that finished with a result.
    pub completed: Vec<u16>,
    /// Codes for a job that finished with an error.
    pub failed: Vec<u16>,
    /// Codes for a job that was stopped.
    pub cancelled: Vec<u16>,
    /// Codes for a job that the source dropped.
    pub expired: Vec<u16>,
}

/// One of several results of a job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ResultConfig {
    /// Its name in the delivered body, and `{result}` in the path of a file.
    pub name: String,
    /// Its path. It can take values from the status body: `/files/{/output_id}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The body of its request, which is a `POST` then. Written as `status_body`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// Without `path`: a JSON pointer to it in the status body. With `path`: a JSON pointer to the
    /// part of the answer that is delivered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// Whether its request carries the key and the headers of the source. `none` is for signed
    /// links, which may reach global addresses alone.
    pub auth: ResultAuth,
    /// Whether it is left out when the status body does not name it, or the answer is 404 or 410.
    /// Otherwise it is requested again.
    pub optional: bool,
    /// A JSON pointer to a list in the status body. One request is made for each item, whose values
    /// `path` takes as `{item/id}`, and the result is the list of the answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub each_at: Option<String>,
    /// Where a page names the next one: a JSON pointer into it, or the name of a header, also
    /// `Link`. It is a URL of the same origin, or a cursor for `next_param`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_at: Option<String>,
    /// The parameter of the query that takes the cursor; with `body` the member of that JSON
    /// object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_param: Option<String>,
    /// A JSON pointer to the list in each page; the result is one list of all items. Unset: the
    /// pages are joined one after the other, as JSONL is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub items_at: Option<String>,
}

/// Whose headers the request for a result carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ResultAuth {
    /// The key and the headers of the source, within its own origins.
    #[default]
    Source,
    /// None.
    None,
}

/// The method of a status request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum StatusMethod {
    /// `GET`.
    Get,
    /// `POST`, with `status_body`.
    Post,
}

/// Declares `[sources.NAME]` and `[sources.NAME.kinds.KIND]`. The `keys` belong to both.
macro_rules! configs {
    (
        before { $($(#[$before_meta:meta])* pub $before:ident: $before_type:ty = $before_default:expr,)* }
        keys { $($(#[$key_meta:meta])* pub $key:ident: $key_type:ty,)* }
        after { $($(#[$after_meta:meta])* pub $after:ident: $after_type:ty = $after_default:expr,)* }
    ) => {
        /// One upstream API.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields, default)]
        pub struct SourceConfig {
            $($(#[$before_meta])* pub $before: $before_type,)*
            /// Further headers of every request: text, or `{ file = "…" }`, which is read again when it
            /// changes.
            pub headers: BTreeMap<String, SecretValue>,
            /// Variables of the paths. A variable of the same name that comes with a watch replaces it.
            pub vars: BTreeMap<String, String>,
            $($(#[$key_meta])* pub $key: Option<$key_type>,)*
            $($(#[$after_meta])* pub $after: $after_type,)*
        }

        impl Default for SourceConfig {
            fn default() -> Self {
                Self {
                    $($before: $before_default,)*
                    headers: BTreeMap::new(),
                    vars: BTreeMap::new(),
                    $($key: None,)*
                    $($after: $after_default,)*
                }
            }
        }

        /// The keys of one kind of job. Those that are unset are those of the profile, else of the
        /// source.
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields, default)]
        pub struct ProfileKeys {
            /// Further headers of requests about this kind.
            #[serde(skip_serializing_if = "BTreeMap::is_empty")]
            pub headers: BTreeMap<String, SecretValue>,
            /// Variables of the paths of this kind.
            #[serde(skip_serializing_if = "BTreeMap::is_empty")]
            pub vars: BTreeMap<String, String>,
            $($(#[$key_meta])* #[serde(skip_serializing_if = "Option::is_none")] pub $key: Option<$key_type>,)*
        }

        impl ProfileKeys {
            /// Returns the keys with those of `base` where they are unset.
            pub(super) fn or(mut self, base: &Self) -> Self {
                // A result of its own takes the place of several that the base has.
                if self.result_path.is_some() && self.results.is_none() {
                    self.results = Some(Vec::new());
                }
                $( self.$key = self.$key.or_else(|| base.$key.clone()); )*
                self.with_maps_of(base)
            }
        }

        impl SourceConfig {
            /// Returns the keys of its default kind.
            pub(super) fn keys(&self) -> ProfileKeys {
                ProfileKeys {
                    headers: self.headers.clone(),
                    vars: self.vars.clone(),
                    $($key: self.$key.clone(),)*
                }
            }
        }
    };
}

configs! {
    before {
        /// The built-in profile of this API, or `custom`.
        #[serde(rename = "type")]
        pub profile: SourceType = SourceType::default(),
        /// Scheme, host and optional path of the API. Default: that of the profile.
        pub base_url: Option<String> = None,
        /// The key, sent in `api_key_header`.
        pub api_key: Option<Secret> = None,
        /// The file that holds the key. It is read again when it changes.
        pub api_key_file: Option<PathBuf> = None,
        /// The header that carries the key, instead of the profile's own.
        pub api_key_header: Option<String> = None,
        /// The word before the key. Default: that of the profile, else `Bearer` in `Authorization` and
        /// none elsewhere.
        pub api_key_scheme: Option<String> = None,
        /// Credentials that are made for the source, instead of `api_key`.
        pub auth: Option<AuthConfig> = None,
        /// Further origins that may get the key and the headers. A result at any other origin is
        /// fetched without them.
        pub allow_origins: Option<Vec<String>> = None,
        /// The name of the kind of job that the keys of the source itself describe. Default: that of the
        /// profile, else none.
        pub default_kind: Option<String> = None,
        /// Further kinds of job of the same API. Each is a table of the keys that differ: those of a profile,
        /// from `status_path` on, `id_prefixes`, `headers` and `vars`.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        pub kinds: BTreeMap<String, ProfileKeys> = BTreeMap::new(),
    }
    keys {
        /// The beginnings of the ids by which a job of this kind is known, when its watch names no kind.
        pub id_prefixes: Vec<String>,
        /// The path of a job's light status, with `{id}` and other variables: `/v1/jobs/{id}/status`.
        pub status_path: String,
        /// The method of a status request. Default: `GET`.
        pub status_method: StatusMethod,
        /// The body of a status request by `POST`, with `{id}` and other variables: `{{"id":"{id}"}}`.
        /// `{{` and `}}` are braces. Values are escaped for the `content-type` in `headers`; without
        /// one the body is JSON.
        pub status_body: String,
        /// The path of a heavier status route, for a server that lacks the light one.
        pub fallback_status_path: String,
        /// What the HTTP status of the answer means, instead of a word or before it:
        /// `{ pending = [202], completed = [200] }`. The usual rules hold for a code that is not
        /// listed.
        pub status_http: HttpOutcomes,
        /// JSON pointers to the status word in the status body. The first that is present counts.
        /// `status_http` can take its place.
        pub status_at: Vec<String>,
        /// JSON pointers to values that keep a job pending, whatever its status word is: while one of
        /// them is `true` or one of the `pending` words.
        pub pending_while: Vec<String>,
        /// JSON pointers to the failure of a job that counts as completed: it failed if one of them
        /// holds anything but `false`. A value among the `cancelled` or `expired` words means that
        /// instead.
        pub failed_at: Vec<String>,
        /// Whether a status body without a status is an error. Unset or `false`: the job counts as not
        /// finished.
        pub status_required: bool,
        /// What each status word means.
        pub outcomes: Outcomes,
        /// The pending words that say that the job is being worked on.
        pub running: Vec<String>,
        /// The path of a finished job's result. It can take values from the status body:
        /// `/files/{/output_id}`. Unset: the status body is the result.
        pub result_path: String,
        /// The path of the result together with the request that made the job, for `include_request`.
        pub result_with_request_path: String,
        /// Several results of a job, in place of `result_path`. The delivered body holds the status body
        /// and all of them.
        pub results: Vec<ResultConfig>,
        /// A JSON pointer to the part of the result that is delivered. Unset: all of it.
        pub result_at: String,
        /// JSON pointers to the status in the result. A result whose status is not final is fetched
        /// again.
        pub result_status_at: Vec<String>,
        /// Whether a 4xx answer to the request for the result is the error of the job. These never are:
        /// 400, 401, 403, 404, 407, 408, 409, 410, 421, 425 and 429.
        pub result_4xx_is_failure: bool,
        /// JSON pointers into a 4xx or 5xx answer to the request for the result. If one of them holds
        /// something, the answer is the error of the job and not of the source. The answers that
        /// `result_4xx_is_failure` excludes never are.
        pub result_failure_at: Vec<String>,
        /// Whether an HTML page can be the result. Unset or `false`: it counts as an error page, and
        /// the result is fetched again.
        pub result_may_be_html: bool,
        /// JSON pointers to the error of a failed job in the status body. The first that is present
        /// counts.
        pub error_at: Vec<String>,
        /// A JSON pointer to the operation that the job runs, in the status body. Polling learns by it.
        pub endpoint_at: String,
        /// A JSON pointer to the job's own metadata in the status body, an object.
        pub metadata_at: String,
        /// JSON pointers to the creation time of the job in the status body: epoch seconds,
        /// milliseconds or ISO 8601.
        pub created_at: Vec<String>,
        /// JSON pointers to its start time.
        pub started_at: Vec<String>,
        /// JSON pointers to its end time.
        pub ended_at: Vec<String>,
        /// JSON pointers to a value that differs between runs of a job, such as a counter of retries.
        pub attempt_at: Vec<String>,
        /// A header beside `Retry-After` with the wait before the next poll. A name that ends in `-ms`
        /// counts milliseconds.
        pub poll_hint_header: String,
        /// The path where a POST creates a job. The proxy watches jobs that are created there.
        pub create_path: String,
        /// A JSON pointer to the id of the job in the answer to that POST.
        pub created_id_at: String,
        /// The header of the answer to that POST that names the job by the URL of its status, such as
        /// `Operation-Location`. `created_id_at` counts for an answer without it, and may be missing.
        pub create_location: String,
        /// The path where a POST runs a job again.
        pub retry_path: String,
        /// The path of the list of jobs, with its query: `/v1/jobs?limit=100`.
        pub list_path: String,
        /// A JSON pointer to the array in a page of the list. Empty: the page is the array.
        pub list_at: String,
        /// A JSON pointer to the id of the job in an item of the list.
        pub list_id_at: String,
        /// Where the next page of the list is. Unset: all is on one page.
        pub list_next: ListNext,
        /// Whether the list has newer jobs before older ones. Unset or `true`: a reader can stop at
        /// jobs that it knows. With `false` it reads to the end.
        pub list_newest_first: bool,
        /// Whether the items of the list hold the results of their jobs. Then the list is heavy, and no
        /// page of it takes the place of polls. Unset: `false`.
        pub list_has_results: bool,
        /// JSON pointers to the status word in an item of the list. Unset: `status_at`, as all other
        /// pointers into the status body hold for an item, too.
        pub list_status_at: Vec<String>,
        /// JSON pointers to the creation time in an item. Unset: `created_at`.
        pub list_created_at: Vec<String>,
        /// JSON pointers to the end time in an item. Unset: `ended_at`.
        pub list_ended_at: Vec<String>,
    }
    after {
        /// The budget of `[budgets.NAME]` that this source shares with others, in place of the next two
        /// keys. Its sources share its pauses, too, and learn together that the key is refused.
        pub budget: Option<String> = None,
        /// The most requests a second over all watches of this source, polls and fetches together.
        pub max_requests_per_second: f64 = MAX_REQUESTS_PER_SECOND,
        /// The most requests in flight.
        pub max_in_flight: usize = MAX_IN_FLIGHT,
        /// The longest wait for a status answer, and the longest silence while a result arrives.
        pub timeout: HumanDuration = HumanDuration::secs(30),
        /// The largest result. A finished job with a larger one is fetched again at long intervals.
        pub max_job_size: Size = Size::mib(512),
        /// Whether the stored job also holds the request that made it.
        pub include_request: bool = false,
        /// How long the source may answer 404 for a job before it is lost. Default: 30s for a job that
        /// was never seen, 10m for one that was.
        pub not_found_grace: Option<HumanDuration> = None,
        /// How long after its end a job's result may still appear. Until then the status is requested
        /// again while it does not name the result, and an empty result is fetched again. Afterwards
        /// the status body, or the empty result, is delivered.
        pub result_grace: HumanDuration = HumanDuration::secs(30),
        /// When to poll.
        pub polling: PollingConfig = PollingConfig::default(),
        /// The discovery of jobs by the list of the source. Unset: jobs are watched when they are
        /// registered.
        pub discover: Option<DiscoverConfig> = None,
        /// The webhooks that the source itself sends to `/hooks/NAME`. Unset: it sends none.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub hooks: Option<HooksConfig> = None,
        /// The drop-in proxy at `/proxy/NAME/`, and the proxy for requests to the source.
        #[serde(deserialize_with = "table_or_outgoing")]
        #[schemars(with = "ProxyForm")]
        pub proxy: ProxyConfig = ProxyConfig::default(),
    }
}

impl ProfileKeys {
    /// Returns the keys with the headers and variables of `base` that they lack.
    pub(super) fn with_maps_of(mut self, base: &Self) -> Self {
        for (name, value) in &base.headers {
            if !self.headers.keys().any(|known| known.eq_ignore_ascii_case(name)) {
                self.headers.insert(name.clone(), value.clone());
            }
        }
        for (name, value) in &base.vars {
            self.vars.entry(name.clone()).or_insert_with(|| value.clone());
        }
        self
    }
}
