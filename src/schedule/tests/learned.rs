//! The schedule under the strategy that learns.

use proptest::prelude::{Just, Strategy, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};

use std::time::Duration;

use super::{
    super::{Strategy as Way, *},
    fail, request, wall, watch,
};
use crate::schedule::learned::{
    forecast::Progress,
    kind::RunEnd,
    model::{Key, Model},
    save,
};
use crate::{
    store::{Watch, WatchStage},
    util::units::{HumanDuration, Time},
};

fn learned() -> PollingConfig {
    PollingConfig { strategy: Way::Learned, ..PollingConfig::default() }
}

/// Returns a watch of a kind that was registered `age` seconds ago and seen running a second later.
fn old(number: u64, endpoint: &str, age: u64) -> Watch {
    let mut watch = watch(number, WatchStage::Watching);
    watch.registered_at = Time(wall().0 - i64::try_from(age * 1000).unwrap());
    watch.job_created_at = Some(watch.registered_at);
    watch.updated_at = watch.registered_at.after(Duration::from_secs(1));
    watch.seen_running = true;
    watch.endpoint = Some(endpoint.to_owned());
    watch
}

/// Returns what 200 jobs of each kind teach that took about this many seconds.
fn taught(kinds: &[(&str, f64)]) -> Model {
    let mut model = Model::default();
    for (endpoint, takes) in kinds {
        let key = Key { endpoint: (*endpoint).to_owned(), label: None };
        for at in 0..200 {
            let age = takes * (0.9 + 0.001 * f64::from(at));
            let seen = [Progress::default(), Progress { age, started: None }];
            model.record_finished(&key, seen, RunEnd::Finished(Some(age)), 0.0, 0.0);
        }
    }
    model
}

fn after(start: Instant, seconds: f64) -> (Instant, Time) {
    // To the microsecond, as the queue counts.
    let span = Duration::from_secs_f64((seconds * 1e6).round() / 1e6);
    (start + span, wall().after(span))
}

/// Asks every ten milliseconds what to do, and answers at once that each job is still running.
fn drive(schedule: &mut Schedule, start: Instant, (from, to): (f64, f64)) -> Vec<u64> {
    let mut polls = Vec::new();
    let mut at = from;
    while at < to {
        let (now, wall) = after(start, at);
        loop {
            match schedule.next(now, wall) {
                Next::List(_) => unreachable!("nobody asks for a list"),
                Next::Run(number) => {
                    polls.push(number);
                    schedule.record_running(number, &StatusAnswer::default(), now, wall);
                    schedule.done(number, Task::Poll, true, now, wall, 0.5);
                }
                Next::Yield => {}
                Next::Wait(until) => {
                    assert!(until.is_none_or(|until| until > now), "it waits for what has come");
                    break;
                }
                Next::Cut => panic!("none is slow"),
            }
        }
        at += 0.01;
    }
    polls
}

#[test]
fn a_herd_stays_inside_the_budget_and_the_most_promising_come_first() {
    let start = Instant::now();
    let mut schedule = Schedule::new(&learned(), 50.0, 8, start);
    schedule.restore(taught(&[("/short", 10.0), ("/long", 10_000.0)]));
    // One in ten of a hundred thousand has most likely ended long ago.
    for number in 0..100_000 {
        let kind = if number % 10 == 3 { "/short" } else { "/long" };
        schedule.add(&old(number, kind, 1000), start, wall());
    }
    let polls = drive(&mut schedule, start, (0.0, 10.0));
    assert!((500..=506).contains(&polls.len()), "{} polls in ten seconds at 50 a second", polls.len());
    assert!(polls.iter().all(|number| number % 10 == 3), "the jobs that most likely ended come first");

    // An outage of ten minutes ends, and all are due at once.
    let (now, _) = after(start, 10.0);
    let pause = Duration::from_secs(600);
    schedule.record_sign(request(0, now), SourceSign::Ill(HealthState::Limited, Some(pause)), 0.0);
    assert_eq!(drive(&mut schedule, start, (10.01, 609.0)), Vec::<u64>::new());
    schedule.record_sign(request(0, after(start, 610.5).0), SourceSign::Well, 0.0);
    let polls = drive(&mut schedule, start, (610.5, 620.5));
    assert!((500..=506).contains(&polls.len()), "{} polls after the outage", polls.len());
    assert!(polls.iter().all(|number| number % 10 == 3), "{polls:?}");
}

#[test]
fn one_call_does_a_bounded_part_of_the_work() {
    let start = Instant::now();
    let mut schedule = Schedule::new(&learned(), 1e6, 8, start);
    for number in 0..5000 {
        schedule.add(&old(number, "/a", 1000), start, wall());
    }
    // All are due, and the queue has advanced none.
    assert_eq!(schedule.next(start, wall()), Next::Run(0));
    assert!(schedule.polls.is_ready());
    let waiting = schedule.polls.ready();
    assert!(waiting <= 1000, "{waiting} in one call");
}

/// Returns when the next poll of a watch is, in seconds from the start, and why.
fn next(schedule: &Schedule, number: u64, start: Instant) -> (f64, &'static str) {
    let (entry, due) = schedule.entry(number).unwrap();
    (due.unwrap().duration_since(start).as_secs_f64(), entry.reason())
}

/// Returns numbers that do not explore.
fn plain() -> impl Iterator<Item = u64> {
    (1..).filter(|number| {
        let probe = Instant::now();
        let mut schedule = Schedule::new(&learned(), 50.0, 8, probe);
        schedule.restore(taught(&[("/a", 1000.0)]));
        schedule.add(&old(*number, "/a", 0), probe, wall());
        next(&schedule, *number, probe).1 == "learned"
    })
}

fn one(config: &PollingConfig, takes: f64) -> (Schedule, u64, Instant) {
    let (start, number) = (Instant::now(), plain().next().unwrap());
    let mut schedule = Schedule::new(config, 50.0, 8, start);
    schedule.restore(taught(&[("/a", takes)]));
    let mut fresh = old(number, "/a", 0);
    fresh.updated_at = fresh.registered_at;
    schedule.add(&fresh, start, wall());
    (schedule, number, start)
}

#[test]
fn a_poll_comes_when_such_jobs_finish() {
    let (schedule, number, start) = one(&learned(), 100.0);
    let (due, reason) = next(&schedule, number, start);
    // They take 90 to 110 seconds.
    assert!((88.0..100.0).contains(&due) && reason == "learned", "{due} {reason}");
    let dear = PollingConfig { cost_of_a_poll: HumanDuration::secs(20), ..learned() };
    let (schedule, number, start) = one(&dear, 100.0);
    assert!(next(&schedule, number, start).0 > 105.0);
}

#[test]
fn objectives_and_limits_bound_the_wait() {
    let quick = PollingConfig { max_delay: Some(HumanDuration::secs(5)), ..learned() };
    let (schedule, number, start) = one(&quick, 100.0);
    assert_eq!(next(&schedule, number, start), (5.0, "max_delay"));
    let bounded = PollingConfig { max_interval: Some(HumanDuration::secs(7)), ..learned() };
    let (schedule, number, start) = one(&bounded, 100.0);
    assert_eq!(next(&schedule, number, start), (7.0, "max_interval"));
    let (mut schedule, number, start) = one(&learned(), 100.0);
    let mut short = old(number, "/a", 0);
    short.deadline = Some(wall().after(Duration::from_secs(9)));
    schedule.add(&short, start, wall());
    assert_eq!(next(&schedule, number, start), (9.0, "deadline"));
    assert_eq!(drive(&mut schedule, start, (0.0, 8.99)), Vec::<u64>::new());
    let (now, wall) = after(start, 9.0);
    assert_eq!(schedule.next(now, wall), Next::Run(number), "a job is always polled at its deadline");
}

#[test]
fn a_request_comes_at_once_and_a_hint_is_heeded() {
    for strategy in [Way::Learned, Way::Backoff, Way::Fixed] {
        heeds_a_hint(strategy);
    }
}

fn heeds_a_hint(strategy: Way) {
    let bounded = PollingConfig { strategy, max_delay: Some(HumanDuration::secs(5)), ..learned() };
    let (mut schedule, number, start) = one(&bounded, 100.0);
    let (now, later) = after(start, 1.0);
    assert!(schedule.poll_now(number, now));
    assert_eq!(next(&schedule, number, now), (0.0, "asked"));
    assert_eq!(schedule.next(now, later), Next::Run(number));
    let seen = StatusAnswer { hint: Some(Duration::from_secs(60)), ..StatusAnswer::default() };
    schedule.record_running(number, &seen, now, later);
    schedule.done(number, Task::Poll, true, now, later, 0.0);
    assert_eq!(next(&schedule, number, now), (60.0, "hint"));
    assert_eq!(drive(&mut schedule, start, (1.01, 60.9)), Vec::<u64>::new());
    assert_eq!(drive(&mut schedule, start, (61.0, 61.1)), [number]);
}

#[test]
fn a_poll_that_failed_is_tried_again_after_a_growing_pause() {
    let (mut schedule, number, start) = one(&learned(), 100.0);
    let mut at = 0.0;
    let mut waits = Vec::new();
    for _ in 0..12 {
        let (now, wall) = after(start, at);
        schedule.poll_now(number, now);
        assert_eq!(schedule.next(now, wall), Next::Run(number));
        fail(&mut schedule, number, Task::Poll, (now, wall));
        let (wait, reason) = next(&schedule, number, now);
        assert_eq!(reason, "retry");
        waits.push(wait);
        // Not to the nanosecond: the queue counts in microseconds.
        at += wait + 0.001;
    }
    assert!(waits.windows(2).all(|pair| pair[0] <= pair[1]) && waits[11] > 25.0, "{waits:?}");
}

#[test]
fn what_a_job_teaches_is_kept_by_kind() {
    let start = Instant::now();
    let config = PollingConfig { learn_by_label: Some("model".to_owned()), ..learned() };
    let mut schedule = Schedule::new(&config, 50.0, 8, start);
    for (number, model) in [(1, "large"), (2, "small"), (3, "small")] {
        let mut fresh = old(number, "/a", 0);
        fresh.labels.insert("model".to_owned(), model.to_owned());
        schedule.add(&fresh, start, wall());
        let (now, later) = after(start, 30.0);
        let seen = StatusAnswer {
            created_at: Some(wall()),
            ended_at: Some(wall().after(Duration::from_secs(20))),
            ..StatusAnswer::default()
        };
        let mut ended = schedule.pending_completion(number, true).unwrap();
        schedule.record_finished(&mut ended, &seen, now, later, 0.5);
        // A job that was stopped says nothing about how long it would have taken.
        let mut stopped = schedule.pending_completion(number, false).unwrap();
        schedule.record_finished(&mut stopped, &seen, now, later, 0.5);
    }
    let kinds = schedule.kinds(true);
    let shown: Vec<_> = kinds.iter().map(|kind| (kind.label.as_deref().unwrap(), kind.finishes)).collect();
    assert_eq!(shown, [("small", 2), ("large", 1)]);
    assert!(kinds[0].curves.as_ref().unwrap().polls.windows(2).all(|pair| pair[0] < pair[1]));
    let stats = schedule.stats();
    assert_eq!((stats.jobs, stats.timed), (6, 6));
    assert!((stats.delay / 6.0 - 10.0).abs() < 1e-9, "{stats:?}");
}

#[test]
fn a_save_that_is_damaged_or_foreign_is_refused_whole() {
    let bytes = save::save(&taught(&[("/a", 10.0)]));
    save::restore(&bytes).unwrap();
    for bad in [&bytes[..bytes.len() - 1], b"", b"tidecrv9"] {
        save::restore(bad).unwrap_err();
    }
}

#[derive(Clone, Debug)]
enum Step {
    Follow(u64, u64),
    Ask(u64),
    Unfollow(u64),
    Alive(Option<u64>),
    Fail,
    End,
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..6u64, 0..5000u64).prop_map(|(number, age)| Step::Follow(number, age)),
        (0..6u64).prop_map(Step::Ask),
        (0..6u64).prop_map(Step::Unfollow),
        prop::option::of(0..500u64).prop_map(Step::Alive),
        Just(Step::Fail),
        Just(Step::End),
        (0..200_000u64).prop_map(Step::Pass),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_each_watch_is_queued_once_or_polled_once(steps in prop::collection::vec(step(), 0..120)) {
        let start = Instant::now();
        let mut schedule = Schedule::new(&learned(), 5.0, 3, start);
        let mut passed = 0;
        let mut running: Vec<u64> = Vec::new();
        let mut open = std::collections::BTreeSet::new();
        for step in steps {
            let span = Duration::from_millis(passed);
            let (now, wall) = (start + span, wall().after(span));
            match step {
                Step::Follow(number, age) => {
                    schedule.add(&old(number, "/a", age), now, wall);
                    open.insert(number);
                }
                Step::Ask(number) => prop_assert_eq!(schedule.poll_now(number, now), open.contains(&number)),
                Step::Unfollow(number) => {
                    schedule.remove(number);
                    open.remove(&number);
                }
                Step::Alive(hint) => if let Some(number) = running.pop() {
                    let seen = StatusAnswer { hint: hint.map(Duration::from_secs), ..StatusAnswer::default() };
                    schedule.record_running(number, &seen, now, wall);
                    schedule.done(number, Task::Poll, true, now, wall, 0.5);
                },
                Step::Fail => if let Some(number) = running.pop() {
                    match open.contains(&number) {
                        true => fail(&mut schedule, number, Task::Poll, (now, wall)),
                        false => schedule.done(number, Task::Poll, true, now, wall, 0.5),
                    }
                },
                Step::End => if let Some(number) = running.pop() {
                    if let Some(mut ended) = schedule.pending_completion(number, true) {
                        schedule.record_finished(&mut ended, &StatusAnswer::default(), now, wall, 0.5);
                    }
                    schedule.remove(number);
                    open.remove(&number);
                    schedule.done(number, Task::Poll, false, now, wall, 0.5);
                },
                Step::Pass(millis) => passed += millis,
            }
            while let Next::Run(number) = schedule.next(now, wall) {
                prop_assert!(!running.contains(&number), "two polls at once");
                prop_assert!(open.contains(&number));
                running.push(number);
                // Polls that take longer than a second give their place to others, up to a crowd.
                prop_assert!(running.len() <= 4 * 3);
            }
            for number in &open {
                let (_, due) = schedule.entry(*number).unwrap();
                // Queued or in flight: never forgotten.
                prop_assert!(due.is_some() || running.contains(number), "{} is forgotten", number);
            }
        }
    }
}
