//! What is to be expected of a job: the curves of its kind as of now.

use std::sync::Arc;

use super::curve::Curve;

/// How far a job is known to have come.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Progress {
    /// The age at which it was last known not to have ended, in seconds since its creation.
    pub age: f64,
    /// The age at which it began to run, where the source tells.
    pub started: Option<f64>,
}

/// The curves of a kind of job.
#[derive(Clone, Debug)]
pub struct Forecast {
    /// From creation to the end.
    pub total: Arc<Curve>,
    /// The same in two steps, where that pays.
    pub phases: Option<Phases>,
    /// Finishes that the kind and its parent have learned from: with none, the curve is the general prior.
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

/// A quarter of the jobs run for a shorter time: a job that just left the queue need not be looked at before.
const SOONEST: f64 = 0.75;
/// Two clocks are used where they cost at most this part of what one costs.
const PAYS: f64 = 0.97;
/// Where so few jobs are left, what they cost no longer counts.
const FEW: f64 = 0.01;
/// Looks at one job after which a cost is believed to be known.
const MAX_POLLS: usize = 80;

impl Forecast {
    /// The age at which a result would have been waiting for `theta` seconds in the mean. Both in seconds.
    #[must_use]
    pub fn next(&self, known: Progress, theta: f64) -> f64 {
        match (&self.phases, known.started) {
            (None, _) => self.total.next(known.age, theta),
            (Some(phases), Some(start)) => start + phases.run.next(known.age - start, theta),
            (Some(phases), None) => phases.next_while_queued(known.age, theta),
        }
    }

    /// How long a result has already been waiting at an age, in the mean. Both in seconds.
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

    /// Whether two clocks cost less per job than the one over the whole, all as the curves believe.
    #[must_use]
    pub fn pay(&self, total: &Curve, theta: f64) -> bool {
        self.cost(theta) < PAYS * cost_from(total, 0.0, theta)
    }

    /// θ·N + D per job in seconds, as if the time in the queue told nothing about the time to run.
    fn cost(&self, theta: f64) -> f64 {
        let (mut cost, mut age) = (0.0, 0.0);
        for _ in 0..MAX_POLLS {
            let alive = self.queue.survival(age);
            if alive < FEW {
                break;
            }
            let next = self.next_while_queued(age, theta).max(age + theta.max(0.01));
            cost += theta * alive;
            // The jobs that started since the last look, in three parts by the time of their start.
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

/// θ·N + D for a job that is alive at an age, in seconds, as the curve believes.
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
