//! `[page]`: the page for a browser.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The longest prefix.
const MAX_PREFIX: usize = 256;

/// The page for a browser at `/`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PageConfig {
    /// Whether `/` answers a browser with the page. Otherwise it names the document of the API to every client.
    pub enabled: bool,
    /// The path under which a reverse proxy serves the daemon and which it strips from each request, for example
    /// `/tidings`. It overrides the header `X-Forwarded-Prefix`. Unset: the header counts, if it is a plain path.
    pub prefix: Option<String>,
}

impl Default for PageConfig {
    fn default() -> Self {
        Self { enabled: true, prefix: None }
    }
}

/// Reads a plain absolute path, and returns it without a slash at the end.
///
/// # Errors
/// The reason why `text` is none.
pub(crate) fn page_prefix(text: &str) -> Result<&str, String> {
    let is_unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let is_segment =
        |part: &str| !part.is_empty() && part != "." && part != ".." && part.bytes().all(is_unreserved);
    let path = text.strip_suffix('/').unwrap_or(text);
    let is_plain = path.strip_prefix('/').is_some_and(|path| path.split('/').all(is_segment));
    if is_plain && path.len() <= MAX_PREFIX {
        return Ok(path);
    }
    Err(format!(
        "expected a path such as /tidings: segments of letters, digits, `-`, `.`, `_` and `~`, up to {MAX_PREFIX} characters"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_a_plain_absolute_path() {
        for (text, path) in [
            ("/tidings", "/tidings"),
            ("/tidings/", "/tidings"),
            ("/a/b-1/c_2/~d.e", "/a/b-1/c_2/~d.e"),
            ("/...", "/..."),
        ] {
            assert_eq!(page_prefix(text).as_deref(), Ok(path));
        }
        let long = format!("/{}", "a".repeat(MAX_PREFIX));
        for bad in [
            "",
            "/",
            "//",
            "//evil.example",
            "/a//b",
            "/a//",
            "a",
            "a/b",
            "https://evil.example/",
            "/.",
            "/..",
            "/a/../b",
            "/a/./b",
            "/a b",
            "/a%2fb",
            "/a\"><script>",
            "/a?b",
            "/a#b",
            "/a\\b",
            "/a, /b",
            "/ä",
            "/a\n",
            long.as_str(),
        ] {
            assert!(page_prefix(bad).is_err(), "{bad:?}");
        }
    }
}
