//! `/v1/overview`: the daemon at one glance, computed at most once a second however many ask.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, sleep_until};

use super::{
    AppState, accept, sources,
    view::{
        DeliveryCounts, HistoryView, OverviewView, PercentilesView, ProblemView, SinkView, SubjectView,
        WatchCounts,
    },
};
use crate::{
    model::{
        job::{Outcome, Phase},
        sink::SinkStatus,
    },
    state::{
        StartStage,
        observed::{
            Snapshot,
            history::{Hour, LastHour, STEP},
            problems::{CurrentProblem, Severity, Subject, state_word},
        },
    },
    util::{clock, units::Time},
};

/// The least time between two computations.
const EVERY: Duration = Duration::from_secs(1);

/// Show the daemon at one glance: counts, problems with their remedies, and the last hour.
///
/// The answer is computed at most once a second. One that lacks a change of the store is not shown
/// again: the request then waits for the next.
#[utoipa::path(
    get, path = "/v1/overview", tag = "overview",
    params(("If-None-Match" = Option<String>, Header, description = "The `ETag` of the last answer")),
    responses(
        (status = 200, body = OverviewView, description = "With an ETag, which covers everything but `at`"),
        (status = 304, description = "Nothing changed since the answer that If-None-Match names"),
    )
)]
pub(super) async fn overview(State(state): State<Arc<AppState>>, headers: HeaderMap) -> Response {
    let Snapshot { body, etag, .. } = current(&state).await;
    let caching = [(header::ETAG, etag.clone()), (header::CACHE_CONTROL, "no-cache".to_owned())];
    if accept::has(&headers, &etag) {
        return (StatusCode::NOT_MODIFIED, caching).into_response();
    }
    (caching, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// Returns a snapshot that lacks no change of the store. All requests share it.
async fn current(state: &AppState) -> Snapshot {
    let mut kept = state.observed.overview.lock().await;
    if let Some(snapshot) = &*kept
        && snapshot.made.elapsed() < EVERY
    {
        if snapshot.revision == state.store.revision() {
            return snapshot.clone();
        }
        sleep_until(snapshot.made + EVERY).await;
    }
    let made = Instant::now();
    let revision = state.store.revision();
    let mut view = view(state).await;
    let at = std::mem::replace(&mut view.at, Time(0));
    let etag = etag(&json(&view));
    view.at = at;
    kept.insert(Snapshot { made, revision, body: json(&view), etag }).clone()
}

fn json(view: &OverviewView) -> Bytes {
    // A value of texts and numbers always becomes JSON.
    serde_json::to_vec(view).unwrap_or_default().into()
}

/// Returns the tag of an answer without its time.
fn etag(timeless: &[u8]) -> String {
    let digest = Sha256::digest(timeless);
    format!("\"{}\"", data_encoding::HEXLOWER.encode(&digest[..16]))
}

async fn view(state: &AppState) -> OverviewView {
    let live = state.components();
    let sinks = live.sinks.statuses().await;
    let problems = state.problems_of(&sinks);
    let counts = state.store.counts();
    let in_phase = |phase| counts.as_ref().map(|counts| counts.in_phase(phase));
    let open = live.watchers.values().map(|watcher| watcher.schedule().open());
    let (watching, fetching) =
        open.fold((0, 0), |sum, (watching, fetching)| (sum.0 + watching as u64, sum.1 + fetching as u64));
    // While they are scheduled, a part of them would be shown as the whole.
    let is_loaded = *state.start.borrow() == StartStage::Loaded;
    OverviewView {
        at: clock::now(),
        started_at: state.started_at,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        state: state_word(&problems).to_owned(),
        watches: WatchCounts {
            // Those of a source that is not configured count, too, once the store knows.
            watching: in_phase(Phase::Watching).or(is_loaded.then_some(watching)),
            fetching: in_phase(Phase::Fetching).or(is_loaded.then_some(fetching)),
            delivering: in_phase(Phase::Delivering),
            done: in_phase(Phase::Done),
            dead: in_phase(Phase::Dead),
        },
        deliveries: DeliveryCounts {
            pending: sinks.iter().map(|sink| sink.pending).sum(),
            in_flight: sinks.iter().map(|sink| sink.in_flight).sum(),
            dead: counts.as_ref().map(|counts| counts.dead.values().sum()),
        },
        problems: problems.into_iter().map(ProblemView::from).collect(),
        sources: live.watchers.values().map(|watcher| sources::view(watcher, false)).collect(),
        history: history(state, &sinks),
        sinks: sinks.into_iter().map(SinkView::from).collect(),
    }
}

fn history(state: &AppState, sinks: &[SinkStatus]) -> HistoryView {
    let moment = clock::moment();
    let sample = state.sample(sinks);
    let mut history = state.observed.history();
    history.record(sample, moment.steady);
    // A sample was recorded just now.
    let hour = history.last_hour(moment.steady).unwrap_or_else(LastHour::empty);
    drop(history);
    let each = |seconds: Hour<[Option<f32>; 2]>| PercentilesView {
        median: seconds.map(|[median, _]| median).into(),
        p99: seconds.map(|[_, p99]| p99).into(),
    };
    let outcomes = Outcome::ALL.iter().zip(hour.ended);
    let rounded = |share: f32| (share * 1000.0).round() / 1000.0;
    let series = |(name, values): (String, Hour<u32>)| (name, Vec::from(values));
    HistoryView {
        step_seconds: STEP.as_secs(),
        from: whole_seconds(moment.wall.before(hour.age)),
        ended: outcomes.map(|(outcome, counts)| (outcome.as_str().to_owned(), counts.into())).collect(),
        detection_seconds: each(hour.detection),
        delivery_seconds: each(hour.delivery),
        requests: hour.requests.into_iter().map(series).collect(),
        budget_used: hour
            .budget_used
            .into_iter()
            .map(|(name, shares)| (name, shares.map(rounded).into()))
            .collect(),
        pending: hour.pending.into_iter().map(series).collect(),
    }
}

/// Rounds a time, so that the reading of two clocks does not change it.
fn whole_seconds(time: Time) -> Time {
    Time(time.0.saturating_add(500).div_euclid(1000).saturating_mul(1000))
}

impl From<CurrentProblem> for ProblemView {
    fn from(problem: CurrentProblem) -> Self {
        let CurrentProblem { code, severity, subject, since, summary, remedy, .. } = problem;
        let severity = match severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let (kind, name) = match subject {
            Subject::Daemon => ("daemon", None),
            Subject::Store => ("store", None),
            Subject::Source(name) => ("source", Some(name)),
            Subject::Sink(name) => ("sink", Some(name)),
        };
        Self {
            code: code.to_owned(),
            severity: severity.to_owned(),
            subject: SubjectView { kind: kind.to_owned(), name },
            since,
            summary,
            remedy,
        }
    }
}
