//! Probes and metrics: how everything is doing.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};

use super::{AppState, access, problem::Problem, view::Readiness};
use crate::{model::sink::SinkState, schedule::HealthState};

/// Whether the process is alive. Also while it drains.
#[utoipa::path(get, path = "/healthz", tag = "health", responses((status = 200, body = String)))]
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether a job can be accepted durably. `details` come with the token, or without one over loopback and the unix socket.
#[utoipa::path(
    get, path = "/readyz", tag = "health",
    responses(
        (status = 200, body = Readiness, description = "Jobs are accepted; `degraded` when a source or a sink fails"),
        (status = 503, body = Readiness, description = "Jobs are not accepted"),
    )
)]
pub(super) async fn readyz(
    State(state): State<Arc<AppState>>,
    request: Request,
) -> (StatusCode, Json<Readiness>) {
    let broken = broken(&state);
    let (code, status, reasons) = if broken.is_empty() {
        let failing = failing(&state);
        let status = if failing.is_empty() { "ready" } else { "degraded" };
        (StatusCode::OK, status, failing)
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "unavailable", broken)
    };
    let (reasons, details): (Vec<_>, Vec<_>) = reasons.into_iter().map(|it| (it.code, it.detail)).unzip();
    let details = if access::may_see_details(&state, &request) { details } else { Vec::new() };
    (code, Json(Readiness { status: status.to_owned(), reasons, details }))
}

/// Why the daemon is not `ready`: a code that anybody may see, and words with names, paths and errors in them.
struct Reason {
    code: String,
    detail: String,
}

impl Reason {
    fn new(code: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { code: code.into(), detail: detail.into() }
    }
}

/// Why no job is accepted.
fn broken(state: &AppState) -> Vec<Reason> {
    let mut broken = Vec::new();
    if !*state.loaded.borrow() {
        broken.push(Reason::new("store_loading", "the store is being loaded"));
    }
    if state.shutdown.is_cancelled() {
        broken.push(Reason::new("stopping", "it is stopping"));
    }
    for trouble in state.store.trouble().into_iter().chain(state.store.check_space().err()) {
        let detail = trouble.to_string();
        broken.push(Reason::new(Problem::from(trouble).code().as_str(), detail));
    }
    broken
}

/// The sources and the sinks that fail.
fn failing(state: &AppState) -> Vec<Reason> {
    let (live, now) = (state.components(), tokio::time::Instant::now());
    let sources = live.watchers.values().filter_map(|watcher| {
        let (name, state) = (&watcher.source.name, watcher.schedule().shown_state(now));
        let error = watcher.last_error().unwrap_or_default();
        let detail = format!("source `{name}` is {}: {error}", state.as_str());
        let code = format!("source_{}:{name}", state.as_str());
        (state != HealthState::Ok).then(|| Reason::new(code, detail))
    });
    let sinks = live.sinks.statuses().into_iter().filter(|sink| sink.state == SinkState::Failing);
    let sinks = sinks.map(|sink| {
        let error = sink.last_error.unwrap_or_default();
        let detail = format!("sink `{}` is failing: {error}", sink.name);
        Reason::new(format!("sink_failing:{}", sink.name), detail)
    });
    sources.chain(sinks).collect()
}

/// Counters and gauges in the Prometheus text format.
#[utoipa::path(get, path = "/metrics", tag = "health", responses((status = 200, body = String)))]
pub(super) async fn metrics(State(state): State<Arc<AppState>>) -> Response {
    state.refresh_metrics();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], state.metrics.render())
        .into_response()
}
