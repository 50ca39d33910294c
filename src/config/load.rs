//! From a file, the environment and the flags to a checked configuration.

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
    problems::{ConfigError, Problem},
    read,
};
use crate::telemetry::LogFormat;

/// The file in the working folder that is used when none is named.
const LOCAL_FILE: &str = "tidings.toml";

/// The file that is used when there is no other.
const SYSTEM_FILE: &str = "/etc/tidings/tidings.toml";

/// What the command line says; it overrides everything else.
#[derive(Clone, Debug, Default)]
pub struct FlagOverrides {
    /// `--config`: the file.
    pub config: Option<PathBuf>,
    /// `--listen`: `server.listen`.
    pub listen: Option<String>,
    /// `--allowed-host`: names that are added to `server.hosts`, whatever layer set it.
    pub allowed_hosts: Vec<String>,
    /// `--data-dir`: `store.path`.
    pub data_dir: Option<PathBuf>,
    /// `--webhook`: the URL of the sink named `webhook`.
    pub webhook: Option<String>,
    /// `--out`: the folder of the sink named `disk`.
    pub out: Option<PathBuf>,
    /// `--watch`: takes the place of `watch`, as every later layer does.
    pub watch: Vec<String>,
    /// `--log-level`: `log.level`.
    pub log_level: Option<String>,
    /// `--log-format`: `log.format`.
    pub log_format: Option<LogFormat>,
}

/// Finds, merges, reads and checks a configuration.
///
/// Everything it looks at is handed to it, so that a test is not at the mercy of the process it runs in.
///
/// The source `retab` is built in: it is there even when no layer mentions it, unless the others name
/// sources and `retab` is not among them. Then only the named ones exist.
#[derive(Clone, Debug)]
pub struct Loader {
    flags: FlagOverrides,
    environment: BTreeMap<String, OsString>,
    directory: PathBuf,
    system_file: PathBuf,
    secret_files: bool,
    only: Option<Vec<KeyPath>>,
}

/// A configuration that can be started with.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What holds.
    pub config: Config,
    /// The file that was read.
    pub file: Option<PathBuf>,
    /// Where each value was set that is not a default. A list is one value unless it holds tables.
    pub origins: BTreeMap<KeyPath, Origin>,
    /// What the file said.
    pub content: Content,
    /// What in it may surprise: values that are taken literally.
    pub warnings: Vec<Problem>,
}

impl Loaded {
    /// Returns the sources that have no key.
    pub(crate) fn sources_without_a_key(&self) -> impl Iterator<Item = &str> {
        let sources = self.config.sources.iter();
        let keyless = sources.filter(|(_, source)| source.api_key.is_none() && source.api_key_file.is_none());
        keyless.map(|(name, _)| name.as_str())
    }

    /// Logs the warnings, and the sources that are polled without a key.
    pub fn warn(&self) {
        for source in self.sources_without_a_key() {
            tracing::info!(source, "no api_key or api_key_file is configured; requests carry none");
        }
        for warning in &self.warnings {
            tracing::warn!(key = %warning.key, place = %warning.origin, "configuration: {}", warning.reason);
        }
    }

    /// The same, unless the file looks like what is left of `before`: then that is its mistake.
    ///
    /// # Errors
    /// See [`Content::loss`].
    pub fn unless_it_lost(self, before: &Content) -> Result<Self, ConfigError> {
        let (Some(file), Some(reason)) = (&self.file, self.content.loss(before)) else { return Ok(self) };
        Err(ConfigError::new(vec![Problem::about_file(file, None, reason).passing()]))
    }

    /// Where the value at `path` was set.
    #[must_use]
    pub fn origin(&self, path: &KeyPath) -> Origin {
        let mut path = Some(path.clone());
        while let Some(at) = path {
            // A variable may have set a whole table at once.
            if let Some(origin) = self.origins.get(&at) {
                return origin.clone();
            }
            path = at.parent();
        }
        Origin::Default
    }
}

impl Loader {
    /// A loader for these flags, this environment and this working folder.
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

    /// A loader for these flags and the environment and working folder of this process.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    pub fn from_process(flags: FlagOverrides) -> Self {
        // A variable whose name is not UTF-8 cannot be one of ours.
        let environment =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        // Relative to "." is relative to the working folder, whatever its name.
        Self::new(flags, environment, ".")
    }

    /// Takes secret files for granted: for a check on a machine that does not have them.
    #[must_use]
    pub fn without_secret_files(mut self) -> Self {
        self.secret_files = false;
        self
    }

    /// Reads these keys alone: mistakes elsewhere are passed over, and whether the parts fit one another is not checked. For
    /// commands that need little of a configuration which another process runs with.
    #[must_use]
    pub fn only(mut self, keys: &[&str]) -> Self {
        self.only = Some(keys.iter().map(|key| KeyPath::dotted(key)).collect());
        self
    }

    /// Another place for the file that is used when there is no other.
    #[must_use]
    pub fn with_system_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.system_file = path.into();
        self
    }

    /// A loader for the same file again: a file that was found must not give way to the next place when it is gone.
    #[must_use]
    pub fn again(mut self, loaded: &Loaded) -> Self {
        self.flags.config.clone_from(&loaded.file);
        self
    }

    /// The configuration.
    ///
    /// # Errors
    /// Every mistake that was found. One in the file's syntax stands alone, for what it hides is unknown.
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
        let (tree, mut problems) = layers.merge();
        let mut config = read::config(tree.clone(), &mut problems);
        config.server.hosts.extend(self.flags.allowed_hosts.iter().cloned());
        let problems = self.mistakes(&tree, &config, problems);
        if problems.is_empty() {
            let (origins, warnings) = (tree.origins(), literal::warnings(&tree, &tags));
            Ok(Loaded { config, file, origins, content, warnings })
        } else {
            Err(ConfigError::new(problems))
        }
    }

    /// The mistakes that count, `found` by reading and those that a check finds.
    fn mistakes(&self, tree: &Node, config: &Config, mut found: Vec<Problem>) -> Vec<Problem> {
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

    /// The file to read: the one that was named, or the first that is there.
    fn file(&self) -> Option<PathBuf> {
        if let Some(named) = self.flags.config.clone().or_else(|| self.named_by_environment()) {
            return Some(named);
        }
        // One that cannot be read is there, and passing it over would start with another configuration.
        let there = |path: &Path| {
            let found = fs::symlink_metadata(self.directory.join(path));
            !found.is_err_and(|error| matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory))
        };
        [PathBuf::from(LOCAL_FILE), self.system_file.clone()].into_iter().find(|path| there(path))
    }

    fn named_by_environment(&self) -> Option<PathBuf> {
        self.environment.get("TIDINGS_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from)
    }

    /// Adds to a problem with the file who asked for that file.
    fn naming_the_cause(&self, mut problem: Problem) -> Problem {
        if problem.reason == file::NOT_THERE {
            let cause = match (&self.flags.config, self.named_by_environment()) {
                // The command line takes the variable for the flag.
                (named, Some(by_variable)) if named.as_ref().is_none_or(|named| *named == by_variable) => {
                    "; TIDINGS_CONFIG names it"
                }
                (Some(_), _) => "; --config names it",
                (None, _) => "",
            };
            problem.reason.push_str(cause);
        }
        problem
    }
}
