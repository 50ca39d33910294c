//! The best schedule for a known distribution, by dynamic programming (Barlow, Hunter and Proschan
//! 1963).

use super::truth::{LEAST_INTERVAL, Truth};

/// The value of the best polls after one at age y: a line in S(x).
#[derive(Clone, Copy, Debug)]
struct ValueLine {
    to: usize,
    slope: f64,
    offset: f64,
}

impl ValueLine {
    fn at(self, survival: f64) -> f64 {
        self.slope * survival + self.offset
    }

    /// Returns where it crosses a line of smaller slope.
    fn crosses(self, flatter: Self) -> f64 {
        (flatter.offset - self.offset) / (self.slope - flatter.slope)
    }
}

/// The lower envelope of lines that are added with falling slopes and queried at rising places.
#[derive(Default)]
struct Envelope {
    lines: Vec<ValueLine>,
    first: usize,
}

impl Envelope {
    fn add(&mut self, line: ValueLine) {
        while self.lines.len() >= self.first + 2 {
            let [before, last] = [self.lines.len() - 2, self.lines.len() - 1].map(|at| self.lines[at]);
            if last.crosses(line) > before.crosses(last) {
                break;
            }
            self.lines.pop();
        }
        self.lines.push(line);
    }

    fn least(&mut self, at: f64) -> Option<ValueLine> {
        while self.lines.len() > self.first + 1
            && self.lines[self.first + 1].at(at) <= self.lines[self.first].at(at)
        {
            self.first += 1;
        }
        self.lines.get(self.first).copied()
    }
}

/// Returns the polls that minimise θ·N + D: U(x) = min over y of θ S(x) + ∫ₓʸ (S(x) − S(t)) dt +
/// U(y).
///
/// For a fixed y the sum is a straight line in S(x). So the minimum over y is an envelope of lines,
/// and one pass over the points of the curve suffices.
#[must_use]
pub fn optimum(truth: &Truth, theta: f64) -> Vec<f64> {
    let points: Vec<(f64, f64)> = truth.points().collect();
    let integral: Vec<f64> = integrals(&points);
    let last = points.len() - 1;
    let (mut value, mut choice) = (vec![0.0; points.len()], vec![last; points.len()]);
    let (mut envelope, mut added) = (Envelope::default(), last + 1);
    for at in (0..last).rev() {
        let (age, alive) = points[at];
        while added > at + 1 && (points[added - 1].0 >= age + LEAST_INTERVAL || added > last) {
            added -= 1;
            let offset = value[added] - integral[added];
            envelope.add(ValueLine { to: added, slope: points[added].0, offset });
        }
        if let Some(best) = envelope.least(alive) {
            choice[at] = best.to;
            value[at] = theta * alive + best.at(alive) - age * alive + integral[at];
        }
    }
    let polls = std::iter::successors(Some(choice[0]), |at| (*at < last).then(|| choice[*at]));
    polls.map(|at| points[at].0).collect()
}

fn integrals(points: &[(f64, f64)]) -> Vec<f64> {
    let steps = points.windows(2).map(|pair| (pair[1].0 - pair[0].0) * f64::midpoint(pair[0].1, pair[1].1));
    let sums = steps.scan(0.0, |sum, step| {
        *sum += step;
        Some(*sum)
    });
    std::iter::once(0.0).chain(sums).collect()
}
