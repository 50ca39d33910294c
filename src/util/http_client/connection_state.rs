//! The state of a connection as its requests see it: the progress of their bytes, and a way to cut
//! it.
//!
//! hyper offers neither. It counts a body as sent once it has taken it, and keeps a connection open
//! while an abandoned body waits for the peer.
//!
//! Closing a socket with unread bytes resets the connection, and bytes in flight to the peer are
//! lost. So a closed connection is read for a while, unless it was cut.

use std::{
    future::{Future as _, poll_fn},
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{CaptureConnection, Connected, Connection};
use tokio::{runtime::Handle, sync::watch, time::timeout};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// The time for a peer to read the rest of the sent bytes.
const LINGER: Duration = Duration::from_secs(15);

/// The most bytes to read meanwhile, beyond as many as were sent.
const LINGER_SLACK: u64 = 64 << 10;

/// A stream that carries HTTP.
pub(super) trait Stream: Read + Write + Connection + Send + Unpin {}

impl<S: Read + Write + Connection + Send + Unpin> Stream for S {}

/// The state of a connection, shared by its requests.
#[derive(Clone)]
pub struct ConnectionState(Arc<Shared>);

struct Shared {
    progress: watch::Sender<ConnectionProgress>,
    /// Requests so far.
    requests: AtomicUsize,
    /// Requests in flight.
    users: AtomicUsize,
    retired: AtomicBool,
    cut: CancellationToken,
}

/// The progress of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionProgress {
    /// Bytes that it took to send.
    pub written: u64,
    /// Times that all taken bytes had reached the operating system.
    pub flushes: u64,
    /// Whether the connection is closed.
    pub closed: bool,
}

impl ConnectionState {
    /// Returns the state of a request's connection, once it has one.
    #[must_use]
    pub fn of(captured: &CaptureConnection) -> Option<Self> {
        let mut extras = http::Extensions::new();
        captured.connection_metadata().as_ref()?.get_extras(&mut extras);
        extras.remove()
    }

    /// Returns whether a request uses HTTP/2, and so shares its connection.
    #[must_use]
    pub fn is_http2(captured: &CaptureConnection) -> bool {
        captured.connection_metadata().as_ref().is_some_and(Connected::is_negotiated_h2)
    }

    /// Returns the progress.
    #[must_use]
    pub fn progress(&self) -> ConnectionProgress {
        *self.0.progress.borrow()
    }

    /// Returns a receiver of each change of the progress.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<ConnectionProgress> {
        self.0.progress.subscribe()
    }
}

/// The use of a connection by one request.
pub struct ConnectionUse {
    connection: ConnectionState,
    captured: CaptureConnection,
    /// Whether the connection carried a request before this one.
    pub reused: bool,
}

impl ConnectionUse {
    /// Records the use of a request's connection, once it has one.
    #[must_use]
    pub fn of(captured: &CaptureConnection) -> Option<Self> {
        let connection = ConnectionState::of(captured)?;
        let reused = connection.0.requests.fetch_add(1, Ordering::AcqRel) > 0;
        connection.0.users.fetch_add(1, Ordering::AcqRel);
        Some(Self { connection, captured: captured.clone(), reused })
    }

    /// Retires the connection: it takes no further request, and is cut after the last one in flight.
    pub fn retire(&self) {
        if let Some(connected) = self.captured.connection_metadata().as_ref() {
            connected.poison();
        }
        self.connection.0.retired.store(true, Ordering::Release);
    }
}

impl Drop for ConnectionUse {
    fn drop(&mut self) {
        let shared = &self.connection.0;
        if shared.users.fetch_sub(1, Ordering::AcqRel) == 1 && shared.retired.load(Ordering::Acquire) {
            shared.cut.cancel();
        }
    }
}

/// A stream with its [`ConnectionState`].
pub struct Tracked {
    /// Set until the drop.
    stream: Option<Box<dyn Stream>>,
    is_proxied: bool,
    connection: ConnectionState,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Tracked {
    /// Tracks a stream. `is_proxied` says that its requests name their whole URL.
    pub(super) fn new(stream: impl Stream + 'static, is_proxied: bool) -> Self {
        let cut = CancellationToken::new();
        let waiting = Box::pin(cut.clone().cancelled_owned());
        let shared = Shared {
            progress: watch::Sender::default(),
            requests: AtomicUsize::new(0),
            users: AtomicUsize::new(0),
            retired: AtomicBool::new(false),
            cut,
        };
        Self {
            stream: Some(Box::new(stream)),
            is_proxied,
            connection: ConnectionState(Arc::new(shared)),
            cut: waiting,
        }
    }

    /// Returns the stream.
    ///
    /// # Errors
    /// When the connection was cut.
    fn open(&mut self, context: &mut Context<'_>) -> io::Result<Pin<&mut Box<dyn Stream>>> {
        let given_up = || io::Error::new(io::ErrorKind::ConnectionAborted, "it was given up");
        let is_cut = self.cut.as_mut().poll(context).is_ready();
        let stream = self.stream.as_mut().filter(|_| !is_cut).ok_or_else(given_up)?;
        Ok(Pin::new(stream))
    }

    fn wrote(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = written {
            self.connection.0.progress.send_modify(|progress| progress.written += bytes as u64);
        }
        written
    }
}

impl Connection for Tracked {
    fn connected(&self) -> Connected {
        let connected = self.stream.as_ref().map_or_else(Connected::new, |stream| stream.connected());
        connected.proxy(self.is_proxied).extra(self.connection.clone())
    }
}

impl Read for Tracked {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        self.open(context)?.poll_read(context, buffer)
    }
}

impl Write for Tracked {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = self.open(context)?.poll_write(context, bytes);
        self.wrote(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.open(context)?.poll_write_vectored(context, slices);
        self.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(Write::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = self.open(context)?.poll_flush(context);
        if let Poll::Ready(Ok(())) = flushed {
            self.connection.0.progress.send_modify(|progress| progress.flushes += 1);
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.open(context)?.poll_shutdown(context)
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        self.connection.0.progress.send_modify(|progress| progress.closed = true);
        let stream = self.stream.take().filter(|_| !self.connection.0.cut.is_cancelled());
        if let (Some(stream), Ok(runtime)) = (stream, Handle::try_current()) {
            let most = self.connection.progress().written + LINGER_SLACK;
            runtime.spawn(timeout(LINGER, part(stream, most)));
        }
    }
}

/// Shuts down the sending side, and reads up to `most` bytes until the peer closes.
async fn part(mut stream: Box<dyn Stream>, most: u64) -> io::Result<()> {
    poll_fn(|context| Pin::new(&mut stream).poll_shutdown(context)).await?;
    let (mut buffer, mut seen) = ([0; 4096], 0);
    while seen < most {
        let read = poll_fn(|context| {
            let mut buffer = ReadBuf::new(&mut buffer);
            let polled = Pin::new(&mut stream).poll_read(context, buffer.unfilled());
            polled.map_ok(|()| buffer.filled().len())
        });
        match read.await? {
            0 => break,
            bytes => seen += bytes as u64,
        }
    }
    Ok(())
}
