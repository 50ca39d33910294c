//! The headers that are forwarded.

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// Headers of one connection (RFC 9110, section 7.6.1). The server has answered `Expect` already.
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::EXPECT,
    header::HOST,
];

/// More of them, for which the library has no names.
const OLD_HOP_BY_HOP: [&str; 3] = ["keep-alive", "proxy-connection", "http2-settings"];

/// Our name in `Via` (RFC 9110, section 7.6.3).
const PSEUDONYM: &str = "tidings";

/// A request that passed the proxy this often is in a loop.
const MAX_PASSES: usize = 5;

/// Returns the members of a list header.
fn members(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|member| !member.is_empty())
}

/// Returns whether a request asks for an upgrade. `h2c` does not count: it is obsolete (RFC 9113, section 3.1), some clients
/// offer it with every request, and servers ignore it.
pub(super) fn asks_for_upgrade(headers: &HeaderMap) -> bool {
    let mut offered = members(headers, header::UPGRADE).peekable();
    match offered.peek() {
        Some(_) => offered.any(|protocol| !protocol.eq_ignore_ascii_case("h2c")),
        None => members(headers, header::CONNECTION).any(|name| name.eq_ignore_ascii_case("upgrade")),
    }
}

/// Removes the headers of the connection.
pub(super) fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> =
        members(headers, header::CONNECTION).filter_map(|name| name.parse().ok()).collect();
    for name in HOP_BY_HOP.iter().chain(&named) {
        headers.remove(name);
    }
    for name in OLD_HOP_BY_HOP {
        headers.remove(name);
    }
}

/// Removes the token of this server. A caller whose `Authorization` is for the upstream sends the token as
/// `Proxy-Authorization`, which is never forwarded.
pub(super) fn strip_own_token(headers: &mut HeaderMap, has_token: bool) {
    if has_token && !headers.contains_key(header::PROXY_AUTHORIZATION) {
        headers.remove(header::AUTHORIZATION);
    }
}

/// Adds this hop to the request; `false` when it goes round in a circle.
pub(super) fn pass(headers: &mut HeaderMap) -> bool {
    let passes =
        members(headers, header::VIA).filter(|hop| hop.split_whitespace().nth(1) == Some(PSEUDONYM)).count();
    headers.append(header::VIA, HeaderValue::from_static("1.1 tidings"));
    passes < MAX_PASSES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn what_belongs_to_the_connection_stays() {
        let mut all = headers(&[
            ("connection", "close, X-Mine"),
            ("connection", "x-other"),
            ("keep-alive", "timeout=5"),
            ("x-mine", "1"),
            ("x-other", "2"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("proxy-authorization", "Bearer t"),
            ("host", "127.0.0.1"),
            ("api-key", "k"),
            ("content-length", "3"),
            ("cookie", "a=b"),
            ("cookie", "c=d"),
        ]);
        strip(&mut all);
        let left: std::collections::BTreeSet<&str> = all.keys().map(HeaderName::as_str).collect();
        assert_eq!(left, ["api-key", "content-length", "cookie"].into());
        assert_eq!(all.get_all("cookie").iter().count(), 2);
    }

    #[test]
    fn another_protocol_is_noticed() {
        for (pairs, asks) in [
            (&[("upgrade", "websocket"), ("connection", "Upgrade")][..], true),
            (&[("upgrade", "h2c, websocket")], true),
            (&[("upgrade", "TLS/1.0")], true),
            (&[("connection", "keep-alive, UPGRADE")], true),
            (
                &[("upgrade", "h2c"), ("connection", "Upgrade, HTTP2-Settings"), ("http2-settings", "AA")],
                false,
            ),
            (&[("connection", "keep-alive")], false),
            (&[], false),
        ] {
            assert_eq!(asks_for_upgrade(&headers(pairs)), asks, "{pairs:?}");
        }
    }

    #[test]
    fn a_circle_is_noticed() {
        let mut all = headers(&[("via", "1.1 other, 1.1 tidings")]);
        let passes = (0..10).take_while(|_| pass(&mut all)).count();
        assert_eq!(passes, MAX_PASSES - 1);
    }
}
