//! The clients of requests without large bodies: to sources, to links and to the collector.

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
use crate::util::term::Term;

/// The wait after which a caller that gives up a request makes its connection suspect.
const DOUBT: Duration = Duration::from_secs(1);

/// A client that is replaced when its connections fail or grow old.
pub struct Clients {
    connections: Connections<Client, reqwest::Error>,
    outgoing: Outgoing,
}

/// The error of a request without an answer.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The proxy failed; nothing is known of the peer behind it.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// The peer failed.
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
    /// Returns the error of a proxy without a connection.
    pub(super) fn unreachable(proxy: &Forward, error: &(dyn std::error::Error + 'static)) -> Self {
        Self { address: proxy.shown().to_owned(), reason: plain(&innermost(error)) }
    }

    /// Returns the error of a proxy that answered 407, which only proxies do (RFC 9110, section
    /// 15.5.8).
    #[must_use]
    pub fn unauthorized(proxy: &Forward) -> Self {
        let reason = "it answered 407 and wants other credentials".to_owned();
        Self { address: proxy.shown().to_owned(), reason }
    }
}

impl Clients {
    /// Builds a client for `outgoing`; `finish` completes each new one.
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

    /// Returns until when requests may be sent.
    #[must_use]
    pub fn term(&self) -> &Term {
        self.outgoing.term()
    }

    /// Sends a request and returns the head of its answer. Sends it again over another connection
    /// when the peer did not handle it, or when it may be repeated and a kept connection broke.
    /// Calls `sending` for each request.
    ///
    /// # Errors
    /// The error of the last request.
    pub async fn send(
        &self,
        make: impl FnOnce(&Client) -> RequestBuilder,
        sending: impl Fn(),
    ) -> Result<Response, SendError> {
        self.send_if(make, |method| matches!(*method, Method::GET | Method::HEAD), sending).await
    }

    /// Sends a request that may be repeated, whatever its method is. See [`send`](Self::send).
    ///
    /// # Errors
    /// The error of the last request.
    pub async fn send_repeatable(
        &self,
        make: impl FnOnce(&Client) -> RequestBuilder,
        sending: impl Fn(),
    ) -> Result<Response, SendError> {
        self.send_if(make, |_| true, sending).await
    }

    async fn send_if(
        &self,
        make: impl FnOnce(&Client) -> RequestBuilder,
        is_repeatable: impl Fn(&Method) -> bool,
        sending: impl Fn(),
    ) -> Result<Response, SendError> {
        let mut lease = self.connections.lease(())?;
        let mut request = make(&lease.client).build()?;
        let url = request.url().clone();
        let repeatable = is_repeatable(request.method());
        let mut tries = 1;
        loop {
            let spare = request.try_clone();
            self.outgoing.term().holds().await;
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

    /// Separates an answer or an error of the proxy from one of the peer.
    fn settled(&self, sent: reqwest::Result<Response>, url: &Url) -> Result<Response, SendError> {
        let Some(proxy) = url.host_str().and_then(|host| self.outgoing.proxy_for(host)) else {
            return Ok(sent?);
        };
        let is_tunnel = url.scheme() == Scheme::HTTPS.as_str();
        match sent {
            Ok(answer) if answer.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED && !is_tunnel => {
                Err(ProxyError::unauthorized(proxy).into())
            }
            // TLS inside the tunnel is the peer's.
            Err(error) if is_tunnel && find::<rustls::Error>(&error).is_some() && !proxy.is_tls() => {
                Err(error.into())
            }
            Err(error) => Err(ProxyError::unreachable(proxy, &error).into()),
            Ok(answer) => Ok(answer),
        }
    }
}

/// A request without an answer. When its caller gives it up late, its connection may be dead, and
/// the next request uses another.
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
