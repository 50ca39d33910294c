//! Checks the body of a result: what it is, and which part of it is delivered.

use std::{
    io::{self, Read as _},
    sync::Arc,
};

use super::FetchError;
use crate::{
    model::status_answer::StatusClass,
    store::{Incoming, MAX_SMALL, Said, StoredBody},
    upstream::{Failure, ListedStatus, Profile},
    util::json_slice::{NotJson, Pointers, Scan, Values},
};

/// The media type of several JSON values, one a line.
pub(super) const JSONL: &str = "application/jsonl";

/// The media type of a body of no known form.
const BYTES: &str = "application/octet-stream";

/// The most characters of a status word and of a job's error that are kept.
const MAX_STATUS: usize = 256;
const MAX_ERROR: usize = 512;

/// The bytes at the start of a body that show what it is.
const HEAD: u64 = 1 << 10;

/// The answer to the request for a result.
pub(super) struct ReceivedBody {
    /// Its bytes.
    pub(super) incoming: Incoming,
    /// Its media type, if that is not JSON.
    pub(super) media_type: Option<String>,
    /// Whether it is a status body.
    pub(super) is_status: bool,
    /// The HTTP status of its answer, if that says how far the job is.
    pub(super) listed: Option<ListedStatus>,
    /// Whether it is the error of the job, whatever its form.
    pub(super) is_refusal: bool,
    /// Whether an empty body may be the result.
    pub(super) may_be_empty: bool,
}

/// A body that is the result of a job.
pub(super) struct CheckedBody {
    /// Its media type, if that is not JSON.
    pub(super) media_type: Option<String>,
    /// The pointer to the part that is delivered, if that is not all.
    pub(super) part: Option<String>,
    /// What it says about the end of the job.
    pub(super) said: Option<Said>,
}

/// Checks whether a body is the result of a finished job.
pub(super) async fn check(
    profile: &Profile,
    received: &ReceivedBody,
    body: StoredBody,
) -> Result<CheckedBody, FetchError> {
    let ReceivedBody { incoming, media_type, is_status, listed, is_refusal, .. } = received;
    let status_at = match (is_status, is_refusal) {
        (true, _) if listed.is_some() => Vec::new(),
        (true, _) => profile.status_at.clone(),
        (false, true) => Vec::new(),
        // A redirect led to the result, and its pointers are those into a status body.
        (false, false) if profile.result_path.is_none() => Vec::new(),
        (false, false) => profile.result_status_at.clone(),
    };
    let said_by = |values: Option<&Values>| listed.map(|listed| end_by(profile, listed, values)).transpose();
    let is_error = *is_refusal || listed.is_some_and(ListedStatus::is_failure);
    let has_status = !status_at.is_empty();
    if incoming.size() == 0 {
        if has_status || !received.may_be_empty {
            return Err(Failure::Transient("the answer is empty, which is not the result".to_owned()).into());
        }
        // An empty body is no JSON, but JSONL without lines.
        let media_type = Some(media_type.clone().unwrap_or_else(|| JSONL.to_owned()));
        return Ok(CheckedBody { media_type, part: None, said: said_by(None)? });
    }
    let words_at = [&status_at[..], &profile.pending_while, &profile.failed_at, &profile.error_at].concat();
    let expected = Expected {
        no_page: !is_error && (has_status || !profile.result_may_be_html),
        json: if has_status { Some(false) } else { media_type.is_none().then_some(true) },
        media_type: media_type.clone(),
    };
    let found = if incoming.size() <= MAX_SMALL as u64 {
        read(&body, &words_at, &expected)?
    } else {
        let found = tokio::task::spawn_blocking(move || read(&body, &words_at, &expected));
        found.await.map_err(io::Error::other)??
    };
    let (said, media_type) = match found {
        Ok(BodyContent::Json(values)) if has_status => (Some(end_in(profile, &status_at, &values)?), None),
        Ok(BodyContent::Json(values)) => (said_by(Some(&values))?, None),
        Ok(BodyContent::Lines) => (said_by(None)?, Some(JSONL.to_owned())),
        Ok(BodyContent::Other) => (said_by(None)?, media_type.clone()),
        // The answer to a status request that ends the job as failed, whatever it holds.
        Err(_) if listed.is_some_and(ListedStatus::is_failure) => {
            (said_by(None)?, Some(media_type.clone().unwrap_or_else(|| BYTES.to_owned())))
        }
        Err(reason) => return Err(Failure::Transient(reason).into()),
    };
    // If the status body is the result, `result_at` points into the status body.
    let is_whole = media_type.is_some()
        || profile.result_at.is_empty()
        || *is_refusal
        || (*is_status && profile.result_path.is_some());
    Ok(CheckedBody { media_type, part: (!is_whole).then(|| profile.result_at.clone()), said })
}

/// Returns what a result says about the end of its job.
fn end_in(profile: &Profile, status_at: &[String], values: &Values) -> Result<Said, FetchError> {
    let (status, class) = profile.status_in(status_at, values);
    if status.is_empty() && class != StatusClass::Pending {
        return Err(Failure::Transient("the job has no status".to_owned()).into());
    }
    let StatusClass::Finished(outcome) = class else { return Err(FetchError::Running) };
    let error = error_in(profile, values);
    Ok(Said { status: status.chars().take(MAX_STATUS).collect(), outcome, error })
}

/// Returns what the HTTP status of an answer says about the end of its job.
fn end_by(profile: &Profile, listed: ListedStatus, values: Option<&Values>) -> Result<Said, FetchError> {
    let (status, class) = match values {
        Some(values) => profile.status_by(listed, values),
        None => (listed.code.to_string(), listed.class),
    };
    let StatusClass::Finished(outcome) = class else { return Err(FetchError::Running) };
    Ok(Said { status, outcome, error: values.and_then(|values| error_in(profile, values)) })
}

fn error_in(profile: &Profile, values: &Values) -> Option<String> {
    values.first(&profile.error_at).map(|raw| raw.shown().chars().take(MAX_ERROR).collect())
}

/// The forms that a body may have.
struct Expected {
    /// An HTML page counts as an error page.
    no_page: bool,
    /// The body must be JSON; `true` if it may also be several values, one a line.
    json: Option<bool>,
    media_type: Option<String>,
}

/// The content of a body.
enum BodyContent {
    /// JSON, with the values at the pointers.
    Json(Values),
    /// Several JSON values, one a line.
    Lines,
    /// Anything else, as its media type says.
    Other,
}

/// Reads a body to its end. The outer error is that of the disk; the inner one says why the body is
/// not the result.
fn read(
    body: &StoredBody,
    pointers: &[String],
    expected: &Expected,
) -> io::Result<Result<BodyContent, String>> {
    let mut head = Vec::new();
    body.read()?.take(HEAD).read_to_end(&mut head)?;
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&head).trim_ascii_start();
    let media_type = expected.media_type.as_deref().map(essence).unwrap_or_default();
    if expected.no_page && is_page(&media_type, text) {
        let way_out = match expected.json {
            Some(false) => "",
            _ => "; set result_may_be_html if it can be",
        };
        return Ok(Err(format!("the answer is an HTML page, which is not the result{way_out}")));
    }
    let Some(may_be_lines) = expected.json else {
        let is_other = is_lines(&media_type) && text.first().is_some_and(|byte| !begins_value(*byte));
        return Ok(match is_other {
            true => Err(format!("the answer is no JSONL, although its media type is {media_type}")),
            false => Ok(BodyContent::Other),
        });
    };
    Ok(match values_at(pointers, body)? {
        Ok(values) => Ok(BodyContent::Json(values)),
        Err(NotJson::Trailing { .. }) if may_be_lines && has_lines(body)? => Ok(BodyContent::Lines),
        Err(error) if may_be_lines => Err(format!(
            "the job is no JSON: {error}; if it is something else, the source must say its media type"
        )),
        Err(error) => Err(format!("the job is no JSON: {error}")),
    })
}

fn essence(media_type: &str) -> String {
    media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Returns whether a body is an HTML page, by its media type or its beginning.
fn is_page(media_type: &str, text: &[u8]) -> bool {
    let begins =
        |tag: &str| text.get(..tag.len()).is_some_and(|start| start.eq_ignore_ascii_case(tag.as_bytes()));
    matches!(media_type, "text/html" | "application/xhtml+xml") || begins("<!doctype html") || begins("<html")
}

fn is_lines(media_type: &str) -> bool {
    let (_, kind) = media_type.split_once('/').unwrap_or_default();
    matches!(kind.strip_prefix("x-").unwrap_or(kind), "jsonl" | "jsonlines" | "json-lines" | "ndjson")
}

fn begins_value(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'{' | b'[' | b'"' | b'-')
}

/// The longest status word in a result, as it is written. A longer one counts as absent.
const MAX_WORD: usize = 8 << 10;

/// Reads a body to its end in bounded memory, and picks out the values at some pointers.
pub(super) fn values_at(pointers: &[String], body: &StoredBody) -> io::Result<Result<Values, NotJson>> {
    let limited = pointers.iter().map(|pointer| (pointer.as_str(), MAX_WORD));
    let mut scan = Scan::new(&Arc::new(Pointers::new(limited)));
    let (mut file, mut buffer) = (body.read()?, vec![0; 64 << 10]);
    let read = loop {
        let read = match file.read(&mut buffer) {
            Ok(0) => break scan.finish(),
            Ok(read) => scan.push(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) => return Err(error),
        };
        if read.is_err() {
            break read;
        }
    };
    Ok(read.map(|()| scan.into_values()))
}

/// Returns whether every line is empty or one JSON value.
fn has_lines(body: &StoredBody) -> io::Result<bool> {
    let pointers = Arc::new(Pointers::new([]));
    let (mut file, mut buffer) = (body.read()?, vec![0; 64 << 10]);
    let mut scan = Scan::new(&pointers);
    let ends = |scan: &mut Scan| matches!(scan.finish(), Ok(()) | Err(NotJson::Empty));
    loop {
        let read = match file.read(&mut buffer) {
            Ok(0) => return Ok(ends(&mut scan)),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        for (index, part) in buffer[..read].split(|byte| *byte == b'\n').enumerate() {
            if index > 0 {
                if !ends(&mut scan) {
                    return Ok(false);
                }
                scan = Scan::new(&pointers);
            }
            if scan.push(part).is_err() {
                return Ok(false);
            }
        }
    }
}

#[cfg(test)]
mod tests;
