//! The envelope: the event as JSON, with the job spliced in under `data`.

use std::fmt::Write as _;

use serde_json::Value;

use crate::{deliver::message::Message, model::job::Outcome};

/// Returns the envelope up to the job: `{"type":…,"data":`.
pub(super) fn head(message: &Message) -> String {
    let mut head = String::from("{");
    text(&mut head, "type", &message.event_type);
    text(&mut head, "timestamp", &message.time.to_string());
    text(&mut head, "id", &message.event_id);
    if let Some(subject) = &message.subject {
        text(&mut head, "source", &subject.source);
        text(&mut head, "job_id", subject.job_id.as_str());
        if let Some(kind) = &subject.kind {
            text(&mut head, "kind", &kind.name);
        }
        match subject.outcome {
            Some(outcome) => text(&mut head, "outcome", outcome.as_str()),
            None => head.push_str("\"outcome\":null,"),
        }
        if let Some(status) = &subject.status {
            text(&mut head, "status", status);
        }
        head.push_str("\"labels\":{");
        for (key, value) in &subject.labels {
            text(&mut head, key, value);
        }
        if head.ends_with(',') {
            head.pop();
        }
        head.push_str("},");
        if let (Some(Outcome::Lost), Some(reason)) = (subject.outcome, &subject.reason) {
            text(&mut head, "reason", reason);
        }
    }
    if let Some(about) = &message.about {
        text(&mut head, about.key, &about.name);
    }
    match message.media_type.as_deref().filter(|_| !message.body.is_empty()) {
        Some(media_type) => {
            text(&mut head, "data_content_type", media_type);
            head.push_str("\"data_base64\":\"");
        }
        None => head.push_str("\"data\":"),
    }
    head
}

/// Appends `"key":"value",`. `Value` prints JSON and, unlike a serializer, returns no error.
fn text(out: &mut String, key: &str, value: &str) {
    // Writing to a string cannot fail.
    let _ = write!(out, "{}:{},", Value::from(key), Value::from(value));
}
