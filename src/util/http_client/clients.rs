//! The clients of requests that carry no large body: those to sources, to links and to the collector.

use std::time::Duration;

use http::{StatusCode, uri::Scheme};
use reqwest::{Client, ClientBuilder, Method, RequestBuilder, Response};
use tokio::time::Instant;
use url::Url;

use super::{
    Connections, Forward, LIFE, Lease, Outgoing, builder,
    causes::{find, innermost, plain},
    is_sent_again,
    reuse::noticing_reuse,
    tls, was_refused,
};

/// The wait after which a request without an answer casts doubt on its connection when its caller gives it up.
const DOUBT: Duration = Duration::from_secs(1);

/// The clients of a part of tidings.
pub struct Clients {
    connections: Connections<Client, reqwest::Error>,
    outgoing: Outgoing,
}

/// Why a request brought no head of an answer.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The proxy failed, and nothing is known of who is behind it.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// The peer did.
    #[error(transparent)]
    Peer(#[from] reqwest::Error),
}

/// A proxy that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the proxy {address}: {reason}")]
pub struct ProxyError {
    address: String,
    reason: String,
}

impl ProxyError {
    /// No connection through it came about.
    pub(super) fn unreachable(proxy: &Forward, error: &(dyn std::error::Error + 'static)) -> Self {
        Self { address: proxy.shown().to_owned(), reason: plain(innermost(error)) }
    }

    /// It answered 407, which nobody else does (RFC 9110, section 15.5.8).
    #[must_use]
    pub fn unauthorized(proxy: &Forward) -> Self {
        let reason = "it answered 407 and wants other credentials".to_owned();
        Self { address: proxy.shown().to_owned(), reason }
    }
}

impl Clients {
    /// Clients that go out by `outgoing`, each finished by `finish`.
    ///
    /// # Errors
    /// When the TLS library cannot be set up.
    pub fn new(
        outgoing: &Outgoing,
        finish: impl Fn(ClientBuilder) -> ClientBuilder + Send + Sync + 'static,
    ) -> reqwest::Result<Self> {
        let of_clients = outgoing.clone();
        let connections = Connections::new(LIFE, (), move |()| finish(builder(&of_clients, tls())).build())?;
        Ok(Self { connections, outgoing: outgoing.clone() })
    }

    /// Sends a request and returns the head of its answer. A request is sent again over another connection when the peer
    /// did not handle it, or when it may be repeated and a kept connection broke under it. `sending` is called for each
    /// request that goes out.
    ///
    /// # Errors
    /// That of the last request.
    pub async fn send(
        &self,
        make: impl FnOnce(&Client) -> RequestBuilder,
        sending: impl Fn(),
    ) -> Result<Response, SendError> {
        let mut lease = self.connections.lease(())?;
        let mut request = make(&lease.client).build()?;
        let url = request.url().clone();
        let repeatable = matches!(*request.method(), Method::GET | Method::HEAD);
        let mut tries = 1;
        loop {
            let spare = request.try_clone();
            sending();
            let connections = &self.connections;
            let mut doubt = Doubt { connections, lease: &lease, since: Instant::now(), settled: false };
            let (sent, reused) = noticing_reuse(lease.client.execute(request)).await;
            doubt.settled = true;
            drop(doubt);
            let error = match sent {
                Err(error) if !error.is_connect() => error,
                settled => return self.settled(settled, &url),
            };
            self.connections.renew(&lease);
            let again = is_sent_again(was_refused(&error), reused && repeatable, tries);
            let Some(spare) = spare.filter(|_| again) else { return Err(error.into()) };
            (request, lease) = (spare, self.connections.lease(())?);
            tries += 1;
        }
    }

    /// Tells what the proxy says from what the peer says.
    fn settled(&self, sent: reqwest::Result<Response>, url: &Url) -> Result<Response, SendError> {
        let Some(proxy) = url.host_str().and_then(|host| self.outgoing.proxy_for(host)) else {
            return Ok(sent?);
        };
        let is_tunnel = url.scheme() == Scheme::HTTPS.as_str();
        match sent {
            Ok(answer) if answer.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED && !is_tunnel => {
                Err(ProxyError::unauthorized(proxy).into())
            }
            // TLS within the tunnel is the peer's.
            Err(error) if is_tunnel && find::<rustls::Error>(&error).is_some() && !proxy.is_tls() => {
                Err(error.into())
            }
            Err(error) => Err(ProxyError::unreachable(proxy, &error).into()),
            Ok(answer) => Ok(answer),
        }
    }
}

/// A request without an answer. When it is given up late, its connection may be dead, and others must not wait for it.
struct Doubt<'a> {
    connections: &'a Connections<Client, reqwest::Error>,
    lease: &'a Lease<Client>,
    since: Instant,
    settled: bool,
}

impl Drop for Doubt<'_> {
    fn drop(&mut self) {
        if !self.settled && self.since.elapsed() >= DOUBT {
            self.connections.renew(self.lease);
        }
    }
}
