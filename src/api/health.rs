//! `/healthz`, `/readyz` and `/metrics`.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};

use super::{AppState, access, problem::Problem, view::Readiness};
use crate::{model::sink::SinkState, schedule::HealthState, state::StartStage};

/// Tell that the process is alive, also while it drains.
#[utoipa::path(get, path = "/healthz", tag = "health", responses((status = 200, body = String)))]
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Tell whether the daemon can accept a job durably.
///
/// `details` need the token; a daemon without a token shows them over loopback and the unix socket.
#[utoipa::path(
    get, path = "/readyz", tag = "health",
    responses(
        (status = 200, body = Readiness, description = "The daemon accepts jobs; `loading` while open watches are scheduled after a start, `degraded` when a source or a sink fails"),
        (status = 503, body = Readiness, description = "The daemon accepts no jobs"),
    )
)]
pub(super) async fn readyz(
    State(state): State<Arc<AppState>>,
    request: Request,
) -> (StatusCode, Json<Readiness>) {
    let unavailable = unavailable(&state);
    let (code, status, reasons) = if unavailable.is_empty() {
        let (loading, failing) = (loading(&state), failing(&state).await);
        let status = match (&loading, failing.is_empty()) {
            (Some(_), _) => "loading",
            (None, true) => "ready",
            (None, false) => "degraded",
        };
        (StatusCode::OK, status, loading.into_iter().chain(failing).collect())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "unavailable", unavailable)
    };
    let (reasons, details): (Vec<_>, Vec<_>) = reasons.into_iter().map(|it| (it.code, it.detail)).unzip();
    let details = if access::may_see_details(&state, &request) { details } else { Vec::new() };
    (code, Json(Readiness { status: status.to_owned(), reasons, details }))
}

/// A reason why the daemon is not `ready`.
struct NotReady {
    /// A public code without data.
    code: String,
    /// A sentence with names, paths and errors, for callers who may use the API.
    detail: String,
}

impl NotReady {
    fn new(code: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { code: code.into(), detail: detail.into() }
    }
}

/// Returns why the daemon accepts no jobs.
fn unavailable(state: &AppState) -> Vec<NotReady> {
    let mut reasons = Vec::new();
    if *state.start.borrow() == StartStage::Restoring {
        reasons.push(NotReady::new("store_loading", "the store is loading"));
    }
    if state.shutdown.is_cancelled() {
        reasons.push(NotReady::new("stopping", "the daemon is stopping"));
    }
    for error in state.store.trouble().into_iter().chain(state.store.check_space().err()) {
        let detail = error.to_string();
        reasons.push(NotReady::new(Problem::from(error).code().as_str(), detail));
    }
    reasons
}

/// Returns that open watches are still being scheduled after a start.
fn loading(state: &AppState) -> Option<NotReady> {
    let detail = "open watches are being scheduled after the start; jobs are accepted";
    (*state.start.borrow() != StartStage::Loaded).then(|| NotReady::new("watches_loading", detail))
}

/// Returns the sources and sinks that fail.
async fn failing(state: &AppState) -> Vec<NotReady> {
    let live = state.components();
    let sinks = live.sinks.statuses().await;
    let now = tokio::time::Instant::now();
    let sources = live.watchers.values().filter_map(|watcher| {
        let (name, state) = (&watcher.source.name, watcher.schedule().shown_state(now));
        let error = watcher.last_error().unwrap_or_default();
        let detail = format!("source `{name}` is {}: {error}", state.as_str());
        let code = format!("source_{}:{name}", state.as_str());
        (state != HealthState::Ok).then(|| NotReady::new(code, detail))
    });
    let sinks = sinks.into_iter().filter(|sink| sink.state == SinkState::Failing);
    let sinks = sinks.map(|sink| {
        let error = sink.last_error.unwrap_or_default();
        let detail = format!("sink `{}` is failing: {error}", sink.name);
        NotReady::new(format!("sink_failing:{}", sink.name), detail)
    });
    sources.chain(sinks).collect()
}

/// Return the metrics in the Prometheus text format.
#[utoipa::path(get, path = "/metrics", tag = "health", responses((status = 200, body = String)))]
pub(super) async fn metrics(State(state): State<Arc<AppState>>) -> Response {
    state.refresh_metrics().await;
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], state.metrics.render())
        .into_response()
}
