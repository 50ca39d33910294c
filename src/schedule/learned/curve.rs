//! A survival curve, in the form in which the next poll is found fast.

use super::{bins::age as sane, hazard::PRIOR_MEDIAN};

/// A survival curve: the probability that a job still runs at each age. Immutable, and straight
/// between its points.
///
/// All ages are in seconds. Beyond its last point a curve falls like the prior, as 1 / (t + 10).
#[derive(Clone, Debug, PartialEq)]
pub struct Curve<A = &'static [f64]> {
    ages: A,
    points: Vec<Point>,
}

/// A survival, and its integral from zero.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Point {
    survival: f64,
    integral: f64,
}

/// A place on the curve: its position, and the slope until the next point.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// The number of the first point behind it.
    next: usize,
    age: f64,
    at: Point,
    fall: f64,
}

/// The smallest survival that is kept. Below it nothing is learned, and quotients lose their
/// meaning.
const LEAST: f64 = 1e-12;

impl<A: AsRef<[f64]>> Curve<A> {
    /// Creates a curve through the survival at each of these ages, which ascend from zero.
    #[must_use]
    pub fn new(ages: A, survival: impl IntoIterator<Item = f64>) -> Self {
        let mut points: Vec<Point> = Vec::with_capacity(ages.as_ref().len());
        let (mut last, mut integral, mut before) = (1.0_f64, 0.0, 0.0);
        for (age, survival) in ages.as_ref().iter().zip(survival) {
            let survival = survival.max(LEAST).min(last);
            integral += (age - before) * f64::midpoint(last, survival);
            points.push(Point { survival, integral });
            (last, before) = (survival, *age);
        }
        Self { ages, points }
    }

    fn age_of(&self, point: usize) -> f64 {
        self.ages.as_ref()[point]
    }

    /// Returns the place at a point.
    fn at_point(&self, point: usize) -> Place {
        let (age, at) = (self.age_of(point), self.points[point]);
        let fall = self.points.get(point + 1).map_or(at.survival / (age + PRIOR_MEDIAN), |next| {
            (at.survival - next.survival) / (self.age_of(point + 1) - age)
        });
        Place { next: point + 1, age, at, fall }
    }

    fn place(&self, age: f64) -> Place {
        let ages = &self.ages.as_ref()[..self.points.len()];
        let next = ages.partition_point(|edge| *edge <= age).max(1);
        let start = self.at_point(next - 1);
        let passed = age - start.age;
        let at = match next < self.points.len() {
            true => {
                let survival = start.at.survival - start.fall * passed;
                Point {
                    survival,
                    integral: start.at.integral + passed * f64::midpoint(start.at.survival, survival),
                }
            }
            false => beyond(start.at, start.age, age),
        };
        let fall = if next < self.points.len() { start.fall } else { at.survival / (age + PRIOR_MEDIAN) };
        Place { next, age, at, fall }
    }

    /// Returns the probability that a job still runs at an age.
    #[must_use]
    pub fn survival(&self, age: f64) -> f64 {
        self.place(sane(age)).at.survival
    }

    /// Returns the integral of the survival from zero to an age, in seconds.
    #[must_use]
    pub fn integral(&self, age: f64) -> f64 {
        self.place(sane(age)).at.integral
    }

    /// Returns the average time for which a result has been waiting at the age `x`, over the jobs
    /// that still ran at the age `u`: A(u, x) = (x − u) − (G(x) − G(u)) / S(u) seconds, where G is
    /// the integral of S.
    #[must_use]
    pub fn waiting(&self, u: f64, x: f64) -> f64 {
        let u = sane(u);
        let (from, to) = (self.place(u), self.place(sane(x).max(u)));
        ((to.age - u) - (to.at.integral - from.at.integral) / from.at.survival).max(0.0)
    }

    /// Returns the age at which to poll a job next that still ran at the age `u`: where
    /// [`Curve::waiting`] reaches `theta` seconds.
    #[must_use]
    pub fn next(&self, u: f64, theta: f64) -> f64 {
        let from = self.place(sane(u));
        let alive = from.at.survival;
        let goal = sane(theta) * alive;
        // The time missed from `u` to a place, as a share of all jobs that ever were.
        let missed = |age: f64, at: Point| (age - from.age) * alive - (at.integral - from.at.integral);
        let (mut low, mut high) = (from.next, self.points.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            match missed(self.age_of(middle), self.points[middle]) < goal {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        let start = if low == from.next { from } else { self.at_point(low - 1) };
        // From here the survival falls in a straight line, and the missed time grows with the
        // square.
        let lacking = (goal - missed(start.age, start.at)).max(0.0);
        let dead = alive - start.at.survival;
        let wait = 2.0 * lacking / (dead + (dead * dead + 2.0 * start.fall * lacking).sqrt());
        let last = if low < self.points.len() { self.age_of(low) } else { f64::INFINITY };
        // Where nothing can be missed the quotient is no number, and the next point is early
        // enough.
        sane(if wait.is_nan() { start.age } else { (start.age + wait).min(last) })
    }

    /// Returns the age that a job survives with this probability: 0.5 gives the median, 0.1 the
    /// 90th percentile.
    #[must_use]
    pub fn age_at(&self, survival: f64) -> f64 {
        let next = self.points.partition_point(|point| point.survival > survival).max(1);
        let start = self.at_point(next - 1);
        if next == self.points.len() {
            let stretch = start.at.survival / survival.max(LEAST);
            return sane((start.age + PRIOR_MEDIAN) * stretch.max(1.0) - PRIOR_MEDIAN);
        }
        let fallen = (start.at.survival - survival).max(0.0);
        start.age + if start.fall > 0.0 { fallen / start.fall } else { 0.0 }
    }

    /// Returns the points for a plot: age in seconds, survival.
    pub fn points(&self) -> impl Iterator<Item = (f64, f64)> {
        self.ages.as_ref().iter().zip(&self.points).map(|(age, point)| (*age, point.survival))
    }

    /// Returns the memory of the points in bytes.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.points.capacity() * size_of::<Point>()
    }
}

/// Returns the curve beyond its last point: S (t₀ + 10) / (t + 10).
fn beyond(last: Point, from: f64, age: f64) -> Point {
    let stretch = (age + PRIOR_MEDIAN) / (from + PRIOR_MEDIAN);
    let integral = last.integral + last.survival * (from + PRIOR_MEDIAN) * stretch.ln();
    Point { survival: last.survival / stretch, integral }
}
