//! `/healthz`, `/readyz` and `/metrics`.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};

use super::{AppState, access, view};
use crate::state::observed::problems::{CurrentProblem, Readiness, state_word};

/// The type of the Prometheus text format.
pub(super) const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

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
        (status = 200, body = view::Readiness, description = "The daemon accepts jobs; `loading` while open watches are scheduled after a start, `degraded` when a source or a sink fails"),
        (status = 503, body = view::Readiness, description = "The daemon accepts no jobs; `standby` while it waits until another process ends"),
    )
)]
pub(super) async fn readyz(
    State(state): State<Arc<AppState>>,
    request: Request,
) -> (StatusCode, Json<view::Readiness>) {
    let mut problems = state.problems();
    let status = state_word(&problems);
    let is_down = status == "unavailable";
    // What else is wrong does not matter while no job is accepted.
    problems.retain(|problem| match problem.readiness {
        Readiness::Unavailable => true,
        Readiness::Loading | Readiness::Degraded => !is_down,
        Readiness::Ready => false,
    });
    problems.sort_by_key(|problem| problem.readiness != Readiness::Loading);
    let code = if is_down { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    let reasons = problems.iter().map(CurrentProblem::reason).collect();
    let may_see = access::may_see_details(&state.server, &request);
    let details = problems.into_iter().filter(|_| may_see).map(|problem| problem.summary).collect();
    (code, Json(view::Readiness { status: status.to_owned(), reasons, details }))
}

/// Return the metrics in the Prometheus text format.
#[utoipa::path(get, path = "/metrics", tag = "health", responses((status = 200, body = String)))]
pub(super) async fn metrics(State(state): State<Arc<AppState>>) -> Response {
    state.refresh_metrics().await;
    ([(header::CONTENT_TYPE, METRICS_TYPE)], state.metrics.render()).into_response()
}
