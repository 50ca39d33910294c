//! The HTTP client of a webhook, and when a new one replaces it.

use std::{fmt, time::Duration};

use http::{Request, Response, Uri, header::PROXY_AUTHORIZATION, uri::Scheme};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioTimer},
};

use crate::{
    deliver::{
        outcome::AttemptFailure,
        webhook::{
            tls::{TlsError, TlsFiles},
            upload::UploadBody,
        },
    },
    model::delivery::ErrorClass,
    util::{
        http_client::{Connections, Connector, Forward, IDLE_TIMEOUT, LIFE, Lease, Outgoing, PING_AFTER},
        secret::Stamp,
    },
};

/// The most bytes that may wait for an HTTP/2 connection.
const SEND_BUFFER: usize = 128 << 10;

/// The least time for a connection to acknowledge sent bytes.
const SHORTEST_UNACKNOWLEDGED: Duration = Duration::from_secs(1);

/// The settings of a transport.
#[derive(Clone, Debug)]
pub(super) struct TransportConfig {
    /// The guard of addresses, and the proxy.
    pub(super) outgoing: Outgoing,
    /// Idle connections to keep to one host.
    pub(super) idle: usize,
    /// The time for a connection to acknowledge sent bytes, or to answer a ping.
    pub(super) timeout: Duration,
    /// New connections after which a new client replaces this one. That bounds the idle connections
    /// over all hosts: those of the old client close once its last request is done.
    pub(super) retire_after: usize,
    /// The age at which a new client replaces this one.
    pub(super) life: Duration,
    /// The certificate files of the webhook.
    pub(super) tls: TlsFiles,
}

impl TransportConfig {
    /// Returns settings with this many idle connections and the usual limits.
    pub(super) fn new(outgoing: Outgoing, idle: usize, timeout: Duration) -> Self {
        let tls = TlsFiles::default();
        Self { outgoing, idle, timeout, retire_after: usize::MAX, life: LIFE, tls }
    }
}

/// The current client, and how to build the next.
pub(super) struct Transport {
    tls: TlsFiles,
    retire_after: usize,
    connections: Connections<WebClient, TlsError, Vec<Stamp>>,
}

/// A client that sends requests.
#[derive(Clone)]
pub(super) struct WebClient {
    client: Client<Connector, UploadBody>,
    connector: Connector,
    outgoing: Outgoing,
}

impl From<TlsError> for AttemptFailure {
    fn from(error: TlsError) -> Self {
        Self::new(ErrorClass::Config, error.to_string())
    }
}

impl Transport {
    pub(super) fn new(route: TransportConfig) -> Result<Self, TlsError> {
        let (tls, retire_after, life) = (route.tls.clone(), route.retire_after, route.life);
        // Stamps are taken before the files are read, so that the next comparison sees a change in
        // between.
        let connections = Connections::new(life, tls.stamps()?, move |_| WebClient::new(&route))?;
        Ok(Self { tls, retire_after, connections })
    }

    /// Returns the client to use now. Builds a new one when a certificate file has changed.
    ///
    /// # Errors
    /// When the new client cannot be built; the next call tries again.
    pub(super) fn lease(&self) -> Result<Lease<WebClient>, TlsError> {
        let stamps = self.tls.stamps()?;
        let lease = self.connections.lease(stamps.clone())?;
        if lease.client.connector.opened() < self.retire_after {
            return Ok(lease);
        }
        self.connections.renew(&lease);
        self.connections.lease(stamps)
    }

    /// Makes the next request use a new connection.
    pub(super) fn renew(&self, lease: &Lease<WebClient>) {
        self.connections.renew(lease);
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").field("tls", &self.tls).finish_non_exhaustive()
    }
}

impl WebClient {
    fn new(route: &TransportConfig) -> Result<Self, TlsError> {
        // Ends connections to receivers that stop reading, long after their attempt is over.
        let unacknowledged = route.timeout.max(SHORTEST_UNACKNOWLEDGED);
        let outgoing = route.outgoing.clone();
        let connector = Connector::new(&outgoing, route.tls.client_config()?, unacknowledged);
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(route.idle)
            .http2_max_send_buf_size(SEND_BUFFER)
            .http2_keep_alive_interval(PING_AFTER)
            // The receiver answers a ping after the upload before it.
            .http2_keep_alive_timeout(route.timeout.max(PING_AFTER))
            // The attempt decides what is sent again, and over which connection.
            .retry_canceled_requests(false)
            .build(connector.clone());
        Ok(Self { client, connector, outgoing })
    }

    /// Returns the proxy that itself answers requests to `uri`: plain HTTP goes through no tunnel.
    pub(super) fn proxy_between(&self, uri: &Uri) -> Option<&Forward> {
        let host = uri.host().filter(|_| uri.scheme() == Some(&Scheme::HTTP))?;
        self.outgoing.proxy_for(host).map(AsRef::as_ref)
    }

    /// Adds the credentials for the proxy to a plain HTTP request.
    pub(super) fn authorize(&self, request: &mut Request<UploadBody>) {
        if let Some(auth) = self.proxy_between(request.uri()).and_then(|proxy| proxy.auth.clone()) {
            request.headers_mut().insert(PROXY_AUTHORIZATION, auth);
        }
    }

    /// Sends a request and returns the head of its answer.
    pub(super) async fn send(
        &self,
        request: Request<UploadBody>,
    ) -> Result<Response<Incoming>, hyper_util::client::legacy::Error> {
        self.client.request(request).await
    }
}
