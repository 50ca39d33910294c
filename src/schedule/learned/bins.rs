//! Ages in logarithmic bins: from a quarter of a second to a week, each 2 % wider than the one
//! before.

use std::sync::LazyLock;

/// The number of bins. The first holds every age below [`FIRST`], the last every age above its
/// lower edge.
pub const BINS: usize = 744;
/// The upper edge of the first bin, in seconds.
pub const FIRST: f64 = 0.25;
/// The factor by which each bin is wider than the one before.
pub const RATIO: f64 = 1.02;

static EDGES: LazyLock<Vec<f64>> = LazyLock::new(|| {
    let above = std::iter::successors(Some(FIRST), |edge| Some(edge * RATIO));
    std::iter::once(0.0).chain(above).take(BINS + 1).collect()
});

/// Returns the edges of all bins in seconds, ascending: bin `i` lies between edge `i` and edge `i +
/// 1`.
#[must_use]
pub fn edges() -> &'static [f64] {
    &EDGES
}

/// Returns the bin of an age in seconds. A negative age, or one that is not a number, counts as
/// zero.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "at least zero; the cast saturates"
)]
pub fn bin(age: f64) -> usize {
    if age.is_nan() || age < FIRST {
        return 0;
    }
    let steps = (age / FIRST).ln() / RATIO.ln();
    (steps as usize).saturating_add(1).min(BINS - 1)
}

/// Returns an age that can be computed with: finite, not negative, at most a thousand years of
/// seconds.
#[must_use]
pub fn age(seconds: f64) -> f64 {
    within(seconds, 0.0, 3.2e10)
}

/// Clamps like `f64::clamp`, but turns what is not a number into `low`.
#[must_use]
pub fn within(value: f64, low: f64, high: f64) -> f64 {
    if value.is_nan() { low } else { value.clamp(low, high) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bins_cover_a_week() {
        assert_eq!(edges().len(), BINS + 1);
        assert!(edges()[BINS - 1] < 7.0 * 86_400.0 && edges()[BINS] > 7.0 * 86_400.0);
        for i in 0..BINS {
            assert_eq!(bin(f64::midpoint(edges()[i], edges()[i + 1])), i);
        }
    }

    #[test]
    fn what_is_no_age_has_a_bin() {
        assert_eq!([f64::NAN, -1.0, f64::NEG_INFINITY].map(bin), [0; 3]);
        assert_eq!(bin(f64::INFINITY), BINS - 1);
        assert!([f64::NAN, -1.0].map(age).iter().all(|age| *age == 0.0));
        assert!(age(f64::INFINITY).is_finite());
    }
}
