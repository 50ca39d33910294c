//! The schedule from outside.

mod clocks;
mod hooks;
mod isolation;
mod learned;
mod turns;

use std::time::Duration;

use super::*;
use crate::{
    model::status_answer::StatusAnswer,
    store::{Watch, WatchStage},
    util::units::HumanDuration,
};

pub(super) fn watch(number: u64, stage: WatchStage) -> Watch {
    let json = serde_json::json!({
        "source": "retab", "job_id": format!("job_{number}"), "created_at": "2026-01-01T00:00:00Z",
        "registered_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z", "stage": stage,
    });
    Watch { number, ..serde_json::from_value(json).unwrap() }
}

pub(super) fn wall() -> Time {
    Time::parse("2026-01-01T00:00:00Z").unwrap()
}

fn backoff() -> PollingConfig {
    PollingConfig { strategy: Strategy::Backoff, ..PollingConfig::default() }
}

fn schedule(now: Instant) -> Schedule {
    Schedule::new(&backoff(), 1000.0, 4, now)
}

#[tokio::test(start_paused = true)]
async fn a_watch_is_polled_once_at_a_time_beside_a_fetch() {
    let start = Instant::now();
    let mut schedule = schedule(start);
    schedule.add(&watch(1, WatchStage::Watching), start, wall());
    assert_eq!(schedule.next(start, wall()), Next::Wait(Some(start + Duration::from_millis(250))));
    schedule.add(&watch(2, WatchStage::Fetching), start, wall());
    let now = start + Duration::from_secs(1);
    let both: std::collections::BTreeSet<_> =
        [schedule.next(now, wall()), schedule.next(now, wall())].map(|next| format!("{next:?}")).into();
    assert_eq!(both, ["Run(1)".to_owned(), "Run(2)".to_owned()].into());
    assert!(schedule.poll_now(1, now));
    assert_eq!(schedule.next(now, wall()), Next::Wait(None), "a poll is in flight");
    schedule.done(1, Task::Poll, true, now, wall(), 0.0);
    assert_eq!(schedule.next(now, wall()), Next::Wait(Some(now + Duration::from_millis(250))));
}

#[tokio::test(start_paused = true)]
async fn a_poll_that_finds_the_end_leads_to_a_fetch() {
    let start = Instant::now();
    let mut schedule = schedule(start);
    schedule.add(&watch(1, WatchStage::Watching), start, wall());
    let now = start + Duration::from_secs(1);
    assert_eq!(schedule.next(now, wall()), Next::Run(1));
    schedule.add(&watch(1, WatchStage::Fetching), now, wall());
    schedule.done(1, Task::Poll, false, now, wall(), 0.0);
    assert_eq!(schedule.entry(1).unwrap().0.task, Task::Fetch);
    assert_eq!(schedule.next(now, wall()), Next::Run(1));
    schedule.remove(1);
    schedule.done(1, Task::Fetch, false, now, wall(), 0.0);
    assert_eq!((schedule.open(), schedule.in_flight()), ((0, 0), 0));
}

/// Returns a request for a watch that is answered at once.
fn request(number: u64, now: Instant) -> RequestTimes {
    RequestTimes { number, sent: now, now }
}

/// Records that a request failed for the job's own reasons, and ends its task.
fn fail(schedule: &mut Schedule, number: u64, task: Task, (now, wall): (Instant, Time)) {
    let (job, _) = schedule.failure_facts(request(number, now), FailureRowKind::Transient, wall).unwrap();
    schedule.record_failure(number, job.history);
    schedule.record_sign(request(number, now), SourceSign::Heard, 0.0);
    schedule.done(number, task, true, now, wall, 0.99);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_passes_during_a_pause_is_polled_afterwards() {
    let start = Instant::now();
    let mut schedule = schedule(start);
    let mut short = watch(1, WatchStage::Watching);
    short.deadline = Some(wall().after(Duration::from_secs(5)));
    schedule.add(&short, start, wall());
    let limited = SourceSign::Ill(HealthState::Limited, Some(Duration::from_secs(600)));
    schedule.record_sign(request(1, start), limited, 0.0);
    let (now, later) = (start + Duration::from_secs(5), wall().after(Duration::from_secs(5)));
    assert_eq!(schedule.next(now, later), Next::Wait(Some(start + Duration::from_secs(600))));
    let (now, later) = (start + Duration::from_secs(600), wall().after(Duration::from_secs(600)));
    assert_eq!(schedule.next(now, later), Next::Run(1));
}

#[tokio::test(start_paused = true)]
async fn somebody_who_insists_is_heard_during_a_pause() {
    let start = Instant::now();
    let mut schedule = schedule(start);
    for number in 1..4 {
        schedule.add(&watch(number, WatchStage::Watching), start, wall());
    }
    let limited = SourceSign::Ill(HealthState::Limited, Some(Duration::from_secs(600)));
    schedule.record_sign(request(1, start), limited, 0.0);
    schedule.poll_now(1, start);
    let end = start + Duration::from_secs(600);
    assert_eq!(schedule.next(start, wall()), Next::Wait(Some(end)), "a forced poll waits");
    schedule.request_now(2, start);
    schedule.request_now(3, start);
    assert_eq!(schedule.next(start, wall()), Next::Run(2));
    let second = start + Duration::from_secs(1);
    assert_eq!(schedule.next(start, wall()), Next::Wait(Some(second)), "one a second");
    assert_eq!(schedule.next(second, wall()), Next::Run(3));
    schedule.record_answer(request(3, second));
    schedule.done(3, Task::Poll, true, second, wall(), 0.0);
    assert_eq!(schedule.state(), HealthState::Ok, "it answers again");
}

#[tokio::test(start_paused = true)]
async fn probes_go_to_different_jobs_in_turn() {
    let start = Instant::now();
    let mut schedule = schedule(start);
    for number in 0..5 {
        let stage = if number == 3 { WatchStage::Fetching } else { WatchStage::Watching };
        schedule.add(&watch(number, stage), start, wall());
    }
    let mut probed = Vec::new();
    let mut now = start;
    let down = SourceSign::Ill(HealthState::Failing, None);
    schedule.record_sign(request(0, now), down, 0.0);
    for _ in 0..10 {
        now = schedule.paused_until(now).unwrap();
        let Next::Run(number) = schedule.next(now, wall()) else { panic!("a probe is due") };
        let task = schedule.entry(number).unwrap().0.task;
        probed.push(number);
        assert!(matches!(schedule.next(now, wall()), Next::Wait(Some(_))), "one at a time");
        // A hung request does not delay the next one.
        if number != 2 {
            schedule.record_blameless(number, "refused".to_owned(), None, now);
            schedule.record_sign(request(number, now), down, 0.0);
            schedule.done(number, task, true, now, wall(), 0.0);
        }
    }
    probed[..5].sort_unstable();
    assert_eq!(probed[..5], [0, 1, 2, 3, 4]);
    assert_eq!(probed[5..].iter().filter(|number| **number == 2).count(), 0, "{probed:?}");
}

#[tokio::test(start_paused = true)]
async fn a_doubted_source_is_asked_about_another_job_at_once() {
    let start = Instant::now();
    let mut schedule = schedule(start);
    for number in 0..4 {
        schedule.add(&watch(number, WatchStage::Fetching), start, wall());
    }
    schedule.add(&watch(9, WatchStage::Watching), start, wall());
    let refused = SourceSign::Suspect(HealthState::Unauthorized, None);
    for _ in 0..3 {
        let Next::Run(number) = schedule.next(start, wall()) else { panic!("a fetch is due") };
        schedule.record_sign(request(number, start), refused, 0.0);
        let (job, _) =
            schedule.failure_facts(request(number, start), FailureRowKind::Rejected, wall()).unwrap();
        schedule.record_failure(number, job.history);
        schedule.done(number, Task::Fetch, true, start, wall(), 0.0);
    }
    // The poll is not due yet.
    assert_eq!(schedule.next(start, wall()), Next::Run(9));
    schedule.record_answer(request(9, start));
    schedule.done(9, Task::Poll, true, start, wall(), 0.0);
    assert_eq!((schedule.state(), schedule.claim.lock().key.doubters()), (HealthState::Ok, None));
}

#[tokio::test(start_paused = true)]
async fn a_doubted_source_is_asked_about_a_job_that_was_not_polled_just_now() {
    let start = Instant::now();
    let mut schedule = schedule(start);
    for number in 0..4 {
        schedule.add(&watch(number, WatchStage::Watching), start, wall());
    }
    let after = |millis| (start + Duration::from_millis(millis), wall().after(Duration::from_millis(millis)));
    let (now, at) = after(1000);
    let Next::Run(known) = schedule.next(now, at) else { panic!("a poll is due") };
    schedule.record_answer(request(known, now));
    schedule.record_running(known, &StatusAnswer::default(), now, at);
    schedule.record_status(known, "queued", false);
    schedule.done(known, Task::Poll, true, now, at, 0.99);
    for millis in 1..4 {
        let (now, at) = after(1000 + millis);
        let Next::Run(number) = schedule.next(now, at) else { panic!("a poll is due") };
        schedule.record_sign(request(number, now), SourceSign::Suspect(HealthState::Unauthorized, None), 0.0);
        let (job, _) = schedule.failure_facts(request(number, now), FailureRowKind::Rejected, at).unwrap();
        schedule.record_failure(number, job.history);
        schedule.done(number, Task::Poll, true, now, at, 0.99);
    }
    let next = |schedule: &mut Schedule, millis| schedule.next(after(millis).0, after(millis).1);
    assert!(matches!(next(&mut schedule, 1100), Next::Wait(Some(_))), "within min_interval");
    assert_eq!(next(&mut schedule, 1250), Next::Run(known));
}

#[test]
fn a_job_waits_as_long_as_it_was_asked_and_at_most_an_hour() {
    let wait = |hours: u64| {
        let asked = Some(Duration::from_hours(hours));
        let history = FailureHistory { asked, ..FailureHistory::new(Instant::now()) };
        failing::retry_wait(&backoff(), &history, 0.0)
    };
    assert_eq!([wait(1), wait(24)], [Duration::from_hours(1); 2]);
}

/// Limits a job and ends its task. Returns whether the limit is the job's own, and whether limits
/// are in general.
fn limit(schedule: &mut Schedule, number: u64, (now, wall): (Instant, Time)) -> (bool, bool) {
    let (mut job, source) =
        schedule.failure_facts(request(number, now), FailureRowKind::Transient, wall).unwrap();
    let facts = (source.well_since_limited, source.limits_are_own);
    let sign = match facts {
        (true, _) => SourceSign::OwnLimit,
        (false, true) => SourceSign::Suspect(HealthState::Limited, None),
        (false, false) => SourceSign::Ill(HealthState::Limited, None),
    };
    (job.history.limited_at, job.history.is_own) = (Some(now), sign == SourceSign::OwnLimit);
    schedule.record_failure(number, job.history);
    schedule.record_sign(request(number, now), sign, 0.0);
    schedule.done(number, Task::Poll, true, now, wall, 0.0);
    facts
}

#[tokio::test(start_paused = true)]
async fn limits_of_single_jobs_hold_up_no_other() {
    let start = Instant::now();
    let mut schedule = schedule(start);
    for number in 0..100 {
        schedule.add(&watch(number, WatchStage::Watching), start, wall());
    }
    let at =
        |seconds: u64| (start + Duration::from_secs(seconds), wall().after(Duration::from_secs(seconds)));
    let well = |schedule: &mut Schedule, number, seconds| {
        schedule.record_answer(request(number, at(seconds).0));
        schedule.done(number, Task::Poll, true, at(seconds).0, at(seconds).1, 0.0);
    };
    // Until that is known, each limit counts as the source's.
    for number in 0..5 {
        assert_eq!(limit(&mut schedule, number, at(number)), (false, false));
        well(&mut schedule, 99, number);
    }
    assert_eq!(limit(&mut schedule, 0, at(6)), (true, false));
    let shrunken = schedule.budget_in_use(at(6).0).0;
    assert_eq!(limit(&mut schedule, 1, at(7)), (true, false));
    let whole = schedule.budget_in_use(at(7).0).0;
    // Five limits within five seconds counted once. Now none of them counts.
    assert!(shrunken < 750.0 && whole > 999.0, "{whole} after {shrunken}");
    for number in 5..8 {
        assert_eq!(limit(&mut schedule, number, at(number + 3)), (false, true));
        assert_eq!(schedule.state(), HealthState::Ok);
    }
    well(&mut schedule, 99, 12);
    // In doubt, one more of them that is limited says nothing new.
    schedule.record_sign(request(50, at(12).0), SourceSign::Ill(HealthState::Limited, None), 0.0);
    schedule.record_sign(request(8, at(12).0), SourceSign::Suspect(HealthState::Limited, None), 0.0);
    assert!(schedule.claim.lock().key.limits_are_own());
    schedule.claim.budget().slept(Duration::from_secs(60));
    well(&mut schedule, 99, 13);
    // The source answers about one of them, so the limit was the source's.
    well(&mut schedule, 1, 13);
    assert_eq!(limit(&mut schedule, 9, at(14)), (false, false));
}

#[tokio::test(start_paused = true)]
async fn jobs_that_are_gone_are_missing_too() {
    let start = Instant::now();
    let mut schedule = schedule(start);
    for (number, kind) in (0..).zip([
        FailureRowKind::Gone,
        FailureRowKind::Missing,
        FailureRowKind::Gone,
        FailureRowKind::Transient,
    ]) {
        schedule.add(&watch(number, WatchStage::Watching), start, wall());
        let (job, source) = schedule.failure_facts(request(number, start), kind, wall()).unwrap();
        assert_eq!(source.missing as u64, (number + 1).min(3), "{kind:?}");
        schedule.record_failure(number, job.history);
    }
}

#[tokio::test(start_paused = true)]
async fn a_status_that_is_not_final_is_polled_at_growing_intervals() {
    let start = Instant::now();
    let mut schedule = schedule(start);
    let (mut now, mut at) = (start, wall());
    let mut waits = Vec::new();
    schedule.add(&watch(1, WatchStage::Watching), now, at);
    for _ in 0..12 {
        let Next::Wait(Some(due)) = schedule.next(now, at) else { panic!("a poll will be due") };
        waits.push(due - now);
        at = at.after(due - now);
        now = due;
        assert_eq!(schedule.next(now, at), Next::Run(1));
        schedule.record_answer(request(1, now));
        schedule.add(&watch(1, WatchStage::Fetching), now, at);
        schedule.done(1, Task::Poll, false, now, at, 0.0);
        assert_eq!(schedule.next(now, at), Next::Run(1));
        schedule.record_answer(request(1, now));
        schedule.add(&watch(1, WatchStage::Watching), now, at);
        schedule.done(1, Task::Fetch, false, now, at, 0.0);
    }
    assert!(waits.windows(2).all(|pair| pair[0] <= pair[1]), "{waits:?}");
    assert!(waits[11] > Duration::from_secs(25), "{waits:?}");
}

#[tokio::test(start_paused = true)]
async fn failing_jobs_wait_at_growing_intervals_and_take_no_place_of_others() {
    let start = Instant::now();
    let mut schedule = Schedule::new(&backoff(), 1000.0, 4, start);
    schedule.add(&watch(1, WatchStage::Watching), start, wall());
    let mut waits = Vec::new();
    let (mut now, mut at) = (start + Duration::from_secs(1), wall());
    for _ in 0..10 {
        assert_eq!(schedule.next(now, at), Next::Run(1));
        fail(&mut schedule, 1, Task::Poll, (now, at));
        let due = schedule.entry(1).unwrap().1.unwrap();
        waits.push(due - now);
        assert_eq!(schedule.next(now, at), Next::Wait(Some(due)));
        at = at.after(due - now);
        now = due;
    }
    assert!(waits.windows(2).all(|pair| pair[0] <= pair[1]), "{waits:?}");
    assert!(waits[9] > Duration::from_secs(25) && waits[9] <= Duration::from_secs(30), "{waits:?}");
    assert_eq!(schedule.entry(1).unwrap().0.reason(), "retry");
}

#[tokio::test(start_paused = true)]
async fn slow_fetches_hold_no_place_and_polls_go_on() {
    let start = Instant::now();
    let mut schedule = Schedule::new(&backoff(), 1000.0, 4, start);
    for number in 0..40 {
        schedule.add(&watch(number, WatchStage::Fetching), start, wall());
    }
    schedule.add(&watch(99, WatchStage::Watching), start, wall());
    let mut begun = Vec::new();
    let mut cuts = 0;
    for tenth in 0..60 {
        let now = start + Duration::from_millis(100) * tenth;
        loop {
            match schedule.next(now, wall()) {
                Next::List(_) => unreachable!("nobody asks for a list"),
                Next::Run(99) => schedule.done(99, Task::Poll, true, now, wall(), 0.0),
                Next::Run(number) => begun.push((tenth, number)),
                Next::Cut => {
                    cuts += 1;
                    let (_, number) = begun[cuts - 1];
                    fail(&mut schedule, number, Task::Fetch, (now, wall()));
                }
                Next::Yield => {}
                Next::Wait(_) => break,
            }
        }
        assert!(schedule.in_flight() <= 16, "{} in flight", schedule.in_flight());
    }
    // There are four places, each given back after a second. From the sixteenth on another one is
    // cut.
    let tenths: Vec<u32> = begun.iter().map(|(tenth, _)| *tenth).collect();
    assert_eq!(tenths[..16], [0, 0, 0, 0, 10, 10, 10, 10, 20, 20, 20, 20, 30, 30, 30, 30]);
    assert!(begun.len() > 20 && cuts > 4, "{begun:?} {cuts}");
    assert!(schedule.entry(99).unwrap().0.polls == 0, "only the driver counts polls");
}

#[tokio::test(start_paused = true)]
async fn a_poll_is_never_later_than_the_deadline() {
    let start = Instant::now();
    let config = PollingConfig { min_interval: HumanDuration::secs(20), ..backoff() };
    let mut schedule = Schedule::new(&config, 10.0, 4, start);
    let mut short = watch(1, WatchStage::Watching);
    short.deadline = Some(wall().after(Duration::from_secs(5)));
    schedule.add(&short, start, wall());
    assert_eq!(schedule.next(start, wall()), Next::Wait(Some(start + Duration::from_secs(5))));
}
