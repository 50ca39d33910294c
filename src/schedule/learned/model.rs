//! All kinds of job of one source.

use std::collections::HashMap;

use super::{
    decide::{NextPoll, Policy, Situation, decide},
    forecast::{Forecast, Progress},
    kind::{JobKind, RunEnd},
};

/// Which jobs are of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The endpoint that the job was made at.
    pub endpoint: String,
    /// The value of the label that tells kinds apart, where one is configured.
    pub label: Option<String>,
}

/// The most clocks of all kinds together. A kind has one, or three where its jobs tell when they started.
pub const MAX_CLOCKS: usize = 256;

/// The kinds of one source, and their parent: all its jobs taken together.
#[derive(Clone, Debug, Default)]
pub struct Model {
    kinds: HashMap<Key, JobKind>,
    parent: JobKind,
    rebuilt: usize,
}

impl Model {
    /// A job was seen alive at `time` (seconds on a clock that does not go back). `before` is what was known of it.
    pub fn record_running(&mut self, key: &Key, before: Progress, now: Progress, time: f64) {
        self.parent.record_running(before, now);
        self.kind(key, time).record_running(before, now);
    }

    /// A job was seen to have ended: see [`JobKind::ended`].
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

    /// The curves of a kind as of `time`. An unknown kind has its parent's.
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

    /// How many curves were built so far: each takes about a tenth of a millisecond, so whoever decides many looks in
    /// a row stops in time.
    #[must_use]
    pub fn rebuilt(&self) -> usize {
        self.rebuilt
    }

    /// The next look at a job of a kind.
    pub fn next_poll(&mut self, key: &Key, policy: &Policy, job: &Situation, time: f64) -> NextPoll {
        decide(&self.forecast(key, policy.theta, time), policy, job)
    }

    /// All kinds, in no order.
    pub fn kinds(&self) -> impl Iterator<Item = (&Key, &JobKind)> {
        self.kinds.iter()
    }

    /// All jobs of the source taken together.
    #[must_use]
    pub fn parent(&self) -> &JobKind {
        &self.parent
    }

    /// A model from its parts. Kinds over the bound are left out.
    #[must_use]
    pub fn from_parts(parent: JobKind, kinds: impl IntoIterator<Item = (Key, JobKind)>) -> Self {
        let empty = Self { parent, ..Self::default() };
        let most = empty.most();
        Self { kinds: kinds.into_iter().take(most).collect(), ..empty }
    }

    /// The memory it holds in bytes, the keys not included.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.parent.bytes() + self.kinds.values().map(JobKind::bytes).sum::<usize>()
    }

    /// How many kinds there may be: the parent needs room, too.
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

    /// Lets go of the kinds that were not used for the longest time, until there is room for another.
    fn make_room(&mut self) {
        while self.kinds.len() >= self.most() {
            let oldest = self.kinds.iter().min_by(|a, b| a.1.used.total_cmp(&b.1.used));
            let Some(oldest) = oldest.map(|(key, _)| key.clone()) else { return };
            self.kinds.remove(&oldest);
        }
    }
}

/// A forecast; what it builds is counted.
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
