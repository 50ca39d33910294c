//! `[sources.NAME]`: an upstream API and how hard it may be asked.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    schedule::PollingConfig,
    secret::Secret,
    units::{Size, Span},
};

/// A built-in description of a job API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SourceType {
    /// Retab's Jobs API.
    #[default]
    Retab,
}

/// One upstream API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SourceConfig {
    /// The built-in profile that says how this API is spoken to.
    #[serde(rename = "type")]
    pub profile: SourceType,
    /// Scheme, host and optional path of the API; defaults to the profile's own.
    pub base_url: Option<String>,
    /// The key, sent in `api_key_header`.
    pub api_key: Option<Secret>,
    /// The file that holds the key; read again when it changes.
    pub api_key_file: Option<PathBuf>,
    /// The header that carries the key: `Api-Key`, or `Authorization` for `Bearer KEY`.
    pub api_key_header: Option<String>,
    /// Requests per second over all watches of this source, polls and fetches together.
    pub max_requests_per_second: f64,
    /// Requests under way at once.
    pub max_in_flight: usize,
    /// The longest wait for a status answer, and the longest silence while a job is read.
    pub timeout: Span,
    /// A finished job over this size is given up as lost.
    pub max_job_size: Size,
    /// Whether the stored job also holds the request that made it.
    pub include_request: bool,
    /// How long after its registration a job that the source does not know may still appear.
    pub not_found_grace: Span,
    /// When to look.
    pub polling: PollingConfig,
}

impl Default for SourceConfig {
    fn default() -> Self {
        Self {
            profile: SourceType::Retab,
            base_url: None,
            api_key: None,
            api_key_file: None,
            api_key_header: None,
            max_requests_per_second: 20.0,
            max_in_flight: 32,
            timeout: Span::secs(30),
            max_job_size: Size::mib(512),
            include_request: false,
            not_found_grace: Span::secs(30),
            polling: PollingConfig::default(),
        }
    }
}
