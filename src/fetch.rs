//! A job whose end was seen → the full job, streamed into the spool → its event.

use std::{
    fs,
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::Arc,
};

use tokio::io::AsyncReadExt as _;

use crate::{
    clock,
    follow::{Flight, Follower, Step},
    job::{EventType, Outcome},
    json_scan::{Pointers, Scan, Values, copy_value},
    store::{End, Incoming, Spool, Stage, StoredJob, Watch},
    telemetry::{Span, SpanKind, text},
    upstream::{Class, Failure, JobRef, KnownEnd, Profile},
};

/// Full jobs in a row that say that they have not ended, before the status is asked again.
const DISAGREEING: u32 = 4;

/// Why a job is not stored yet.
enum Unfetched {
    /// The source failed.
    Source(Failure),
    /// The disk failed; the source is not to blame.
    Disk(io::Error),
    /// It has not ended after all.
    Running,
}

impl From<Failure> for Unfetched {
    fn from(failure: Failure) -> Self {
        Self::Source(failure)
    }
}

impl From<io::Error> for Unfetched {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

/// Fetches one job and makes its event.
pub async fn fetch(follower: &Follower, flight: &Flight) -> Step {
    let number = flight.number;
    let watch = match follower.store.watch(number) {
        Ok(Some(watch)) if watch.stage == Stage::Fetching => watch,
        Ok(_) => return Step::Moved,
        Err(_) => return Step::Again,
    };
    let Some(end) = watch.ending.clone() else { return Step::Moved };
    let begun = clock::now();
    let result = obtain(follower, flight, &watch, &end).await;
    flight.arrived();
    let label = match &result {
        Ok(_) => "stored",
        Err(Unfetched::Source(failure)) => failure.label(),
        Err(Unfetched::Disk(_)) => "disk_error",
        Err(Unfetched::Running) => "running",
    };
    let ended = clock::now();
    let trace = watch.trace();
    follower.metrics.spans.record(&trace, SpanKind::Client, || Span {
        name: "fetch",
        id: Some(trace.child().span_id),
        start: begun,
        end: ended,
        attributes: vec![("tidings.source", text(&watch.source)), ("tidings.result", text(label))],
        error: result.is_err().then(|| label.to_owned()),
    });
    follower.metrics.sources.fetches.with_label_values(&[follower.source.name.as_str(), label]).inc();
    match result {
        Ok(job) => {
            follower.answered(flight);
            make_event(follower, &watch, &end, &job).await;
            Step::Moved
        }
        // Two replicas of the source may disagree for a moment. If they go on, the status decides anew.
        Err(Unfetched::Running) => {
            let failures = follower.own_failure(flight, "the job says that it has not ended".to_owned());
            if failures < DISAGREEING {
                return Step::Again;
            }
            follower.answered(flight);
            follower.store.resume_watching(number, clock::now()).await;
            Step::Moved
        }
        Err(Unfetched::Source(Failure::JobFailed(_))) => {
            follower.answered(flight);
            follower.store.refuse_result(number, clock::now()).await;
            Step::Again
        }
        Err(Unfetched::Source(failure)) => follower.failed(flight, &watch.job_id, &failure).await,
        Err(Unfetched::Disk(error)) => {
            let source = &follower.source.name;
            tracing::error!(source, job_id = %watch.job_id, %error, "the job cannot be stored; it is fetched again");
            follower.own_failure(flight, format!("the job cannot be stored: {error}"));
            Step::Again
        }
    }
}

async fn obtain(
    follower: &Follower,
    flight: &Flight,
    watch: &Watch,
    end: &End,
) -> Result<StoredJob, Unfetched> {
    let (spool, source) = (follower.store.spool(), &follower.source);
    // A process that was killed between storing the body and recording it left it whole. What is not JSON is asked for
    // again, since its type is recorded nowhere yet.
    if !source.profile.result_status_at.is_empty()
        && let Some(job) = spool.finished(watch.number, &end.event_id).await?
    {
        return Ok(job);
    }
    let job = JobRef { id: &watch.job_id, vars: &watch.vars };
    let mut stream = source.job(job, end.result.as_deref(), known(end)).await?;
    let mut incoming = spool.begin(watch.number, &end.event_id).await?;
    let received = async {
        while let Some(chunk) = stream.chunk().await? {
            flight.received(chunk.len());
            incoming.write(&chunk).await?;
        }
        incoming.flush().await?;
        if stream.content_type.is_some() && (stream.is_status || source.profile.result_status_at.is_empty()) {
            return Ok(None);
        }
        check(&source.profile, &incoming, stream.is_status, end.refused).await
    };
    match received.await {
        Ok(part) => {
            let incoming = match part {
                Some(pointer) => cut(spool, watch, end, incoming, pointer).await?,
                None => incoming,
            };
            let job = incoming.finish().await?;
            Ok(StoredJob { content_type: stream.content_type.or(job.content_type), ..job })
        }
        Err(error) => {
            incoming.discard().await;
            Err(error)
        }
    }
}

fn known(end: &End) -> KnownEnd {
    match (end.outcome, end.refused) {
        (_, true) => KnownEnd::Refused,
        (Outcome::Completed, false) => KnownEnd::Completed,
        (_, false) => KnownEnd::Failed,
    }
}

/// Whether what came is JSON, and where it repeats the status the result of a job that has ended. Tells which part of it is
/// to be delivered, if not all.
async fn check(
    profile: &Profile,
    incoming: &Incoming,
    is_status: bool,
    refused: bool,
) -> Result<Option<String>, Unfetched> {
    let path = incoming.path().to_owned();
    let status_at = match (is_status, refused) {
        (true, _) => profile.status_at.clone(),
        (false, true) => Vec::new(),
        (false, false) => profile.result_status_at.clone(),
    };
    let is_checked = !status_at.is_empty();
    let pointers = [&status_at[..], &profile.pending_while, &profile.failed_at].concat();
    let values = tokio::task::spawn_blocking(move || values_at(&pointers, &path));
    let values = values.await.map_err(io::Error::other)??.map_err(Failure::Trouble)?;
    if is_checked {
        let (status, class) = profile.status_in(&status_at, &values);
        if status.is_empty() && class != Class::Pending && (!is_status || profile.status_required) {
            return Err(Failure::Trouble("the job has no status".to_owned()).into());
        }
        if !matches!(class, Class::Ended(_)) {
            return Err(Unfetched::Running);
        }
    }
    // Where the status is all there is, the place of the result means the status body.
    let whole = profile.result_at.is_empty() || refused || (is_status && profile.result_path.is_some());
    Ok((!whole).then(|| profile.result_at.clone()))
}

/// The longest status word in a job, as it is written; a longer one is none.
const MAX_WORD: usize = 8 << 10;

/// Reads a job through to its end in bounded memory, however large it is, and picks out the values at some pointers: the outer
/// error is that of the disk, the inner one says that it is no JSON.
fn values_at(pointers: &[String], path: &Path) -> io::Result<Result<Values, String>> {
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
    Ok(match read {
        Ok(()) => Ok(scan.into_values()),
        Err(error) => Err(format!("the job is no JSON: {error}")),
    })
}

/// Leaves of a body the bytes at a pointer; all of it when nothing is there.
async fn cut(
    spool: &Spool,
    watch: &Watch,
    end: &End,
    whole: Incoming,
    pointer: String,
) -> io::Result<Incoming> {
    let (from, to) = (whole.path().to_owned(), whole.path().with_extension("part"));
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
        tokio::fs::remove_file(part).await?;
        return Ok(whole);
    }
    // The same name on disk, so the whole body makes room for its part.
    let mut incoming = spool.begin(watch.number, &end.event_id).await?;
    let mut file = tokio::fs::File::open(&part).await?;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = file.read(&mut buffer).await?;
        if read == 0 {
            break;
        }
        incoming.write(&buffer[..read]).await?;
    }
    tokio::fs::remove_file(part).await?;
    Ok(incoming)
}

fn private_file(path: &Path) -> io::Result<fs::File> {
    fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(path)
}

async fn make_event(follower: &Follower, watch: &Watch, end: &End, job: &StoredJob) {
    let made = follower.store.fan_out(watch.number, job, follower.route(), clock::now()).await;
    if !made {
        // The watch was deleted meanwhile, and with it everything that would have read the body.
        let _ = follower.store.spool().remove(watch.number, &end.event_id);
        return;
    }
    let outcome = end.outcome.as_str();
    follower.count(EventType::Ended(end.outcome));
    follower.record(watch, end.outcome, watch.polls);
    tracing::info!(
        source = watch.source, job_id = %watch.job_id, outcome, event_id = end.event_id, bytes = job.size,
        polls = watch.polls, "the job ended"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(body: &str) -> Result<Option<String>, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), body).unwrap();
        let pointers = ["/job/status", "/status"].map(str::to_owned);
        let values = values_at(&pointers, file.path()).unwrap()?;
        Ok(values.first(&pointers).and_then(crate::json_scan::Raw::word))
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
}
