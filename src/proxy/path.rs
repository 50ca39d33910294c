//! The paths that are forwarded: those that stay below the base URL however often the server decodes them.
//!
//! Servers differ. Some decode `%2f` before they resolve `..`, some decode twice, some drop `;…` from a segment, some take
//! `\` for `/`. The injected key must not depend on which one is at the other end.

use percent_encoding::percent_decode;

/// The most layers of percent-encoding. A path with more is rejected.
const MAX_LAYERS: usize = 6;

/// Checks a path as it was sent, still encoded.
///
/// # Errors
/// The reason, as the end of a sentence.
pub(super) fn check(path: &str) -> Result<(), &'static str> {
    if !is_well_encoded(path.as_bytes()) {
        return Err("holds a `%` that encodes nothing");
    }
    if path.contains('\\') {
        return Err(LEAVES);
    }
    let mut layer = path.as_bytes().to_vec();
    for _ in 0..MAX_LAYERS {
        check_layer(&layer)?;
        let decoded: Vec<u8> = percent_decode(&layer).collect();
        if decoded == layer {
            return Ok(());
        }
        layer = decoded;
    }
    Err("is encoded too often")
}

const LEAVES: &str = "leads away from the base URL of the source";

fn check_layer(layer: &[u8]) -> Result<(), &'static str> {
    // Overlong forms of `.` and `/` are no UTF-8.
    let text = std::str::from_utf8(layer).map_err(|_| "is no UTF-8")?;
    if text.chars().any(char::is_control) {
        return Err("holds control characters");
    }
    let mut segments = text.split(['/', '\\']);
    let begins_at_root = segments.next().is_none_or(str::is_empty);
    // `//host` names a host where the rest is taken for a reference.
    let names_a_host = text.len() > 1 && segments.clone().next().is_some_and(str::is_empty);
    if !begins_at_root || names_a_host || segments.any(is_dots) {
        return Err(LEAVES);
    }
    Ok(())
}

/// Returns whether a segment is `.` or `..`. Ignores parameters, white space, and a decoded query or fragment after it.
fn is_dots(segment: &str) -> bool {
    let name = segment.split([';', '?', '#']).next().unwrap_or_default().trim();
    matches!(name, "." | "..")
}

/// Returns whether two hexadecimal digits follow each `%`.
fn is_well_encoded(path: &[u8]) -> bool {
    let mut parts = path.split(|byte| *byte == b'%').skip(1);
    parts.all(|part| part.len() >= 2 && part[..2].iter().all(u8::is_ascii_hexdigit))
}

#[cfg(test)]
mod tests {
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_that_any_server_could_resolve_away_are_refused() {
        for path in [
            "/..",
            "/v1/../../admin",
            "/v1/%2e%2e/admin",
            "/v1/.%2E/x",
            "/..%2fadmin",
            "/v1/..%2F..%2Fadmin",
            "/v1/%2e%2e%2fadmin",
            "/..%5cadmin",
            "/v1\\..\\admin",
            "/v1%5c..%5cadmin",
            "/..;/admin",
            "/v1/..;x=1/admin",
            "/v1/..%3b/admin",
            "/v1/..%3f",
            "/v1/..%3Fx=1",
            "/v1/..%2523x",
            "/v1/.;/x",
            "/%252e%252e/admin",
            "/..%252fadmin",
            "/..%25252fadmin",
            "/%25252525252525252e%2e/x",
            "//evil.example/x",
            "/%2fevil.example/x",
            "/%2F%2Fevil.example/x",
            "/%5cevil.example",
            "/%255cevil.example",
            "/%c0%ae%c0%ae/admin",
            "/..%c0%afadmin",
            "/..%00/admin",
            "/..%20/admin",
            "/v1/x%0d%0aHost:%20evil",
            "/%u002e%u002e/x",
            "/v1/%zz",
            "/v1/%2",
            "/.",
        ] {
            assert!(check(path).is_err(), "{path}");
        }
    }

    #[test]
    fn ordinary_paths_pass() {
        for path in [
            "/",
            "/v1/jobs",
            "/v1/jobs/",
            "/v1/jobs%2Fx",
            "/v1/jobs/a..b/status",
            "/v1/jobs/...",
            "/v1/jobs/.hidden",
            "/v1/jobs/100%25",
            "/v1/jobs/50%25off",
            "/v1/files/https%3A%2F%2Fexample.com%2Fa%252Fb",
            "/v1/operations/projects/p:x@y=z;v=1/op",
            "/v1/%C3%BC/%E2%80%A6",
            "/a//b",
            "/a%5Cb",
            "/v1/what%3F/x%23..",
        ] {
            assert_eq!(check(path), Ok(()), "{path}");
        }
    }

    proptest! {
        /// However a path is encoded: when it resolves to what is above its root, it is refused.
        #[test]
        fn no_encoding_of_an_escape_passes(
            before in "[a-z]{0,3}", after in "[a-z]{1,5}", codes in prop::collection::vec(0..3_usize, 4),
        ) {
            let encoded = |text: &str, layers: usize| {
                (0..layers).fold(text.to_owned(), |text, _| utf8_percent_encode(&text, NON_ALPHANUMERIC).to_string())
            };
            let parts = ["/", ".", ".", "/"].iter().zip(&codes).map(|(part, layers)| encoded(part, *layers));
            let path = format!("/{before}{}{after}", parts.collect::<String>());
            prop_assert!(check(&path).is_err(), "{}", path);
        }

        #[test]
        fn what_passes_holds_no_dots_however_it_is_decoded(path in "/([.%25efc/;\\\\]|%2e|%2f|%5c){0,12}") {
            if check(&path).is_ok() {
                let decoded = percent_decode(path.as_bytes()).decode_utf8_lossy().into_owned();
                prop_assert!(!decoded.split(['/', '\\']).any(|part| part == ".."), "{}", path);
            }
        }
    }
}
