//! Addresses to listen on, and the sockets bound to them.

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

use super::{access::Door, patience::Stream, tcp};
use crate::util::listen::Listen;

/// How long the folder of a socket may be held by a process that is just starting.
const BIND_PATIENCE: Duration = Duration::from_secs(1);

/// How often it is tried meanwhile.
const BIND_RETRY: Duration = Duration::from_millis(50);

/// A listener that is bound.
pub struct Bound {
    socket: Socket,
    /// The address, with the port that the system chose.
    pub address: Listen,
}

enum Socket {
    Tcp(TcpListener),
    Unix(UnixSocket),
}

/// A connection that was accepted.
pub(super) enum Accepted {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Bound {
    /// Binds an address. A unix socket that a killed process left is replaced; whatever else is there stays.
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
                let socket = UnixSocket::bind(path).await?;
                Ok(Self { socket: Socket::Unix(socket), address: listen.clone() })
            }
        }
    }

    pub(super) async fn accept(&self) -> io::Result<Accepted> {
        match &self.socket {
            Socket::Tcp(socket) => socket.accept().await.map(|(stream, _)| Accepted::Tcp(stream)),
            Socket::Unix(socket) => socket.listener.accept().await.map(|(stream, _)| Accepted::Unix(stream)),
        }
    }
}

impl Accepted {
    /// Waits for the first byte, or the end. It is looked for, since a new socket may call itself readable without one.
    pub(super) async fn speaks(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.async_io(Interest::READABLE, || peek(stream)).await,
            Self::Unix(stream) => stream.async_io(Interest::READABLE, || peek(stream)).await,
        }
    }

    pub(super) fn door(&self) -> Door {
        match self {
            Self::Tcp(stream) => {
                let local = stream.local_addr().map(|address| address.ip());
                Door::Tcp(local.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)))
            }
            Self::Unix(_) => Door::Unix,
        }
    }

    pub(super) fn into_stream(self) -> Box<dyn Stream> {
        match self {
            Self::Tcp(stream) => {
                // Only a delay is at stake.
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

/// A unix socket of ours. Dropped, it takes its name away, unless that is another's by now.
struct UnixSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode; the kernel gives them to no other file while the listener is open.
    identity: (u64, u64),
}

impl UnixSocket {
    async fn bind(path: &Path) -> io::Result<Self> {
        // Two processes that find the same dead socket would otherwise remove each other's live one.
        let _turn = turn(path).await;
        make_way(path).await?;
        let listener = UnixListener::bind(path)?;
        let identity = identity(&fs::symlink_metadata(path)?);
        let socket = Self { listener, path: path.to_owned(), identity };
        // The socket is the API: whoever may open it may use it. Owner and group, as for a sidecar's
        // shared volume.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o660);
        fs::set_permissions(path, mode)?;
        Ok(socket)
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|there| identity(&there) == self.identity) {
            // One that stays is replaced at the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(file: &fs::Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

/// Locks the folder of a socket. `None` where that cannot be done: then the socket can still be bound.
async fn turn(path: &Path) -> Option<fs::File> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = fs::File::open(folder).ok()?;
    let deadline = Instant::now() + BIND_PATIENCE;
    loop {
        match folder.try_lock() {
            Ok(()) => return Some(folder),
            Err(fs::TryLockError::WouldBlock) if Instant::now() < deadline => sleep(BIND_RETRY).await,
            Err(_) => return None,
        }
    }
}

/// Removes a socket on which nobody listens; leaves everything else alone.
async fn make_way(path: &Path) -> io::Result<()> {
    let taken = |text: &str| Err(io::Error::new(io::ErrorKind::AddrInUse, text.to_owned()));
    let there = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        there => there?,
    };
    if !there.file_type().is_socket() {
        return taken("something that is not a socket has this name; it was left as it is");
    }
    match UnixStream::connect(path).await {
        Ok(_) => taken("another process listens there"),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            if identity(&fs::symlink_metadata(path)?) != identity(&there) {
                return taken("another process begins to listen there");
            }
            fs::remove_file(path)
        }
        Err(error) => taken(&format!("another process may listen there; asked, it says: {error}")),
    }
}
