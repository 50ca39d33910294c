//! The HTTP clients of outgoing requests: TLS by rustls with the certificates of the system and of
//! Mozilla, no redirects, no proxy variables, no decompression.
//!
//! Every client has the [`guard`], which checks the addresses that it connects to, and goes
//! [`Outgoing`]: direct or by a proxy. This room must not know sources, sinks or deliveries.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use reqwest::{ClientBuilder, Proxy, redirect::Policy, retry};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, client::WantsClientCert, crypto::ring};

pub use causes::{Cause, find, innermost, plain};
pub use clients::{Clients, ProxyError, SendError};
pub use connection_state::{ConnectionProgress, ConnectionState, ConnectionUse};
pub use connections::{Connections, LIFE, Lease, is_sent_again, was_refused};
pub use connector::{Connector, Forward, Name};
pub use outgoing::{BadProxy, Outgoing};

mod causes;
mod clients;
mod connections;
mod connector;
pub mod guard;
mod connection_state;
mod outgoing;
mod reuse;
mod tls_error;

/// The `user-agent` of every outgoing request.
pub const USER_AGENT: &str = concat!("tidings/", env!("CARGO_PKG_VERSION"));

/// The time for a connection to open.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The time to keep an idle connection; most servers close theirs after 60 s or more.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(50);

/// The idle time after which the system probes the peer.
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);

/// The time for the peer to acknowledge sent bytes. The default of Linux is a quarter of an hour.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// The silence of an HTTP/2 connection in use after which it is pinged.
pub const PING_AFTER: Duration = Duration::from_secs(10);

/// The time for the answer to a ping.
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Returns a client that follows no redirect, since credentials would follow it. The client takes
/// no proxy from the environment, leaves bodies as they are, and connects only to addresses that
/// the guard of `outgoing` allows.
#[expect(clippy::disallowed_methods, reason = "this is the one place for outgoing requests")]
pub fn builder(outgoing: &Outgoing, mut tls: ClientConfig) -> ClientBuilder {
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let builder = reqwest::Client::builder()
        .user_agent(USER_AGENT)
        .redirect(Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .tcp_keepalive(TCP_KEEPALIVE)
        .http2_keep_alive_interval(PING_AFTER)
        .http2_keep_alive_timeout(PING_TIMEOUT)
        // A retry would use the connection that just refused the request.
        .retry(retry::never())
        .connector_layer(reuse::Noticing)
        .dns_resolver(outgoing.resolver.clone())
        .tls_backend_preconfigured(tls)
        .no_proxy();
    #[cfg(target_os = "linux")]
    let builder = builder.tcp_user_timeout(UNACKNOWLEDGED);
    let Some(forward) = outgoing.proxy() else { return builder };
    let outgoing = outgoing.clone();
    let route = move |url: &url::Url| {
        let proxy = url.host_str().and_then(|host| outgoing.proxy_for(host))?;
        Some(proxy.address().to_string())
    };
    let proxy = Proxy::custom(route);
    builder.proxy(match &forward.auth {
        Some(auth) => proxy.custom_http_auth(auth.clone()),
        None => proxy,
    })
}

/// Returns TLS that trusts [`roots`], without a client certificate. All clients share it, so that
/// the roots are in memory once.
#[must_use]
pub fn tls() -> ClientConfig {
    static TLS: OnceLock<ClientConfig> = OnceLock::new();
    TLS.get_or_init(|| trusting(Arc::clone(roots())).with_no_client_auth()).clone()
}

/// Returns a builder of TLS that trusts `roots`; the caller decides about a client certificate.
///
/// # Panics
/// Never: ring provides what the default versions of TLS need.
#[must_use]
#[expect(
    clippy::expect_used,
    reason = "the provider and the versions are constants, and every start makes this"
)]
pub fn trusting(roots: impl Into<Arc<RootCertStore>>) -> ConfigBuilder<ClientConfig, WantsClientCert> {
    let provider = Arc::new(ring::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring knows TLS 1.2 and 1.3")
        .with_root_certificates(roots)
}

/// Returns the certificates of the system, where a company's CA is, and of Mozilla, for an image
/// without any. They are read once; an unreadable one of the system is left out.
pub fn roots() -> &'static Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(roots)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_can_be_built_with_and_without_a_proxy() {
        for proxy in [None, Some("http://127.0.0.1:3128")] {
            let outgoing = Outgoing::of(proxy, &[]).unwrap();
            builder(&outgoing, tls()).build().unwrap();
        }
    }
}
