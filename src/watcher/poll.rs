//! A due watch → one light status request → what its record becomes.

use crate::{
    model::{
        job::{JobId, Outcome},
        status_answer::{StatusAnswer, StatusClass},
    },
    store::{Finished, Watch},
    upstream::{Failure, JobRef, StatusBody},
    util::clock::{self, Moment},
    watcher::{Flight, SourceState, Step},
};

/// A status body over this is not kept for the event of a lost job.
const MAX_KEPT_BODY: usize = 16 << 10;

/// 404 answers before it is worth asking whether the route is missing, and not the job.
const SUSPICIOUS: u32 = 3;

/// Polls one job.
pub async fn poll(state: &SourceState, flight: &Flight) -> Step {
    let number = flight.number;
    let known = {
        let mut schedule = state.schedule();
        schedule.entry_mut(number).map(|entry| {
            entry.polls += 1;
            (entry.polls, entry.failures.as_ref().map_or(0, |failures| failures.missing()))
        })
    };
    let Some((polls, not_found)) = known else { return Step::Moved };
    let Watch { job_id, vars, .. } = match state.store.watch(number) {
        Ok(Some(watch)) => watch,
        // It was dropped meanwhile, or its record cannot be read.
        Ok(None) => {
            state.remove(number);
            return Step::Moved;
        }
        // While nothing can be read, nothing could be recorded either.
        Err(_) => return Step::Again,
    };
    let moment = tokio::time::Instant::now();
    let result = ask(state, JobRef { id: &job_id, vars: &vars }, not_found).await;
    flight.arrived();
    let label = match &result {
        Ok((answer, _)) => match answer.class {
            StatusClass::Finished(_) => "ended",
            StatusClass::Pending | StatusClass::Unknown => "pending",
        },
        Err(failure) => failure.label(),
    };
    state.metrics.polls.with_label_values(&[state.source.name.as_str(), label]).inc();
    let step = match result {
        Ok((mut answer, body)) => {
            state.answered(flight);
            tracing::debug!(source = state.source.name, %job_id, status = answer.status, "polled");
            let is_finished = matches!(answer.class, StatusClass::Finished(_));
            answer.key_fingerprint = state.source.sent_key_fingerprint();
            answer.body = (body.is_whole && body.head.len() <= MAX_KEPT_BODY).then(|| text(&body.head));
            let key = answer.key_fingerprint.clone();
            let step = take_in(state, number, &job_id, polls, answer).await;
            if !is_finished
                && body.is_whole
                && let Some(key) = key
            {
                state.status_cache.put(number, &body.head, key, moment);
            }
            step
        }
        Err(failure) => state.failed(flight, &job_id, &failure).await,
    };
    state.polled.settled(number);
    step
}

/// The light status. A 404 may mean that the route is missing, not the job: then the heavier route tells.
async fn ask(
    state: &SourceState,
    job: JobRef<'_>,
    not_found: u32,
) -> Result<(StatusAnswer, StatusBody), Failure> {
    let source = &state.source;
    let answer = source.status(job).await;
    let is_suspicious = not_found >= SUSPICIOUS && source.has_fallback() && !source.uses_fallback();
    let doubtful = source.may_lack_status_route() || is_suspicious;
    match answer {
        Err(Failure::NotFound) if doubtful => {
            state.token().await;
            let answer = source.status_from_fallback(job).await?;
            // The job may have become known in between: the light route is missing only if it still says 404.
            state.token().await;
            if let Err(Failure::NotFound) = source.status(job).await {
                source.lacks_status_route();
            }
            Ok(answer)
        }
        answer => answer,
    }
}

async fn take_in(
    state: &SourceState,
    number: u64,
    job_id: &JobId,
    polls: u64,
    mut answer: StatusAnswer,
) -> Step {
    let clocks = clock::moment();
    let (now, steady) = (clocks.wall, clocks.steady);
    answer.wall_ahead = clocks.skew();
    if let StatusClass::Finished(outcome) = answer.class {
        return end(state, number, outcome, &answer, polls, clocks).await;
    }
    if answer.class == StatusClass::Unknown {
        state.warn_unknown(&answer.status, job_id);
    }
    let moment = tokio::time::Instant::now();
    let (changed, overdue) = {
        let mut schedule = state.schedule();
        schedule.record_running(number, &answer, moment, steady);
        let Some(changed) = schedule.record_status(number, &answer.status, answer.at_work) else {
            return Step::Moved;
        };
        (changed, schedule.is_overdue(number, steady, answer.clock_ahead))
    };
    // A status that stays the same is not written: a poll costs no disk.
    if changed {
        let made = state.store.observe(number, &answer, polls, state.route(), now).await;
        for event in made {
            state.count(event);
        }
    }
    if overdue {
        state.give_up(number, &format!("the deadline passed while it was {}", answer.status)).await;
        return Step::Moved;
    }
    Step::Again
}

/// A body as text that may stand within another: a byte-order mark belongs to the beginning of a text alone.
fn text(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    text.strip_prefix('\u{feff}').unwrap_or(&text).to_owned()
}

async fn end(
    state: &SourceState,
    number: u64,
    outcome: Outcome,
    answer: &StatusAnswer,
    polls: u64,
    clocks: Moment,
) -> Step {
    let finished = matches!(outcome, Outcome::Completed | Outcome::Failed);
    // Once the end is recorded, the entry is that of a fetch.
    let pending = state.schedule().pending_completion(number, finished);
    if let Finished::Fetch(_) = state.store.end(number, outcome, answer, polls, clocks.wall).await {
        if let Some(ended_at) = answer.by_steady_clock(answer.ended_at) {
            state.metrics.detection_delay.observe(clocks.steady.since(ended_at).as_secs_f64());
        }
        if let Some(mut pending) = pending {
            let moment = tokio::time::Instant::now();
            state.schedule().record_finished(&mut pending, answer, moment, clocks.steady, rand::random());
        }
    }
    Step::Moved
}
