//! The local HTTP API: where job ids come in, and where their state can be seen.

mod access;
mod config;
mod control;
mod convert;
mod deliveries;
mod events;
mod health;
mod patience;
mod problem;
mod requests;
mod server;
mod sinks;
mod sources;
pub mod view;
mod watches;

use std::sync::{Arc, PoisonError, RwLock};

use axum::{
    Json, Router,
    extract::{Request, State},
    middleware::{self, Next},
    response::Response,
    routing::{any, get},
};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use utoipa::{OpenApi as _, openapi::OpenApi};
use utoipa_axum::{router::OpenApiRouter, routes};

pub use config::{ServerConfig, StreamLimits};
pub(crate) use problem::Problem;
pub use server::{Bound, Listen};
pub(crate) use watches::stored_body;

use crate::{
    proxy,
    reload::ReloadRequest,
    secret::SecretSource,
    store::Store,
    telemetry::Metrics,
    waiters::Waiters,
    wiring::{Ground, Wiring},
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

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "tidings",
        description = "Hand in the ids of asynchronous jobs; their ends are brought to your sinks.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    components(schemas(view::Problem))
)]
struct Document;

fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(watches::register, watches::list))
        .routes(routes!(watches::register_batch))
        .routes(routes!(watches::get, watches::remove))
        .routes(routes!(watches::wait))
        .routes(routes!(watches::poll))
        .routes(routes!(watches::job))
        .routes(routes!(deliveries::list))
        .routes(routes!(deliveries::redeliver_many))
        .routes(routes!(deliveries::get))
        .routes(routes!(deliveries::redeliver))
        .routes(routes!(sinks::list_all))
        .routes(routes!(sinks::test))
        .routes(routes!(sinks::pause))
        .routes(routes!(sinks::resume))
        .routes(routes!(events::follow))
        .routes(routes!(sources::list_all))
        .routes(routes!(sources::show))
        .routes(routes!(control::reload))
        .routes(routes!(control::quit))
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(health::metrics))
}

/// The `OpenAPI` 3.1 document of the API, made from the code.
#[must_use]
pub fn openapi() -> OpenApi {
    routes().into_openapi()
}

/// The whole API.
pub fn router(api: &Arc<Api>) -> Router {
    let (router, document) = routes().split_for_parts();
    let document = Arc::new(document);
    router
        .route("/openapi.json", get(move || async move { Json(Arc::clone(&document)) }))
        .route("/proxy/{source}", any(proxy::handle))
        .route("/proxy/{source}/{*rest}", any(proxy::handle))
        .fallback(problem::no_route)
        .method_not_allowed_fallback(problem::wrong_method)
        .layer(middleware::from_fn_with_state(Arc::clone(api), access::check))
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
        .with_state(Arc::clone(api))
}

async fn count(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    api.metrics.api_requests.with_label_values(&[response.status().as_str()]).inc();
    response
}
