//! Checks that a caller may use the API: the token, and the defence against pages in a browser (DNS
//! rebinding, cross-origin requests).

use std::net::IpAddr;

use axum::{
    extract::Request,
    http::{HeaderMap, header},
};
use subtle::ConstantTimeEq as _;

use super::{
    hooks::is_hook,
    page::is_page,
    problem::{Code, Problem},
};
use crate::state::ServerState;

/// The kind of connection that brought a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PeerKind {
    /// A TCP connection to this local address.
    Tcp(IpAddr),
    /// The unix socket, which no browser reaches.
    Unix,
}

/// Returns whether a path is a probe, which needs neither a token nor a name of this server.
pub(super) fn is_probe(path: &str) -> bool {
    matches!(path, "/healthz" | "/readyz")
}

/// Checks a request, unless it is a probe, or a hook, which proves itself. The files of the page hold no data, and need no
/// token.
pub(super) fn check(server: &ServerState, request: &Request) -> Result<(), Problem> {
    let path = request.uri().path();
    if is_probe(path) || is_hook(path) {
        return Ok(());
    }
    check_site(server, request)?;
    if is_page(request.method(), request.uri()) { Ok(()) } else { check_token(server, request) }
}

fn peer_kind(request: &Request) -> PeerKind {
    request.extensions().get::<PeerKind>().copied().unwrap_or(PeerKind::Unix)
}

/// Returns whether a probe may see details: its caller could use the API. A daemon without a token
/// shows them to this machine alone, and not to a page that was rebound by DNS.
pub(super) fn may_see_details(server: &ServerState, request: &Request) -> bool {
    // Only this machine reaches a loopback address.
    let is_local = match peer_kind(request) {
        PeerKind::Tcp(local) => local.to_canonical().is_loopback(),
        PeerKind::Unix => true,
    };
    (server.token.is_some() || is_local) && check_site(server, request).is_ok() && has_token(server, request)
}

/// Refuses requests of pages that were rebound by DNS, and of pages of other origins.
fn check_site(server: &ServerState, request: &Request) -> Result<(), Problem> {
    let PeerKind::Tcp(local) = peer_kind(request) else { return Ok(()) };
    let host = host(request)?;
    if !is_ours(&host, local, &server.allowed_hosts) {
        let detail = format!(
            "`{host}` is not a name of this server; use its address, or add the name to server.allowed_hosts"
        );
        return Err(Problem::new(Code::HostRefused, detail));
    }
    if is_page(request.method(), request.uri()) && is_navigation(request.headers()) {
        return Ok(());
    }
    check_origin(request.headers(), local, &server.allowed_hosts)
}

/// Returns whether a browser opens a page in a window, for example after a click on a link of another site. That site
/// learns nothing of what is shown.
fn is_navigation(headers: &HeaderMap) -> bool {
    let says = |name, value: &str| headers.get(name).is_some_and(|given| given == value);
    says("sec-fetch-mode", "navigate") && says("sec-fetch-dest", "document")
}

/// Returns the host that the request names, without its port.
fn host(request: &Request) -> Result<String, Problem> {
    let bad = |what: &str| Problem::new(Code::BadHost, format!("the request has {what}"));
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let authority = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().map_err(|_| bad("an unreadable Host header"))?,
        (Some(_), Some(_)) => return Err(bad("two Host headers")),
        (None, _) => request
            .uri()
            .authority()
            .map(http::uri::Authority::as_str)
            .ok_or_else(|| bad("no Host header"))?,
    };
    let authority: http::uri::Authority = authority.parse().map_err(|_| bad("an unreadable Host header"))?;
    Ok(authority.host().to_owned())
}

/// Returns whether a host names this server. A page that was rebound by DNS carries its own name,
/// never an address.
fn is_ours(host: &str, local: IpAddr, names: &[String]) -> bool {
    if let Some(address) = literal(host) {
        let is_named = names.iter().any(|name| literal(name) == Some(address));
        return address.is_loopback() || address == local.to_canonical() || is_named;
    }
    let bare = host.trim_end_matches('.');
    let is_bare = |name: &str| name.trim_end_matches('.').eq_ignore_ascii_case(bare);
    is_bare("localhost") || names.iter().any(|name| is_bare(name))
}

/// Reads a host as an address.
fn literal(host: &str) -> Option<IpAddr> {
    let bare = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
    bare.parse().ok().map(|address: IpAddr| address.to_canonical())
}

fn check_origin(headers: &HeaderMap, local: IpAddr, names: &[String]) -> Result<(), Problem> {
    let refused = |what: &str| {
        Problem::new(Code::CrossOrigin, format!("{what}; this API does not answer pages of other origins"))
    };
    if let Some(site) = headers.get("sec-fetch-site")
        && !matches!(site.as_bytes(), b"same-origin" | b"none")
    {
        return Err(refused("the browser says that the request comes from another site"));
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let origin = origin.to_str().ok().and_then(|text| url::Url::parse(text).ok());
    let Some(origin) = origin.as_ref().filter(|origin| origin.has_host()) else {
        return Err(refused("the request has an origin without a host"));
    };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let port = origin.port_or_known_default();
    let authority: Option<http::uri::Authority> = host.parse().ok();
    let same_port = authority.is_some_and(|authority| {
        authority.port_u16().or(Some(80)) == port || authority.port_u16().is_none() && port == Some(443)
    });
    let name = origin.host_str().unwrap_or_default();
    let same_host = host.rsplit_once(':').map_or(host, |(name, _)| name).eq_ignore_ascii_case(name)
        || host.eq_ignore_ascii_case(name);
    if same_port && same_host && is_ours(name, local, names) {
        return Ok(());
    }
    Err(refused("the request comes from another origin"))
}

/// Returns whether a request carries the token, or none is needed.
pub(super) fn has_token(server: &ServerState, request: &Request) -> bool {
    check_token(server, request).is_ok()
}

fn check_token(server: &ServerState, request: &Request) -> Result<(), Problem> {
    let Some(token) = &server.token else { return Ok(()) };
    let unreadable = |error: crate::util::secret::SecretError| {
        Problem::new(
            Code::TokenUnreadable,
            // Its path is nothing for a caller without the token.
            format!("server.token_file: {}", error.about_this_file()),
        )
    };
    let token = token.get().map_err(unreadable)?;
    // A request through the proxy may need `Authorization` for its own server.
    let is_proxied = request.uri().path().starts_with("/proxy/");
    let proxied = request.headers().get(header::PROXY_AUTHORIZATION).filter(|_| is_proxied);
    let given = proxied.or_else(|| request.headers().get(header::AUTHORIZATION));
    let given = given.map(http::HeaderValue::as_bytes).unwrap_or_default();
    let scheme = b"bearer ";
    let bearer = given.len() >= scheme.len() && given[..scheme.len()].eq_ignore_ascii_case(scheme);
    let given = if bearer { given[scheme.len()..].trim_ascii() } else { b"" };
    if bearer && bool::from(given.ct_eq(token.expose().as_bytes())) {
        return Ok(());
    }
    Err(Problem::new(Code::Unauthorized, "send the token of this server as `Authorization: Bearer …`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 2, 3));

    #[test]
    fn only_our_own_names_are_ours() {
        let names = ["tidings.local", "hub.svc.", "10.96.0.7", "[fd00::7]", "fd00::8"].map(str::to_owned);
        for host in [
            "127.0.0.1",
            "localhost",
            "LOCALHOST",
            "localhost.",
            "[::1]",
            "10.1.2.3",
            "Tidings.Local",
            "hub.svc",
            "127.9.9.9",
            "10.96.0.7",
            "[::ffff:10.96.0.7]",
            "[fd00::7]",
            "[fd00:0::8]",
        ] {
            assert!(is_ours(host, LOCAL, &names), "{host}");
        }
        for host in [
            "evil.example",
            "10.1.2.4",
            "localhost.evil.example",
            "0.0.0.0",
            "[fe80::1]",
            "",
            "127.0.0.1.nip.io",
            "10.96.0.8",
            "[fd00::9]",
        ] {
            assert!(!is_ours(host, LOCAL, &names), "{host}");
        }
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(k, v)| (k.parse().unwrap(), http::HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn pages_of_other_origins_are_refused() {
        let host = ("host", "127.0.0.1:8787");
        for fine in [
            vec![host],
            vec![host, ("origin", "http://127.0.0.1:8787")],
            vec![host, ("sec-fetch-site", "same-origin")],
            vec![host, ("sec-fetch-site", "none")],
        ] {
            assert!(check_origin(&headers(&fine), LOCAL, &[]).is_ok(), "{fine:?}");
        }
        for foreign in [
            vec![host, ("origin", "http://evil.example")],
            vec![host, ("origin", "null")],
            vec![host, ("origin", "http://127.0.0.1:9999")],
            vec![host, ("origin", "http://localhost:8787")],
            vec![host, ("sec-fetch-site", "cross-site")],
            vec![host, ("sec-fetch-site", "same-site")],
        ] {
            assert!(check_origin(&headers(&foreign), LOCAL, &[]).is_err(), "{foreign:?}");
        }
    }
}
