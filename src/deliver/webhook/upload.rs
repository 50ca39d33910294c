//! The upload of a request's body: its progress, and whether the connection took all of it.

use std::{
    error::Error,
    future::Future as _,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::Stream;
use http::Request;
use http_body::{Body, Frame};
use hyper_util::client::legacy::connect::{CaptureConnection, capture_connection};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};

use crate::{
    deliver::encode::payload::PayloadError,
    util::http_client::{ConnectionProgress, ConnectionState},
};

type BoxError = Box<dyn Error + Send + Sync>;
type Chunks = Pin<Box<dyn Stream<Item = Result<Bytes, PayloadError>> + Send>>;

/// The end of a body that was given up. An end without an error would pass for the whole body.
#[derive(Debug, thiserror::Error)]
#[error("the rest of the event is not sent")]
struct GivenUp;

/// A body of a known length.
pub(super) struct UploadBody {
    chunks: Chunks,
    /// The unsent rest of a chunk.
    held: Bytes,
    length: u64,
    left: u64,
    captured: Option<CaptureConnection>,
    given_up: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    state: watch::Sender<State>,
}

/// The progress of the client with a body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct State {
    /// Bytes that the client took.
    taken: u64,
    /// Bytes that the connection wrote before this body.
    base: u64,
    /// The flushes of the connection before the client took the last byte.
    ended: Option<u64>,
    /// Whether the client dropped the body.
    gone: bool,
}

/// The progress of an [`UploadBody`], seen from outside. Dropping it gives up the rest of the body.
pub(super) struct Upload {
    meter: UploadMeter,
    length: u64,
    _given_up: DropGuard,
}

/// The error of a body that will not be sent whole.
#[derive(Debug)]
pub(super) struct UploadCut;

/// A meter of an upload's progress.
#[derive(Clone)]
pub(super) struct UploadMeter {
    state: watch::Receiver<State>,
    captured: CaptureConnection,
    connection: Option<watch::Receiver<ConnectionProgress>>,
}

impl UploadBody {
    pub(super) fn new(
        chunks: impl Stream<Item = Result<Bytes, PayloadError>> + Send + 'static,
        length: u64,
    ) -> Self {
        let chunks: Chunks = Box::pin(chunks);
        let (held, state) = (Bytes::new(), watch::Sender::default());
        Self { chunks, held, length, left: length, captured: None, given_up: None, state }
    }

    /// Polls the next bytes. The last byte goes alone, because HTTP/2 takes it only once the
    /// receiver has room for those before it.
    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, PayloadError>>> {
        while self.held.is_empty() {
            match ready!(self.chunks.as_mut().poll_next(context)) {
                Some(Ok(chunk)) => self.held = chunk,
                end => return Poll::Ready(end),
            }
        }
        let all = self.held.len();
        let part = if all > 1 && all as u64 == self.left { all - 1 } else { all };
        let chunk = self.held.split_to(part);
        self.left = self.left.saturating_sub(part as u64);
        Poll::Ready(Some(Ok(chunk)))
    }

    fn took(&self, bytes: usize, ended: bool) {
        let connection = self.captured.as_ref().and_then(ConnectionState::of);
        let now = connection.map(|connection| connection.progress()).unwrap_or_default();
        self.state.send_modify(|state| {
            if state.taken == 0 {
                state.base = now.written;
            }
            state.taken += bytes as u64;
            if ended {
                state.ended.get_or_insert(now.flushes);
            }
        });
    }
}

impl Body for UploadBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let is_given_up = self.given_up.as_mut().is_some_and(|up| up.as_mut().poll(context).is_ready());
        if is_given_up && self.state.borrow().ended.is_none() {
            return Poll::Ready(Some(Err(GivenUp.into())));
        }
        match ready!(self.poll_chunk(context)) {
            Some(Ok(chunk)) => {
                // HTTP/1.1 polls nothing after the announced length; HTTP/2 polls the end.
                let is_http2 = self.captured.as_ref().is_some_and(ConnectionState::is_http2);
                self.took(chunk.len(), self.left == 0 && !is_http2);
                Poll::Ready(Some(Ok(Frame::data(chunk))))
            }
            Some(Err(error)) => Poll::Ready(Some(Err(error.into()))),
            None => {
                self.took(0, true);
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.length == 0
    }
}

impl Drop for UploadBody {
    fn drop(&mut self) {
        self.state.send_modify(|state| state.gone = true);
    }
}

impl Upload {
    /// Tracks the body of a request and its connection.
    pub(super) fn of(request: &mut Request<UploadBody>) -> Self {
        let captured = capture_connection(request);
        let given_up = CancellationToken::new();
        let body = request.body_mut();
        body.captured = Some(captured.clone());
        body.given_up = Some(Box::pin(given_up.clone().cancelled_owned()));
        let meter = UploadMeter { state: body.state.subscribe(), captured, connection: None };
        Self { meter, length: body.length, _given_up: given_up.drop_guard() }
    }

    /// Returns a meter of the progress.
    pub(super) fn meter(&self) -> UploadMeter {
        self.meter.clone()
    }

    /// Returns the connection of the request.
    pub(super) fn captured(&self) -> &CaptureConnection {
        &self.meter.captured
    }

    /// Returns whether the connection took the whole body.
    ///
    /// # Errors
    /// When it never will.
    pub(super) fn is_complete(&self) -> Result<bool, UploadCut> {
        if self.length == 0 {
            return Ok(true);
        }
        let state = *self.meter.state.borrow();
        let connection = ConnectionState::of(&self.meter.captured)
            .map(|connection| connection.progress())
            .unwrap_or_default();
        let written = connection.written.saturating_sub(state.base) >= self.length;
        match state.ended {
            Some(flushes) if written && connection.flushes > flushes => Ok(true),
            _ if connection.closed => Err(UploadCut),
            None if state.gone => Err(UploadCut),
            _ => Ok(false),
        }
    }

    /// Waits until the connection took the whole body.
    ///
    /// # Errors
    /// As soon as it never will.
    pub(super) async fn complete(&mut self) -> Result<(), UploadCut> {
        while !self.is_complete()? {
            self.meter.changed().await;
        }
        Ok(())
    }
}

impl UploadMeter {
    /// Waits for progress of the upload.
    pub(super) async fn moved(&mut self) {
        let before = self.position();
        while self.position() == before {
            self.changed().await;
        }
    }

    /// Returns the bytes that the client took, and those that the connection wrote. An HTTP/2
    /// connection counts for none, because other requests share it.
    fn position(&self) -> (u64, u64) {
        let connection =
            ConnectionState::of(&self.captured).filter(|_| !ConnectionState::is_http2(&self.captured));
        (self.state.borrow().taken, connection.map_or(0, |connection| connection.progress().written))
    }

    async fn changed(&mut self) {
        async fn next<T>(watched: &mut watch::Receiver<T>) {
            // A closed channel never changes again.
            if watched.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
        if self.connection.is_none() {
            self.connection = ConnectionState::of(&self.captured).map(|connection| connection.watch());
        }
        match &mut self.connection {
            None => next(&mut self.state).await,
            Some(connection) => tokio::select! {
                () = next(&mut self.state) => {}
                () = next(connection) => {}
            },
        }
    }
}
