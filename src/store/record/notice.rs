//! What was told of a sink or a source.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::is_default;
use crate::{model::notice::Notice, util::units::Time};

/// What was told of one sink or source, so that a restart tells nothing twice, and tells the end of what it told before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoticeState {
    /// Since when it has not been well, as was told last. Unset: it was told to be well, or nothing was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// When a notice of each type was last given.
    #[serde(default, skip_serializing_if = "is_default")]
    pub given: BTreeMap<Notice, Time>,
    /// Dead letters that no notice has told of yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead: Option<HeldDead>,
}

/// Dead letters that are to be told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldDead {
    /// Their number.
    pub count: u64,
    /// The last of them, as JSON.
    pub last: String,
}
