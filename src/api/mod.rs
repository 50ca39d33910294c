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

use std::sync::{Arc, PoisonError, RwLock};

use axum::{
    Json, Router,
    extract::{Request, State},
    http::{HeaderValue, header},
    middleware::{self, Next},
    response::Response,
    routing::{any, get},
};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;

pub use listen::Bound;
pub(crate) use places::Places;
pub use problem::Code;
pub(crate) use problem::Problem;
pub use routes::openapi;
pub(crate) use watches::stored_body;

use crate::{
    app::reload::ReloadRequest,
    config::StreamLimits,
    proxy,
    state::components::{Ground, Wiring},
    store::Store,
    telemetry::Metrics,
    util::{secret::SecretSource, waiters::Waiters},
};

/// What the handlers work on.
pub struct Api {
    /// Where everything is recorded.
    pub store: Store,
    /// What stays over a reload.
    pub ground: Ground,
    /// The sources and the sinks that hold now. Whoever tells them of a change reads it for as long as that takes, so that
    /// none gets lost while a reload puts others in their place.
    pub wiring: RwLock<Arc<Wiring>>,
    /// Who asks for the configuration to be read again.
    pub reloads: mpsc::Sender<ReloadRequest>,
    /// Who waits for which job.
    pub waiters: Waiters,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The bearer token, if one is asked for.
    pub token: Option<SecretSource>,
    /// Further names of this server.
    pub hosts: Vec<String>,
    /// The open watches were read from the store.
    pub loaded: watch::Sender<bool>,
    /// Bounds of those who follow the events.
    pub streams: StreamLimits,
    /// Whether the process may be ended by a request.
    pub quit: bool,
    /// Places for them.
    pub readers: Arc<Semaphore>,
    /// The process is stopping.
    pub stop: CancellationToken,
}

impl Api {
    /// The sources and the sinks that hold now.
    #[must_use]
    pub fn live(&self) -> Arc<Wiring> {
        Arc::clone(&self.wiring.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The whole API.
pub fn router(api: &Arc<Api>) -> Router {
    routes::routes()
        .route("/openapi.json", get(async || Json(openapi())))
        .route("/proxy/{source}", any(proxy::handle))
        .route("/proxy/{source}/{*rest}", any(proxy::handle))
        .fallback(problem::no_route)
        .method_not_allowed_fallback(problem::wrong_method)
        .layer(middleware::from_fn_with_state(Arc::clone(api), access::check))
        .layer(middleware::map_response(inert))
        .layer(middleware::from_fn_with_state(Arc::clone(api), count))
        .with_state(Arc::clone(api))
}

/// Probes and metrics alone.
pub fn admin_router(api: &Arc<Api>) -> Router {
    Router::new()
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics))
        .fallback(problem::no_route)
        .method_not_allowed_fallback(problem::wrong_method)
        .layer(middleware::map_response(inert))
        .with_state(Arc::clone(api))
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

async fn count(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    api.metrics.api_requests.with_label_values(&[response.status().as_str()]).inc();
    response
}
