use super::{decision::SinkSignal, health::MAX_QUIET, *};
use crate::{
    deliver::{config::RetryConfig, queue::breaker},
    model::sink::BreakerState,
    util::units::HumanDuration,
};

const HOUR: Duration = Duration::from_secs(3600);
const SECOND: Duration = Duration::from_secs(1);

fn key(event: u64) -> DeliveryKey {
    DeliveryKey::new(event, "evt", "app")
}

fn limits() -> Limits {
    Limits {
        retry: RetryConfig { schedule: vec![HumanDuration::secs(10)], jitter: 0.0 },
        max_in_flight: 2,
        first_in_flight: 2,
        max_per_second: None,
        ordered: false,
        breaker_attempts: breaker::MIN_ATTEMPTS,
    }
}

fn take(queue: &mut Queue, now: Instant) -> DeliveryKey {
    match queue.release_next(now) {
        Next::Take(key) => key,
        Next::Wait(until) => panic!("nothing is due before {:?}", until.map(|until| until - now)),
    }
}

/// One attempt of what is due, with this result; it is due again at `again`.
fn attempt(queue: &mut Queue, now: Instant, signal: SinkSignal, again: Option<Instant>) -> DeliveryKey {
    let key = take(queue, now);
    queue.update_breaker(key, signal, None, now, 0.5);
    queue.finish(key, again, now);
    key
}

/// Lets ten deliveries fail, so that the breaker opens.
fn failing(now: Instant) -> Queue {
    let begun = now.checked_sub(SECOND).unwrap();
    let mut queue = Queue::new(limits(), begun);
    for event in 0..10 {
        let at = if event == 0 { begun } else { now };
        queue.schedule(key(event), at);
        assert_eq!(attempt(&mut queue, at, SinkSignal::Fails, Some(now + HOUR)), key(event));
    }
    assert_eq!(queue.breaker().state(), BreakerState::Open);
    queue
}

#[test]
fn it_takes_as_many_as_may_be_in_flight_and_none_while_paused() {
    let now = Instant::now();
    let mut queue = Queue::new(limits(), now);
    (1..=3).for_each(|event| queue.schedule(key(event), now));
    queue.pause(true);
    assert_eq!(queue.release_next(now), Next::Wait(None));
    queue.pause(false);
    assert_eq!([queue.release_next(now), queue.release_next(now)], [Next::Take(key(1)), Next::Take(key(2))]);
    assert_eq!(queue.release_next(now), Next::Wait(None));
    assert_eq!((queue.counts(), queue.oldest()), ((3, 2), Some(key(1))));
    queue.finish(key(1), None, now);
    assert_eq!(queue.release_next(now), Next::Take(key(3)));
}

#[test]
fn an_attempt_that_is_being_recorded_takes_nobodys_place() {
    let now = Instant::now();
    let mut queue = Queue::new(limits(), now);
    let all = u64::try_from(MAX_RECORDING).unwrap() + 5;
    (1..=all).for_each(|event| queue.schedule(key(event), now));
    let first = take(&mut queue, now);
    queue.update_breaker(first, SinkSignal::Works, None, now, 0.5);
    assert_eq!([take(&mut queue, now), take(&mut queue, now)], [key(2), key(3)]);
    assert_eq!(queue.release_next(now), Next::Wait(None), "two requests are at the sink");
    assert_eq!(queue.counts(), (usize::try_from(all).unwrap(), 2), "none of them is settled yet");
    for event in 2..=all {
        match queue.release_next(now) {
            Next::Take(taken) => assert_eq!(taken, key(event + 1)),
            Next::Wait(until) => assert_eq!(until, None),
        }
        queue.update_breaker(key(event), SinkSignal::Works, None, now, 0.5);
    }
    // The disk does not keep up: the sink is not asked until it does.
    let waiting = queue.counts();
    assert_eq!(queue.release_next(now), Next::Wait(None), "{waiting:?}");
    queue.finish(first, None, now);
    queue.finish(key(2), None, now);
    assert!(matches!(queue.release_next(now), Next::Take(_)));
}

#[test]
fn a_rate_holds_for_the_whole_sink() {
    let now = Instant::now();
    let mut queue = Queue::new(Limits { max_per_second: Some(1.0), ..limits() }, now);
    (1..=2).for_each(|event| queue.schedule(key(event), now));
    assert_eq!(queue.release_next(now), Next::Take(key(1)));
    let Next::Wait(Some(at)) = queue.release_next(now) else { panic!("one a second") };
    assert!(at > now + Duration::from_millis(900));
    // Without an attempt nothing was spent.
    queue.refund(now);
    assert_eq!(queue.release_next(now), Next::Take(key(2)));
}

#[test]
fn a_silence_that_was_asked_for_ends_one_by_one() {
    let start = Instant::now();
    let mut queue = Queue::new(Limits { max_in_flight: 16, first_in_flight: 16, ..limits() }, start);
    (1..=30).for_each(|event| queue.schedule(key(event), start));
    let quiet = SinkSignal::Overloaded { quiet: Some(HOUR) };
    attempt(&mut queue, start, quiet, Some(start + HOUR));
    let end = start + MAX_QUIET;
    assert_eq!(queue.release_next(start), Next::Wait(Some(end)));
    assert_eq!(queue.quiet_until(start), Some(end));
    take(&mut queue, end);
    assert_eq!(queue.release_next(end + SECOND), Next::Wait(None), "one at a time");
    queue.update_breaker(key(2), SinkSignal::Works, None, end + SECOND, 0.5);
    queue.finish(key(2), None, end + SECOND);
    let taken = (0..1000).filter(|_| matches!(queue.release_next(end + SECOND), Next::Take(_))).count();
    assert!((1..=2).contains(&taken), "{taken} after the first success");
}

#[test]
fn an_open_breaker_lets_due_deliveries_wait_and_a_success_lets_them_go() {
    let start = Instant::now();
    let mut queue = failing(start);
    (20..23).for_each(|event| queue.schedule(key(event), start));
    let probe_at = start + 10 * SECOND;
    assert_eq!(queue.release_next(start), Next::Wait(Some(probe_at)));
    assert_eq!(take(&mut queue, probe_at), key(20), "the oldest is the probe");
    assert_eq!(queue.release_next(probe_at), Next::Wait(None), "and the only one");
    assert_eq!(
        queue.update_breaker(key(20), SinkSignal::Works, None, probe_at, 0.5),
        Some(BreakerChange::Closed)
    );
    queue.finish(key(20), None, probe_at);
    assert_eq!(
        attempt(&mut queue, probe_at, SinkSignal::Works, None),
        key(0),
        "what failed takes turns with what did not"
    );
    assert!(!queue.is_failing(probe_at));
}

#[test]
fn probes_are_now_one_that_failed_before_and_now_another() {
    let start = Instant::now();
    let mut queue = failing(start);
    let mut now = start + HOUR;
    (20..23).for_each(|event| queue.schedule(key(event), now));
    let mut probes = Vec::new();
    while probes.len() < 6 {
        match queue.release_next(now) {
            Next::Take(key) => {
                probes.push(key.event);
                queue.update_breaker(key, SinkSignal::Fails, None, now, 0.5);
                queue.finish(key, Some(now + SECOND), now);
            }
            Next::Wait(at) => now = at.unwrap(),
        }
    }
    let fresh: Vec<u64> = probes.iter().copied().filter(|event| *event >= 20).collect();
    assert_eq!(fresh, [20, 21, 22], "{probes:?}");
    probes.dedup();
    assert_eq!(probes.len(), 6);
}

#[test]
fn a_probe_that_says_nothing_hands_on_to_the_next() {
    let start = Instant::now();
    let mut queue = failing(start);
    let now = start + 11 * SECOND;
    (20..22).for_each(|event| queue.schedule(key(event), now));
    assert_eq!(take(&mut queue, now), key(20));
    queue.defer(key(20), now + HOUR);
    queue.refund(now);
    queue.finish(key(20), None, now);
    assert_eq!(take(&mut queue, now), key(21));
}

#[test]
fn events_that_are_refused_never_open_it_and_close_it_when_open() {
    let start = Instant::now();
    let mut queue = Queue::new(limits(), start);
    for event in 0..100 {
        let now = start + event * SECOND / 4;
        queue.schedule(key(u64::from(event)), now);
        attempt(&mut queue, now, SinkSignal::Refuses, Some(now + HOUR));
        assert_eq!(queue.breaker().state(), BreakerState::Closed);
    }
    assert!(queue.is_failing(start), "it took none of a hundred");
    assert_eq!(queue.failures_in_row(), 100);
    let mut queue = failing(start);
    let probe_at = start + 10 * SECOND;
    queue.schedule(key(20), probe_at);
    attempt(&mut queue, probe_at, SinkSignal::Refuses, Some(probe_at + HOUR));
    assert_eq!(queue.breaker().state(), BreakerState::Closed, "it answers");
}

#[test]
fn a_delivery_that_failed_alone_is_known_for_it() {
    let now = Instant::now();
    let mut queue = Queue::new(limits(), now);
    queue.schedule(key(1), now);
    attempt(&mut queue, now, SinkSignal::Fails, Some(now));
    assert!(!queue.passed_by(key(1)));
    queue.schedule(key(2), now);
    attempt(&mut queue, now, SinkSignal::Fails, Some(now + HOUR));
    assert_eq!(take(&mut queue, now), key(1));
    queue.update_breaker(key(1), SinkSignal::Works, None, now, 0.5);
    queue.finish(key(1), None, now);
    assert!(queue.passed_by(key(2)) && queue.is_taking(now) && !queue.passed_by(key(1)));
}

#[test]
fn what_waits_for_longer_than_its_schedule_is_tried_soon() {
    let start = Instant::now();
    let mut queue = failing(start);
    (20..60).for_each(|event| queue.schedule(key(event), start));
    let mut now = start + 11 * SECOND;
    let mut tried = 0;
    while now < start + 31 * SECOND {
        match queue.release_next(now) {
            Next::Take(key) => {
                tried += 1;
                queue.update_breaker(key, SinkSignal::Fails, None, now, 0.5);
                queue.finish(key, Some(now + HOUR), now);
            }
            Next::Wait(at) => now = at.unwrap_or(start + HOUR),
        }
    }
    assert_eq!(tried, 40, "each was tried, one by one");
}

#[test]
fn what_failed_in_an_outage_goes_again_when_it_is_over() {
    let start = Instant::now();
    let mut queue = failing(start);
    let probe_at = start + 10 * SECOND;
    queue.schedule(key(20), probe_at);
    assert_eq!(take(&mut queue, probe_at), key(20));
    queue.update_breaker(key(20), SinkSignal::Fails, Some(100 * SECOND), probe_at, 0.5);
    queue.finish(key(20), Some(probe_at + HOUR), probe_at);
    let second = probe_at + 60 * SECOND;
    queue.schedule(key(21), second);
    assert_eq!(attempt(&mut queue, second, SinkSignal::Works, None), key(21));
    let mut times = Vec::new();
    let mut now = second;
    while queue.counts().0 > 0 {
        match queue.release_next(now) {
            Next::Take(key) => {
                times.push((key.event, now - second));
                queue.update_breaker(key, SinkSignal::Works, None, now, 0.5);
                queue.finish(key, None, now);
            }
            Next::Wait(at) => now = at.unwrap(),
        }
    }
    assert_eq!(times.len(), 11);
    assert!(times[..10].iter().all(|(_, after)| *after < 10 * SECOND), "{times:?}");
    assert_eq!(times[10], (20, 40 * SECOND), "not before the sink asked for it");
}

#[test]
fn a_reset_closes_it_and_ends_a_silence() {
    let start = Instant::now();
    let mut queue = failing(start);
    queue.schedule(key(20), start);
    assert!(queue.reset(start));
    assert_eq!(attempt(&mut queue, start, SinkSignal::Overloaded { quiet: Some(HOUR) }, None), key(20));
    queue.schedule(key(21), start);
    assert!(!queue.reset(start + SECOND));
    assert_eq!(
        attempt(&mut queue, start + SECOND, SinkSignal::Works, None),
        key(0),
        "what failed takes turns"
    );
}
