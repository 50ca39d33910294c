//! The headers that the configuration adds to every request. Each value is a secret.

use std::collections::BTreeMap;

use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};

use crate::{
    deliver::{config::WebhookConfig, outcome::AttemptFailure},
    model::delivery::ErrorClass,
    util::secret::{SecretSource, SecretValue},
};

/// Headers that tidings sets, or that would change the framing of the request.
const RESERVED: [&str; 11] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "keep-alive",
    "te",
    "traceparent",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The configured headers of one webhook. Values in files are read again when the files change.
#[derive(Clone, Debug, Default)]
pub(super) struct Credentials(Vec<Credential>);

#[derive(Clone, Debug)]
struct Credential {
    name: HeaderName,
    /// The prefix of the secret.
    scheme: &'static str,
    source: SecretSource,
}

impl Credentials {
    /// Reads the headers of a configuration.
    ///
    /// # Errors
    /// The key that cannot be used, and the reason.
    pub(super) fn of(config: &WebhookConfig) -> Result<Self, (&'static str, String)> {
        let mut all = fixed(&config.headers).map_err(|reason| ("headers", reason))?;
        Self(all.clone()).headers().map_err(|failure| ("headers", failure.text))?;
        let key = if config.bearer.is_some() { "bearer" } else { "bearer_file" };
        let bearer = SecretSource::of(config.bearer.as_ref(), config.bearer_file.as_deref());
        if let Some(source) = bearer {
            if all.iter().any(|credential| credential.name == AUTHORIZATION) {
                return Err((
                    key,
                    "`headers` gives an authorization as well; keep one of the two".to_owned(),
                ));
            }
            all.push(Credential { name: AUTHORIZATION, scheme: "Bearer ", source });
        }
        let all = Self(all);
        all.headers().map_err(|failure| (key, failure.text))?;
        Ok(all)
    }

    /// Returns the current headers.
    pub(super) fn headers(&self) -> Result<HeaderMap, AttemptFailure> {
        let mut headers = HeaderMap::with_capacity(self.0.len());
        for Credential { name, scheme, source } in &self.0 {
            let text = format!("{scheme}{}", source.get()?.expose());
            let mut value: HeaderValue = text.parse().map_err(|_| {
                let text = format!("the value of `{name}` cannot be sent in a header");
                AttemptFailure::new(ErrorClass::Config, text)
            })?;
            value.set_sensitive(true);
            headers.append(name, value);
        }
        Ok(headers)
    }
}

fn fixed(headers: &BTreeMap<String, SecretValue>) -> Result<Vec<Credential>, String> {
    let one = |(name, value): (&String, &SecretValue)| {
        let name: HeaderName = name.parse().map_err(|_| format!("`{name}` is not a header name"))?;
        if RESERVED.contains(&name.as_str()) || name.as_str().starts_with("webhook-") {
            return Err(format!("`{name}` is set by tidings itself"));
        }
        Ok(Credential { name, scheme: "", source: value.source() })
    };
    headers.iter().map(one).collect()
}
