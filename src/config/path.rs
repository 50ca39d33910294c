//! Where a value stands in the configuration: `sinks.app.retry.schedule[1]`.

use std::fmt;

/// One step of a [`KeyPath`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Into a table.
    Key(String),
    /// Into a list.
    Index(usize),
}

impl From<&str> for Step {
    fn from(key: &str) -> Self {
        Self::Key(key.to_owned())
    }
}

impl From<&String> for Step {
    fn from(key: &String) -> Self {
        Self::Key(key.clone())
    }
}

impl From<usize> for Step {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}

/// The way from the top of the configuration to a value.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyPath(pub Vec<Step>);

impl KeyPath {
    /// The path of a dotted text of plain keys.
    #[must_use]
    pub fn dotted(text: &str) -> Self {
        Self(text.split('.').map(Step::from).collect())
    }

    /// This path and one step more.
    #[must_use]
    pub fn join(&self, step: impl Into<Step>) -> Self {
        self.join_step(step.into())
    }

    /// This path and one step more.
    pub(super) fn join_step(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }

    /// The path of the table or list that holds this one.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let (_, rest) = self.0.split_last()?;
        Some(Self(rest.to_vec()))
    }

    /// The innermost list that this path goes into.
    #[must_use]
    pub fn list(&self) -> Option<Self> {
        let at = self.0.iter().rposition(|step| matches!(step, Step::Index(_)))?;
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
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) => {
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

/// Whether TOML lets a key stand without quotes.
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
