//! `[store]`: where watches are kept and for how long.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::util::units::{HumanDuration, Size};

/// The store on disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StoreConfig {
    /// The data folder, created if it is missing. One process at a time may use it.
    pub path: PathBuf,
    /// The time for which finished watches and their stored jobs are kept.
    pub retention: HumanDuration,
    /// The memory of the database's page cache.
    pub cache: Size,
    /// The least free space of the disk, or a tenth of a smaller disk. With less, the daemon
    /// refuses new watches (507), so that the accepted ones have room to finish.
    pub min_free: Size,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            path: PathBuf::from("data"),
            retention: HumanDuration::secs(7 * 24 * 3600),
            cache: Size::mib(4),
            min_free: Size::mib(64),
        }
    }
}
