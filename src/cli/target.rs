//! Where the daemon is, and how names are written into the URLs sent to it.

use std::{fmt, path::PathBuf};

use url::{Host, Url};

use super::exit::BadUsage;
use crate::util::path_segment;

/// A path with its query, put together piece by piece.
#[derive(Clone, Debug)]
pub struct Path {
    text: String,
    has_query: bool,
}

impl Path {
    /// The path made of `parts`, each of them one segment.
    #[must_use]
    pub fn of(parts: &[&str]) -> Self {
        let text = parts.iter().fold(String::new(), |path, part| path + "/" + &path_segment::encode(part));
        Self { text, has_query: false }
    }

    /// With `key=value` in the query.
    #[must_use]
    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.text.push(if self.has_query { '&' } else { '?' });
        self.text.push_str(&path_segment::encode(key));
        self.text.push('=');
        self.text.push_str(&path_segment::encode(value));
        self.has_query = true;
        self
    }

    /// With `key=value` in the query when there is a value.
    #[must_use]
    pub fn maybe<V: fmt::Display>(self, key: &str, value: Option<V>) -> Self {
        match value {
            Some(value) => self.with(key, &value.to_string()),
            None => self,
        }
    }

    /// As it is sent.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// Where a daemon answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// What paths are added to.
    pub base: String,
    /// The socket that stands in for the network.
    pub socket: Option<PathBuf>,
    /// What people are told.
    pub shown: String,
}

impl Target {
    /// Reads `http://host:port`, `https://…`, `host:port` or `unix:/path/to.sock`, as given with `--url` or
    /// as a listen address.
    ///
    /// # Errors
    /// [`BadUsage`] when it is none of them.
    pub fn parse(text: &str) -> Result<Self, BadUsage> {
        let text = text.trim();
        if let Some(path) = text.strip_prefix("unix:") {
            return Self::socket(path.strip_prefix("//").unwrap_or(path));
        }
        let refuse = |reason: &str| {
            BadUsage(format!(
                "`{}` does not name a daemon: {reason}; write http://host:port, host:port or unix:/path/to.sock",
                without_secrets(text)
            ))
        };
        let full = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let mut url = Url::parse(&full).map_err(|error| refuse(&error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(refuse("only http, https and unix are spoken"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            // Said without `text`: the credentials would be shown.
            return Err(BadUsage(
                "the URL of the daemon may not hold credentials; give its token with --token-file".to_owned(),
            ));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(refuse("a query or fragment has no place there"));
        }
        if url.port() == Some(0) {
            return Err(refuse("port 0 means any free port; the daemon logs the one it got"));
        }
        // Nothing can be sent to a wildcard, and the daemon would refuse it as a `Host`. The daemon listens over IPv4 on either.
        let is_wildcard = match url.host() {
            Some(Host::Ipv4(address)) => address.is_unspecified(),
            Some(Host::Ipv6(address)) => address.is_unspecified(),
            _ => false,
        };
        if is_wildcard {
            url.set_host(Some("127.0.0.1")).map_err(|error| refuse(&error.to_string()))?;
        }
        let base = url.as_str().trim_end_matches('/').to_owned();
        Ok(Self { shown: base.clone(), base, socket: None })
    }

    fn socket(path: &str) -> Result<Self, BadUsage> {
        if path.is_empty() {
            return Err(BadUsage("`unix:` needs a path, as in unix:/run/tidings/api.sock".to_owned()));
        }
        Ok(Self {
            base: "http://localhost".to_owned(),
            socket: Some(PathBuf::from(path)),
            shown: format!("unix:{path}"),
        })
    }

    /// Whether requests are encrypted.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.base.starts_with("https:")
    }
}

/// What may be shown of a text that should have been a URL: neither what stands before an `@` nor a query.
fn without_secrets(text: &str) -> &str {
    let end = text.find(['?', '#']).unwrap_or(text.len());
    let shown = text.get(..end).unwrap_or_default();
    shown.rsplit('@').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(text: &str) -> String {
        Target::parse(text).unwrap().base
    }

    #[test]
    fn every_way_to_name_a_daemon() {
        assert_eq!(base("http://127.0.0.1:8787"), "http://127.0.0.1:8787");
        assert_eq!(base("http://127.0.0.1:8787/"), "http://127.0.0.1:8787");
        assert_eq!(base("localhost:8787"), "http://localhost:8787");
        assert_eq!(base("[::1]:8787"), "http://[::1]:8787");
        assert_eq!(base("https://jobs.example.com/tidings/"), "https://jobs.example.com/tidings");
        let socket = Target::parse("unix:/run/t.sock").unwrap();
        assert_eq!(socket.socket, Some(PathBuf::from("/run/t.sock")));
        assert_eq!(Target::parse("unix:///run/t.sock").unwrap(), socket);
    }

    #[test]
    fn a_wildcard_listen_address_is_reached_over_loopback() {
        assert_eq!(base("0.0.0.0:8787"), "http://127.0.0.1:8787");
        assert_eq!(base("[::]:8787"), "http://127.0.0.1:8787");
    }

    #[test]
    fn what_names_no_daemon_is_refused_without_showing_credentials() {
        for bad in ["ftp://x", "http://", "unix:", "http://x/?q=1", "127.0.0.1:0"] {
            assert!(Target::parse(bad).is_err(), "{bad}");
        }
        for text in [
            "http://user:hunter2@host",
            "http://user:hunter2@host:port",
            "user:hunter2@ho st",
            "h/?token=hunter2",
        ] {
            let refused = Target::parse(text).unwrap_err().to_string();
            assert!(!refused.contains("hunter2"), "{refused}");
        }
    }

    #[test]
    fn names_stay_one_segment() {
        let path = Path::of(&["v1", "watches", "retab", "../a/b?c#d%20 ü~-_."]);
        assert_eq!(path.as_str(), "/v1/watches/retab/..%2Fa%2Fb%3Fc%23d%2520%20%C3%BC~-_.");
        let query =
            Path::of(&["v1"]).with("label.team", "a&b=c").maybe("no", None::<&str>).maybe("n", Some(7));
        assert_eq!(query.as_str(), "/v1?label.team=a%26b%3Dc&n=7");
    }
}
