//! `[sources.NAME]`.

use super::{
    Checker, header_secret,
    text::{source_header_name, web_url},
};
use crate::{
    config::{
        Config,
        node::Node,
        path::KeyPath,
        problems::{ConfigProblem, with_hint},
        wording::{did_you_mean, join_words},
    },
    schedule::{PollingConfig, Strategy},
    upstream::{
        DiscoverConfig, Hooks, HooksConfig, Profile, SourceConfig, VerifyMethod, check_plain_secret,
        check_standard_secret,
    },
    util::secret::SecretList,
};

/// Returns a warning for each budget that no source names.
pub(in crate::config) fn unused_budgets(tree: &Node, config: &Config) -> Vec<ConfigProblem> {
    let is_used = |name: &String| config.sources.values().any(|source| source.budget.as_ref() == Some(name));
    let unused = config.budgets.keys().filter(|name| !is_used(name)).map(|name| {
        let path = KeyPath::dotted("budgets").join(name);
        let reason = "no source names this budget; it does nothing";
        let hint = format!("set sources.NAME.budget = \"{name}\"");
        ConfigProblem::new(tree.origin_of(&path), path, with_hint(reason, hint))
    });
    unused.collect()
}

impl Checker<'_> {
    pub(super) fn source(&mut self, name: &str, source: &SourceConfig) {
        let path = KeyPath::dotted("sources").join(name);
        if let Some(url) = &source.base_url {
            let verdict = web_url(url, "use api_key or api_key_file").and_then(|url| {
                match url.query().or(url.fragment()) {
                    Some(_) => Err("a base URL ends before any ? or #".to_owned()),
                    None => Ok(()),
                }
            });
            self.require(&path.join("base_url"), verdict);
        }
        let file = source.api_key_file.as_deref();
        self.secret(&path, "api_key", source.api_key.as_ref(), file, header_secret);
        if let Some(auth) = &source.auth {
            self.auth(&path, source, auth);
        }
        self.headers(&path.join("headers"), &source.headers, source_header_name);
        for (kind, keys) in &source.kinds {
            self.headers(&path.join("kinds").join(kind).join("headers"), &keys.headers, source_header_name);
        }
        let profiles = Profile::kinds_of(source);
        if let (Ok(profiles), Some(discover)) = (&profiles, &source.discover) {
            self.discover(&path.join("discover"), profiles, discover);
        }
        for problem in profiles.err().into_iter().flatten() {
            let table = problem.kind.as_ref().map(|kind| path.join("kinds").join(kind));
            let key = table.as_ref().unwrap_or(&path).join(problem.key);
            if !self.is_spoilt(&key) {
                self.report(&key, problem.reason);
            }
        }
        self.polling(&path.join("polling"), &source.polling);
        if let Some(hooks) = &source.hooks {
            self.hooks(&path.join("hooks"), source, hooks);
        }
        self.outgoing(&path.join("proxy").join("outgoing"), source.proxy.outgoing.as_deref());
    }

    /// Checks that the budget of a source exists, and that it alone has the limits.
    pub(super) fn budget(&mut self, name: &str, source: &SourceConfig, config: &Config) {
        let Some(budget) = &source.budget else { return };
        let path = KeyPath::dotted("sources").join(name);
        let known: Vec<&str> = config.budgets.keys().map(String::as_str).collect();
        let key = path.join("budget");
        // A budget with a mistake exists.
        if self.tree.get(&KeyPath::dotted("budgets").join(budget)).is_none() {
            let reason = match known.as_slice() {
                [] => "there is no such budget: no [budgets.NAME] is configured".to_owned(),
                known => format!("there is no such budget: there is {}", join_words(known, "and")),
            };
            let hint = did_you_mean(budget, known).unwrap_or_else(|| "add a table [budgets.NAME]".to_owned());
            self.report(&key, with_hint(reason, hint));
        }
        for limit in ["max_requests_per_second", "max_in_flight"] {
            let own = path.join(limit);
            if self.tree.get(&own).is_some() {
                let place = self.tree.origin_of(&key).brief();
                let reason = format!("`budget` is set as well ({place}), and the budget has this limit");
                let hint = format!("set `{limit}` in the budget, or leave `budget` out");
                self.report(&own, with_hint(reason, hint));
            }
        }
    }

    fn discover(&mut self, path: &KeyPath, profiles: &[Profile], discover: &DiscoverConfig) {
        let named = |kind: &str| profiles.iter().find(|profile| profile.kind.as_deref() == Some(kind));
        let chosen: Vec<(KeyPath, Option<&Profile>)> = match discover.kinds.as_slice() {
            [] => vec![(path.clone(), profiles.first())],
            kinds => kinds.iter().map(|kind| (path.join("kinds"), named(kind))).collect(),
        };
        for (key, profile) in chosen {
            let Some(profile) = profile else {
                let known: Vec<&str> =
                    profiles.iter().filter_map(|profile| profile.kind.as_deref()).collect();
                let reason = match known.as_slice() {
                    [] => "this source has no kinds".to_owned(),
                    known => format!("the source has no such kind; it has {}", join_words(known, "and")),
                };
                self.report(&key, reason);
                continue;
            };
            if profile.list.is_none() {
                let reason = "its jobs cannot be listed; list_path, list_at and list_id_at describe the list";
                self.report(&key, reason);
            } else if let Some(name) = profile.missing_list_vars().chain(profile.wanted_vars()).next() {
                self.report(
                    &key,
                    format!("the paths of discovered jobs need the variable `{name}`; set it in vars"),
                );
            }
        }
        let is_label = |(key, value): (&String, &String)| {
            (1..=64).contains(&key.chars().count()) && value.chars().count() <= 512
        };
        if discover.labels.len() > 16 || !discover.labels.iter().all(is_label) {
            let reason =
                "a watch has at most 16 labels, with keys of 1 to 64 and values of at most 512 characters";
            self.report(&path.join("labels"), reason);
        }
    }

    fn hooks(&mut self, path: &KeyPath, source: &SourceConfig, hooks: &HooksConfig) {
        for problem in Hooks::of(source).err().into_iter().flatten() {
            // A missing secret may be one that cannot be read.
            let keys = ["secret", "secret_file", "secrets", "secrets_file"].map(|key| path.join(key));
            if problem.key != "secret" || !keys.iter().any(|key| self.is_spoilt(key)) {
                self.report(&path.join(problem.key), problem.reason);
            }
        }
        let validate = match Hooks::method(source) {
            Some(VerifyMethod::StandardWebhooks) => check_standard_secret,
            _ => check_plain_secret,
        };
        let file = hooks.secret_file.as_deref();
        self.secret(path, "secret", hooks.secret.as_ref(), file, validate);
        for (index, secret) in hooks.secrets.iter().enumerate() {
            self.require(&path.join("secrets").join(index), validate(secret));
        }
        let Some(file) = &hooks.secrets_file else { return };
        let at = path.join("secrets_file");
        if !hooks.secrets.is_empty() {
            let other = self.tree.origin_of(&path.join("secrets")).brief();
            self.report(&at, format!("`secrets` is set as well ({other})\nhint: keep one of the two"));
        }
        let Some(file) = self.found(&at, file) else { return };
        let secrets = SecretList::file(&file).get().map_err(|error| error.about_this_file());
        let verdict = secrets.and_then(|secrets| {
            let judge = |secret| validate(secret).map_err(|reason| format!("in this file: {reason}"));
            secrets.iter().try_for_each(judge)
        });
        self.require_of_file(&at, verdict);
    }

    fn polling(&mut self, path: &KeyPath, polling: &PollingConfig) {
        let (min, max) = (path.join("min_interval"), path.join("max_interval"));
        let longest = polling.max_interval();
        let judged = !self.is_spoilt(&min) && !self.is_spoilt(&max);
        if judged && polling.min_interval > longest {
            // The key that was written is the one to change.
            let (at, other, word, value) = match self.tree.get(&min) {
                Some(_) => (min, "max_interval", "longer", longest),
                None => (max, "min_interval", "shorter", polling.min_interval),
            };
            self.report(&at, format!("it is {word} than {other}, which is {value}"));
        }
        self.only_for(path, "fixed", polling.strategy == Strategy::Fixed, &["interval"]);
        let learned = polling.strategy == Strategy::Learned;
        self.only_for(path, "learned", learned, &["cost_of_a_poll", "max_delay", "learn_by_label"]);
        self.learning(path, polling);
    }

    fn learning(&mut self, path: &KeyPath, polling: &PollingConfig) {
        if let Some(max_delay) = polling.max_delay {
            let key = path.join("max_delay");
            if max_delay < polling.min_interval {
                let reason = format!("it is shorter than min_interval, which is {}", polling.min_interval);
                self.report(&key, reason);
            }
        }
        let usable = |label: &String| !label.is_empty() && label.chars().count() <= 64;
        if polling.learn_by_label.as_ref().is_some_and(|label| !usable(label)) {
            self.report(&path.join("learn_by_label"), "the key of a label has 1 to 64 characters");
        }
    }

    /// Reports keys that other strategies ignore.
    fn only_for(&mut self, path: &KeyPath, strategy: &str, chosen: bool, keys: &[&str]) {
        for key in keys.iter().map(|key| path.join(*key)) {
            if !chosen && self.tree.get(&key).is_some() {
                self.report(&key, format!("it is used by strategy = \"{strategy}\" alone"));
            }
        }
    }
}
