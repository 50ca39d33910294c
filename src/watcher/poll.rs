//! Polls one job: sends one light status request, and records what the answer says.

use tokio::time::Instant;

use super::{
    SourceState, TaskResult,
    fetch::{self, Fetched, report_end},
    in_flight::InFlight,
    job_of,
};
use crate::{
    model::{
        job::Outcome,
        status_answer::{StatusAnswer, StatusClass},
    },
    store::{Finished, Watch},
    upstream::{Failure, JobRef, StatusBody},
    util::clock::{self, Moment},
};

/// The largest status body that the record keeps for the event of a lost job.
const MAX_KEPT_BODY: usize = 16 << 10;

/// 404 answers in a row after which the status route itself may be missing, and not the job.
const SUSPICIOUS: u32 = 3;

/// A job as the poll knows it.
struct PolledJob {
    number: u64,
    /// Its watch, as it was before the request.
    watch: Watch,
    /// Status requests made, this one included.
    polls: u64,
}

/// Polls one job.
pub(super) async fn poll(state: &SourceState, request: &InFlight) -> TaskResult {
    let number = request.number;
    let known = {
        let mut schedule = state.schedule();
        schedule.entry_mut(number).map(|entry| {
            entry.polls = entry.polls.saturating_add(1);
            (u64::from(entry.polls), entry.failures.as_ref().map_or(0, |failures| failures.missing()))
        })
    };
    let Some((polls, missing)) = known else { return TaskResult::Advanced };
    let watch = match state.store.watch(number).await {
        Ok(Some(watch)) => watch,
        // The watch was deleted meanwhile, or its record cannot be read.
        Ok(None) => {
            state.remove(number);
            return TaskResult::Advanced;
        }
        // A store that cannot be read could not record the answer either.
        Err(_) => return TaskResult::Repeat,
    };
    let sent = Instant::now();
    let answered = request_status(state, job_of(&watch), missing).await;
    request.arrived();
    count_poll(state, &answered);
    let job = PolledJob { number, watch, polls };
    let result = match answered {
        Ok((answer, body)) => {
            state.record_answer(request);
            tracing::debug!(source = state.source.name, job_id = %job.watch.job_id, status = answer.status, "polled");
            record(state, &job, answer, &body, sent).await
        }
        Err(failure) => state.record_failure(request, &job.watch.job_id, &failure).await,
    };
    state.polled.settled(number);
    result
}

fn count_poll(state: &SourceState, answered: &Result<(StatusAnswer, StatusBody), Failure>) {
    let label = match answered {
        Ok((answer, _)) => match answer.class {
            StatusClass::Finished(_) => "ended",
            StatusClass::Pending | StatusClass::Unknown => "pending",
        },
        Err(failure) => failure.label(),
    };
    state.metrics.polls.with_label_values(&[state.source.name.as_str(), label]).inc();
}

/// Requests the light status. After a 404 that may mean the route and not the job, it asks the
/// heavier route.
async fn request_status(
    state: &SourceState,
    job: JobRef<'_>,
    missing: u32,
) -> Result<(StatusAnswer, StatusBody), Failure> {
    let source = &state.source;
    let kind = source.kind_of(job)?;
    let answer = source.status(job).await;
    let is_suspicious = missing >= SUSPICIOUS && kind.has_fallback() && !kind.uses_fallback();
    let may_lack_route = kind.may_lack_status_route() || is_suspicious;
    match answer {
        Err(Failure::NotFound) if may_lack_route => {
            state.take_token().await;
            let answer = source.status_from_fallback(job).await?;
            // The job may have appeared in between. The light route is missing only if it still
            // answers 404.
            state.take_token().await;
            if let Err(Failure::NotFound) = source.status(job).await {
                source.lacks_status_route(kind);
            }
            Ok(answer)
        }
        answer => answer,
    }
}

/// Records an answer, and keeps its body for the proxy while the job goes on.
async fn record(
    state: &SourceState,
    job: &PolledJob,
    mut answer: StatusAnswer,
    body: &StatusBody,
    sent: Instant,
) -> TaskResult {
    let clocks = clock::moment();
    answer.wall_ahead = clocks.skew();
    answer.key_fingerprint = state.source.sent_key_fingerprint();
    answer.body = (body.is_whole && body.head.len() <= MAX_KEPT_BODY).then(|| text(&body.head));
    if let StatusClass::Finished(outcome) = answer.class {
        answer.hints = state.hints.take(job.number);
        record_finished(state, job, outcome, (&answer, body), clocks).await;
        return TaskResult::Advanced;
    }
    let key = answer.key_fingerprint.clone();
    let result = record_running(state, job, answer, clocks).await;
    if let Some(key) = key.filter(|_| body.is_whole) {
        state.status_cache.put(job.number, &body.head, key, sent);
    }
    result
}

async fn record_running(
    state: &SourceState,
    job: &PolledJob,
    mut answer: StatusAnswer,
    clocks: Moment,
) -> TaskResult {
    if answer.class == StatusClass::Unknown {
        state.warn_unknown_status(&answer.status, job_of(&job.watch));
    }
    let (is_new, is_overdue) = {
        let mut schedule = state.schedule();
        schedule.record_running(job.number, &answer, Instant::now(), clocks.steady);
        let Some(is_new) = schedule.record_status(job.number, &answer.status, answer.at_work) else {
            return TaskResult::Advanced;
        };
        (is_new, schedule.is_overdue(job.number, clocks.steady, answer.clock_ahead))
    };
    // The store records only a status that changed, so a poll without news costs no disk.
    if is_new {
        answer.hints = state.hints.take(job.number);
        let events =
            state.store.record_running(job.number, &answer, job.polls, state.route(), clocks.wall).await;
        for event in events {
            state.count_event(event);
        }
    }
    if is_overdue {
        state.give_up(job.number, &format!("the deadline passed while it was {}", answer.status)).await;
        return TaskResult::Advanced;
    }
    TaskResult::Repeat
}

async fn record_finished(
    state: &SourceState,
    job: &PolledJob,
    outcome: Outcome,
    (answer, body): (&StatusAnswer, &StatusBody),
    clocks: Moment,
) {
    let is_own_end = matches!(outcome, Outcome::Completed | Outcome::Failed);
    // Recording the end turns the entry into that of a fetch, so what it knows of the run is read
    // before.
    let pending = state.schedule().pending_completion(job.number, is_own_end);
    let end = job.watch.completion_in(outcome, answer, clocks.wall);
    let recorded = match fetch::polled(state, &job.watch, &end, body).await {
        Some(fetched) => record_result(state, job, outcome, answer, &fetched, clocks).await,
        None => state.store.record_finished(job.number, outcome, answer, job.polls, clocks.wall).await,
    };
    if !matches!(recorded, Finished::Fetch(_) | Finished::Complete(_)) {
        return;
    }
    if let Some(ended_at) = answer.by_steady_clock(answer.ended_at) {
        let delay = clocks.steady.since(ended_at).as_secs_f64();
        state.metrics.detection_delay.observe(delay);
        state.metrics.detection_delays.observe(delay);
    }
    if let Some(mut pending) = pending {
        let random = rand::random();
        state.schedule().record_finished(&mut pending, answer, Instant::now(), clocks.steady, random);
    }
}

/// Records the end together with the result that came with it.
async fn record_result(
    state: &SourceState,
    job: &PolledJob,
    outcome: Outcome,
    answer: &StatusAnswer,
    fetched: &Fetched,
    clocks: Moment,
) -> Finished {
    let facts = (job.number, outcome, job.polls);
    let result = (&fetched.body, fetched.end.event_id.as_str());
    let said = fetched.said.as_ref();
    let recorded = state.store.record_result(facts, answer, result, said, state.route(), clocks.wall).await;
    // Where another event was made meanwhile, or none, the body belongs to no record, and goes with its segment.
    if let Finished::Complete(watch) = &recorded {
        report_end(state, watch, fetched);
    }
    recorded
}

/// Returns a body as text. A byte-order mark is dropped: it belongs to the beginning of a text, not
/// into another one.
fn text(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    text.strip_prefix('\u{feff}').unwrap_or(&text).to_owned()
}
