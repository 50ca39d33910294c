//! Serving connections, with bounds that a slow or greedy client meets.

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
    access::{Door, is_probe},
    listen::{Accepted, Bound},
    patience::{Line, Patient},
    places::{InRequest, Place, Places},
    problem::{Code, Problem},
};
use crate::util::units::HumanDuration;

/// How long a connection may lie idle between requests.
const IDLE: Duration = Duration::from_secs(75);

/// How long it may say nothing at first.
const SILENCE: Duration = Duration::from_secs(30);

/// The largest head of a request, and the most of its body that is read ahead.
const MAX_HEAD: usize = 16 << 10;

/// How long a stop waits for the reader of an endless answer to take its end, and for a head to be complete.
const FAREWELL: Duration = Duration::from_secs(1);

/// How long an idle connection that gives way may take for what it was sent before.
const FLUSH: Duration = Duration::from_millis(100);

/// How long to wait after a connection could not be accepted.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// What all connections of a listener share.
#[derive(Clone)]
struct Serving {
    router: Router,
    patience: Duration,
    stop: CancellationToken,
}

impl Bound {
    /// Serves `router` until `stop`, then lets requests in flight finish.
    /// A client that takes nothing of its answer for `patience` is cut off.
    pub(crate) async fn serve(
        self,
        router: Router,
        places: Arc<Places>,
        patience: Duration,
        stop: CancellationToken,
    ) {
        let serving = Serving { router, patience, stop };
        let open = TaskTracker::new();
        let mut failing = false;
        loop {
            let accepted = select! {
                accepted = async {
                    places.room().await;
                    self.accept().await
                } => accepted,
                () = serving.stop.cancelled() => break,
            };
            match accepted {
                Ok(accepted) => {
                    failing = false;
                    open.spawn(serving.clone().connection(accepted, places.enter()));
                }
                Err(error) => {
                    // Out of descriptors, most likely.
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(%error, "a connection could not be accepted; the longest idle ones are closed");
                    }
                    places.end_oldest();
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
        drop(self);
        open.close();
        open.wait().await;
    }
}

impl Serving {
    async fn connection(self, accepted: Accepted, place: Arc<Place>) {
        // Until it says something it costs its descriptor and little else.
        let spoken = select! {
            spoken = timeout(SILENCE, accepted.speaks()) => matches!(spoken, Ok(Ok(()))),
            () = place.leave() => false,
            () = self.stop.cancelled() => false,
        };
        if spoken {
            // Only now, and apart: what serves a connection takes more memory than waiting for it.
            Box::pin(self.serve(accepted, place)).await;
        }
    }

    async fn serve(self, accepted: Accepted, place: Arc<Place>) {
        let line = Arc::new(Line::default());
        let door = accepted.door();
        let stream =
            Patient::new(accepted.into_stream(), self.patience, Arc::clone(&line), Arc::clone(&place));
        let service = service_fn(|request| self.answer(request, door, &line, &place));
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(IDLE).max_buf_size(MAX_HEAD);
        let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
        let mut ending = false;
        loop {
            select! {
                // A client that breaks off is its own affair.
                _ = connection.as_mut() => break,
                () = place.leave(), if !ending => {
                    if place.is_in_head() {
                        break;
                    }
                    ending = true;
                    connection.as_mut().graceful_shutdown();
                    if timeout(FLUSH, connection.as_mut()).await.is_ok() || !place.is_in_request() {
                        break;
                    }
                }
                () = self.stop.cancelled(), if !ending => {
                    ending = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = abandoned(&line, &place, &self.stop) => break,
            }
        }
        if line.stalled.load(Ordering::Acquire) {
            tracing::warn!(after = %HumanDuration(self.patience), "a client took nothing of its answer and was cut off");
        }
    }

    async fn answer(
        &self,
        mut request: Request<Incoming>,
        door: Door,
        line: &Arc<Line>,
        place: &Arc<Place>,
    ) -> Result<Response<Body>, Infallible> {
        let (in_request, has_room) = place.begin_request();
        if !has_room && !is_probe(request.uri().path()) {
            let text = "too many requests are in flight; send it again";
            let problem = Problem::new(Code::Busy, text);
            return Ok(
                last(problem.into_response()).map(|body| Body::new(Answer { body, _in_request: in_request }))
            );
        }
        request.extensions_mut().insert(door);
        request.extensions_mut().insert(Arc::clone(line));
        let response = self.router.clone().oneshot(request.map(Body::new)).await?;
        let response = if has_room { response } else { last(response) };
        Ok(response.map(|body| Body::new(Answer { body, _in_request: in_request })))
    }
}

/// The last answer on its connection, which makes room for others then.
fn last(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(header::CONNECTION, http::HeaderValue::from_static("close"));
    response
}

/// Waits until the daemon stops and its client neither takes the end of an endless answer nor completes a head.
async fn abandoned(line: &Line, place: &Place, stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(FAREWELL).await;
    if !line.streaming.load(Ordering::Acquire) && !place.is_in_head() {
        std::future::pending::<()>().await;
    }
}

/// The body of an answer. With its end the request is over.
struct Answer {
    body: Body,
    _in_request: InRequest,
}

impl HttpBody for Answer {
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
