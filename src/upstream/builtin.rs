//! The job APIs that come with the program, as data.

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use super::SourceConfig;

/// A job API that comes with the program.
#[derive(Clone, Debug)]
pub struct BuiltIn {
    /// What the API is.
    pub title: String,
    /// Where the API is documented.
    pub docs: String,
    /// The keys of a source that the profile fills.
    pub keys: SourceConfig,
}

/// Names the built-in profiles and their files, and the type that has none of their keys.
macro_rules! built_in {
    ($($name:literal)*) => {
        /// The types of source, `custom` last.
        pub const TYPES: &[&str] = &[$($name,)* CUSTOM];

        fn text(name: &str) -> Option<&'static str> {
            match name {
                $($name => Some(include_str!(concat!("profiles/", $name, ".toml"))),)*
                _ => None,
            }
        }
    };
}

/// The type of a source whose profile is all in the configuration.
pub const CUSTOM: &str = "custom";

built_in! {
    "retab" "retab-extractions" "openai" "openai-batch" "openai-responses" "openai-fine-tuning" "openai-video"
    "azure-openai-batch" "azure-document-intelligence" "anthropic-batch" "replicate" "runpod" "fal" "assemblyai"
    "llamaparse" "llamaextract" "reducto" "mistral-batch" "google-lro" "gemini-batch" "github-actions"
    "gitlab-pipeline" "buildkite" "databricks-run" "dbt-cloud" "vertex-batch" "aws-textract" "aws-transcribe"
    "aws-bedrock-batch" "aws-batch"
}

/// The name of a built-in profile, or `custom`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct SourceType(&'static str);

impl SourceType {
    /// Returns the type with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        TYPES.iter().find(|known| **known == name).map(|known| Self(known))
    }

    /// Returns the name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.0
    }

    /// Returns the built-in profile, or `None` for `custom`.
    ///
    /// # Panics
    /// Never: a test reads every file.
    #[must_use]
    pub fn built_in(self) -> Option<BuiltIn> {
        text(self.0).and_then(|text| read(text).ok())
    }
}

/// Reads a profile.
fn read(text: &str) -> Result<BuiltIn, toml::de::Error> {
    let mut table: toml::Table = toml::from_str(text)?;
    let mut take = |key| match table.remove(key) {
        Some(toml::Value::String(text)) => Ok(text),
        _ => Err(toml::de::Error::custom(format!("`{key}` is no text"))),
    };
    let (title, docs) = (take("title")?, take("docs")?);
    Ok(BuiltIn { title, docs, keys: table.try_into()? })
}

impl Default for SourceType {
    fn default() -> Self {
        Self("retab")
    }
}

impl fmt::Display for SourceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl<'de> Deserialize<'de> for SourceType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = Cow::<str>::deserialize(deserializer)?;
        Self::named(&name).ok_or_else(|| D::Error::unknown_variant(&name, TYPES))
    }
}

impl JsonSchema for SourceType {
    fn schema_name() -> Cow<'static, str> {
        "SourceType".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A built-in description of a job API, or `custom`.", "type": "string", "enum": TYPES
        })
    }
}

#[cfg(test)]
mod tests;
