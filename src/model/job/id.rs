//! The id of a job.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The longest job id, in bytes.
pub const MAX_JOB_ID: usize = 256;

/// A job's id as its source gave it: 1 to 256 bytes and no control characters. Nothing else is
/// assumed.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema, ToSchema,
)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
#[schema(value_type = String, min_length = 1, max_length = 256, example = "job_V1St")]
pub struct JobId(String);

/// Why a text cannot be a job id.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadJobId {
    /// It is empty.
    #[error("a job id cannot be empty")]
    Empty,
    /// It has more than [`MAX_JOB_ID`] bytes.
    #[error("a job id has at most {MAX_JOB_ID} bytes; this one has {0}")]
    TooLong(usize),
    /// It holds a control character.
    #[error("a job id cannot hold control characters")]
    Control,
    /// It is `.` or `..`, which every URL parser resolves away, so no request could name the job.
    #[error("`{0}` cannot be written as a segment of a URL, so it cannot be a job id")]
    DotSegment(String),
}

impl JobId {
    /// Returns the id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for JobId {
    type Error = BadJobId;

    fn try_from(text: String) -> Result<Self, BadJobId> {
        match text.as_str() {
            "" => Err(BadJobId::Empty),
            _ if text.len() > MAX_JOB_ID => Err(BadJobId::TooLong(text.len())),
            _ if text.chars().any(char::is_control) => Err(BadJobId::Control),
            "." | ".." => Err(BadJobId::DotSegment(text)),
            _ => Ok(Self(text)),
        }
    }
}

impl FromStr for JobId {
    type Err = BadJobId;

    fn from_str(text: &str) -> Result<Self, BadJobId> {
        Self::try_from(text.to_owned())
    }
}

impl From<JobId> for String {
    fn from(id: JobId) -> Self {
        id.0
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
