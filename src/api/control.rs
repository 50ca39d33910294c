//! `/v1/reload` and `/v1/quit`: what an operator asks of the process itself.

use std::sync::Arc;

use axum::{Extension, Json, extract::State, http::StatusCode};

use super::{
    Api,
    access::Door,
    problem::{Code, Problem},
};
use crate::{
    app::{
        Handle,
        reload::{ReloadError, Reloaded},
    },
    config::{self, Config},
};

/// The configuration that holds now, with its secrets redacted.
#[utoipa::path(
    get, path = "/v1/config", tag = "control",
    responses((status = 200, body = serde_json::Value, description = "The tables and keys of a configuration file"))
)]
pub(super) async fn config(State(api): State<Arc<Api>>) -> Json<Config> {
    Json(config::redacted(&api.live().config))
}

/// Read the configuration again and apply what changed.
#[utoipa::path(
    post, path = "/v1/reload", tag = "control",
    responses(
        (status = 200, body = Reloaded, description = "It holds, but for the keys in `restart`"),
        (status = 409, body = super::view::Problem, description = "There is none that could be read again"),
        (status = 422, body = super::view::Problem, description = "It has mistakes; what held before holds on"),
    )
)]
pub(super) async fn reload(State(api): State<Arc<Api>>) -> Result<Json<Reloaded>, Problem> {
    let refused = |error: ReloadError| match &error {
        ReloadError::Config(_) | ReloadError::Setup(_) => {
            Problem::new(Code::InvalidConfiguration, error.to_string())
        }
        ReloadError::Nothing => Problem::new(Code::NoConfiguration, error.to_string()),
        ReloadError::Watch(_) | ReloadError::Slow | ReloadError::Stopping => {
            Problem::new(Code::ReloadFailed, error.to_string())
        }
    };
    Handle::of(&api).reload().await.map(Json).map_err(refused)
}

/// End the process as SIGTERM does. Only where `server.quit` allows it, and only from this machine.
#[utoipa::path(
    post, path = "/v1/quit", tag = "control",
    responses(
        (status = 202, description = "It finishes what is in flight and ends"),
        (status = 403, body = super::view::Problem, description = "The request comes from another machine"),
        (status = 404, body = super::view::Problem, description = "Not switched on"),
    )
)]
pub(super) async fn quit(
    State(api): State<Arc<Api>>,
    door: Option<Extension<Door>>,
) -> Result<StatusCode, Problem> {
    if !api.quit {
        let detail = "this daemon is not to be ended by a request; server.quit = true allows it";
        return Err(Problem::new(Code::QuitDisabled, detail));
    }
    // An address of loopback is reached from this machine alone.
    if let Some(Extension(Door::Tcp(local))) = door
        && !local.to_canonical().is_loopback()
    {
        let detail = "only a request over loopback or the unix socket may end the process";
        return Err(Problem::new(Code::NotLocal, detail));
    }
    tracing::info!("asked to quit: stopping");
    api.stop.cancel();
    Ok(StatusCode::ACCEPTED)
}
