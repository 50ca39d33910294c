//! The schedule from outside.

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
async fn a_watch_is_looked_at_once_at_a_time_and_fetches_go_first() {
    let start = Instant::now();
    let mut schedule = schedule(start);
    schedule.follow(&watch(1, Stage::Watching), start, wall());
    assert_eq!(schedule.next(start, wall()), Next::Wait(Some(start + Duration::from_millis(250))));
    schedule.follow(&watch(2, Stage::Fetching), start, wall());
    let now = start + Duration::from_secs(1);
    assert_eq!(schedule.next(now, wall()), Next::Run(2));
    assert_eq!(schedule.next(now, wall()), Next::Run(1));
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

#[tokio::test]
async fn a_deadline_passes_even_while_the_source_is_paused() {
    let start = Instant::now();
    let mut schedule = schedule(start);
    let mut short = watch(1, Stage::Watching);
    short.deadline = Some(wall().after(Duration::from_secs(5)));
    schedule.follow(&short, start, wall());
    schedule.health.failed(State::Limited, Some(Duration::from_secs(600)), 0, start, 0.0);
    assert_eq!(schedule.next(start, wall()), Next::Wait(Some(start + Duration::from_secs(5))));
    let (now, later) = (start + Duration::from_secs(5), wall().after(Duration::from_secs(5)));
    assert_eq!(schedule.next(now, later), Next::Overdue(1));
    assert!(matches!(schedule.next(now, later), Next::Wait(Some(_))));
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
