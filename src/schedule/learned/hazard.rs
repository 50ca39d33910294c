//! Turns counts into a hazard: the probability that a job of some age ends in the next moment.

use super::{
    bins::{BINS, edges},
    counts::Counts,
};

/// The widest window around a bin, in bins to either side: twice and half its age at a ratio of
/// 1.02.
const WIDEST: usize = 35;
/// A window also holds this share of all finishes, which keeps the curve of a well known kind
/// smooth.
const SMOOTH: f64 = 0.05;
/// This many finishes, seen or expected, make a window wide enough.
const ENOUGH: f64 = 8.0;
/// The age at which the prior's survival is one half, in seconds.
pub const PRIOR_MEDIAN: f64 = 10.0;

/// Returns the general prior as the cumulative hazard over each bin: a survival of 10 / (t + 10),
/// which fits every scale.
#[must_use]
pub fn prior() -> Vec<f64> {
    edges().windows(2).map(|edge| ((edge[1] + PRIOR_MEDIAN) / (edge[0] + PRIOR_MEDIAN)).ln()).collect()
}

/// Returns the cumulative hazard over each bin. `prior` is the hazard believed before anything was
/// seen; it counts for so many `jobs` at every age.
///
/// Around each bin a window widens until it holds enough. The quotient of the finishes seen in it
/// and those that the prior expects corrects the prior. So the prior gives the shape where little
/// was seen, and the counts where much was.
#[must_use]
pub fn hazard(counts: &Counts, prior: &[f64], jobs: f64) -> Vec<f64> {
    let ends: Vec<f64> = counts.ends().collect();
    // A job that ends in a bin ran through half of it.
    let alive = counts.running_through().zip(&ends).map(|(alive, ends)| alive + ends / 2.0);
    let seen = Sums::new(ends.iter().copied());
    let expected = Sums::new(alive.zip(prior).map(|(alive, prior)| alive * prior));
    let believed = Sums::new(prior.iter().copied());
    let enough = ENOUGH.max(SMOOTH * seen.within(0, BINS - 1));
    let off = |bin: usize| {
        let (low, high) =
            window(bin, |low, high| seen.within(low, high) >= enough || expected.within(low, high) >= ENOUGH);
        let belief = jobs * believed.within(low, high);
        (seen.within(low, high) + belief) / (expected.within(low, high) + belief)
    };
    prior.iter().enumerate().map(|(bin, prior)| prior * off(bin)).collect()
}

/// Returns the narrowest window around a bin that is wide enough, or the widest.
fn window(bin: usize, wide_enough: impl Fn(usize, usize) -> bool) -> (usize, usize) {
    let around = |width: usize| (bin.saturating_sub(width), (bin + width).min(BINS - 1));
    let (mut least, mut most) = (0, WIDEST);
    while least < most {
        let (low, high) = around(usize::midpoint(least, most));
        match wide_enough(low, high) {
            true => most = usize::midpoint(least, most),
            false => least = usize::midpoint(least, most) + 1,
        }
    }
    around(least)
}

/// Prefix sums, so that the sum of any range costs one subtraction.
struct Sums(Vec<f64>);

impl Sums {
    fn new(values: impl Iterator<Item = f64>) -> Self {
        let sums = values.scan(0.0, |sum, value| {
            *sum += value;
            Some(*sum)
        });
        Self(std::iter::once(0.0).chain(sums).collect())
    }

    /// Returns the sum of the values from `low` to `high`, both included.
    fn within(&self, low: usize, high: usize) -> f64 {
        self.0[high + 1] - self.0[low]
    }
}
