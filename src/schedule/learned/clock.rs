//! One clock of one kind of job: its observations, and the curve learned from them.

use std::sync::Arc;

use super::{
    bins::edges,
    counts::Counts,
    curve::Curve,
    hazard::{hazard, prior},
};

/// The length of the two memories, as half-lives in finishes.
const HALF_LIVES: [f64; 2] = [1000.0, 50.0];
/// The number of jobs that the general prior counts for.
const PRIOR_JOBS: f64 = 0.3;
/// The number of jobs that the lasting counts stand for beside the recent ones.
const LASTING_JOBS: f64 = 2.0;
/// After this many finishes a new clock trusts its own counts as much as its parent's curve.
const INHERITED: f64 = 20.0;
/// The shortest time between two builds of a curve, in seconds.
const REBUILD_AFTER: f64 = 1.0;
/// The time after which a curve is rebuilt without news, in seconds: its parent may have learned.
const REBUILD_ANYWAY: f64 = 60.0;

/// The observations on one clock, and its curve.
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
    /// Records that a job was running at the age `to`, and at the age `from` before that (seconds).
    pub fn record_running(&mut self, from: f64, to: f64) {
        self.slow.record_running(from, to);
        self.fast.record_running(from, to);
        self.changed = true;
    }

    /// Records that a job last seen running at the age `from` finished at the age `at` (seconds).
    pub fn record_finish(&mut self, from: f64, at: f64) {
        self.slow.record_finish(from, at);
        self.fast.record_finish(from, at);
        self.finishes = self.finishes.saturating_add(1);
        self.changed = true;
    }

    /// Returns the number of finishes that it has learned from.
    #[must_use]
    pub fn finishes(&self) -> u64 {
        self.finishes
    }

    /// Returns the curve as of `now` (seconds on any clock that does not go back), rebuilt if that
    /// is due. A new clock starts from its parent's curve.
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

    /// Returns the curve as it was last built, and when.
    #[must_use]
    pub fn latest(&self) -> Option<(f64, &Arc<Curve>)> {
        self.built.as_ref().map(|(at, curve)| (*at, curve))
    }

    /// Builds the curve: the average of a lasting and of a recent one.
    ///
    /// The recent counts take the lasting ones as their prior. While nothing changes both agree,
    /// and the curve is as fine as many finishes allow. When something changes, a few finishes are
    /// enough to show by how much.
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

    /// Returns the counts with the long memory and those with the short one.
    #[must_use]
    pub fn counts(&self) -> [&Counts; 2] {
        [&self.slow, &self.fast]
    }

    /// Restores a clock from saved counts: for each memory the finishes in each bin and the jobs
    /// running through it.
    #[must_use]
    pub fn restore(finishes: u64, saved: &[[Vec<f64>; 2]; 2]) -> Self {
        let mut clock = Self { finishes, ..Self::default() };
        for (counts, [ends, alive]) in [&mut clock.slow, &mut clock.fast].into_iter().zip(saved) {
            counts.restore(ends, alive);
        }
        clock
    }

    /// Returns the memory in bytes, with this record.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let curve = self.built.as_ref().map_or(0, |(_, curve)| size_of::<Curve>() + curve.heap_bytes());
        size_of::<Self>() + self.slow.heap_bytes() + self.fast.heap_bytes() + curve
    }
}

/// Returns the share of its parent's curve in that of a clock with so many finishes: all at first,
/// half after [`INHERITED`], soon nothing.
#[expect(clippy::cast_precision_loss, reason = "a count")]
fn inherited(finishes: u64) -> f64 {
    1.0 / (1.0 + (finishes as f64 / INHERITED).powi(2))
}

/// Returns the survival at each edge, from the cumulative hazard over each bin.
fn survival(hazard: &[f64]) -> Vec<f64> {
    let passed = hazard.iter().scan(0.0, |sum, hazard| {
        *sum += hazard;
        Some(*sum)
    });
    std::iter::once(0.0).chain(passed).map(|sum: f64| (-sum).exp()).collect()
}
