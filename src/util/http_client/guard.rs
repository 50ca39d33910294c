//! The guard: the addresses that an outgoing request may reach. Every client has it.
//!
//! A caller chooses the URL of a callback, and must not reach our own network with it (SSRF). The
//! guard checks addresses in the client's resolver, where the connection is made, so that a name
//! with other answers later (DNS rebinding) gains nothing. A literal address never reaches the
//! resolver, so each attempt checks it with [`check_url`].

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use ipnet::IpNet;
use reqwest::dns::{self, Addrs, Resolve, Resolving};
use tower::Service;
use url::{Host, Url};

use super::Name;

mod ranges;

/// The trust in the addresses of a URL.
#[derive(Clone, Debug)]
pub enum Trust {
    /// A caller chose the URL: global addresses only.
    Callback {
        /// Ranges opened by the configuration. An IPv4 range also opens the IPv6 forms that embed
        /// it.
        allow: Vec<IpNet>,
    },
    /// The operator chose the URL: all but link-local and cloud metadata addresses, and those as a
    /// literal.
    Operator,
}

/// The reason to refuse a URL or an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Blocked {
    /// A blocked address. The error does not name it, because that would tell a caller about our
    /// network.
    #[error("blocked address: {0}")]
    Address(&'static str),
    /// Neither http nor https.
    #[error("the scheme `{0}` is not http or https")]
    Scheme(String),
    /// Credentials in the URL of a callback.
    #[error("a callback URL cannot hold a user name or a password")]
    Credentials,
    /// No host.
    #[error("the URL names no host")]
    NoHost,
}

/// Checks an address.
///
/// # Errors
/// When `trust` does not cover it.
pub fn check_address(ip: IpAddr, trust: &Trust) -> Result<(), Blocked> {
    match trust {
        Trust::Operator => match ranges::metadata(ip) {
            Some(range) => Err(Blocked::Address(range)),
            None => Ok(()),
        },
        Trust::Callback { allow } => {
            let opened = |ip: IpAddr| allow.iter().any(|net| net.contains(&ip));
            if opened(ip) {
                return Ok(());
            }
            match ranges::not_global(ip) {
                ranges::AddressClass::Global => Ok(()),
                ranges::AddressClass::Blocked(range) => Err(Blocked::Address(range)),
                ranges::AddressClass::Embeds(inner) if opened(inner.into()) => Ok(()),
                ranges::AddressClass::Embeds(inner) => match ranges::not_global_v4(inner) {
                    Some(range) => Err(Blocked::Address(range)),
                    None => Ok(()),
                },
            }
        }
    }
}

/// Checks a URL without a DNS query: its scheme, its credentials and a literal address. The URL
/// parser has normalized every spelling of an address (WHATWG URL, "host parsing").
///
/// # Errors
/// When `trust` does not cover it.
pub fn check_url(url: &Url, trust: &Trust) -> Result<(), Blocked> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Blocked::Scheme(url.scheme().to_owned()));
    }
    let literal = match url.host() {
        None | Some(Host::Domain("")) => return Err(Blocked::NoHost),
        Some(Host::Ipv4(ip)) => Some(IpAddr::V4(ip)),
        Some(Host::Ipv6(ip)) => Some(IpAddr::V6(ip)),
        Some(Host::Domain(name)) => {
            if matches!(trust, Trust::Callback { .. }) && is_localhost(name) {
                loopback(trust)?;
            }
            None
        }
    };
    // A literal address of the operator is allowed.
    let Trust::Callback { .. } = trust else { return Ok(()) };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Blocked::Credentials);
    }
    literal.map_or(Ok(()), |ip| check_address(ip, trust))
}

/// Returns whether a name is `localhost` or below it, which is always loopback (RFC 6761, section
/// 6.3).
pub(super) fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let last = name.rsplit('.').next().unwrap_or(name);
    last.eq_ignore_ascii_case("localhost")
}

/// Returns the loopback addresses that `trust` covers.
fn loopback(trust: &Trust) -> Result<Vec<IpAddr>, Blocked> {
    let both = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let open: Vec<_> = both.into_iter().filter(|ip| check_address(*ip, trust).is_ok()).collect();
    if open.is_empty() { Err(Blocked::Address("loopback")) } else { Ok(open) }
}

/// The error of a name without a usable address.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// The guard blocks an address of the name.
    #[error(transparent)]
    Blocked(#[from] Blocked),
    /// The lookup failed.
    #[error("name not found")]
    Lookup(#[source] std::io::Error),
    /// The lookup gave no address.
    #[error("name not found")]
    NoAddress,
}

/// The resolver of reqwest and of the connector of deliveries. It refuses a name if any of its
/// addresses is blocked, because a name with public and private addresses is an attack or a
/// mistake.
#[derive(Clone, Debug)]
pub struct GuardedResolver {
    trust: Arc<Trust>,
    names: NameSource,
}

/// The source of addresses.
#[derive(Clone, Debug)]
enum NameSource {
    /// The system's resolver.
    System,
    /// A test, with a list for each query.
    #[cfg(test)]
    Scripted(Script),
}

/// The answers of queries, in turn.
#[cfg(test)]
pub(crate) type Script = Arc<std::sync::Mutex<std::collections::VecDeque<Vec<SocketAddr>>>>;

impl GuardedResolver {
    /// Returns a resolver that allows what `trust` covers.
    #[must_use]
    pub fn new(trust: Arc<Trust>) -> Self {
        Self { trust, names: NameSource::System }
    }

    /// Returns a resolver with the given answers.
    #[cfg(test)]
    pub(crate) fn scripted(trust: Arc<Trust>, answers: Script) -> Self {
        Self { trust, names: NameSource::Scripted(answers) }
    }
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: dns::Name) -> Resolving {
        let Self { trust, names } = self.clone();
        Box::pin(async move {
            let addresses = lookup(name.as_str(), &trust, &names).await?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

impl Service<Name> for GuardedResolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = ResolveError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ResolveError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ResolveError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let Self { trust, names } = self.clone();
        Box::pin(async move { Ok(lookup(name.as_str(), &trust, &names).await?.into_iter()) })
    }
}

/// Returns the addresses of a name, all of them allowed. Their port is 0; the client sets it.
async fn lookup(name: &str, trust: &Trust, names: &NameSource) -> Result<Vec<SocketAddr>, ResolveError> {
    if matches!(trust, Trust::Callback { .. }) && is_localhost(name) {
        let addresses = loopback(trust)?;
        return Ok(addresses.into_iter().map(|ip| SocketAddr::new(ip, 0)).collect());
    }
    let found = match names {
        NameSource::System => {
            tokio::net::lookup_host((name, 0)).await.map_err(ResolveError::Lookup)?.collect()
        }
        #[cfg(test)]
        NameSource::Scripted(answers) => {
            answers.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop_front().unwrap_or_default()
        }
    };
    all_within(found, trust)
}

fn all_within(found: Vec<SocketAddr>, trust: &Trust) -> Result<Vec<SocketAddr>, ResolveError> {
    if found.is_empty() {
        return Err(ResolveError::NoAddress);
    }
    for address in &found {
        check_address(address.ip(), trust)?;
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
