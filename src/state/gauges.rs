//! The gauges, set from the state of the daemon when somebody reads them.

use super::AppState;
use crate::{
    model::sink::{BreakerState, SinkState},
    schedule::HealthState,
    util::clock,
};

impl AppState {
    /// Sets the gauges to their current values.
    pub(crate) async fn refresh_metrics(&self) {
        let live = self.components();
        for watcher in live.watchers.values() {
            let (watching, fetching) = watcher.schedule().open();
            let (name, sources) = (watcher.source.name.as_str(), &self.metrics.sources);
            let gauge = |phase| sources.open_watches.with_label_values(&[name, phase]);
            gauge("watching").set(i64::try_from(watching).unwrap_or(i64::MAX));
            gauge("fetching").set(i64::try_from(fetching).unwrap_or(i64::MAX));
            let now = tokio::time::Instant::now();
            let (state, budget) = {
                let schedule = watcher.schedule();
                (schedule.shown_state(now), schedule.budget_in_use(now).0)
            };
            for known in HealthState::ALL {
                sources.state.with_label_values(&[name, known.as_str()]).set(i64::from(known == state));
            }
            sources.request_budget.with_label_values(&[name]).set(budget);
        }
        for sink in live.sinks.statuses().await {
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
        self.refresh_lease();
        self.metrics.spool_bytes.set(i64::try_from(self.store.bodies().bytes()).unwrap_or(i64::MAX));
        self.metrics.store_healthy.set(i64::from(self.store.is_healthy()));
        self.metrics.unreadable_records.set(i64::try_from(self.store.unreadable()).unwrap_or(i64::MAX));
    }

    /// Shows what a lease on a database allows. A data folder needs none.
    fn refresh_lease(&self) {
        let Some(left) = self.store.term().left() else { return };
        self.metrics.active.set(i64::from(!left.is_zero()));
        match self.store.epoch() {
            // The database was away since the start.
            0 => self.metrics.replica.set_relay(),
            epoch => self.metrics.replica.set_owner(left, epoch, self.units().len()),
        }
    }
}
