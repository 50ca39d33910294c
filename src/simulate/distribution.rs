//! How long jobs take: named distributions, mixtures of them, and measured durations.

use std::{collections::BTreeMap, fmt, str::FromStr};

use super::random::Random;
use Distribution::{Empirical, Exponential, Lognormal, Mixture, Normal, Pareto, Weibull};

/// A distribution of durations in seconds.
#[derive(Clone, Debug, PartialEq)]
pub enum Distribution {
    /// No memory: any moment is as good as any other.
    Exponential {
        /// The mean in seconds.
        mean: f64,
    },
    /// The logarithm is normal.
    Lognormal {
        /// The median in seconds.
        median: f64,
        /// The standard deviation of the logarithm.
        sigma: f64,
    },
    /// Ages with a power of time: shape 1 is exponential, 3 has a peak.
    Weibull {
        /// The shape.
        shape: f64,
        /// The age by which 63 % have ended, in seconds.
        scale: f64,
    },
    /// A tail like a power of time.
    Pareto {
        /// The power.
        shape: f64,
        /// The least duration in seconds.
        least: f64,
    },
    /// Around a fixed time.
    Normal {
        /// The mean in seconds.
        mean: f64,
        /// The standard deviation in seconds.
        sd: f64,
    },
    /// One of several, with these weights, which add up to one.
    Mixture(Vec<(f64, Distribution)>),
    /// Durations as measured, ascending, in seconds.
    Empirical(Vec<f64>),
}

impl Distribution {
    /// Creates a distribution from measured durations. It leaves out what is no duration.
    ///
    /// # Errors
    /// If nothing is left.
    pub fn empirical(durations: impl IntoIterator<Item = f64>) -> Result<Self, BadDistribution> {
        let mut sorted: Vec<f64> = durations.into_iter().filter(|d| d.is_finite() && *d >= 0.0).collect();
        sorted.sort_by(f64::total_cmp);
        match sorted.is_empty() {
            true => Err(BadDistribution("there is no duration".into())),
            false => Ok(Empirical(sorted)),
        }
    }

    /// Returns the probability that a job takes longer than `age` seconds.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts of durations")]
    pub fn survival(&self, age: f64) -> f64 {
        if age <= 0.0 {
            return 1.0;
        }
        match self {
            Exponential { mean } => (-age / mean).exp(),
            Lognormal { median, sigma } => normal_above((age / median).ln() / sigma),
            Weibull { shape, scale } => (-(age / scale).powf(*shape)).exp(),
            Pareto { shape, least } => (least / age).min(1.0).powf(*shape),
            Normal { mean, sd } => (normal_above((age - mean) / sd) / normal_above(-mean / sd)).min(1.0),
            Mixture(parts) => parts.iter().map(|(weight, part)| weight * part.survival(age)).sum(),
            Empirical(sorted) => {
                let ended = sorted.partition_point(|duration| *duration <= age);
                (sorted.len() - ended) as f64 / sorted.len() as f64
            }
        }
    }

    /// Draws a duration in seconds.
    pub fn sample(&self, random: &mut Random) -> f64 {
        match self {
            Exponential { mean } => mean * random.exponential(),
            Lognormal { median, sigma } => median * (sigma * random.normal()).exp(),
            Weibull { shape, scale } => scale * random.exponential().powf(1.0 / shape),
            Pareto { shape, least } => least * (1.0 - random.unit()).powf(-1.0 / shape),
            Normal { mean, sd } => loop {
                let duration = mean + sd * random.normal();
                if duration > 0.0 {
                    break duration;
                }
            },
            Mixture(parts) => {
                let mut left = random.unit();
                let part = parts.iter().find(|(weight, _)| {
                    left -= weight;
                    left < 0.0
                });
                part.or(parts.last()).map_or(0.0, |(_, part)| part.sample(random))
            }
            Empirical(sorted) => sorted[index(random.unit(), sorted.len())],
        }
    }

    /// Returns the longest measured duration in seconds, or `None` for a distribution with a
    /// formula.
    #[must_use]
    pub fn longest(&self) -> Option<f64> {
        match self {
            Empirical(sorted) => sorted.last().copied(),
            _ => None,
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "below len"
)]
fn index(unit: f64, len: usize) -> usize {
    ((unit * len as f64) as usize).min(len.saturating_sub(1))
}

/// Returns the probability that a standard normal is above `z`: erfc(z / √2) / 2, by its series in
/// the middle and by its continued fraction in the tails (Abramowitz and Stegun 7.1.6 and 7.1.14).
#[must_use]
pub fn normal_above(z: f64) -> f64 {
    if z < 0.0 {
        return 1.0 - normal_above(-z);
    }
    let density = (-z * z / 2.0).exp() / std::f64::consts::TAU.sqrt();
    if z < 3.5 {
        let (mut term, mut sum, mut n) = (z, z, 1.0);
        while term > 1e-17 {
            n += 2.0;
            term *= z * z / n;
            sum += term;
        }
        return 0.5 - density * sum;
    }
    let fraction = (1..60).rev().fold(z, |below, k| z + f64::from(k) / below);
    density / fraction
}

/// Why a text names no distribution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadDistribution(String);

impl fmt::Display for BadDistribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadDistribution {}

/// `NAME:key=value,…`, several of them joined by `+` with a weight before each:
/// `0.8*lognormal:median=8,sigma=0.25 + 0.2*lognormal:median=300,sigma=0.15`. `bimodal` alone is
/// that example. A lognormal takes its `mean` or its `median`.
impl FromStr for Distribution {
    type Err = BadDistribution;

    fn from_str(text: &str) -> Result<Self, BadDistribution> {
        if text.trim() == "bimodal" {
            return Self::from_str("0.8*lognormal:median=8,sigma=0.25 + 0.2*lognormal:median=300,sigma=0.15");
        }
        if !text.contains('*') {
            return single(text.trim());
        }
        let parts: Vec<(f64, Self)> = text.split('+').map(weighted).collect::<Result<_, _>>()?;
        let total: f64 = parts.iter().map(|(weight, _)| weight).sum();
        Ok(Mixture(parts.into_iter().map(|(weight, part)| (weight / total, part)).collect()))
    }
}

fn weighted(text: &str) -> Result<(f64, Distribution), BadDistribution> {
    let bad = || BadDistribution(format!("`{}` is not WEIGHT*DISTRIBUTION", text.trim()));
    let (weight, part) = text.split_once('*').ok_or_else(bad)?;
    let weight = weight.trim().parse().ok().filter(|weight| positive(*weight)).ok_or_else(bad)?;
    Ok((weight, single(part.trim())?))
}

fn positive(value: f64) -> bool {
    value.is_finite() && value > 0.0
}

fn single(text: &str) -> Result<Distribution, BadDistribution> {
    let (name, rest) = text.split_once(':').unwrap_or((text, ""));
    let mut values = BTreeMap::new();
    for pair in rest.split(',').filter(|pair| !pair.trim().is_empty()) {
        let value =
            pair.split_once('=').and_then(|(key, value)| Some((key, value.trim().parse::<f64>().ok()?)));
        let (key, value) = value
            .filter(|(_, value)| positive(*value))
            .ok_or_else(|| BadDistribution(format!("`{pair}` is not KEY=NUMBER with a number above zero")))?;
        values.insert(key.trim().to_owned(), value);
    }
    let mut take = |key: &str, default: f64| values.remove(key).unwrap_or(default);
    let found = match name.trim() {
        "exponential" => Exponential { mean: take("mean", 20.0) },
        "lognormal" => {
            let sigma = take("sigma", 0.5);
            // The mean of a lognormal is its median times exp(σ²/2).
            let from_mean = take("mean", f64::NAN) / (sigma * sigma / 2.0).exp();
            let median = take("median", 20.0);
            Lognormal { median: if from_mean.is_nan() { median } else { from_mean }, sigma }
        }
        "weibull" => Weibull { shape: take("shape", 3.0), scale: take("scale", 30.0) },
        "pareto" => Pareto { shape: take("shape", 1.5), least: take("least", 5.0) },
        "normal" => Normal { mean: take("mean", 60.0), sd: take("sd", 3.0) },
        other => return Err(BadDistribution(format!("`{other}` is no distribution: {NAMES}"))),
    };
    match values.into_keys().next() {
        Some(key) => Err(BadDistribution(format!("`{name}` has no `{key}`"))),
        None => Ok(found),
    }
}

/// The names and keys there are.
pub const NAMES: &str = "exponential:mean, lognormal:mean|median,sigma, weibull:shape,scale, pareto:shape,least, \
                         normal:mean,sd, bimodal, or WEIGHT*ONE + WEIGHT*ANOTHER";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_normal_tail_is_exact() {
        // Abramowitz and Stegun, table 26.1 and 26.2.
        for (z, above) in [(0.0, 0.5), (1.0, 0.158_655_253_931_457), (3.4, 3.369_292_656_768_8e-4)] {
            assert!((normal_above(z) / above - 1.0_f64).abs() < 1e-10, "{z}");
        }
        assert!((normal_above(5.0) / 2.866_515_718_791_94e-7 - 1.0).abs() < 1e-10);
        assert!((normal_above(3.499_999_9) / normal_above(3.5) - 1.0).abs() < 1e-5);
    }

    #[test]
    fn names_are_read() {
        let read = |text: &str| text.parse::<Distribution>();
        assert_eq!(read("lognormal:median=8,sigma=0.25"), Ok(Lognormal { median: 8.0, sigma: 0.25 }));
        let Ok(Lognormal { median, .. }) = read("lognormal:mean=20,sigma=0.5") else { panic!() };
        assert!((median - 17.65).abs() < 0.01);
        let found = read("bimodal");
        assert!(matches!(&found, Ok(Mixture(parts)) if parts.len() == 2), "{found:?}");
        for bad in ["", "lognormal:sigma=-1", "weibull:mean=3", "cauchy", "x*exponential", "normal:mean=NaN"]
        {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn samples_follow_their_survival() {
        let mut random = Random::new(1);
        let all =
            ["exponential", "lognormal", "lognormal:sigma=1.2", "weibull", "pareto", "bimodal", "normal"];
        for name in all {
            let distribution: Distribution = name.parse().unwrap();
            let samples: Vec<f64> = (0..20_000).map(|_| distribution.sample(&mut random)).collect();
            let measured = Distribution::empirical(samples).unwrap();
            for age in [2.0, 6.0, 8.0, 20.0, 57.0, 61.0, 290.0] {
                let off = (measured.survival(age) - distribution.survival(age)).abs();
                assert!(off < 0.015, "{name} at {age}: {off}");
            }
        }
    }
}
