//! `[store]`: where watches are kept and for how long.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::util::units::{HumanDuration, Size};

/// The store on disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StoreConfig {
    /// The data folder; made when it is missing, used by one process at a time.
    pub path: PathBuf,
    /// Finished watches and their stored jobs are dropped after this.
    pub retention: HumanDuration,
    /// Memory for the database's page cache.
    pub cache: Size,
    /// New watches are refused (507) when less than this is free on the disk, or less than a tenth of a
    /// smaller disk: what was accepted before must still find room to end.
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
