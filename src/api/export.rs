//! `GET /v1/export`: a backup of the running daemon.

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
    problem::{Code, Problem},
    write_timeout::ConnectionFlags,
};

/// The size of one part of the answer in bytes, and the number of parts that wait for the client.
const PART: usize = 64 << 10;
const PARTS: usize = 4;

/// Export the store: watches, events, deliveries, stored jobs and learned statistics.
///
/// The answer is the store at the time of the request, as lines of JSON for `tidings store import`.
/// It contains the secrets of callbacks. An answer that breaks off is no backup. The daemon writes
/// one export at a time.
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
    flags: Option<Extension<Arc<ConnectionFlags>>>,
) -> Result<Response, Problem> {
    if !state.store.is_healthy() {
        let detail = "the store failed; the daemon is opening it again";
        return Err(Problem::new(Code::StoreUnavailable, detail));
    }
    let export = state.store.begin_export().ok_or_else(|| {
        let detail = "another export is being written; send the request again when it is done";
        Problem::new(Code::ExportRunning, detail)
    })?;
    let (parts, answer) = mpsc::channel(PARTS);
    let stop = state.shutdown.clone();
    tokio::task::spawn_blocking(move || {
        let mut out = ExportWriter { to: parts, part: BytesMut::with_capacity(PART), stop };
        match export.write(&mut out) {
            Ok(done) => {
                tracing::info!(records = done.records, jobs = done.jobs, "store exported");
                if done.lost > 0 {
                    let lost = done.lost;
                    tracing::error!(
                        lost,
                        "stored jobs are gone or damaged, and are not in the export; `tidings store check --hashes` names them"
                    );
                }
                out.end();
            }
            Err(error) => tracing::warn!(%error, "export failed"),
        }
    });
    let body = ExportBody { answer, _sending: Sending::begin(flags.map(|Extension(flags)| flags)) };
    let headers = [
        (header::CONTENT_TYPE, "application/x-ndjson"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"tidings.jsonl\""),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    Ok((headers, Body::from_stream(stream::unfold(body, ExportBody::next))).into_response())
}

/// A part of the answer.
enum ExportPart {
    Bytes(Bytes),
    /// The export is complete.
    End,
}

/// A writer that sends its bytes to the client in parts, as fast as the client takes them.
struct ExportWriter {
    to: mpsc::Sender<ExportPart>,
    part: BytesMut,
    stop: CancellationToken,
}

impl ExportWriter {
    /// Marks the export as complete. The client may have gone by now.
    fn end(self) {
        let _ = self.to.blocking_send(ExportPart::End);
    }
}

impl Write for ExportWriter {
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
        self.to.blocking_send(ExportPart::Bytes(part)).map_err(gone)
    }
}

/// The body of the answer. Without [`ExportPart::End`] it breaks off, so that the client notices a
/// missing part.
struct ExportBody {
    answer: mpsc::Receiver<ExportPart>,
    _sending: Sending,
}

impl ExportBody {
    async fn next(mut self) -> Option<(io::Result<Bytes>, Self)> {
        match self.answer.recv().await {
            Some(ExportPart::Bytes(bytes)) => Some((Ok(bytes), self)),
            Some(ExportPart::End) => None,
            None => {
                self.answer.close();
                Some((Err(io::Error::other("the export failed")), self))
            }
        }
    }
}

/// Marks the connection as streaming, so that a stop does not wait for the client.
struct Sending(Option<Arc<ConnectionFlags>>);

impl Sending {
    fn begin(flags: Option<Arc<ConnectionFlags>>) -> Self {
        if let Some(flags) = &flags {
            flags.streaming.store(true, Ordering::Release);
        }
        Self(flags)
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        if let Some(flags) = &self.0 {
            flags.streaming.store(false, Ordering::Release);
        }
    }
}
