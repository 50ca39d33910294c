//! `/v1/deliveries`: lists deliveries, shows one, and sends one again.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};

use super::{
    AppState,
    bulk_deliveries::check_range,
    convert::delivery_view,
    problem::{Code, Name, Problem, Query, bad_parameter, time, unknown_parameter},
    requests::{Listed, cursor, cursor_text, limit},
    view::{DeliveryQuery, DeliveryView, Page},
};
use crate::{
    model::delivery::DeliveryState,
    store::{DeliveryFilter, DeliveryKey},
    util::clock,
};

/// List deliveries, newest first.
#[utoipa::path(
    get, path = "/v1/deliveries", tag = "deliveries", params(DeliveryQuery),
    responses((status = 200, body = Page<DeliveryView>), (status = 422, body = super::view::Problem, description = "`since` is not before `until`"))
)]
pub(super) async fn list(
    State(state): State<Arc<AppState>>,
    Query(query): Query,
) -> Result<Json<Page<DeliveryView>>, Problem> {
    const KNOWN: &str = "state, sink, source, job_id, since, until, attempts, limit and cursor";
    let mut filter = DeliveryFilter::default();
    let (mut from, mut size, mut attempts) = (None, 100, usize::MAX);
    for (key, value) in query {
        match key.as_str() {
            "state" => {
                let wanted = || bad_parameter(&key, &value, "pending, delivered or dead");
                filter.state = Some(delivery_state(&value).ok_or_else(wanted)?);
            }
            "since" => filter.since = Some(time(&key, &value)?),
            "until" => filter.until = Some(time(&key, &value)?),
            "sink" => filter.sink = Some(value),
            "source" => filter.source = Some(value),
            "job_id" => filter.job_id = Some(value),
            "attempts" => {
                attempts = value.parse().map_err(|_| bad_parameter(&key, &value, "a number of attempts"))?;
            }
            "limit" => size = limit(&value)?,
            "cursor" => from = Some(cursor(Listed::Deliveries, &value)?),
            _ => return Err(unknown_parameter(&key, KNOWN)),
        }
    }
    check_range(filter.since, filter.until)?;
    let listing = state.store.deliveries(&filter, from, size).await?;
    let view = |(key, delivery)| {
        let mut view = delivery_view(&state, key, delivery);
        view.attempts.drain(..view.attempts.len().saturating_sub(attempts));
        view
    };
    let data = listing.entries.into_iter().map(view).collect();
    Ok(Json(Page { data, next_cursor: listing.next.map(|key| cursor_text(Listed::Deliveries, &key)) }))
}

fn delivery_state(text: &str) -> Option<DeliveryState> {
    let all = [DeliveryState::Pending, DeliveryState::Delivered, DeliveryState::Dead];
    all.into_iter().find(|state| state.as_str() == text)
}

/// Show one delivery with its attempts.
#[utoipa::path(
    get, path = "/v1/deliveries/{id}", tag = "deliveries", params(("id" = String, Path)),
    responses((status = 200, body = DeliveryView), (status = 404, body = super::view::Problem))
)]
pub(super) async fn get(
    State(state): State<Arc<AppState>>,
    Name(id): Name,
) -> Result<Json<DeliveryView>, Problem> {
    let key = DeliveryKey::parse(&id).ok_or_else(|| unknown(&id))?;
    let delivery = state.store.find_delivery(key).await?.ok_or_else(|| unknown(&id))?;
    Ok(Json(delivery_view(&state, key, delivery)))
}

fn unknown(id: &str) -> Problem {
    Problem::new(Code::DeliveryNotFound, format!("there is no delivery `{id}`"))
}

/// Send a delivery again: the same event, with a new retry schedule.
#[utoipa::path(
    post, path = "/v1/deliveries/{id}/redeliver", tag = "deliveries", params(("id" = String, Path)),
    responses((status = 202, body = DeliveryView), (status = 404, body = super::view::Problem))
)]
pub(super) async fn redeliver(
    State(state): State<Arc<AppState>>,
    Name(id): Name,
) -> Result<(StatusCode, Json<DeliveryView>), Problem> {
    let key = DeliveryKey::parse(&id).ok_or_else(|| unknown(&id))?;
    state.store.find_delivery(key).await?.ok_or_else(|| unknown(&id))?;
    if state.store.redeliver(vec![key], clock::now()).await? == 0 {
        return Err(unknown(&id));
    }
    let delivery = state.store.find_delivery(key).await?.ok_or_else(|| unknown(&id))?;
    Ok((StatusCode::ACCEPTED, Json(delivery_view(&state, key, delivery))))
}
