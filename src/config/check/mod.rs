//! Checks beyond types: whether the parts of a configuration fit each other and the machine.

mod auth;
mod server;
mod sinks;
mod sources;
mod text;

use std::path::{Path, PathBuf};

pub(super) use self::sources::unused_budgets;
use self::text::no_control;
use super::{Config, bounds, default_source, node::Node, path::KeyPath, problems::ConfigProblem};
use crate::util::secret::{Secret, SecretSource};

/// The reason of a missing file. It does not name the file, which may be a pasted secret.
const MISSING: &str = "there is no such file";

/// Collects the mistakes of a configuration. Skips values that could not be read.
pub(super) struct Checker<'a> {
    tree: &'a Node,
    problems: Vec<ConfigProblem>,
    /// The keys whose values could not be read.
    unread: Vec<KeyPath>,
    /// The folder of relative paths to secret files; `None` skips their checks.
    secrets_from: Option<PathBuf>,
}

impl<'a> Checker<'a> {
    pub(super) fn new(tree: &'a Node, problems: Vec<ConfigProblem>) -> Self {
        let unread =
            problems.iter().map(|problem| problem.key.clone()).filter(|key| !key.0.is_empty()).collect();
        Self { tree, problems, unread, secrets_from: None }
    }

    pub(super) fn with_secret_files(mut self, directory: &Path) -> Self {
        self.secrets_from = Some(directory.to_owned());
        self
    }

    pub(super) fn into_problems(self) -> Vec<ConfigProblem> {
        self.problems
    }

    pub(super) fn check(&mut self, config: &Config) {
        for (path, reason) in bounds::violations(self.tree) {
            self.report(&path, reason);
        }
        self.server(&config.server);
        self.page(&config.page);
        self.store(&config.store);
        self.log(&config.log);
        self.otlp(&config.otlp);
        for (name, source) in &config.sources {
            self.source(name, source);
            self.budget(name, source, config);
        }
        self.names("budgets");
        self.names("sources");
        for (name, sink) in &config.sinks {
            self.sink(name, sink);
        }
        self.names("sinks");
        self.routes(config);
        self.watch(config);
    }

    /// Checks that the jobs in `watch` have a default source.
    fn watch(&mut self, config: &Config) {
        if let Err(reason) = default_source(config.sources.keys().map(String::as_str))
            && !config.watch.is_empty()
        {
            let reason = format!(
                "its jobs need a default source: {reason}\nhint: register them by `tidings watch --source NAME`"
            );
            self.report(&KeyPath::dotted("watch"), reason);
        }
    }

    /// Whether the value at `path` could not be read, or its place in a list is unknown because
    /// another item could not be read. Routes keep their places.
    fn is_spoilt(&self, path: &KeyPath) -> bool {
        let list = path.list().filter(|list| list.0.len() > 1 || *list == KeyPath::dotted("watch"));
        self.unread.iter().any(|unread| {
            let item_of = unread.list().filter(|list| list.0.len() + 1 == unread.0.len());
            path.within(unread) || (list.is_some() && item_of == list)
        })
    }

    /// Adds a mistake, unless the value has one already.
    fn report(&mut self, path: &KeyPath, reason: impl Into<String>) {
        self.report_at(path, path, reason);
    }

    /// Adds a mistake of the value at `path`, which is missing because of the one at `place`.
    fn report_at(&mut self, path: &KeyPath, place: &KeyPath, reason: impl Into<String>) {
        if !self.is_spoilt(path) && !self.problems.iter().any(|problem| problem.key == *path) {
            let origin = self.tree.origin_of(place);
            self.problems.push(ConfigProblem::new(origin, path.clone(), reason));
        }
    }

    /// Adds a mistake that may disappear without a change of the configuration.
    fn report_transient(&mut self, path: &KeyPath, reason: impl Into<String>) {
        let known = self.problems.len();
        self.report(path, reason);
        self.problems.iter_mut().skip(known).for_each(|problem| problem.is_transient = true);
    }

    fn require(&mut self, path: &KeyPath, verdict: Result<(), String>) {
        if let Err(reason) = verdict {
            self.report(path, reason);
        }
    }

    /// Checks the names of budgets, sources or sinks, which become part of paths and metrics.
    fn names(&mut self, section: &str) {
        let path = KeyPath::dotted(section);
        let tree = self.tree;
        for (name, _) in tree.get(&path).into_iter().flat_map(Node::entries) {
            let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
            if name.is_empty() || name.len() > 64 || !name.bytes().all(good) {
                self.report(&path.join(name), "a name has 1 to 64 of the characters a-z, 0-9, _ and -");
            } else if section == "sinks" && name == crate::deliver::CALLBACK_SINK {
                let reason = "this name is reserved for the webhooks of watches\nhint: choose another name";
                self.report(&path.join(name), reason);
            }
        }
    }

    /// Checks `x` and `x_file` below `table`: at most one is set, and it is usable.
    fn secret(
        &mut self,
        table: &KeyPath,
        key: &str,
        inline: Option<&Secret>,
        file: Option<&Path>,
        validate: fn(&Secret) -> Result<(), String>,
    ) {
        let (key, key_file) = (table.join(key), table.join(format!("{key}_file").as_str()));
        if let Some(secret) = inline {
            self.require(&key, validate(secret));
        }
        let Some(file) = file else { return };
        if inline.is_some() {
            let other = self.tree.origin_of(&key).brief();
            self.report(&key_file, format!("`{key}` is set as well ({other})\nhint: keep one of the two"));
        }
        self.secret_file(&key_file, file, validate);
    }

    /// Checks that a file with one secret exists and is usable.
    fn secret_file(&mut self, key: &KeyPath, file: &Path, validate: fn(&Secret) -> Result<(), String>) {
        let Some(path) = self.found(key, file) else { return };
        let verdict = match SecretSource::file(&path).get() {
            Ok(secret) => validate(&secret).map_err(|reason| format!("in this file: {reason}")),
            Err(error) => Err(error.about_this_file()),
        };
        self.require_of_file(key, verdict);
    }

    /// Adds the mistake of a file, whose content may change.
    fn require_of_file(&mut self, key: &KeyPath, verdict: Result<(), String>) {
        if let Err(reason) = verdict {
            self.report_transient(key, reason);
        }
    }

    /// Returns the path of a file that `key` names, and reports a missing one. `None` if files are not checked.
    fn found(&mut self, key: &KeyPath, file: &Path) -> Option<PathBuf> {
        let path = self.secrets_from.as_ref()?.join(file);
        if path.exists() {
            return Some(path);
        }
        let hint =
            if file.is_relative() { "\nhint: a relative path begins at the working folder" } else { "" };
        self.report_transient(key, format!("{MISSING}{hint}"));
        None
    }
}

/// Checks a secret that goes into a header.
fn header_secret(secret: &Secret) -> Result<(), String> {
    if secret.expose().trim().is_empty() {
        return Err("it is empty".to_owned());
    }
    no_control(secret.expose())
}
