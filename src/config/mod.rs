//! The configuration. Each room declares its own part beside its code. This room gathers them,
//! reads them from the layers (defaults < file < environment < flags) and checks them. It must not
//! know the command line or the API.
//!
//! ```text
//! file ─┐
//! environment ─┼▶ layers (figment) ─▶ node (a tree with origins) ─▶ read (types) ─▶ check ─▶ Loaded
//! flags ─┘
//! ```
//!
//! Every step continues after a mistake, so that the user sees all of them at once.

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
mod page;
mod path;
mod problems;
mod read;
mod renamed;
mod schema;
mod server;
mod show;
mod snippet;
#[cfg(test)]
mod tests;
pub(crate) mod wording;
mod yaml;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    deliver::{CallbackConfig, SinkConfig},
    model::job::JobId,
    routing::Route,
    schedule::BudgetConfig,
    store::StoreConfig,
    telemetry::{LogConfig, OtlpConfig},
    upstream::SourceConfig,
};

pub use bounds::bounds;
pub use content::Content;
pub use load::{FlagOverrides, Loaded, Loader};
pub use node::Origin;
pub use page::PageConfig;
pub(crate) use page::page_prefix;
pub use path::{KeyPath, KeyStep};
pub use problems::{ConfigError, ConfigProblem};
pub use schema::schema;
pub(crate) use server::host_name;
pub use server::{ServerConfig, StreamLimits};
pub use show::{ShowFormat, redacted, show};

/// The configuration file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The ids of jobs of the default source that the daemon watches from the start.
    pub watch: Vec<JobId>,
    /// The local HTTP API.
    pub server: ServerConfig,
    /// The page for a browser.
    pub page: PageConfig,
    /// The store on disk.
    pub store: StoreConfig,
    /// The log.
    pub log: LogConfig,
    /// The destination of spans and metrics.
    pub otlp: OtlpConfig,
    /// The webhooks that watches name.
    pub callbacks: CallbackConfig,
    /// Request budgets that several sources share, by name.
    pub budgets: BTreeMap<String, BudgetConfig>,
    /// The upstream APIs, by name. Unset: `retab` alone.
    pub sources: BTreeMap<String, SourceConfig>,
    /// The destinations of events, by name.
    pub sinks: BTreeMap<String, SinkConfig>,
    /// The routes of events to sinks. Unset: every sink gets every event that it accepts.
    pub routes: Vec<Route>,
}

/// Returns the source of a job without one: the only source, or `retab` among several. All surfaces
/// use this rule.
///
/// # Errors
/// The reason why no source is the default, with the names of `sources`.
pub fn default_source<'a>(sources: impl IntoIterator<Item = &'a str>) -> Result<&'a str, String> {
    let sources: Vec<&str> = sources.into_iter().collect();
    match sources.as_slice() {
        [] => Err("no source is configured".to_owned()),
        [only] => Ok(only),
        several => several.iter().copied().find(|name| *name == "retab").ok_or_else(|| {
            format!("several sources and no default: {}", wording::join_words(several, "and"))
        }),
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            watch: Vec::new(),
            server: ServerConfig::default(),
            page: PageConfig::default(),
            store: StoreConfig::default(),
            log: LogConfig::default(),
            otlp: OtlpConfig::default(),
            callbacks: CallbackConfig::default(),
            budgets: BTreeMap::new(),
            sources: BTreeMap::from([("retab".to_owned(), SourceConfig::default())]),
            sinks: BTreeMap::new(),
            routes: Vec::new(),
        }
    }
}
