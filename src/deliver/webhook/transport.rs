//! The connections of webhooks: by which client a request goes out, and when that client is built anew.

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

/// Bytes that wait in HTTP/2 for the connection, at the most.
const SEND_BUFFER: usize = 128 << 10;

/// The shortest time for which a connection may leave what was sent unacknowledged.
const SHORTEST_UNACKNOWLEDGED: Duration = Duration::from_secs(1);

/// Where connections go and how many are kept.
#[derive(Clone, Debug)]
pub(super) struct TransportConfig {
    /// Which addresses they may reach, and through which proxy.
    pub(super) outgoing: Outgoing,
    /// Connections kept open to one host after use.
    pub(super) idle: usize,
    /// How long a connection may leave what was sent unacknowledged, or a ping unanswered.
    pub(super) timeout: Duration,
    /// Connections after which a client gives way to a new one, which bounds the idle ones over all hosts: the old
    /// one's are closed as soon as the last request that uses it is done.
    pub(super) retire_after: usize,
    /// The age at which a client gives way to a new one.
    pub(super) life: Duration,
    /// Certificates beside the usual ones.
    pub(super) tls: TlsFiles,
}

impl TransportConfig {
    /// A route of this many kept connections and no limits but the usual ones.
    pub(super) fn new(outgoing: Outgoing, idle: usize, timeout: Duration) -> Self {
        let tls = TlsFiles::default();
        Self { outgoing, idle, timeout, retire_after: usize::MAX, life: LIFE, tls }
    }
}

/// The client of a route.
pub(super) struct Transport {
    tls: TlsFiles,
    retire_after: usize,
    connections: Connections<WebClient, TlsError, Vec<Stamp>>,
}

/// Sends requests.
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
        // The stamps are older than what is read by it, so a change in between is seen by the next comparison.
        let connections = Connections::new(life, tls.stamps()?, move |_| WebClient::new(&route))?;
        Ok(Self { tls, retire_after, connections })
    }

    /// The client to use now. It is built anew when a certificate file changed; when the new one cannot be used, the
    /// error says so and the next call tries again.
    pub(super) fn lease(&self) -> Result<Lease<WebClient>, TlsError> {
        let stamps = self.tls.stamps()?;
        let lease = self.connections.lease(stamps.clone())?;
        if lease.client.connector.opened() < self.retire_after {
            return Ok(lease);
        }
        self.connections.renew(&lease);
        self.connections.lease(stamps)
    }

    /// Has the next request go out over a new connection.
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
        // A receiver that stops reading would hold the connection of an attempt that is long over.
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
            // A ping of a slow upload is answered after what was sent before it.
            .http2_keep_alive_timeout(route.timeout.max(PING_AFTER))
            // It is the attempt that decides what is sent again, and over which connection.
            .retry_canceled_requests(false)
            .build(connector.clone());
        Ok(Self { client, connector, outgoing })
    }

    /// Returns the proxy that answers in the place of who is behind it, as it opens no tunnel for plain text.
    pub(super) fn proxy_between(&self, uri: &Uri) -> Option<&Forward> {
        let host = uri.host().filter(|_| uri.scheme() == Some(&Scheme::HTTP))?;
        self.outgoing.proxy_for(host).map(AsRef::as_ref)
    }

    /// Adds to a request what the proxy in between has to be told of who asks.
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
