//! `CloudEvents` 1.0.2: the attributes of an event, in JSON (JSON event format) or as headers (HTTP
//! protocol binding).
//!
//! Labels are not attributes. The name of an attribute is 1 to 20 of `a-z0-9` (specification,
//! "Naming Conventions"), and two labels could get the same name. A receiver that needs labels
//! takes the envelope or a template.

use std::fmt::Write as _;

use http::{HeaderMap, HeaderName, HeaderValue, header::CONTENT_TYPE};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::Value;

use crate::{deliver::message::Message, util::path_segment};

/// The `content-type` of structured mode (JSON event format, section 3).
pub const STRUCTURED: &str = "application/cloudevents+json; charset=utf-8";

/// The media type of the data.
const DATA_TYPE: &str = "application/json";

/// The prefix of every type: a reverse-DNS name, as the specification recommends.
const TYPE_PREFIX: &str = "dev.tidings.";

/// The prefix of the types of tidings' own events, which [`TYPE_PREFIX`] says already.
const OWN_PREFIX: &str = "tidings.";

/// The longest reason in characters, because headers should be short.
const MAX_REASON: usize = 512;

/// The ASCII characters that a header value must escape (HTTP binding 1.0.2, section 3.1.3.2).
const IN_HEADERS: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// Returns the attributes of an event except `datacontenttype`, in their written order.
fn attributes(message: &Message) -> Vec<(&'static str, String)> {
    let kind = message.event_type.strip_prefix(OWN_PREFIX).unwrap_or(&message.event_type);
    let source = match &message.subject {
        Some(subject) => format!("/sources/{}", path_segment::encode(&subject.source)),
        None => "/tidings".to_owned(),
    };
    let mut attributes = vec![
        ("specversion", "1.0".to_owned()),
        ("id", message.event_id.clone()),
        ("source", source),
        ("type", format!("{TYPE_PREFIX}{kind}")),
        ("time", message.time.to_string()),
    ];
    if let Some(about) = &message.about {
        attributes.push(("subject", about.name.clone()));
    }
    if let Some(subject) = &message.subject {
        attributes.push(("subject", subject.job_id.as_str().to_owned()));
        attributes.extend(subject.kind.as_ref().map(|kind| ("kind", kind.name.clone())));
        attributes.extend(subject.outcome.map(|outcome| ("outcome", outcome.as_str().to_owned())));
        attributes.extend(subject.status.as_deref().map(|status| ("status", printable(status))));
        if let Some(reason) = subject.reason.as_deref().map(printable).filter(|reason| !reason.is_empty()) {
            attributes.push(("reason", reason));
        }
    }
    attributes
}

/// Replaces control characters, which an attribute may not hold (specification, "Type System"), and
/// shortens the text.
fn printable(text: &str) -> String {
    text.chars().take(MAX_REASON).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Returns the event in JSON up to its data, `{"specversion":"1.0",…,"data":`; without data, the
/// whole event.
pub(super) fn structured(message: &Message, has_data: bool) -> String {
    let mut head = String::new();
    for (name, value) in attributes(message) {
        let before = if head.is_empty() { '{' } else { ',' };
        // Writing to a string cannot fail.
        let _ = write!(head, "{before}\"{name}\":{}", Value::from(value));
    }
    let media_type = Value::from(message.media_type.as_deref().unwrap_or(DATA_TYPE));
    // Data that is not JSON is base64 (JSON event format, section 3.1).
    let member = if message.media_type.is_some() { "data_base64\":\"" } else { "data\":" };
    match has_data {
        true => _ = write!(head, ",\"datacontenttype\":{media_type},\"{member}"),
        false => head.push('}'),
    }
    head
}

/// Returns the headers of binary mode. With data, `content-type` stands for `datacontenttype`.
pub(super) fn headers(message: &Message, has_data: bool) -> HeaderMap {
    let encoded = attributes(message).into_iter().filter_map(|(name, value)| {
        let name = HeaderName::try_from(format!("ce-{name}")).ok()?;
        let value = HeaderValue::try_from(utf8_percent_encode(&value, IN_HEADERS).to_string()).ok()?;
        Some((name, value))
    });
    let mut headers: HeaderMap = encoded.collect();
    if has_data {
        let media_type = message.media_type.as_deref().and_then(|text| HeaderValue::from_str(text).ok());
        headers.insert(CONTENT_TYPE, media_type.unwrap_or(HeaderValue::from_static(DATA_TYPE)));
    }
    headers
}

#[cfg(test)]
mod tests;
