//! Policies under known durations: as shipped, and at equal polls.

use super::{NAMES, at_least, at_most, named, ours, published};
use crate::simulate::{
    compare::{Equal, as_shipped, equal_polls},
    distribution::BadDistribution,
    policies::Shipped,
    table::table,
    truth::{PolicyCost, truth},
};

const SHIPPED: [&str; 7] = [
    "11.3/1.07 [1.10]|5.5/2.7 [1.3]|3.5/5.5 [1.5]|5.5/5.4 (30) [2.5]|4.9/11 (85) [4.5]|20/1.0 [1.9]",
    "12.5/1.05 [1.54]|6.0/2.6 [1.8]|3.8/5.1 [2.1]|6.4/6.2 (26) [4.6]|5.6/12 (68) [8.1]|25/1.1 [3.2]",
    "21.5/1.05 [1.12]|9.6/2.6 [1.2]|5.6/5.1 [1.3]|6.8/7.4 (35) [2.4]|5.8/16 (98) [4.3]|25/2.1 [2.6]",
    "14.6/1.05 [1.62]|6.8/2.6 [1.9]|4.2/5.0 [2.2]|6.9/7.3 (25) [5.4]|6.0/15 (74) [9.7]|27/1.3 [3.8]",
    "8.7/1.01 [2.03]|4.5/3.0 [3.0]|2.9/4.3 [2.4]|5.0/3.6 (23) [3.9]|4.6/6.6 (57) [6.5]|18/.77 [3.1]",
    "34/1.05 [4.22]|15/2.6 [4.8]|8.1/3.9 [4.0]|7.0/5.3 (36) [4.7]|5.7/11 (94) [8.0]|23/3.3 [9.3]",
    "31/1.05 [6.84]|13/2.5 [10]|7.5/4.9 [12]|9.0/15 (37) [44]|7.4/33 (109) [78]|37/3.0 [20]",
];

/// Delay ÷ optimum after 50, 200 and 1000 finishes, at most.
const TIMES: [[f64; 3]; 7] = [
    [1.10, 1.03, 1.02],
    [1.10, 1.03, 1.02],
    [1.10, 1.03, 1.02],
    [1.10, 1.03, 1.02],
    [1.10, 1.03, 1.02],
    [1.45, 1.15, 1.10],
    [1.45, 1.20, 1.05],
];
/// Cost ÷ optimum after 200 finishes, at most.
const COST: [f64; 7] = [1.02, 1.02, 1.02, 1.02, 1.02, 1.08, 1.10];
/// How many times less the delay is after 1000 finishes than that of the fixed interval, at least.
const FROM_FIXED: [f64; 7] = [1.08, 1.5, 1.1, 1.6, 2.0, 3.8, 6.0];
/// The same for the back-off.
const FROM_BACKOFF: [f64; 7] = [2.5, 4.5, 2.3, 5.2, 3.8, 4.2, 40.0];
/// Runs that a learned figure is the mean of.
const RUNS: u64 = 25;

pub(super) fn shipped() -> Result<String, BadDistribution> {
    let mut rows = Vec::new();
    for ((name, text), figures) in NAMES.into_iter().zip(SHIPPED) {
        let cells = as_shipped(&truth(&named(text)?), 7).into_iter().map(|row| {
            let PolicyCost { polls, delay } = row.cost;
            format!("{polls:.1}/{delay:.2} ({:.0}) [{:.2}]", row.percentiles[1], row.times_optimum)
        });
        rows.push(ours(name, cells));
        rows.push(published(figures.split('|')));
    }
    let head: Vec<&str> = std::iter::once("").chain(Shipped::ALL.map(|(name, _)| name)).collect();
    Ok(format!("As shipped: polls/mean delay in s (p99) [delay ÷ optimum]\n{}", table(&head, &rows)))
}

pub(super) fn equal_to_fixed() -> Result<String, BadDistribution> {
    equal("fixed 2 s", Shipped::Fixed(2.0), FROM_FIXED)
}

pub(super) fn equal_to_backoff() -> Result<String, BadDistribution> {
    equal("backoff", Shipped::Backoff, FROM_BACKOFF)
}

fn equal(name: &str, policy: Shipped, gains: [f64; 7]) -> Result<String, BadDistribution> {
    let head = [
        "",
        "polls",
        "optimum s",
        "shipped",
        "tuned fixed",
        "EWT true",
        "n=0",
        "n=50",
        "n=200",
        "n=1000",
        "cost n=200",
        "cost n=1000",
        "gain n=1000",
    ];
    let mut rows = Vec::new();
    for (at, (name, text)) in NAMES.into_iter().enumerate() {
        let found = equal_polls(&named(text)?, policy, &[0, 50, 200, 1000], RUNS);
        rows.push(ours(name, figures(&found, TIMES[at], COST[at], gains[at])));
    }
    Ok(format!("Delay ÷ optimum at the polls of {name}, with targets\n{}", table(&head, &rows)))
}

fn figures(found: &Equal, times: [f64; 3], cost: f64, gain: f64) -> Vec<String> {
    let shipped = found.shipped.delay / found.best.delay;
    let of = |at: usize| found.learned.get(at).copied().unwrap_or_default();
    let [none, few, some, many] = [0, 1, 2, 3].map(of);
    vec![
        format!("{:.1}", found.shipped.polls),
        format!("{:.2}", found.best.delay),
        format!("{shipped:.2}"),
        format!("{:.2}", found.tuned),
        format!("{:.3}", found.known),
        format!("{:.2}", none.1),
        at_most(few.1, times[0]),
        at_most(some.1, times[1]),
        at_most(many.1, times[2]),
        at_most(some.2, cost),
        format!("{:.3}", many.2),
        at_least(shipped / many.1, gain),
    ]
}
