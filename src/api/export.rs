//! `GET /v1/export`: a backup of the daemon while it runs.

use std::{
    io::{self, Write},
    sync::{Arc, atomic::Ordering},
};

use axum::{
    Extension,
    body::Body,
    extract::State,
    http::header,
    response::{IntoResponse as _, Response},
};
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{
    AppState,
    patience::Line,
    problem::{Code, Problem},
};

/// Bytes of one part of the answer, and parts that wait for the client.
const PART: usize = 64 << 10;
const PARTS: usize = 4;

/// Write out everything: watches, events, deliveries, stored jobs, what was learned.
///
/// The store as it is when the request comes, whatever changes meanwhile, as lines of JSON that `tidings store import`
/// takes. The secrets of callbacks are among it. An answer that is cut short is no backup. One at a time.
#[utoipa::path(
    get, path = "/v1/export", tag = "control",
    responses(
        (status = 200, body = String, content_type = "application/x-ndjson"),
        (status = 409, body = super::view::Problem, description = "Another export is being written"),
        (status = 503, body = super::view::Problem, description = "The store is not available"),
    )
)]
pub(super) async fn export(
    State(state): State<Arc<AppState>>,
    line: Option<Extension<Arc<Line>>>,
) -> Result<Response, Problem> {
    if !state.store.is_healthy() {
        let detail = "the store failed and is being opened again";
        return Err(Problem::new(Code::StoreUnavailable, detail));
    }
    let export = state.store.begin_export().ok_or_else(|| {
        let detail = "another export is being written; ask again when it is done";
        Problem::new(Code::ExportRunning, detail)
    })?;
    let (parts, answer) = mpsc::channel(PARTS);
    let stop = state.shutdown.clone();
    tokio::task::spawn_blocking(move || {
        let mut out = Parts { to: parts, part: BytesMut::with_capacity(PART), stop };
        match export.write(&mut out) {
            Ok(done) => {
                tracing::info!(records = done.records, jobs = done.jobs, "the store was exported");
                out.end();
            }
            Err(error) => tracing::warn!(%error, "an export was cut short"),
        }
    });
    let body = Answer { answer, _sending: Sending::begin(line.map(|Extension(line)| line)) };
    let headers = [
        (header::CONTENT_TYPE, "application/x-ndjson"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"tidings.jsonl\""),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    Ok((headers, Body::from_stream(stream::unfold(body, Answer::next))).into_response())
}

/// A part of the answer.
enum Part {
    Bytes(Bytes),
    /// All of it was there.
    End,
}

/// What is written goes to the client in parts, as fast as it takes them.
struct Parts {
    to: mpsc::Sender<Part>,
    part: BytesMut,
    stop: CancellationToken,
}

impl Parts {
    /// Says that nothing is missing. The client may have gone by now.
    fn end(self) {
        let _ = self.to.blocking_send(Part::End);
    }
}

impl Write for Parts {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.part.extend_from_slice(bytes);
        if self.part.len() >= PART {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.stop.is_cancelled() {
            return Err(io::Error::other("the daemon is stopping"));
        }
        let part = std::mem::replace(&mut self.part, BytesMut::with_capacity(PART)).freeze();
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "the client has gone");
        self.to.blocking_send(Part::Bytes(part)).map_err(gone)
    }
}

/// The body of the answer. Without [`Part::End`] it breaks off, so that nobody takes it for whole.
struct Answer {
    answer: mpsc::Receiver<Part>,
    _sending: Sending,
}

impl Answer {
    async fn next(mut self) -> Option<(io::Result<Bytes>, Self)> {
        match self.answer.recv().await {
            Some(Part::Bytes(bytes)) => Some((Ok(bytes), self)),
            Some(Part::End) => None,
            None => {
                self.answer.close();
                Some((Err(io::Error::other("the export was cut short")), self))
            }
        }
    }
}

/// The answer is on its way: a client that does not take it holds up no stop.
struct Sending(Option<Arc<Line>>);

impl Sending {
    fn begin(line: Option<Arc<Line>>) -> Self {
        if let Some(line) = &line {
            line.streaming.store(true, Ordering::Release);
        }
        Self(line)
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        if let Some(line) = &self.0 {
            line.streaming.store(false, Ordering::Release);
        }
    }
}
