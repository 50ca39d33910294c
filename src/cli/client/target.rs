//! The address of the daemon, and the paths of its routes with names written into them.

use std::{fmt, path::PathBuf};

use url::{Host, Url};

use crate::{cli::exit::BadUsage, util::path_segment};

/// The path and query of a request, built piece by piece.
#[derive(Clone, Debug)]
pub(crate) struct Path {
    text: String,
    has_query: bool,
}

impl Path {
    /// Returns the path made of `parts`, each of them one segment.
    #[must_use]
    pub(crate) fn of(parts: &[&str]) -> Self {
        let text = parts.iter().fold(String::new(), |path, part| path + "/" + &path_segment::encode(part));
        Self { text, has_query: false }
    }

    /// Adds `key=value` to the query.
    #[must_use]
    pub(crate) fn with(mut self, key: &str, value: &str) -> Self {
        self.text.push(if self.has_query { '&' } else { '?' });
        self.text.push_str(&path_segment::encode(key));
        self.text.push('=');
        self.text.push_str(&path_segment::encode(value));
        self.has_query = true;
        self
    }

    /// Adds `key=value` to the query if there is a value.
    #[must_use]
    pub(crate) fn maybe<V: fmt::Display>(self, key: &str, value: Option<V>) -> Self {
        match value {
            Some(value) => self.with(key, &value.to_string()),
            None => self,
        }
    }

    #[must_use]
    pub(crate) fn has_query(&self) -> bool {
        self.has_query
    }

    pub(super) fn as_str(&self) -> &str {
        &self.text
    }
}

/// The address of a daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// The URL that paths are added to.
    pub(super) base: String,
    /// The socket in the place of a network address.
    pub(super) socket: Option<PathBuf>,
    /// The address as messages show it.
    pub(super) shown: String,
}

impl Target {
    /// Reads `http://host:port`, `https://…`, `host:port` or `unix:/path/to.sock`, as given with `--url` or
    /// as a listen address.
    ///
    /// # Errors
    /// [`BadUsage`] when it is none of them.
    pub(crate) fn parse(text: &str) -> Result<Self, BadUsage> {
        let text = text.trim();
        if let Some(path) = text.strip_prefix("unix:") {
            return Self::socket(path.strip_prefix("//").unwrap_or(path));
        }
        let refuse = |reason: &str| {
            BadUsage::new(format!("`{}` does not name a daemon: {reason}", without_secrets(text)))
                .hint("write http://host:port, host:port or unix:/path/to.sock")
        };
        let full = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let mut url = Url::parse(&full).map_err(|error| refuse(&error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(refuse("the scheme is not http, https or unix"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            // Without `text`, which holds the credentials.
            return Err(BadUsage::new("the URL of the daemon holds credentials")
                .hint("give the daemon's token with --token-file"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(refuse("it has a query or a fragment"));
        }
        if url.port() == Some(0) {
            return Err(refuse("port 0 means any free port; the log of the daemon names the one it got"));
        }
        // A client cannot connect to a wildcard, and the daemon would reject it as a `Host`. Either wildcard listens on IPv4.
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
            return Err(BadUsage::new("`unix:` names no socket")
                .hint("add its path, as in unix:/run/tidings/api.sock"));
        }
        Ok(Self {
            base: "http://localhost".to_owned(),
            socket: Some(PathBuf::from(path)),
            shown: format!("unix:{path}"),
        })
    }

    #[must_use]
    pub(super) fn is_tls(&self) -> bool {
        self.base.starts_with("https:")
    }
}

/// Returns the part of a malformed URL that holds no secret: without the text before an `@` and without the query.
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
