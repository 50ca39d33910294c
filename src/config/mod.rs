//! The configuration: each stage declares its own part beside its code; this module gathers them, reads
//! them from the layers (defaults < file < environment < flags) and checks them.
//!
//! ```text
//! file ─┐
//! environment ─┼▶ layers (figment) ─▶ node (a tree with origins) ─▶ read (types) ─▶ check ─▶ Loaded
//! flags ─┘
//! ```
//!
//! Every step goes on after a mistake, so that all of them are reported at once.

mod bounds;
mod check;
mod content;
mod de;
mod file;
mod hints;
mod json;
mod layers;
mod literal;
mod load;
mod node;
mod path;
mod problems;
mod read;
mod schema;
mod server;
mod show;
mod snippet;
#[cfg(test)]
mod tests;
mod yaml;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    deliver::{CallbackConfig, SinkConfig},
    model::job::JobId,
    routing::Route,
    store::StoreConfig,
    telemetry::{LogConfig, OtlpConfig},
    upstream::SourceConfig,
};

pub use bounds::bounds;
pub use content::Content;
pub(crate) use de::listed;
pub use load::{FlagOverrides, Loaded, Loader};
pub use node::Origin;
pub use path::{KeyPath, Step};
pub(crate) use problems::did_you_mean;
pub use problems::{ConfigError, Problem, nearest};
pub use schema::schema;
pub(crate) use server::host_name;
pub use server::{ServerConfig, StreamLimits};
pub use show::{ShowFormat, redacted, show};

/// Everything a configuration file can say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Job ids of the default source to watch from the start.
    pub watch: Vec<JobId>,
    /// The local HTTP API.
    pub server: ServerConfig,
    /// The store on disk.
    pub store: StoreConfig,
    /// What is logged.
    pub log: LogConfig,
    /// Where spans and metrics go.
    pub otlp: OtlpConfig,
    /// Webhooks that a watch brings along.
    pub callbacks: CallbackConfig,
    /// Upstream APIs by name; `retab` is there by default.
    pub sources: BTreeMap<String, SourceConfig>,
    /// Where events go, by name.
    pub sinks: BTreeMap<String, SinkConfig>,
    /// Which events go to which sinks.
    pub routes: Vec<Route>,
}

/// The source of a job that comes without one: the only source, or `retab` among several. On every surface.
///
/// # Errors
/// When there is no such source: what to do about it, with the names of `sources`.
pub fn default_source<'a>(sources: impl IntoIterator<Item = &'a str>) -> Result<&'a str, String> {
    let sources: Vec<&str> = sources.into_iter().collect();
    match sources.as_slice() {
        [] => Err("no source is configured".to_owned()),
        [only] => Ok(only),
        several => several
            .iter()
            .copied()
            .find(|name| *name == "retab")
            .ok_or_else(|| format!("name the source; there are {}", de::listed(several, "and"))),
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            watch: Vec::new(),
            server: ServerConfig::default(),
            store: StoreConfig::default(),
            log: LogConfig::default(),
            otlp: OtlpConfig::default(),
            callbacks: CallbackConfig::default(),
            sources: BTreeMap::from([("retab".to_owned(), SourceConfig::default())]),
            sinks: BTreeMap::new(),
            routes: Vec::new(),
        }
    }
}
