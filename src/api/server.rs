//! Serves connections, within limits for slow and greedy clients.

use std::{
    convert::Infallible,
    pin::{Pin, pin},
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
    time::Duration,
};

use axum::{Router, body::Body, response::IntoResponse as _};
use http::{Request, Response, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{select, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;

use super::{
    access::{PeerKind, is_probe},
    connection_limits::{ConnectionLimits, ConnectionSlot, RequestInFlight},
    listen::{Accepted, BoundListener},
    problem::{Code, Problem},
    write_timeout::{ConnectionFlags, WriteTimeout},
};
use crate::util::units::HumanDuration;

/// The longest pause between two requests on one connection.
const IDLE: Duration = Duration::from_secs(75);

/// The longest wait for the first byte of a connection.
const SILENCE: Duration = Duration::from_secs(30);

/// The largest head of a request, and the largest part of a body that is read ahead.
const MAX_HEAD: usize = 16 << 10;

/// The longest wait of a stop for an endless answer to be taken, and for a head to be complete.
const FAREWELL: Duration = Duration::from_secs(1);

/// The longest wait for an evicted connection to take the answer that it was sent before.
const FLUSH: Duration = Duration::from_millis(100);

/// The pause after a connection could not be accepted.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// The part that all connections of a listener share.
#[derive(Clone)]
struct Serving {
    router: Router,
    write_timeout: Duration,
    stop: CancellationToken,
}

impl BoundListener {
    /// Serves `router` until `stop`, then lets requests in flight finish. Closes the connection of
    /// a client that takes no byte of its answer for `write_timeout`.
    pub(crate) async fn serve(
        self,
        router: Router,
        limits: Arc<ConnectionLimits>,
        write_timeout: Duration,
        stop: CancellationToken,
    ) {
        let open = self.serve_until(router, limits, write_timeout, stop).await;
        drop(self);
        open.close();
        open.wait().await;
    }

    /// Does the same as [`BoundListener::serve`], and keeps the address for a successor. Returns the connections, whose
    /// requests in flight finish.
    pub(crate) async fn serve_until(
        &self,
        router: Router,
        limits: Arc<ConnectionLimits>,
        write_timeout: Duration,
        stop: CancellationToken,
    ) -> TaskTracker {
        let serving = Serving { router, write_timeout, stop };
        let open = TaskTracker::new();
        let mut failing = false;
        loop {
            let accepted = select! {
                accepted = async {
                    limits.wait_for_room().await;
                    self.accept().await
                } => accepted,
                () = serving.stop.cancelled() => break,
            };
            match accepted {
                Ok(accepted) => {
                    failing = false;
                    open.spawn(serving.clone().connection(accepted, limits.open_connection()));
                }
                Err(error) => {
                    // The process is most likely out of descriptors.
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(%error, "accepting a connection failed; closing the longest idle ones");
                    }
                    limits.evict_oldest();
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
        open
    }
}

impl Serving {
    async fn connection(self, accepted: Accepted, slot: Arc<ConnectionSlot>) {
        // Before its first byte a connection costs its descriptor and little else.
        let spoken = select! {
            spoken = timeout(SILENCE, accepted.speaks()) => matches!(spoken, Ok(Ok(()))),
            () = slot.evicted() => false,
            () = self.stop.cancelled() => false,
        };
        if spoken {
            // Boxed, and only now: serving a connection takes more memory than waiting for it.
            Box::pin(self.serve(accepted, slot)).await;
        }
    }

    async fn serve(self, accepted: Accepted, slot: Arc<ConnectionSlot>) {
        let flags = Arc::new(ConnectionFlags::default());
        let peer = accepted.peer_kind();
        let stream = WriteTimeout::new(
            accepted.into_stream(),
            self.write_timeout,
            Arc::clone(&flags),
            Arc::clone(&slot),
        );
        let service = service_fn(|request| self.answer(request, peer, &flags, &slot));
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(IDLE).max_buf_size(MAX_HEAD);
        let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
        let mut ending = false;
        loop {
            select! {
                // A client may break off; that is no error of the daemon.
                _ = connection.as_mut() => break,
                () = slot.evicted(), if !ending => {
                    if slot.is_in_head() {
                        break;
                    }
                    ending = true;
                    connection.as_mut().graceful_shutdown();
                    if timeout(FLUSH, connection.as_mut()).await.is_ok() || !slot.is_in_request() {
                        break;
                    }
                }
                () = self.stop.cancelled(), if !ending => {
                    ending = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = abandoned(&flags, &slot, &self.stop) => break,
            }
        }
        if flags.stalled.load(Ordering::Acquire) {
            tracing::warn!(after = %HumanDuration(self.write_timeout), "connection closed: the client took nothing of its answer");
        }
    }

    async fn answer(
        &self,
        mut request: Request<Incoming>,
        peer: PeerKind,
        flags: &Arc<ConnectionFlags>,
        slot: &Arc<ConnectionSlot>,
    ) -> Result<Response<Body>, Infallible> {
        let (in_request, has_room) = slot.begin_request();
        if !has_room && !is_probe(request.uri().path()) {
            let text = "too many requests are in flight; send the request again later";
            let problem = Problem::new(Code::Busy, text);
            return Ok(last(problem.into_response())
                .map(|body| Body::new(TrackedBody { body, _in_request: in_request })));
        }
        request.extensions_mut().insert(peer);
        request.extensions_mut().insert(Arc::clone(flags));
        let response = self.router.clone().oneshot(request.map(Body::new)).await?;
        let response = if has_room { response } else { last(response) };
        Ok(response.map(|body| Body::new(TrackedBody { body, _in_request: in_request })))
    }
}

/// Marks an answer as the last one on its connection, which then makes room for others.
fn last(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(header::CONNECTION, http::HeaderValue::from_static("close"));
    response
}

/// Waits until the daemon stops and the client then neither takes the end of an endless answer nor
/// completes a head.
async fn abandoned(flags: &ConnectionFlags, slot: &ConnectionSlot, stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(FAREWELL).await;
    if !flags.streaming.load(Ordering::Acquire) && !slot.is_in_head() {
        std::future::pending::<()>().await;
    }
}

/// The body of an answer. Its drop ends the request.
struct TrackedBody {
    body: Body,
    _in_request: RequestInFlight,
}

impl HttpBody for TrackedBody {
    type Data = bytes::Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
