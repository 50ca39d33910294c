//! A secret in the configuration: a text, or the name of its file.

use std::{fmt, path::PathBuf};

use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, Visitor},
};

use super::{Secret, SecretSource};

/// A secret in the configuration: a text, or `{ file = "…" }`, which is read again when it changes.
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
    /// Returns the origin of the secret.
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
    /// By hand: the error of an untagged enum would not name the mistake.
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

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
