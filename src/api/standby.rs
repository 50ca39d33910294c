//! The API of a standby: the probes and `/metrics`. Every other route answers `standby`. Must not know the store.

use std::sync::{Arc, Mutex, PoisonError};

use axum::{
    Json, Router,
    extract::{Request, State},
    http::{StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::get,
};

use super::{
    access, checked, forbid_active_content, health,
    problem::{self, Code, Problem},
    view::Readiness,
};
use crate::state::{ServerState, metrics::Metrics};

/// What a standby shows while it waits.
pub(crate) struct Standby {
    pub(super) server: ServerState,
    pub(super) metrics: Arc<Metrics>,
    /// What it waits for, for callers who may use the API.
    reason: Mutex<String>,
}

impl Standby {
    pub(crate) fn new(server: ServerState, metrics: Arc<Metrics>) -> Self {
        Self { server, metrics, reason: Mutex::default() }
    }

    /// Sets what it waits for. Returns whether that is another reason than before.
    pub(crate) fn waits_for(&self, reason: &str) -> bool {
        let mut known = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = *known != reason;
        if is_new {
            reason.clone_into(&mut known);
        }
        is_new
    }

    fn reason(&self) -> String {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Returns the routes of the API's address.
pub(crate) fn router(standby: &Arc<Standby>) -> Router {
    probes(standby)
        .merge(readiness(standby))
        .fallback(refuse)
        .layer(middleware::from_fn_with_state(Arc::clone(standby), guard))
}

/// Returns the routes of `server.admin_listen`, the same as those of an active process.
pub(crate) fn admin_router(standby: &Arc<Standby>) -> Router {
    admin(probes(standby).merge(readiness(standby)))
}

/// Returns the routes of an admin listener.
pub(super) fn admin(probes: Router) -> Router {
    probes
        .fallback(problem::no_route)
        .layer(middleware::map_response(async |response| forbid_active_content(response)))
}

/// Returns the routes that every process answers itself, whatever it waits for.
pub(super) fn probes(standby: &Arc<Standby>) -> Router {
    Router::new()
        .route("/healthz", get(health::healthz))
        .route("/metrics", get(metrics))
        .method_not_allowed_fallback(problem::wrong_method)
        .with_state(Arc::clone(standby))
}

fn readiness(standby: &Arc<Standby>) -> Router {
    Router::new()
        .route("/readyz", get(readyz))
        .method_not_allowed_fallback(problem::wrong_method)
        .with_state(Arc::clone(standby))
}

async fn guard(State(standby): State<Arc<Standby>>, request: Request, next: Next) -> Response {
    checked(&standby.server, &standby.metrics, request, next).await
}

async fn readyz(State(standby): State<Arc<Standby>>, request: Request) -> (StatusCode, Json<Readiness>) {
    let is_shown = access::may_see_details(&standby.server, &request);
    let details = if is_shown { vec![standby.reason()] } else { Vec::new() };
    let (status, reasons) = ("standby".to_owned(), vec![Code::Standby.as_str().to_owned()]);
    (StatusCode::SERVICE_UNAVAILABLE, Json(Readiness { status, reasons, details }))
}

async fn metrics(State(standby): State<Arc<Standby>>) -> Response {
    ([(header::CONTENT_TYPE, health::METRICS_TYPE)], standby.metrics.render()).into_response()
}

async fn refuse() -> Problem {
    let detail =
        "this process is a standby and waits until the active one ends; send the request to that one";
    Problem::new(Code::Standby, detail)
}
