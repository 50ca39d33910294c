//! `/v1/groups`: lists groups of watches, shows one with its jobs, and ends its growth.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};

use super::{
    AppState,
    convert::brief,
    problem::{Code, Name, Problem, Query, unknown_parameter},
    requests::{Cursor, Listed, cursor, cursor_text, limit},
    view::{GroupView, MemberView, Page},
};
use crate::{model::group::GroupName, store::Group, util::clock};

/// List groups, sorted by name.
#[utoipa::path(
    get, path = "/v1/groups", tag = "groups",
    params(
        ("limit" = Option<usize>, Query, description = "Entries a page, at most 1000; default 100"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the previous page"),
    ),
    responses((status = 200, body = Page<GroupView>))
)]
pub(super) async fn list(
    State(state): State<Arc<AppState>>,
    Query(query): Query,
) -> Result<Json<Page<GroupView>>, Problem> {
    let asked = paging(Listed::Groups, query)?;
    let listing = state.store.groups(asked.cursor, asked.limit).await?;
    let next_cursor = listing.next.map(|name| cursor_text(Listed::Groups, &name));
    Ok(Json(Page { data: listing.entries.into_iter().map(GroupView::from).collect(), next_cursor }))
}

/// Show one group, with the deliveries of its event.
#[utoipa::path(
    get, path = "/v1/groups/{name}", tag = "groups",
    params(("name" = String, Path, description = "Percent-encoded")),
    responses((status = 200, body = GroupView), (status = 404, body = super::view::Problem))
)]
pub(super) async fn get(
    State(state): State<Arc<AppState>>,
    Name(name): Name,
) -> Result<Json<GroupView>, Problem> {
    let group = find(&state, &name).await?;
    Ok(Json(view(&state, group).await?))
}

/// End the growth of a group.
///
/// Later registrations that name it are refused, except those of its own jobs. When every job of the
/// group has ended, the daemon makes one event `group.finished`.
#[utoipa::path(
    post, path = "/v1/groups/{name}/close", tag = "groups",
    params(("name" = String, Path, description = "Percent-encoded")),
    responses(
        (status = 202, body = GroupView, description = "The group is closed now"),
        (status = 200, body = GroupView, description = "It was closed before"),
        (status = 404, body = super::view::Problem, description = "No watch names this group"),
    )
)]
pub(super) async fn close(
    State(state): State<Arc<AppState>>,
    Name(name): Name,
) -> Result<(StatusCode, Json<GroupView>), Problem> {
    let parsed = name.parse::<GroupName>().map_err(|_| no_group(&name))?;
    let closed = state.store.close_group(&parsed, clock::now()).await?;
    let (group, is_new) = closed.ok_or_else(|| no_group(&name))?;
    let status = if is_new { StatusCode::ACCEPTED } else { StatusCode::OK };
    Ok((status, Json(view(&state, group).await?)))
}

/// List the jobs of a group, sorted by source and id.
#[utoipa::path(
    get, path = "/v1/groups/{name}/jobs", tag = "groups",
    params(
        ("name" = String, Path, description = "Percent-encoded"),
        ("limit" = Option<usize>, Query, description = "Entries a page, at most 1000; default 100"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the previous page"),
    ),
    responses((status = 200, body = Page<MemberView>), (status = 404, body = super::view::Problem))
)]
pub(super) async fn jobs(
    State(state): State<Arc<AppState>>,
    Name(name): Name,
    Query(query): Query,
) -> Result<Json<Page<MemberView>>, Problem> {
    let asked = paging(Listed::Members, query)?;
    let group = find(&state, &name).await?;
    let listing = state.store.members(group.number, asked.cursor, asked.limit).await?;
    let next_cursor = listing.next.map(|key| cursor_text(Listed::Members, &key));
    Ok(Json(Page { data: listing.entries.into_iter().map(MemberView::from).collect(), next_cursor }))
}

async fn find(state: &AppState, name: &str) -> Result<Group, Problem> {
    // What cannot be a name is the name of none.
    let parsed = name.parse::<GroupName>().map_err(|_| no_group(name))?;
    state.store.group(&parsed).await?.ok_or_else(|| no_group(name))
}

fn no_group(name: &str) -> Problem {
    let shown: String = name.chars().take(100).collect();
    Problem::new(Code::GroupNotFound, format!("no watch names the group `{shown}`"))
}

async fn view(state: &AppState, group: Group) -> Result<GroupView, Problem> {
    let deliveries = match group.event {
        Some(event) => state.store.deliveries_of_event(event).await?,
        None => Vec::new(),
    };
    let deliveries = deliveries.iter().map(|(key, delivery)| brief(state, *key, delivery)).collect();
    Ok(GroupView { deliveries: Some(deliveries), ..group.into() })
}

/// What a request asks for of a list.
struct Paging<C> {
    cursor: Option<C>,
    limit: usize,
}

fn paging<C: Cursor>(list: Listed, query: Vec<(String, String)>) -> Result<Paging<C>, Problem> {
    let mut asked = Paging { cursor: None, limit: 100 };
    for (key, value) in query {
        match key.as_str() {
            "limit" => asked.limit = limit(&value)?,
            "cursor" => asked.cursor = Some(cursor(list, &value)?),
            _ => return Err(unknown_parameter(&key, "limit and cursor")),
        }
    }
    Ok(asked)
}
