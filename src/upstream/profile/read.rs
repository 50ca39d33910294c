//! Reads the keys of a source into a [`Profile`], and collects the errors.

use std::{collections::HashMap, sync::Arc};

use http::{HeaderName, header::AUTHORIZATION};

use super::{InvalidProfile, Profile};
use crate::{
    model::{job::Outcome, status_answer::StatusClass},
    upstream::{
        Outcomes, SourceConfig,
        answer::wanted,
        origin::{Origin, base_url},
        template::{Template, check_pointer, is_absolute, is_name},
    },
};

/// The reader of the keys, with the errors so far.
pub(super) struct ProfileReader {
    pub(super) errors: Vec<InvalidProfile>,
    pub(super) kind: &'static str,
}

impl ProfileReader {
    fn invalid(&mut self, key: &'static str, reason: impl Into<String>) {
        self.errors.push(InvalidProfile { key, reason: reason.into() });
    }

    pub(super) fn profile(&mut self, keys: &SourceConfig, with_request: bool) -> Option<Profile> {
        let status_path = self.template("status_path", keys.status_path.as_deref());
        if keys.status_path.is_none() {
            self.invalid("status_path", format!("type = \"{}\" needs it", self.kind));
        }
        let fallback = self.template("fallback_status_path", keys.fallback_status_path.as_deref());
        let plain = self.template("result_path", keys.result_path.as_deref());
        let key = "result_with_request_path";
        let with = self.template(key, keys.result_with_request_path.as_deref());
        let result_path = with.filter(|_| with_request).or(plain);
        let (base, origins) = self.origins(keys);
        let paths = [
            ("status_path", &status_path),
            ("fallback_status_path", &fallback),
            ("result_path", &result_path),
        ];
        for (key, path) in paths {
            self.own_origin(key, path.as_ref(), &origins);
        }
        let words = self.words(keys.outcomes.as_ref());
        let status_at = self.pointers("status_at", keys.status_at.as_ref());
        if status_at.is_empty() {
            self.invalid(
                "status_at",
                format!("type = \"{}\" needs it: where the status body has the status", self.kind),
            );
        }
        let result_status_at = match result_path {
            Some(_) => self.pointers("result_status_at", keys.result_status_at.as_ref()),
            None => status_at.clone(),
        };
        let mut profile = Profile {
            key_header: self.key_header(keys),
            headers: keys.headers.clone(),
            vars: keys.vars.clone(),
            fallback_status_path: fallback,
            result_path,
            result_at: self.pointer("result_at", keys.result_at.as_ref()).unwrap_or_default(),
            result_status_at,
            result_4xx_is_failure: keys.result_4xx_is_failure.unwrap_or(false),
            result_may_be_html: keys.result_may_be_html.unwrap_or(false),
            status_at,
            pending_while: self.pointers("pending_while", keys.pending_while.as_ref()),
            result_failure_at: self.pointers("result_failure_at", keys.result_failure_at.as_ref()),
            failed_at: self.pointers("failed_at", keys.failed_at.as_ref()),
            status_required: keys.status_required.unwrap_or(false),
            running: keys.running.iter().flatten().map(|word| word.to_lowercase()).collect(),
            error_at: self.pointers("error_at", keys.error_at.as_ref()),
            endpoint_at: self.pointer("endpoint_at", keys.endpoint_at.as_ref()),
            metadata_at: self.pointer("metadata_at", keys.metadata_at.as_ref()),
            created_at: self.pointers("created_at", keys.created_at.as_ref()),
            started_at: self.pointers("started_at", keys.started_at.as_ref()),
            ended_at: self.pointers("ended_at", keys.ended_at.as_ref()),
            attempt_at: self.pointers("attempt_at", keys.attempt_at.as_ref()),
            poll_hint: self.poll_hint(keys.poll_hint_header.as_deref()),
            create: self.create(keys),
            retry_path: self.template("retry_path", keys.retry_path.as_deref()),
            base: base.unwrap_or_default(),
            origins,
            words,
            wanted: Arc::default(),
            status_path: status_path?,
        };
        profile.wanted = Arc::new(wanted(&profile));
        self.vars(keys, &profile);
        Some(profile)
    }

    fn template(&mut self, key: &'static str, text: Option<&str>) -> Option<Template> {
        match Template::parse(text?) {
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

    fn origins(&mut self, keys: &SourceConfig) -> (Option<String>, Vec<Origin>) {
        let Some(text) = &keys.base_url else {
            self.invalid("base_url", format!("type = \"{}\" needs it: where this API is", self.kind));
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
        for text in keys.allow_origins.iter().flatten() {
            match Origin::parse(text) {
                Ok(origin) => origins.push(origin),
                Err(reason) => self.invalid("allow_origins", reason),
            }
        }
        (Some(base), origins)
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

    fn key_header(&mut self, keys: &SourceConfig) -> (HeaderName, Option<String>) {
        let name = keys.api_key_header.as_deref().unwrap_or("authorization");
        let header = name.parse().unwrap_or_else(|_| {
            self.invalid("api_key_header", "it is not a header name");
            AUTHORIZATION
        });
        let usual = (header == AUTHORIZATION).then(|| "Bearer".to_owned());
        let scheme = keys.api_key_scheme.clone().or(usual).filter(|scheme| !scheme.is_empty());
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

    fn create(&mut self, keys: &SourceConfig) -> Option<(Template, String)> {
        let path = self.template("create_path", keys.create_path.as_deref());
        let id_at = self.pointer("created_id_at", keys.created_id_at.as_ref());
        if keys.create_path.is_some() != keys.created_id_at.is_some() {
            let key = if keys.create_path.is_some() { "create_path" } else { "created_id_at" };
            self.invalid(key, "create_path and created_id_at go together");
        }
        path.zip(id_at)
    }

    fn words(&mut self, outcomes: Option<&Outcomes>) -> HashMap<String, StatusClass> {
        let mut words: HashMap<String, StatusClass> = HashMap::new();
        let Some(outcomes) = outcomes else {
            self.invalid(
                "outcomes",
                format!("type = \"{}\" needs it: what each status word means", self.kind),
            );
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
        if !words.values().any(|class| matches!(class, StatusClass::Finished(_))) {
            self.invalid("outcomes", "no word ends a job, so no watch would ever end");
        }
        words
    }

    fn vars(&mut self, keys: &SourceConfig, profile: &Profile) {
        for (name, value) in &keys.vars {
            if name == "id" || !is_name(name) {
                self.invalid(
                    "vars",
                    format!("`{name}` cannot be a variable: letters, digits and _, and not id"),
                );
            } else if !profile.known_vars().any(|known| known == name) {
                self.invalid("vars", format!("no path of this source takes the variable `{name}`"));
            } else if profile.paths().try_for_each(|path| path.check_var(name, value)).is_err() {
                self.invalid("vars", format!("the value of `{name}` cannot stand in a URL"));
            }
        }
    }
}
