//! What the daemon sees of itself: the last hour, and what is wrong now.
//!
//! Nothing that polls or delivers knows of it. It reads what is counted and shown anyway, once a second for the problems
//! and at the end of each minute for the history.

pub(crate) mod history;
pub(crate) mod problems;

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;

use self::{
    history::{History, Mishap, Sample, SourceSample},
    problems::{CurrentProblem, Onsets},
};
use super::AppState;
use crate::{
    model::{job::Outcome, sink::SinkStatus},
    telemetry::lines_dropped,
    util::{clock, units::Time},
};

/// What the daemon sees of itself.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    history: Mutex<History>,
    onsets: Mutex<Onsets>,
    /// When and why the last reload was refused; unset once one succeeded.
    refused_reload: Mutex<Option<(Time, String)>>,
    /// When the health of everything was last compared, and what it was.
    health: Mutex<Option<(Instant, u64)>>,
    /// The overview as it was last computed.
    pub(crate) overview: tokio::sync::Mutex<Option<Snapshot>>,
}

/// An answer that is kept for everybody who asks within a second.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    /// When it was computed.
    pub(crate) made: Instant,
    /// The state of the store that it shows.
    pub(crate) revision: u64,
    pub(crate) body: Bytes,
    pub(crate) etag: String,
}

impl Observed {
    pub(crate) fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn onsets(&self) -> MutexGuard<'_, Onsets> {
        self.onsets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refused_reload(&self) -> Option<(Time, String)> {
        self.refused_reload.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes how a reload ended: why it was refused, if it was.
    pub(crate) fn note_reload(&self, refused: Option<String>) {
        let refused = refused.map(|why| (clock::now(), why));
        *self.refused_reload.lock().unwrap_or_else(PoisonError::into_inner) = refused;
    }
}

/// The least time between two comparisons of the health of everything.
const HEALTH_EVERY: Duration = Duration::from_millis(500);

impl AppState {
    /// Notes since when problems last, and what was counted in a minute that has ended. To be called once a second.
    pub(crate) fn observe(&self) {
        let sinks = self.components().sinks.health();
        let now = clock::steady();
        if self.observed.history().is_due(now) {
            self.observed.history().record(self.sample(&sinks), now);
        }
        drop(self.problems_of(&sinks));
    }

    /// Returns a number that changes with the health of any source or sink, and with what is wrong. It is computed at most
    /// twice a second, however many ask.
    pub(crate) fn health_mark(&self) -> u64 {
        let mut kept = self.observed.health.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, mark)) = *kept
            && at.elapsed() < HEALTH_EVERY
        {
            return mark;
        }
        let (live, now) = (self.components(), Instant::now());
        let sinks = live.sinks.health();
        let mut hasher = DefaultHasher::new();
        self.problems_of(&sinks).hash(&mut hasher);
        for sink in &sinks {
            let waits = (sink.paused_at.is_some(), sink.quiet_until.is_some());
            (&sink.name, sink.state.as_str(), sink.breaker.as_str(), waits).hash(&mut hasher);
        }
        for (name, watcher) in &live.watchers {
            (name, watcher.schedule().shown_state(now).as_str()).hash(&mut hasher);
        }
        let mark = hasher.finish();
        *kept = Some((now, mark));
        mark
    }

    /// Returns what is wrong now, worst first.
    pub(crate) fn problems(&self) -> Vec<CurrentProblem> {
        self.problems_of(&self.components().sinks.health())
    }

    /// Does the same with the health of the sinks as it was read.
    pub(crate) fn problems_of(&self, sinks: &[SinkStatus]) -> Vec<CurrentProblem> {
        let mut problems = problems::find(self, sinks);
        self.observed.onsets().see(&mut problems, clock::now());
        problems
    }

    /// Returns what is counted since the start.
    pub(crate) fn sample(&self, sinks: &[SinkStatus]) -> Sample {
        let live = self.components();
        let now = Instant::now();
        let metrics = &self.metrics;
        let mut ended = [0; Outcome::ALL.len()];
        let (mut sources, mut unrouted) = (BTreeMap::new(), 0);
        for (name, watcher) in &live.watchers {
            for (sum, outcome) in ended.iter_mut().zip(Outcome::ALL) {
                *sum += metrics.sources.events.with_label_values(&[name.as_str(), outcome.as_str()]).get();
            }
            unrouted += metrics.sources.unrouted.with_label_values(&[name.as_str()]).get();
            let source = SourceSample {
                requests: watcher.source.requests.get(),
                rate: watcher.budget.in_use(now).0,
                budget: watcher.budget.name().map(str::to_owned),
            };
            sources.insert(name.clone(), source);
        }
        let mishap = |mishap| match mishap {
            Mishap::Unrouted => unrouted,
            Mishap::LineDropped => lines_dropped().get(),
            Mishap::Panic => metrics.panics.get(),
        };
        Sample {
            ended,
            detection: metrics.sources.detection_delays.counts(),
            delivery: metrics.sinks.delays.counts(),
            sources,
            pending: sinks.iter().map(|sink| (sink.name.clone(), sink.pending)).collect(),
            mishaps: Mishap::ALL.map(mishap),
        }
    }
}
