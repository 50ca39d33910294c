//! Changes of deliveries in bulk: sends them again, makes them from past events, drops them, or
//! moves them to another sink. Each request changes a bounded number of deliveries in one durable
//! commit. A caller that was interrupted sends the request again, and it continues.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};

use super::{
    AppState,
    body::Input,
    problem::{Code, Name, Named, Problem},
    requests::list,
    sinks::no_sink,
    view::{Counted, DeliverRequest, Delivered, MoveRequest, Moved, RedeliverRequest},
    watches::find,
};
use crate::{
    model::delivery::DeliveryState,
    store::{DeliveryFilter, Event, EventFilter, SentEvent, Watch},
    util::{clock, units::Time},
};

/// Deliveries that change in one durable commit.
const CHUNK: usize = 200;

/// Send many deliveries again: dead letters, unless `state` names another state.
#[utoipa::path(
    post, path = "/v1/deliveries/redeliver", tag = "deliveries", request_body = RedeliverRequest,
    responses(
        (status = 202, body = Counted, description = "The number of deliveries that are sent again, or would be with `dry_run`"),
        (status = 422, body = super::view::Problem),
    )
)]
pub(super) async fn redeliver(
    State(state): State<Arc<AppState>>,
    Input(asked): Input<RedeliverRequest>,
) -> Result<(StatusCode, Json<Counted>), Problem> {
    check_range(asked.since, asked.until)?;
    let filter = DeliveryFilter {
        state: Some(asked.state.unwrap_or(DeliveryState::Dead)),
        sink: asked.sink,
        source: asked.source,
        job_id: asked.job_id,
        since: asked.since,
        until: asked.until,
        by_end: true,
    };
    let (mut from, mut count) = (None, 0);
    loop {
        let listing = state.store.deliveries(&filter, from, CHUNK).await?;
        let keys: Vec<_> = listing.entries.into_iter().map(|(key, _)| key).collect();
        count += match asked.dry_run {
            true => keys.len() as u64,
            false => state.store.redeliver(keys, clock::now()).await?,
        };
        match listing.next {
            Some(next) => from = Some(next),
            None => return Ok((StatusCode::ACCEPTED, Json(Counted { count }))),
        }
    }
}

/// Deliver past events to a sink, for example to a new one, or events that no sink took.
///
/// The daemon skips an event that the sink already has a delivery of, in any state. The request can
/// therefore be repeated.
#[utoipa::path(
    post, path = "/v1/deliveries/deliver", tag = "deliveries", request_body = DeliverRequest,
    responses(
        (status = 202, body = Delivered, description = "The number of new deliveries, also with `dry_run`, and why there are no more"),
        (status = 404, body = super::view::Problem, description = "There is no such event, or the job is not watched"),
        (status = 410, body = super::view::Problem, description = "The job of a named event is no longer stored"),
        (status = 422, body = super::view::Problem),
    )
)]
pub(super) async fn deliver(
    State(state): State<Arc<AppState>>,
    Input(asked): Input<DeliverRequest>,
) -> Result<(StatusCode, Json<Delivered>), Problem> {
    check_sink(&state, &asked.sink)?;
    check_range(asked.since, asked.until)?;
    let (sink, dry_run) = (asked.sink, asked.dry_run);
    let filter = EventFilter {
        routed: asked.routed,
        outcome: asked.outcome,
        source: asked.source,
        since: asked.since,
        until: asked.until,
        ..EventFilter::default()
    };
    if asked.kind.is_some() && asked.job_id.is_none() {
        return Err(Problem::new(Code::InvalidBody, "`kind` is that of a job, and `job_id` is missing"));
    }
    let delivered = match (asked.event_ids, asked.job_id) {
        (None, None) => deliver_filtered(&state, &sink, filter, dry_run).await?,
        (None, Some(job_id)) => {
            let default = || state.default_source().map_err(|why| Problem::new(Code::SourceMissing, why));
            let source = filter.source.clone().map_or_else(default, Ok)?;
            let watch = find(&state, &Named { source, job_id: job_id.parse()?, kind: asked.kind }).await?;
            deliver_of_job(&state, &sink, &watch, &filter, dry_run).await?
        }
        (Some(ids), None) if filter == EventFilter::default() => {
            deliver_named(&state, &sink, ids, dry_run).await?
        }
        (Some(_), _) => {
            let detail = "name events by `event_ids` or by a filter, not by both";
            return Err(Problem::new(Code::ConflictingFilters, detail));
        }
    };
    if !dry_run {
        tracing::info!(sink, count = delivered.count, "past events queued for a sink");
    }
    Ok((StatusCode::ACCEPTED, Json(delivered)))
}

async fn deliver_filtered(
    state: &Arc<AppState>,
    sink: &str,
    filter: EventFilter,
    dry_run: bool,
) -> Result<Delivered, Problem> {
    let until = state.store.last_event().await?;
    let (mut delivered, mut after) = (Delivered::default(), 0);
    loop {
        let (router, name) = (state.resources.routing.router(), sink.to_owned());
        let takes = move |event| router.takes_named(&name, event);
        let past = state.store.past(sink, &filter, takes, (after, until), CHUNK).await?;
        delivered.existing += past.existing;
        delivered.missing += past.bodiless;
        delivered.count += deliver_numbers(state, sink, past.events, dry_run).await?;
        match past.next {
            Some(next) => after = next,
            None => break,
        }
    }
    if delivered.missing > 0 {
        tracing::warn!(
            sink,
            events = delivered.missing,
            "past events skipped: their stored jobs are missing; `tidings store check` names them"
        );
    }
    Ok(delivered)
}

/// Delivers the events of one job, which its watch leads to.
async fn deliver_of_job(
    state: &Arc<AppState>,
    sink: &str,
    watch: &Watch,
    filter: &EventFilter,
    dry_run: bool,
) -> Result<Delivered, Problem> {
    let (mut delivered, mut numbers) = (Delivered::default(), Vec::new());
    let router = state.resources.routing.router();
    for SentEvent { number, event, deliveries } in state.store.events_of(watch).await? {
        let is_wanted = filter.takes(&event)
            && filter.routed.is_none_or(|routed| routed != deliveries.is_empty())
            && router.takes_named(sink, event.news.event_type());
        if !is_wanted {
            continue;
        }
        if state.store.has_delivery(number, &event, sink).await? {
            delivered.existing += 1;
        } else if state.store.has_body(&event).await? {
            numbers.push(number);
        } else {
            delivered.missing += 1;
        }
    }
    delivered.count = deliver_numbers(state, sink, numbers, dry_run).await?;
    Ok(delivered)
}

async fn deliver_named(
    state: &Arc<AppState>,
    sink: &str,
    ids: Vec<String>,
    dry_run: bool,
) -> Result<Delivered, Problem> {
    let found = state.store.events_named(&ids).await?;
    if let Some(id) = ids.iter().find(|id| !found.iter().any(|(_, event)| event.news.event_id() == **id)) {
        return Err(Problem::new(Code::EventNotFound, format!("there is no event `{id}`")));
    }
    let (mut delivered, mut numbers) = (Delivered::default(), Vec::new());
    for (number, event) in found {
        if state.store.has_delivery(number, &event, sink).await? {
            delivered.existing += 1;
        } else {
            check_event(state, &event, sink).await?;
            numbers.push(number);
        }
    }
    delivered.count = deliver_numbers(state, sink, numbers, dry_run).await?;
    Ok(delivered)
}

/// Makes the deliveries of these events, or only counts them.
async fn deliver_numbers(
    state: &AppState,
    sink: &str,
    numbers: Vec<u64>,
    dry_run: bool,
) -> Result<u64, Problem> {
    match dry_run {
        true => Ok(numbers.len() as u64),
        false => Ok(state.store.deliver_past(sink, numbers, clock::now()).await?),
    }
}

/// Checks that a sink can get an event that the caller named.
async fn check_event(state: &AppState, event: &Event, sink: &str) -> Result<(), Problem> {
    let (id, event_type) = (event.news.event_id(), event.news.event_type());
    if !state.resources.routing.router().takes_named(sink, event_type) {
        let detail = format!("the sink `{sink}` does not take `{event_type}`, the type of `{id}`");
        return Err(Problem::new(Code::EventNotTaken, detail));
    }
    if !state.store.has_body(event).await? {
        let detail = format!("the stored job of the event `{id}` was dropped after retention");
        return Err(Problem::new(Code::JobDropped, detail));
    }
    Ok(())
}

/// Drop the pending deliveries of a sink, also of one that is no longer configured. Their events
/// stay.
#[utoipa::path(
    post, path = "/v1/sinks/{name}/drop", tag = "sinks", params(("name" = String, Path)),
    responses((status = 200, body = Counted), (status = 404, body = super::view::Problem))
)]
pub(super) async fn drop_pending(
    State(state): State<Arc<AppState>>,
    Name(name): Name,
) -> Result<Json<Counted>, Problem> {
    check_known(&state, &name)?;
    // Deliveries that arrive during the request stay.
    let until = state.store.last_event().await?;
    let (mut after, mut count) = (None, 0);
    loop {
        let keys = state.store.pending_of(&name, after, until, CHUNK).await?;
        let Some(last) = keys.last().copied() else { break };
        after = Some(last);
        count += state.store.drop_pending(&name, keys, clock::now()).await?;
    }
    tracing::warn!(sink = name, count, "pending deliveries dropped");
    Ok(Json(Counted { count }))
}

/// Move the pending deliveries of a sink to another one, for example after a rename. The first sink
/// need not be configured.
///
/// The other sink gets no event twice; a dead letter of the same event there is sent again.
/// Progress that the other sink does not take stays.
#[utoipa::path(
    post, path = "/v1/sinks/{name}/move", tag = "sinks", params(("name" = String, Path)), request_body = MoveRequest,
    responses(
        (status = 200, body = Moved),
        (status = 404, body = super::view::Problem),
        (status = 422, body = super::view::Problem, description = "The other sink is not configured, or is the same sink"),
    )
)]
pub(super) async fn move_pending(
    State(state): State<Arc<AppState>>,
    Name(name): Name,
    Input(asked): Input<MoveRequest>,
) -> Result<Json<Moved>, Problem> {
    check_known(&state, &name)?;
    check_sink(&state, &asked.to)?;
    let to = asked.to;
    if to == name {
        let detail = format!("the sink `{name}` cannot move its deliveries to itself");
        return Err(Problem::new(Code::SameSink, detail));
    }
    let until = state.store.last_event().await?;
    let (mut after, mut moved) = (None, Moved::default());
    loop {
        let keys = state.store.pending_of(&name, after, until, CHUNK).await?;
        let Some(last) = keys.last().copied() else { break };
        after = Some(last);
        let (router, other) = (state.resources.routing.router(), to.clone());
        let takes = move |event| router.takes_named(&other, event);
        let step = state.store.move_pending(&name, &to, keys, takes, clock::now()).await?;
        moved.count += step.moved;
        moved.existing += step.existing;
    }
    let (count, existing) = (moved.count, moved.existing);
    tracing::info!(sink = name, to, count, existing, "pending deliveries moved");
    Ok(Json(moved))
}

/// Checks that a sink of this name is configured, or has had waiting deliveries since the start.
fn check_known(state: &AppState, name: &str) -> Result<(), Problem> {
    if state.components().sinks.has_seen(name) { Ok(()) } else { Err(no_sink(state, name)) }
}

pub(super) fn check_range(since: Option<Time>, until: Option<Time>) -> Result<(), Problem> {
    match (since, until) {
        (Some(since), Some(until)) if since >= until => {
            let detail = format!("`since` ({since}) is not before `until` ({until})");
            Err(Problem::new(Code::InvalidRange, detail))
        }
        _ => Ok(()),
    }
}

/// Checks that a sink in the body of a request is configured.
pub(super) fn check_sink(state: &AppState, name: &str) -> Result<(), Problem> {
    let live = state.components();
    if live.sinks.knows(name) {
        return Ok(());
    }
    let known = list(live.sinks.names());
    Err(Problem::new(Code::UnknownSink, format!("there is no sink `{name}`; there are {known}")))
}
