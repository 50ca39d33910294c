//! `[sources.NAME.proxy]`: how requests are passed on.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::Span;

/// The drop-in proxy of a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProxyConfig {
    /// Whether the source's own key and headers replace those of the caller. Whoever reaches the local API then uses that
    /// key.
    pub inject_key: bool,
    /// How old a status may be that is answered without asking the source, at most 1m.
    pub max_age: Span,
}

/// A longer age would keep more statuses in memory than the rest of the daemon needs.
pub const MAX_AGE: Span = Span::secs(60);

impl Default for ProxyConfig {
    fn default() -> Self {
        Self { inject_key: false, max_age: Span::secs(2) }
    }
}
