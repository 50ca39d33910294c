//! The HTTP API: one file a resource, problems, access, connections and their limits.
//!
//! - `/v1/watches`: registers jobs, lists them, waits for them and returns their results.
//! - `/v1/groups`: lists groups of watches, shows them and ends their growth.
//! - `/v1/deliveries`: lists deliveries and sends them again, one by one or in bulk.
//! - `/v1/sinks`, `/v1/sources`: their health; pauses, tests and moves of a sink.
//! - `/hooks`: what a source itself announces.
//! - `/v1/overview`: counts, problems and the last hour.
//! - `/v1/events`: a stream of events, or a list of them.
//! - `/v1/replicas`: the processes that share a database. One that does not own the work passes requests on (`relay`,
//!   `pass_on`).
//! - `/v1/export`, `/v1/config`, `/v1/reload` and the stop of the daemon: for operators.
//! - `/` and `/ui`: the page for a browser.
//! - `/healthz`, `/readyz`, `/metrics`: for monitoring. A standby serves these alone.
//!
//! `routes.rs` has the whole table, which is also the `OpenAPI` document. This room must not know the
//! handlers of `proxy`, nor any task of the daemon. `app` merges both routers.

mod accept;
mod access;
mod bulk_deliveries;
mod body;
mod control;
mod convert;
mod deliveries;
mod event_list;
mod events;
mod export;
mod groups;
mod health;
mod hooks;
mod listen;
mod page;
mod pass_on;
mod connection_limits;
mod overview;
mod problem;
mod range;
mod relay;
mod replicas;
mod requests;
mod routes;
mod server;
mod sinks;
mod sources;
mod standby;
mod tcp;
mod timeline;
pub(crate) mod view;
mod watches;
mod write_timeout;

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Request, State},
    http::{HeaderValue, header},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::get,
};

pub(crate) use connection_limits::ConnectionLimits;
pub use convert::watch_view;
pub use listen::BoundListener;
pub(crate) use pass_on::KnownOwner;
pub use problem::Code;
pub(crate) use problem::Problem;
pub(crate) use relay::{Relay, admin_router as relay_admin_router, router as relay_router};
pub use routes::openapi;
pub(crate) use standby::{Standby, admin_router as standby_admin_router, router as standby_router};
pub(crate) use watches::stored_body;

use crate::state::{AppState, ServerState, metrics::Metrics};

/// Returns the routes of the API, without the checks of [`guarded`].
pub fn routes() -> Router<Arc<AppState>> {
    routes::routes()
        .route("/openapi.json", get(async || Json(openapi())))
        .route("/ui/{*name}", get(page::file))
}

/// Wraps the routes of the API and of the proxy in the checks that every request passes.
pub fn guarded(state: &Arc<AppState>, routes: Router<Arc<AppState>>) -> Router {
    routes
        .fallback(problem::no_route)
        .method_not_allowed_fallback(problem::wrong_method)
        .layer(middleware::from_fn_with_state(Arc::clone(state), guard))
        .with_state(Arc::clone(state))
}

/// Returns the routes of `server.admin_listen`: probes and metrics.
pub fn admin_router(state: &Arc<AppState>) -> Router {
    Router::new()
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics))
        .fallback(problem::no_route)
        .method_not_allowed_fallback(problem::wrong_method)
        .layer(middleware::map_response(async |response| forbid_active_content(response)))
        .with_state(Arc::clone(state))
}

/// Forbids a browser to run what an answer contains, or to guess another type for it. Answers hold
/// texts of jobs and sources, and a browser shows them as texts of the API.
fn forbid_active_content(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let policy = HeaderValue::from_static("default-src 'none'; sandbox");
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    response
}

async fn guard(State(state): State<Arc<AppState>>, mut request: Request, next: Next) -> Response {
    // A word between replicas: a source does not get it, and does not say it.
    request.headers_mut().remove(pass_on::PASSED_ON);
    let mut response = checked(&state.server, &state.metrics, request, next).await;
    response.headers_mut().remove(pass_on::PASSED_ON);
    response
}

/// Checks that the caller may use the API, and counts the answers. One layer does both, because each layer
/// costs every request several allocations.
async fn checked(server: &ServerState, metrics: &Metrics, request: Request, next: Next) -> Response {
    let response = match access::check(server, &request) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    };
    // An answer of a source, which the proxy passes on, cannot carry this mark.
    let response = match response.extensions().get::<page::HasPolicy>() {
        Some(_) => response,
        None => forbid_active_content(response),
    };
    metrics.api_requests.with_label_values(&[response.status().as_str()]).inc();
    response
}
