//! A job whose end was seen → the full job, streamed into the spool → its event.

mod body;

use std::io;

use self::body::{Judged, Received, cut, judge};

use crate::{
    model::{
        job::{EventType, Outcome},
        status_answer::StatusClass,
    },
    store::{Completion, Said, StoredJob, Watch, WatchStage},
    telemetry::{SpanKind, TraceSpan, text},
    upstream::{Failure, JobRef, KnownEnd},
    util::clock,
    watcher::{Flight, SourceState, Step},
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
pub async fn fetch(state: &SourceState, flight: &Flight) -> Step {
    let number = flight.number;
    let watch = match state.store.watch(number) {
        Ok(Some(watch)) if watch.stage == WatchStage::Fetching => watch,
        Ok(_) => return Step::Moved,
        Err(_) => return Step::Again,
    };
    let Some(end) = watch.pending_completion.clone() else { return Step::Moved };
    let begun = clock::now();
    let result = obtain(state, flight, &watch, &end).await;
    flight.arrived();
    let label = match &result {
        Ok(_) => "stored",
        Err(Unfetched::Source(failure)) => failure.label(),
        Err(Unfetched::Disk(_)) => "disk_error",
        Err(Unfetched::Running) => "running",
    };
    let ended = clock::now();
    let trace = watch.trace();
    state.metrics.spans.record(&trace, SpanKind::Client, || TraceSpan {
        name: "fetch",
        id: Some(trace.child().span_id),
        start: begun,
        end: ended,
        attributes: vec![("tidings.source", text(&watch.source)), ("tidings.result", text(label))],
        error: result.is_err().then(|| label.to_owned()),
    });
    state.metrics.fetches.with_label_values(&[state.source.name.as_str(), label]).inc();
    match result {
        Ok(fetched) => {
            state.answered(flight);
            make_event(state, &watch, &fetched).await;
            Step::Moved
        }
        // Two replicas of the source may disagree for a moment. If they go on, the status decides anew.
        Err(Unfetched::Running) => {
            let failures = state.own_failure(flight, "the job says that it has not ended".to_owned());
            if failures < DISAGREEING {
                return Step::Again;
            }
            state.answered(flight);
            state.store.resume_watching(number, clock::now()).await;
            Step::Moved
        }
        Err(Unfetched::Source(Failure::JobFailed(_))) => {
            state.answered(flight);
            state.store.refuse_result(number, clock::now()).await;
            Step::Again
        }
        Err(Unfetched::Source(failure)) => state.failed(flight, &watch.job_id, &failure).await,
        Err(Unfetched::Disk(error)) => {
            let source = &state.source.name;
            tracing::error!(source, job_id = %watch.job_id, %error, "the job cannot be stored; it is fetched again");
            state.own_failure(flight, format!("the job cannot be stored: {error}"));
            Step::Again
        }
    }
}

/// A job that is stored.
struct Fetched {
    job: StoredJob,
    /// Its end, as it said itself.
    end: Completion,
    said: Option<Said>,
}

async fn obtain(
    state: &SourceState,
    flight: &Flight,
    watch: &Watch,
    end: &Completion,
) -> Result<Fetched, Unfetched> {
    let (spool, source) = (state.store.spool(), &state.source);
    // A process that was killed between storing the body and recording it left it whole. What is not JSON is asked for
    // again, since its type is recorded nowhere yet.
    if !source.profile.result_status_at.is_empty()
        && let Some(job) = spool.finished(watch.number, &end.event_id).await?
    {
        return Ok(Fetched { job, end: end.clone(), said: None });
    }
    let job = JobRef { id: &watch.job_id, vars: &watch.vars };
    let (place, said) = place(state, watch, end).await?;
    let mut stream = source.job(job, place.as_deref(), known(end)).await?;
    let mut received = Received {
        incoming: spool.begin(watch.number, &end.event_id).await?,
        media_type: stream.content_type.clone(),
        is_status: stream.is_status,
        is_refusal: end.refused,
        may_be_empty: !is_early(state, end),
    };
    let judged = async {
        while let Some(chunk) = stream.chunk().await? {
            flight.received(chunk.len());
            received.incoming.write(&chunk).await?;
        }
        flight.arrived();
        received.incoming.flush().await?;
        judge(&source.profile, &received).await
    };
    let judged = judged.await;
    let mut incoming = received.incoming;
    let Judged { media_type, part, said: own } = match judged {
        Ok(judged) => judged,
        Err(error) => {
            incoming.discard().await;
            return Err(error);
        }
    };
    let said = own.or(said);
    let end = said.as_ref().map_or_else(|| end.clone(), |said| end.clone().said_by(watch, said));
    if let Some(known) = watch.completion.as_deref().filter(|known| known.event_id == end.event_id)
        && let Some(job) = known.job.clone()
    {
        // This end was told already, with the body that is stored.
        incoming.discard().await;
        return Ok(Fetched { job, end, said });
    }
    if let Some(pointer) = part {
        incoming = cut(spool, watch, &end.event_id, incoming, pointer).await?;
    }
    let stored = incoming.finish_as(spool.path(watch.number, &end.event_id)).await?;
    let job = StoredJob { content_type: media_type.or(stored.content_type), ..stored };
    Ok(Fetched { job, end, said })
}

fn known(end: &Completion) -> KnownEnd {
    match (end.outcome, end.refused) {
        (_, true) => KnownEnd::Refused,
        (Outcome::Completed, false) => KnownEnd::Completed,
        (_, false) => KnownEnd::Failed,
    }
}

/// Where the result is. A status that names its place is asked again while it names none, and after a fetch that failed:
/// links expire.
async fn place(
    state: &SourceState,
    watch: &Watch,
    end: &Completion,
) -> Result<(Option<String>, Option<Said>), Unfetched> {
    let is_named = end.result.is_some() && !end.refused;
    let is_absent = |place: &Option<String>, outcome| {
        // A job that failed has no result to wait for.
        place.as_deref() == Some("") && outcome != Outcome::Failed && is_early(state, end)
    };
    if !is_named || !(is_absent(&end.result, end.outcome) || state.has_failed(watch.number)) {
        return Ok((end.result.clone(), None));
    }
    let job = JobRef { id: &watch.job_id, vars: &watch.vars };
    let (answer, _) = state.source.status(job).await?;
    let StatusClass::Finished(outcome) = answer.class else { return Err(Unfetched::Running) };
    if is_absent(&answer.result, outcome) {
        return Err(Failure::Transient("the status does not say yet where the result is".to_owned()).into());
    }
    state.token().await;
    Ok((answer.result, Some(Said { status: answer.status, outcome, error: answer.error })))
}

/// Whether the result of a job may still be on its way.
fn is_early(state: &SourceState, end: &Completion) -> bool {
    clock::now() < end.noticed_at.after(state.source.config.result_grace.0)
}

async fn make_event(state: &SourceState, watch: &Watch, fetched: &Fetched) {
    let Fetched { job, end, said } = fetched;
    let made = state.store.fan_out(watch.number, job, said.as_ref(), state.route(), clock::now()).await;
    if !made {
        // The watch was deleted meanwhile, and with it everything that would have read the body.
        let _ = state.store.spool().remove(watch.number, &end.event_id);
        return;
    }
    let outcome = end.outcome.as_str();
    state.count(EventType::Ended(end.outcome));
    state.record(watch, end.outcome, watch.polls);
    tracing::info!(
        source = watch.source, job_id = %watch.job_id, outcome, event_id = end.event_id, bytes = job.size,
        polls = watch.polls, "the job ended"
    );
}
