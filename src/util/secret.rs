//! Secrets: a string that never shows itself, given in place or by a file that is read again when it
//! changes.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, Visitor},
};

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

/// A secret that the configuration gives as text, or as `{ file = "…" }` that is read again when it changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum SecretValue {
    /// Written in place.
    Text(Secret),
    /// In a file.
    File(SecretFile),
}

/// A secret in a file, as the configuration writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretFile {
    /// The file.
    pub file: PathBuf,
}

impl SecretValue {
    /// Where the secret comes from.
    #[must_use]
    pub fn source(&self) -> SecretSource {
        match self {
            Self::Text(secret) => SecretSource::Inline(secret.clone()),
            Self::File(secret) => SecretSource::file(&secret.file),
        }
    }
}

impl From<&str> for SecretValue {
    fn from(text: &str) -> Self {
        Self::Text(Secret::new(text))
    }
}

impl<'de> Deserialize<'de> for SecretValue {
    /// By hand, since an untagged enum would say of a mistake only that no variant fits.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = SecretValue;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text in quotes or { file = \"…\" }")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<SecretValue, E> {
                Ok(text.into())
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<SecretValue, A::Error> {
                SecretFile::deserialize(de::value::MapAccessDeserializer::new(map)).map(SecretValue::File)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// A file of secrets or certificates that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the {what} file {shown} cannot be used: {reason}")]
pub struct SecretError {
    what: &'static str,
    shown: String,
    reason: String,
}

/// A path for people: as it is written, unless it may be a secret that was pasted into the place of its file. What is a path for
/// sure begins like one, or leads to a folder that is there.
#[must_use]
pub fn shown_path(path: &Path) -> String {
    let begins_like_one =
        ["/", "./", "../", "~/"].iter().any(|start| path.to_string_lossy().starts_with(start));
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if begins_like_one || path.exists() || folder.is_some_and(Path::exists) {
        return path.display().to_string();
    }
    REDACTED.to_owned()
}

impl SecretError {
    /// Says which file it is and what is wrong with it; nothing of its content belongs into `reason`.
    #[must_use]
    pub fn new(what: &'static str, path: &Path, reason: impl Into<String>) -> Self {
        Self { what, shown: shown_path(path), reason: reason.into() }
    }

    /// The same beside the key that names the file, without its name.
    #[must_use]
    pub fn about_this_file(&self) -> String {
        format!("this file cannot be used: {}", self.reason)
    }
}

/// Where a secret comes from: the `x` or the `x_file` of the configuration. Cheap to clone; clones share
/// what was read.
#[derive(Clone, Debug)]
pub enum SecretSource {
    /// Written in place.
    Inline(Secret),
    /// In a file with one secret, read again when the file changes.
    File(Arc<Reread<Secret>>),
}

impl SecretSource {
    /// The source for a pair of keys `x` and `x_file`; `None` when neither is set. The configuration has
    /// refused both at once.
    #[must_use]
    pub fn of(inline: Option<&Secret>, file: Option<&Path>) -> Option<Self> {
        inline.cloned().map(Self::Inline).or_else(|| file.map(Self::file))
    }

    /// A file with one secret, trailing white space aside.
    #[must_use]
    pub fn file(path: &Path) -> Self {
        Self::File(Arc::new(Reread::new(path)))
    }

    /// The secret as it is now.
    ///
    /// # Errors
    /// When the file cannot be read, is empty, or holds a control character (a stray line break would
    /// otherwise end up inside a header).
    pub fn get(&self) -> Result<Secret, SecretError> {
        match self {
            Self::Inline(secret) => Ok(secret.clone()),
            Self::File(file) => file.get(one_line),
        }
    }
}

/// A file with several secrets, one a line; empty lines and those that begin with `#` are left out. Cheap to
/// clone; clones share what was read.
#[derive(Clone, Debug)]
pub struct SecretList(Arc<Reread<Vec<Secret>>>);

impl SecretList {
    /// The secrets of this file.
    #[must_use]
    pub fn file(path: &Path) -> Self {
        Self(Arc::new(Reread::new(path)))
    }

    /// The secrets as they are now, in the order of their lines.
    ///
    /// # Errors
    /// When the file cannot be read or holds none.
    pub fn get(&self) -> Result<Vec<Secret>, SecretError> {
        self.0.get(lines)
    }
}

/// A small file that is read again when it changes.
#[derive(Debug)]
pub struct Reread<T> {
    path: PathBuf,
    read: Mutex<Option<(Stamp, T)>>,
}

impl<T: Clone> Reread<T> {
    fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), read: Mutex::new(None) }
    }

    fn get(&self, parse: fn(&str) -> Result<T, String>) -> Result<T, SecretError> {
        let failed = |reason: String| SecretError::new("secret", &self.path, reason);
        let stamp = Stamp::of(&self.path).map_err(|error| failed(error.to_string()))?;
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, value)) = &*read
            && *known == stamp
        {
            return Ok(value.clone());
        }
        let text = fs::read_to_string(&self.path).map_err(|error| failed(error.to_string()))?;
        let value = parse(&text).map_err(failed)?;
        *read = Some((stamp, value.clone()));
        Ok(value)
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

fn lines(text: &str) -> Result<Vec<Secret>, String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let secrets: Vec<Secret> = lines.map(Secret::new).collect();
    if secrets.is_empty() { Err("it holds no secret".to_owned()) } else { Ok(secrets) }
}

/// What tells one state of a file from the next without reading it. The inode changes when Kubernetes
/// swaps the link that a mounted secret hangs on, the time of the change also when a writer keeps the time of the modification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    modified: Option<SystemTime>,
    changed: (i64, i64),
    length: u64,
    inode: u64,
}

impl Stamp {
    /// The state of a file now.
    ///
    /// # Errors
    /// When the file is not there or cannot be looked at.
    pub fn of(path: &Path) -> std::io::Result<Self> {
        use std::os::unix::fs::MetadataExt as _;
        let data = fs::metadata(path)?;
        let changed = (data.ctime(), data.ctime_nsec());
        Ok(Self { modified: data.modified().ok(), changed, length: data.len(), inode: data.ino() })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

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

    #[test]
    fn a_value_is_a_text_or_a_file_and_never_shown() {
        let read = |text: &str| toml::from_str::<BTreeMap<String, SecretValue>>(text);
        let values = read("a = \"hunter2\"\nb = { file = \"/run/key\" }").unwrap();
        assert_eq!(values["a"], "hunter2".into());
        assert_eq!(values["b"], SecretValue::File(SecretFile { file: "/run/key".into() }));
        let shown = format!("{values:?} {}", serde_json::to_string(&values).unwrap());
        assert!(!shown.contains("hunter2") && shown.contains("/run/key"), "{shown}");
        for (text, expected) in
            [("a = 1", "text in quotes or { file"), ("a = { path = \"x\" }", "unknown field")]
        {
            assert!(read(text).unwrap_err().to_string().contains(expected), "{text}");
        }
    }
}
