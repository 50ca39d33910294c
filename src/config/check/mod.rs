//! What no type can tell: whether the parts of a configuration fit one another and the machine.

mod server;
mod sinks;
mod sources;
mod text;

use std::path::{Path, PathBuf};

use self::text::no_control;
use super::{Config, bounds, default_source, node::Node, path::KeyPath, problems::Problem};
use crate::util::secret::{Secret, SecretSource};

/// A pasted secret is no name to repeat, so the file is not named.
const MISSING: &str = "there is no such file; a relative path begins at the working folder";

/// Collects the mistakes of a configuration. A value that could not be read is not judged as well.
pub(super) struct Checker<'a> {
    tree: &'a Node,
    problems: Vec<Problem>,
    /// The keys whose values could not be read.
    unread: Vec<KeyPath>,
    /// The folder that secret files are looked for from; `None` takes them for granted.
    secrets_from: Option<PathBuf>,
}

impl<'a> Checker<'a> {
    pub(super) fn new(tree: &'a Node, problems: Vec<Problem>) -> Self {
        let unread =
            problems.iter().map(|problem| problem.key.clone()).filter(|key| !key.0.is_empty()).collect();
        Self { tree, problems, unread, secrets_from: None }
    }

    pub(super) fn with_secret_files(mut self, directory: &Path) -> Self {
        self.secrets_from = Some(directory.to_owned());
        self
    }

    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    pub(super) fn check(&mut self, config: &Config) {
        for (path, reason) in bounds::violations(self.tree) {
            self.report(&path, reason);
        }
        self.server(&config.server);
        self.store(&config.store);
        self.log(&config.log);
        self.otlp(&config.otlp);
        for (name, source) in &config.sources {
            self.source(name, source);
        }
        self.names("sources");
        for (name, sink) in &config.sinks {
            self.sink(name, sink);
        }
        self.names("sinks");
        self.routes(config);
        self.watch(config);
    }

    /// The jobs in `watch` need a source that is meant without a name.
    fn watch(&mut self, config: &Config) {
        if let Err(reason) = default_source(config.sources.keys().map(String::as_str))
            && !config.watch.is_empty()
        {
            let reason = format!(
                "its jobs belong to the only source, or to `retab`: {reason}, for example by                  `tidings watch --source NAME`"
            );
            self.report(&KeyPath::dotted("watch"), reason);
        }
    }

    /// Whether the value at `path` could not be read, or its place in its list cannot be told because another
    /// item of it could not. Routes keep their places.
    fn is_spoilt(&self, path: &KeyPath) -> bool {
        let list = path.list().filter(|list| list.0.len() > 1 || *list == KeyPath::dotted("watch"));
        self.unread.iter().any(|unread| {
            let item_of = unread.list().filter(|list| list.0.len() + 1 == unread.0.len());
            path.within(unread) || (list.is_some() && item_of == list)
        })
    }

    /// Adds a mistake, unless the value was reported already.
    fn report(&mut self, path: &KeyPath, reason: impl Into<String>) {
        if !self.is_spoilt(path) && !self.problems.iter().any(|problem| problem.key == *path) {
            let origin = self.tree.origin_of(path);
            self.problems.push(Problem::new(origin, path.clone(), reason));
        }
    }

    /// The same, where the reason may pass by itself.
    fn report_passing(&mut self, path: &KeyPath, reason: impl Into<String>) {
        let known = self.problems.len();
        self.report(path, reason);
        self.problems.iter_mut().skip(known).for_each(|problem| problem.may_pass = true);
    }

    fn require(&mut self, path: &KeyPath, verdict: Result<(), String>) {
        if let Err(reason) = verdict {
            self.report(path, reason);
        }
    }

    /// The names of sources and sinks are part of paths and of metrics.
    fn names(&mut self, section: &str) {
        let path = KeyPath::dotted(section);
        let tree = self.tree;
        for (name, _) in tree.get(&path).into_iter().flat_map(Node::entries) {
            let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
            if name.is_empty() || name.len() > 64 || !name.bytes().all(good) {
                self.report(&path.join(name), "a name has 1 to 64 of the characters a-z, 0-9, _ and -");
            } else if section == "sinks" && name == crate::deliver::CALLBACK_SINK {
                let reason = "this name is kept for the webhooks that watches bring along; take another";
                self.report(&path.join(name), reason);
            }
        }
    }

    /// `x` and `x_file` below `table`: not both, and usable.
    fn secret(
        &mut self,
        table: &KeyPath,
        key: &str,
        inline: Option<&Secret>,
        file: Option<&Path>,
        judge: fn(&Secret) -> Result<(), String>,
    ) {
        let (key, key_file) = (table.join(key), table.join(format!("{key}_file").as_str()));
        if let Some(secret) = inline {
            self.require(&key, judge(secret));
        }
        let Some(file) = file else { return };
        if inline.is_some() {
            let other = self.tree.origin_of(&key).brief();
            self.report(&key_file, format!("`{key}` is set as well ({other}); keep one of the two"));
        }
        self.secret_file(&key_file, file, judge);
    }

    /// A file with one secret is there, and usable.
    fn secret_file(&mut self, key: &KeyPath, file: &Path, judge: fn(&Secret) -> Result<(), String>) {
        let Some(path) = self.found(key, file) else { return };
        let verdict = match SecretSource::file(&path).get() {
            Ok(secret) => judge(&secret).map_err(|reason| format!("in this file: {reason}")),
            Err(error) => Err(error.about_this_file()),
        };
        self.require_of_file(key, verdict);
    }

    /// A verdict on the content of a file, which may be another at the next time.
    fn require_of_file(&mut self, key: &KeyPath, verdict: Result<(), String>) {
        if let Err(reason) = verdict {
            self.report_passing(key, reason);
        }
    }

    /// Where a file lies that `key` names; one that is missing is reported. `None` where files are taken for granted.
    fn found(&mut self, key: &KeyPath, file: &Path) -> Option<PathBuf> {
        let path = self.secrets_from.as_ref()?.join(file);
        if path.exists() {
            return Some(path);
        }
        self.report_passing(key, MISSING);
        None
    }
}

/// A secret that goes into a header.
fn header_secret(secret: &Secret) -> Result<(), String> {
    if secret.expose().trim().is_empty() {
        return Err("it is empty".to_owned());
    }
    no_control(secret.expose())
}
