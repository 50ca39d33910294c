//! A job whose end was seen → the full job, streamed into the spool → its event.

use std::{fs, io, path::Path};

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::{
    clock,
    follow::{Follower, Step},
    job::EventType,
    store::{End, Incoming, Stage, StoredJob, Watch},
    upstream::{Class, Failure, Profile},
};

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
pub async fn fetch(follower: &Follower, number: u64) -> Step {
    let watch = match follower.store.watch(number) {
        Ok(Some(watch)) if watch.stage == Stage::Fetching => watch,
        Ok(_) => return Step::Moved,
        Err(_) => return Step::Again,
    };
    let Some(end) = watch.ending.clone() else { return Step::Moved };
    let epoch = follower.schedule().health.epoch();
    let result = obtain(follower, &watch, &end).await;
    let label = match &result {
        Ok(_) => "stored",
        Err(Unfetched::Source(failure)) => failure.label(),
        Err(Unfetched::Disk(_)) => "disk_error",
        Err(Unfetched::Running) => "running",
    };
    follower.metrics.fetches.with_label_values(&[follower.source.name.as_str(), label]).inc();
    match result {
        Ok(job) => {
            follower.answered(number);
            make_event(follower, &watch, &end, &job).await;
            Step::Moved
        }
        Err(Unfetched::Running) => {
            follower.answered(number);
            follower.store.resume_watching(number, clock::now()).await;
            Step::Moved
        }
        Err(Unfetched::Source(failure)) => follower.failed(number, &watch.job_id, &failure, epoch).await,
        Err(Unfetched::Disk(error)) => {
            let source = &follower.source.name;
            tracing::error!(source, job_id = %watch.job_id, %error, "the job cannot be stored; it is fetched again");
            if let Some(entry) = follower.schedule().entry_mut(number) {
                entry.last_error = Some(format!("the job cannot be stored: {error}"));
            }
            Step::Again
        }
    }
}

async fn obtain(follower: &Follower, watch: &Watch, end: &End) -> Result<StoredJob, Unfetched> {
    let spool = follower.store.spool();
    // A process that was killed between storing the body and recording it left it whole.
    if let Some(job) = spool.finished(watch.number, &end.event_id).await? {
        return Ok(job);
    }
    let mut stream = follower.source.job(&watch.job_id).await?;
    let mut incoming = spool.begin(watch.number, &end.event_id).await?;
    let received = async {
        while let Some(chunk) = stream.chunk().await? {
            incoming.write(&chunk).await?;
        }
        incoming.flush().await?;
        check(follower.source.profile, &incoming).await
    };
    match received.await {
        Ok(()) => Ok(incoming.finish().await?),
        Err(error) => {
            incoming.discard().await;
            Err(error)
        }
    }
}

/// Whether what came is a whole job that has ended.
async fn check(profile: &'static Profile, incoming: &Incoming) -> Result<(), Unfetched> {
    let path = incoming.path().to_owned();
    let status = tokio::task::spawn_blocking(move || status_of(profile, &path));
    match status.await.map_err(io::Error::other)?? {
        Err(reason) => Err(Failure::Trouble(reason).into()),
        Ok(status) if matches!(profile.classify(&status), Class::Ended(_)) => Ok(()),
        Ok(_) => Err(Unfetched::Running),
    }
}

/// Reads a job through to its end in bounded memory, however large it is, and picks out its status.
fn status_of(profile: &Profile, path: &Path) -> io::Result<Result<String, String>> {
    let reader = io::BufReader::with_capacity(64 << 10, fs::File::open(path)?);
    let mut json = serde_json::Deserializer::from_reader(reader);
    let field = profile.status_at.trim_start_matches('/');
    let found = Field(field).deserialize(&mut json).and_then(|status| json.end().map(|()| status));
    Ok(match found {
        Ok(Some(status)) => Ok(status),
        Ok(None) => Err(format!("the job has no status at `{}`", profile.status_at)),
        Err(error) => Err(format!("the job is no JSON: {error}")),
    })
}

/// Picks one text out of a JSON object and passes everything else over unread.
struct Field<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for Field<'_> {
    type Value = Option<String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Field<'_> {
    type Value = Option<String>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a job object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<String>()? {
            if key == self.0 {
                found = map.next_value::<Option<String>>()?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
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
    tracing::info!(
        source = watch.source, job_id = %watch.job_id, outcome, event_id = end.event_id, bytes = job.size,
        polls = watch.polls, "the job ended"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::SourceType;

    fn status(body: &str) -> Result<String, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), body).unwrap();
        status_of(SourceType::Retab.profile(), file.path()).unwrap()
    }

    #[test]
    fn a_whole_job_is_told_from_a_piece_of_one() {
        let odd = "\n{ \"response\" : {\"n\":1e-400,\"m\":1234567890123456789012345,\"s\":\"\\ud83d\\ud83d\"},\"status\"\t:\"completed\"} \n";
        assert_eq!(status(odd), Ok("completed".to_owned()));
        assert!(status(&odd[..odd.len() - 4]).unwrap_err().contains("no JSON"));
        assert!(status("{\"status\":\"completed\"} {").unwrap_err().contains("no JSON"));
        assert!(status("[]").is_err());
        assert!(status("{\"id\":1}").unwrap_err().contains("no status"));
    }

    #[test]
    fn depth_costs_no_stack() {
        let deep = format!("{{\"status\":\"failed\",\"x\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(status(&deep), Ok("failed".to_owned()));
    }
}
