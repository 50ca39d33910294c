//! The mistakes of a configuration, all at once, each with its place.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use super::{node::Origin, path::KeyPath};

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigProblem {
    /// The place of the mistake.
    pub origin: Origin,
    /// The key, empty if the mistake is about the file as a whole.
    pub key: KeyPath,
    /// The reason and the way out, as [`with_hint`] writes them. Never holds a secret.
    text: Box<str>,
    /// The line of a syntax error with a caret, secrets struck out.
    pub snippet: Option<Box<str>>,
    /// Whether it may disappear without a change of the configuration: a file that it names is missing.
    pub is_transient: bool,
}

/// Separates a reason from the way out in one text, as checks of single values return it.
const HINT: &str = "\nhint: ";

/// Returns the text of a mistake with its way out.
pub(super) fn with_hint(reason: impl fmt::Display, hint: impl fmt::Display) -> String {
    format!("{reason}{HINT}{hint}")
}

/// Returns the text of a mistake, with its way out if there is one.
pub(super) fn with_maybe_hint(reason: impl fmt::Display, hint: Option<impl fmt::Display>) -> String {
    match hint {
        Some(hint) => with_hint(reason, hint),
        None => reason.to_string(),
    }
}

impl ConfigProblem {
    /// Makes a mistake of a text that [`with_hint`] may have written.
    pub(super) fn new(origin: Origin, key: KeyPath, text: impl Into<String>) -> Self {
        Self { origin, key, text: text.into().into_boxed_str(), snippet: None, is_transient: false }
    }

    /// Returns the reason.
    #[must_use]
    pub fn reason(&self) -> &str {
        self.text.split_once(HINT).map_or(&*self.text, |(reason, _)| reason)
    }

    /// Returns the way out: what to write instead.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.text.split_once(HINT).map(|(_, hint)| hint)
    }

    pub(super) fn hinting(self, hint: &str) -> Self {
        Self { text: with_hint(self.reason(), hint).into_boxed_str(), ..self }
    }

    pub(super) fn about_file(file: &Path, at: Option<(usize, usize)>, reason: impl Into<String>) -> Self {
        Self::new(Origin::File { path: PathBuf::from(file), at }, KeyPath::default(), reason)
    }

    pub(super) fn transient(mut self) -> Self {
        self.is_transient = true;
        self
    }

    pub(super) fn with_snippet(mut self, snippet: Option<String>) -> Self {
        self.snippet = snippet.map(String::into_boxed_str);
        self
    }
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.origin != Origin::Default {
            write!(f, "{}  ", self.origin)?;
        }
        if !self.key.0.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(self.reason())?;
        for line in self.snippet.iter().flat_map(|snippet| snippet.lines()) {
            write!(f, "\n    {line}")?;
        }
        match self.hint() {
            Some(hint) => write!(f, "\n    hint: {hint}"),
            None => Ok(()),
        }
    }
}

/// The mistakes of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Every mistake: those of the file by line, then those of the environment, then those of the flags.
    pub problems: Vec<ConfigProblem>,
}

impl ConfigError {
    pub(super) fn new(mut problems: Vec<ConfigProblem>) -> Self {
        problems.sort_by(|a, b| (&a.origin, &a.key).cmp(&(&b.origin, &b.key)));
        problems.dedup();
        Self { problems }
    }

    /// Returns the mistakes, below a line with their number and their consequence.
    #[must_use]
    pub fn report(&self, consequence: &str) -> String {
        let plural = if self.problems.len() == 1 { "" } else { "s" };
        let first =
            format!("the configuration has {} mistake{plural}; {consequence}\n\n", self.problems.len());
        let problems = self.problems.iter().map(|problem| format!("  {problem}\n"));
        std::iter::once(first).chain(problems).collect()
    }

    /// Whether every mistake may disappear without a change of the configuration.
    #[must_use]
    pub(crate) fn is_transient(&self) -> bool {
        self.problems.iter().all(|problem| problem.is_transient)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.report("nothing was started"))
    }
}

impl std::error::Error for ConfigError {}
