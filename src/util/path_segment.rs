//! Encodes foreign text as one segment of a URL's path.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// The characters that stay as they are in a segment (RFC 3986, section 2.3, unreserved).
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Encodes any `text` as one segment.
#[must_use]
pub fn encode(text: &str) -> String {
    utf8_percent_encode(text, UNRESERVED).to_string()
}

/// The further characters that stay in one of several segments: those in names of Google's
/// operations, none of them a separator.
const SEVERAL: &AsciiSet = &UNRESERVED.remove(b':').remove(b'@').remove(b'=');

/// Encodes each segment of `text`, and keeps the slashes between them.
#[must_use]
pub(crate) fn encode_several(text: &str) -> String {
    let segments = text.split('/').map(|segment| utf8_percent_encode(segment, SEVERAL).to_string());
    segments.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_keeps_no_separator() {
        assert_eq!(encode("a/b?c#d%e f-._~ü"), "a%2Fb%3Fc%23d%25e%20f-._~%C3%BC");
        assert_eq!(encode_several("a:b@c=/b?c&;#d%e f"), "a:b@c=/b%3Fc%26%3B%23d%25e%20f");
    }
}
