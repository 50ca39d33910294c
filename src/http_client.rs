//! The one place that builds HTTP clients for outgoing requests: TLS by rustls with the certificates of the
//! system and of Mozilla, no redirects, no proxy variables, no decompression.

use std::{sync::OnceLock, time::Duration};

use reqwest::{Certificate, ClientBuilder, Proxy, redirect::Policy};

/// The `user-agent` of every outgoing request.
pub const USER_AGENT: &str = concat!("tidings/", env!("CARGO_PKG_VERSION"));

/// How long a connection may take to open.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an unused connection is kept; most servers close theirs at 60 s or later.
const IDLE_TIMEOUT: Duration = Duration::from_secs(50);

/// A client that follows no redirect (credentials would follow it), takes no proxy from the environment and
/// hands bodies over as they came.
///
/// # Errors
/// When `proxy` is not a URL.
#[expect(clippy::disallowed_methods, reason = "this is the one place for outgoing requests")]
pub fn builder(proxy: Option<&str>) -> reqwest::Result<ClientBuilder> {
    // Only the first call installs it; a second provider in the same process would be a bug elsewhere.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = reqwest::Client::builder()
        .user_agent(USER_AGENT)
        .redirect(Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .tcp_keepalive(Duration::from_secs(30))
        .tls_certs_only(roots().iter().cloned())
        .no_proxy();
    match proxy {
        Some(url) => Ok(builder.proxy(Proxy::all(url)?)),
        None => Ok(builder),
    }
}

/// Certificates of the system (a company's own CA lives there), and Mozilla's for an image that has none.
fn roots() -> &'static [Certificate] {
    static ROOTS: OnceLock<Vec<Certificate>> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let system = rustls_native_certs::load_native_certs();
        let system = system.certs.iter().filter_map(|der| Certificate::from_der(der).ok());
        let mozilla =
            webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().filter_map(|der| Certificate::from_der(der).ok());
        system.chain(mozilla).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_can_be_built_with_and_without_a_proxy() {
        assert!(builder(None).unwrap().build().is_ok());
        assert!(builder(Some("http://127.0.0.1:3128")).unwrap().build().is_ok());
        assert!(builder(Some("::")).is_err());
    }
}
