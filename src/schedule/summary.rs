//! What the API shows of a schedule: the learned model and its cost.

use tokio::time::Instant;

use super::{
    PollingConfig, PollingStats, Schedule,
    learned::{
        curve::Curve,
        kind::JobKind,
        model::{Key, Model},
    },
};

/// The most points of a curve that are shown.
const POINTS: usize = 60;
/// The most kinds that are shown with more than their number of finishes: each may need a curve to
/// be built.
const DESCRIBED: usize = 50;
/// The most polls that are shown.
const SHOWN_POLLS: usize = 40;

/// What is shown of one kind of job.
#[derive(Clone, Debug)]
pub struct KindSummary {
    /// The operation, or empty while the source tells none.
    pub endpoint: String,
    /// The value of the label that separates kinds.
    pub label: Option<String>,
    /// The finished jobs that were learned from.
    pub finishes: u64,
    /// The ages in seconds that half and a tenth of the jobs reach. Only for the kinds with the
    /// most finishes.
    pub percentiles: Option<[f64; 2]>,
    /// The curve, if it was asked for.
    pub curves: Option<CurveSummary>,
}

/// A survival curve, and the polls of a fresh job. All in seconds.
#[derive(Clone, Debug)]
pub struct CurveSummary {
    /// Ages, each with the share of jobs that is still running.
    pub survival: Vec<(f64, f64)>,
    /// The ages at the polls.
    pub polls: Vec<f64>,
}

impl Schedule {
    /// Returns the configuration of the schedule.
    #[must_use]
    pub fn config(&self) -> &PollingConfig {
        &self.config
    }

    /// Returns what finished jobs cost since the start.
    #[must_use]
    pub fn stats(&self) -> PollingStats {
        self.learner.stats
    }

    /// Returns the requests a second that are allowed now, and the share of them that was sent
    /// recently (0 to 1).
    #[must_use]
    pub fn budget_in_use(&self, now: Instant) -> (f64, f64) {
        self.claim.budget().in_use(now)
    }

    /// Returns the kinds that were learned from, those with the most finishes first.
    #[must_use]
    pub fn kinds(&self, curves: bool) -> Vec<KindSummary> {
        let kinds = self.learner.model.kinds().filter(|(_, kind)| kind.finishes() > 0);
        let mut kinds: Vec<(&Key, &JobKind)> = kinds.collect();
        kinds.sort_by_key(|(key, kind)| (std::cmp::Reverse(kind.finishes()), *key));
        let described = |(at, (key, kind)): (usize, _)| self.summarize(key, kind, at < DESCRIBED, curves);
        kinds.into_iter().enumerate().map(described).collect()
    }

    fn summarize(&self, key: &Key, kind: &JobKind, described: bool, curves: bool) -> KindSummary {
        let policy = &self.learner.policy;
        let curve = described.then(|| kind.curve());
        KindSummary {
            endpoint: key.endpoint.clone(),
            label: key.label.clone(),
            finishes: kind.finishes(),
            percentiles: curve.as_ref().map(|curve| [curve.age_at(0.5), curve.age_at(0.1)]),
            curves: curve.filter(|_| curves).map(|curve| shown(&curve, policy.theta, policy.min_interval)),
        }
    }

    /// Returns the number of observations. An unchanged number means an unchanged model.
    #[must_use]
    pub fn lessons(&self) -> u64 {
        self.learner.lessons
    }

    /// Returns the learned model.
    #[must_use]
    pub fn model(&self) -> &Model {
        &self.learner.model
    }

    /// Restores the model that was saved before a restart.
    pub fn restore(&mut self, model: Model) {
        self.learner.model = model;
    }
}

/// Thins the curve out, up to the age that few jobs reach, and lists the polls until then.
fn shown(curve: &Curve, theta: f64, least: f64) -> CurveSummary {
    let few = curve.age_at(0.01);
    let points: Vec<(f64, f64)> = curve.points().take_while(|(age, _)| *age <= few * 1.02).collect();
    let survival = points.iter().copied().step_by((points.len() / POINTS).max(1)).collect();
    let next = |age: &f64| Some(curve.next(*age, theta).max(age + least));
    let polls =
        std::iter::successors(next(&0.0), next).take_while(|age| *age <= few * 1.02).take(SHOWN_POLLS);
    CurveSummary { survival, polls: polls.collect() }
}
