//! Binds TCP addresses. `[::]` means every interface: IPv6 and IPv4, or IPv4 alone on a machine
//! without IPv6.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use rustix::{io::Errno, net::sockopt};
use tokio::net::{TcpListener, TcpSocket};

/// The longest wait for an ending process that holds the port.
const BIND_TIMEOUT: Duration = Duration::from_secs(1);

/// Connections that the kernel completes before the daemon accepts them.
const BACKLOG: u32 = 1024;

/// Binds `address`. Tries again for a second while an ending process still holds the port.
pub(super) async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let deadline = tokio::time::Instant::now() + BIND_TIMEOUT;
    loop {
        match open_or_fall_back_to_ipv4(address, open) {
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse && tokio::time::Instant::now() < deadline =>
            {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            bound => return bound,
        }
    }
}

/// Opens `address`, or the same port of `0.0.0.0` when `address` is `[::]` and the machine has no
/// IPv6.
fn open_or_fall_back_to_ipv4<T>(
    address: SocketAddr,
    open: impl Fn(SocketAddr) -> io::Result<T>,
) -> io::Result<T> {
    match open(address) {
        Err(error) if is_every_ipv6(address) && lacks_ipv6(&error) => {
            let instead = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
            tracing::info!(%address, %instead, "listening on IPv4 alone: this machine has no IPv6");
            open(instead)
        }
        opened => opened,
    }
}

fn is_every_ipv6(address: SocketAddr) -> bool {
    address.is_ipv6() && address.ip().is_unspecified()
}

/// Returns whether the error means that the kernel, the sandbox or every interface lacks IPv6.
fn lacks_ipv6(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL | Errno::PROTONOSUPPORT)
    )
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv6() { TcpSocket::new_v6() } else { TcpSocket::new_v4() }?;
    socket.set_reuseaddr(true)?;
    if is_every_ipv6(address) {
        // An administrator can change the system's default (`net.ipv6.bindv6only`).
        sockopt::set_ipv6_v6only(&socket, false)?;
    }
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the address that a machine would bind if IPv6 failed with `errno`.
    fn bound(address: &str, errno: Errno) -> Result<String, Errno> {
        let open = |address: SocketAddr| match address.is_ipv6() {
            true => Err(io::Error::from(errno)),
            false => Ok(address.to_string()),
        };
        open_or_fall_back_to_ipv4(address.parse().unwrap(), open)
            .map_err(|error| Errno::from_io_error(&error).unwrap())
    }

    #[test]
    fn every_interface_is_listened_on_without_ipv6_too() {
        for errno in [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL, Errno::PROTONOSUPPORT] {
            assert_eq!(bound("[::]:8787", errno), Ok("0.0.0.0:8787".to_owned()), "{errno:?}");
        }
    }

    #[test]
    fn an_address_that_was_meant_alone_and_other_errors_are_reported() {
        assert_eq!(bound("[::1]:8787", Errno::AFNOSUPPORT), Err(Errno::AFNOSUPPORT));
        for errno in [Errno::ADDRINUSE, Errno::ACCESS, Errno::MFILE] {
            assert_eq!(bound("[::]:8787", errno), Err(errno), "{errno:?}");
        }
    }
}
