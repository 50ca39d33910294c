//! Addresses to listen on.

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

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
                Some(("" | "*", port)) if port.parse::<u16>().is_ok() => {
                    format!("write 127.0.0.1:{port}, or [::]:{port} for every interface")
                }
                _ => "write it like 127.0.0.1:8787, [::1]:8787 or unix:/run/tidings/api.sock".to_owned(),
            };
            format!("it is not an address to listen on; {hint}")
        })
    }
}

impl Listen {
    /// Whether only this machine can reach the address.
    #[must_use]
    pub(crate) fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => true,
        }
    }

    /// Returns the URL that a browser on this machine can open; `None` for a unix socket.
    #[must_use]
    pub(crate) fn local_url(&self) -> Option<String> {
        match self {
            Self::Tcp(address) if address.ip().is_unspecified() => {
                Some(format!("http://localhost:{}/", address.port()))
            }
            Self::Tcp(address) => Some(format!("http://{address}/")),
            Self::Unix(_) => None,
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
