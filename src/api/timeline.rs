//! `/v1/watches/{source}/{job_id}/timeline`: what happened to a job, from its record, its events and their deliveries.

use std::sync::Arc;

use axum::{Json, extract::State};
use tokio::time::Instant;

use super::{
    AppState,
    problem::{Named, Problem},
    view::{AttemptState, TimelineEntry, TimelineStep, TimelineView},
    watches::find,
};
use crate::{
    model::{delivery::DeliveryState, status_answer::Hint},
    store::{Completion, Delivery, DeliveryKey, Event, News, SentEvent, StepKind, Watch, WatchStage},
    util::{clock, units::Time},
};

/// The most entries of an answer.
const MAX_ENTRIES: usize = 500;

/// Show what happened to a job: each status, hint, fetch and attempt.
#[utoipa::path(
    get, path = "/v1/watches/{source}/{job_id}/timeline", tag = "watches",
    params(
        ("source" = String, Path), ("job_id" = String, Path, description = "Percent-encoded"),
        ("kind" = Option<String>, Query, description = "The kind of the job, for an id that is watched under several"),
    ),
    responses((status = 200, body = TimelineView), (status = 404, body = super::view::Problem))
)]
pub(super) async fn show(
    State(state): State<Arc<AppState>>,
    named: Named,
) -> Result<Json<TimelineView>, Problem> {
    let watch = find(&state, &named).await?;
    let events = state.store.events_of(&watch).await?;
    let recent = recent(&state, &watch);
    let (data, truncated) = entries(&watch, &events, recent);
    let kind = state.kind_of(&watch);
    Ok(Json(TimelineView { source: watch.source, job_id: watch.job_id, kind, data, truncated }))
}

/// What no record of an open watch has yet.
#[derive(Default)]
struct Recent {
    hints: Vec<(Time, Hint)>,
    /// The last failure of its requests.
    failure: Option<(Time, String)>,
}

fn recent(state: &AppState, watch: &Watch) -> Recent {
    state.load_early(watch);
    let live = state.components();
    let Some(watcher) = live.watchers.get(&watch.source) else { return Recent::default() };
    let schedule = watcher.schedule();
    let failures = schedule.entry(watch.number).and_then(|(entry, _)| entry.failures.clone());
    drop(schedule);
    let failure = failures.map(|failures| {
        let ago = Instant::now().saturating_duration_since(failures.last_at);
        (clock::now().before(ago), failures.last_error)
    });
    Recent { hints: watcher.hints(watch.number), failure }
}

/// Returns the steps, oldest first, and whether some are missing.
fn entries(watch: &Watch, events: &[SentEvent], recent: Recent) -> (Vec<TimelineEntry>, bool) {
    let entry = |at, step| TimelineEntry { at, step };
    // Of those at one instant, each comes after what led to it: the sort below keeps their order.
    let mut entries = vec![entry(watch.created_at, TimelineStep::Registered)];
    let (steps, mut is_cut) = watch.history.shown();
    let is_again = |kind: &StepKind| *kind == StepKind::Again;
    if watch.registered_at > watch.created_at && !steps.iter().any(|step| is_again(&step.what)) {
        entries.push(entry(watch.registered_at, TimelineStep::RegisteredAgain));
    }
    entries.extend(steps.iter().map(|step| entry(step.at, of_history(&step.what))));
    entries.extend(recent.hints.into_iter().map(|(at, hint)| entry(at, of_hint(hint))));
    for SentEvent { event, deliveries, .. } in events {
        if let News::Completion(completion) = &event.news {
            entries.push(entry(completion.noticed_at, finished(watch, completion)));
            entries.extend(fetched(event, deliveries.len()).map(|step| entry(event.created_at, step)));
        }
        for (key, delivery) in deliveries {
            is_cut |= delivery.attempts.len() < delivery.attempt_count as usize;
            entries.extend(attempts(*key, delivery));
        }
    }
    if let Some(completion) = watch.pending_completion.as_deref() {
        entries.push(entry(completion.noticed_at, finished(watch, completion)));
    }
    if let Some((at, error)) = recent.failure {
        let is_fetch = watch.stage == WatchStage::Fetching;
        let step =
            if is_fetch { TimelineStep::FetchFailed { error } } else { TimelineStep::PollFailed { error } };
        entries.push(entry(at, step));
    }
    entries.sort_by_key(|entry| entry.at);
    let excess = entries.len().saturating_sub(MAX_ENTRIES);
    if excess > 0 {
        // The registration stays.
        entries.drain(1..=excess);
        is_cut = true;
    }
    (entries, is_cut)
}

fn of_history(what: &StepKind) -> TimelineStep {
    match what {
        StepKind::Status(status) => TimelineStep::Status { status: status.clone() },
        StepKind::Again => TimelineStep::RegisteredAgain,
        StepKind::Hint(hint) => of_hint(*hint),
    }
}

const fn of_hint(hint: Hint) -> TimelineStep {
    match hint {
        Hint::Hook => TimelineStep::Hook,
        Hint::Caller => TimelineStep::PollRequested,
    }
}

fn finished(watch: &Watch, completion: &Completion) -> TimelineStep {
    let is_current = watch.current_completion().is_some_and(|end| end.event_id == completion.event_id);
    let ended_at = completion.ended_at.map(|at| Time(at.0.saturating_sub(completion.clock_ahead)));
    TimelineStep::Finished {
        outcome: completion.outcome,
        status: watch.status.clone().filter(|_| is_current),
        event_id: completion.event_id.clone(),
        ended_at: completion.ended_at,
        detection_seconds: ended_at.map(|at| completion.noticed_at.since(at).as_secs_f64()),
        error: completion.reason.clone().or_else(|| watch.last_error.clone().filter(|_| is_current)),
    }
}

fn fetched(event: &Event, deliveries: usize) -> Option<TimelineStep> {
    let size = event.news.job()?.size;
    Some(TimelineStep::Fetched { event_id: event.news.event_id().to_owned(), size, deliveries })
}

fn attempts(key: DeliveryKey, delivery: &Delivery) -> impl Iterator<Item = TimelineEntry> {
    let forgotten = (delivery.attempt_count as usize).saturating_sub(delivery.attempts.len());
    let last = delivery.attempts.len().saturating_sub(1);
    delivery.attempts.iter().enumerate().map(move |(at, attempt)| {
        let state = match attempt.error {
            None => AttemptState::Delivered,
            Some(_) if delivery.state == DeliveryState::Dead && at == last => AttemptState::Dead,
            Some(_) => AttemptState::Failed,
        };
        let step = TimelineStep::Attempt {
            delivery_id: key.id(),
            sink: delivery.sink.clone(),
            event_id: delivery.event_id.clone(),
            event_type: delivery.event_type.as_str().to_owned(),
            number: u32::try_from(forgotten + at + 1).unwrap_or(u32::MAX),
            state,
            status: attempt.status,
            duration_ms: attempt.duration_ms,
            error: attempt.error.clone(),
            error_class: attempt.error_class,
        };
        TimelineEntry { at: attempt.at, step }
    })
}
