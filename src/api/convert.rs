//! Converts records of the store into the views of the API.

use super::{
    AppState,
    view::{AttemptView, DeliveryBrief, DeliveryView, WatchView},
};
use crate::{
    model::delivery::{DeliveryState, WaitsFor},
    store::{Delivery, DeliveryKey, StoreError, Topic, Watch},
    util::{clock, units::Time},
};

/// Returns the view of a watch with its deliveries. The schedule adds its polls, the next poll and
/// the last error.
///
/// # Errors
/// Returns an error when the store cannot be read.
pub async fn watch_view(state: &AppState, watch: &Watch) -> Result<WatchView, StoreError> {
    let deliveries = state.store.deliveries_of(watch).await?;
    Ok(view_with(state, watch, &deliveries))
}

/// Returns the views of a page of watches; see [`watch_view`].
///
/// # Errors
/// Returns an error when the store cannot be read.
pub(super) async fn watch_views(state: &AppState, watches: &[Watch]) -> Result<Vec<WatchView>, StoreError> {
    let deliveries = state.store.deliveries_of_each(watches).await?;
    Ok(watches
        .iter()
        .zip(&deliveries)
        .map(|(watch, deliveries)| view_with(state, watch, deliveries))
        .collect())
}

fn view_with(state: &AppState, watch: &Watch, deliveries: &[(DeliveryKey, Delivery)]) -> WatchView {
    let end = watch.current_completion();
    let job = end.and_then(|end| end.job.as_ref());
    let mut view = WatchView {
        source: watch.source.clone(),
        job_id: watch.job_id.clone(),
        kind: state.kind_of(watch),
        vars: watch.vars.clone(),
        group: watch.group.as_ref().map(|group| group.name.as_str().to_owned()),
        phase: watch.phase(),
        status: watch.status.clone(),
        outcome: end.map(|end| end.outcome),
        endpoint: watch.endpoint.clone(),
        labels: watch.labels.clone(),
        metadata: watch.metadata.clone(),
        created_at: watch.created_at,
        updated_at: watch.updated_at,
        polls: watch.polls,
        next_poll_at: None,
        next_poll_reason: None,
        finished_at: end.map(|end| end.noticed_at),
        event_id: end.map(|end| end.event_id.clone()),
        job_size: job.map(|job| job.size),
        job_sha256: job.map(|job| job.sha256.clone()),
        last_error: watch.last_error.clone(),
        deliveries: deliveries.iter().map(|(key, delivery)| brief(state, *key, delivery)).collect(),
    };
    state.load_early(watch);
    if let Some(watcher) = state.components().watchers.get(&watch.source)
        && let schedule = watcher.schedule()
        && let Some((entry, _)) = schedule.entry(watch.number)
    {
        let now = tokio::time::Instant::now();
        view.polls = view.polls.max(u64::from(entry.polls));
        if let Some((at, reason)) = schedule.next_request(watch.number, now) {
            view.next_poll_at = Some(clock::now().after(at.saturating_duration_since(now)));
            view.next_poll_reason = Some(reason.to_owned());
        }
        if let Some(failures) = &entry.failures {
            view.last_error = Some(failures.last_error.clone());
        }
    }
    view
}

pub(super) fn brief(state: &AppState, key: DeliveryKey, delivery: &Delivery) -> DeliveryBrief {
    let (next_attempt_at, waits_for) = next_attempt(state, key, delivery);
    DeliveryBrief {
        id: key.id(),
        sink: delivery.sink.clone(),
        state: delivery.state,
        attempts: delivery.attempt_count,
        next_attempt_at,
        waits_for,
        last_status: delivery.attempts.last().and_then(|attempt| attempt.status),
    }
}

/// Returns the view of a delivery with its attempts. The reason names a sink that is not
/// configured.
pub(super) fn delivery_view(state: &AppState, key: DeliveryKey, delivery: Delivery) -> DeliveryView {
    let last = delivery.attempts.last();
    let (next_attempt_at, waits_for) = next_attempt(state, key, &delivery);
    let waiting = (waits_for == Some(WaitsFor::NotConfigured))
        .then(|| format!("the sink `{}` is not configured; the delivery waits in the store", delivery.sink));
    let (job, group) = match delivery.topic {
        Topic::Job(job) => (Some(job), None),
        Topic::Group(group) => (None, Some(group.name.into())),
        Topic::Daemon => (None, None),
    };
    DeliveryView {
        id: key.id(),
        next_attempt_at,
        waits_for,
        last_status: last.and_then(|attempt| attempt.status),
        reason: waiting
            .or_else(|| delivery.reason.clone())
            .or_else(|| last.and_then(|attempt| attempt.error.clone())),
        event_type: delivery.event_type.as_str().to_owned(),
        sink: delivery.sink,
        state: delivery.state,
        event_id: delivery.event_id,
        source: job.as_ref().map(|job| job.source.clone()),
        kind: job.as_ref().and_then(|job| Some(job.kind.as_ref()?.name.clone())),
        job_id: job.map(|job| job.job_id),
        group,
        created_at: delivery.created_at,
        updated_at: delivery.updated_at,
        attempt_count: delivery.attempt_count,
        attempts: delivery.attempts.into_iter().map(AttemptView::from).collect(),
    }
}

/// Returns the time of the next attempt, and the obstacle to it.
fn next_attempt(state: &AppState, key: DeliveryKey, delivery: &Delivery) -> (Option<Time>, Option<WaitsFor>) {
    if delivery.state != DeliveryState::Pending {
        return (None, None);
    }
    match state.components().sinks.waits_for(&delivery.sink, key) {
        None => (Some(delivery.next_attempt_at), None),
        Some((waits_for, until)) => (until.map(|until| until.max(delivery.next_attempt_at)), Some(waits_for)),
    }
}
