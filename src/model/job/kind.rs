//! The kind of a job.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The kind of a job among those of its source. Two jobs of one source are the same if their id and
/// their kind are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Kind {
    /// Its name, as the configuration has it.
    pub name: String,
    /// It is the default kind of its source, so that the id alone names the job.
    #[serde(rename = "default", default, skip_serializing_if = "std::ops::Not::not")]
    pub is_default: bool,
}

impl Kind {
    /// Returns its name if the id alone does not name the job.
    #[must_use]
    pub fn beside_id(&self) -> Option<&str> {
        (!self.is_default).then_some(self.name.as_str())
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}
