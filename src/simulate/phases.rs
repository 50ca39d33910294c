//! One clock over the whole job, or one for the queue and one for the run: what each costs.

use std::sync::Arc;

use crate::schedule::learned::{
    clock::Clock,
    decide::Policy,
    forecast::{Forecast, Phases},
    model::Model,
};

use super::{
    distribution::Distribution,
    fleet::{Setting, SimulatedJob, arrivals, mean_of, run},
    random::Random,
    truth::{PolicyCost, solve},
};

/// What both ways cost, and which one the model chose.
#[derive(Clone, Copy, Debug)]
pub struct Compared {
    /// One clock.
    pub one: PolicyCost,
    /// Two clocks, with the same θ.
    pub two: PolicyCost,
    /// The delay of two clocks with as many polls as one clock has, in seconds.
    pub two_at_equal_polls: f64,
    /// What the model chooses from what it learned.
    pub pays: bool,
}

/// Jobs measured; as many are learned from before.
const JOBS: f64 = 3000.0;

/// Compares with a time in the queue and a time to run that are independent.
#[must_use]
pub fn compare(queue: &Distribution, runs: &Distribution, theta: f64, seed: u64) -> Compared {
    let mut random = Random::new(seed);
    let mut jobs = || {
        arrivals((0.0, JOBS), 1.0, &mut random, |made, random| {
            let queued = queue.sample(random);
            SimulatedJob {
                made,
                kind: 0,
                queued: Some(queued),
                takes: queued + runs.sample(random),
                hook: None,
            }
        })
    };
    let (seen, measured) = (jobs(), jobs());
    let (total, phases) = learn(&seen);
    let pays = phases.pay(&total, theta);
    let with = |phases: Option<Phases>, theta: f64| {
        let forecast = Forecast { total: Arc::clone(&total), phases, finishes: 1 };
        let policy = Policy { theta, ..Policy::default() };
        let setting = Setting { policy, known: Some(vec![forecast]), alert: false, ..Setting::default() };
        mean_of(&run(&mut Model::default(), &setting, &measured, &mut Random::new(seed)), |_| true)
    };
    let (one, two) = (with(None, theta), with(Some(phases.clone()), theta));
    let equal =
        solve(theta / 30.0, theta * 30.0, true, |theta| with(Some(phases.clone()), theta).polls < one.polls);
    let two_at_equal_polls = with(Some(phases.clone()), equal).delay;
    Compared { one, two, two_at_equal_polls, pays }
}

fn learn(jobs: &[SimulatedJob]) -> (Arc<crate::schedule::learned::curve::Curve>, Phases) {
    let [mut total, mut queue, mut run] = [(); 3].map(|()| Clock::default());
    for job in jobs {
        let queued = job.queued.unwrap_or_default();
        total.record_finish(0.0, job.takes);
        queue.record_finish(0.0, queued);
        run.record_finish(0.0, job.takes - queued);
    }
    let [total, queue, run] = [total, queue, run].map(|clock| Arc::new(clock.build(None)));
    (total, Phases { queue, run })
}
