use std::time::Duration;

use super::*;
use crate::{deliver::config::RetryConfig, util::units::HumanDuration};

const TIMEOUT: Duration = Duration::from_secs(15);

fn key(event: u64) -> DeliveryKey {
    DeliveryKey::new(event, "evt", "callback")
}

fn origins() -> Origins {
    let retry = RetryConfig { schedule: vec![HumanDuration::secs(5), HumanDuration::secs(300)], jitter: 0.0 };
    Origins::new(retry)
}

fn add(origins: &mut Origins, event: u64, url: &str, now: Instant) {
    origins.schedule(key(event), now);
    assert_eq!(origins.unassigned(), Some(key(event)));
    origins.assign_origin(key(event), Some(&CallbackOrigin::of(url)), now);
}

/// Everything that may go now.
fn take(origins: &mut Origins, now: Instant) -> Vec<u64> {
    let mut taken = Vec::new();
    while let Next::Take(key) = origins.release_next(now) {
        taken.push(key.event);
    }
    taken
}

fn end(origins: &mut Origins, event: u64, signal: SinkSignal, now: Instant) {
    let key = key(event);
    origins.with(key, |queue| queue.update_breaker(key, signal, None, now, 0.5));
    origins.update_host(key, signal, None);
    let again = (signal != SinkSignal::Works).then(|| now + Duration::from_secs(5));
    origins.finish(key, again, now);
}

#[test]
fn hosts_that_hang_hold_a_few_attempts_and_delay_nobody() {
    let start = Instant::now();
    let mut origins = origins();
    for event in 0..128 {
        add(&mut origins, event, &format!("http://slow{}.example/", event % 4), start);
    }
    for event in 128..256 {
        add(&mut origins, event, &format!("http://ports.example:{}/", 1000 + event % 5), start);
    }
    let hanging = take(&mut origins, start);
    assert_eq!(hanging.len(), 4 + 5, "{hanging:?}");
    let mut now = start;
    for event in 300..400 {
        now += Duration::from_millis(10);
        add(&mut origins, event, "http://fast.example/", now);
        assert_eq!(take(&mut origins, now), [event]);
        end(&mut origins, event, SinkSignal::Works, now);
    }
    now = start + TIMEOUT;
    for event in hanging {
        end(&mut origins, event, SinkSignal::Fails, now);
    }
    assert_eq!(take(&mut origins, now).len(), 4 + 1, "a host that failed has one attempt in flight");
}

#[test]
fn ports_that_hang_do_not_keep_one_of_the_same_host_from_its_turn() {
    let start = Instant::now();
    let mut origins = origins();
    for event in 0..50 {
        add(&mut origins, event, &format!("http://one.example:{}/", 1000 + event % 5), start);
    }
    let (mut now, mut good) = (start, 1000);
    for _ in 0..20 {
        let mut hanging = take(&mut origins, now);
        for _ in 0..3 {
            add(&mut origins, good, "http://one.example/", now);
            let taken = take(&mut origins, now);
            assert!(taken.contains(&good), "{taken:?} beside {hanging:?}");
            hanging.extend(taken.into_iter().filter(|event| *event != good));
            end(&mut origins, good, SinkSignal::Works, now);
            good += 1;
        }
        now += TIMEOUT;
        for event in hanging {
            end(&mut origins, event, SinkSignal::Fails, now);
        }
    }
}

#[test]
fn a_host_that_takes_them_gets_its_share_quickly() {
    let start = Instant::now();
    let mut origins = origins();
    for event in 0..100 {
        add(&mut origins, event, "http://fast.example/", start);
    }
    let mut rounds = Vec::new();
    loop {
        let taken = take(&mut origins, start);
        if taken.is_empty() {
            break;
        }
        rounds.push(taken.len());
        for event in taken {
            end(&mut origins, event, SinkSignal::Works, start);
        }
    }
    assert_eq!(rounds[..4], [1, 2, 4, MAX_PER_HOST], "{rounds:?}");
    assert_eq!(rounds.iter().sum::<usize>(), 100);
    assert_eq!(origins.counts(), (0, 0));
}

#[test]
fn a_thousand_hosts_that_hang_leave_room_for_one_that_works() {
    let start = Instant::now();
    let mut origins = origins();
    add(&mut origins, 0, "http://fast.example/", start);
    assert_eq!(take(&mut origins, start), [0]);
    end(&mut origins, 0, SinkSignal::Works, start);
    for event in 1..1000 {
        add(&mut origins, event, &format!("http://slow{event}.example/"), start);
    }
    assert_eq!(take(&mut origins, start).len(), MAX_UNPROVEN);
    add(&mut origins, 1000, "http://fast.example/", start);
    assert_eq!(take(&mut origins, start), [1000]);
}

#[test]
fn nothing_is_kept_of_origins_that_are_done() {
    let start = Instant::now();
    let mut origins = origins();
    for event in 0..2000 {
        add(&mut origins, event, &format!("http://host{event}.example/"), start);
    }
    loop {
        let taken = take(&mut origins, start);
        if taken.is_empty() {
            break;
        }
        for event in taken {
            end(&mut origins, event, SinkSignal::Works, start);
        }
    }
    assert!(origins.lanes.is_empty() && origins.of.is_empty() && origins.agenda.is_empty());
    assert!(origins.hosts.len() <= MAX_IDLE_HOSTS + 1, "{}", origins.hosts.len());
    add(&mut origins, 1, "http://one.example/", start);
    origins.schedule(key(2), start);
    assert_eq!(origins.drain().len(), 2);
    assert_eq!((origins.counts(), origins.oldest()), ((0, 0), None));
}

#[test]
fn an_origin_that_fails_is_probed_and_shown() {
    let start = Instant::now();
    let mut origins = origins();
    for event in 0..9 {
        add(&mut origins, event, "http://slow.example/", start);
    }
    let mut now = start;
    for _ in 0..3 {
        let taken = take(&mut origins, now);
        assert_eq!(taken.len(), 1);
        now += TIMEOUT;
        end(&mut origins, taken[0], SinkSignal::Fails, now);
    }
    assert_eq!(take(&mut origins, now), [0_u64; 0], "its breaker is open");
    let status = &origins.statuses(now)[0];
    assert_eq!((status.origin.as_str(), status.state), ("http://slow.example", SinkState::Failing));
    assert_eq!((status.pending, status.failures_in_row), (9, 3));
}
