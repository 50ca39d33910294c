//! The model of one source: all kinds of its jobs.

use std::collections::HashMap;

use super::{
    decide::{NextPoll, Policy, Situation, decide},
    forecast::{Forecast, Progress},
    kind::{JobKind, RunEnd},
};

/// The key of a kind of job.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The endpoint that the job was created at.
    pub endpoint: String,
    /// The value of the label that separates kinds, if one is configured.
    pub label: Option<String>,
}

/// The most clocks of all kinds together. A kind has one, or three if its jobs tell when they
/// started.
pub const MAX_CLOCKS: usize = 256;

/// The kinds of one source, and their parent: all of its jobs together.
#[derive(Clone, Debug, Default)]
pub struct Model {
    kinds: HashMap<Key, JobKind>,
    parent: JobKind,
    rebuilt: usize,
}

impl Model {
    /// Records that a job is still running at `time` (seconds on a clock that does not go back).
    /// `before` is its progress before.
    pub fn record_running(&mut self, key: &Key, before: Progress, now: Progress, time: f64) {
        self.parent.record_running(before, now);
        self.kind(key, time).record_running(before, now);
    }

    /// Records that a job finished: see [`JobKind::record_finished`].
    pub fn record_finished(
        &mut self,
        key: &Key,
        [before, now]: [Progress; 2],
        end: RunEnd,
        random: f64,
        time: f64,
    ) {
        self.parent.record_finished(before, now, end, random);
        self.kind(key, time).record_finished(before, now, end, random);
    }

    /// Records an end whose source sends hooks, and whether a hook announced it before a poll found
    /// it.
    pub fn record_hook(&mut self, key: &Key, is_announced: bool, time: f64) {
        self.parent.hooks.record(is_announced);
        self.kind(key, time).hooks.record(is_announced);
    }

    /// Returns the share of ends of a kind to expect without a hook (0 to 1). A source may send hooks
    /// for some of its operations only, so each kind learns this for itself, from its parent on.
    #[must_use]
    pub fn missed(&self, key: &Key) -> f64 {
        let parent = self.parent.hooks.missed(1.0);
        // A kind that is better known than its parent counts alone, and a new one begins as its parent
        // is, but no better.
        self.kinds
            .get(key)
            .map_or(parent, |kind| kind.hooks.missed(1.0).min(kind.hooks.missed(parent).max(parent)))
    }

    /// Returns the curves of a kind as of `time`. An unknown kind has its parent's.
    pub fn forecast(&mut self, key: &Key, theta: f64, time: f64) -> Forecast {
        let parent = counted(&mut self.rebuilt, &mut self.parent, time, theta, None);
        match self.kinds.get_mut(key) {
            Some(kind) => {
                kind.used = kind.used.max(time);
                counted(&mut self.rebuilt, kind, time, theta, Some(&parent))
            }
            None => parent,
        }
    }

    /// Returns the number of curves built so far. Each takes about a tenth of a millisecond, so a
    /// caller that decides many polls in a row can stop in time.
    #[must_use]
    pub fn rebuilt(&self) -> usize {
        self.rebuilt
    }

    /// Decides the next poll of a job of a kind.
    pub fn next_poll(&mut self, key: &Key, policy: &Policy, job: &Situation, time: f64) -> NextPoll {
        decide(&self.forecast(key, policy.theta, time), policy, job)
    }

    /// Returns all kinds, in no order.
    pub fn kinds(&self) -> impl Iterator<Item = (&Key, &JobKind)> {
        self.kinds.iter()
    }

    /// Returns all jobs of the source as one kind.
    #[must_use]
    pub fn parent(&self) -> &JobKind {
        &self.parent
    }

    /// Creates a model from its parts. Kinds beyond the bound are left out.
    #[must_use]
    pub fn from_parts(parent: JobKind, kinds: impl IntoIterator<Item = (Key, JobKind)>) -> Self {
        let empty = Self { parent, ..Self::default() };
        let most = empty.most();
        Self { kinds: kinds.into_iter().take(most).collect(), ..empty }
    }

    /// Returns the memory in bytes, without the keys.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.parent.bytes() + self.kinds.values().map(JobKind::bytes).sum::<usize>()
    }

    /// Returns the most kinds that fit beside the parent.
    fn most(&self) -> usize {
        MAX_CLOCKS / self.parent.clocks().count() - 1
    }

    fn kind(&mut self, key: &Key, time: f64) -> &mut JobKind {
        if !self.kinds.contains_key(key) {
            self.make_room();
        }
        let kind = self.kinds.entry(key.clone()).or_default();
        kind.used = kind.used.max(time);
        kind
    }

    /// Removes the least recently used kinds until there is room for another.
    fn make_room(&mut self) {
        while self.kinds.len() >= self.most() {
            let oldest = self.kinds.iter().min_by(|a, b| a.1.used.total_cmp(&b.1.used));
            let Some(oldest) = oldest.map(|(key, _)| key.clone()) else { return };
            self.kinds.remove(&oldest);
        }
    }
}

/// Returns a forecast, and counts the curves that it builds.
fn counted(
    rebuilt: &mut usize,
    kind: &mut JobKind,
    time: f64,
    theta: f64,
    parent: Option<&Forecast>,
) -> Forecast {
    let before = kind.built_at(time);
    let forecast = kind.forecast(time, theta, parent);
    *rebuilt += kind.built_at(time).saturating_sub(before);
    forecast
}
