use proptest::prelude::*;

use super::*;
use crate::util::units::HumanDuration;

fn key(event: u64) -> DeliveryKey {
    DeliveryKey::new(event, "evt", "app")
}

fn retry() -> RetryConfig {
    RetryConfig { schedule: vec![HumanDuration::secs(2), HumanDuration::secs(300)], jitter: 0.0 }
}

/// A breaker that has just opened.
fn open(now: Instant) -> Breaker {
    let mut breaker = Breaker::default();
    let begun = now.checked_sub(MIN_TIME).unwrap();
    assert!((0..20).all(|event| !breaker.failed(key(event), &retry(), begun, 0.5)), "all in one instant");
    assert!(breaker.failed(key(20), &retry(), now, 0.5));
    breaker
}

/// The pauses of a breaker whose probes fail.
fn pauses() -> [Duration; 7] {
    let mut now = Instant::now();
    let mut breaker = open(now);
    std::array::from_fn(|_| {
        let at = breaker.probe_at().unwrap();
        let pause = at - now;
        now = at;
        breaker.probe(key(1));
        breaker.failed(key(1), &retry(), now, 0.5);
        pause
    })
}

#[test]
fn half_of_the_attempts_of_a_minute_open_it_and_less_does_not() {
    let start = Instant::now();
    for (taken, failed, opens) in [(0, 9, false), (0, 10, true), (10, 9, false), (10, 10, true)] {
        let mut breaker = Breaker::default();
        (0..taken).for_each(|_| assert!(!breaker.taken(start)));
        let later = start + MIN_TIME;
        let opened = (0..failed).any(|event| {
            let now = if event == 0 { start } else { later };
            breaker.failed(key(event), &retry(), now, 0.5)
        });
        assert_eq!(opened, opens, "{taken} taken, {failed} failed");
    }
    let mut slow = Breaker::default();
    let opened = (0..100).any(|event| {
        let now = start + Duration::from_secs(7) * u32::try_from(event).unwrap();
        slow.failed(key(event), &retry(), now, 0.5)
    });
    assert!(!opened, "nine failures a minute are too few to conclude anything");
}

#[test]
fn one_probe_a_pause_and_the_pauses_follow_the_schedule() {
    let start = Instant::now();
    let mut breaker = open(start);
    let first = start + Duration::from_secs(2);
    assert_eq!(breaker.admission(), Admission::Probe(first));
    breaker.probe(key(1));
    assert_eq!((breaker.state(), breaker.admission()), (BreakerState::HalfOpen, Admission::Hold));
    // An attempt in flight when the breaker opened does not count as the probe.
    assert!(!breaker.failed(key(9), &retry(), first, 0.5));
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
    breaker.failed(key(1), &retry(), first, 0.5);
    let second = first + Duration::from_secs(4);
    assert_eq!(breaker.probe_at(), Some(second), "twice the first pause, not the next step of 300 s");
    assert_eq!(pauses(), [2, 4, 8, 16, 32, 60, 60].map(Duration::from_secs));
    breaker.probe(key(3));
    breaker.abandoned(key(3), second);
    assert_eq!(breaker.admission(), Admission::Probe(second));
    breaker.probe(key(4));
    assert!(breaker.taken(second));
    assert_eq!((breaker.state(), breaker.admission()), (BreakerState::Closed, Admission::Attempt));
    assert_eq!(breaker.success_share(second), Some(1.0));
}

proptest! {
    #[test]
    fn it_never_lets_more_than_one_through_while_it_is_not_closed(
        steps in prop::collection::vec((0u64..30_000, 0u64..5, 0u8..4), 1..200), random in 0.0..1.0f64,
    ) {
        let mut now = Instant::now();
        let mut breaker = open(now);
        let mut probe: Option<DeliveryKey> = None;
        for (gap, event, what) in steps {
            now += Duration::from_millis(gap);
            let key = key(event);
            match what {
                0 => if let Admission::Probe(until) = breaker.admission() && until <= now {
                    prop_assert_eq!(probe, None);
                    breaker.probe(key);
                    probe = Some(key);
                },
                1 => { breaker.failed(key, &retry(), now, random); }
                2 => { breaker.taken(now); }
                _ => breaker.abandoned(key, now),
            }
            if breaker.state() != BreakerState::HalfOpen { probe = None; }
            if let Some(until) = breaker.probe_at() {
                prop_assert!(until <= now + PAUSE.end().mul_f64(1.1));
            }
        }
    }
}
