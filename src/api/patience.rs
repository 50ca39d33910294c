//! A connection whose client must go on: finishing the head that it began, and taking what it is sent.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

use super::places::Place;

/// How long the head of a request may take from its first byte on.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);

/// A stream of any kind.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// What a connection and the answers on it know of each other.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// The client took nothing for too long and was cut off.
    pub stalled: AtomicBool,
    /// An answer without an end is on its way.
    pub streaming: AtomicBool,
}

/// A stream that fails when a head is not finished in time, or when not a byte can be written for a while.
pub(super) struct Patient {
    stream: Box<dyn Stream>,
    patience: Duration,
    line: Arc<Line>,
    place: Arc<Place>,
    waiting: Option<Pin<Box<Sleep>>>,
    head: Option<Pin<Box<Sleep>>>,
}

impl Patient {
    pub(super) fn new(
        stream: Box<dyn Stream>,
        patience: Duration,
        line: Arc<Line>,
        place: Arc<Place>,
    ) -> Self {
        Self { stream, patience, line, place, waiting: None, head: None }
    }

    /// Passes a result on; one that has to be waited for starts the clock or fails once it has run out.
    fn within<T>(&mut self, cx: &mut Context<'_>, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if done.is_ready() {
            self.waiting = None;
            return done;
        }
        let patience = self.patience;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(patience)));
        ready!(waiting.as_mut().poll(cx));
        self.line.stalled.store(true, Ordering::Release);
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing")))
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let done = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let came = buffer.filled().len() > before;
        let in_head = if came { self.place.heard() } else { self.place.is_in_head() };
        if !in_head {
            self.head = None;
            return done;
        }
        let head = self.head.get_or_insert_with(|| Box::pin(sleep(HEAD_PATIENCE)));
        if done.is_pending() {
            ready!(head.as_mut().poll(cx));
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the head takes too long")));
        }
        done
    }
}

impl AsyncWrite for Patient {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.within(cx, done)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.within(cx, done)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.stream).poll_flush(cx);
        self.within(cx, done)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.within(cx, done)
    }
}
