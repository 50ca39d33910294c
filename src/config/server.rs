//! `[server]`: where the local API listens and who may use it.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::util::{
    http_client::{BadProxy, Outgoing},
    secret::Secret,
    units::HumanDuration,
};

/// The local HTTP API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServerConfig {
    /// The address of the API: `127.0.0.1:8787`, `unix:/run/tidings/api.sock`, or `[::]:8787` for every interface, over
    /// IPv6 and IPv4 or whichever of them the machine has.
    pub listen: String,
    /// Bearer token that every route but `/healthz` and `/readyz` asks for. Without one only a loopback
    /// address or a unix socket may be listened on.
    pub token: Option<Secret>,
    /// The file that holds the token; read again when it changes.
    pub token_file: Option<PathBuf>,
    /// A second address with `/healthz`, `/readyz` and `/metrics` alone, never the API.
    pub admin_listen: Option<String>,
    /// Names and addresses beside the listen address, `localhost` and loopback literals that a request's `Host` may hold.
    /// `--allowed-host` adds to them.
    pub hosts: Vec<String>,
    /// Whether `POST /v1/quit` from this machine may end the process, as an application in a Kubernetes Job before 1.29 needs.
    pub quit: bool,
    /// How long a stop waits for what is in flight.
    pub drain: HumanDuration,
    /// How long a client may take nothing of an answer before it is cut off.
    pub write_timeout: HumanDuration,
    /// Whether the kernel may write core dumps, and other processes of the same user may read the memory: for debugging. Keys
    /// and tokens are in it.
    pub core_dumps: bool,
    /// The proxy for outgoing requests, unless a source or a sink names its own. What goes over loopback goes without it.
    /// Proxy variables of the environment are ignored.
    pub proxy: Option<String>,
    /// What is reached without it: `example.com` and all names below it, `.example.com` for those alone, addresses and ranges.
    pub no_proxy: Vec<String>,
    /// Not for the configuration: tests lower it.
    #[serde(skip)]
    pub streams: StreamLimits,
}

/// Bounds of those who follow `/v1/events`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamLimits {
    /// How often a quiet stream shows that it is alive.
    pub heartbeat: Duration,
    /// A reader that falls behind by more events is dropped.
    pub behind: u64,
    /// Readers at once.
    pub readers: usize,
}

impl Default for StreamLimits {
    fn default() -> Self {
        Self { heartbeat: Duration::from_secs(15), behind: 1000, readers: 64 }
    }
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8787".to_owned(),
            token: None,
            token_file: None,
            admin_listen: None,
            hosts: Vec::new(),
            quit: false,
            drain: HumanDuration::secs(25),
            write_timeout: HumanDuration::secs(30),
            core_dumps: false,
            proxy: None,
            no_proxy: Vec::new(),
            streams: StreamLimits::default(),
        }
    }
}

impl ServerConfig {
    /// Returns the way out of requests to what the operator wrote.
    ///
    /// # Errors
    /// When the proxy or an exception cannot be used.
    pub fn outgoing(&self) -> Result<Outgoing, BadProxy> {
        Outgoing::of(self.proxy.as_deref(), &self.no_proxy)
    }
}

/// Reads a name or an address that a request's `Host` may hold.
///
/// # Errors
/// The reason, when `text` is neither, so that no request could ever name it.
pub(crate) fn host_name(text: &str) -> Result<String, String> {
    let is_name =
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    let is_address = text.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    if is_name || is_address {
        return Ok(text.to_owned());
    }
    Err("a host is a bare name such as tidings.internal, or an address, without scheme, port, path or `*`"
        .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_what_a_request_can_name() {
        for fine in
            ["tidings", "tidings.jobs.svc.cluster.local.", "my_host", "10.0.0.1", "fd00::1", "[fd00::1]"]
        {
            assert!(host_name(fine).is_ok(), "{fine}");
        }
        for bad in [
            "",
            "https://a/",
            "a/b",
            "u@a",
            "a b",
            "a:8787",
            "*.example.com",
            "[fd00::1]:80",
            "münchen.example",
        ] {
            assert!(host_name(bad).is_err(), "{bad}");
        }
    }
}
