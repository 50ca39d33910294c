//! How connections of [`Line`](super::Line)s come about: TCP, a proxy where there is one, TLS.

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

use super::{CONNECT_TIMEOUT, TCP_KEEPALIVE, line::Tracked};

type BoxError = Box<dyn Error + Send + Sync>;

/// What a name resolver of [`Connector`] is.
pub use hyper_util::client::legacy::connect::dns::Name;

/// A proxy for outgoing requests.
#[derive(Clone, Debug)]
pub struct Forward {
    address: Uri,
    /// What it is told of who asks.
    pub auth: Option<HeaderValue>,
}

impl Forward {
    /// The proxy at `url`, which may lack its scheme; `None` when it is no URL.
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
        Some(Self { address: url.as_str().parse().ok()?, auth })
    }
}

/// Opens connections.
#[derive(Clone)]
pub struct Connector<R> {
    reach: Reach<R>,
    opened: Arc<AtomicUsize>,
}

type Tls<C> = HttpsConnector<C>;

#[derive(Clone)]
enum Reach<R> {
    Direct(Tls<HttpConnector<R>>),
    Proxied(Box<Proxied<R>>),
}

/// Over a proxy: at its `address`, asked for the whole URL in `plain` text, or for a `tunnel`.
#[derive(Clone)]
struct Proxied<R> {
    address: Uri,
    plain: Tls<HttpConnector<R>>,
    tunnel: Tls<Tunnel<Tls<HttpConnector<R>>>>,
}

impl<R> Connector<R>
where
    R: Clone,
{
    /// A connector that asks `resolver` for the addresses of names, its proxy's among them. A connection may leave what was
    /// sent unacknowledged for `unacknowledged`.
    #[must_use]
    pub fn new(
        resolver: R,
        mut tls: ClientConfig,
        proxy: Option<&Forward>,
        unacknowledged: Duration,
    ) -> Self {
        let mut tcp = HttpConnector::new_with_resolver(resolver);
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(TCP_KEEPALIVE));
        #[cfg(target_os = "linux")]
        tcp.set_tcp_user_timeout(Some(unacknowledged));
        let to_proxy = tls.clone();
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let reach = match proxy {
            None => Reach::Direct((tcp, tls).into()),
            Some(proxy) => {
                let plain: Tls<_> = (tcp, to_proxy).into();
                let mut tunnel = Tunnel::new(proxy.address.clone(), plain.clone());
                if let Some(auth) = &proxy.auth {
                    tunnel = tunnel.with_auth(auth.clone());
                }
                let tunnel = (tunnel, tls).into();
                Reach::Proxied(Box::new(Proxied { address: proxy.address.clone(), plain, tunnel }))
            }
        };
        Self { reach, opened: Arc::default() }
    }

    /// How many connections it began to open.
    #[must_use]
    pub fn opened(&self) -> usize {
        self.opened.load(Ordering::Relaxed)
    }
}

impl<R> Service<Uri> for Connector<R>
where
    HttpConnector<R>:
        Service<Uri, Response = Tcp, Error: Into<BoxError> + Send, Future: Send> + Clone + Send + 'static,
    R: Clone + Send + 'static,
{
    type Response = Tracked;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Tracked, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        self.opened.fetch_add(1, Ordering::Relaxed);
        let reach = self.reach.clone();
        Box::pin(async move {
            let connected = tokio::time::timeout(CONNECT_TIMEOUT, connect(reach, to));
            let late = || io::Error::new(io::ErrorKind::TimedOut, "no connection came about in time");
            connected.await.map_err(|_| late())?
        })
    }
}

type Tcp = hyper_util::rt::TokioIo<tokio::net::TcpStream>;

async fn connect<R>(reach: Reach<R>, to: Uri) -> Result<Tracked, BoxError>
where
    HttpConnector<R>:
        Service<Uri, Response = Tcp, Error: Into<BoxError> + Send, Future: Send> + Clone + Send + 'static,
{
    let proxied = match reach {
        Reach::Direct(direct) => return Ok(Tracked::new(direct.oneshot(to).await?, false)),
        Reach::Proxied(proxied) => *proxied,
    };
    Ok(match to.scheme() == Some(&Scheme::HTTPS) {
        true => Tracked::new(proxied.tunnel.oneshot(to).await?, false),
        false => Tracked::new(proxied.plain.oneshot(proxied.address).await?, true),
    })
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
