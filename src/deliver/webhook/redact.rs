//! Redaction of our secrets in answers: many receivers quote the request in an error.

use http::HeaderMap;
use url::Url;

use crate::util::{redact, secret::REDACTED};

/// The length below which a text is not redacted: it would match inside ordinary words.
const SHORTEST: usize = 6;

/// The secrets of a request: its secret headers, the query of its URL, and the hidden part of the
/// path.
#[derive(Default)]
pub(super) struct SecretRedactor(Vec<String>);

impl SecretRedactor {
    pub(super) fn of(headers: &HeaderMap, url: &Url) -> Self {
        let headers = headers.values().filter(|value| value.is_sensitive());
        let headers = headers.filter_map(|value| value.to_str().ok());
        // A receiver may quote `Bearer x` as `x` alone.
        let headers = headers.flat_map(|value| [value, value.rsplit(' ').next().unwrap_or(value)]);
        let raw = url.query().into_iter().flat_map(|query| query.split('&'));
        let raw = raw.map(|pair| pair.split_once('=').map_or(pair, |(_, value)| value));
        let decoded = url.query_pairs().map(|(_, value)| value.into_owned());
        let path = redact::hidden_parts(url);
        let mut all: Vec<String> = headers.chain(raw).chain(path).map(str::to_owned).chain(decoded).collect();
        all.retain(|secret| secret.len() >= SHORTEST);
        // Longest first, so that a whole goes before its parts.
        all.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        Self(all)
    }

    /// Returns the text without the secrets. A text that was cut off may end with the beginning of
    /// one.
    pub(super) fn redact(&self, mut text: String) -> String {
        for secret in &self.0 {
            if text.contains(secret) {
                text = text.replace(secret, REDACTED);
            }
        }
        let beginning = |secret: &String| {
            let ends = secret.char_indices().map(|(at, _)| at).rev();
            ends.take_while(|end| *end >= SHORTEST).find(|end| text.ends_with(&secret[..*end]))
        };
        if let Some(length) = self.0.iter().filter_map(beginning).max() {
            text.truncate(text.len() - length);
            text.push_str(REDACTED);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn what_was_sent_in_secret_does_not_come_back() {
        let url = "https://example.com/services/T0000/path-secret-of-17/x?key=q%2Fuery-secret&v=1";
        let url = url.parse().unwrap();
        let mut headers = HeaderMap::new();
        let mut value = HeaderValue::from_static("Bearer token-secret");
        value.set_sensitive(true);
        headers.insert("authorization", value);
        headers.insert("x-open", HeaderValue::from_static("not-a-secret"));
        let redactor = SecretRedactor::of(&headers, &url);
        let said = "1 Bearer token-secret, token-secret, q/uery-secret q%2Fuery-secret not-a-secret \
            no services at /services/T0000/path-secret-of-17/x: path-secret-of-17 token-s";
        assert_eq!(
            redactor.redact(said.to_owned()),
            "1 [redacted], [redacted], [redacted] [redacted] not-a-secret no services at [redacted]: [redacted] [redacted]"
        );
        assert_eq!(SecretRedactor::default().redact(said.to_owned()), said);
    }
}
