//! `/v1/sinks`: shows the health of the sinks, tests, pauses and resumes them.

use crate::model::sink::SinkState;
use std::sync::Arc;

use axum::{Json, extract::State};

use super::{
    AppState,
    problem::{Code, Name, Problem, Query, unknown_parameter, word},
    requests::list,
    view::{AttemptView, Page, SinkView},
};

/// List the sinks with their health.
#[utoipa::path(
    get, path = "/v1/sinks", tag = "sinks",
    params(
        ("state" = Option<SinkState>, Query, description = "Only sinks in this state"),
        ("type" = Option<String>, Query, description = "Only sinks of this type: `webhook` or `disk`"),
    ),
    responses((status = 200, body = Page<SinkView>), (status = 400, body = super::view::Problem))
)]
pub(super) async fn list_all(
    State(state): State<Arc<AppState>>,
    Query(query): Query,
) -> Result<Json<Page<SinkView>>, Problem> {
    let mut data = state.components().sinks.statuses().await;
    for (key, value) in query {
        match key.as_str() {
            "state" => {
                let wanted: SinkState = word(&key, &value)?;
                data.retain(|sink| sink.state == wanted);
            }
            "type" => data.retain(|sink| sink.kind == value),
            _ => return Err(unknown_parameter(&key, "state and type")),
        }
    }
    let data = data.into_iter().map(SinkView::from).collect();
    Ok(Json(Page { data, next_cursor: None }))
}

/// Send one `tidings.test` event to a sink and return the outcome.
///
/// A success closes the breaker of the sink.
#[utoipa::path(
    post, path = "/v1/sinks/{name}/test", tag = "sinks", params(("name" = String, Path)),
    responses((status = 200, body = AttemptView), (status = 404, body = super::view::Problem))
)]
pub(super) async fn test(
    State(state): State<Arc<AppState>>,
    Name(name): Name,
) -> Result<Json<AttemptView>, Problem> {
    let attempt = state.components().sinks.test(&name).await.ok_or_else(|| no_sink(&state, &name))?;
    Ok(Json(attempt.into()))
}

/// Pause a sink: new deliveries wait in the store. The pause outlives a restart.
#[utoipa::path(
    post, path = "/v1/sinks/{name}/pause", tag = "sinks", params(("name" = String, Path)),
    responses((status = 200, body = SinkView), (status = 404, body = super::view::Problem))
)]
pub(super) async fn pause(
    State(state): State<Arc<AppState>>,
    Name(name): Name,
) -> Result<Json<SinkView>, Problem> {
    let status = state.components().sinks.pause(&name, true).await?;
    status.map(|status| Json(status.into())).ok_or_else(|| no_sink(&state, &name))
}

/// Resume a paused sink, with every delivery that waits for it.
///
/// The breaker of the sink closes, even when the sink was not paused.
#[utoipa::path(
    post, path = "/v1/sinks/{name}/resume", tag = "sinks", params(("name" = String, Path)),
    responses((status = 200, body = SinkView), (status = 404, body = super::view::Problem))
)]
pub(super) async fn resume(
    State(state): State<Arc<AppState>>,
    Name(name): Name,
) -> Result<Json<SinkView>, Problem> {
    let status = state.components().sinks.pause(&name, false).await?;
    status.map(|status| Json(status.into())).ok_or_else(|| no_sink(&state, &name))
}

pub(super) fn no_sink(state: &AppState, name: &str) -> Problem {
    let known = list(state.components().sinks.names());
    Problem::in_path(Code::UnknownSink, format!("there is no sink `{name}`; there are {known}"))
}
