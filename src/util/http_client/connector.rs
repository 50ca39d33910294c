//! How connections of [`ConnectionState`](super::ConnectionState)s are opened: TCP, a proxy if
//! there is one, TLS.

use std::{
    error::Error,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{HeaderValue, Uri, uri::Scheme};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::{HttpConnector, proxy::Tunnel};
use percent_encoding::percent_decode_str;
use rustls::ClientConfig;
use tower::{Service, ServiceExt as _};
use url::Url;

use super::{
    CONNECT_TIMEOUT, Outgoing, ProxyError, TCP_KEEPALIVE, connection_state::Tracked, guard::GuardedResolver,
};

type BoxError = Box<dyn Error + Send + Sync>;

/// The name that a resolver of [`Connector`] resolves.
pub use hyper_util::client::legacy::connect::dns::Name;

/// A proxy for outgoing requests.
#[derive(Clone, Debug)]
pub struct Forward {
    address: Uri,
    shown: String,
    /// The credentials for the proxy.
    pub auth: Option<HeaderValue>,
}

impl Forward {
    /// Returns the proxy at `url`, which may lack its scheme; `None` when it is not a URL.
    #[must_use]
    pub fn at(url: &str) -> Option<Self> {
        let usable = |url: &Url| matches!(url.scheme(), "http" | "https") && url.has_host();
        let parsed = Url::parse(url).ok().filter(usable);
        let bare = |url: &str| Url::parse(&format!("http://{url}")).ok().filter(|_| !url.contains("://"));
        let mut url = parsed.or_else(|| bare(url))?;
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let (user, password) = (decoded(url.username()), decoded(url.password().unwrap_or_default()));
        let auth = match (user.as_str(), password.as_str()) {
            ("", "") => None,
            (user, password) => {
                let credentials = BASE64_STANDARD.encode(format!("{user}:{password}"));
                let mut value = HeaderValue::from_str(&format!("Basic {credentials}")).ok()?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        url.set_username("").ok()?;
        url.set_password(None).ok()?;
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        let shown = format!("{}{port}", url.host_str()?);
        Some(Self { address: url.as_str().parse().ok()?, shown, auth })
    }

    /// Its URL without credentials.
    #[must_use]
    pub fn address(&self) -> &Uri {
        &self.address
    }

    /// Its host and port, as messages have them.
    #[must_use]
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// Whether it is spoken to by TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.address.scheme() == Some(&Scheme::HTTPS)
    }
}

type Tcp = HttpConnector<GuardedResolver>;

/// Opens connections.
#[derive(Clone)]
pub struct Connector {
    direct: HttpsConnector<Tcp>,
    proxied: Option<Box<Proxied>>,
    outgoing: Outgoing,
    opened: Arc<AtomicUsize>,
}

/// Over a proxy: asked for the whole URL in `plain` text, or for a `tunnel`.
#[derive(Clone)]
struct Proxied {
    plain: AtProxy<HttpsConnector<Tcp>>,
    tunnel: HttpsConnector<AtProxy<Tunnel<HttpsConnector<Tcp>>>>,
}

impl Connector {
    /// Returns a connector for `outgoing`. `unacknowledged` is the time for a peer to acknowledge
    /// sent bytes.
    #[must_use]
    pub fn new(outgoing: &Outgoing, mut tls: ClientConfig, unacknowledged: Duration) -> Self {
        let mut tcp = HttpConnector::new_with_resolver(outgoing.resolver.clone());
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(TCP_KEEPALIVE));
        #[cfg(target_os = "linux")]
        tcp.set_tcp_user_timeout(Some(unacknowledged));
        let to_proxy = tls.clone();
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let proxied = outgoing.proxy().map(|proxy| {
            let plain: HttpsConnector<Tcp> = (tcp.clone(), to_proxy).into();
            let mut tunnel = Tunnel::new(proxy.address.clone(), plain.clone());
            if let Some(auth) = &proxy.auth {
                tunnel = tunnel.with_auth(auth.clone());
            }
            let at = |connector| AtProxy { connector, proxy: Arc::clone(proxy) };
            let tunnel = (AtProxy { connector: tunnel, proxy: Arc::clone(proxy) }, tls.clone()).into();
            Box::new(Proxied { plain: at(plain), tunnel })
        });
        Self { direct: (tcp, tls).into(), proxied, outgoing: outgoing.clone(), opened: Arc::default() }
    }

    /// Returns the number of connections that it began to open.
    #[must_use]
    pub fn opened(&self) -> usize {
        self.opened.load(Ordering::Relaxed)
    }

    async fn connect(self, to: Uri) -> Result<Tracked, BoxError> {
        let proxy = to.host().and_then(|host| self.outgoing.proxy_for(host)).cloned();
        let (Some(proxy), Some(proxied)) = (proxy, self.proxied) else {
            return Ok(Tracked::new(self.direct.oneshot(to).await?, false));
        };
        Ok(match to.scheme() == Some(&Scheme::HTTPS) {
            true => Tracked::new(proxied.tunnel.oneshot(to).await?, false),
            false => Tracked::new(proxied.plain.oneshot(proxy.address.clone()).await?, true),
        })
    }
}

impl Service<Uri> for Connector {
    type Response = Tracked;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Tracked, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        self.opened.fetch_add(1, Ordering::Relaxed);
        let connector = self.clone();
        Box::pin(async move {
            let connected = tokio::time::timeout(CONNECT_TIMEOUT, connector.connect(to));
            let late = || io::Error::new(io::ErrorKind::TimedOut, "no connection came about in time");
            connected.await.map_err(|_| late())?
        })
    }
}

/// A connector whose failures count as the proxy's.
#[derive(Clone)]
struct AtProxy<C> {
    connector: C,
    proxy: Arc<Forward>,
}

impl<C> Service<Uri> for AtProxy<C>
where
    C: Service<Uri, Error: Into<BoxError>, Future: Send + 'static>,
{
    type Response = C::Response;
    type Error = ProxyError;
    type Future = Pin<Box<dyn Future<Output = Result<C::Response, ProxyError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), ProxyError>> {
        let failed = |error: C::Error| ProxyError::unreachable(&self.proxy, &*error.into());
        self.connector.poll_ready(context).map_err(failed)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let (connecting, proxy) = (self.connector.call(to), Arc::clone(&self.proxy));
        Box::pin(
            async move { connecting.await.map_err(|error| ProxyError::unreachable(&proxy, &*error.into())) },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_a_url_or_a_host_with_a_port() {
        for (text, address, auth) in [
            ("http://127.0.0.1:3128", Some("http://127.0.0.1:3128/"), None),
            ("127.0.0.1:3128", Some("http://127.0.0.1:3128/"), None),
            ("localhost:3128", Some("http://localhost:3128/"), None),
            ("https://u%40x:p@proxy.example", Some("https://proxy.example/"), Some("Basic dUB4OnA=")),
            ("ftp://proxy.example", None, None),
            ("::", None, None),
        ] {
            let proxy = Forward::at(text);
            let seen = proxy.as_ref().map(|proxy| proxy.address.to_string());
            assert_eq!(seen.as_deref(), address, "{text}");
            let seen = proxy.and_then(|proxy| proxy.auth);
            assert_eq!(seen.as_ref().map(|auth| auth.to_str().unwrap()), auth, "{text}");
        }
    }
}
