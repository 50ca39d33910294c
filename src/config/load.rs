//! Loads a configuration: from a file, the environment and the flags to a checked configuration.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    io::ErrorKind,
    mem,
    path::{Path, PathBuf},
};

use super::{
    Config, Content, check, file,
    layers::Layers,
    literal,
    node::{Node, Origin},
    path::KeyPath,
    problems::{ConfigError, ConfigProblem},
    read, renamed,
};
use crate::telemetry::LogFormat;

/// The default file, in the working folder.
const LOCAL_FILE: &str = "tidings.toml";

/// The default file if the working folder has none.
const SYSTEM_FILE: &str = "/etc/tidings/tidings.toml";

/// The keys that the command line sets. They override all others.
#[derive(Clone, Debug, Default)]
pub struct FlagOverrides {
    /// `--config`: the file.
    pub config: Option<PathBuf>,
    /// `--listen`: `server.listen`.
    pub listen: Option<String>,
    /// `--allowed-host`: names that are added to `server.allowed_hosts` of any layer.
    pub allowed_hosts: Vec<String>,
    /// `--data-dir`: `store.path`.
    pub data_dir: Option<PathBuf>,
    /// `--webhook`: the URL of the sink named `webhook`.
    pub webhook: Option<String>,
    /// `--out`: the folder of the sink named `disk`.
    pub out: Option<PathBuf>,
    /// `--watch`: replaces `watch`, as every later layer does.
    pub watch: Vec<String>,
    /// `--log-level`: `log.level`.
    pub log_level: Option<String>,
    /// `--log-format`: `log.format`.
    pub log_format: Option<LogFormat>,
}

/// Finds, merges, reads and checks a configuration.
///
/// The loader gets all its inputs as arguments, so that a test does not depend on its process.
///
/// The source `retab` is built in. It exists unless the layers name other sources and not `retab`.
#[derive(Clone, Debug)]
pub struct Loader {
    flags: FlagOverrides,
    environment: BTreeMap<String, OsString>,
    directory: PathBuf,
    system_file: PathBuf,
    secret_files: bool,
    only: Option<Vec<KeyPath>>,
}

/// A configuration without mistakes.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// The file that was read.
    pub file: Option<PathBuf>,
    /// The origin of each value that is not a default. A list is one value unless it holds tables.
    pub origins: BTreeMap<KeyPath, Origin>,
    /// The content of the file.
    pub content: Content,
    /// Surprises in it: values that are taken literally.
    pub warnings: Vec<ConfigProblem>,
}

impl Loaded {
    /// Returns the sources without a key.
    pub(crate) fn sources_without_a_key(&self) -> impl Iterator<Item = &str> {
        let sources = self.config.sources.iter();
        let keyless = sources.filter(|(_, source)| {
            source.api_key.is_none() && source.api_key_file.is_none() && source.auth.is_none()
        });
        keyless.map(|(name, _)| name.as_str())
    }

    /// Logs the warnings, and the sources without a key.
    pub fn warn(&self) {
        for source in self.sources_without_a_key() {
            tracing::info!(source, "no api_key or api_key_file is configured; requests carry none");
        }
        for warning in &self.warnings {
            let (key, place, hint) = (&warning.key, &warning.origin, warning.hint());
            tracing::warn!(%key, %place, hint, "configuration: {}", warning.reason());
        }
    }

    /// Returns itself, unless the file resembles a remainder of `before`. Then that is a mistake.
    ///
    /// # Errors
    /// See [`Content::loss`].
    pub(crate) fn unless_it_lost(self, before: &Content) -> Result<Self, ConfigError> {
        let (Some(file), Some(reason)) = (&self.file, self.content.loss(before)) else { return Ok(self) };
        Err(ConfigError::new(vec![ConfigProblem::about_file(file, None, reason).transient()]))
    }

    /// Returns the origin of the value at `path`.
    #[must_use]
    pub fn origin(&self, path: &KeyPath) -> Origin {
        let mut path = Some(path.clone());
        while let Some(at) = path {
            // A variable may set a whole table.
            if let Some(origin) = self.origins.get(&at) {
                return origin.clone();
            }
            path = at.parent();
        }
        Origin::Default
    }
}

impl Loader {
    /// Returns a loader for these flags, this environment and this working folder.
    pub fn new<N, V>(
        flags: FlagOverrides,
        environment: impl IntoIterator<Item = (N, V)>,
        directory: impl Into<PathBuf>,
    ) -> Self
    where
        N: Into<String>,
        V: Into<OsString>,
    {
        Self {
            flags,
            environment: environment.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
            directory: directory.into(),
            system_file: PathBuf::from(SYSTEM_FILE),
            secret_files: true,
            only: None,
        }
    }

    /// Returns a loader for these flags and the environment and working folder of this process.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    pub(crate) fn from_process(flags: FlagOverrides) -> Self {
        // A variable whose name is not UTF-8 is no key.
        let environment =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        // A path relative to "." is relative to the working folder, whatever its name is.
        Self::new(flags, environment, ".")
    }

    /// Skips the checks of secret files, for a machine without them.
    #[must_use]
    pub(crate) fn without_secret_files(mut self) -> Self {
        self.secret_files = false;
        self
    }

    /// Reads only these keys. Ignores mistakes elsewhere, and does not check whether the parts fit
    /// each other. For commands that need few keys of another process's configuration.
    #[must_use]
    pub fn only(mut self, keys: &[&str]) -> Self {
        self.only = Some(keys.iter().map(|key| KeyPath::dotted(key)).collect());
        self
    }

    /// Replaces the path of the system's file.
    #[cfg(test)]
    #[must_use]
    pub(crate) fn with_system_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.system_file = path.into();
        self
    }

    /// Returns a loader for the same file. If that file disappears, the loader must not fall back
    /// to the next place.
    #[must_use]
    pub fn again(mut self, loaded: &Loaded) -> Self {
        self.flags.config.clone_from(&loaded.file);
        self
    }

    /// Loads the configuration.
    ///
    /// # Errors
    /// Every mistake. A mistake in the file's syntax comes alone, for it hides the others.
    pub fn load(&self) -> Result<Loaded, ConfigError> {
        let mut layers = Layers::default();
        let file = self.file();
        let mut content = Content::default();
        if let Some(shown) = &file {
            let mut parsed = file::read(&self.directory.join(shown), shown)
                .map_err(|problem| ConfigError::new(vec![self.naming_the_cause(problem)]))?;
            content = mem::take(&mut parsed.content);
            layers.add_file(shown.clone(), parsed);
        }
        layers.add_environment(&self.environment);
        layers.add_flags(&self.flags);
        let tags = mem::take(&mut layers.tags);
        let (mut tree, mut problems) = layers.merge();
        renamed::accept(&mut tree, &mut problems);
        let mut config = read::config(tree.clone(), &mut problems);
        config.server.allowed_hosts.extend(self.flags.allowed_hosts.iter().cloned());
        let problems = self.mistakes(&tree, &config, problems);
        if problems.is_empty() {
            let (origins, mut warnings) = (tree.origins(), literal::warnings(&tree, &tags));
            warnings.extend(check::unused_budgets(&tree, &config));
            Ok(Loaded { config, file, origins, content, warnings })
        } else {
            Err(ConfigError::new(problems))
        }
    }

    /// Returns the mistakes that count: those `found` by reading, and those of the checks.
    fn mistakes(&self, tree: &Node, config: &Config, mut found: Vec<ConfigProblem>) -> Vec<ConfigProblem> {
        if let Some(only) = &self.only {
            let is_needed = |key: &KeyPath| only.iter().any(|only| key.within(only) || only.within(key));
            found.retain(|problem| !problem.key.0.is_empty() && is_needed(&problem.key));
            return found;
        }
        let mut checker = check::Checker::new(tree, found);
        if self.secret_files {
            checker = checker.with_secret_files(&self.directory);
        }
        checker.check(config);
        checker.into_problems()
    }

    /// Returns the file to read: the named one, or the first that exists.
    fn file(&self) -> Option<PathBuf> {
        if let Some(named) = self.flags.config.clone().or_else(|| self.named_by_environment()) {
            return Some(named);
        }
        // A file that cannot be read exists. Skipping it would start another configuration.
        let there = |path: &Path| {
            let found = fs::symlink_metadata(self.directory.join(path));
            !found.is_err_and(|error| matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory))
        };
        [PathBuf::from(LOCAL_FILE), self.system_file.clone()].into_iter().find(|path| there(path))
    }

    fn named_by_environment(&self) -> Option<PathBuf> {
        self.environment.get("TIDINGS_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from)
    }

    /// Adds to a missing file the flag or the variable that names it.
    fn naming_the_cause(&self, problem: ConfigProblem) -> ConfigProblem {
        if problem.reason() != file::NOT_THERE {
            return problem;
        }
        match (&self.flags.config, self.named_by_environment()) {
            // clap reads the variable as the flag.
            (named, Some(by_variable)) if named.as_ref().is_none_or(|named| *named == by_variable) => {
                problem.hinting("TIDINGS_CONFIG names the file")
            }
            (Some(_), _) => problem.hinting("--config names the file"),
            (None, _) => problem,
        }
    }
}
