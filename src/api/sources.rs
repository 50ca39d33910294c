//! `/v1/sources`: shows the health of the sources and the learned statistics of their jobs, and
//! reconciles by their lists.

use std::{sync::Arc, time::Duration};

use axum::{Json, extract::State, http::StatusCode};

use super::{
    AppState,
    body::Input,
    problem::{Code, Name, Problem, Query, bad_parameter, unknown_parameter},
    requests::{list, named_kind},
    view::{HooksView, KindView, Page, PollingView, ReconcileRequest, ReconcileView, SourceView},
};
use crate::{
    schedule::{KindSummary, Schedule},
    util::{
        clock, redact,
        units::{HumanDuration, Time},
    },
    watcher::{ReconcileRequest as Reconcile, SourceState},
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
    watcher(&state, &name).map(|watcher| Json(view(&watcher, true)))
}

/// Returns the watcher of the source that a path names.
fn watcher(state: &AppState, name: &str) -> Result<Arc<SourceState>, Problem> {
    let live = state.components();
    let known = || list(live.watchers.keys().map(String::as_str));
    let unknown = || {
        Problem::in_path(Code::UnknownSource, format!("there is no source `{name}`; there are {}", known()))
    };
    live.watchers.get(name).cloned().ok_or_else(unknown)
}

/// Find jobs that have finished while nobody watched them, by the list of the source.
///
/// The daemon registers them, and polls, fetches and delivers them as any other job. Jobs that are or
/// were watched stay as they are. One reconciliation of a source runs at a time.
#[utoipa::path(
    post, path = "/v1/sources/{name}/reconcile", tag = "sources", params(("name" = String, Path)),
    request_body = ReconcileRequest,
    responses(
        (status = 202, body = ReconcileView, description = "It began; GET on the same path shows how far it is"),
        (status = 404, body = super::view::Problem, description = "There is no such source"),
        (status = 409, body = super::view::Problem, description = "Another reconciliation of the source goes on"),
        (status = 422, body = super::view::Problem),
    )
)]
pub(super) async fn reconcile(
    State(state): State<Arc<AppState>>,
    Name(name): Name,
    Input(asked): Input<ReconcileRequest>,
) -> Result<(StatusCode, Json<ReconcileView>), Problem> {
    let watcher = watcher(&state, &name)?;
    let now = clock::now();
    let since = match asked.since.as_deref() {
        None => now.before(DEFAULT_SINCE),
        Some(text) => past(text, now)?,
    };
    let kinds = match (asked.kind, &watcher.source.config.discover) {
        (Some(kind), _) => {
            named_kind(&state, &name, &kind)?;
            vec![Some(kind)]
        }
        (None, Some(discover)) if !discover.kinds.is_empty() => {
            discover.kinds.iter().cloned().map(Some).collect()
        }
        (None, _) => vec![watcher.source.default_kind().name().map(str::to_owned)],
    };
    for kind in &kinds {
        watcher.check_list(kind.as_deref()).map_err(|detail| Problem::new(Code::NoList, detail))?;
    }
    let request = Reconcile { since, dry_run: asked.dry_run, kinds };
    match watcher.lists.begin_reconciliation(request) {
        Ok(begun) => Ok((StatusCode::ACCEPTED, Json(ReconcileView::of(&name, begun)))),
        Err(present) => Err(Problem::new(
            Code::ReconcileRunning,
            format!("a reconciliation of `{name}` goes on; it has checked {} jobs so far", present.checked),
        )),
    }
}

/// Show how far the last reconciliation of a source is.
#[utoipa::path(
    get, path = "/v1/sources/{name}/reconcile", tag = "sources", params(("name" = String, Path)),
    responses(
        (status = 200, body = ReconcileView),
        (status = 404, body = super::view::Problem, description = "There is no such source, or no reconciliation of it since the start"),
    )
)]
pub(super) async fn reconciliation(
    State(state): State<Arc<AppState>>,
    Name(name): Name,
) -> Result<Json<ReconcileView>, Problem> {
    let last = watcher(&state, &name)?.lists.reconciliation();
    let none = || {
        let detail = format!("no reconciliation of `{name}` since the daemon started");
        Problem::new(Code::NoReconciliation, detail)
    };
    last.map(|last| Json(ReconcileView::of(&name, last))).ok_or_else(none)
}

/// The time that a reconciliation goes back unless the request says another.
const DEFAULT_SINCE: Duration = Duration::from_hours(7 * 24);

/// Reads a duration before now, or a time.
fn past(text: &str, now: Time) -> Result<Time, Problem> {
    let at = match (Time::parse(text), text.parse::<HumanDuration>()) {
        (Some(at), _) => at,
        (None, Ok(span)) => now.before(span.0),
        (None, Err(reason)) => {
            let detail = format!("`since`: {reason}, or a time such as 2026-11-23T17:00:00Z");
            return Err(Problem::new(Code::InvalidBody, detail));
        }
    };
    match at > now {
        true => Err(Problem::new(Code::InvalidBody, "`since` is in the future")),
        false => Ok(at),
    }
}

pub(super) fn view(watcher: &SourceState, curves: bool) -> SourceView {
    let now = tokio::time::Instant::now();
    let source = &watcher.source;
    let schedule = watcher.schedule();
    let (watching, fetching) = schedule.open();
    SourceView {
        name: source.name.clone(),
        kind: source.config.profile.name().to_owned(),
        kinds: source.kinds().iter().filter_map(|kind| kind.name().map(str::to_owned)).collect(),
        base_url: redact::url_text(source.base_url()),
        state: schedule.shown_state(now).as_str().to_owned(),
        paused_until: schedule.paused_until(now).map(|until| clock::now().after(until - now)),
        open_watches: (watching + fetching) as u64,
        max_requests_per_second: watcher.budget.max_requests_per_second(),
        budget: watcher.budget.name().map(str::to_owned),
        requests: source.requests.get(),
        polling: polling(&schedule, curves, now),
        last_error: watcher.last_error(),
        list: source
            .kinds()
            .iter()
            .any(|kind| kind.profile.list.is_some())
            .then(|| watcher.lists.stats().into()),
        hooks: source.hooks.as_ref().map(|_| hooks(watcher, &schedule)),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a count")]
fn hooks(watcher: &SourceState, schedule: &Schedule) -> HooksView {
    let (received, last_at) = watcher.hooks.verified();
    let (refused, last_refusal) = watcher.hooks.refused();
    let (stats, reliability) = schedule.hooks();
    HooksView {
        received,
        last_at,
        refused,
        last_refusal,
        announced: stats.announced,
        missed: stats.missed,
        reliability,
        mean_delay_seconds: (stats.timed > 0).then(|| stats.delay / stats.timed as f64),
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
