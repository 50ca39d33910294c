//! The API of a replica that does not own the work: every request goes to the one that does, but for the probes, the metrics, the
//! list of replicas, and what is meant for this process.

use std::sync::Arc;

use axum::{
    Extension, Json, Router,
    extract::{Request, State},
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use tokio::sync::watch;

use super::{
    access::{self, PeerKind},
    checked, control,
    pass_on::{self, KnownOwner, PassOn},
    problem::{self, Code, Problem},
    replicas,
    standby::{Standby, admin, probes},
    view::{Page, Readiness, ReplicaView},
};
use crate::{
    state::handle::{Reloaded, Reloads},
    store::Seat,
};

/// A replica that does not own the work.
pub(crate) struct Relay {
    standby: Arc<Standby>,
    pass_on: PassOn,
    seat: Seat,
    reloads: Reloads,
}

impl Relay {
    /// Returns a relay that learns of the owner by `known`.
    ///
    /// # Errors
    /// When the HTTP client cannot be built.
    pub(crate) fn new(
        standby: Arc<Standby>,
        known: watch::Receiver<KnownOwner>,
        seat: Seat,
        reloads: Reloads,
    ) -> reqwest::Result<Self> {
        Ok(Self { standby, pass_on: PassOn::new(known)?, seat, reloads })
    }
}

/// Returns the routes of the API's address.
pub(crate) fn router(relay: &Arc<Relay>) -> Router {
    let own = Router::new()
        .route("/v1/replicas", get(list_replicas))
        .route("/v1/reload", post(reload))
        .route("/v1/shutdown", post(shutdown))
        .route("/v1/quit", post(shutdown))
        .method_not_allowed_fallback(problem::wrong_method)
        .fallback(owner)
        .with_state(Arc::clone(relay));
    own.merge(every(relay)).layer(middleware::from_fn_with_state(Arc::clone(relay), guard))
}

/// Returns the routes of `server.admin_listen`.
pub(crate) fn admin_router(relay: &Arc<Relay>) -> Router {
    admin(every(relay))
}

/// Returns the routes of both addresses.
fn every(relay: &Arc<Relay>) -> Router {
    let readiness = Router::new()
        .route("/readyz", get(readyz))
        .method_not_allowed_fallback(problem::wrong_method)
        .with_state(Arc::clone(relay));
    readiness.merge(probes(&relay.standby))
}

async fn guard(State(relay): State<Arc<Relay>>, request: Request, next: Next) -> Response {
    let Standby { server, metrics, .. } = &*relay.standby;
    checked(server, metrics, request, next).await
}

async fn readyz(State(relay): State<Arc<Relay>>, request: Request) -> (StatusCode, Json<Readiness>) {
    let may_see = access::may_see_details(&relay.standby.server, &request);
    let (code, status, reasons, detail) = match relay.pass_on.known() {
        KnownOwner { owner: Some(owner), .. } if owner.address.is_some() => {
            let detail = format!("{} owns the work; requests are passed on to it", owner.name);
            (StatusCode::OK, "ready", Vec::new(), detail)
        }
        KnownOwner { owner: Some(owner), .. } => {
            let detail = pass_on::no_address(&owner);
            (StatusCode::SERVICE_UNAVAILABLE, "unavailable", vec![Code::NoOwner], detail)
        }
        KnownOwner { trouble: Some(trouble), .. } => {
            (StatusCode::SERVICE_UNAVAILABLE, "unavailable", vec![Code::StoreUnavailable], trouble)
        }
        KnownOwner { .. } => {
            let detail = "no replica owns the work yet".to_owned();
            (StatusCode::SERVICE_UNAVAILABLE, "unavailable", vec![Code::NoOwner], detail)
        }
    };
    let reasons = reasons.into_iter().map(|code| code.as_str().to_owned()).collect();
    let details = may_see.then_some(detail).into_iter().collect();
    (code, Json(Readiness { status: status.to_owned(), reasons, details }))
}

async fn list_replicas(State(relay): State<Arc<Relay>>) -> Result<Json<Page<ReplicaView>>, Problem> {
    replicas::of(Some(&relay.seat)).await
}

async fn reload(State(relay): State<Arc<Relay>>) -> Result<Json<Reloaded>, Problem> {
    control::reload_by(&relay.reloads).await
}

async fn shutdown(
    State(relay): State<Arc<Relay>>,
    peer: Option<Extension<PeerKind>>,
) -> Result<StatusCode, Problem> {
    control::stop(&relay.standby.server, peer, &relay.reloads.stopping())
}

async fn owner(State(relay): State<Arc<Relay>>, request: Request) -> Response {
    if request.headers().contains_key(pass_on::PASSED_ON) {
        let detail = "this replica does not own the work; another one passed the request on to it";
        return pass_on::turn_away(Problem::new(Code::NoOwner, detail).into_response());
    }
    let passed = relay.pass_on.send(request).await;
    let result = if passed.is_ok() { "answered" } else { "failed" };
    relay.standby.metrics.replica.passed_on.with_label_values(&[result]).inc();
    passed.unwrap_or_else(Problem::into_response)
}
