//! Secrets: a text that never shows itself, given in place or by a file that is read again when it changes.

mod reread;
mod source;
mod value;

use std::{fmt, path::Path};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

pub use reread::Stamp;
pub use source::{SecretList, SecretSource, SecretText};
pub use value::{SecretFile, SecretValue};

/// The text in the place of every secret that is shown.
pub(crate) const REDACTED: &str = "[redacted]";

/// A secret of the configuration. `Debug`, `Display` and `Serialize` show [`REDACTED`].
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(with = "String")]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the text. Call it only where the secret leaves for its own origin.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(REDACTED)
    }
}

/// The error of a file of secrets or certificates.
#[derive(Debug, thiserror::Error)]
#[error("the {what} file {shown} cannot be used: {reason}")]
pub struct SecretError {
    what: &'static str,
    shown: String,
    reason: String,
}

/// Returns a path as it is written, unless it may be a secret in the place of its file. A path
/// begins like one, or leads to an existing folder.
#[must_use]
pub(crate) fn shown_path(path: &Path) -> String {
    let begins_like_one =
        ["/", "./", "../", "~/"].iter().any(|start| path.to_string_lossy().starts_with(start));
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if begins_like_one || path.exists() || folder.is_some_and(Path::exists) {
        return path.display().to_string();
    }
    REDACTED.to_owned()
}

impl SecretError {
    /// Makes the error of the file at `path`. `reason` must hold nothing of its content.
    #[must_use]
    pub fn new(what: &'static str, path: &Path, reason: impl Into<String>) -> Self {
        Self { what, shown: shown_path(path), reason: reason.into() }
    }

    /// Returns the reason without the path, beside a key that names the file.
    #[must_use]
    pub(crate) fn about_this_file(&self) -> String {
        format!("this file cannot be used: {}", self.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_never_shows_itself() {
        let secret = Secret::new("hunter2");
        let shown = format!("{secret} {secret:?} {}", serde_json::to_string(&secret).unwrap());
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
