//! Hooks of the source beside polls.

use super::{BadDistribution, Distribution, named, ours};
use crate::{
    schedule::learned::decide::Policy,
    simulate::{
        hooks::{Cost, Hooks, costs},
        table::table,
    },
};

/// The time from an end to its hook, in seconds.
const DELAY: f64 = 0.3;

/// The table for the usual distribution and θ.
pub(super) fn usual() -> Result<String, BadDistribution> {
    let text = "lognormal:median=20,sigma=0.5";
    Ok(hooks(text, &named(text)?, Policy::default().theta, 7))
}

/// Returns a table of requests a job and delays for a source that sends hooks for some ends.
#[must_use]
pub fn hooks(name: &str, jobs: &Distribution, theta: f64, seed: u64) -> String {
    let policy = Policy { theta, ..Policy::default() };
    let row = |what: &str, cost: &Cost| {
        let figures = [cost.mean.polls, cost.mean.delay, cost.p99, cost.mean.cost(theta)];
        ours(what, figures.map(|figure| format!("{figure:.2}")))
    };
    let all = |what: &str, hooks: Option<Hooks>| {
        costs(jobs, hooks, policy, seed).iter().map(|cost| row(what, cost)).collect::<Vec<_>>()
    };
    let come = |share| Some(Hooks { share, delay: DELAY, stop: false });
    let mut rows = all("no hooks configured", None);
    for (what, share) in [("0 %", 0.0), ("50 %", 0.5), ("90 %", 0.9), ("99 %", 0.99), ("100 %", 1.0)] {
        rows.extend(all(what, come(share)));
    }
    let stopped = costs(jobs, Some(Hooks { share: 1.0, delay: DELAY, stop: true }), policy, seed);
    let stages = ["100 %, stop half way: before", "  open at the stop, or made soon after", "  later"];
    rows.extend(stages.into_iter().zip(&stopped).map(|(what, cost)| row(what, cost)));
    let head = ["ends with a hook", "REQUESTS", "DELAY s", "P99", "COST s"];
    format!(
        "Hooks {DELAY} s after the end, 20 jobs in a median duration, {name}, θ = {theta} s\n{}",
        table(&head, &rows)
    )
}
