//! Compares policies under known durations: as shipped, at equal polls, and at an equal cost of a
//! poll.

use crate::schedule::learned::{
    bins::edges,
    clock::Clock,
    curve::Curve,
    decide::{EXPLORERS, explore},
};

use super::{
    distribution::Distribution,
    optimum::optimum,
    policies::{Shipped, expected_wait, tuned},
    random::Random,
    truth::{LEAST_INTERVAL, PolicyCost, Truth, evaluate, percentile, schedule, solve, truth},
};

/// The number of random schedules that a random policy is averaged over.
const SCHEDULES: usize = 400;
/// The number of schedules that give the percentiles.
const FOR_PERCENTILES: usize = 15;

/// The cost of one policy under one distribution.
#[derive(Clone, Debug)]
pub struct PolicyRow {
    /// What it costs.
    pub cost: PolicyCost,
    /// The median of the delay and its 99th percentile, in seconds.
    pub percentiles: [f64; 2],
    /// Its delay as a multiple of the shortest possible with as many polls.
    pub times_optimum: f64,
}

/// Returns the policies as they are shipped.
#[must_use]
pub fn as_shipped(truth: &Truth, seed: u64) -> Vec<PolicyRow> {
    let mut random = Random::new(seed);
    let row = |(_, policy): (&str, Shipped)| {
        let schedules = policy.schedules(truth, SCHEDULES, &mut random);
        row(truth, &schedules)
    };
    Shipped::ALL.into_iter().map(row).collect()
}

/// Returns the cost of a policy with equally likely schedules.
#[must_use]
pub fn row(truth: &Truth, schedules: &[Vec<f64>]) -> PolicyRow {
    let cost = cost_of(truth, schedules);
    let some = &schedules[..schedules.len().min(FOR_PERCENTILES)];
    let (_, best) = optimum_at(truth, cost.polls);
    let percentiles = [0.5, 0.99].map(|share| percentile(truth, some, share));
    PolicyRow { cost, percentiles, times_optimum: cost.delay / best.delay }
}

/// Returns the average cost of equally likely schedules.
#[must_use]
pub fn cost_of(truth: &Truth, schedules: &[Vec<f64>]) -> PolicyCost {
    let all: Vec<PolicyCost> = schedules.iter().map(|polls| evaluate(truth, polls)).collect();
    PolicyCost::mean(&all)
}

/// Returns the θ with which the optimum has this many polls, and its cost.
#[must_use]
pub fn optimum_at(truth: &Truth, polls: f64) -> (f64, PolicyCost) {
    at_polls(polls, |theta| evaluate(truth, &optimum(truth, theta)))
}

/// Returns the θ with which a policy has this many polls, and its cost.
pub fn at_polls(polls: f64, cost: impl Fn(f64) -> PolicyCost) -> (f64, PolicyCost) {
    let theta = solve(1e-4, 1e3, true, |theta| cost(theta).polls < polls);
    (theta, cost(theta))
}

/// Returns the cost of the learning policy with a curve: most jobs follow it, a few explore.
#[must_use]
pub fn learning<A: AsRef<[f64]>>(truth: &Truth, curve: &Curve<A>, theta: f64) -> PolicyCost {
    let plain = evaluate(truth, &expected_wait(truth, curve, theta));
    let next = |age: f64| curve.next(age, theta).min(explore(age)).max(age + LEAST_INTERVAL);
    let explorer = evaluate(truth, &schedule(truth, next(0.0), next));
    let mix = |of: fn(&PolicyCost) -> f64| (1.0 - EXPLORERS) * of(&plain) + EXPLORERS * of(&explorer);
    PolicyCost { polls: mix(|one| one.polls), delay: mix(|one| one.delay) }
}

/// A distribution at the polls of one shipped policy.
#[derive(Clone, Debug)]
pub struct Equal {
    /// The polls of the shipped policy and its delay.
    pub shipped: PolicyCost,
    /// The optimum with as many polls.
    pub best: PolicyCost,
    /// The delay of the best fixed interval as a multiple of the optimum.
    pub tuned: f64,
    /// The same for the expected wait with the true curve.
    pub known: f64,
    /// The same for what was learned from so many finishes: finishes, delay, and cost at the
    /// optimum's θ.
    pub learned: Vec<(usize, f64, f64)>,
}

/// Compares at the polls of a shipped policy. Learned figures are the average of `runs`.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "a count")]
pub fn equal_polls(distribution: &Distribution, shipped: Shipped, finishes: &[usize], runs: u64) -> Equal {
    let (truth, mut random) = (truth(distribution), Random::new(7));
    let shipped = cost_of(&truth, &shipped.schedules(&truth, SCHEDULES, &mut random));
    let (theta, best) = optimum_at(&truth, shipped.polls);
    let times = |outcome: PolicyCost| outcome.delay / best.delay;
    let fixed = at_polls(shipped.polls, |interval| evaluate(&truth, &tuned(&truth, interval))).1;
    let known = at_polls(shipped.polls, |theta| evaluate(&truth, &expected_wait(&truth, &truth, theta))).1;
    let of = |count: usize| {
        let (mut delay, mut cost) = (0.0, 0.0);
        for run in 0..runs {
            let curve = learned(distribution, count, &mut Random::new(1000 + run));
            let equal = |theta| learning(&truth, &curve, theta).polls < shipped.polls;
            let near = solve(theta / 8.0, theta * 1000.0, true, equal);
            delay += times(learning(&truth, &curve, near));
            cost += learning(&truth, &curve, theta).cost(theta) / best.cost(theta);
        }
        (count, delay / runs as f64, cost / runs as f64)
    };
    let learned = finishes.iter().map(|count| of(*count)).collect();
    Equal { shipped, best, tuned: times(fixed), known: times(known), learned }
}

/// Returns the curve learned from this many finished jobs.
#[must_use]
pub fn learned(distribution: &Distribution, finishes: usize, random: &mut Random) -> Curve {
    learned_from((0..finishes).map(|_| distribution.sample(random)))
}

/// Returns the curve learned from these durations.
#[must_use]
pub fn learned_from(durations: impl IntoIterator<Item = f64>) -> Curve {
    let mut clock = Clock::default();
    for duration in durations {
        clock.record_finish(0.0, duration);
    }
    clock.build(None)
}

/// Returns the true curve of a distribution, in the bins of a learned one.
#[must_use]
pub fn known(distribution: &Distribution) -> Curve {
    Curve::new(edges(), edges().iter().map(|age| distribution.survival(*age)))
}

/// Kinds with one θ: the delay of keyed and pooled learning as multiples of the keyed optimum at
/// equal polls.
#[derive(Clone, Copy, Debug)]
pub struct Mixed {
    /// The shipped policy.
    pub shipped: f64,
    /// The true curves, keyed.
    pub known: f64,
    /// Curves learned from as many finishes in all, keyed.
    pub keyed: f64,
    /// One curve for all, learned from as many.
    pub pooled: f64,
}

/// Compares on a mixture of kinds at the polls of a shipped policy, with `finishes` in all. The
/// figures are the average of `runs`.
#[must_use]
pub fn mixed(kinds: &[(f64, Distribution)], shipped: Shipped, finishes: f64, runs: u64) -> Mixed {
    let truths: Vec<Truth> = kinds.iter().map(|(_, kind)| truth(kind)).collect();
    let each = |cost: &dyn Fn(usize) -> PolicyCost| {
        let weighted = kinds.iter().enumerate().map(|(at, (weight, _))| (*weight, cost(at)));
        weighted.fold(PolicyCost::default(), |sum, (weight, one)| PolicyCost {
            polls: sum.polls + weight * one.polls,
            delay: sum.delay + weight * one.delay,
        })
    };
    let schedules: Vec<Vec<Vec<f64>>> =
        truths.iter().map(|truth| shipped.schedules(truth, SCHEDULES, &mut Random::new(7))).collect();
    let baseline = each(&|at| cost_of(&truths[at], &schedules[at]));
    let delay_at = |cost: &dyn Fn(usize, f64) -> PolicyCost| {
        at_polls(baseline.polls, |theta| each(&|at| cost(at, theta))).1.delay
    };
    let best = delay_at(&|at, theta| evaluate(&truths[at], &optimum(&truths[at], theta)));
    let known = delay_at(&|at, theta| evaluate(&truths[at], &expected_wait(&truths[at], &truths[at], theta)));
    let (mut keyed, mut pooled) = (Vec::new(), Vec::new());
    for run in 0..runs {
        let mut random = Random::new(2000 + run);
        let samples: Vec<Vec<f64>> =
            kinds.iter().map(|(weight, kind)| sample(kind, weight * finishes, &mut random)).collect();
        let curves: Vec<Curve> =
            samples.iter().map(|durations| learned_from(durations.iter().copied())).collect();
        let one = learned_from(interleaved(&samples));
        keyed.push(delay_at(&|at, theta| learning(&truths[at], &curves[at], theta)) / best);
        pooled.push(delay_at(&|at, theta| learning(&truths[at], &one, theta)) / best);
    }
    let mean =
        |all: Vec<f64>| all.iter().sum::<f64>() / f64::from(u32::try_from(all.len()).unwrap_or(1).max(1));
    Mixed { shipped: baseline.delay / best, known: known / best, keyed: mean(keyed), pooled: mean(pooled) }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
fn sample(kind: &Distribution, count: f64, random: &mut Random) -> Vec<f64> {
    (0..count.round() as usize).map(|_| kind.sample(random)).collect()
}

/// Returns all samples, with the kinds mixed evenly.
#[expect(clippy::cast_precision_loss, reason = "a count")]
fn interleaved(samples: &[Vec<f64>]) -> Vec<f64> {
    let placed = |list: &Vec<f64>| {
        let count = list.len() as f64;
        let at = |(at, duration): (usize, &f64)| ((at as f64 + 0.5) / count, *duration);
        list.iter().enumerate().map(at).collect::<Vec<_>>()
    };
    let mut all: Vec<(f64, f64)> = samples.iter().flat_map(placed).collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    all.into_iter().map(|(_, duration)| duration).collect()
}
