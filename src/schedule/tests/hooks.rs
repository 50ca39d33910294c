//! Hooks of the source.

#![expect(clippy::cast_precision_loss, reason = "counts of jobs")]

use std::time::Duration;

use super::{
    super::{Strategy as Way, *},
    request, wall, watch,
};
use crate::store::WatchStage;

const LEAST: Duration = Duration::from_millis(250);

/// A schedule with one watch, whose source sends hooks.
fn hooked() -> (Schedule, Instant) {
    let start = Instant::now();
    let config = PollingConfig { strategy: Way::Learned, ..PollingConfig::default() };
    let mut schedule = Schedule::new(&config, 1000.0, 4, start);
    schedule.expect_hooks(true);
    schedule.add(&watch(1, WatchStage::Watching), start, wall());
    (schedule, start)
}

fn at(start: Instant, millis: u64) -> (Instant, Time) {
    let span = Duration::from_millis(millis);
    (start + span, wall().after(span))
}

fn next(schedule: &Schedule, now: Instant) -> (Duration, &'static str) {
    let (at, reason) = schedule.next_request(1, now).unwrap();
    (at.saturating_duration_since(now), reason)
}

/// Polls the job, which is still running.
fn poll(schedule: &mut Schedule, (now, wall): (Instant, Time)) {
    assert_eq!(schedule.next(now, wall), Next::Run(1));
    schedule.record_answer(request(1, now));
    schedule.record_running(1, &StatusAnswer::default(), now, wall);
    schedule.done(1, Task::Poll, true, now, wall, 0.5);
}

#[test]
fn a_hook_makes_one_poll_due_however_often_it_comes() {
    let (mut schedule, start) = hooked();
    let (now, wall) = at(start, 1);
    for _ in 0..1000 {
        assert!(schedule.announce(1, now, wall));
    }
    assert_eq!(next(&schedule, now), (Duration::ZERO, "hook"));
    assert_eq!(schedule.next(now, wall), Next::Run(1));
    assert!(matches!(schedule.next(now, wall), Next::Wait(_)), "one poll at a time");
    assert!(!schedule.announce(2, now, wall), "nobody watches it");
}

#[test]
fn a_hook_during_a_poll_leads_to_another_one() {
    let (mut schedule, start) = hooked();
    schedule.poll_now(1, start);
    assert_eq!(schedule.next(start, wall()), Next::Run(1));
    for _ in 0..10 {
        assert!(schedule.announce(1, start, wall()));
    }
    schedule.record_answer(request(1, start));
    schedule.record_running(1, &StatusAnswer::default(), start, wall());
    schedule.done(1, Task::Poll, true, start, wall(), 0.5);
    assert_eq!(next(&schedule, start), (LEAST, "hook"));
}

#[test]
fn a_hook_ahead_of_the_status_is_followed_by_some_quick_polls() {
    let (mut schedule, start) = hooked();
    let mut now = 0;
    schedule.announce(1, start, wall());
    for wait in [250, 500, 1000, 2000] {
        poll(&mut schedule, at(start, now));
        assert_eq!(next(&schedule, at(start, now).0), (Duration::from_millis(wait), "hook"));
        now += wait;
    }
    poll(&mut schedule, at(start, now));
    assert_ne!(next(&schedule, at(start, now).0).1, "hook", "it announced progress");
    // The next one still comes at once, but no sooner than the shortest interval.
    let (later, wall) = at(start, now + 100);
    schedule.announce(1, later, wall);
    assert_eq!(next(&schedule, later), (Duration::from_millis(150), "hook"));
}

#[test]
fn hooks_that_only_tell_progress_cost_two_polls() {
    let (mut schedule, start) = hooked();
    let mut now = 0;
    for _ in 0..20 {
        now += 10_000;
        schedule.announce(1, at(start, now).0, at(start, now).1);
        let mut polls = 0;
        while schedule.next_request(1, at(start, now).0).unwrap().1 == "hook" {
            now += u64::try_from(next(&schedule, at(start, now).0).0.as_millis()).unwrap();
            poll(&mut schedule, at(start, now));
            polls += 1;
        }
        now += 1;
        if polls == 2 {
            return;
        }
    }
    panic!("each still costs more");
}

#[test]
fn a_hook_waits_for_a_source_that_is_paused() {
    let (mut schedule, start) = hooked();
    let pause = Duration::from_secs(60);
    schedule.record_sign(request(1, start), SourceSign::Ill(HealthState::Limited, Some(pause)), 0.0);
    schedule.announce(1, start, wall());
    assert_eq!(schedule.next(start, wall()), Next::Wait(Some(start + pause)));
}

/// Watches a job that takes twenty seconds, to its end. Returns its polls.
fn run(schedule: &mut Schedule, number: u64, start: Instant, from: u64, hook: bool) -> (u64, u64) {
    let takes = 20_000;
    let (now, wall) = at(start, from);
    let mut job = watch(number, WatchStage::Watching);
    (job.registered_at, job.updated_at) = (wall, wall);
    job.created_at = wall;
    schedule.add(&job, now, wall);
    let mut polls = 0;
    for age in (0..200_000).step_by(50) {
        let (now, wall) = at(start, from + age);
        if hook && age == takes {
            schedule.announce(number, now, wall);
        }
        loop {
            match schedule.next(now, wall) {
                Next::List(_) => unreachable!("nobody asks for a list"),
                Next::Run(run) => assert_eq!(run, number),
                Next::Yield => continue,
                Next::Wait(_) | Next::Cut => break,
            }
            polls += 1;
            if age < takes {
                schedule.record_answer(request(number, now));
                schedule.record_running(number, &StatusAnswer::default(), now, wall);
                schedule.done(number, Task::Poll, true, now, wall, 0.5);
                continue;
            }
            let mut ended = schedule.pending_completion(number, true).unwrap();
            let seen = StatusAnswer { ended_at: Some(at(start, from + takes).1), ..StatusAnswer::default() };
            schedule.record_finished(&mut ended, &seen, now, wall, 0.5);
            schedule.remove(number);
            schedule.done(number, Task::Poll, false, now, wall, 0.5);
            return (polls, from + age + 50);
        }
    }
    panic!("its end was never noticed");
}

#[test]
fn polls_thin_out_while_hooks_come_and_thicken_when_they_stop() {
    let (mut schedule, start) = hooked();
    schedule.remove(1);
    let (mut now, mut number) = (0, 1);
    let mut several = |schedule: &mut Schedule, count: u64, hook| {
        let mut polls = 0;
        for _ in 0..count {
            number += 1;
            let (asked, end) = run(schedule, number, start, now, hook);
            polls += asked;
            now = end;
        }
        polls as f64 / count as f64
    };
    several(&mut schedule, 60, false);
    let without = several(&mut schedule, 20, false);
    assert!((schedule.hooks().1.unwrap()).abs() < 1e-9);
    several(&mut schedule, 60, true);
    let with = several(&mut schedule, 20, true);
    assert!(with < 1.5 && without > 2.0 * with, "{without} polls, {with} with hooks");
    let (stats, share) = schedule.hooks();
    assert_eq!((stats.announced, stats.missed), (80, 80));
    assert!(share.unwrap() > 0.7 && stats.delay / 80.0 < 0.1, "{stats:?}");
    several(&mut schedule, 8, false);
    let stopped = several(&mut schedule, 20, false);
    assert!(stopped > 0.8 * without, "{without} polls, {stopped} after the hooks stopped");
    // What was learned survives a restart.
    let missed = schedule.model().missed(&learned::model::Key::default());
    let saved = learned::save::restore(&learned::save::save(schedule.model())).unwrap();
    assert!((saved.missed(&learned::model::Key::default()) - missed).abs() < 1e-4);
}

#[test]
fn an_end_before_the_watch_or_the_start_says_nothing_of_hooks() {
    let (mut schedule, start) = hooked();
    let (now, later) = at(start, 10_000);
    let mut old = watch(2, WatchStage::Watching);
    old.registered_at = later;
    schedule.add(&old, now, later);
    for (number, ended_at) in [(1, wall()), (2, at(start, 9_000).1)] {
        let mut ended = schedule.pending_completion(number, true).unwrap();
        let before = Time(ended_at.0 - 5_000);
        let seen = StatusAnswer { ended_at: Some(before), ..StatusAnswer::default() };
        schedule.record_finished(&mut ended, &seen, now, later, 0.5);
    }
    assert_eq!(schedule.hooks().0.missed, 0);
}
