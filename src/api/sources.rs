//! `/v1/sources`: shows the health of the sources and the learned statistics of their jobs.

use std::sync::Arc;

use axum::{Json, extract::State};

use super::{
    AppState,
    problem::{Code, Name, Problem, Query, bad_parameter, unknown_parameter},
    requests::list,
    view::{KindView, Page, PollingView, SourceView},
};
use crate::{
    schedule::{KindSummary, Schedule},
    util::{clock, redact},
    watcher::SourceState,
};

/// The states of a source.
const STATES: [&str; 4] = ["ok", "unauthorized", "limited", "failing"];

/// List the sources with their health.
#[utoipa::path(
    get, path = "/v1/sources", tag = "sources",
    params(
        ("state" = Option<String>, Query, description = "Only sources in this state: `ok`, `unauthorized`, `limited` or `failing`"),
        ("type" = Option<String>, Query, description = "Only sources with this profile"),
    ),
    responses((status = 200, body = Page<SourceView>), (status = 400, body = super::view::Problem))
)]
pub(super) async fn list_all(
    State(state): State<Arc<AppState>>,
    Query(query): Query,
) -> Result<Json<Page<SourceView>>, Problem> {
    let live = state.components();
    let mut data: Vec<SourceView> = live.watchers.values().map(|watcher| view(watcher, false)).collect();
    for (key, value) in query {
        match key.as_str() {
            "state" if STATES.contains(&value.as_str()) => data.retain(|source| source.state == value),
            "state" => return Err(bad_parameter(&key, &value, &format!("one of {}", STATES.join(", ")))),
            "type" => data.retain(|source| source.kind == value),
            _ => return Err(unknown_parameter(&key, "state and type")),
        }
    }
    Ok(Json(Page { data, next_cursor: None }))
}

/// Show one source, with the learned curves of its jobs.
#[utoipa::path(
    get, path = "/v1/sources/{name}", tag = "sources", params(("name" = String, Path)),
    responses((status = 200, body = SourceView), (status = 404, body = super::view::Problem))
)]
pub(super) async fn show(
    State(state): State<Arc<AppState>>,
    Name(name): Name,
) -> Result<Json<SourceView>, Problem> {
    let live = state.components();
    let known = || list(live.watchers.keys().map(String::as_str));
    let unknown = || {
        Problem::in_path(Code::UnknownSource, format!("there is no source `{name}`; there are {}", known()))
    };
    live.watchers.get(&name).map(|watcher| Json(view(watcher, true))).ok_or_else(unknown)
}

fn view(watcher: &SourceState, curves: bool) -> SourceView {
    let now = tokio::time::Instant::now();
    let source = &watcher.source;
    let schedule = watcher.schedule();
    let (watching, fetching) = schedule.open();
    SourceView {
        name: source.name.clone(),
        kind: source.config.profile.name().to_owned(),
        base_url: redact::url_text(source.base_url()),
        state: schedule.shown_state(now).as_str().to_owned(),
        paused_until: schedule.health.paused_until(now).map(|until| clock::now().after(until - now)),
        open_watches: (watching + fetching) as u64,
        max_requests_per_second: source.config.max_requests_per_second,
        requests: source.requests.get(),
        polling: polling(&schedule, curves, now),
        last_error: watcher.last_error(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts")]
fn polling(schedule: &Schedule, curves: bool, now: tokio::time::Instant) -> PollingView {
    let (stats, config) = (schedule.stats(), schedule.config());
    let (requests_per_second, budget_used) = schedule.budget_in_use(now);
    let each = |sum: f64, count: u64| (count > 0).then(|| sum / count as f64);
    PollingView {
        strategy: config.strategy.as_str().to_owned(),
        cost_of_a_poll_seconds: config.cost_of_a_poll.0.as_secs_f64(),
        requests_per_second,
        budget_used,
        finished: stats.jobs,
        polls_per_job: each(stats.polls as f64, stats.jobs),
        mean_delay_seconds: each(stats.delay, stats.timed),
        kinds: schedule.kinds(curves).into_iter().map(kind).collect(),
    }
}

fn kind(summary: KindSummary) -> KindView {
    let (survival, poll_ages) =
        summary.curves.map(|curves| (curves.survival, curves.polls)).unwrap_or_default();
    KindView {
        endpoint: summary.endpoint,
        label: summary.label,
        finishes: summary.finishes,
        median_seconds: summary.percentiles.map(|[median, _]| median),
        p90_seconds: summary.percentiles.map(|[_, p90]| p90),
        survival,
        poll_ages,
    }
}
