//! The plan of one job of the mock.

use std::{collections::BTreeMap, str::FromStr, time::Duration};

use serde_json::value::RawValue;

use super::Ending;
use crate::util::units::{HumanDuration, Size};

/// The plan of a job, made by a test or the demo. A field that is `None` comes from the metadata
/// (`mock_…` keys), else from the mock's defaults.
#[derive(Clone, Debug, Default)]
pub struct JobPlan {
    /// Its id. `None`: a generated one. It replaces a job with the same id.
    pub id: Option<String>,
    /// The endpoint that it seems to run.
    pub endpoint: Option<String>,
    /// The request that it echoes with `include_request`.
    pub request: Option<Box<RawValue>>,
    /// Its metadata, echoed unchanged.
    pub metadata: Option<BTreeMap<String, String>>,
    /// How long a run takes.
    pub duration: Option<Duration>,
    /// How the first run ends.
    pub ending: Option<Ending>,
    /// How runs after a retry end. They complete by default.
    pub retry_ending: Option<Ending>,
    /// The size of `response.body` if it completes.
    pub size: Option<Size>,
    /// The status word in place of `in_progress`.
    pub word: Option<String>,
    /// How long ago it was created.
    pub age: Duration,
}

impl JobPlan {
    /// Returns a plan that leaves everything to the mock.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the id.
    #[must_use]
    pub fn id(self, id: impl Into<String>) -> Self {
        Self { id: Some(id.into()), ..self }
    }

    /// Sets how long a run takes.
    #[must_use]
    pub fn lasting(self, duration: Duration) -> Self {
        Self { duration: Some(duration), ..self }
    }

    /// Sets how the first run ends.
    #[must_use]
    pub fn ending(self, ending: Ending) -> Self {
        Self { ending: Some(ending), ..self }
    }

    /// Sets the size of `response.body`.
    #[must_use]
    pub fn size(self, size: Size) -> Self {
        Self { size: Some(size), ..self }
    }

    /// Adds a pair of metadata.
    #[must_use]
    pub fn with_metadata(mut self, key: &str, value: &str) -> Self {
        self.metadata.get_or_insert_default().insert(key.to_owned(), value.to_owned());
        self
    }

    /// Reads open fields from the `mock_…` keys of the metadata.
    ///
    /// # Errors
    /// The key whose value cannot be read.
    pub fn heed_metadata(&mut self) -> Result<(), String> {
        let Some(metadata) = &self.metadata else { return Ok(()) };
        let duration = wish::<HumanDuration>(metadata, "mock_duration")?;
        let ending = wish(metadata, "mock_outcome")?;
        let retry_ending = wish(metadata, "mock_retry_outcome")?;
        let size = wish(metadata, "mock_size")?;
        let word = metadata.get("mock_status").cloned();
        self.duration = self.duration.or(duration.map(|span| span.0));
        self.ending = self.ending.or(ending);
        self.retry_ending = self.retry_ending.or(retry_ending);
        self.size = self.size.or(size);
        self.word = self.word.take().or(word);
        Ok(())
    }
}

fn wish<T>(metadata: &BTreeMap<String, String>, key: &str) -> Result<Option<T>, String>
where
    T: FromStr<Err = String>,
{
    let text = metadata.get(key);
    text.map(|text| text.parse().map_err(|error| format!("metadata.{key}: {error}"))).transpose()
}
