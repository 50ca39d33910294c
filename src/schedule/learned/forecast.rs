//! The forecast of a job: the curves of its kind as of now.

use std::sync::Arc;

use super::curve::Curve;

/// The known progress of a job.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Progress {
    /// The age at which it was last known to be running, in seconds since its creation.
    pub age: f64,
    /// The age at which its run started, if the source tells.
    pub started: Option<f64>,
}

/// The curves of a kind of job.
#[derive(Clone, Debug)]
pub struct Forecast {
    /// From creation to the end.
    pub total: Arc<Curve>,
    /// The same in two phases, if that costs less.
    pub phases: Option<Phases>,
    /// The finishes that the kind and its parent have learned from. With none, the curve is the
    /// general prior.
    pub finishes: u64,
}

/// Queued and running, each with its own clock.
#[derive(Clone, Debug)]
pub struct Phases {
    /// From creation to the start.
    pub queue: Arc<Curve>,
    /// From the start to the end.
    pub run: Arc<Curve>,
}

/// A quarter of the jobs run for a shorter time. A job that just left the queue need not be polled
/// before.
const SOONEST: f64 = 0.75;
/// Two clocks are used if they cost at most this share of what one costs.
const PAYS: f64 = 0.97;
/// So few jobs left no longer count for the cost.
const FEW: f64 = 0.01;
/// The polls of one job after which its cost counts as known.
const MAX_POLLS: usize = 80;

impl Forecast {
    /// Returns the age at which a result would have been waiting for `theta` seconds on average.
    /// Both in seconds.
    #[must_use]
    pub fn next(&self, known: Progress, theta: f64) -> f64 {
        match (&self.phases, known.started) {
            (None, _) => self.total.next(known.age, theta),
            (Some(phases), Some(start)) => start + phases.run.next(known.age - start, theta),
            (Some(phases), None) => phases.next_while_queued(known.age, theta),
        }
    }

    /// Returns the average time for which a result has been waiting at an age. Both in seconds.
    #[must_use]
    pub fn waiting(&self, known: Progress, age: f64) -> f64 {
        match (&self.phases, known.started) {
            (None, _) => self.total.waiting(known.age, age),
            (Some(phases), Some(start)) => phases.run.waiting(known.age - start, age - start),
            (Some(phases), None) => phases.queue.waiting(known.age, age - phases.soonest()),
        }
    }
}

impl Phases {
    fn soonest(&self) -> f64 {
        self.run.age_at(SOONEST)
    }

    fn next_while_queued(&self, age: f64, theta: f64) -> f64 {
        self.queue.next(age, theta) + self.soonest()
    }

    /// Returns whether two clocks cost less per job than one, as the curves predict.
    #[must_use]
    pub fn pay(&self, total: &Curve, theta: f64) -> bool {
        self.cost(theta) < PAYS * cost_from(total, 0.0, theta)
    }

    /// Returns θ·N + D per job in seconds, as if the time in the queue told nothing about the time
    /// to run.
    fn cost(&self, theta: f64) -> f64 {
        let (mut cost, mut age) = (0.0, 0.0);
        for _ in 0..MAX_POLLS {
            let alive = self.queue.survival(age);
            if alive < FEW {
                break;
            }
            let next = self.next_while_queued(age, theta).max(age + theta.max(0.01));
            cost += theta * alive;
            // The jobs that started since the last poll, in three parts by the time of their start.
            for part in [1.0, 3.0, 5.0].map(|sixth: f64| sixth / 6.0) {
                let started = alive - (alive - self.queue.survival(next)) * part;
                let passed = next - self.queue.age_at(started).clamp(age, next);
                let running = self.run.survival(passed) * cost_from(&self.run, passed, theta);
                let waited = passed - self.run.integral(passed);
                cost += (alive - self.queue.survival(next)) / 3.0 * (waited + running);
            }
            age = next;
        }
        cost
    }
}

/// Returns θ·N + D in seconds for a job that still runs at an age, as the curve predicts.
fn cost_from(curve: &Curve, from: f64, theta: f64) -> f64 {
    let (at_first, mut cost, mut age) = (curve.survival(from), 0.0, from);
    for _ in 0..MAX_POLLS {
        let alive = curve.survival(age) / at_first;
        if alive < FEW {
            break;
        }
        let next = curve.next(age, theta).max(age + theta.max(0.01));
        cost += alive * (theta + curve.waiting(age, next));
        age = next;
    }
    cost
}
