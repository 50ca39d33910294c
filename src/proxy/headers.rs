//! The headers that are forwarded.

use http::{HeaderMap, HeaderValue, header};

use crate::util::hop_by_hop::members;
pub(super) use crate::util::hop_by_hop::strip;

/// Our name in `Via` (RFC 9110, section 7.6.3).
const PSEUDONYM: &str = "tidings";

/// A request that passed the proxy this often is in a loop.
const MAX_PASSES: usize = 5;

/// Returns whether a request asks for an upgrade. `h2c` does not count: it is obsolete (RFC 9113, section 3.1), some clients
/// offer it with every request, and servers ignore it.
pub(super) fn asks_for_upgrade(headers: &HeaderMap) -> bool {
    let mut offered = members(headers, header::UPGRADE).peekable();
    match offered.peek() {
        Some(_) => offered.any(|protocol| !protocol.eq_ignore_ascii_case("h2c")),
        None => members(headers, header::CONNECTION).any(|name| name.eq_ignore_ascii_case("upgrade")),
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
