//! Listeners: binds TCP addresses and unix sockets, and accepts connections on them.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr},
    os::{
        fd::AsFd,
        unix::fs::{FileTypeExt as _, MetadataExt as _},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::net::RecvFlags;
use tokio::{
    io::Interest,
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    time::{Instant, sleep},
};

use super::{access::PeerKind, tcp, write_timeout::Stream};
use crate::util::listen::Listen;

/// The longest wait for a starting process that locks the folder of the socket.
const BIND_TIMEOUT: Duration = Duration::from_secs(1);

/// The pause between two tries.
const BIND_RETRY: Duration = Duration::from_millis(50);

/// A bound listener.
pub struct BoundListener {
    socket: ListenerSocket,
    /// The address, with the port that the system chose.
    pub address: Listen,
}

enum ListenerSocket {
    Tcp(TcpListener),
    Unix(UnixSocket),
}

/// An accepted connection.
pub(super) enum Accepted {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl BoundListener {
    /// Binds an address. Replaces a unix socket that a killed process left, and no other file.
    ///
    /// # Errors
    /// Returns an error when the address is in use or not allowed.
    pub async fn bind(listen: &Listen) -> io::Result<Self> {
        match listen {
            Listen::Tcp(address) => {
                let socket = tcp::bind(*address).await?;
                let address = Listen::Tcp(socket.local_addr()?);
                Ok(Self { socket: ListenerSocket::Tcp(socket), address })
            }
            Listen::Unix(path) => {
                let socket = UnixSocket::bind(path).await?;
                Ok(Self { socket: ListenerSocket::Unix(socket), address: listen.clone() })
            }
        }
    }

    pub(super) async fn accept(&self) -> io::Result<Accepted> {
        match &self.socket {
            ListenerSocket::Tcp(socket) => socket.accept().await.map(|(stream, _)| Accepted::Tcp(stream)),
            ListenerSocket::Unix(socket) => {
                socket.listener.accept().await.map(|(stream, _)| Accepted::Unix(stream))
            }
        }
    }
}

impl Accepted {
    /// Waits for the first byte, or the end of the stream. Peeks at the socket, because a new one
    /// may report that it is readable although no byte arrived.
    pub(super) async fn speaks(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.async_io(Interest::READABLE, || peek(stream)).await,
            Self::Unix(stream) => stream.async_io(Interest::READABLE, || peek(stream)).await,
        }
    }

    pub(super) fn peer_kind(&self) -> PeerKind {
        match self {
            Self::Tcp(stream) => {
                let local = stream.local_addr().map(|address| address.ip());
                PeerKind::Tcp(local.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)))
            }
            Self::Unix(_) => PeerKind::Unix,
        }
    }

    pub(super) fn into_stream(self) -> Box<dyn Stream> {
        match self {
            Self::Tcp(stream) => {
                // A failure costs only latency.
                let _ = stream.set_nodelay(true);
                Box::new(stream)
            }
            Self::Unix(stream) => Box::new(stream),
        }
    }
}

fn peek(socket: impl AsFd) -> io::Result<()> {
    rustix::net::recv(socket, &mut [0_u8; 1], RecvFlags::PEEK)?;
    Ok(())
}

/// Our unix socket. Its drop removes the file, unless another process has replaced the file.
struct UnixSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode. No other file gets them while the listener is open.
    identity: (u64, u64),
}

impl UnixSocket {
    async fn bind(path: &Path) -> io::Result<Self> {
        // Two processes that find one dead socket would otherwise remove each other's live one.
        let _lock = lock_folder(path).await;
        remove_dead_socket(path).await?;
        let listener = UnixListener::bind(path)?;
        let identity = identity(&fs::symlink_metadata(path)?);
        let socket = Self { listener, path: path.to_owned(), identity };
        // Any process that may open the socket may use the API: owner and group, as on a volume
        // that sidecars share.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o660);
        fs::set_permissions(path, mode)?;
        Ok(socket)
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|there| identity(&there) == self.identity) {
            // The next start replaces a socket that stays.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(file: &fs::Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

/// Locks the folder of a socket. Returns `None` when the lock fails; the bind may still succeed.
async fn lock_folder(path: &Path) -> Option<fs::File> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = fs::File::open(folder).ok()?;
    let deadline = Instant::now() + BIND_TIMEOUT;
    loop {
        match folder.try_lock() {
            Ok(()) => return Some(folder),
            Err(fs::TryLockError::WouldBlock) if Instant::now() < deadline => sleep(BIND_RETRY).await,
            Err(_) => return None,
        }
    }
}

/// Removes a socket without a listening process; leaves every other file alone.
async fn remove_dead_socket(path: &Path) -> io::Result<()> {
    let taken = |text: &str| Err(io::Error::new(io::ErrorKind::AddrInUse, text.to_owned()));
    let there = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        there => there?,
    };
    if !there.file_type().is_socket() {
        return taken("a file that is not a socket has this name; it stays as it is");
    }
    match UnixStream::connect(path).await {
        Ok(_) => taken("another process listens there"),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            if identity(&fs::symlink_metadata(path)?) != identity(&there) {
                return taken("another process is starting to listen there");
            }
            fs::remove_file(path)
        }
        Err(error) => taken(&format!("another process may listen there; connecting to it failed: {error}")),
    }
}
