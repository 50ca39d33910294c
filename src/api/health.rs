//! Probes and metrics: how everything is doing.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};

use super::{Api, access, problem::Problem, view::Readiness};
use crate::{
    model::sink::{BreakerState, SinkState},
    schedule::HealthState,
    util::clock,
};

/// Whether the process is alive. Also while it drains.
#[utoipa::path(get, path = "/healthz", tag = "health", responses((status = 200, body = String)))]
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether a job can be accepted durably. `details` come with the token, or without one over loopback and the unix socket.
#[utoipa::path(
    get, path = "/readyz", tag = "health",
    responses(
        (status = 200, body = Readiness, description = "Jobs are accepted; `degraded` when a source or a sink fails"),
        (status = 503, body = Readiness, description = "Jobs are not accepted"),
    )
)]
pub(super) async fn readyz(State(api): State<Arc<Api>>, request: Request) -> (StatusCode, Json<Readiness>) {
    let broken = api.broken();
    let (code, status, reasons) = if broken.is_empty() {
        let failing = api.failing();
        let status = if failing.is_empty() { "ready" } else { "degraded" };
        (StatusCode::OK, status, failing)
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "unavailable", broken)
    };
    let (reasons, details): (Vec<_>, Vec<_>) = reasons.into_iter().map(|it| (it.code, it.detail)).unzip();
    let details = if access::may_see_details(&api, &request) { details } else { Vec::new() };
    (code, Json(Readiness { status: status.to_owned(), reasons, details }))
}

/// Why the daemon is not `ready`: a code that anybody may see, and words with names, paths and errors in them.
struct Reason {
    code: String,
    detail: String,
}

impl Reason {
    fn new(code: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { code: code.into(), detail: detail.into() }
    }
}

impl Api {
    /// Why no job is accepted.
    fn broken(&self) -> Vec<Reason> {
        let mut broken = Vec::new();
        if !*self.loaded.borrow() {
            broken.push(Reason::new("store_loading", "the store is being loaded"));
        }
        if self.stop.is_cancelled() {
            broken.push(Reason::new("stopping", "it is stopping"));
        }
        for trouble in self.store.trouble().into_iter().chain(self.store.check_space().err()) {
            let detail = trouble.to_string();
            broken.push(Reason::new(Problem::from(trouble).code().as_str(), detail));
        }
        broken
    }

    /// The sources and the sinks that fail.
    fn failing(&self) -> Vec<Reason> {
        let (live, now) = (self.live(), tokio::time::Instant::now());
        let sources = live.followers.values().filter_map(|follower| {
            let (name, state) = (&follower.source.name, follower.schedule().shown_state(now));
            let error = follower.last_error().unwrap_or_default();
            let detail = format!("source `{name}` is {}: {error}", state.as_str());
            let code = format!("source_{}:{name}", state.as_str());
            (state != HealthState::Ok).then(|| Reason::new(code, detail))
        });
        let sinks = live.sinks.statuses().into_iter().filter(|sink| sink.state == SinkState::Failing);
        let sinks = sinks.map(|sink| {
            let error = sink.last_error.unwrap_or_default();
            let detail = format!("sink `{}` is failing: {error}", sink.name);
            Reason::new(format!("sink_failing:{}", sink.name), detail)
        });
        sources.chain(sinks).collect()
    }
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
            for known in HealthState::ALL {
                sources.state.with_label_values(&[name, known.as_str()]).set(i64::from(known == state));
            }
            sources.request_budget.with_label_values(&[name]).set(budget);
        }
        for sink in live.sinks.statuses() {
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
