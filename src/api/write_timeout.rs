//! Timeouts of a connection: the client must complete the head that it began, and take its answer.

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

use super::connection_limits::ConnectionSlot;

/// The longest time from the first byte of a head to its end.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// A stream of bytes in both directions.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Flags that a connection and the answers on it share.
#[derive(Debug, Default)]
pub(super) struct ConnectionFlags {
    /// The client took no byte within the write timeout, so the connection is closed.
    pub stalled: AtomicBool,
    /// An endless answer is being sent.
    pub streaming: AtomicBool,
}

/// A stream that fails when a head is not complete in time, or when no byte can be written within
/// the write timeout.
pub(super) struct WriteTimeout {
    stream: Box<dyn Stream>,
    timeout: Duration,
    flags: Arc<ConnectionFlags>,
    slot: Arc<ConnectionSlot>,
    waiting: Option<Pin<Box<Sleep>>>,
    head: Option<Pin<Box<Sleep>>>,
}

impl WriteTimeout {
    pub(super) fn new(
        stream: Box<dyn Stream>,
        timeout: Duration,
        flags: Arc<ConnectionFlags>,
        slot: Arc<ConnectionSlot>,
    ) -> Self {
        Self { stream, timeout, flags, slot, waiting: None, head: None }
    }

    /// Returns `done` if it is ready. Otherwise starts the timer, and fails when the timer has
    /// fired.
    fn within<T>(&mut self, cx: &mut Context<'_>, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if done.is_ready() {
            self.waiting = None;
            return done;
        }
        let timeout = self.timeout;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(timeout)));
        ready!(waiting.as_mut().poll(cx));
        self.flags.stalled.store(true, Ordering::Release);
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not take its answer")))
    }
}

impl AsyncRead for WriteTimeout {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let done = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let came = buffer.filled().len() > before;
        let in_head = if came { self.slot.record_bytes() } else { self.slot.is_in_head() };
        if !in_head {
            self.head = None;
            return done;
        }
        let head = self.head.get_or_insert_with(|| Box::pin(sleep(HEAD_TIMEOUT)));
        if done.is_pending() {
            ready!(head.as_mut().poll(cx));
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the head of the request was not complete in time",
            )));
        }
        done
    }
}

impl AsyncWrite for WriteTimeout {
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
