//! URLs without their secrets. Chat services put the secret of a webhook into its path, others into
//! the query. So only the first segment of a path is shown, if it is a word, with a fingerprint
//! that tells one path from another.

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};
use url::Url;

use crate::util::secret::REDACTED;

/// The bytes of the fingerprint of a path.
const FINGERPRINT: usize = 4;

/// The longest word.
const LONGEST_WORD: usize = 16;

/// The most digits of a word.
const MOST_DIGITS: usize = 3;

/// Returns a URL without user, query and fragment, and with a short path.
#[must_use]
pub fn url(url: &Url) -> String {
    if url.cannot_be_a_base() || !url.has_host() {
        return format!("{}:…", url.scheme());
    }
    format!("{}{}", url.origin().ascii_serialization(), path(url))
}

/// Returns the text of a URL in the same way. Hides a text that is no URL.
#[must_use]
pub(crate) fn url_text(text: &str) -> String {
    let Ok(parsed) = Url::parse(text) else { return REDACTED.to_owned() };
    let shown = url(&parsed);
    // A URL without secrets stays as it was written.
    if parsed.as_str() == shown { text.to_owned() } else { shown }
}

/// Returns the parts of a path that are hidden and may be secret.
pub(crate) fn hidden_parts(url: &Url) -> impl Iterator<Item = &str> {
    let is_hidden = path(url).contains('…');
    let segments = url.path_segments().into_iter().flatten().filter(|segment| !is_word(segment));
    segments.chain([url.path()]).filter(move |_| is_hidden)
}

fn path(url: &Url) -> String {
    let path = url.path();
    let (first, rest) = path.trim_start_matches('/').split_once('/').unwrap_or((path.trim_matches('/'), ""));
    let is_shown = first.is_empty() || is_word(first);
    if is_shown && rest.is_empty() && path.starts_with('/') {
        return path.to_owned();
    }
    let fingerprint = HEXLOWER.encode(&Sha256::digest(path)[..FINGERPRINT]);
    let first = if is_shown && !first.is_empty() { format!("{first}/") } else { String::new() };
    format!("/{first}…{fingerprint}")
}

/// Whether a segment resembles a word such as `services` or `v1`, and not like a token.
fn is_word(segment: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let digits = segment.bytes().filter(u8::is_ascii_digit).count();
    segment.len() <= LONGEST_WORD && digits <= MOST_DIGITS && segment.bytes().all(is_plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_path_is_shown_by_its_first_segment() {
        for (text, shown) in [
            ("https://example.com", "https://example.com"),
            ("https://example.com/", "https://example.com/"),
            ("https://example.com/hook", "https://example.com/hook"),
            ("https://example.com:8443/hook/", "https://example.com:8443/hook/"),
            ("https://user:hunter2@example.com/hook?token=x#y", "https://example.com/hook"),
            ("https://example.com/?token=x", "https://example.com/"),
            ("http://[::1]:9/hook", "http://[::1]:9/hook"),
            ("https://hooks.slack.com/services/T0/B0/secret", "https://hooks.slack.com/services/…"),
            ("https://discord.com/api/webhooks/1/secret?wait=true", "https://discord.com/api/…"),
            (
                "https://t.webhook.office.com/webhookb2/a@b/IncomingWebhook/c/d",
                "https://t.webhook.office.com/webhookb2/…",
            ),
            ("https://webhook.site/7b3f2c1e-9f7a-4d7e-8a2b-1c2d3e4f5a6b", "https://webhook.site/…"),
            ("https://hook.eu1.make.com/abcdefghijklmnopqrstuvwxyz", "https://hook.eu1.make.com/…"),
            ("https://example.com//secret/x", "https://example.com/secret/…"),
            ("mailto:someone@example.com", "mailto:…"),
            ("hunter2", "[redacted]"),
            ("", "[redacted]"),
        ] {
            let seen = url_text(text);
            match shown.strip_suffix('…').filter(|_| shown.starts_with("http")) {
                Some(start) => {
                    let fingerprint =
                        seen.strip_prefix(start).and_then(|rest| rest.strip_prefix('…')).unwrap_or("");
                    assert!(
                        fingerprint.len() == 8 && fingerprint.bytes().all(|b| b.is_ascii_hexdigit()),
                        "{text}: {seen}"
                    );
                }
                None => assert_eq!(seen, shown, "{text}"),
            }
        }
        assert_ne!(url_text("https://h.example/services/a/1"), url_text("https://h.example/services/a/2"));
    }

    proptest! {
        #[test]
        fn secrets_are_never_shown(
            secret in "[A-Za-z0-9_-]{17,40}", first in "[a-z]{1,10}", after in "(/[a-z]{1,5}){0,2}",
        ) {
            for text in [
                format!("https://e.example/{first}/{secret}{after}"),
                format!("https://e.example/{secret}{after}"),
                format!("https://e.example/{first}{after}?{secret}"),
                format!("https://e.example/{first}?a={secret}#{secret}"),
                format!("https://{secret}@e.example/{first}"),
                format!("https://u:{secret}@e.example{after}"),
            ] {
                prop_assert!(!url_text(&text).contains(&secret), "{}", url_text(&text));
            }
            let url = Url::parse(&format!("https://e.example/{first}/{secret}{after}")).unwrap();
            prop_assert!(hidden_parts(&url).any(|part| part == secret));
        }
    }
}
