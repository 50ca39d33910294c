//! `[sinks.NAME]` with `type = "disk"`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Format, RetryConfig, every_event};

/// The compression of a file on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Zstandard; the name gets `.zst`.
    Zstd,
}

/// A folder that each finished job is written to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DiskConfig {
    /// The folder, created if it is missing.
    pub dir: PathBuf,
    /// The path of a file below the folder. Its placeholders are `{source}` `{job_id}` `{kind}`
    /// `{outcome}` `{event_id}` `{yyyy}` `{mm}` `{dd}` `{result}`, filled in safely. With `{result}`
    /// each of several results is a file of its own, as it came, and so is the `status`; a job with
    /// one has the file `result`. A file of another job is never
    /// replaced: the event then gets a file beside it.
    #[serde(default = "by_source_and_job")]
    pub path: String,
    /// The event types that the sink takes; `*` stands for any text. Unset: every event of a
    /// finished job, `job.*`. `group.*` and `tidings.*` take those of groups and notices.
    #[serde(default = "every_event")]
    pub events: Vec<String>,
    /// The content of a file: `envelope`, `raw` or `cloudevents`.
    #[serde(default = "raw")]
    pub format: Format,
    /// The compression of the files. Unset: none.
    pub compress: Option<Compression>,
    /// Files being written, at most.
    #[serde(default = "four")]
    pub max_in_flight: usize,
    /// Files per second over all deliveries, at most. Unset: unlimited.
    pub max_per_second: Option<f64>,
    /// Whether to send the events of one job in their order. A later one waits until those before
    /// it are delivered or dead letters.
    #[serde(default)]
    pub ordered: bool,
    /// The retries of a failed write.
    #[serde(default)]
    pub retry: RetryConfig,
}

impl DiskConfig {
    /// Returns a folder with the defaults.
    #[must_use]
    pub fn to(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            path: by_source_and_job(),
            events: every_event(),
            format: raw(),
            compress: None,
            max_in_flight: four(),
            max_per_second: None,
            ordered: false,
            retry: RetryConfig::default(),
        }
    }
}

fn raw() -> Format {
    Format::Raw
}

fn four() -> usize {
    4
}

fn by_source_and_job() -> String {
    "{source}/{job_id}.json".to_owned()
}
