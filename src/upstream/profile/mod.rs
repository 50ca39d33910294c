//! The profile of a job API: its paths, its JSON pointers and its status words. It is made from a
//! built-in profile and the keys of the source.

mod merge;
mod read;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use http::HeaderName;

use self::{merge::merged, read::ProfileReader};
use super::{
    SourceConfig,
    origin::Origin,
    template::{Template, TemplateError},
};
use crate::{
    model::status_answer::StatusClass,
    util::{json_slice::Pointers, secret::SecretValue},
};

/// The word that stands for every other word.
const ANY_OTHER: &str = "*";

/// A job API, as the client speaks to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// Scheme, host and path that begin every request, without a slash at the end.
    pub base: String,
    /// The origins that may get credentials, that of `base` first.
    pub origins: Vec<Origin>,
    /// The header that carries the key, and the word before it.
    pub key_header: (HeaderName, Option<String>),
    /// Further headers.
    pub headers: BTreeMap<String, SecretValue>,
    /// Variables for every watch.
    pub vars: BTreeMap<String, String>,
    /// The path of a job's light status.
    pub status_path: Template,
    /// The path of a heavier status route.
    pub fallback_status_path: Option<Template>,
    /// The path of a job's result. `None`: the status body is the result.
    pub result_path: Option<Template>,
    /// The pointer to the part of the result that is delivered. Empty: all of it.
    pub result_at: String,
    /// The pointers to the status in the result.
    pub result_status_at: Vec<String>,
    /// Whether a 4xx to the request for the result is the error of the job.
    pub result_4xx_is_failure: bool,
    /// The pointers to the error of the job in an error answer to the request for the result.
    pub result_failure_at: Vec<String>,
    /// Whether an HTML page can be the result.
    pub result_may_be_html: bool,
    /// The pointers to the status word.
    pub status_at: Vec<String>,
    /// The pointers to values that keep a job pending, whatever its status word is.
    pub pending_while: Vec<String>,
    /// The pointers to the failure of a job that counts as completed.
    pub failed_at: Vec<String>,
    /// Whether a body without a status is an error.
    pub status_required: bool,
    /// The status words, in lower case, of a job that is being worked on.
    pub running: Vec<String>,
    /// The pointers to the error of the job.
    pub error_at: Vec<String>,
    /// The pointer to the operation.
    pub endpoint_at: Option<String>,
    /// The pointer to the metadata.
    pub metadata_at: Option<String>,
    /// The pointers to the creation time.
    pub created_at: Vec<String>,
    /// The pointers to the start time.
    pub started_at: Vec<String>,
    /// The pointers to the end time.
    pub ended_at: Vec<String>,
    /// The pointers to a value that differs between runs.
    pub attempt_at: Vec<String>,
    /// The header with the wait before the next poll, and whether it counts milliseconds.
    pub poll_hint: Option<(HeaderName, bool)>,
    /// The path where a POST creates a job, and the pointer to the id in its answer.
    pub create: Option<(Template, String)>,
    /// The path where a POST runs a job again.
    pub retry_path: Option<Template>,
    /// All pointers into a status body.
    pub(super) wanted: Arc<Pointers>,
    words: HashMap<String, StatusClass>,
}

/// A key of a source that is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {reason}")]
pub struct InvalidProfile {
    /// The key.
    pub key: &'static str,
    /// Why it is invalid, and what would be valid.
    pub reason: String,
}

impl Profile {
    /// Reads the profile of a source: its type, with every key of the source over it.
    ///
    /// # Errors
    /// Every invalid key.
    pub fn of(config: &SourceConfig) -> Result<Self, Vec<InvalidProfile>> {
        let keys = merged(config);
        let mut reader = ProfileReader { errors: Vec::new(), kind: config.profile.name() };
        let profile = reader.profile(&keys, config.include_request);
        match profile {
            Some(profile) if reader.errors.is_empty() => Ok(profile),
            _ => Err(reader.errors),
        }
    }

    /// Returns what a status word means. The empty word stands for a body without one.
    #[must_use]
    pub fn classify(&self, word: &str) -> StatusClass {
        let other = self.words.get(ANY_OTHER).filter(|_| !word.is_empty());
        self.words.get(&word.to_lowercase()).or(other).copied().unwrap_or(StatusClass::Unknown)
    }

    /// Returns the names of the variables that a watch must bring, since nothing else sets them.
    pub fn wanted_vars(&self) -> impl Iterator<Item = &str> {
        self.known_vars().filter(|name| !self.vars.contains_key(*name))
    }

    /// Returns the names of all variables of its paths.
    pub fn known_vars(&self) -> impl Iterator<Item = &str> {
        self.paths().flat_map(Template::names).filter(|name| *name != "id")
    }

    /// Checks that every path can be filled with what a watch brings.
    ///
    /// # Errors
    /// If a value is missing or unfit.
    pub fn check(&self, id: &str, vars: &BTreeMap<String, String>) -> Result<(), TemplateError> {
        self.paths().try_for_each(|path| path.check(id, &[vars, &self.vars]))
    }

    fn paths(&self) -> impl Iterator<Item = &Template> {
        let paths = [Some(&self.status_path), self.fallback_status_path.as_ref(), self.result_path.as_ref()];
        paths.into_iter().flatten()
    }
}
