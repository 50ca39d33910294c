//! What of a message belongs to its connection, and is not passed on.

use http::{HeaderMap, HeaderName, header};

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

/// Returns the members of a list header.
pub(crate) fn members(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|member| !member.is_empty())
}

/// Removes the headers of the connection.
pub(crate) fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> =
        members(headers, header::CONNECTION).filter_map(|name| name.parse().ok()).collect();
    for name in HOP_BY_HOP.iter().chain(&named) {
        headers.remove(name);
    }
    for name in OLD_HOP_BY_HOP {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, http::HeaderValue::from_static(value));
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
}
