//! Probes, metrics, sinks and sources: how everything is doing.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};

use super::{
    Api,
    problem::{Name, Problem},
    requests::list,
    view::{AttemptView, Page, Readiness, SinkView, SourceView},
};
use crate::{clock, schedule::State as SourceState};

/// Whether the process is alive. Also while it drains.
#[utoipa::path(get, path = "/healthz", tag = "health", responses((status = 200, body = String)))]
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether a job can be accepted durably.
#[utoipa::path(
    get, path = "/readyz", tag = "health",
    responses(
        (status = 200, body = Readiness, description = "Jobs are accepted; `degraded` when a source is in trouble"),
        (status = 503, body = Readiness, description = "Jobs are not accepted"),
    )
)]
pub(super) async fn readyz(State(api): State<Arc<Api>>) -> (StatusCode, Json<Readiness>) {
    let mut broken = Vec::new();
    if !*api.loaded.borrow() {
        broken.push("the store is being loaded".to_owned());
    }
    if api.stop.is_cancelled() {
        broken.push("it is stopping".to_owned());
    }
    if !api.store.is_healthy() {
        broken.push("the store failed and is being opened again".to_owned());
    }
    if let Err(error) = api.store.check_space() {
        broken.push(error.to_string());
    }
    if !broken.is_empty() {
        let answer = Readiness { status: "unavailable".to_owned(), reasons: broken };
        return (StatusCode::SERVICE_UNAVAILABLE, Json(answer));
    }
    let reasons: Vec<String> = api
        .followers
        .values()
        .filter_map(|follower| {
            let state = follower.schedule().health.state();
            let error = follower.last_error().unwrap_or_default();
            (state != SourceState::Ok)
                .then(|| format!("source `{}` is {}: {error}", follower.source.name, state.as_str()))
        })
        .collect();
    let status = if reasons.is_empty() { "ready" } else { "degraded" };
    (StatusCode::OK, Json(Readiness { status: status.to_owned(), reasons }))
}

/// Counters and gauges in the Prometheus text format.
#[utoipa::path(get, path = "/metrics", tag = "health", responses((status = 200, body = String)))]
pub(super) async fn metrics(State(api): State<Arc<Api>>) -> Response {
    for follower in api.followers.values() {
        let (watching, fetching) = follower.schedule().open();
        let name = follower.source.name.as_str();
        let gauge = |phase| api.metrics.open_watches.with_label_values(&[name, phase]);
        gauge("watching").set(i64::try_from(watching).unwrap_or(i64::MAX));
        gauge("fetching").set(i64::try_from(fetching).unwrap_or(i64::MAX));
    }
    for sink in api.couriers.views() {
        let pending = i64::try_from(sink.pending).unwrap_or(i64::MAX);
        api.metrics.pending.with_label_values(&[sink.name.as_str()]).set(pending);
    }
    api.metrics.store_healthy.set(i64::from(api.store.is_healthy()));
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], api.metrics.render())
        .into_response()
}

/// The sinks and how they do.
#[utoipa::path(get, path = "/v1/sinks", tag = "sinks", responses((status = 200, body = Page<SinkView>)))]
pub(super) async fn sinks(State(api): State<Arc<Api>>) -> Json<Page<SinkView>> {
    Json(Page { data: api.couriers.views(), next_cursor: None })
}

/// Send a `tidings.test` event to a sink, once, and tell what came of it.
#[utoipa::path(
    post, path = "/v1/sinks/{name}/test", tag = "sinks", params(("name" = String, Path)),
    responses((status = 200, body = AttemptView), (status = 404, body = super::view::Problem))
)]
pub(super) async fn test_sink(
    State(api): State<Arc<Api>>,
    Name(name): Name,
) -> Result<Json<AttemptView>, Problem> {
    let attempt = api.couriers.test(&name).await.ok_or_else(|| {
        let known = list(api.couriers.names());
        Problem::not_found("sink_not_found", format!("there is no sink `{name}`; there are {known}"))
    })?;
    Ok(Json(attempt))
}

/// The sources and how they do.
#[utoipa::path(get, path = "/v1/sources", tag = "sources", responses((status = 200, body = Page<SourceView>)))]
pub(super) async fn sources(State(api): State<Arc<Api>>) -> Json<Page<SourceView>> {
    let now = tokio::time::Instant::now();
    let views = api.followers.values().map(|follower| {
        let source = &follower.source;
        let (state, paused, open) = {
            let schedule = follower.schedule();
            let (watching, fetching) = schedule.open();
            (schedule.health.state(), schedule.health.paused_until(now), watching + fetching)
        };
        SourceView {
            name: source.name.clone(),
            kind: source.profile.name.to_owned(),
            base_url: source.base_url().to_owned(),
            state: state.as_str().to_owned(),
            paused_until: paused.map(|until| clock::now().after(until - now)),
            open_watches: open as u64,
            max_requests_per_second: source.config.max_requests_per_second,
            requests: source.requests(),
            last_error: follower.last_error(),
        }
    });
    Json(Page { data: views.collect(), next_cursor: None })
}
