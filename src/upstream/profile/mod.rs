//! How a job API is spoken to, as a record: paths, pointers and what each status word means. Made from a built-in
//! profile and what the configuration says otherwise.

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

/// The word that stands for every other one.
const ANY_OTHER: &str = "*";

/// A job API as it is spoken to.
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
    /// The light status of a job.
    pub status_path: Template,
    /// The same from a heavier route.
    pub fallback_status_path: Option<Template>,
    /// The result of a job; the status body where there is none.
    pub result_path: Option<Template>,
    /// The part of the result that is delivered; empty for all of it.
    pub result_at: String,
    /// Where the result repeats the status.
    pub result_status_at: Vec<String>,
    /// A 4xx to the request for the result is the error of the job.
    pub result_4xx_is_failure: bool,
    /// Where an error answer to the request for the result says that it is the error of the job.
    pub result_failure_at: Vec<String>,
    /// An HTML page can be the result.
    pub result_may_be_html: bool,
    /// Where the status word is.
    pub status_at: Vec<String>,
    /// Where the body says that the job has not ended, whatever its status word says.
    pub pending_while: Vec<String>,
    /// Where the body of a job that counts as completed says that it failed.
    pub failed_at: Vec<String>,
    /// A body without a status is an error.
    pub status_required: bool,
    /// Words in small letters that say that it is being worked on.
    pub running: Vec<String>,
    /// Where the error of the job is.
    pub error_at: Vec<String>,
    /// Where the operation is.
    pub endpoint_at: Option<String>,
    /// Where the metadata is.
    pub metadata_at: Option<String>,
    /// Where the times are.
    pub created_at: Vec<String>,
    /// When it was started.
    pub started_at: Vec<String>,
    /// When it ended.
    pub ended_at: Vec<String>,
    /// What tells runs apart.
    pub attempt_at: Vec<String>,
    /// A header with the time to wait, and whether it counts milliseconds.
    pub poll_hint: Option<(HeaderName, bool)>,
    /// Where a POST creates a job, and where its answer has the id.
    pub create: Option<(Template, String)>,
    /// Where a POST runs a job again.
    pub retry_path: Option<Template>,
    /// All of these in a status body.
    pub(super) wanted: Arc<Pointers>,
    words: HashMap<String, StatusClass>,
}

/// A key of a source that does not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {reason}")]
pub struct InvalidProfile {
    /// The key.
    pub key: &'static str,
    /// Why, and what would fit.
    pub reason: String,
}

impl Profile {
    /// The profile of a source: what its type brings, with every key that the source gives itself in its place.
    ///
    /// # Errors
    /// Every key that does not fit.
    pub fn of(config: &SourceConfig) -> Result<Self, Vec<InvalidProfile>> {
        let keys = merged(config);
        let mut reader = ProfileReader { errors: Vec::new(), kind: config.profile.name() };
        let profile = reader.profile(&keys, config.include_request);
        match profile {
            Some(profile) if reader.errors.is_empty() => Ok(profile),
            _ => Err(reader.errors),
        }
    }

    /// What a status word means; the empty one stands for a body that has none.
    #[must_use]
    pub fn classify(&self, word: &str) -> StatusClass {
        let other = self.words.get(ANY_OTHER).filter(|_| !word.is_empty());
        self.words.get(&word.to_lowercase()).or(other).copied().unwrap_or(StatusClass::Unknown)
    }

    /// The names of the variables that a watch has to bring, because nothing else gives them.
    pub fn wanted_vars(&self) -> impl Iterator<Item = &str> {
        self.known_vars().filter(|name| !self.vars.contains_key(*name))
    }

    /// The names of all variables that its paths take.
    pub fn known_vars(&self) -> impl Iterator<Item = &str> {
        self.paths().flat_map(Template::names).filter(|name| *name != "id")
    }

    /// Checks that every path can be filled with what a watch brings.
    ///
    /// # Errors
    /// When a value is missing or unfit.
    pub fn check(&self, id: &str, vars: &BTreeMap<String, String>) -> Result<(), TemplateError> {
        self.paths().try_for_each(|path| path.check(id, &[vars, &self.vars]))
    }

    fn paths(&self) -> impl Iterator<Item = &Template> {
        let paths = [Some(&self.status_path), self.fallback_status_path.as_ref(), self.result_path.as_ref()];
        paths.into_iter().flatten()
    }
}
