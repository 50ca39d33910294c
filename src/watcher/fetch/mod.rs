//! Fetches the full result of one finished job: keeps it in memory while it is small, streams it into
//! the spool otherwise, checks it, and makes its event.

mod body;
mod join;
mod part;
mod several;

use std::io;

use self::{
    body::{CheckedBody, ReceivedBody, check},
    part::cut_to_part,
};
use super::{SourceState, TaskResult, in_flight::InFlight, job_of};
use crate::{
    model::{
        job::{EventType, Outcome},
        status_answer::StatusClass,
    },
    store::{Completion, Incoming, NewBody, Said, StoredJob, Watch, WatchStage},
    telemetry::{SpanKind, TraceSpan, text},
    upstream::{Failure, KnownEnd, StatusBody, Template},
    util::{clock, units::Time},
};

/// Results in a row that say that the job has not finished, before the daemon polls its status
/// again.
const DISAGREEING: u32 = 4;

/// Why a fetch brought no result.
enum FetchError {
    /// The request failed.
    Request(Failure),
    /// The result could not be written to the disk.
    Disk(io::Error),
    /// The job has not finished after all.
    Running,
}

impl From<Failure> for FetchError {
    fn from(failure: Failure) -> Self {
        Self::Request(failure)
    }
}

impl From<io::Error> for FetchError {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

/// A result that is whole.
pub(super) struct Fetched {
    pub(super) body: NewBody,
    /// The end of the job, corrected by what the result says of it.
    pub(super) end: Completion,
    pub(super) said: Option<Said>,
}

/// Fetches one job and makes its event.
pub(super) async fn fetch(state: &SourceState, request: &InFlight) -> TaskResult {
    let number = request.number;
    let watch = match state.store.watch(number).await {
        Ok(Some(watch)) if watch.stage == WatchStage::Fetching => watch,
        Ok(_) => return TaskResult::Advanced,
        Err(_) => return TaskResult::Repeat,
    };
    let Some(end) = watch.pending_completion.clone() else { return TaskResult::Advanced };
    let start = clock::now();
    let result = obtain(state, request, &watch, &end).await;
    request.arrived();
    report(state, &watch, start, &result);
    match result {
        Ok(fetched) => {
            state.record_answer(request);
            make_event(state, &watch, &fetched).await;
            TaskResult::Advanced
        }
        Err(FetchError::Running) => record_running(state, request).await,
        Err(FetchError::Request(Failure::JobFailed(_))) => {
            state.record_answer(request);
            state.store.record_refusal(number, clock::now()).await;
            TaskResult::Repeat
        }
        Err(FetchError::Request(failure)) => state.record_failure(request, &watch.job_id, &failure).await,
        Err(FetchError::Disk(error)) => {
            let source = &state.source.name;
            tracing::error!(source, job_id = %watch.job_id, %error, "job not stored; fetching it again");
            state.record_own_failure(request, format!("the job cannot be stored: {error}"));
            TaskResult::Repeat
        }
    }
}

/// Records a result that says that the job has not finished. Replicas of a source may disagree for
/// a moment; if they keep disagreeing, the daemon polls the status again.
async fn record_running(state: &SourceState, request: &InFlight) -> TaskResult {
    let failures =
        state.record_own_failure(request, "the result says that the job has not finished".to_owned());
    if failures < DISAGREEING {
        return TaskResult::Repeat;
    }
    state.record_answer(request);
    state.store.resume_watching(request.number, clock::now()).await;
    TaskResult::Advanced
}

/// Records the span and the counter of a fetch.
fn report(state: &SourceState, watch: &Watch, start: Time, result: &Result<Fetched, FetchError>) {
    let label = match result {
        Ok(_) => "stored",
        Err(FetchError::Request(failure)) => failure.label(),
        Err(FetchError::Disk(_)) => "disk_error",
        Err(FetchError::Running) => "running",
    };
    let (trace, end) = (watch.trace(), clock::now());
    state.metrics.spans.record(&trace, SpanKind::Client, || TraceSpan {
        name: "fetch",
        id: Some(trace.child().span_id),
        start,
        end,
        attributes: vec![("tidings.source", text(&watch.source)), ("tidings.result", text(label))],
        error: result.is_err().then(|| label.to_owned()),
    });
    state.metrics.fetches.with_label_values(&[state.source.name.as_str(), label]).inc();
}

async fn obtain(
    state: &SourceState,
    request: &InFlight,
    watch: &Watch,
    end: &Completion,
) -> Result<Fetched, FetchError> {
    let (bodies, source, job) = (state.store.bodies(), &state.source, job_of(watch));
    let kind = source.kind_of(job)?;
    // A process that was killed between storing a large body and recording it left the whole body. A body
    // that is no JSON is fetched again, since the record of its media type is lost.
    if !kind.profile.results.is_empty() {
        return several::obtain(state, request, watch, end, kind).await;
    }
    if !kind.profile.result_status_at.is_empty()
        && let Some(job) = bodies.finished(watch.number, &end.event_id).await?
    {
        return Ok(Fetched { body: NewBody::stored(job), end: end.clone(), said: None });
    }
    let (address, said) = locate(state, watch, end).await?;
    let mut stream = source.job(job, address.as_deref(), known(end)).await?;
    if stream.listed.is_some_and(|listed| listed.class == StatusClass::Pending) {
        return Err(FetchError::Running);
    }
    let mut received = ReceivedBody {
        incoming: bodies.begin(watch.number, &end.event_id),
        media_type: stream.content_type.clone(),
        is_status: stream.is_status,
        listed: stream.listed,
        is_refusal: end.refused,
        may_be_empty: stream.listed.is_some() || !is_early(state, end),
    };
    received.incoming.announce(stream.length().unwrap_or_default());
    let checked = async {
        while let Some(chunk) = stream.chunk().await? {
            request.received(chunk.len());
            received.incoming.write(&chunk).await?;
        }
        request.arrived();
        let body = received.incoming.written().await?;
        check(&kind.profile, &received, body).await
    };
    match checked.await {
        Ok(checked) => keep(state, watch, end, received.incoming, checked, said).await,
        Err(error) => {
            received.incoming.discard().await;
            Err(error)
        }
    }
}

/// Returns the result that came with the poll which saw the end of the job; `None` when it is to be
/// fetched. A body that is no result yet is fetched too, by the rules of a fetch.
pub(super) async fn polled(
    state: &SourceState,
    watch: &Watch,
    end: &Completion,
    body: &StatusBody,
) -> Option<Fetched> {
    let source = &state.source;
    let kind = source.kind_of(job_of(watch)).ok()?;
    let is_large = body.head.len() as u64 > source.config.max_job_size.0;
    let profile = &kind.profile;
    let is_elsewhere = profile.result_path.is_some()
        || !profile.results.is_empty()
        || end.result.as_ref().is_some_and(|at| !at.is_empty());
    if is_elsewhere || kind.uses_fallback() || !body.is_whole || is_large {
        return None;
    }
    let mut received = ReceivedBody {
        incoming: state.store.bodies().begin(watch.number, &end.event_id),
        media_type: body.media_type.clone(),
        is_status: true,
        listed: body.listed,
        is_refusal: false,
        may_be_empty: body.listed.is_some(),
    };
    received.incoming.write(&body.head).await.ok()?;
    let written = received.incoming.written().await.ok()?;
    let checked = check(&kind.profile, &received, written).await.ok()?;
    keep(state, watch, end, received.incoming, checked, None).await.ok()
}

/// Cuts a checked body to the part that is delivered, and stores it as the body of its event.
async fn keep(
    state: &SourceState,
    watch: &Watch,
    end: &Completion,
    mut incoming: Incoming,
    checked: CheckedBody,
    said: Option<Said>,
) -> Result<Fetched, FetchError> {
    let CheckedBody { media_type, part, said: own } = checked;
    let said = own.or(said);
    let end = said.as_ref().map_or_else(|| end.clone(), |said| end.clone().said_by(watch, said));
    if let Some(known) = watch.completion.as_deref().filter(|known| known.event_id == end.event_id)
        && let Some(job) = known.job.clone()
    {
        // An earlier event reported this end, with the body that is stored.
        incoming.discard().await;
        return Ok(Fetched { body: NewBody::stored(job), end, said });
    }
    if let Some(pointer) = part {
        incoming = cut_to_part(state.store.bodies(), watch, &end.event_id, incoming, pointer).await?;
    }
    let mut body = incoming.finish_as(&end.event_id).await?;
    body.job = StoredJob { content_type: media_type.or(body.job.content_type), ..body.job };
    Ok(Fetched { body, end, said })
}

fn known(end: &Completion) -> KnownEnd {
    match (end.outcome, end.refused) {
        (_, true) => KnownEnd::Refused,
        (Outcome::Completed, false) => KnownEnd::Completed,
        (_, false) => KnownEnd::Failed,
    }
}

/// Returns the address of the result, and what a new status answer says of the end.
///
/// A status that names the address is requested again while it names none that can be requested, and
/// after a failed fetch: links expire.
async fn locate(
    state: &SourceState,
    watch: &Watch,
    end: &Completion,
) -> Result<(Option<String>, Option<Said>), FetchError> {
    let (source, job) = (&state.source, job_of(watch));
    let takes_body = source.kind_of(job)?.profile.result_path.as_ref().is_some_and(Template::takes_body);
    let is_unfit = end.result.is_none() && takes_body;
    let is_named = (end.result.is_some() || is_unfit) && !end.refused;
    let is_absent = |address: &Option<String>, outcome| {
        // A failed job has no result to wait for.
        address.as_deref() == Some("") && outcome != Outcome::Failed && is_early(state, end)
    };
    let is_asked = is_unfit || is_absent(&end.result, end.outcome) || state.has_failed(watch.number);
    if !is_named || !is_asked {
        return Ok((end.result.clone(), None));
    }
    let (answer, body) = source.status(job).await?;
    let StatusClass::Finished(outcome) = answer.class else { return Err(FetchError::Running) };
    if is_absent(&answer.result, outcome) {
        let reason = "the status does not say yet where the result is".to_owned();
        return Err(Failure::Transient(reason).into());
    }
    if takes_body && answer.result.is_none() {
        source.result_address(job, &body.values)?;
    }
    state.take_token().await;
    Ok((answer.result, Some(Said { status: answer.status, outcome, error: answer.error })))
}

/// Returns whether the source may still be publishing the result.
fn is_early(state: &SourceState, end: &Completion) -> bool {
    clock::now() < end.noticed_at.after(state.source.config.result_grace.0)
}

async fn make_event(state: &SourceState, watch: &Watch, fetched: &Fetched) {
    let Fetched { body, end, said } = fetched;
    let is_made = state.store.complete(watch.number, body, said.as_ref(), state.route(), clock::now()).await;
    if !is_made {
        // The watch was deleted meanwhile, and with it every reader of the body. A small one goes with its segment.
        let _ = state.store.bodies().remove(watch.number, &end.event_id);
        return;
    }
    report_end(state, watch, fetched);
}

/// Tells the counters, the trace and the log of an end whose event was made.
pub(super) fn report_end(state: &SourceState, watch: &Watch, fetched: &Fetched) {
    let Fetched { body, end, .. } = fetched;
    let outcome = end.outcome.as_str();
    state.count_event(EventType::Ended(end.outcome));
    state.record_job_span(watch, end.outcome, watch.polls);
    tracing::info!(
        source = watch.source, job_id = %watch.job_id, outcome, event_id = end.event_id, bytes = body.job.size,
        polls = watch.polls, "job finished"
    );
}
