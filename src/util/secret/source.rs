//! The origin of a secret, and the reading of a file of secrets.

use std::{path::Path, sync::Arc};

use super::{Secret, SecretError, reread::Reread};

/// The origin of a secret: the `x` or the `x_file` of the configuration. Cheap to clone; clones
/// share the last reading.
#[derive(Clone, Debug)]
pub enum SecretSource {
    /// Written in place.
    Inline(Secret),
    /// In a file with one secret, read again when the file changes.
    File(Arc<Reread<Secret>>),
}

impl SecretSource {
    /// Returns the origin for a pair of keys `x` and `x_file`; `None` if neither is set. The
    /// configuration refuses both at once.
    #[must_use]
    pub fn of(inline: Option<&Secret>, file: Option<&Path>) -> Option<Self> {
        inline.cloned().map(Self::Inline).or_else(|| file.map(Self::file))
    }

    /// Returns the origin of a file with one secret. White space at its end does not count.
    #[must_use]
    pub fn file(path: &Path) -> Self {
        Self::File(Arc::new(Reread::new(path)))
    }

    /// Returns the present secret.
    ///
    /// # Errors
    /// When the file cannot be read, is empty, or holds a control character. A stray line break
    /// would end up inside a header.
    pub fn get(&self) -> Result<Secret, SecretError> {
        self.read(one_line)
    }

    fn read(&self, check: fn(&str) -> Result<Secret, String>) -> Result<Secret, SecretError> {
        match self {
            Self::Inline(secret) => Ok(secret.clone()),
            Self::File(file) => file.get(check),
        }
    }
}

/// The origin of a secret of several lines, such as a key in PEM. Cheap to clone; clones share the
/// last reading.
#[derive(Clone, Debug)]
pub struct SecretText(SecretSource);

impl SecretText {
    /// Returns the origin for a pair of keys `x` and `x_file`; `None` if neither is set.
    #[must_use]
    pub fn of(inline: Option<&Secret>, file: Option<&Path>) -> Option<Self> {
        SecretSource::of(inline, file).map(Self)
    }

    /// Returns the origin of a secret that is written in place.
    #[must_use]
    pub const fn inline(secret: Secret) -> Self {
        Self(SecretSource::Inline(secret))
    }

    /// Returns the origin of a file with one secret.
    #[must_use]
    pub fn file(path: &Path) -> Self {
        Self(SecretSource::file(path))
    }

    /// Returns the present secret.
    ///
    /// # Errors
    /// When the file cannot be read or is empty.
    pub fn get(&self) -> Result<Secret, SecretError> {
        self.0.read(any_text)
    }
}

/// A file with several secrets, one a line. Empty lines and those that begin with `#` do not count.
/// Cheap to clone; clones share the last reading.
#[derive(Clone, Debug)]
pub struct SecretList(Arc<Reread<Vec<Secret>>>);

impl SecretList {
    /// Returns the secrets of this file.
    #[must_use]
    pub fn file(path: &Path) -> Self {
        Self(Arc::new(Reread::new(path)))
    }

    /// Returns the present secrets, in the order of their lines.
    ///
    /// # Errors
    /// When the file cannot be read or holds no secret.
    pub fn get(&self) -> Result<Vec<Secret>, SecretError> {
        self.0.get(lines)
    }
}

fn one_line(text: &str) -> Result<Secret, String> {
    let text = text.trim_end();
    if text.is_empty() {
        return Err("it is empty".to_owned());
    }
    if text.chars().any(char::is_control) {
        return Err("it holds more than one line".to_owned());
    }
    Ok(Secret::new(text))
}

fn any_text(text: &str) -> Result<Secret, String> {
    if text.trim().is_empty() { Err("it is empty".to_owned()) } else { Ok(Secret::new(text)) }
}

fn lines(text: &str) -> Result<Vec<Secret>, String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let secrets: Vec<Secret> = lines.map(Secret::new).collect();
    if secrets.is_empty() { Err("it holds no secret".to_owned()) } else { Ok(secrets) }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

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

    #[test]
    fn a_file_of_several_secrets_is_read_line_by_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        fs::write(&path, "# the new one\nnew  \n\n  old\r\n").unwrap();
        let list = SecretList::file(&path);
        let exposed = || list.get().unwrap().iter().map(|s| s.expose().to_owned()).collect::<Vec<_>>();
        assert_eq!(exposed(), ["new", "old"]);
        fs::write(&path, "newest\n").unwrap();
        assert_eq!(exposed(), ["newest"]);
        fs::write(&path, "# nothing\n").unwrap();
        assert!(list.get().unwrap_err().to_string().contains("holds no secret"));
    }
}
