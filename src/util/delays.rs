//! A histogram of delays in fixed room: four buckets for each doubling, from a millisecond to more than a day.

use std::sync::atomic::{AtomicU64, Ordering};

/// Buckets: one for less than a millisecond, and four for each of 27 doublings of it.
const BUCKETS: usize = 1 + 4 * 27;

/// Delays that were observed since the start.
#[derive(Debug)]
pub struct Delays([AtomicU64; BUCKETS]);

impl Default for Delays {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Delays {
    /// Counts a delay in seconds.
    pub fn observe(&self, seconds: f64) {
        self.0[bucket(seconds)].fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the counts up to now.
    #[must_use]
    pub fn counts(&self) -> DelayCounts {
        DelayCounts(std::array::from_fn(|at| self.0[at].load(Ordering::Relaxed)))
    }
}

/// Counts of delays at one moment, or between two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DelayCounts([u64; BUCKETS]);

impl Default for DelayCounts {
    fn default() -> Self {
        Self([0; BUCKETS])
    }
}

impl DelayCounts {
    /// Returns what was counted since `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self(std::array::from_fn(|at| self.0[at].saturating_sub(before.0[at])))
    }

    /// Returns the delay in seconds that this share (0 to 1) of the delays does not exceed, within a tenth of it;
    /// `None` without any.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a count"
    )]
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let all: u64 = self.0.iter().sum();
        let wanted = ((all as f64 * share).ceil() as u64).max(1);
        let mut counted = 0;
        let at = self.0.iter().position(|count| {
            counted += count;
            counted >= wanted
        })?;
        Some(middle(at))
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it lies within the buckets, and a number that is none becomes zero"
)]
fn bucket(seconds: f64) -> usize {
    let millis = seconds * 1000.0;
    if millis < 1.0 { 0 } else { ((millis.log2() * 4.0) as usize).saturating_add(1).min(BUCKETS - 1) }
}

/// Returns the geometric middle of a bucket in seconds, to three digits.
#[expect(clippy::cast_precision_loss, reason = "a small number")]
fn middle(bucket: usize) -> f64 {
    if bucket == 0 {
        return 0.0005;
    }
    let seconds = ((bucket as f64 - 0.5) / 4.0).exp2() / 1000.0;
    let digits = 10_f64.powf(2.0 - seconds.log10().floor());
    (seconds * digits).round() / digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_within_a_tenth() {
        for seconds in [0.001, 0.0023, 0.05, 0.3, 1.0, 7.0, 61.0, 3600.0, 90_000.0] {
            let delays = Delays::default();
            delays.observe(seconds);
            let found = delays.counts().quantile(0.5).unwrap();
            assert!((found / seconds - 1.0).abs() < 0.1, "{seconds} {found}");
        }
    }

    #[test]
    fn the_rank_decides() {
        let delays = Delays::default();
        assert_eq!(delays.counts().quantile(0.5), None);
        for _ in 0..98 {
            delays.observe(0.0);
        }
        let before = delays.counts();
        delays.observe(10.0);
        delays.observe(100.0);
        let counts = delays.counts();
        assert_eq!(counts.quantile(0.5), Some(0.0005));
        assert_eq!(counts.quantile(0.98), Some(0.0005));
        let (late, last) = (counts.quantile(0.99).unwrap(), counts.quantile(1.0).unwrap());
        assert!(late > 9.0 && late < 11.0 && last > 90.0, "{late} {last}");
        assert_eq!(counts.since(&before).quantile(0.01), Some(late));
    }

    #[test]
    fn odd_numbers_break_nothing() {
        let delays = Delays::default();
        for odd in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, f64::MAX] {
            delays.observe(odd);
        }
        assert!(delays.counts().quantile(1.0).unwrap() > 86_400.0);
    }
}
