//! `/v1/config`, `/v1/reload` and `/v1/shutdown`: shows and reloads the configuration, stops the
//! daemon.

use std::sync::Arc;

use axum::{Extension, Json, extract::State, http::StatusCode};
use tokio_util::sync::CancellationToken;

use super::{
    AppState,
    access::PeerKind,
    problem::{Code, Problem},
};
use crate::{
    config::{self, Config},
    state::{
        ServerState,
        handle::{ReloadError, Reloaded, Reloads},
    },
};

/// Show the current configuration, with redacted secrets.
#[utoipa::path(
    get, path = "/v1/config", tag = "control",
    responses((status = 200, body = serde_json::Value, description = "The tables and keys of a configuration file"))
)]
pub(super) async fn config(State(state): State<Arc<AppState>>) -> Json<Config> {
    Json(config::redacted(&state.components().config))
}

/// Read the configuration again and apply what changed.
#[utoipa::path(
    post, path = "/v1/reload", tag = "control",
    responses(
        (status = 200, body = Reloaded, description = "The new configuration is current; the keys in `restart` need a restart"),
        (status = 409, body = super::view::Problem, description = "The daemon was started without a configuration to reload"),
        (status = 422, body = super::view::Problem, description = "The configuration has mistakes; the daemon keeps the previous one"),
    )
)]
pub(super) async fn reload(State(state): State<Arc<AppState>>) -> Result<Json<Reloaded>, Problem> {
    reload_by(&state.reloads).await
}

/// Reloads the configuration of this process.
pub(super) async fn reload_by(reloads: &Reloads) -> Result<Json<Reloaded>, Problem> {
    let problem = |error: ReloadError| match &error {
        ReloadError::Config(_) | ReloadError::Setup(_) => {
            Problem::new(Code::InvalidConfiguration, error.to_string())
        }
        ReloadError::Nothing => Problem::new(Code::NoConfiguration, error.to_string()),
        ReloadError::Watch(_) | ReloadError::Slow | ReloadError::Stopping => {
            Problem::new(Code::ReloadFailed, error.to_string())
        }
    };
    reloads.reload().await.map(Json).map_err(problem)
}

/// Stop the daemon as SIGTERM does. Needs `server.shutdown = true`, and a request from this
/// machine.
#[utoipa::path(
    post, path = "/v1/shutdown", tag = "control",
    responses(
        (status = 202, description = "The daemon finishes the requests in flight and stops"),
        (status = 403, body = super::view::Problem, description = "The request comes from another machine"),
        (status = 404, body = super::view::Problem, description = "The configuration does not allow it"),
    )
)]
pub(super) async fn shutdown(
    State(state): State<Arc<AppState>>,
    peer: Option<Extension<PeerKind>>,
) -> Result<StatusCode, Problem> {
    stop(&state.server, peer, &state.shutdown)
}

/// Stops this process, if its configuration and the caller allow that.
pub(super) fn stop(
    server: &ServerState,
    peer: Option<Extension<PeerKind>>,
    stop: &CancellationToken,
) -> Result<StatusCode, Problem> {
    if !server.shutdown {
        let detail =
            "the configuration does not allow a request to stop the daemon; server.shutdown = true allows it";
        return Err(Problem::new(Code::QuitDisabled, detail));
    }
    // Only this machine reaches a loopback address.
    if let Some(Extension(PeerKind::Tcp(local))) = peer
        && !local.to_canonical().is_loopback()
    {
        let detail = "only a request over loopback or the unix socket may stop the daemon";
        return Err(Problem::new(Code::NotLocal, detail));
    }
    tracing::info!("stopping on request");
    stop.cancel();
    Ok(StatusCode::ACCEPTED)
}
