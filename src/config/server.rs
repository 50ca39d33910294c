//! `[server]`: the address of the local API, and its callers.

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
    /// IPv6 and IPv4 as far as the machine has them.
    pub listen: String,
    /// The bearer token of every route but `/healthz`, `/readyz` and the files of the page. Unset: no token, and `listen` must
    /// be a loopback address or a unix socket.
    pub token: Option<Secret>,
    /// The file with the token, read again when it changes.
    pub token_file: Option<PathBuf>,
    /// A second address, for `/healthz`, `/readyz` and `/metrics` alone. Unset: none.
    pub admin_listen: Option<String>,
    /// Names and addresses that the `Host` of a request may hold, beside the listen address, `localhost` and loopback
    /// literals. `--allowed-host` adds to them.
    pub allowed_hosts: Vec<String>,
    /// Whether `POST /v1/shutdown` from this machine may stop the daemon. Applications in a Kubernetes Job before 1.29 need it.
    pub shutdown: bool,
    /// The longest wait of a stop for the requests in flight.
    pub drain: HumanDuration,
    /// The longest time in which a client takes nothing of an answer before the daemon cuts it off.
    pub write_timeout: HumanDuration,
    /// Whether the kernel may write core dumps, and other processes of the same user may read the memory. For debugging: both
    /// hold keys and tokens.
    pub core_dumps: bool,
    /// The URL of the proxy for outgoing requests, unless a source or a sink names its own. Requests over loopback go without
    /// it. Unset: none; the proxy variables of the environment are ignored.
    pub proxy: Option<String>,
    /// Hosts that are reached without the proxy: `example.com` with all names below it, `.example.com` for those alone,
    /// addresses and ranges.
    pub no_proxy: Vec<String>,
    /// No key of the configuration: tests set lower bounds.
    #[serde(skip)]
    pub streams: StreamLimits,
}

/// The bounds of readers of `/v1/events`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamLimits {
    /// The pause between two signs of life of a quiet stream.
    pub heartbeat: Duration,
    /// The most events that a reader may fall behind before it is dropped.
    pub behind: u64,
    /// The most readers at once.
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
            allowed_hosts: Vec::new(),
            shutdown: false,
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
    /// Returns the route of requests to addresses of the operator.
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
/// The reason why no request can name `text`.
pub(crate) fn host_name(text: &str) -> Result<String, String> {
    let is_name =
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    let is_address = text.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    if is_name || is_address {
        return Ok(text.to_owned());
    }
    Err("expected a bare name such as tidings.internal or an address, without scheme, port, path or `*`"
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
