//! The origins that may get credentials.

use std::fmt;

use url::Url;

/// Scheme, host and port (RFC 6454).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(String);

impl Origin {
    /// Returns the origin of an http or https URL, or `None` for any other text.
    #[must_use]
    pub fn of(url: &str) -> Option<Self> {
        let url = Url::parse(url).ok()?;
        let is_web = matches!(url.scheme(), "http" | "https") && url.has_host();
        is_web.then(|| Self(url.origin().ascii_serialization()))
    }

    /// Reads an origin that an operator wrote.
    ///
    /// # Errors
    /// A message for the operator.
    pub fn parse(text: &str) -> Result<Self, String> {
        let bad = || "one of them is no origin; write it like https://files.example.com".to_owned();
        let origin = Self::of(text).ok_or_else(bad)?;
        let is_bare = Url::parse(text).is_ok_and(|url| {
            url.path() == "/"
                && url.query().is_none()
                && url.fragment().is_none()
                && url.username().is_empty()
        });
        is_bare.then_some(origin).ok_or_else(bad)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Returns a base URL without a slash at its end, and without the version that the paths begin
/// with. Some clients want the version there, and others cut it off.
///
/// # Errors
/// A message for the operator, if it is no http or https URL.
pub fn base_url(text: &str, path: &str) -> Result<String, String> {
    let bad = || "it is not an http or https URL".to_owned();
    let url = Url::parse(text).map_err(|_| bad())?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(bad());
    }
    let base = text.trim_end_matches('/');
    let version = path.split('/').nth(1).filter(|part| !part.is_empty() && !part.contains('{'));
    let cut = version.and_then(|version| base.strip_suffix(version)?.strip_suffix('/'));
    // The host itself may have that name.
    Ok(cut.filter(|cut| Url::parse(cut).is_ok_and(|url| url.has_host())).unwrap_or(base).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_loses_the_version_that_the_paths_have() {
        for (text, path, base) in [
            ("https://e.com/v1/", "/v1/jobs/{id}", "https://e.com"),
            ("https://e.com/a/v1", "/v1/jobs/{id}", "https://e.com/a"),
            ("https://e.com/v1", "/v2/jobs/{id}", "https://e.com/v1"),
            ("https://e.com//", "{url}", "https://e.com"),
            ("http://v1", "/v1/jobs", "http://v1"),
        ] {
            assert_eq!(base_url(text, path).unwrap(), base, "{text}");
        }
        assert!(base_url("ftp://e.com", "/").is_err() && base_url("e.com", "/").is_err());
    }

    #[test]
    fn origins_are_compared_whole() {
        let origin = |url| Origin::of(url).unwrap();
        assert_eq!(origin("https://e.com/a"), origin("https://E.com:443/b?c"));
        for other in ["http://e.com", "https://e.com:444", "https://e.com.evil.com", "https://evil.com/e.com"]
        {
            assert_ne!(origin("https://e.com"), origin(other), "{other}");
        }
        assert_eq!(origin("https://e.com@evil.com/"), origin("https://evil.com"));
        for bad in ["e.com", "https://e.com/x", "https://u@e.com", "https://e.com?x", "file:///etc"] {
            assert!(Origin::parse(bad).is_err(), "{bad}");
        }
        let told = Origin::parse("https://user:hunter2@e.com/?token=hunter2").unwrap_err();
        assert_eq!(told, "one of them is no origin; write it like https://files.example.com");
        assert_eq!(base_url("ftp://u:hunter2@e.com", "/").unwrap_err(), "it is not an http or https URL");
    }
}
