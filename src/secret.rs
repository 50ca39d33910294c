//! Secrets: a string that never shows itself, given in place or by a file that is read again when it
//! changes.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

/// What stands in for a secret wherever one would be shown.
pub const REDACTED: &str = "[redacted]";

/// A secret as written in the configuration. `Debug`, `Display` and `Serialize` show [`REDACTED`].
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

    /// The text itself; call it where the secret leaves for its own origin and nowhere else.
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

/// A secret file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the secret file {} cannot be used: {reason}", path.display())]
pub struct SecretError {
    path: PathBuf,
    reason: String,
}

/// Where a secret comes from: the `x` or the `x_file` of the configuration. Cheap to clone; clones share
/// what was read.
#[derive(Clone, Debug)]
pub enum SecretSource {
    /// Written in place.
    Inline(Secret),
    /// In a file, read again when the file changes.
    File(Arc<SecretFile>),
}

/// A file with one secret, trailing white space aside.
#[derive(Debug)]
pub struct SecretFile {
    path: PathBuf,
    read: Mutex<Option<(Stamp, Secret)>>,
}

/// What tells one state of a file from the next without reading it. The inode changes when Kubernetes
/// swaps the link that a mounted secret hangs on.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
    inode: u64,
}

impl SecretSource {
    /// The source for a pair of keys `x` and `x_file`; `None` when neither is set. The configuration has
    /// refused both at once.
    #[must_use]
    pub fn of(inline: Option<&Secret>, file: Option<&Path>) -> Option<Self> {
        match (inline, file) {
            (Some(secret), _) => Some(Self::Inline(secret.clone())),
            (None, Some(path)) => {
                Some(Self::File(Arc::new(SecretFile { path: path.to_owned(), read: Mutex::new(None) })))
            }
            (None, None) => None,
        }
    }

    /// The secret as it is now.
    ///
    /// # Errors
    /// When the file cannot be read, is empty, or holds a control character (a stray line break would
    /// otherwise end up inside a header).
    pub fn get(&self) -> Result<Secret, SecretError> {
        match self {
            Self::Inline(secret) => Ok(secret.clone()),
            Self::File(file) => file.get(),
        }
    }
}

impl SecretFile {
    fn get(&self) -> Result<Secret, SecretError> {
        let failed = |reason: String| SecretError { path: self.path.clone(), reason };
        let stamp = stamp(&self.path).map_err(|error| failed(error.to_string()))?;
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, secret)) = &*read
            && *known == stamp
        {
            return Ok(secret.clone());
        }
        let text = fs::read_to_string(&self.path).map_err(|error| failed(error.to_string()))?;
        let text = text.trim_end();
        if text.is_empty() {
            return Err(failed("it is empty".to_owned()));
        }
        if text.chars().any(char::is_control) {
            return Err(failed("it holds more than one line".to_owned()));
        }
        let secret = Secret::new(text);
        *read = Some((stamp, secret.clone()));
        Ok(secret)
    }
}

fn stamp(path: &Path) -> std::io::Result<Stamp> {
    use std::os::unix::fs::MetadataExt as _;
    let data = fs::metadata(path)?;
    Ok(Stamp { modified: data.modified().ok(), length: data.len(), inode: data.ino() })
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

    #[test]
    fn a_secret_file_is_read_again_when_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::write(&path, "first\n").unwrap();
        let source = SecretSource::of(None, Some(&path)).unwrap();
        assert_eq!(source.get().unwrap().expose(), "first");
        let beside = folder.path().join("beside");
        fs::write(&beside, "other\n").unwrap();
        fs::rename(&beside, &path).unwrap();
        assert_eq!(source.get().unwrap().expose(), "other");
        fs::write(&path, "\n").unwrap();
        assert!(source.get().unwrap_err().to_string().contains("is empty"));
    }
}
