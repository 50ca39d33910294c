//! The profile of a job API: its paths, its JSON pointers and its status words. It is made from a
//! built-in profile and the keys of the source.

mod http_statuses;
mod merge;
mod read;
mod results;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    sync::Arc,
};

use http::HeaderName;

pub use self::{
    http_statuses::{HttpStatuses, ListedStatus},
    results::{ItemValues, NextPlace, Pages, ResultPlace, ResultRequest, ResultSpec},
};
use self::{
    merge::{keys_of, shared},
    read::ProfileReader,
};
use super::{
    ListProfile, SourceConfig,
    origin::Origin,
    template::{BodyTemplate, Template, TemplateError, is_name},
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
    /// The name of the kind of job. `None`: the only kind of its source, or one without a name.
    pub kind: Option<String>,
    /// The beginnings of the ids of this kind.
    pub id_prefixes: Vec<String>,
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
    /// The body of a status request by `POST`. `None`: the request is a `GET`.
    pub status_post: Option<BodyTemplate>,
    /// The path of a heavier status route.
    pub fallback_status_path: Option<Template>,
    /// The path of a job's result. `None`: the status body is the result.
    pub result_path: Option<Template>,
    /// Several results, in place of one at `result_path`.
    pub results: Vec<ResultSpec>,
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
    /// The HTTP statuses that say how far a job is.
    pub http: HttpStatuses,
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
    /// The header of the answer to a creation that names the job.
    pub create_location: Option<HeaderName>,
    /// The path where a POST creates a job, and the pointer to the id in its answer.
    pub create: Option<(Template, Option<String>)>,
    /// The path where a POST runs a job again.
    pub retry_path: Option<Template>,
    /// The list of jobs.
    pub list: Option<Arc<ListProfile>>,
    /// All pointers into a status body.
    pub(super) wanted: Arc<Pointers>,
    words: HashMap<String, StatusClass>,
}

/// A key of a source that is invalid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidProfile {
    /// The kind whose table has the key; `None` for a key of the source itself.
    pub kind: Option<String>,
    /// The key.
    pub key: &'static str,
    /// Why it is invalid, and what would be valid.
    pub reason: String,
}

impl fmt::Display for InvalidProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(kind) = &self.kind {
            write!(f, "kinds.{kind}.")?;
        }
        write!(f, "{}: {}", self.key, self.reason)
    }
}

impl Profile {
    /// Reads the profile of the default kind of a source: its type, with every key of the source
    /// over it.
    ///
    /// # Errors
    /// Every invalid key of the source.
    pub fn of(config: &SourceConfig) -> Result<Self, Vec<InvalidProfile>> {
        Self::kinds_of(config)?.into_iter().next().ok_or_else(Vec::new)
    }

    /// Reads the profiles of all kinds of job of a source, that of the default kind first.
    ///
    /// # Errors
    /// Every invalid key.
    pub fn kinds_of(config: &SourceConfig) -> Result<Vec<Self>, Vec<InvalidProfile>> {
        let built_in = config.profile.built_in().map(|built_in| built_in.keys);
        let built_in = built_in.as_ref();
        let source = shared(config, built_in);
        let default = source.default_kind.as_deref();
        let tables = [Some(config), built_in].into_iter().flatten().flat_map(|source| source.kinds.keys());
        let others: BTreeSet<&str> =
            tables.map(String::as_str).filter(|name| Some(*name) != default).collect();
        let (mut profiles, mut errors) = (Vec::new(), Vec::new());
        for kind in [default].into_iter().chain(others.into_iter().map(Some)) {
            let is_default = kind == default;
            let keys = keys_of(config, built_in, kind, is_default);
            let mut reader = ProfileReader { errors: Vec::new(), source: &source, kind };
            profiles.extend(reader.profile(&keys));
            for error in reader.errors {
                // What the source itself has wrong is told once.
                if !is_default && !errors.contains(&error) {
                    errors.push(InvalidProfile { kind: kind.map(str::to_owned), ..error });
                } else if is_default {
                    errors.push(error);
                }
            }
        }
        errors.extend(unknown_vars(config, &profiles));
        if errors.is_empty() { Ok(profiles) } else { Err(errors) }
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

    /// Returns the names of all variables of its paths and bodies.
    pub fn known_vars(&self) -> impl Iterator<Item = &str> {
        let names = self.paths().flat_map(Template::names);
        let names = names.chain(self.bodies().flat_map(BodyTemplate::names));
        names.chain(self.requests().flat_map(ResultRequest::names)).filter(|name| *name != "id")
    }

    /// Checks that every path and body can be filled with what a watch brings.
    ///
    /// # Errors
    /// If a value is missing or unfit.
    pub fn check(&self, id: &str, vars: &BTreeMap<String, String>) -> Result<(), TemplateError> {
        self.paths().try_for_each(|path| path.check(id, &[vars, &self.vars]))?;
        self.bodies().try_for_each(|body| body.fill(id, &[vars, &self.vars]).map(drop))?;
        self.requests().try_for_each(|request| request.check(id, [vars, &self.vars]))
    }

    /// Returns the names of the variables of its list that no key sets, and no watch brings.
    pub fn missing_list_vars(&self) -> impl Iterator<Item = &str> {
        self.list_vars().filter(|name| !self.vars.contains_key(*name))
    }

    fn list_vars(&self) -> impl Iterator<Item = &str> {
        self.list.iter().flat_map(|list| list.path.names())
    }

    /// Checks one value of a variable, wherever a path or a body takes it.
    fn check_var(&self, name: &str, value: &str) -> Result<(), TemplateError> {
        self.list.iter().try_for_each(|list| list.path.check_var(name, value))?;
        self.paths().try_for_each(|path| path.check_var(name, value))?;
        self.bodies().try_for_each(|body| body.check_var(name, value))?;
        self.requests().try_for_each(|request| request.check_var(name, value))
    }

    /// Returns whether the delivered body holds several results.
    #[must_use]
    pub fn has_several(&self) -> bool {
        let is_list = |result: &ResultSpec| result.request().is_some_and(|request| request.each_at.is_some());
        self.results.len() > 1 || self.results.iter().any(is_list)
    }

    fn requests(&self) -> impl Iterator<Item = &ResultRequest> {
        self.results.iter().filter_map(ResultSpec::request)
    }

    fn bodies(&self) -> impl Iterator<Item = &BodyTemplate> {
        self.status_post.iter()
    }

    /// Returns the length of the longest beginning that an id shares with those of this kind.
    pub(super) fn matching_prefix(&self, id: &str) -> Option<usize> {
        let matching = self.id_prefixes.iter().filter(|prefix| id.starts_with(prefix.as_str()));
        matching.map(String::len).max()
    }

    fn paths(&self) -> impl Iterator<Item = &Template> {
        let paths = [Some(&self.status_path), self.fallback_status_path.as_ref(), self.result_path.as_ref()];
        paths.into_iter().flatten()
    }
}

/// Returns an error for each variable that no path takes.
fn unknown_vars(config: &SourceConfig, profiles: &[Profile]) -> Vec<InvalidProfile> {
    let takes = |profile: &Profile, name: &String| {
        profile.known_vars().chain(profile.list_vars()).any(|known| known == name)
    };
    let unknown = |kind: Option<&String>, name: &String| InvalidProfile {
        kind: kind.cloned(),
        key: "vars",
        reason: match name == "id" || !is_name(name) {
            true => format!("`{name}` cannot be a variable: letters, digits and _, and not id"),
            false => format!("no path of this source takes the variable `{name}`"),
        },
    };
    let is_unknown = |name: &&String| !profiles.iter().any(|profile| takes(profile, name));
    let of_source = config.vars.keys().filter(is_unknown).map(|name| unknown(None, name));
    let of_kinds = config.kinds.iter().flat_map(|(kind, keys)| {
        let profile = profiles.iter().find(|profile| profile.kind.as_deref() == Some(kind.as_str()));
        let is_unknown = move |name: &&String| !profile.is_some_and(|profile| takes(profile, name));
        keys.vars.keys().filter(is_unknown).map(move |name| unknown(Some(kind), name))
    });
    of_source.chain(of_kinds).collect()
}
