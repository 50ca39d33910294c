//! The local HTTP API: where job ids come in, and where their state can be seen.

mod access;
mod again;
mod body;
mod control;
mod convert;
mod deliveries;
mod event_list;
mod events;
mod export;
mod health;
mod listen;
mod patience;
mod places;
mod problem;
mod requests;
mod routes;
mod server;
mod sinks;
mod sources;
mod tcp;
pub mod view;
mod watches;

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Request, State},
    http::{HeaderValue, header},
    middleware::{self, Next},
    response::Response,
    routing::get,
};

pub use convert::watch_view;
pub use listen::Bound;
pub(crate) use places::Places;
pub use problem::Code;
pub(crate) use problem::Problem;
pub use routes::openapi;
pub(crate) use watches::stored_body;

use crate::state::AppState;

/// Returns the routes of the API, without the checks of [`guarded`].
pub fn routes() -> Router<Arc<AppState>> {
    routes::routes().route("/openapi.json", get(async || Json(openapi())))
}

/// Puts the checks of every request around the routes of the API and of the proxy.
pub fn guarded(state: &Arc<AppState>, routes: Router<Arc<AppState>>) -> Router {
    routes
        .fallback(problem::no_route)
        .method_not_allowed_fallback(problem::wrong_method)
        .layer(middleware::from_fn_with_state(Arc::clone(state), access::check))
        .layer(middleware::map_response(inert))
        .layer(middleware::from_fn_with_state(Arc::clone(state), count))
        .with_state(Arc::clone(state))
}

/// Probes and metrics alone.
pub fn admin_router(state: &Arc<AppState>) -> Router {
    Router::new()
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics))
        .fallback(problem::no_route)
        .method_not_allowed_fallback(problem::wrong_method)
        .layer(middleware::map_response(inert))
        .with_state(Arc::clone(state))
}

/// What jobs and sources say is shown by a browser as if the API had said it: none of it may run there, or be taken for another
/// type than it has.
async fn inert(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let policy = HeaderValue::from_static("default-src 'none'; sandbox");
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    response
}

async fn count(State(state): State<Arc<AppState>>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    state.metrics.api_requests.with_label_values(&[response.status().as_str()]).inc();
    response
}
