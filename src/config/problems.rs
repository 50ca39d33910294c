//! What is wrong with a configuration, all of it at once, in words that lead to the place.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use super::{node::Origin, path::KeyPath};

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it was made.
    pub origin: Origin,
    /// The key it is about; empty when it is about the file as a whole.
    pub key: KeyPath,
    /// What is wrong and how to write it. Never holds a secret.
    pub reason: String,
    /// The line of a syntax error with a caret, secrets struck out.
    pub snippet: Option<Box<str>>,
    /// Whether it may pass without a change of the configuration: a file that it names is not there yet.
    pub may_pass: bool,
}

impl Problem {
    pub(super) fn new(origin: Origin, key: KeyPath, reason: impl Into<String>) -> Self {
        Self { origin, key, reason: reason.into(), snippet: None, may_pass: false }
    }

    pub(super) fn about_file(file: &Path, at: Option<(usize, usize)>, reason: impl Into<String>) -> Self {
        Self::new(Origin::File { path: PathBuf::from(file), at }, KeyPath::default(), reason)
    }

    pub(super) fn passing(mut self) -> Self {
        self.may_pass = true;
        self
    }

    pub(super) fn with_snippet(mut self, snippet: Option<String>) -> Self {
        self.snippet = snippet.map(String::into_boxed_str);
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.origin != Origin::Default {
            write!(f, "{}  ", self.origin)?;
        }
        if !self.key.0.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.reason)?;
        if let Some(snippet) = &self.snippet {
            for line in snippet.lines() {
                write!(f, "\n    {line}")?;
            }
        }
        Ok(())
    }
}

/// A configuration that nothing was started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Every mistake: those of the file in the order of its lines, then the environment's, then the flags'.
    pub problems: Vec<Problem>,
}

impl ConfigError {
    pub(super) fn new(mut problems: Vec<Problem>) -> Self {
        problems.sort_by(|a, b| (&a.origin, &a.key).cmp(&(&b.origin, &b.key)));
        problems.dedup();
        Self { problems }
    }

    /// Returns the mistakes, one a line, below a line that counts them and names their consequence.
    #[must_use]
    pub fn report(&self, consequence: &str) -> String {
        let plural = if self.problems.len() == 1 { "" } else { "s" };
        let first =
            format!("the configuration has {} mistake{plural}; {consequence}\n\n", self.problems.len());
        let problems = self.problems.iter().map(|problem| format!("  {problem}\n"));
        std::iter::once(first).chain(problems).collect()
    }

    /// Whether all of it may pass without a change of the configuration.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        self.problems.iter().all(|problem| problem.may_pass)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.report("nothing was started"))
    }
}

impl std::error::Error for ConfigError {}

/// The known names that `name` was most likely meant to be, the best first, at most two.
#[must_use]
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let wanted = folded(name);
    let mut near: Vec<(usize, &str)> = known
        .into_iter()
        .filter_map(|candidate| {
            let other = folded(candidate);
            let distance = strsim::damerau_levenshtein(&wanted, &other);
            let longest = wanted.chars().count().max(other.chars().count());
            // A third of the letters may differ; a word that begins with the other is near as well.
            let prefix = wanted.len().min(other.len()) >= 3
                && (other.starts_with(&wanted) || wanted.starts_with(&other));
            (distance * 3 <= longest || prefix).then_some((distance, candidate))
        })
        .collect();
    near.sort_unstable();
    let best = near.first().map_or(0, |(distance, _)| *distance);
    near.into_iter().filter(|(distance, _)| *distance <= best + 1).map(|(_, name)| name).take(2).collect()
}

/// `minInterval`, `min-interval` and `MIN_INTERVAL` are meant to be `min_interval`.
fn folded(name: &str) -> String {
    name.chars().take(80).filter(|c| !matches!(c, '_' | '-' | ' ')).flat_map(char::to_lowercase).collect()
}

/// `; did you mean …?`, or nothing when no known name is near.
pub(crate) fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    match nearest(name, known).as_slice() {
        [] => String::new(),
        near => format!("; did you mean {}?", super::de::listed(near, "or")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_nearest_names_come_first() {
        let known = ["min_interval", "max_interval", "interval", "deadline"];
        assert_eq!(nearest("min_intervall", known), ["min_interval"]);
        assert_eq!(nearest("minInterval", known), ["min_interval"]);
        assert_eq!(nearest("colour", known), Vec::<&str>::new());
    }

    proptest! {
        #[test]
        fn a_suggestion_never_panics(name in any::<String>(), known in proptest::collection::vec(any::<String>(), 0..8)) {
            let near = nearest(&name, known.iter().map(String::as_str));
            prop_assert!(near.len() <= 2);
            let _ = did_you_mean(&name, known.iter().map(String::as_str));
        }
    }
}
