//! `[server]`: where the local API listens and who may use it.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{secret::Secret, units::Span};

/// The local HTTP API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServerConfig {
    /// The address of the API: `127.0.0.1:8787`, `[::1]:8787`, or `unix:/run/tidings/api.sock`.
    pub listen: String,
    /// Bearer token that every route but `/healthz` and `/readyz` asks for. Without one only a loopback
    /// address or a unix socket may be listened on.
    pub token: Option<Secret>,
    /// The file that holds the token; read again when it changes.
    pub token_file: Option<PathBuf>,
    /// A second address with `/healthz`, `/readyz` and `/metrics` alone, never the API.
    pub admin_listen: Option<String>,
    /// Names beside the listen address, `localhost` and loopback literals that a request's `Host` may hold.
    pub hosts: Vec<String>,
    /// How long a stop waits for what is in flight.
    pub drain: Span,
    /// The proxy for outgoing requests. Proxy variables of the environment are ignored.
    pub proxy: Option<String>,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8787".to_owned(),
            token: None,
            token_file: None,
            admin_listen: None,
            hosts: Vec::new(),
            drain: Span::secs(25),
            proxy: None,
        }
    }
}
