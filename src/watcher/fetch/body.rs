//! What came as the result of a job, once all of it is in the spool: what it is, and which part of it is delivered.

use std::{
    fs,
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::Arc,
};

use tempfile::TempPath;
use tokio::io::AsyncReadExt as _;

use super::Unfetched;
use crate::{
    model::status_answer::StatusClass,
    store::{Incoming, Said, Spool, Watch},
    upstream::{Failure, Profile},
    util::json_slice::{NotJson, Pointers, Scan, Values, copy_value},
};

/// The media type of several JSON values, one a line, that came as one.
const JSONL: &str = "application/jsonl";

/// More characters of a status word and of a job's error are not kept.
const MAX_STATUS: usize = 256;
const MAX_ERROR: usize = 512;

/// As much of a body is looked at to see what it is.
const HEAD: u64 = 1 << 10;

/// What the request for a result brought.
pub(super) struct Received {
    /// Its bytes.
    pub(super) incoming: Incoming,
    /// Its media type, when that is not JSON.
    pub(super) media_type: Option<String>,
    /// It is a status body.
    pub(super) is_status: bool,
    /// It is the error that the job ended with, whatever it looks like.
    pub(super) is_refusal: bool,
    /// An empty file may be the result.
    pub(super) may_be_empty: bool,
}

/// The result of a job.
pub(super) struct Judged {
    /// Its media type, when that is not JSON.
    pub(super) media_type: Option<String>,
    /// The part of it that is delivered, when that is not all.
    pub(super) part: Option<String>,
    /// What it says of the job's end.
    pub(super) said: Option<Said>,
}

/// Judges whether what came is the result of a job that ended.
pub(super) async fn judge(profile: &Profile, received: &Received) -> Result<Judged, Unfetched> {
    let Received { incoming, media_type, is_status, is_refusal, .. } = received;
    let status_at = match (is_status, is_refusal) {
        (true, _) => profile.status_at.clone(),
        (false, true) => Vec::new(),
        (false, false) => profile.result_status_at.clone(),
    };
    let has_status = !status_at.is_empty();
    if incoming.size() == 0 {
        if has_status || !received.may_be_empty {
            return Err(Failure::Transient("the answer is empty, which is not the result".to_owned()).into());
        }
        // Nothing is no JSON, but it is JSONL of no lines.
        let media_type = Some(media_type.clone().unwrap_or_else(|| JSONL.to_owned()));
        return Ok(Judged { media_type, part: None, said: None });
    }
    let (path, words_at) = (
        incoming.path().to_owned(),
        [&status_at[..], &profile.pending_while, &profile.failed_at, &profile.error_at].concat(),
    );
    let expected = Expected {
        no_page: !is_refusal && (has_status || !profile.result_may_be_html),
        json: if has_status { Some(false) } else { media_type.is_none().then_some(true) },
        media_type: media_type.clone(),
    };
    let found = tokio::task::spawn_blocking(move || read(&path, &words_at, &expected));
    let found = found.await.map_err(io::Error::other)??.map_err(Failure::Transient)?;
    let (said, media_type) = match found {
        Content::Json(values) if has_status => (Some(end_in(profile, &status_at, &values)?), None),
        Content::Json(_) => (None, None),
        Content::Lines => (None, Some(JSONL.to_owned())),
        Content::Other => (None, media_type.clone()),
    };
    // Where the status is all there is, the place of the result means the status body.
    let is_whole = media_type.is_some()
        || profile.result_at.is_empty()
        || *is_refusal
        || (*is_status && profile.result_path.is_some());
    Ok(Judged { media_type, part: (!is_whole).then(|| profile.result_at.clone()), said })
}

/// What a job says of its own end.
fn end_in(profile: &Profile, status_at: &[String], values: &Values) -> Result<Said, Unfetched> {
    let (status, class) = profile.status_in(status_at, values);
    if status.is_empty() && class != StatusClass::Pending {
        return Err(Failure::Transient("the job has no status".to_owned()).into());
    }
    let StatusClass::Finished(outcome) = class else { return Err(Unfetched::Running) };
    let error = values.first(&profile.error_at).map(|raw| raw.shown().chars().take(MAX_ERROR).collect());
    Ok(Said { status: status.chars().take(MAX_STATUS).collect(), outcome, error })
}

/// What a body may be.
struct Expected {
    /// An HTML page is an error page.
    no_page: bool,
    /// It has to be JSON; `true` when it may also be several values, one a line.
    json: Option<bool>,
    media_type: Option<String>,
}

/// What a body is.
enum Content {
    /// JSON, with the values at the pointers.
    Json(Values),
    /// Several JSON values, one a line.
    Lines,
    /// What its media type says.
    Other,
}

/// Reads a body through: the outer error is that of the disk, the inner one says why it is not the result.
fn read(path: &Path, pointers: &[String], expected: &Expected) -> io::Result<Result<Content, String>> {
    let mut head = Vec::new();
    fs::File::open(path)?.take(HEAD).read_to_end(&mut head)?;
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&head).trim_ascii_start();
    let media_type = expected.media_type.as_deref().map(essence).unwrap_or_default();
    if expected.no_page && is_page(&media_type, text) {
        return Ok(Err("the answer is an HTML page, which is not the result".to_owned()));
    }
    let Some(may_be_lines) = expected.json else {
        let is_other = is_lines(&media_type) && text.first().is_some_and(|byte| !begins_value(*byte));
        return Ok(match is_other {
            true => Err(format!("the answer is no JSONL, although its media type is {media_type}")),
            false => Ok(Content::Other),
        });
    };
    Ok(match values_at(pointers, path)? {
        Ok(values) => Ok(Content::Json(values)),
        Err(NotJson::Trailing { .. }) if may_be_lines && has_lines(path)? => Ok(Content::Lines),
        Err(error) => Err(format!("the job is no JSON: {error}")),
    })
}

fn essence(media_type: &str) -> String {
    media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Whether a body is an HTML page, by its media type or its beginning.
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

/// The longest status word in a job, as it is written; a longer one is none.
const MAX_WORD: usize = 8 << 10;

/// Reads a job through to its end in bounded memory, however large it is, and picks out the values at some pointers.
fn values_at(pointers: &[String], path: &Path) -> io::Result<Result<Values, NotJson>> {
    let limited = pointers.iter().map(|pointer| (pointer.as_str(), MAX_WORD));
    let mut scan = Scan::new(&Arc::new(Pointers::new(limited)));
    let (mut file, mut buffer) = (fs::File::open(path)?, vec![0; 64 << 10]);
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

/// Whether every line is one JSON value, or empty.
fn has_lines(path: &Path) -> io::Result<bool> {
    let pointers = Arc::new(Pointers::new([]));
    let (mut file, mut buffer) = (fs::File::open(path)?, vec![0; 64 << 10]);
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

/// Leaves of a body the bytes at a pointer; all of it when nothing is there.
pub(super) async fn cut(
    spool: &Spool,
    watch: &Watch,
    event_id: &str,
    whole: Incoming,
    pointer: String,
) -> io::Result<Incoming> {
    let from = whole.path().to_owned();
    let mut name = from.clone().into_os_string();
    name.push(".part");
    let to = TempPath::try_from_path(name)?;
    let cut = tokio::task::spawn_blocking(move || {
        let mut part = io::BufWriter::new(private_file(&to)?);
        let found = copy_value(io::BufReader::new(fs::File::open(from)?), &pointer, &mut part)?;
        io::Write::flush(&mut part)?;
        Ok::<_, io::Error>((found, to))
    });
    let (found, part) = cut.await.map_err(io::Error::other)??;
    if !found {
        tracing::warn!(
            source = watch.source, job_id = %watch.job_id, "nothing is at result_at in the result; all of it is delivered"
        );
        return Ok(whole);
    }
    // The part takes the room of the whole.
    whole.discard().await;
    let mut incoming = spool.begin(watch.number, event_id).await?;
    let mut file = tokio::fs::File::open(&part).await?;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = file.read(&mut buffer).await?;
        if read == 0 {
            break;
        }
        incoming.write(&buffer[..read]).await?;
    }
    Ok(incoming)
}

fn private_file(path: &Path) -> io::Result<fs::File> {
    fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(body: &str) -> Result<Option<String>, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), body).unwrap();
        let pointers = ["/job/status", "/status"].map(str::to_owned);
        let values =
            values_at(&pointers, file.path()).unwrap().map_err(|error| format!("no JSON: {error}"))?;
        Ok(values.first(&pointers).and_then(crate::util::json_slice::Raw::word))
    }

    #[test]
    fn a_whole_job_is_told_from_a_piece_of_one() {
        let odd = "\n{ \"response\" : {\"n\":1e-400,\"m\":1234567890123456789012345,\"s\":\"\\ud83d\\ud83d\"},\"status\"\t:\"completed\"} \n";
        assert_eq!(status(odd), Ok(Some("completed".to_owned())));
        assert!(status(&odd[..odd.len() - 4]).unwrap_err().contains("no JSON"));
        assert!(status("{\"status\":\"completed\"} {").unwrap_err().contains("no JSON"));
        assert_eq!(status("[]"), Ok(None));
        assert_eq!(status("{\"id\":1}"), Ok(None));
        assert_eq!(status(r#"{"status":"a","job":{"status":"b"}}"#), Ok(Some("b".to_owned())));
        assert!(status("<html></html>").unwrap_err().contains("no JSON"));
    }

    #[test]
    fn a_careless_job_is_a_job() {
        let number = "9".repeat(100_000);
        for odd in [
            "\u{feff}{\"status\":\"completed\"}",
            r#"{"x":[NaN,-Infinity,1e400],"status":"completed"}"#,
            r#"{"x":"\ud83d","status":"completed","status":"queued"}"#,
            &format!(r#"{{"x":{number},"status":"completed"}}"#),
        ] {
            assert_eq!(status(odd), Ok(Some("completed".to_owned())), "{}", &odd[..40]);
        }
    }

    #[test]
    fn depth_costs_no_stack() {
        let deep = format!("{{\"status\":\"failed\",\"x\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(status(&deep), Ok(Some("failed".to_owned())));
    }

    #[test]
    fn lines_are_told_from_a_value_that_is_cut() {
        let lines = |text: &str| {
            let file = tempfile::NamedTempFile::new().unwrap();
            fs::write(file.path(), text).unwrap();
            has_lines(file.path()).unwrap()
        };
        let long = format!("[{}]\n", "1,".repeat(100_000) + "2").repeat(3);
        for good in ["{}\n[]", "1\n\n2\n", "{\"a\":1}\r\n{\"a\":NaN}\r\n", &long] {
            assert!(lines(good), "{}", &good[..6]);
        }
        for bad in ["{}\n{", "{} {}\n", "{\n}\n", "{}\n<html>\n", &long[..long.len() - 2]] {
            assert!(!lines(bad), "{}", &bad[..3]);
        }
    }

    #[test]
    fn a_page_is_seen_by_its_type_or_its_beginning() {
        for (media_type, text) in [
            ("text/html", "{}"),
            ("application/xhtml+xml", ""),
            ("", "<!DocType HTML>"),
            ("text/plain", "<HTML lang=en>"),
        ] {
            assert!(is_page(media_type, text.as_bytes()), "{media_type} {text}");
        }
        for (media_type, text) in
            [("text/plain", "html"), ("application/xml", "<?xml?><html>"), ("", "<h"), ("", "")]
        {
            assert!(!is_page(media_type, text.as_bytes()), "{media_type} {text}");
        }
    }
}
