//! Listeners and connections: TCP and unix sockets, with bounds that a slow or greedy client meets.

use std::{
    convert::Infallible,
    fmt, fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use axum::{Router, body::Body};
use http::Request;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    select,
    sync::Semaphore,
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::{
    access::Door,
    patience::{Line, Patient},
    tcp,
};
use crate::units::Span;

/// How long a connection may take for a request's headers, and how long it may lie idle.
const HEADER_TIMEOUT: Duration = Duration::from_secs(75);

/// The largest head of a request.
const MAX_HEAD: usize = 64 << 10;

/// How long a stop waits for the reader of an endless answer to take its end.
const FAREWELL: Duration = Duration::from_secs(1);

/// Connections at once; a further one waits to be accepted.
const MAX_CONNECTIONS: usize = 4096;

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

impl std::str::FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = PathBuf::from(path);
            if path.file_name().is_some() {
                return Ok(Self::Unix(path));
            }
            return Err("a unix socket is written with its path, unix:/run/tidings/api.sock".to_owned());
        }
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let named = text.strip_prefix("localhost:").and_then(|port| port.parse().ok()).map(local);
        named.or_else(|| text.parse().ok()).map(Self::Tcp).ok_or_else(|| {
            let hint = match text.rsplit_once(':') {
                Some(("" | "*", port)) => {
                    format!("write 127.0.0.1:{port}, or [::]:{port} for every interface")
                }
                _ => "write it like 127.0.0.1:8787, [::1]:8787 or unix:/run/tidings/api.sock".to_owned(),
            };
            format!("`{text}` is not an address to listen on; {hint}")
        })
    }
}

impl Listen {
    /// Whether only this machine reaches it.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A listener that is bound.
pub struct Bound {
    socket: Socket,
    /// The address, with the port that the system chose.
    pub address: Listen,
}

enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Bound {
    /// Binds an address. A unix socket that a killed process left is replaced; one that answers is not.
    ///
    /// # Errors
    /// When it is taken or not allowed.
    pub async fn bind(listen: &Listen) -> io::Result<Self> {
        match listen {
            Listen::Tcp(address) => {
                let socket = tcp::bind(*address).await?;
                let address = Listen::Tcp(socket.local_addr()?);
                Ok(Self { socket: Socket::Tcp(socket), address })
            }
            Listen::Unix(path) => {
                if fs::exists(path)? {
                    if tokio::net::UnixStream::connect(path).await.is_ok() {
                        return Err(io::Error::new(
                            io::ErrorKind::AddrInUse,
                            "another process listens there",
                        ));
                    }
                    fs::remove_file(path)?;
                }
                let socket = UnixListener::bind(path)?;
                // The socket is the API: whoever may open it may use it. Owner and group, as for a sidecar's
                // shared volume.
                let mode = std::os::unix::fs::PermissionsExt::from_mode(0o660);
                fs::set_permissions(path, mode)?;
                Ok(Self { socket: Socket::Unix(socket), address: listen.clone() })
            }
        }
    }

    /// Serves `router` until `stop`, then lets requests under way finish.
    /// A client that takes nothing of its answer for `patience` is cut off.
    pub async fn serve(self, router: Router, patience: Duration, stop: CancellationToken) {
        let graceful = GracefulShutdown::new();
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let place = Arc::clone(&places).acquire_owned();
            let (place, accepted) = select! {
                pair = async { (place.await, self.accept().await) } => pair,
                () = stop.cancelled() => break,
            };
            let (stream, door) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors, most likely: the next may work when one is closed.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let router = router.clone();
            let line = Arc::new(Line::default());
            let known = Arc::clone(&line);
            let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
                request.extensions_mut().insert(door);
                request.extensions_mut().insert(Arc::clone(&known));
                let router = router.clone();
                async move { Ok::<_, Infallible>(unfailing(router.oneshot(request.map(Body::new)).await)) }
            });
            let mut http = hyper::server::conn::http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(MAX_HEAD);
            let connection =
                graceful.watch(http.serve_connection(
                    TokioIo::new(Patient::new(stream, patience, Arc::clone(&line))),
                    service,
                ));
            let stop = stop.clone();
            tokio::spawn(async move {
                select! {
                    // A client that breaks off is its own affair.
                    _ = connection => {}
                    () = abandoned(&line, &stop) => {}
                }
                if line.stalled.load(Ordering::Acquire) {
                    tracing::warn!(after = %Span(patience), "a client took nothing of its answer and was cut off");
                }
                drop(place);
            });
        }
        if let Listen::Unix(path) = &self.address {
            let _ = fs::remove_file(path);
        }
        drop(self.socket);
        graceful.shutdown().await;
    }

    async fn accept(&self) -> io::Result<(Box<dyn Stream>, Door)> {
        match &self.socket {
            Socket::Tcp(socket) => {
                let (stream, _) = socket.accept().await?;
                stream.set_nodelay(true)?;
                let local =
                    stream.local_addr().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |address| address.ip());
                Ok((Box::new(stream), Door::Tcp(local)))
            }
            Socket::Unix(socket) => Ok((Box::new(socket.accept().await?.0), Door::Unix)),
        }
    }
}

/// Waits until the daemon stops and the end of an endless answer is not taken.
async fn abandoned(line: &Line, stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(FAREWELL).await;
    if !line.streaming.load(Ordering::Acquire) {
        std::future::pending::<()>().await;
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

fn unfailing<T>(result: Result<T, Infallible>) -> T {
    match result {
        Ok(value) => value,
        Err(never) => match never {},
    }
}
