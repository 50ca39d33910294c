//! The targets of the strategy in short runs; `tidings simulate --tables` has the long ones.

use super::{
    budget::{self, Order},
    compare::{equal_polls, known, mixed},
    distribution::Distribution,
    fleet::{Setting, SimulatedJob, arrivals, mean_of, run},
    hooks::{Hooks, costs},
    phases,
    policies::Shipped,
    random::Random,
    study::{At, NamedPolicy, Question, Subject, study},
};
use crate::schedule::learned::{decide::Policy, model::Model};

fn named(text: &str) -> Distribution {
    text.parse().unwrap()
}

#[test]
fn learned_from_a_thousand_it_is_close_to_the_optimum() {
    let found = equal_polls(&named("normal"), Shipped::Fixed(2.0), &[1000], 1);
    let times = found.learned[0].1;
    assert!(times <= 1.05, "{times}");
    let gain = found.shipped.delay / found.best.delay / times;
    assert!(gain >= 6.0, "{gain}");
}

/// Jobs that become six times as long at 300 s, or as short: polls and delay in the third minute
/// after it.
#[test]
fn it_follows_a_drift() {
    let after = |[from, to]: [f64; 2]| {
        let [old, new] = [from, to].map(|median| Distribution::Lognormal { median, sigma: 0.5 });
        let mut random = Random::new(5);
        let jobs = arrivals((0.0, 450.0), 4.0, &mut random, |made, random| {
            let takes = if made < 300.0 { &old } else { &new }.sample(random);
            SimulatedJob { made, kind: 0, queued: None, takes, hook: None }
        });
        let records = run(&mut Model::default(), &Setting::default(), &jobs, &mut random);
        mean_of(&records, |record| record.made >= 360.0)
    };
    let (up, down) = (after([20.0, 120.0]), after([120.0, 20.0]));
    assert!(up.polls <= 30.0 && up.delay <= 4.0, "{up:?}");
    assert!(down.delay <= 3.0 && down.polls <= 12.0, "{down:?}");
}

#[test]
fn two_clocks_are_used_where_they_pay() {
    let compare = |queue: &str, run: &str| phases::compare(&named(queue), &named(run), 0.2, 11);
    let long = compare("lognormal:median=30,sigma=1.2", "lognormal:median=20,sigma=0.3");
    assert!(long.pays && long.two.cost(0.2) < 0.7 * long.one.cost(0.2), "{long:?}");
    let short = compare("lognormal:median=0.5,sigma=0.5", "lognormal:median=20,sigma=0.5");
    assert!(!short.pays, "{short:?}");
}

#[test]
fn keyed_curves_are_close_to_their_optimum() {
    let kinds = [(0.5, 8.0), (0.3, 20.0), (0.2, 300.0)];
    let kinds = kinds.map(|(weight, median)| (weight, Distribution::Lognormal { median, sigma: 0.5 }));
    assert!(mixed(&kinds, Shipped::Fixed(2.0), 1000.0, 1).keyed <= 1.10);
}

#[test]
fn levels_are_as_good_as_the_exact_order() {
    let kinds = [8.0, 20.0, 300.0].map(|median| Distribution::Lognormal { median, sigma: 0.5 });
    let curves = kinds.clone().map(|kind| known(&kind));
    let spent = |order| {
        let (mut random, mut made) = (Random::new(3), 0.0);
        let jobs: Vec<budget::BudgetJob> = (0..2000)
            .map(|at| {
                made += random.exponential() / 40.0;
                let kind = [0, 0, 0, 0, 0, 1, 1, 1, 2, 2][at % 10];
                budget::BudgetJob { made, takes: kinds[kind].sample(&mut random), curve: &curves[kind] }
            })
            .collect();
        budget::run(&jobs, order, 150.0, 0.2, &mut random)
    };
    let [exact, levels] = [Order::Largest, Order::Levels].map(spent);
    assert!(levels.delay <= 1.03 * exact.delay, "{levels:?} {exact:?}");
    assert_eq!(levels.idle, 0);
}

fn question(at: At) -> Question {
    Question { policies: NamedPolicy::ALL.to_vec(), at, theta: 0.2, finishes: 300, seed: 7 }
}

#[test]
fn names_of_policies_read_back() {
    for named in NamedPolicy::ALL {
        assert_eq!(named.to_string().parse(), Ok(named));
    }
    assert!("fixed=0s".parse::<NamedPolicy>().is_err() && "fixd".parse::<NamedPolicy>().is_err());
}

#[test]
fn nobody_beats_the_optimum_and_equal_polls_are_equal() {
    let subject = Subject::known("weibull", named("weibull"));
    for at in [At::AsShipped, At::EqualPolls] {
        let lines = study(&subject, &question(at));
        for line in &lines {
            assert!(line.times_optimum > 0.985, "{line:?}");
            assert!(at == At::AsShipped || (line.polls / lines[0].polls - 1.0).abs() < 0.03, "{line:?}");
        }
    }
}

#[test]
fn measured_jobs_are_learned_from_one_after_the_other() {
    let mut random = Random::new(2);
    let takes: Vec<f64> = (0..300).map(|_| named("normal").sample(&mut random)).collect();
    let policies = vec![NamedPolicy::Shipped(Shipped::Fixed(2.0)), NamedPolicy::Learned];
    let cost = |takes: &[f64]| {
        let subject = Subject::in_turn("measured", takes).unwrap();
        study(&subject, &Question { policies: policies.clone(), ..question(At::AsShipped) })[1].cost
    };
    // The first few know nothing.
    assert!(cost(&takes) < 0.7 * cost(&takes[..5]));
    Subject::in_turn("nothing", &[]).unwrap_err();
}

#[test]
fn hooks_save_most_polls_and_a_silent_stop_costs_little() {
    let jobs = named("lognormal");
    let without = costs(&jobs, None, Policy::default(), 7)[0];
    let stopping = Hooks { share: 1.0, delay: 0.3, stop: true };
    let [before, around, later] = costs(&jobs, Some(stopping), Policy::default(), 7)[..] else { panic!() };
    assert!(before.mean.polls < 0.33 * without.mean.polls, "{before:?} instead of {without:?}");
    assert!(before.mean.delay < 0.35 && before.p99 < 0.5, "{before:?}");
    assert!(around.p99 < 3.0 * without.p99, "{around:?} beside {without:?}");
    assert!((later.mean.polls / without.mean.polls - 1.0).abs() < 0.05, "{later:?} as {without:?}");
}
