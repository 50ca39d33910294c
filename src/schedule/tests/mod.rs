//! The schedule from outside.

mod clocks;
mod isolation;
mod learned;

use std::time::Duration;

use super::*;
use crate::units::Span;

pub(super) fn watch(number: u64, stage: Stage) -> Watch {
    let json = serde_json::json!({
        "source": "retab", "job_id": format!("job_{number}"), "created_at": "2026-01-01T00:00:00Z",
        "registered_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z", "stage": stage,
    });
    Watch { number, ..serde_json::from_value(json).unwrap() }
}

fn wall() -> Time {
    Time::parse("2026-01-01T00:00:00Z").unwrap()
}

fn backoff() -> PollingConfig {
    PollingConfig { strategy: Strategy::Backoff, ..PollingConfig::default() }
}

fn schedule(now: Instant) -> Schedule {
    Schedule::new(&backoff(), 1000.0, 4, now)
}

#[tokio::test]
async fn a_watch_is_looked_at_once_at_a_time_beside_a_fetch() {
    let start = Instant::now();
    let mut schedule = schedule(start);
    schedule.follow(&watch(1, Stage::Watching), start, wall());
    assert_eq!(schedule.next(start, wall()), Next::Wait(Some(start + Duration::from_millis(250))));
    schedule.follow(&watch(2, Stage::Fetching), start, wall());
    let now = start + Duration::from_secs(1);
    let both: std::collections::BTreeSet<_> =
        [schedule.next(now, wall()), schedule.next(now, wall())].map(|next| format!("{next:?}")).into();
    assert_eq!(both, ["Run(1)".to_owned(), "Run(2)".to_owned()].into());
    assert!(schedule.look_now(1, now));
    assert_eq!(schedule.next(now, wall()), Next::Wait(None), "a look is under way");
    schedule.done(1, Task::Poll, true, now, wall(), 0.0);
    assert_eq!(schedule.next(now, wall()), Next::Wait(Some(now + Duration::from_millis(250))));
}

#[tokio::test]
async fn a_poll_that_finds_the_end_leads_to_a_fetch() {
    let start = Instant::now();
    let mut schedule = schedule(start);
    schedule.follow(&watch(1, Stage::Watching), start, wall());
    let now = start + Duration::from_secs(1);
    assert_eq!(schedule.next(now, wall()), Next::Run(1));
    schedule.follow(&watch(1, Stage::Fetching), now, wall());
    schedule.done(1, Task::Poll, false, now, wall(), 0.0);
    assert_eq!(schedule.entry(1).unwrap().0.task, Task::Fetch);
    assert_eq!(schedule.next(now, wall()), Next::Run(1));
    schedule.unfollow(1);
    schedule.done(1, Task::Fetch, false, now, wall(), 0.0);
    assert_eq!((schedule.open(), schedule.in_flight()), ((0, 0), 0));
}

/// A request for a watch that is answered at once.
fn request(number: u64, now: Instant) -> Request {
    Request { number, sent: now, now }
}

/// Records that a request failed for the job's own reasons, and ends its task.
fn fail(schedule: &mut Schedule, number: u64, task: Task, (now, wall): (Instant, Time)) {
    let point = schedule.standpoint(request(number, now), RowKind::Passing, wall).unwrap();
    schedule.record_failure(number, point.history);
    schedule.record_sign(request(number, now), Sign::Heard, 0.0);
    schedule.done(number, task, true, now, wall, 0.99);
}

#[tokio::test]
async fn a_deadline_that_passes_during_a_pause_is_looked_at_afterwards() {
    let start = Instant::now();
    let mut schedule = schedule(start);
    let mut short = watch(1, Stage::Watching);
    short.deadline = Some(wall().after(Duration::from_secs(5)));
    schedule.follow(&short, start, wall());
    let limited = Sign::Ill(State::Limited, Some(Duration::from_secs(600)));
    schedule.record_sign(request(1, start), limited, 0.0);
    let (now, later) = (start + Duration::from_secs(5), wall().after(Duration::from_secs(5)));
    assert_eq!(schedule.next(now, later), Next::Wait(Some(start + Duration::from_secs(600))));
    let (now, later) = (start + Duration::from_secs(600), wall().after(Duration::from_secs(600)));
    assert_eq!(schedule.next(now, later), Next::Run(1));
}

#[tokio::test]
async fn somebody_who_insists_is_heard_during_a_pause() {
    let start = Instant::now();
    let mut schedule = schedule(start);
    for number in 1..4 {
        schedule.follow(&watch(number, Stage::Watching), start, wall());
    }
    let limited = Sign::Ill(State::Limited, Some(Duration::from_secs(600)));
    schedule.record_sign(request(1, start), limited, 0.0);
    schedule.look_now(1, start);
    let end = start + Duration::from_secs(600);
    assert_eq!(schedule.next(start, wall()), Next::Wait(Some(end)), "a look on somebody's behalf waits");
    schedule.insist(2, start);
    schedule.insist(3, start);
    assert_eq!(schedule.next(start, wall()), Next::Run(2));
    let second = start + Duration::from_secs(1);
    assert_eq!(schedule.next(start, wall()), Next::Wait(Some(second)), "one a second");
    assert_eq!(schedule.next(second, wall()), Next::Run(3));
    schedule.record_answer(request(3, second));
    schedule.done(3, Task::Poll, true, second, wall(), 0.0);
    assert_eq!(schedule.health.state(), State::Ok, "it answers again");
}

#[tokio::test]
async fn probes_go_to_different_jobs_in_turn() {
    let start = Instant::now();
    let mut schedule = schedule(start);
    for number in 0..5 {
        let stage = if number == 3 { Stage::Fetching } else { Stage::Watching };
        schedule.follow(&watch(number, stage), start, wall());
    }
    let mut probed = Vec::new();
    let mut now = start;
    let down = Sign::Ill(State::Failing, None);
    schedule.record_sign(request(0, now), down, 0.0);
    for _ in 0..10 {
        now = schedule.health.paused_until(now).unwrap();
        let Next::Run(number) = schedule.next(now, wall()) else { panic!("a probe is due") };
        let task = schedule.entry(number).unwrap().0.task;
        probed.push(number);
        assert!(matches!(schedule.next(now, wall()), Next::Wait(Some(_))), "one at a time");
        // One that hangs does not hold the next one up.
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

#[tokio::test]
async fn a_doubted_source_is_asked_about_another_job_at_once() {
    let start = Instant::now();
    let mut schedule = schedule(start);
    for number in 0..4 {
        schedule.follow(&watch(number, Stage::Fetching), start, wall());
    }
    schedule.follow(&watch(9, Stage::Watching), start, wall());
    let refused = Sign::Suspect(State::Unauthorized, None);
    for _ in 0..3 {
        let Next::Run(number) = schedule.next(start, wall()) else { panic!("a fetch is due") };
        schedule.record_sign(request(number, start), refused, 0.0);
        let point = schedule.standpoint(request(number, start), RowKind::Rejected, wall()).unwrap();
        schedule.record_failure(number, point.history);
        schedule.done(number, Task::Fetch, true, start, wall(), 0.0);
    }
    // The poll is not due for another while.
    assert_eq!(schedule.next(start, wall()), Next::Run(9));
    schedule.record_answer(request(9, start));
    schedule.done(9, Task::Poll, true, start, wall(), 0.0);
    assert_eq!((schedule.health.state(), schedule.health.doubters()), (State::Ok, None));
}

#[tokio::test]
async fn failing_jobs_wait_at_growing_intervals_and_take_no_place_of_others() {
    let start = Instant::now();
    let mut schedule = Schedule::new(&backoff(), 1000.0, 4, start);
    schedule.follow(&watch(1, Stage::Watching), start, wall());
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

#[tokio::test]
async fn slow_fetches_hold_no_place_and_polls_go_on() {
    let start = Instant::now();
    let mut schedule = Schedule::new(&backoff(), 1000.0, 4, start);
    for number in 0..40 {
        schedule.follow(&watch(number, Stage::Fetching), start, wall());
    }
    schedule.follow(&watch(99, Stage::Watching), start, wall());
    let mut begun = Vec::new();
    let mut cuts = 0;
    for tenth in 0..60 {
        let now = start + Duration::from_millis(100) * tenth;
        loop {
            match schedule.next(now, wall()) {
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
    // Four places, given back after a second each; from the sixteenth on another one is cut.
    let tenths: Vec<u32> = begun.iter().map(|(tenth, _)| *tenth).collect();
    assert_eq!(tenths[..16], [0, 0, 0, 0, 10, 10, 10, 10, 20, 20, 20, 20, 30, 30, 30, 30]);
    assert!(begun.len() > 20 && cuts > 4, "{begun:?} {cuts}");
    assert!(schedule.entry(99).unwrap().0.polls == 0, "only the driver counts polls");
}

#[tokio::test]
async fn a_look_is_never_later_than_the_deadline() {
    let start = Instant::now();
    let config = PollingConfig { min_interval: Span::secs(20), ..backoff() };
    let mut schedule = Schedule::new(&config, 10.0, 4, start);
    let mut short = watch(1, Stage::Watching);
    short.deadline = Some(wall().after(Duration::from_secs(5)));
    schedule.follow(&short, start, wall());
    assert_eq!(schedule.next(start, wall()), Next::Wait(Some(start + Duration::from_secs(5))));
}
