//! A kind of job whose durations change from one moment to the next.

use crate::schedule::learned::model::Model;

use super::{
    distribution::Distribution,
    fleet::{Setting, SimulatedJob, arrivals, mean_of, run},
    random::Random,
    truth::PolicyCost,
};

/// Polls and delay of the jobs made in some stretches of time around the change.
#[derive(Clone, Copy, Debug)]
pub struct Drift {
    /// The first minute of all: nothing is known.
    pub cold: PolicyCost,
    /// Before the change.
    pub before: PolicyCost,
    /// The first minute after it.
    pub minute: PolicyCost,
    /// From then to 150 s.
    pub next: PolicyCost,
    /// From 600 s on.
    pub later: PolicyCost,
}

/// Runs jobs at a rate per second; lognormal durations (σ = 0.5) change from one median to another.
/// The change comes after 15,000 jobs.
#[must_use]
pub fn drift(setting: &Setting, [from, to]: [f64; 2], rate: f64, seed: u64) -> Drift {
    let mut random = Random::new(seed);
    let change = 15_000.0 / rate;
    let of = |median: f64| Distribution::Lognormal { median, sigma: 0.5 };
    let (old, new) = (of(from), of(to));
    let jobs = arrivals((0.0, change + 1200.0), rate, &mut random, |made, random| SimulatedJob {
        made,
        kind: 0,
        queued: None,
        takes: if made < change { &old } else { &new }.sample(random),
        hook: None,
    });
    let records = run(&mut Model::default(), setting, &jobs, &mut random);
    let within = |from: f64, to: f64| mean_of(&records, |record| record.made >= from && record.made < to);
    Drift {
        cold: within(0.0, 60.0),
        before: within(change - 600.0, change - 300.0),
        minute: within(change, change + 60.0),
        next: within(change + 60.0, change + 150.0),
        later: within(change + 600.0, change + 1200.0),
    }
}
