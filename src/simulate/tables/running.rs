//! Jobs on the way: drift, mixed kinds, queues, and a budget.

use super::{BadDistribution, Distribution, at_most, ours, published};
use crate::{
    schedule::learned::curve::Curve,
    simulate::{
        budget::{self, Order},
        compare::{known, mixed},
        drift::{Drift, drift},
        fleet::Setting,
        phases,
        policies::Shipped,
        random::Random,
        table::table,
        truth::PolicyCost,
    },
};

/// The polls of a policy that knows the new durations, for each direction of the drift.
const ORACLE_POLLS: f64 = 15.7;

#[expect(clippy::unnecessary_wraps, reason = "as all tables are made")]
pub(super) fn drifts() -> Result<String, BadDistribution> {
    let row = |name: &str, found: &Drift| {
        let cell = |one: PolicyCost| format!("{:.1}/{:.2}", one.polls, one.delay);
        ours(name, [found.cold, found.before, found.minute, found.next, found.later].map(cell))
    };
    let quiet = Setting { alert: false, ..Setting::default() };
    let untold = Setting { told: false, ..Setting::default() };
    let of = |setting: &Setting, [from, to]: [f64; 2]| drift(setting, [from, to], 10.0, 5);
    let (up, down) = ([20.0, 120.0], [120.0, 20.0]);
    let [rising, falling] = [up, down].map(|way| of(&Setting::default(), way));
    let [blind_rising, blind_falling] = [up, down].map(|way| of(&untold, way));
    let rows = [
        row("20→120 s, 10/s", &rising),
        published(["6.7/1.52", "6.5/1.33", "26/2.9", "21/3.1", "16.9/3.2"]),
        row("  no exploring", &of(&quiet, up)),
        row("  no completed_at", &blind_rising),
        row("120→20 s, 10/s", &falling),
        published(["-", "15.7/3.19", "3.5/4.3", "5.4/1.8", "6.5/1.33"]),
        row("  no exploring", &of(&quiet, down)),
        row("  no completed_at", &blind_falling),
        row("20→120 s, 1/s", &drift(&Setting::default(), up, 1.0, 5)),
        published(["-", "-", "29/3.7", "-", "-"]),
        row("120→20 s, 1/s", &drift(&Setting::default(), down, 1.0, 5)),
        published(["-", "-", "2.2/6.0", "-", "-"]),
    ];
    let targets = [
        target("up: polls in minute one", rising.minute.polls, 28.0),
        target("up: polls after 600 s ÷ oracle", rising.later.polls / ORACLE_POLLS, 1.1),
        target("down: delay in minute one, s", falling.minute.delay, 5.0),
        target("down: delay by 60-150 s, s", falling.next.delay, 2.0),
        target("no completed_at: polls ÷ told, 20 s", blind_rising.before.polls / rising.before.polls, 1.05),
        target(
            "no completed_at: polls ÷ told, 120 s",
            blind_falling.before.polls / falling.before.polls,
            1.05,
        ),
        target(
            "no completed_at: polls ÷ told, after up",
            blind_rising.later.polls / rising.later.polls,
            1.05,
        ),
        target(
            "no completed_at: polls ÷ told, after down",
            blind_falling.later.polls / falling.later.polls,
            1.05,
        ),
    ];
    let head = ["θ = 0.2 s", "cold 0-60", "before", "0-60 s", "60-150 s", ">600 s"];
    Ok(format!(
        "Drift, one seed: polls/mean delay in s\n{}\n{}",
        table(&head, &rows),
        table(&["target", ""], &targets)
    ))
}

fn target(name: &str, value: f64, most: f64) -> Vec<String> {
    ours(name, [at_most(value, most)])
}

fn kinds() -> Vec<(f64, Distribution)> {
    let kinds = [(0.5, 8.0), (0.3, 20.0), (0.2, 300.0)];
    kinds.map(|(weight, median)| (weight, Distribution::Lognormal { median, sigma: 0.5 })).to_vec()
}

#[expect(clippy::unnecessary_wraps, reason = "as all tables are made")]
pub(super) fn mixes() -> Result<String, BadDistribution> {
    let mut rows = Vec::new();
    for (name, policy, finishes, most, figures) in [
        ("fixed 2 s, n=1000", Shipped::Fixed(2.0), 1000.0, 1.10, ["2.47", "1.00", "1.07", "1.49"]),
        ("backoff, n=1000", Shipped::Backoff, 1000.0, 1.10, ["2.99", "1.00", "1.03", "1.58"]),
        ("fixed 2 s, n=200", Shipped::Fixed(2.0), 200.0, f64::NAN, ["2.47", "1.00", "1.12", "1.49"]),
        ("backoff, n=200", Shipped::Backoff, 200.0, f64::NAN, ["2.99", "1.00", "1.07", "1.58"]),
    ] {
        let found = mixed(&kinds(), policy, finishes, 10);
        let keyed = if most.is_nan() { format!("{:.3}", found.keyed) } else { at_most(found.keyed, most) };
        let [shipped, known, pooled] =
            [found.shipped, found.known, found.pooled].map(|value| format!("{value:.3}"));
        rows.push(ours(name, [shipped, known, keyed, pooled]));
        rows.push(published(figures));
    }
    let head = ["mixed kinds", "shipped", "known", "keyed", "pooled"];
    Ok(format!("Mixed kinds: delay ÷ keyed optimum at equal polls\n{}", table(&head, &rows)))
}

#[expect(clippy::unnecessary_wraps, reason = "as all tables are made")]
pub(super) fn queues() -> Result<String, BadDistribution> {
    let cases = [
        ("LN(30, 1.2) + LN(20, .3)", (30.0, 1.2), (20.0, 0.3)),
        ("LN(60, 1) + LN(10, .2)", (60.0, 1.0), (10.0, 0.2)),
        ("LN(20, 1.5) + LN(60, .1)", (20.0, 1.5), (60.0, 0.1)),
        ("LN(5, .5) + LN(20, .5)", (5.0, 0.5), (20.0, 0.5)),
        ("LN(.5, .5) + LN(20, .5)", (0.5, 0.5), (20.0, 0.5)),
        ("LN(10, .3) + LN(5, 1)", (10.0, 0.3), (5.0, 1.0)),
        ("LN(2, 1) + LN(300, .15)", (2.0, 1.0), (300.0, 0.15)),
    ];
    let row = |(name, queue, run): (&str, (f64, f64), (f64, f64))| {
        let [queue, run] = [queue, run].map(|(median, sigma)| Distribution::Lognormal { median, sigma });
        let found = phases::compare(&queue, &run, 0.2, 11);
        let cell = |one: PolicyCost| format!("{:.1}/{:.2} = {:.2}", one.polls, one.delay, one.cost(0.2));
        let (one, two) = (found.one.cost(0.2), found.two.cost(0.2));
        let chosen = if found.pays { two } else { one };
        let cells = [
            cell(found.one),
            cell(found.two),
            format!("{:.2}", found.one.delay / found.two_at_equal_polls),
            if found.pays { "two" } else { "one" }.to_owned(),
            format!("{:.3}", chosen / one.min(two)),
        ];
        ours(name, cells)
    };
    let head =
        ["queue + run", "one clock", "two clocks", "÷ delay at equal polls", "chosen", "cost ÷ better"];
    let title = "Queued and running, θ = 0.2 s: polls/mean delay = cost in s";
    Ok(format!("{title}\n{}", table(&head, &cases.map(row))))
}

#[expect(clippy::unnecessary_wraps, reason = "as all tables are made")]
pub(super) fn budgets() -> Result<String, BadDistribution> {
    let orders = [
        ("fixed 2 s, FIFO", Order::Shipped(Shipped::Fixed(2.0)), ["7.8", "3.5", "40.7", "19.9"]),
        ("backoff, FIFO", Order::Shipped(Shipped::Backoff), ["7.2", "6.5", "42.5", "22.5"]),
        ("EWT, FIFO", Order::Fifo, ["4.0", "1.9", "35.8", "16.5"]),
        ("EWT, largest A first", Order::Largest, ["2.9", "1.9", "29.1", "13.3"]),
        ("EWT, levels", Order::Levels, ["3.0", "1.9", "29.4", "13.4"]),
    ];
    let settings = [(40.0, 150.0), (40.0, 300.0), (f64::INFINITY, 200.0), (f64::INFINITY, 400.0)];
    let (mut rows, mut exact) = (Vec::new(), [f64::NAN; 4]);
    for (name, order, figures) in orders {
        let spent = settings.map(|(rate, budget)| spend(order, rate, budget));
        let cell = |(one, exact): (&budget::Spent, f64)| match order {
            Order::Levels if one.idle > 0 => format!("{:.2} MISSED: {} idle tokens", one.delay, one.idle),
            Order::Levels => format!("{:.2} (÷ exact {})", one.delay, at_most(one.delay / exact, 1.03)),
            _ => format!("{:.2}", one.delay),
        };
        rows.push(ours(name, spent.iter().zip(exact).map(cell)));
        rows.push(published(figures));
        if order == Order::Largest {
            exact = spent.map(|one| one.delay);
        }
    }
    let head = ["mean delay in s", "40/s, B=150", "40/s, B=300", "burst, B=200", "burst, B=400"];
    Ok(format!("Budget of B requests a second: 20,000 jobs of three kinds\n{}", table(&head, &rows)))
}

fn spend(order: Order, rate: f64, budget: f64) -> budget::Spent {
    let kinds = kinds();
    let curves: Vec<Curve> = kinds.iter().map(|(_, kind)| known(kind)).collect();
    let (mut random, mut made) = (Random::new(3), 0.0);
    let job = |random: &mut Random| {
        made += random.exponential() / rate;
        let kind = match random.unit() {
            unit if unit < 0.5 => 0,
            unit if unit < 0.8 => 1,
            _ => 2,
        };
        budget::BudgetJob { made, takes: kinds[kind].1.sample(random), curve: &curves[kind] }
    };
    let jobs: Vec<budget::BudgetJob> = std::iter::repeat_with({
        let (mut job, random) = (job, &mut random);
        move || job(random)
    })
    .take(20_000)
    .collect();
    budget::run(&jobs, order, budget, 0.2, &mut random)
}
