//! The headers that a webhook's configuration adds to every request; whatever is in them counts as a secret.

use std::collections::BTreeMap;

use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};

use crate::{
    deliver::{config::WebhookConfig, outcome::AttemptFailure},
    model::delivery::ErrorClass,
    util::secret::{SecretSource, SecretValue},
};

/// Headers that are ours to set, or that would change how the request is framed.
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

/// The headers of one webhook, those in files read again when these change.
#[derive(Clone, Debug, Default)]
pub(super) struct Credentials(Vec<Credential>);

#[derive(Clone, Debug)]
struct Credential {
    name: HeaderName,
    /// What goes before the secret.
    scheme: &'static str,
    source: SecretSource,
}

impl Credentials {
    /// The headers that a webhook is configured with.
    ///
    /// # Errors
    /// The key that cannot be used, and why.
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

    /// The headers as they are now.
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
