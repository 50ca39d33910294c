//! Checks of single texts: URLs, headers, patterns, paths. None of them quotes a text that may hold
//! a secret.

use std::path::{Component, Path};

use http::{HeaderName, HeaderValue, header::CONTENT_TYPE};
use url::Url;

use super::super::{
    problems::{with_hint, with_maybe_hint},
    wording::{did_you_mean, join_words},
};
use crate::{deliver::check_secret, model::job::EventType, util::secret::Secret};

/// Headers that tidings or the connection sets.
const RESERVED: [&str; 8] = [
    "connection",
    "content-length",
    "content-type",
    "host",
    "te",
    "traceparent",
    "transfer-encoding",
    "user-agent",
];

/// The placeholders of a path on disk.
const PLACEHOLDERS: [&str; 9] =
    ["source", "job_id", "kind", "outcome", "event_id", "yyyy", "mm", "dd", "result"];

pub(super) fn no_control(text: &str) -> Result<(), String> {
    if text.chars().any(char::is_control) {
        return Err("it holds a line break or another control character".to_owned());
    }
    Ok(())
}

/// Reads an http or https URL without credentials.
pub(super) fn web_url(text: &str, credentials_hint: &str) -> Result<Url, String> {
    let url = any_web_url(text)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(with_hint("the URL holds a user or a password", credentials_hint));
    }
    Ok(url)
}

/// Reads an http or https URL.
pub(super) fn any_web_url(text: &str) -> Result<Url, String> {
    let example = "write it like https://example.com/path";
    if text.is_empty() {
        return Err(with_hint("it is empty", example));
    }
    let url = Url::parse(text).map_err(|error| with_hint(format!("it is not a URL ({error})"), example))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(with_hint("it is not an http or https URL", example));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(with_hint("the URL has no host", example));
    }
    Ok(url)
}

pub(super) fn header_name(name: &str) -> Result<(), String> {
    let parsed = HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| "it cannot be the name of a header".to_owned())?;
    let parsed = parsed.as_str();
    if RESERVED.contains(&parsed) || parsed.starts_with("webhook-") {
        return Err("this header is set by tidings itself and cannot be given".to_owned());
    }
    Ok(())
}

/// Checks a header of requests to a source, whose status requests may have a body.
pub(super) fn source_header_name(name: &str) -> Result<(), String> {
    if name.eq_ignore_ascii_case(CONTENT_TYPE.as_str()) { Ok(()) } else { header_name(name) }
}

pub(super) fn header_value(value: &str) -> Result<(), String> {
    HeaderValue::from_str(value)
        .map(drop)
        .map_err(|_| "its value holds characters that no header can carry".to_owned())
}

/// Checks a signing secret: `whsec_` and the base64 of 24 to 64 bytes, or `whsk_` and that of an
/// ed25519 key.
pub(super) fn signing_secret(secret: &Secret) -> Result<(), String> {
    let hint = "make one with `echo \"whsec_$(openssl rand -base64 32)\"`";
    check_secret(secret).map_err(|error| with_hint(error, hint))
}

/// Checks a pattern of event types: it must match the event of an outcome, or name a type.
pub(super) fn event_pattern(pattern: &str) -> Result<(), String> {
    let known = EventType::ALL.map(EventType::as_str);
    // Progress must be named in full.
    let mut matched = EventType::ALL.into_iter().filter(|event| !matches!(event, EventType::Progress(_)));
    if known.contains(&pattern) || matched.any(|event| matches(pattern, event.as_str())) {
        return Ok(());
    }
    let reason = format!(
        "it matches no event: expected {}, or a pattern such as `job.*`, `group.*` or `tidings.*`",
        join_words(&known, "or")
    );
    Err(with_maybe_hint(reason, did_you_mean(pattern, known)))
}

/// Whether a pattern in which `*` stands for any text matches.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// Checks a path below a sink's folder.
pub(super) fn disk_path(path: &str) -> Result<(), String> {
    if path.is_empty() || path.ends_with('/') {
        return Err("it names no file\nhint: write for example {source}/{job_id}.json".to_owned());
    }
    if path.chars().any(char::is_control) {
        return Err("it holds control characters".to_owned());
    }
    if Path::new(path).is_absolute() {
        return Err("it begins with /, but the path is below `dir`".to_owned());
    }
    if Path::new(path).components().any(|part| part == Component::ParentDir) {
        return Err("it leaves `dir` by `..`".to_owned());
    }
    let mut rest = path;
    while let Some(at) = rest.find(['{', '}']) {
        let inside = rest[at..].strip_prefix('{').and_then(|rest| rest.split_once('}'));
        let Some((name, after)) = inside else {
            return Err("a { or } stands alone\nhint: write a placeholder as {job_id}".to_owned());
        };
        if !PLACEHOLDERS.contains(&name) {
            let reason = format!("a placeholder is unknown: expected {}", join_words(&PLACEHOLDERS, "or"));
            return Err(with_maybe_hint(reason, did_you_mean(name, PLACEHOLDERS)));
        }
        rest = after;
    }
    if !path.contains("{job_id}") && !path.contains("{event_id}") {
        return Err(with_hint(
            "each job would overwrite the one before",
            "put {job_id} or {event_id} into it",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns_match_as_people_expect() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("job.*", "job.lost", true),
            ("*.lost", "job.lost", true),
            ("j*.*t", "job.lost", true),
            ("job", "job.lost", false),
            ("a*a", "a", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern}");
        }
    }

    proptest! {
        #[test]
        fn checks_of_texts_never_panic(text in any::<String>(), path in "[{}/.a-z_*]{0,20}") {
            for text in [&text, &path] {
                let _ = (disk_path(text), event_pattern(text), any_web_url(text), header_name(text));
                let _ = (header_value(text), signing_secret(&Secret::new(text.as_str())));
            }
        }
    }
}
