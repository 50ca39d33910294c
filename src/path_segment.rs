//! Foreign text as one segment of a URL's path.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What a segment holds as it is (RFC 3986, section 2.3, unreserved).
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Encodes `text` so that it stays one segment, whatever it holds.
#[must_use]
pub fn encode(text: &str) -> String {
    utf8_percent_encode(text, UNRESERVED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_keeps_no_separator() {
        assert_eq!(encode("a/b?c#d%e f-._~ü"), "a%2Fb%3Fc%23d%25e%20f-._~%C3%BC");
    }
}
