//! One clock of one kind of job: what was seen on it and the curve learned from that.

use std::sync::Arc;

use super::{
    bins::edges,
    counts::Counts,
    curve::Curve,
    hazard::{hazard, prior},
};

/// How long the two memories are, as half-lives in finishes.
const HALF_LIVES: [f64; 2] = [1000.0, 50.0];
/// How many jobs the general prior counts for.
const PRIOR_JOBS: f64 = 0.3;
/// How many jobs what lasts counts for with the recent counts.
const LASTING_JOBS: f64 = 2.0;
/// After so many finishes a new clock believes its own counts as much as its parent's curve.
const INHERITED: f64 = 20.0;
/// A curve is rebuilt no more often than this, in seconds.
const REBUILD_AFTER: f64 = 1.0;
/// A curve is rebuilt even with nothing new: its parent may have learned.
const REBUILD_ANYWAY: f64 = 60.0;

/// What was seen on one clock, and its curve.
#[derive(Clone, Debug)]
pub struct Clock {
    slow: Counts,
    fast: Counts,
    finishes: u64,
    changed: bool,
    built: Option<(f64, Arc<Curve>)>,
}

impl Default for Clock {
    fn default() -> Self {
        let [slow, fast] = HALF_LIVES.map(Counts::new);
        Self { slow, fast, finishes: 0, changed: false, built: None }
    }
}

impl Clock {
    /// A job was seen alive at the age `to`, and at the age `from` before that (seconds).
    pub fn record_running(&mut self, from: f64, to: f64) {
        self.slow.record_running(from, to);
        self.fast.record_running(from, to);
        self.changed = true;
    }

    /// A job last seen alive at the age `from` finished at the age `at` (seconds).
    pub fn record_finish(&mut self, from: f64, at: f64) {
        self.slow.record_finish(from, at);
        self.fast.record_finish(from, at);
        self.finishes = self.finishes.saturating_add(1);
        self.changed = true;
    }

    /// How many finishes it has learned from.
    #[must_use]
    pub fn finishes(&self) -> u64 {
        self.finishes
    }

    /// The curve as of `now` (seconds on any clock that does not go back), rebuilt when it is due. A new clock starts
    /// from its parent's curve.
    pub fn curve(&mut self, now: f64, parent: Option<&Curve>) -> Arc<Curve> {
        if let Some((at, curve)) = &self.built
            && (now - at < REBUILD_AFTER || !self.changed && now - at < REBUILD_ANYWAY)
        {
            return curve.clone();
        }
        let curve = Arc::new(self.build(parent));
        self.built = Some((now, curve.clone()));
        self.changed = false;
        curve
    }

    /// The curve as it was last built, if it ever was, and when that was.
    #[must_use]
    pub fn latest(&self) -> Option<(f64, &Arc<Curve>)> {
        self.built.as_ref().map(|(at, curve)| (*at, curve))
    }

    /// The curve learned so far: the mean of a lasting and of a recent one.
    ///
    /// What was seen recently takes what lasts for its prior. While nothing changes both agree, and the curve is as fine
    /// as many finishes allow; when something changes, few are enough to say by how much.
    #[must_use]
    pub fn build(&self, parent: Option<&Curve>) -> Curve {
        let lasting = hazard(&self.slow, &prior(), PRIOR_JOBS);
        let recent = hazard(&self.fast, &lasting, LASTING_JOBS);
        let [slow, fast] = [&lasting, &recent].map(|hazard| survival(hazard));
        let own = slow.iter().zip(&fast).map(|(slow, fast)| f64::midpoint(*slow, *fast));
        let Some(parent) = parent else { return Curve::new(edges(), own) };
        let share = inherited(self.finishes);
        let mix = |(own, (_, parent)): (f64, (f64, f64))| share * parent + (1.0 - share) * own;
        Curve::new(edges(), own.zip(parent.points()).map(mix))
    }

    /// The counts that remember long and those that remember shortly.
    #[must_use]
    pub fn counts(&self) -> [&Counts; 2] {
        [&self.slow, &self.fast]
    }

    /// A clock from saved counts: for each memory the finishes in and the jobs alive through each bin.
    #[must_use]
    pub fn restore(finishes: u64, saved: &[[Vec<f64>; 2]; 2]) -> Self {
        let mut clock = Self { finishes, ..Self::default() };
        for (counts, [ends, alive]) in [&mut clock.slow, &mut clock.fast].into_iter().zip(saved) {
            counts.restore(ends, alive);
        }
        clock
    }

    /// The memory it holds in bytes, its own record included.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let curve = self.built.as_ref().map_or(0, |(_, curve)| size_of::<Curve>() + curve.heap_bytes());
        size_of::<Self>() + self.slow.heap_bytes() + self.fast.heap_bytes() + curve
    }
}

/// How much of its parent's curve is in that of a clock with so many finishes: all at first, half after
/// [`INHERITED`], soon nothing.
#[expect(clippy::cast_precision_loss, reason = "a count")]
fn inherited(finishes: u64) -> f64 {
    1.0 / (1.0 + (finishes as f64 / INHERITED).powi(2))
}

/// The survival at each edge, from the cumulative hazard over each bin.
fn survival(hazard: &[f64]) -> Vec<f64> {
    let passed = hazard.iter().scan(0.0, |sum, hazard| {
        *sum += hazard;
        Some(*sum)
    });
    std::iter::once(0.0).chain(passed).map(|sum: f64| (-sum).exp()).collect()
}
