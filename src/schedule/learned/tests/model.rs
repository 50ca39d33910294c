//! The model: closed forms, properties, inheritance, saving.

#![expect(clippy::cast_precision_loss, clippy::float_cmp, reason = "counts and exact figures")]

use std::sync::Arc;

use crate::{
    schedule::learned::{
        clock::Clock,
        curve::Curve,
        decide::{LONGEST_HINT, Policy, PollReason, Situation, decide, reconsider_at},
        forecast::{Forecast, Progress},
        kind::RunEnd,
        model::{Key, MAX_CLOCKS, Model},
        save::{Damaged, restore, save},
    },
    simulate::{
        compare::{known, learned, learning},
        distribution::Distribution,
        optimum::optimum,
        policies::{expected_wait, tuned},
        random::Random,
        truth::{evaluate, solve, truth},
    },
};
use proptest::prelude::*;

fn named(text: &str) -> Distribution {
    text.parse().unwrap()
}

fn forecast(curve: Curve) -> Forecast {
    Forecast { total: Arc::new(curve), phases: None, finishes: 1 }
}

/// For exponential lifetimes A(u, x) = τ − μ (1 − exp(−τ/μ)), whatever the age.
#[test]
fn exponential_lifetimes_have_a_closed_form() {
    let (curve, mean) = (truth(&named("exponential:mean=20")), 20.0_f64);
    for theta in [0.01, 0.2, 3.0, 30.0] {
        for age in [0.0, 1.3, 50.0] {
            let wait = curve.next(age, theta) - age;
            let waiting = wait - mean * (1.0 - (-wait / mean).exp());
            assert!((waiting / theta - 1.0).abs() < 1e-3, "θ {theta} at {age}: {waiting}");
        }
    }
    let polls = |theta| evaluate(&curve, &optimum(&curve, theta));
    let best = polls(0.2);
    let fixed = evaluate(&curve, &tuned(&curve, curve.next(0.0, 0.2)));
    let times = fixed.cost(0.2) / best.cost(0.2);
    assert!((0.999..1.002).contains(&times), "a fixed interval is optimal: {times}");
}

#[test]
fn the_waiting_at_the_next_poll_is_theta() {
    for text in ["lognormal", "bimodal", "normal", "pareto", "weibull"] {
        let curve = known(&named(text));
        for theta in [0.01, 0.2, 5.0] {
            for age in [0.0, 0.1, 3.0, 61.0, 400.0, 1e6] {
                // Where hardly a job is left, differences are lost in rounding.
                if curve.survival(age) < 1e-9 {
                    continue;
                }
                let next = curve.next(age, theta);
                let waiting = curve.waiting(age, next);
                assert!((waiting / theta - 1.0).abs() < 0.02, "{text} θ {theta} at {age}: {next} {waiting}");
            }
        }
    }
}

#[test]
fn the_expected_wait_is_close_to_the_optimum() {
    for text in ["lognormal", "bimodal", "normal", "pareto", "weibull"] {
        let curve = truth(&named(text));
        for theta in [0.05, 0.3] {
            let [best, found] = [optimum(&curve, theta), expected_wait(&curve, &curve, theta)];
            let cost = evaluate(&curve, &found).cost(theta) / evaluate(&curve, &best).cost(theta);
            assert!((0.999..1.03).contains(&cost), "{text} θ {theta}: {cost}");
        }
    }
}

#[test]
fn a_new_kind_profits_from_its_parent_and_outgrows_it() {
    let (same, other) = (named("normal:mean=60,sd=3"), named("lognormal:median=8,sigma=0.5"));
    let fine = truth(&same);
    let cost = |finishes: usize, parent: Option<&Curve>| {
        let total: f64 = (0..5)
            .map(|run| {
                let (mut clock, mut random) = (Clock::default(), Random::new(run));
                for _ in 0..finishes {
                    clock.record_finish(0.0, same.sample(&mut random));
                }
                learning(&fine, &clock.build(parent), 0.05).cost(0.05)
            })
            .sum();
        total / 5.0
    };
    let (alike, unlike) =
        (learned(&same, 1000, &mut Random::new(9)), learned(&other, 1000, &mut Random::new(9)));
    assert!(cost(0, Some(&alike)) < 0.6 * cost(0, None), "of the same shape");
    assert!(cost(20, Some(&alike)) < 0.93 * cost(20, None), "of the same shape, a little known");
    assert!(cost(200, Some(&unlike)) < 1.1 * cost(200, None), "of another shape, well known");
    assert!(cost(1000, Some(&unlike)) < 1.03 * cost(1000, None), "of another shape, known for long");
}

#[test]
fn reasons_tell_what_decided() {
    let curve = forecast(known(&named("normal")));
    let policy = Policy { max_interval: 600.0, ..Policy::default() };
    let job = Situation {
        known: Progress { age: 10.0, started: None },
        now: 10.0,
        polled: Some(10.0),
        luck: 0.9,
        jitter: 0.5,
        ..Situation::default()
    };
    let reason = |policy: &Policy, job: &Situation| decide(&curve, policy, job).reason;
    assert_eq!(reason(&policy, &job), PollReason::Learned);
    assert_eq!(decide(&curve, &policy, &Situation { asked: true, ..job }).age, 10.0);
    assert_eq!(reason(&policy, &Situation { asked: true, ..job }), PollReason::Asked);
    assert_eq!(reason(&policy, &Situation { luck: 0.01, ..job }), PollReason::Exploring);
    assert_eq!(reason(&policy, &Situation { hint: Some(100.0), ..job }), PollReason::Hint);
    assert_eq!(decide(&curve, &policy, &Situation { hint: Some(1e9), ..job }).age, 10.0 + LONGEST_HINT);
    assert_eq!(reason(&policy, &Situation { deadline: Some(20.0), ..job }), PollReason::Deadline);
    assert_eq!(reason(&Policy { max_interval: 1.0, ..policy }, &job), PollReason::MaxInterval);
    assert_eq!(reason(&Policy { max_delay: Some(1.0), ..policy }, &job), PollReason::MaxDelay);
    assert_eq!(reason(&Policy { min_interval: 100.0, ..policy }, &job), PollReason::MinInterval);
    assert_eq!(decide(&Forecast { finishes: 0, ..curve.clone() }, &policy, &job).reason, PollReason::Prior);
}

#[test]
fn the_kinds_are_bounded_and_the_least_used_goes_first() {
    let mut model = Model::default();
    let key = |i: usize| Key { endpoint: i.to_string(), label: None };
    let seen = Progress { age: 5.0, started: None };
    for i in 0..400 {
        model.record_running(&key(i), Progress::default(), seen, i as f64);
        model.record_running(&key(0), Progress::default(), seen, i as f64);
    }
    assert!(model.kinds().count() < MAX_CLOCKS);
    let held = |i: usize| model.kinds().any(|(held, _)| *held == key(i));
    assert!(held(0) && held(399) && !held(1));
}

#[test]
fn queue_and_run_are_told_apart() {
    let (mut model, key) = (Model::default(), Key::default());
    let mut random = Random::new(3);
    for _ in 0..300 {
        let queued = 30.0 * (1.5 * random.normal()).exp();
        let takes = queued + 20.0 + random.normal();
        let seen = Progress { age: takes, started: Some(queued) };
        model.record_finished(&key, [Progress::default(), seen], RunEnd::Finished(Some(takes)), 0.0, 0.0);
    }
    let forecast = model.forecast(&key, 0.2, 10.0);
    let next = forecast.next(Progress { age: 101.0, started: Some(100.0) }, 0.2);
    assert!((115.0..121.0).contains(&next), "{next}");
    assert!(forecast.next(Progress { age: 0.5, started: None }, 0.2) > 18.0);
}

fn history() -> impl Strategy<Value = Vec<(f64, f64, u8)>> {
    let any = prop_oneof![0.0..1e3, 0.0..1e7, Just(f64::NAN), Just(f64::INFINITY), Just(-1.0), Just(0.0)];
    prop::collection::vec((any.clone(), any, 0u8..5), 0..60)
}

fn model_of(history: &[(f64, f64, u8)], key: &Key) -> Model {
    let mut model = Model::default();
    for (at, (a, b, what)) in history.iter().enumerate() {
        let [before, now] = [*a, *b].map(|age| Progress { age, started: (*what == 4).then_some(a / 2.0) });
        let time = at as f64;
        match what {
            0 => model.record_running(key, before, now, time),
            1 => model.record_finished(key, [before, now], RunEnd::Finished(None), *a, time),
            2 => model.record_finished(key, [before, now], RunEnd::Dropped, 0.5, time),
            _ => model.record_finished(key, [before, now], RunEnd::Finished(Some(*b)), 0.5, time),
        }
    }
    model
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_poll_is_finite_and_within_its_clamps(
        history in history(), age in 0.0..1e6f64, theta in 1e-4..1e3f64, min in 0.01..10.0f64, more in 0.0..1e4f64,
        luck in 0.0..1.0f64, jitter in 0.0..1.0f64, hint in prop::option::of(0.0..1e6f64),
    ) {
        let key = Key::default();
        let mut model = model_of(&history, &key);
        let forecast = model.forecast(&key, theta, 1e4);
        let policy = Policy { theta, min_interval: min, max_interval: min + more, max_delay: None };
        let job = Situation { known: Progress { age, started: None }, now: age, polled: Some(age), hint, luck, jitter, ..Situation::default() };
        let next = decide(&forecast, &policy, &job);
        prop_assert!(next.age.is_finite() && next.age > age);
        prop_assert!(next.age >= age + min * 0.999_999 || next.age - age >= min - 1e-6);
        prop_assert!(next.age <= age + (min + more).max(hint.unwrap_or(0.0).min(LONGEST_HINT)) + 1e-6);
        let later = decide(&forecast, &Policy { theta: theta * 1.5, ..policy }, &job);
        prop_assert!(later.age >= next.age - 1e-6, "not monotone in θ");
        let late = Situation { deadline: Some(age + 0.001), ..job };
        prop_assert!(decide(&forecast, &policy, &late).age <= age + 0.001 + 1e-9);
        let again = reconsider_at(age, next.age);
        prop_assert!(age < again && again <= next.age);
    }

    #[test]
    fn nothing_is_ever_not_a_number(history in history(), odd in prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(f64::NEG_INFINITY), Just(-3.0), Just(0.0)]) {
        let key = Key::default();
        let mut model = model_of(&history, &key);
        let forecast = model.forecast(&key, odd, 1e4);
        for progress in [Progress { age: odd, started: None }, Progress { age: 5.0, started: Some(odd) }] {
            prop_assert!(forecast.next(progress, odd).is_finite());
            prop_assert!(forecast.waiting(progress, odd).is_finite());
            let job = Situation { known: progress, now: odd, polled: Some(odd), deadline: Some(odd), hint: Some(odd), asked: false, luck: odd, jitter: odd };
            let policy = Policy { theta: odd, min_interval: odd, max_interval: odd, max_delay: Some(odd) };
            prop_assert!(decide(&forecast, &policy, &job).age.is_finite());
        }
        prop_assert!(forecast.total.points().all(|(_, survival)| survival > 0.0 && survival <= 1.0));
        prop_assert!(forecast.total.age_at(0.5).is_finite());
    }

    #[test]
    fn a_saved_model_comes_back(history in history(), flip in 0usize..10_000) {
        let key = Key { endpoint: "/v1/jobs".into(), label: Some("é".into()) };
        let model = model_of(&history, &key);
        let bytes = save(&model);
        let back = restore(&bytes).unwrap();
        let kinds = |model: &Model| model.kinds().map(|(key, kind)| (key.clone(), kind.clone())).collect::<Vec<_>>();
        let (before, after) = (kinds(&model), kinds(&back));
        prop_assert_eq!(before.len(), after.len());
        for ((key, before), (same, after)) in before.iter().zip(&after) {
            prop_assert_eq!(key, same);
            prop_assert_eq!(before.clocks().count(), after.clocks().count());
            for (before, after) in before.clocks().zip(after.clocks()) {
                prop_assert_eq!(before.finishes(), after.finishes());
                for (before, after) in before.counts().into_iter().zip(after.counts()) {
                    // Counts are kept in sixteenths.
                    let ends = before.ends().zip(after.ends());
                    let alive = before.running_through().zip(after.running_through());
                    for (a, b) in ends.chain(alive) {
                        prop_assert!((a - b).abs() <= 1.0 / 32.0 + a * 1e-5, "{} became {}", a, b);
                    }
                }
            }
        }
        prop_assert_eq!(save(&back), bytes.clone(), "a second save says the same");
        let mut damaged = bytes.clone();
        damaged[flip % bytes.len()] ^= 0x10;
        restore(&damaged).unwrap_err();
        restore(&bytes[..flip % bytes.len()]).unwrap_err();
    }

    #[test]
    fn what_is_no_save_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert_eq!(restore(&bytes).err(), Some(Damaged::Unknown));
    }
}

#[test]
fn theta_scales_polls() {
    let curve = truth(&named("lognormal"));
    let theta =
        solve(1e-3, 1e2, true, |theta| evaluate(&curve, &expected_wait(&curve, &curve, theta)).polls < 6.4);
    assert!((0.15..0.3).contains(&theta), "{theta}");
}
