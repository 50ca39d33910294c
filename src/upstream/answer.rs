//! Reads the status body of a job, whichever version of the API wrote it.

use std::collections::BTreeMap;

use super::{
    ListedStatus, Profile, Template,
    times::{self, Scalar, run_mark},
};
use crate::{
    model::{
        job::{Outcome, Run},
        status_answer::{StatusAnswer, StatusClass},
    },
    util::{
        json_slice::{Pointers, Raw, Scan, Values},
        units::Time,
    },
};

/// The most bytes of metadata that are kept, so that a record stays far below the size at which the
/// store puts it into a file.
const MAX_METADATA: usize = 16 << 10;

/// The most bytes of metadata that are read: each byte may be written as an escape.
const MAX_METADATA_TEXT: usize = 6 * MAX_METADATA;

/// The longest word that is kept, in bytes.
const MAX_WORD: usize = 256;

/// The longest word as it is written, in bytes: it may be an address. A longer one counts as
/// absent.
const MAX_WORD_TEXT: usize = 8 << 10;

/// The most characters of a job's error that are kept.
const MAX_ERROR: usize = 512;

/// The recorded status of a body without one.
pub const NO_STATUS: &str = "none";

/// Returns the pointers of a profile into a status body, and one more.
pub(super) fn wanted(profile: &Profile, also: Option<&str>) -> Pointers {
    let lists = [
        &profile.status_at,
        &profile.created_at,
        &profile.started_at,
        &profile.ended_at,
        &profile.attempt_at,
        &profile.error_at,
        &profile.pending_while,
        &profile.failed_at,
    ];
    let words = lists.into_iter().flatten().chain(&profile.endpoint_at).map(String::as_str);
    let words = words.chain(profile.result_path.iter().flat_map(Template::pointers)).chain(also);
    let metadata = profile.metadata_at.iter().map(|pointer| (pointer.as_str(), MAX_METADATA_TEXT));
    Pointers::new(words.map(|pointer| (pointer, MAX_WORD_TEXT)).chain(metadata))
}

impl Profile {
    /// Reads a whole status body.
    ///
    /// # Errors
    /// If it is no JSON, or has no status although one is required.
    pub fn read(&self, body: &[u8]) -> Result<(StatusAnswer, Values), String> {
        let mut scan = Scan::new(&self.wanted);
        let read = scan.push(body).and_then(|()| scan.finish());
        read.map_err(|error| format!("the answer is no JSON: {error}"))?;
        let values = scan.into_values();
        Ok((self.answer(&values, None)?, values))
    }

    /// Reads the values of a status body. `listed` is the HTTP status of its answer, if that says
    /// how far the job is.
    ///
    /// # Errors
    /// If it has no status although one is required.
    pub fn answer(&self, values: &Values, listed: Option<ListedStatus>) -> Result<StatusAnswer, String> {
        let (status, class) = match listed {
            Some(listed) => self.status_by(listed, values),
            None if self.status_at.is_empty() => {
                return Err("the HTTP status of the answer is not in status_http".to_owned());
            }
            None => self.status_in(&self.status_at, values),
        };
        if status.is_empty() && class != StatusClass::Pending && self.status_required {
            let missing = format!("the answer has no status at {}", join_words(&self.status_at));
            return Err(match values.first_there(&self.error_at).map(error_text) {
                Some(error) => format!("{missing}: {error}"),
                None => missing,
            });
        }
        let word_of = |pointers: &[String]| values.first(pointers).and_then(short);
        let ended_at = values.first(&self.ended_at);
        let started_at = values.first(&self.started_at);
        let is_running = self.running.contains(&status.to_lowercase());
        let at = |pointer: &Option<String>| values.at(pointer.as_deref()?);
        Ok(StatusAnswer {
            class,
            endpoint: at(&self.endpoint_at).and_then(short),
            metadata: at(&self.metadata_at).and_then(metadata),
            run: Run {
                completed_at: ended_at.and_then(discriminator),
                attempt_count: word_of(&self.attempt_at),
                started_at: started_at.and_then(discriminator),
                rerun: 0,
            },
            at_work: is_running || started_at.is_some_and(|raw| discriminator(raw).is_some()),
            created_at: values.first(&self.created_at).and_then(instant),
            started_at: started_at.and_then(instant),
            ended_at: ended_at.and_then(instant),
            error: values.first_there(&self.error_at).map(error_text),
            status: match status.as_str() {
                "" => NO_STATUS.to_owned(),
                status => status.chars().take(MAX_WORD).collect(),
            },
            ..StatusAnswer::default()
        })
    }

    /// Returns whether the part of a status body that was read is enough: it is all of it, or the
    /// job goes on.
    pub(super) fn is_enough(&self, values: &Values) -> bool {
        let goes_on = || {
            self.answer(values, None).is_ok_and(|answer| !matches!(answer.class, StatusClass::Finished(_)))
        };
        values.is_settled() || (values.is_known(&self.status_at) && goes_on())
    }
}

impl Profile {
    /// Returns the status word of a body, empty if it has none, and what the body says about the
    /// end of the job.
    pub fn status_in(&self, status_at: &[String], values: &Values) -> (String, StatusClass) {
        let status = values.first(status_at).and_then(Raw::word).unwrap_or_default();
        let class = self.classify(&status);
        self.judged(status, class, values)
    }

    /// Returns the same where the HTTP status of the answer says how far the job is.
    #[must_use]
    pub fn status_by(&self, listed: ListedStatus, values: &Values) -> (String, StatusClass) {
        self.judged(listed.code.to_string(), listed.class, values)
    }

    /// Corrects a status by what else the body says of the end.
    fn judged(&self, status: String, class: StatusClass, values: &Values) -> (String, StatusClass) {
        for value in self.pending_while.iter().filter_map(|pointer| values.at(pointer)?.word()) {
            match value.to_lowercase().as_str() {
                "true" => return (status, StatusClass::Pending),
                "false" => {}
                _ if self.classify(&value) == StatusClass::Pending => return (value, StatusClass::Pending),
                _ => {}
            }
        }
        if class != StatusClass::Finished(Outcome::Completed) {
            return (status, class);
        }
        // An error may be longer than any word.
        let shown = |pointer: &String| values.at(pointer).filter(|raw| raw.is_there()).map(Raw::shown);
        let error =
            self.failed_at.iter().filter_map(shown).find(|value| !value.eq_ignore_ascii_case("false"));
        let class = error.map_or(class, |error| match self.classify(&error) {
            class @ StatusClass::Finished(Outcome::Cancelled | Outcome::Expired) => class,
            _ => StatusClass::Finished(Outcome::Failed),
        });
        (status, class)
    }
}

fn error_text(raw: Raw<'_>) -> String {
    raw.shown().chars().take(MAX_ERROR).collect()
}

/// Returns a word that is short enough to keep.
fn short(raw: Raw<'_>) -> Option<String> {
    raw.word().filter(|word| word.len() <= MAX_WORD)
}

/// Joins pointers for a message.
pub(super) fn join_words(pointers: &[String]) -> String {
    let quoted: Vec<String> = pointers.iter().map(|pointer| format!("`{pointer}`")).collect();
    quoted.join(" or ")
}

/// Reads a value that may be a time.
fn scalar<T>(raw: Raw<'_>, read: impl Fn(Scalar<'_>) -> Option<T>) -> Option<T> {
    match raw.number() {
        Some(digits) => read(Scalar::Number(digits)),
        None => read(Scalar::Text(&raw.text()?)),
    }
}

fn instant(raw: Raw<'_>) -> Option<Time> {
    scalar(raw, times::read)
}

fn discriminator(raw: Raw<'_>) -> Option<String> {
    scalar(raw, run_mark)
}

/// Of two pairs with one name the first counts.
fn metadata(raw: Raw<'_>) -> Option<BTreeMap<String, String>> {
    let mut pairs = BTreeMap::new();
    for (name, value) in raw.members()? {
        pairs.entry(name).or_insert_with(|| value.shown().into_owned());
    }
    let size: usize = pairs.iter().map(|(key, value)| key.len() + value.len()).sum();
    (size <= MAX_METADATA).then_some(pairs)
}

#[cfg(test)]
mod tests;
