//! The place of a value in the configuration: `sinks.app.retry.schedule[1]`.

use std::fmt;

/// One step of a [`KeyPath`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyStep {
    /// A key of a table.
    Key(String),
    /// An item of a list.
    Index(usize),
}

impl From<&str> for KeyStep {
    fn from(key: &str) -> Self {
        Self::Key(key.to_owned())
    }
}

impl From<&String> for KeyStep {
    fn from(key: &String) -> Self {
        Self::Key(key.clone())
    }
}

impl From<usize> for KeyStep {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}

/// The steps from the top of the configuration to a value.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyPath(pub Vec<KeyStep>);

impl KeyPath {
    /// Returns the path of a dotted text of plain keys.
    #[must_use]
    pub(crate) fn dotted(text: &str) -> Self {
        Self(text.split('.').map(KeyStep::from).collect())
    }

    /// Returns this path with one more step.
    #[must_use]
    pub fn join(&self, step: impl Into<KeyStep>) -> Self {
        self.join_step(step.into())
    }

    /// Returns this path with one more step.
    pub(super) fn join_step(&self, step: KeyStep) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }

    /// Returns the path of the table or list around this one.
    #[must_use]
    pub(crate) fn parent(&self) -> Option<Self> {
        let (_, rest) = self.0.split_last()?;
        Some(Self(rest.to_vec()))
    }

    /// Returns the innermost list on this path.
    #[must_use]
    pub fn list(&self) -> Option<Self> {
        let at = self.0.iter().rposition(|step| matches!(step, KeyStep::Index(_)))?;
        Some(Self(self.0[..at].to_vec()))
    }

    /// Whether this path is `other` or lies below it.
    #[must_use]
    pub fn within(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.0.iter().enumerate() {
            match step {
                KeyStep::Index(index) => write!(f, "[{index}]")?,
                KeyStep::Key(key) => {
                    if at > 0 {
                        f.write_str(".")?;
                    }
                    if is_bare(key) { f.write_str(key)? } else { write!(f, "{key:?}")? }
                }
            }
        }
        Ok(())
    }
}

/// Whether TOML accepts a key without quotes.
fn is_bare(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_written_as_in_toml() {
        let path = KeyPath::dotted("sinks.app").join("headers").join("a.b");
        assert_eq!(path.to_string(), r#"sinks.app.headers."a.b""#);
        let item = KeyPath::dotted("routes").join(0).join("to").join(2);
        assert_eq!(item.to_string(), "routes[0].to[2]");
        assert_eq!(item.list(), Some(KeyPath::dotted("routes").join(0).join("to")));
        assert!(item.within(&KeyPath::dotted("routes")));
    }
}
