//! Observations of one kind of job: how many ended at each age, and how many ran through it.

use super::bins::{BINS, bin};

/// Counts over age bins. An observation loses half of its weight with every `half_life` finishes.
///
/// The decay is forward: new observations weigh more, instead of all old ones weighing less. So
/// each costs the same, whatever came before (Cormode et al., "Forward Decay", ICDE 2009).
#[derive(Clone, Debug, PartialEq)]
pub struct Counts {
    /// The weight of the finishes in each bin. Bins beyond the end are empty.
    ends: Vec<f32>,
    /// The change of the weight of running jobs at the lower edge of each bin.
    steps: Vec<f32>,
    /// The weight of the next observation.
    weight: f64,
    /// The factor by which the weight grows with each finish.
    growth: f64,
}

/// The weight at which everything is scaled back to one, long before an `f32` loses precision.
const HEAVY: f64 = 1e6;

impl Counts {
    /// Creates empty counts. `half_life` is in finishes.
    #[must_use]
    pub fn new(half_life: f64) -> Self {
        let growth = 2.0_f64.powf(1.0 / half_life.max(1.0));
        Self { ends: Vec::new(), steps: Vec::new(), weight: 1.0, growth }
    }

    /// Records that a job ran from one age to another (seconds).
    pub fn record_running(&mut self, from: f64, to: f64) {
        let (from, to) = (bin(from), bin(to));
        if from < to {
            add(&mut self.steps, from, self.weight);
            add(&mut self.steps, to, -self.weight);
        }
    }

    /// Records that a job last known running at `from` finished at the age `at` (seconds).
    pub fn record_finish(&mut self, from: f64, at: f64) {
        self.record_running(from, at);
        add(&mut self.ends, bin(at), self.weight);
        self.weight *= self.growth;
        if self.weight > HEAVY {
            self.rescale();
        }
    }

    fn rescale(&mut self) {
        let scale = self.scale();
        for value in self.ends.iter_mut().chain(&mut self.steps) {
            *value = narrow(f64::from(*value) * scale);
        }
        self.weight = 1.0;
    }

    fn scale(&self) -> f64 {
        1.0 / self.weight
    }

    /// Returns the finishes in each bin. The next finish counts as one.
    pub fn ends(&self) -> impl Iterator<Item = f64> {
        let scale = self.scale();
        padded(&self.ends).map(move |value| value * scale)
    }

    /// Returns the jobs that ran through each bin, on the same scale.
    pub fn running_through(&self) -> impl Iterator<Item = f64> {
        let scale = self.scale();
        padded(&self.steps).scan(0.0, move |alive, step| {
            *alive += step;
            // Sums of rounded weights may end slightly below zero.
            Some((*alive * scale).max(0.0))
        })
    }

    /// Restores saved counts: the finishes in each bin and the jobs running through it, on the
    /// scale of [`Counts::ends`].
    pub fn restore(&mut self, ends: &[f64], alive: &[f64]) {
        self.weight = 1.0;
        self.ends = ends.iter().map(|value| narrow(*value)).collect();
        let before = std::iter::once(&0.0).chain(alive);
        self.steps = alive.iter().zip(before).map(|(now, before)| narrow(now - before)).collect();
    }

    /// Returns the memory in bytes, without this record.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        (self.ends.capacity() + self.steps.capacity()) * size_of::<f32>()
    }
}

fn padded(values: &[f32]) -> impl Iterator<Item = f64> {
    values.iter().copied().chain(std::iter::repeat(0.0)).take(BINS).map(f64::from)
}

fn add(values: &mut Vec<f32>, at: usize, weight: f64) {
    if at >= values.len() {
        // Exact: most kinds never grow again after their first jobs.
        values.reserve_exact(at + 1 - values.len());
        values.resize(at + 1, 0.0);
    }
    if let Some(value) = values.get_mut(at) {
        *value = narrow(f64::from(*value) + weight);
    }
}

#[expect(clippy::cast_possible_truncation, reason = "seven digits of a weight are plenty")]
fn narrow(value: f64) -> f32 {
    value as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finish_halves_in_weight_after_its_half_life() {
        let mut counts = Counts::new(100.0);
        counts.record_finish(0.0, 5.0);
        for _ in 0..100 {
            counts.record_finish(0.0, 50.0);
        }
        let ends: Vec<f64> = counts.ends().collect();
        // The scale is that of the next finish: the first lies 101 behind it.
        assert!((ends[bin(5.0)] - 0.5 * 0.5_f64.powf(0.01)).abs() < 1e-6);
    }

    #[test]
    fn nothing_overflows_and_the_sum_settles() {
        let mut counts = Counts::new(50.0);
        for _ in 0..100_000 {
            counts.record_finish(0.0, 20.0);
        }
        let total: f64 = counts.ends().sum();
        let limit = 1.0 / (2.0_f64.powf(0.02) - 1.0);
        assert!((total / limit - 1.0).abs() < 1e-3, "{total} is not {limit}");
    }

    #[test]
    fn the_jobs_alive_are_counted_between_their_ages() {
        let mut counts = Counts::new(1e9);
        counts.record_running(0.0, 10.0);
        counts.record_running(10.0, 20.0);
        counts.record_finish(20.0, 30.0);
        let alive: Vec<f64> = counts.running_through().collect();
        for (age, expected) in [(0.1, 1.0), (15.0, 1.0), (29.0, 1.0), (31.0, 0.0)] {
            assert!((alive[bin(age)] - expected).abs() < 1e-5, "at {age}");
        }
    }
}
