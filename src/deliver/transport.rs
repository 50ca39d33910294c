//! The connections of webhooks: by which client a request goes out, and when that client is built anew.

use std::{
    cell::Cell,
    fmt,
    future::Future,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use reqwest::Client;
use tower::{Layer, Service};

use super::{
    guard::GuardedResolver,
    report::{ErrorClass, Failure},
    tls::{TlsError, TlsFiles},
};
use crate::{http_client, secret::Stamp};

/// Where connections go and how many are kept.
#[derive(Clone, Debug)]
pub(super) struct Route {
    /// That of `server.proxy`.
    pub(super) proxy: Option<String>,
    /// Judges the addresses.
    pub(super) resolver: GuardedResolver,
    /// Connections kept open to one host after use.
    pub(super) idle: usize,
    /// How long a connection may leave what was sent unacknowledged.
    pub(super) timeout: Duration,
    /// Connections after which a client gives way to a new one, which bounds the idle ones over all hosts: the old
    /// one's are closed as soon as the last request that uses it is done.
    pub(super) retire_after: usize,
    /// Certificates beside the usual ones.
    pub(super) tls: TlsFiles,
}

/// The client of a route.
pub(super) struct Transport {
    route: Route,
    live: Mutex<Live>,
}

#[derive(Clone)]
struct Live {
    client: Client,
    /// How the certificate files looked when it was built.
    stamps: Vec<Stamp>,
    opened: Arc<AtomicUsize>,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub(super) enum TransportError {
    /// A certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Anything else, mostly a proxy that is no URL.
    #[error("the HTTP client cannot be set up; is server.proxy a URL?")]
    Client(#[from] reqwest::Error),
}

impl From<TransportError> for Failure {
    fn from(error: TransportError) -> Self {
        Self::new(ErrorClass::Config, error.to_string())
    }
}

impl Transport {
    pub(super) fn new(route: Route) -> Result<Self, TransportError> {
        let live = Mutex::new(Live::build(&route, route.tls.stamps()?)?);
        Ok(Self { route, live })
    }

    /// The client to use now. It is built anew when a certificate file changed; when the new one cannot be used, the
    /// error says so and the next call looks again.
    pub(super) fn client(&self) -> Result<Client, TransportError> {
        let stamps = self.route.tls.stamps()?;
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        if live.stamps != stamps || live.opened.load(Ordering::Relaxed) >= self.route.retire_after {
            *live = Live::build(&self.route, stamps)?;
        }
        Ok(live.client.clone())
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").field("route", &self.route).finish_non_exhaustive()
    }
}

impl Live {
    /// The stamps are older than what is read here, so a change in between is seen by the next look at them.
    fn build(route: &Route, stamps: Vec<Stamp>) -> Result<Self, TransportError> {
        let opened = Arc::new(AtomicUsize::new(0));
        let builder = http_client::builder(route.proxy.as_deref(), route.tls.client_config()?)?
            .pool_max_idle_per_host(route.idle)
            .connector_layer(Noticing(Arc::clone(&opened)));
        // A receiver that stops reading would hold the connection of an attempt that is long over.
        #[cfg(target_os = "linux")]
        let builder = builder.tcp_user_timeout(route.timeout.max(Duration::from_secs(1)));
        // Behind a proxy the resolver would judge the proxy's own address.
        let client = match &route.proxy {
            Some(_) => builder.build()?,
            None => builder.dns_resolver(route.resolver.clone()).build()?,
        };
        Ok(Self { client, stamps, opened })
    }
}

tokio::task_local! {
    /// Whether the request of this task began to open a connection.
    static OPENED: Cell<bool>;
}

/// Runs a request, and tells whether it went over a connection that was open before.
pub(super) async fn noticing_reuse<F: Future>(request: F) -> (F::Output, bool) {
    let noticed = async {
        let output = request.await;
        (output, !OPENED.with(Cell::get))
    };
    OPENED.scope(Cell::new(false), noticed).await
}

/// Notices that a connection is opened: the client asks its connector within the request's own task, and only when no
/// kept connection is at hand.
#[derive(Clone)]
struct Noticing(Arc<AtomicUsize>);

impl<S> Layer<S> for Noticing {
    type Service = Noticed<S>;

    fn layer(&self, inner: S) -> Noticed<S> {
        Noticed { inner, opened: Arc::clone(&self.0) }
    }
}

#[derive(Clone)]
struct Noticed<S> {
    inner: S,
    opened: Arc<AtomicUsize>,
}

impl<S: Service<R>, R> Service<R> for Noticed<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: R) -> S::Future {
        self.opened.fetch_add(1, Ordering::Relaxed);
        // Outside of an attempt nobody asks.
        let _ = OPENED.try_with(|opened| opened.set(true));
        self.inner.call(request)
    }
}
