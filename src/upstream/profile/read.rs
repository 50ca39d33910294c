//! Reads the keys of a source into a [`Profile`], and collects the errors.

use std::{collections::HashMap, sync::Arc};

use http::{HeaderName, header::AUTHORIZATION};

use super::{HttpStatuses, InvalidProfile, Profile, ResultSpec};
use crate::{
    model::{job::Outcome, status_answer::StatusClass},
    upstream::{
        ListProfile, NextPage, Outcomes, ProfileKeys, SourceConfig,
        answer::wanted,
        config::{ResultConfig, StatusMethod},
        origin::{Origin, base_url},
        template::{BodyTemplate, Template, check_pointer, is_absolute},
    },
    util::secret::Secret,
};

/// The longest name of a kind.
const MAX_KIND: usize = 64;

/// The reader of the keys of one kind, with the errors so far.
pub(super) struct ProfileReader<'a> {
    pub(super) errors: Vec<InvalidProfile>,
    /// The source, with the keys that its kinds share.
    pub(super) source: &'a SourceConfig,
    /// The name of the kind.
    pub(super) kind: Option<&'a str>,
}

impl ProfileReader<'_> {
    fn invalid(&mut self, key: &'static str, reason: impl Into<String>) {
        self.errors.push(InvalidProfile { kind: None, key, reason: reason.into() });
    }

    /// Reports a key that is missing.
    fn needed(&mut self, key: &'static str, what: &str) {
        let reason = match self.kind {
            Some(kind) => format!("the kind `{kind}` needs it{what}"),
            None => format!("type = \"{}\" needs it{what}", self.source.profile),
        };
        self.invalid(key, reason);
    }

    pub(super) fn profile(&mut self, keys: &ProfileKeys) -> Option<Profile> {
        self.check_kind();
        let status_path = self.template("status_path", keys.status_path.as_deref());
        if keys.status_path.is_none() {
            self.needed("status_path", "");
        }
        let fallback = self.template("fallback_status_path", keys.fallback_status_path.as_deref());
        let plain = self.template("result_path", keys.result_path.as_deref());
        let key = "result_with_request_path";
        let with = self.template(key, keys.result_with_request_path.as_deref());
        let (base, origins) = self.origins(keys);
        let results = self.results(keys, &origins);
        let result_path = with.filter(|_| self.source.include_request).or(plain);
        let result_path = result_path.filter(|_| results.is_empty());
        let paths = [
            ("status_path", &status_path),
            ("fallback_status_path", &fallback),
            ("result_path", &result_path),
        ];
        for (key, path) in paths {
            self.own_origin(key, path.as_ref(), &origins);
        }
        let http = self.http(keys);
        let status_at = self.pointers("status_at", keys.status_at.as_ref());
        if status_at.is_empty() && keys.status_http.is_none() {
            self.needed("status_at", ": where the status body has the status");
        }
        let has_words = !status_at.is_empty() || keys.status_http.is_none();
        let words = if has_words { self.words(keys.outcomes.as_ref()) } else { HashMap::new() };
        if !has_words && keys.outcomes.is_some() {
            self.invalid("outcomes", "it gives words a meaning, and status_at, where they are, is missing");
        }
        let is_end = |class: &StatusClass| matches!(class, StatusClass::Finished(_));
        if !http.has_end() && !words.values().any(is_end) {
            match (&keys.status_http, &keys.outcomes) {
                (Some(_), _) => self.invalid("status_http", "no code ends a job, so no watch would ever end"),
                (None, Some(_)) => self.invalid("outcomes", "no word ends a job, so no watch would ever end"),
                (None, None) => {}
            }
        }
        let result_status_at = match result_path {
            Some(_) => self.pointers("result_status_at", keys.result_status_at.as_ref()),
            None => status_at.clone(),
        };
        let mut profile = Profile {
            kind: self.kind.map(str::to_owned),
            id_prefixes: self.id_prefixes(keys),
            key_header: self.key_header(),
            headers: keys.headers.clone(),
            vars: keys.vars.clone(),
            status_post: self.status_post(keys),
            fallback_status_path: fallback,
            result_path,
            result_at: match results.is_empty() {
                true => self.pointer("result_at", keys.result_at.as_ref()).unwrap_or_default(),
                false => String::new(),
            },
            results,
            result_status_at,
            result_4xx_is_failure: keys.result_4xx_is_failure.unwrap_or(false),
            result_may_be_html: keys.result_may_be_html.unwrap_or(false),
            http,
            status_at,
            pending_while: self.pointers("pending_while", keys.pending_while.as_ref()),
            result_failure_at: self.pointers("result_failure_at", keys.result_failure_at.as_ref()),
            failed_at: self.pointers("failed_at", keys.failed_at.as_ref()),
            status_required: keys.status_required.unwrap_or(false),
            running: keys.running.iter().flatten().map(|word| word.to_lowercase()).collect(),
            error_at: self.pointers("error_at", keys.error_at.as_ref()),
            endpoint_at: self.pointer("endpoint_at", given(keys.endpoint_at.as_ref())),
            metadata_at: self.pointer("metadata_at", given(keys.metadata_at.as_ref())),
            created_at: self.pointers("created_at", keys.created_at.as_ref()),
            started_at: self.pointers("started_at", keys.started_at.as_ref()),
            ended_at: self.pointers("ended_at", keys.ended_at.as_ref()),
            attempt_at: self.pointers("attempt_at", keys.attempt_at.as_ref()),
            poll_hint: self.poll_hint(keys.poll_hint_header.as_deref()),
            create: self.create(keys),
            create_location: self.create_location(keys),
            retry_path: self.template("retry_path", keys.retry_path.as_deref()),
            base: base.unwrap_or_default(),
            origins,
            words,
            list: None,
            wanted: Arc::default(),
            status_path: status_path?,
        };
        profile.wanted = Arc::new(wanted(&profile, None));
        profile.list = self.list(keys, &profile);
        self.vars(keys, &profile);
        Some(profile)
    }

    /// Reads a path. The empty text stands for none, so that a kind can do without a path of its
    /// source. `{kind}` stands for the name of the kind.
    fn template(&mut self, key: &'static str, text: Option<&str>) -> Option<Template> {
        let text = text.filter(|text| !text.is_empty())?;
        match Template::parse(&self.with_kind(text)) {
            Ok(template) if template.names().any(|name| name.contains('/')) => {
                self.invalid(key, "a placeholder is neither {name}, {+name} nor {/pointer}");
                None
            }
            Ok(template) if template.takes_body() && !key.starts_with("result") => {
                self.invalid(key, "only the path of the result can take values from the status body");
                None
            }
            Ok(template) => Some(template),
            Err(reason) => {
                self.invalid(key, reason);
                None
            }
        }
    }

    /// Returns a path with the name of the kind in it.
    fn with_kind(&self, text: &str) -> String {
        match self.kind {
            Some(kind) => text.replace("{+kind}", kind).replace("{kind}", kind),
            None => text.to_owned(),
        }
    }

    fn status_post(&mut self, keys: &ProfileKeys) -> Option<BodyTemplate> {
        let is_post = keys.status_method == Some(StatusMethod::Post);
        let text = keys.status_body.as_deref().filter(|text| !text.is_empty());
        if text.is_some() && !is_post {
            self.invalid("status_body", "only a POST has a body; set status_method = \"POST\"");
        }
        let text = text.filter(|_| is_post);
        let media_type = media_type(keys);
        match text.map(|text| BodyTemplate::parse(text, media_type.as_ref().map(Secret::expose))) {
            None => is_post.then(BodyTemplate::empty),
            Some(Ok(body)) => Some(body),
            Some(Err(reason)) => {
                self.invalid("status_body", reason);
                None
            }
        }
    }

    fn pointer(&mut self, key: &'static str, text: Option<&String>) -> Option<String> {
        let text = text?;
        if let Err(reason) = check_pointer(text) {
            self.invalid(key, reason);
        }
        Some(text.clone())
    }

    fn pointers(&mut self, key: &'static str, list: Option<&Vec<String>>) -> Vec<String> {
        list.into_iter().flatten().filter_map(|text| self.pointer(key, Some(text))).collect()
    }

    fn origins(&mut self, keys: &ProfileKeys) -> (Option<String>, Vec<Origin>) {
        let Some(text) = &self.source.base_url else {
            let reason = format!("type = \"{}\" needs it: where this API is", self.source.profile);
            self.invalid("base_url", reason);
            return (None, Vec::new());
        };
        let base = match base_url(text, keys.status_path.as_deref().unwrap_or_default()) {
            Ok(base) => base,
            Err(reason) => {
                self.invalid("base_url", reason);
                return (None, Vec::new());
            }
        };
        let mut origins: Vec<Origin> = Origin::of(&base).into_iter().collect();
        for text in self.source.allow_origins.iter().flatten() {
            match Origin::parse(text) {
                Ok(origin) => origins.push(origin),
                Err(reason) => self.invalid("allow_origins", reason),
            }
        }
        (Some(base), origins)
    }

    fn list(&mut self, keys: &ProfileKeys, profile: &Profile) -> Option<Arc<ListProfile>> {
        if keys.list_path.as_ref().is_none_or(String::is_empty) {
            let others = [
                ("list_at", keys.list_at.is_some()),
                ("list_id_at", keys.list_id_at.is_some()),
                ("list_next", keys.list_next.is_some()),
            ];
            let is_off = keys.list_path.is_some();
            if let Some((key, _)) = others.into_iter().find(|(_, is_set)| *is_set && !is_off) {
                self.invalid(key, "it goes with list_path, the path of the list of jobs");
            }
            return None;
        }
        let path = self.template("list_path", keys.list_path.as_deref());
        self.own_origin("list_path", path.as_ref(), &profile.origins);
        if path.as_ref().is_some_and(|path| path.names().any(|name| name == "id")) {
            self.invalid("list_path", "the path of a list has no {id}");
        }
        let at = self.pointer("list_at", keys.list_at.as_ref());
        let id_at = self.pointer("list_id_at", keys.list_id_at.as_ref());
        if at.is_none() {
            self.invalid(
                "list_at",
                "list_path needs it: where a page has the array, or \"\" if it is the array",
            );
        }
        if id_at.is_none() {
            self.invalid("list_id_at", "list_path needs it: where an item has the id of its job");
        }
        let next = NextPage::read(keys.list_next.as_ref());
        let next = next.map_err(|reason| self.invalid("list_next", reason)).ok();
        let mut own = |key, list: Option<&Vec<String>>, usual: &Vec<String>| {
            if list.is_some() { self.pointers(key, list) } else { usual.clone() }
        };
        let mut item = Profile {
            status_at: own("list_status_at", keys.list_status_at.as_ref(), &profile.status_at),
            created_at: own("list_created_at", keys.list_created_at.as_ref(), &profile.created_at),
            ended_at: own("list_ended_at", keys.list_ended_at.as_ref(), &profile.ended_at),
            // An item without a status still tells that its job exists.
            status_required: false,
            metadata_at: None,
            ..profile.clone()
        };
        let (path, at, id_at, next) = (path?, at?, id_at?, next?);
        item.wanted = Arc::new(wanted(&item, Some(&id_at)));
        let mut list = ListProfile::new(path, at, id_at, next, item);
        list.newest_first = keys.list_newest_first.unwrap_or(true);
        list.has_results = keys.list_has_results.unwrap_or(false);
        Some(Arc::new(list))
    }

    /// Refuses a path that is a URL of another origin: it would carry the key there.
    fn own_origin(&mut self, key: &'static str, path: Option<&Template>, origins: &[Origin]) {
        let Some(beginning) = path.map(Template::beginning) else { return };
        if !is_absolute(beginning) {
            return;
        }
        // Text behind the host belongs to it unless a slash comes first.
        let host_ends = beginning.split_once("://").is_some_and(|(_, rest)| rest.contains('/'));
        let known = Origin::of(beginning).is_some_and(|origin| origins.contains(&origin));
        if !host_ends || !known {
            let reason = "it is of another origin than base_url, and would get the key; name that origin in allow_origins";
            self.invalid(key, reason);
        }
    }

    fn key_header(&mut self) -> (HeaderName, Option<String>) {
        let name = self.source.api_key_header.as_deref().unwrap_or("authorization");
        let header = name.parse().unwrap_or_else(|_| {
            self.invalid("api_key_header", "it is not a header name");
            AUTHORIZATION
        });
        let usual = (header == AUTHORIZATION).then(|| "Bearer".to_owned());
        let scheme = self.source.api_key_scheme.clone().or(usual).filter(|scheme| !scheme.is_empty());
        if scheme.as_ref().is_some_and(|scheme| !scheme.bytes().all(|byte| byte.is_ascii_graphic())) {
            self.invalid("api_key_scheme", "it is one word such as Bearer or Token");
        }
        (header, scheme)
    }

    fn poll_hint(&mut self, name: Option<&str>) -> Option<(HeaderName, bool)> {
        let name = name?;
        let header = name.parse().ok();
        if header.is_none() {
            self.invalid("poll_hint_header", "it is not a header name");
        }
        Some((header?, name.to_ascii_lowercase().ends_with("-ms")))
    }

    fn create(&mut self, keys: &ProfileKeys) -> Option<(Template, Option<String>)> {
        let path = self.template("create_path", keys.create_path.as_deref());
        let id_at = self.pointer("created_id_at", keys.created_id_at.as_ref());
        let has_path = keys.create_path.as_ref().is_some_and(|path| !path.is_empty());
        let has_id = keys.created_id_at.is_some() || keys.create_location.is_some();
        if has_path != has_id && keys.create_path.as_deref() != Some("") {
            let key = match (has_path, &keys.created_id_at) {
                (true, _) => "create_path",
                (false, Some(_)) => "created_id_at",
                (false, None) => "create_location",
            };
            self.invalid(key, "create_path goes together with created_id_at or create_location");
        }
        Some((path?, id_at))
    }

    fn create_location(&mut self, keys: &ProfileKeys) -> Option<HeaderName> {
        let name = keys.create_location.as_deref()?;
        let header = name.parse().ok();
        if header.is_none() {
            self.invalid("create_location", "it is not a header name");
        }
        header
    }

    fn id_prefixes(&mut self, keys: &ProfileKeys) -> Vec<String> {
        let prefixes = keys.id_prefixes.clone().unwrap_or_default();
        if prefixes.iter().any(String::is_empty) {
            self.invalid("id_prefixes", "an empty beginning is that of every id");
        }
        prefixes
    }

    /// Checks the name of the kind, which becomes part of paths.
    fn check_kind(&mut self) {
        let is_segment = |segment: &str| {
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
            !matches!(segment, "" | "." | "..") && segment.bytes().all(is_plain)
        };
        let is_fit = |kind: &str| kind.len() <= MAX_KIND && kind.split('/').all(is_segment);
        if self.kind.is_some_and(|kind| !is_fit(kind)) {
            let reason = format!(
                "the name of a kind has at most {MAX_KIND} letters, digits, `_`, `.` and `-`, and `/` between them"
            );
            self.invalid("default_kind", reason);
        }
    }

    fn results(&mut self, keys: &ProfileKeys, origins: &[Origin]) -> Vec<ResultSpec> {
        let media_type = media_type(keys);
        let mut results: Vec<ResultSpec> = Vec::new();
        for keys in keys.results.iter().flatten() {
            let path = keys.path.as_deref().map(|path| self.with_kind(path));
            let keys = ResultConfig { path, ..keys.clone() };
            match ResultSpec::of(&keys, media_type.as_ref().map(Secret::expose)) {
                Ok(result) if results.iter().any(|known| known.name == result.name) => {
                    self.invalid("results", format!("two have the name `{}`", result.name));
                }
                Ok(result) => {
                    let own = result.request().filter(|request| !request.is_bare);
                    self.own_origin("results", own.map(|request| &request.path), origins);
                    results.push(result);
                }
                Err(reason) => self.invalid("results", reason),
            }
        }
        results
    }

    fn http(&mut self, keys: &ProfileKeys) -> HttpStatuses {
        match keys.status_http.as_ref().map(HttpStatuses::of) {
            None => HttpStatuses::default(),
            Some(Ok(http)) => http,
            Some(Err(reasons)) => {
                for reason in reasons {
                    self.invalid("status_http", reason);
                }
                HttpStatuses::default()
            }
        }
    }

    fn words(&mut self, outcomes: Option<&Outcomes>) -> HashMap<String, StatusClass> {
        let mut words: HashMap<String, StatusClass> = HashMap::new();
        let Some(outcomes) = outcomes else {
            self.needed("outcomes", ": what each status word means");
            return words;
        };
        let classes = [
            (&outcomes.pending, StatusClass::Pending),
            (&outcomes.completed, StatusClass::Finished(Outcome::Completed)),
            (&outcomes.failed, StatusClass::Finished(Outcome::Failed)),
            (&outcomes.cancelled, StatusClass::Finished(Outcome::Cancelled)),
            (&outcomes.expired, StatusClass::Finished(Outcome::Expired)),
        ];
        for (list, class) in classes {
            for word in list {
                if words.insert(word.to_lowercase(), class).is_some_and(|before| before != class) {
                    self.invalid(
                        "outcomes",
                        format!("`{word}` is in two classes; words are compared without case"),
                    );
                }
            }
        }
        words
    }

    fn vars(&mut self, keys: &ProfileKeys, profile: &Profile) {
        for (name, value) in &keys.vars {
            if profile.check_var(name, value).is_err() {
                self.invalid(
                    "vars",
                    format!("the value of `{name}` cannot stand in a URL, or in status_body"),
                );
            }
        }
    }
}

/// Returns a text that is not empty: the empty one stands for none.
fn given(text: Option<&String>) -> Option<&String> {
    text.filter(|text| !text.is_empty())
}

/// Returns the media type that the headers of a source name.
fn media_type(keys: &ProfileKeys) -> Option<Secret> {
    let header = keys.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
    header.and_then(|(_, value)| value.source().get().ok())
}
