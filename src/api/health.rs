//! Probes and metrics: how everything is doing.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};

use super::{
    Api,
    view::{BreakerState, Readiness, SinkState},
};
use crate::{clock, schedule::State as SourceState};

/// Whether the process is alive. Also while it drains.
#[utoipa::path(get, path = "/healthz", tag = "health", responses((status = 200, body = String)))]
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether a job can be accepted durably.
#[utoipa::path(
    get, path = "/readyz", tag = "health",
    responses(
        (status = 200, body = Readiness, description = "Jobs are accepted; `degraded` when a source or a sink is in trouble"),
        (status = 503, body = Readiness, description = "Jobs are not accepted"),
    )
)]
pub(super) async fn readyz(State(api): State<Arc<Api>>) -> (StatusCode, Json<Readiness>) {
    let mut broken = Vec::new();
    if !*api.loaded.borrow() {
        broken.push("the store is being loaded".to_owned());
    }
    if api.stop.is_cancelled() {
        broken.push("it is stopping".to_owned());
    }
    if let Some(trouble) = api.store.trouble() {
        broken.push(trouble.to_string());
    }
    if let Err(error) = api.store.check_space() {
        broken.push(error.to_string());
    }
    if !broken.is_empty() {
        let answer = Readiness { status: "unavailable".to_owned(), reasons: broken };
        return (StatusCode::SERVICE_UNAVAILABLE, Json(answer));
    }
    let live = api.live();
    let sources = live.followers.values().filter_map(|follower| {
        let state = follower.schedule().shown_state(tokio::time::Instant::now());
        let error = follower.last_error().unwrap_or_default();
        (state != SourceState::Ok)
            .then(|| format!("source `{}` is {}: {error}", follower.source.name, state.as_str()))
    });
    let sinks = live.couriers.views().into_iter().filter(|sink| sink.state == SinkState::Failing);
    let sinks =
        sinks.map(|sink| format!("sink `{}` is failing: {}", sink.name, sink.last_error.unwrap_or_default()));
    let reasons: Vec<String> = sources.chain(sinks).collect();
    let status = if reasons.is_empty() { "ready" } else { "degraded" };
    (StatusCode::OK, Json(Readiness { status: status.to_owned(), reasons }))
}

/// Counters and gauges in the Prometheus text format.
#[utoipa::path(get, path = "/metrics", tag = "health", responses((status = 200, body = String)))]
pub(super) async fn metrics(State(api): State<Arc<Api>>) -> Response {
    api.measure();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], api.metrics.render())
        .into_response()
}

impl Api {
    /// Sets the gauges to what is now.
    pub(crate) fn measure(&self) {
        let live = self.live();
        for follower in live.followers.values() {
            let (watching, fetching) = follower.schedule().open();
            let (name, sources) = (follower.source.name.as_str(), &self.metrics.sources);
            let gauge = |phase| sources.open_watches.with_label_values(&[name, phase]);
            gauge("watching").set(i64::try_from(watching).unwrap_or(i64::MAX));
            gauge("fetching").set(i64::try_from(fetching).unwrap_or(i64::MAX));
            let now = tokio::time::Instant::now();
            let (state, budget) = {
                let schedule = follower.schedule();
                (schedule.shown_state(now), schedule.budget_in_use(now).0)
            };
            for known in SourceState::ALL {
                sources.state.with_label_values(&[name, known.as_str()]).set(i64::from(known == state));
            }
            sources.request_budget.with_label_values(&[name]).set(budget);
        }
        for sink in live.couriers.views() {
            let pending = i64::try_from(sink.pending).unwrap_or(i64::MAX);
            let name = [sink.name.as_str()];
            self.metrics.sinks.pending.with_label_values(&name).set(pending);
            let age = sink.oldest_pending_at.map_or(0.0, |made| clock::age(made).as_secs_f64());
            self.metrics.sinks.oldest_pending.with_label_values(&name).set(age);
            let failing = i64::from(sink.state == SinkState::Failing);
            self.metrics.sinks.failing.with_label_values(&name).set(failing);
            let open = i64::from(sink.breaker != BreakerState::Closed);
            self.metrics.sinks.breaker_open.with_label_values(&name).set(open);
            self.metrics.sinks.paused.with_label_values(&name).set(i64::from(sink.paused_at.is_some()));
        }
        self.metrics.spool_bytes.set(i64::try_from(self.store.spool().bytes()).unwrap_or(i64::MAX));
        self.metrics.store_healthy.set(i64::from(self.store.is_healthy()));
        self.metrics.unreadable_records.set(i64::try_from(self.store.unreadable()).unwrap_or(i64::MAX));
    }
}
