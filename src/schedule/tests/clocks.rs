//! What clocks that are wrong, and a machine that slept, mean for open watches.

use super::*;

const DAY: i64 = 86_400_000;

fn at(days: i64) -> Time {
    Time(wall().0 + days * DAY)
}

#[tokio::test(start_paused = true)]
async fn a_deadline_waits_for_the_source_when_our_clock_may_be_far_ahead() {
    let start = Instant::now();
    let mut schedule = schedule(start);
    let mut short = watch(1, WatchStage::Watching);
    short.deadline = Some(at(7));
    schedule.add(&short, start, wall());
    assert!(!schedule.is_overdue(1, at(6), 0), "it has a day");
    // By less than a day the source's clock may be wrong as well.
    for ahead in [0, -DAY, DAY, 400 * DAY] {
        assert!(schedule.is_overdue(1, at(8), ahead), "{ahead}");
    }
    assert!(schedule.is_overdue(1, at(500), -400 * DAY), "it has passed by either clock");
    assert!(!schedule.is_overdue(1, at(400), -399 * DAY), "our clock is 399 days ahead of the source's");
    assert_eq!(schedule.entry(1).unwrap().0.deadline, at(406), "it is not asked for again at once");
    assert!(!schedule.is_overdue(1, at(405), -399 * DAY));
    assert!(schedule.is_overdue(1, at(406), 0));
    assert!(!schedule.is_overdue(2, at(500), 0), "there is no such watch");
}

#[tokio::test(start_paused = true)]
async fn what_was_to_be_polled_while_the_machine_slept_is_due() {
    let hour = Duration::from_secs(3600);
    for strategy in [Strategy::Fixed, Strategy::Learned] {
        let start = Instant::now();
        let every = HumanDuration(hour * 4);
        let config = PollingConfig {
            strategy,
            interval: every,
            min_interval: every,
            max_interval: Some(every),
            ..PollingConfig::default()
        };
        let mut schedule = Schedule::new(&config, 1000.0, 4, start);
        schedule.add(&watch(1, WatchStage::Watching), start, wall());
        assert!(schedule.poll_now(1, start));
        assert_eq!(schedule.next(start, wall()), Next::Run(1));
        schedule.record_running(1, &StatusAnswer::default(), start, wall());
        schedule.done(1, Task::Poll, true, start, wall(), 0.0);
        let found = schedule.next(start, wall());
        assert!(matches!(&found, Next::Wait(Some(_))), "{found:?}");
        schedule.slept(hour, start);
        assert!(matches!(schedule.next(start, wall().after(hour)), Next::Wait(Some(_))), "{strategy:?}");
        schedule.slept(hour * 8, start);
        assert_eq!(schedule.next(start, wall().after(hour * 9)), Next::Run(1), "{strategy:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_a_source_asked_for_goes_on_while_the_machine_sleeps() {
    let start = Instant::now();
    let mut schedule = schedule(start);
    let asked = Duration::from_secs(600);
    let request = RequestTimes { number: 1, sent: start, now: start };
    schedule.record_sign(request, SourceSign::Ill(HealthState::Limited, Some(asked)), 0.0);
    schedule.claim.budget().slept(Duration::from_secs(400));
    assert_eq!(schedule.paused_until(start), Some(start + Duration::from_secs(200)));
    schedule.claim.budget().slept(Duration::from_secs(400));
    assert_eq!(schedule.paused_until(start), None);
}
