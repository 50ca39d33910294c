//! Checks of single texts: URLs, headers, patterns, paths. None of them quotes what may hold a secret.

use std::path::{Component, Path};

use http::{HeaderName, HeaderValue};
use url::Url;

use super::super::{de::listed, problems::did_you_mean};
use crate::{
    deliver::check_secret,
    model::job::{EventType, Outcome},
    util::secret::Secret,
};

/// Headers that every webhook request has already, or that belong to the connection.
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

/// The parts of a path on disk that are filled in.
const PLACEHOLDERS: [&str; 7] = ["source", "job_id", "outcome", "event_id", "yyyy", "mm", "dd"];

pub(super) fn no_control(text: &str) -> Result<(), String> {
    if text.chars().any(char::is_control) {
        return Err("it holds a line break or another control character".to_owned());
    }
    Ok(())
}

/// An http or https URL without credentials.
pub(super) fn web_url(text: &str, credentials_hint: &str) -> Result<Url, String> {
    let url = any_web_url(text)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(format!("a URL here cannot hold a user or a password; {credentials_hint}"));
    }
    Ok(url)
}

/// An http or https URL.
pub(super) fn any_web_url(text: &str) -> Result<Url, String> {
    let example = "write it like https://example.com/path";
    if text.is_empty() {
        return Err(format!("it is empty; {example}"));
    }
    let url = Url::parse(text).map_err(|error| format!("it is not a URL ({error}); {example}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("only http and https URLs can be used; {example}"));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(format!("the URL has no host; {example}"));
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

pub(super) fn header_value(value: &str) -> Result<(), String> {
    HeaderValue::from_str(value)
        .map(drop)
        .map_err(|_| "its value holds characters that no header can carry".to_owned())
}

/// What signs: `whsec_` and the base64 of 24 to 64 bytes, or `whsk_` and that of an ed25519 key.
pub(super) fn signing_secret(secret: &Secret) -> Result<(), String> {
    let hint = "make one with `echo \"whsec_$(openssl rand -base64 32)\"`";
    check_secret(secret).map_err(|error| format!("{error}; {hint}"))
}

/// A pattern of event types has to match an end, or to be the name of a type.
pub(super) fn event_pattern(pattern: &str) -> Result<(), String> {
    let known = EventType::ALL.map(EventType::as_str);
    let ends = Outcome::ALL.map(|outcome| EventType::Ended(outcome).as_str());
    if known.contains(&pattern) || ends.iter().any(|event| matches(pattern, event)) {
        return Ok(());
    }
    let hint = did_you_mean(pattern, known);
    Err(format!(
        "it matches no event; there are {}, and patterns such as `job.*`{hint}",
        listed(&known, "and")
    ))
}

/// Whether a pattern in which `*` stands for anything matches.
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

/// A path below a sink's folder.
pub(super) fn disk_path(path: &str) -> Result<(), String> {
    if path.is_empty() || path.ends_with('/') {
        return Err("it has to name a file, for example {source}/{job_id}.json".to_owned());
    }
    if path.chars().any(char::is_control) {
        return Err("it holds control characters".to_owned());
    }
    if Path::new(path).is_absolute() {
        return Err("it is a path below `dir` and cannot begin with /".to_owned());
    }
    if Path::new(path).components().any(|part| part == Component::ParentDir) {
        return Err("it cannot leave `dir`, so `..` is not allowed".to_owned());
    }
    let mut rest = path;
    while let Some(at) = rest.find(['{', '}']) {
        let inside = rest[at..].strip_prefix('{').and_then(|rest| rest.split_once('}'));
        let Some((name, after)) = inside else {
            return Err("a { or } stands alone; a placeholder is written {job_id}".to_owned());
        };
        if !PLACEHOLDERS.contains(&name) {
            let hint = did_you_mean(name, PLACEHOLDERS);
            return Err(format!(
                "a placeholder is not known; there are {}{hint}",
                listed(&PLACEHOLDERS, "and")
            ));
        }
        rest = after;
    }
    if !path.contains("{job_id}") && !path.contains("{event_id}") {
        return Err(
            "every job would be written over the one before; put {job_id} or {event_id} in".to_owned()
        );
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
