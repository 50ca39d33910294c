//! The address of a webhook: a URL in the configuration, in a watch or in a file.

use std::{borrow::Cow, fmt};

use http::Uri;
use url::Url;

use crate::{
    deliver::{config::WebhookConfig, outcome::AttemptFailure},
    model::delivery::ErrorClass,
    util::{
        http_client::guard::{Blocked, Trust, check_url},
        redact,
        secret::SecretSource,
    },
};

/// The address of a webhook.
#[derive(Debug)]
pub(super) enum Address {
    Fixed(Endpoint),
    /// In a file, as a secret; read again when the file changes.
    File(SecretSource),
}

/// A URL that can be posted to.
#[derive(Clone)]
pub(super) struct Endpoint {
    pub(super) url: Url,
    /// The URL of requests: without credentials and fragment.
    pub(super) uri: Uri,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redact::url(&self.url))
    }
}

impl Address {
    /// Returns the address of a configured webhook, without reading a file.
    ///
    /// # Errors
    /// The key that cannot be used, and the reason.
    pub(super) fn of(config: &WebhookConfig) -> Result<Self, (&'static str, String)> {
        match (config.url.as_deref(), config.url_file.as_deref()) {
            (Some(url), None) => Endpoint::parse(url).map(Self::Fixed).map_err(|reason| ("url", reason)),
            (None, Some(file)) => Ok(Self::File(SecretSource::file(file))),
            (None, None) => Err(("url", MISSING.to_owned())),
            (Some(_), Some(_)) => Err(("url_file", "`url` is set as well; keep one of the two".to_owned())),
        }
    }

    /// Returns the current address.
    pub(super) fn get(&self) -> Result<Cow<'_, Endpoint>, AttemptFailure> {
        match self {
            Self::Fixed(endpoint) => Ok(Cow::Borrowed(endpoint)),
            Self::File(file) => {
                let unusable =
                    |reason| AttemptFailure::new(ErrorClass::Config, format!("in url_file: {reason}"));
                Ok(Cow::Owned(Endpoint::parse(file.get()?.expose()).map_err(unusable)?))
            }
        }
    }

    /// Returns the address for display.
    pub(super) fn shown(&self) -> String {
        self.get().map_or_else(|failure| failure.text, |endpoint| redact::url(&endpoint.url))
    }
}

/// The error of a webhook without an address.
pub const MISSING: &str = "it is missing; give `url`, or `url_file` where the URL is a secret";

impl Endpoint {
    /// Parses a URL.
    ///
    /// # Errors
    /// The reason, without any part of the URL, when it cannot be posted to.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let url = parse_url(text)?;
        let uri = uri(&url)?;
        Ok(Self { url, uri })
    }
}

/// Parses a URL of http or https.
pub(super) fn parse_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("it is not a URL: {error}"))?;
    match check_url(&url, &Trust::Operator) {
        Err(blocked @ (Blocked::Scheme(_) | Blocked::NoHost)) => Err(blocked.to_string()),
        _ => Ok(url),
    }
}

fn uri(url: &Url) -> Result<Uri, String> {
    let mut url = url.clone();
    let stripped = url.set_username("").and_then(|()| url.set_password(None));
    url.set_fragment(None);
    let parsed = stripped.ok().and_then(|()| url.as_str().parse().ok());
    parsed.ok_or_else(|| "it cannot be requested".to_owned())
}
