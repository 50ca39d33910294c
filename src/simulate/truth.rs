//! A known distribution in fine steps, and the cost of a schedule of polls under it.

use crate::schedule::learned::curve::Curve;

use super::distribution::Distribution;

/// The time between a request and its answer, in seconds. The status is read half way.
pub const ROUND_TRIP: f64 = 0.05;
/// The shortest time between two polls, in seconds.
pub const LEAST_INTERVAL: f64 = 0.25;
/// Jobs rarer than this are left out of a sum.
const NEGLIGIBLE: f64 = 1e-9;
/// Jobs rarer than this do not matter to a percentile.
const RARE: f64 = 1e-5;
/// The longest age computed with, in seconds: four months.
const LONGEST: f64 = 1e7;

/// The true survival curve of a distribution.
pub type Truth = Curve<Vec<f64>>;

/// Returns the true curve in steps of a ten-thousandth of the age, at least five milliseconds.
#[must_use]
pub fn truth(distribution: &Distribution) -> Truth {
    let end = distribution.longest().map_or(LONGEST, |longest| longest + 1.0);
    let ages = std::iter::successors(Some(0.0_f64), |age| {
        let rare = distribution.survival(*age) < NEGLIGIBLE / 10.0 || *age > end;
        (!rare).then(|| age + (age * 1e-4).max(0.005))
    });
    let ages: Vec<f64> = ages.collect();
    let survival: Vec<f64> = ages.iter().map(|age| distribution.survival(*age)).collect();
    Curve::new(ages, survival)
}

/// The cost of a policy per job.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PolicyCost {
    /// Polls.
    pub polls: f64,
    /// The average time from the end of a job to the answer that tells it, in seconds.
    pub delay: f64,
}

impl PolicyCost {
    /// Returns polls and delay in one figure, in seconds. θ is what a poll is worth.
    #[must_use]
    pub fn cost(&self, theta: f64) -> f64 {
        theta * self.polls + self.delay
    }

    /// Returns the average of several.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a count")]
    pub fn mean(all: &[Self]) -> Self {
        let count = all.len().max(1) as f64;
        let mean = |of: fn(&Self) -> f64| all.iter().map(of).sum::<f64>() / count;
        Self { polls: mean(|one| one.polls), delay: mean(|one| one.delay) }
    }
}

/// Returns the polls of one policy: the ages at which the status is read, until hardly a job is
/// left. `first` is the first age, and `next` returns the next one from the last.
#[must_use]
pub fn schedule(truth: &Truth, first: f64, mut next: impl FnMut(f64) -> f64) -> Vec<f64> {
    let mut polls = Vec::new();
    let mut age = first;
    while polls.len() < 20_000_000 {
        polls.push(age);
        if truth.survival(age) < NEGLIGIBLE || age > LONGEST {
            break;
        }
        age = next(age).max(age + 1e-3);
    }
    polls
}

/// Returns the exact cost of a schedule: N = Σ S(sₖ₋₁) and D = Σ ∫ (S(sₖ₋₁) − S(t)) dt, plus half a
/// round trip.
#[must_use]
pub fn evaluate(truth: &Truth, schedule: &[f64]) -> PolicyCost {
    let (mut polls, mut delay, mut last) = (0.0, 0.0, (0.0, 1.0, 0.0));
    for age in schedule {
        let (from, alive, passed) = last;
        let (survival, integral) = (truth.survival(*age), truth.integral(*age));
        polls += alive;
        delay += (age - from) * alive - (integral - passed);
        last = (*age, survival, integral);
    }
    PolicyCost { polls, delay: delay + ROUND_TRIP / 2.0 }
}

/// Returns the delay in seconds that this share of the jobs stays below, over equally likely
/// schedules.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "a count")]
pub fn percentile(truth: &Truth, schedules: &[Vec<f64>], share: f64) -> f64 {
    let common = |polls: &Vec<f64>| polls.partition_point(|age| truth.survival(*age) > RARE) + 1;
    let ends: Vec<usize> = schedules.iter().map(|polls| common(polls).min(polls.len())).collect();
    let above = |delay: f64| {
        let of = |(polls, end): (&Vec<f64>, &usize)| {
            let polls = &polls[..*end];
            let from = std::iter::once(&0.0).chain(polls);
            let long = from.zip(polls).filter(|(from, to)| *to - *from > delay);
            long.map(|(from, to)| truth.survival(*from) - truth.survival(to - delay)).sum::<f64>()
        };
        schedules.iter().zip(&ends).map(of).sum::<f64>() / schedules.len().max(1) as f64
    };
    let (mut low, mut high) = (0.0, 1e4);
    for _ in 0..40 {
        let middle = f64::midpoint(low, high);
        if above(middle) > 1.0 - share { low = middle } else { high = middle }
    }
    high + ROUND_TRIP / 2.0
}

/// Returns the argument at which a rising or falling positive function takes a value, by halving on
/// a log scale.
pub fn solve(low: f64, high: f64, rising: bool, mut reaches: impl FnMut(f64) -> bool) -> f64 {
    let (mut low, mut high) = (low, high);
    while high / low > 1.000_05 {
        let middle = (low * high).sqrt();
        if reaches(middle) == rising { high = middle } else { low = middle }
    }
    (low * high).sqrt()
}
