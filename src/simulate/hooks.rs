//! A source that sends hooks: what they save while they come, and what it costs that they stop.

use crate::schedule::learned::{decide::Policy, model::Model};

use super::{
    compare::known,
    distribution::Distribution,
    fleet::{Record, Setting, SimulatedJob, arrivals, mean_of, run},
    random::Random,
    truth::PolicyCost,
};

/// Jobs that are made in a median duration.
const AT_ONCE: f64 = 20.0;
/// The jobs that teach before any counts.
const TAUGHT_BY: f64 = 500.0;
/// The jobs in all. Where hooks stop, they do so after half of them.
const JOBS: f64 = 4000.0;

/// The hooks of a source.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hooks {
    /// The share of ends that a hook announces (0 to 1).
    pub share: f64,
    /// How long after the end the hook comes, in seconds.
    pub delay: f64,
    /// Whether they stop for good half way.
    pub stop: bool,
}

/// The cost of a group of jobs.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Requests and delay, on average.
    pub mean: PolicyCost,
    /// The 99th percentile of the delay, in seconds.
    pub p99: f64,
}

/// The cost of the jobs that are made while hooks come, around the stop, and from ten median
/// durations after it on. Without a stop all counted jobs are in the first group.
#[must_use]
pub fn costs(jobs: &Distribution, hooks: Option<Hooks>, policy: Policy, seed: u64) -> Vec<Cost> {
    let mut random = Random::new(seed);
    let median = known(jobs).age_at(0.5);
    let rate = AT_ONCE / median;
    let (from, stop, end) = (TAUGHT_BY / rate, JOBS / 2.0 / rate, JOBS / rate);
    let stops = hooks.is_some_and(|hooks| hooks.stop);
    let made = arrivals((0.0, end), rate, &mut random, |made, random| {
        let (takes, luck) = (jobs.sample(random), random.unit());
        let came = hooks.filter(|hooks| luck < hooks.share && !(hooks.stop && made + takes >= stop));
        SimulatedJob { made, kind: 0, queued: None, takes, hook: came.map(|hooks| hooks.delay) }
    });
    let setting = Setting { policy, hooks: hooks.is_some(), ..Setting::default() };
    let records = run(&mut Model::default(), &setting, &made, &mut random);
    let within = |from: f64, to: f64| cost(&records, |record| record.made >= from && record.made < to);
    if !stops {
        return vec![within(from, end)];
    }
    // Jobs that are open at the stop belong to it.
    let touched = stop - 3.0 * median;
    vec![within(from, touched), within(touched, stop + 3.0 * median), within(stop + 10.0 * median, end)]
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a count"
)]
fn cost(records: &[Record], pick: impl Fn(&Record) -> bool) -> Cost {
    let mut delays: Vec<f64> =
        records.iter().filter(|record| pick(record)).map(|record| record.cost.delay).collect();
    delays.sort_by(f64::total_cmp);
    let at = (delays.len() as f64 * 0.99) as usize;
    Cost { mean: mean_of(records, pick), p99: delays.get(at).copied().unwrap_or_default() }
}
