//! `/v1/replicas`: the processes that share one database.

use std::sync::Arc;

use axum::{Json, extract::State};

use super::{
    AppState,
    problem::Problem,
    view::{Page, ReplicaView},
};
use crate::store::{Replica, Seat};

/// List the live replicas of the database, and what each owns.
///
/// A daemon with a data folder of its own has none.
#[utoipa::path(
    get, path = "/v1/replicas", tag = "control",
    responses(
        (status = 200, body = Page<ReplicaView>),
        (status = 503, body = super::view::Problem, description = "The database is away"),
    )
)]
pub(super) async fn list(State(state): State<Arc<AppState>>) -> Result<Json<Page<ReplicaView>>, Problem> {
    of(state.store.seat()).await
}

/// Returns the replicas beside `seat`.
pub(super) async fn of(seat: Option<&Seat>) -> Result<Json<Page<ReplicaView>>, Problem> {
    let replicas = match seat {
        Some(seat) => seat.replicas().await?,
        None => Vec::new(),
    };
    let data = replicas.into_iter().map(view).collect();
    Ok(Json(Page { data, next_cursor: None }))
}

fn view(replica: Replica) -> ReplicaView {
    let Replica { name, address, since, units, renewed_at } = replica;
    ReplicaView { name, address, since, units, renewed_at }
}
