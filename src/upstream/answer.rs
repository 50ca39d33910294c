//! Reading what a source says about a job, whichever generation of its API wrote it.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;

use super::{
    Profile,
    times::{self, Scalar, run_mark},
};
use crate::{
    job::{Attempt, Outcome},
    units::Time,
};

/// Metadata over this many bytes is not kept: a record stays far from the size at which the store makes a
/// file of it.
const MAX_METADATA: usize = 16 << 10;

/// More of a word is not kept.
const MAX_WORD: usize = 256;

/// More characters of a job's error are not kept.
const MAX_ERROR: usize = 512;

/// What a status word means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Not ended.
    Pending,
    /// Nobody knows this word; it counts as not ended.
    Unknown,
    /// Ended.
    Ended(Outcome),
}

/// What a source said about a job.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The status word, untouched.
    pub status: String,
    /// What it means.
    pub class: Class,
    /// The operation the job runs.
    pub endpoint: Option<String>,
    /// The job's own metadata; values that are no strings are kept as JSON text.
    pub metadata: Option<BTreeMap<String, String>>,
    /// Which run it speaks of.
    pub attempt: Attempt,
    /// How far the source's clock is ahead of ours, in milliseconds.
    pub clock_ahead: i64,
    /// When the job was created, by the source's clock, as are the times below.
    pub created_at: Option<Time>,
    /// When its run started.
    pub started_at: Option<Time>,
    /// When the job ended.
    pub ended_at: Option<Time>,
    /// How long the source asks to wait before the next look.
    pub hint: Option<Duration>,
    /// Its word says that it is being worked on, or it says when that began.
    pub at_work: bool,
    /// Where the result of a job that ended is, when the status body says it: a path or a URL, or nothing when the status
    /// body is all there is.
    pub result: Option<String>,
    /// The job's own error.
    pub error: Option<String>,
}

/// What is recorded as the status of a body that has none.
pub const NO_STATUS: &str = "none";

impl Profile {
    /// Reads a status body.
    ///
    /// # Errors
    /// In words, when it is no JSON, or has no status where one is required.
    pub fn read(&self, body: &[u8]) -> Result<(Answer, Value), String> {
        let json: Value =
            serde_json::from_slice(body).map_err(|error| format!("the answer is no JSON: {error}"))?;
        let (status, class) = self.status_in(&self.status_at, |pointer| json.pointer(pointer).and_then(word));
        if status.is_empty() && class != Class::Pending && self.status_required {
            return Err(format!("the answer has no status at {}", listed(&self.status_at)));
        }
        let word_of =
            |pointers: &[String]| first(&json, pointers).and_then(word).filter(|word| word.len() <= MAX_WORD);
        let ended_at = first(&json, &self.ended_at);
        let started_at = first(&json, &self.started_at).and_then(discriminator);
        let is_running = self.running.contains(&status.to_lowercase());
        let at = |pointer: &Option<String>| json.pointer(pointer.as_deref()?);
        let answer = Answer {
            class,
            endpoint: at(&self.endpoint_at).and_then(word).filter(|word| word.len() <= MAX_WORD),
            metadata: at(&self.metadata_at).and_then(metadata),
            attempt: Attempt {
                completed_at: ended_at.and_then(discriminator),
                attempt_count: word_of(&self.attempt_at),
                started_at: started_at.clone(),
                rerun: 0,
            },
            at_work: is_running || started_at.is_some(),
            created_at: first(&json, &self.created_at).and_then(instant),
            started_at: first(&json, &self.started_at).and_then(instant),
            ended_at: ended_at.and_then(instant),
            clock_ahead: 0,
            hint: None,
            result: None,
            error: first(&json, &self.error_at).map(error_text),
            status: match status.as_str() {
                "" => NO_STATUS.to_owned(),
                status => status.chars().take(MAX_WORD).collect(),
            },
        };
        Ok((answer, json))
    }
}

impl Profile {
    /// Returns the status word of a body, empty when it has none, and what the body says of the job's end. `at` returns the
    /// word at a pointer of that body.
    pub fn status_in(&self, status_at: &[String], at: impl Fn(&str) -> Option<String>) -> (String, Class) {
        let first = |pointers: &[String]| pointers.iter().find_map(|pointer| at(pointer));
        for value in self.pending_while.iter().filter_map(|pointer| at(pointer)) {
            match value.to_lowercase().as_str() {
                "true" => return (first(status_at).unwrap_or_default(), Class::Pending),
                "false" => {}
                _ if self.classify(&value) == Class::Pending => return (value, Class::Pending),
                _ => {}
            }
        }
        let status = first(status_at).unwrap_or_default();
        let class = self.classify(&status);
        if class != Class::Ended(Outcome::Completed) {
            return (status, class);
        }
        let is_error = |value: &String| !value.eq_ignore_ascii_case("false");
        let error = self.failed_at.iter().filter_map(|pointer| at(pointer)).find(is_error);
        let class = error.map_or(class, |error| match self.classify(&error) {
            class @ Class::Ended(Outcome::Cancelled | Outcome::Expired) => class,
            _ => Class::Ended(Outcome::Failed),
        });
        (status, class)
    }
}

/// What is at the first pointer that is present.
pub(super) fn first<'a>(json: &'a Value, pointers: &[String]) -> Option<&'a Value> {
    pointers.iter().filter_map(|pointer| json.pointer(pointer)).find(|value| word(value).is_some())
}

fn error_text(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    text.chars().take(MAX_ERROR).collect()
}

/// Pointers for a message.
pub(super) fn listed(pointers: &[String]) -> String {
    let quoted: Vec<String> = pointers.iter().map(|pointer| format!("`{pointer}`")).collect();
    quoted.join(" or ")
}

/// A value as a word; null and nothing are no word.
#[must_use]
pub fn word(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Array(_) | Value::Object(_) => Some("{}".to_owned()),
        _ => None,
    }
}

/// A value that may be a time.
fn scalar<T>(value: &Value, read: impl Fn(Scalar<'_>) -> Option<T>) -> Option<T> {
    match value {
        Value::String(text) => read(Scalar::Text(text)),
        Value::Number(number) => read(Scalar::Number(&number.to_string())),
        _ => None,
    }
}

fn instant(value: &Value) -> Option<Time> {
    scalar(value, times::read)
}

fn discriminator(value: &Value) -> Option<String> {
    scalar(value, run_mark)
}

fn metadata(value: &Value) -> Option<BTreeMap<String, String>> {
    let pairs: BTreeMap<String, String> = value
        .as_object()?
        .iter()
        .map(|(key, value)| {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            (key.clone(), text)
        })
        .collect();
    let size: usize = pairs.iter().map(|(key, value)| key.len() + value.len()).sum();
    (size <= MAX_METADATA).then_some(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<Answer, String> {
        let profile = Profile::of(&super::super::SourceConfig::default()).unwrap();
        profile.read(body.as_bytes()).map(|(answer, _)| answer)
    }

    #[test]
    fn both_generations_name_the_same_run() {
        let epoch =
            read(r#"{"status":"completed","completed_at":1772611219,"started_at":1772611202}"#).unwrap();
        let iso = read(
            r#"{"status":"completed","completed_at":"2026-03-04T08:00:19Z","started_at":"2026-03-04T08:00:02.000000+00:00","attempt_count":1}"#,
        )
        .unwrap();
        assert!(epoch.attempt.same_run(&iso.attempt), "{epoch:?} {iso:?}");
        assert_eq!(epoch.ended_at, iso.ended_at);
        assert_eq!(epoch.class, Class::Ended(Outcome::Completed));
    }

    #[test]
    fn missing_and_unknown_fields_are_accepted() {
        let answer = read(r#"{"status":"in_progress","novel":[1],"metadata":{"a":"b","n":3}}"#).unwrap();
        assert_eq!(answer.class, Class::Pending);
        assert_eq!(answer.metadata.unwrap()["n"], "3");
        assert!(answer.attempt.is_silent());
        assert_eq!(read(r#"{"status":"paused_for_lunch"}"#).unwrap().class, Class::Unknown);
    }

    #[test]
    fn what_is_no_status_is_an_error() {
        for body in ["", "<html>", "[]", "{}", r#"{"status":null}"#, r#"{"status":""}"#] {
            assert!(read(body).is_err(), "{body}");
        }
        let deep = format!(r#"{{"status":"queued","x":{}1{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
        assert!(read(&deep).is_err(), "depth is bounded");
    }
}
