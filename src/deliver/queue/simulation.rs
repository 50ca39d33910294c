//! A backlog at receivers that can do only so much, in virtual time.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
};

use super::*;
use crate::{
    deliver::{
        config::RetryConfig,
        outcome::{AttemptFailure, AttemptOutcome, AttemptResult},
        queue::{
            breaker,
            decision::{History, decide},
        },
    },
    model::delivery::ErrorClass,
    store::AttemptVerdict,
    util::units::Time,
};

/// What a receiver can do.
enum Receiver {
    /// So many a second, with a burst of as many; it answers at once.
    Rate { tokens: f64, rate: f64, refilled: Duration },
    /// One at a time, each of which takes so long; it refuses what comes meanwhile.
    Single { takes: Duration, busy_until: Duration },
}

impl Receiver {
    /// The status of a request that comes at `now`, and when it is answered.
    fn ask(&mut self, now: Duration) -> (u16, Duration) {
        match self {
            Self::Rate { tokens, rate, refilled } => {
                *tokens = (*tokens + now.saturating_sub(*refilled).as_secs_f64() * *rate).min(*rate);
                *refilled = now;
                let taken = *tokens >= 1.0;
                *tokens -= f64::from(u8::from(taken));
                (if taken { 204 } else { 503 }, now + Duration::from_millis(5))
            }
            Self::Single { busy_until, .. } if *busy_until > now => (503, now + Duration::from_millis(5)),
            Self::Single { takes, busy_until } => {
                *busy_until = now + *takes;
                (204, *busy_until)
            }
        }
    }
}

/// What it took to deliver everything.
#[derive(Debug, Default)]
struct Outcome {
    took: Duration,
    refused: usize,
    dead: usize,
}

fn refusal() -> AttemptOutcome {
    let failure = AttemptFailure::new(ErrorClass::Status, "answered 503");
    AttemptOutcome { status: Some(503), ..AttemptOutcome::failed(failure, Duration::ZERO) }
}

/// Asks for `seconds` of silence.
fn limited(seconds: u64) -> AttemptOutcome {
    let result = AttemptResult::Failed { retry_after: Some(Duration::from_secs(seconds)) };
    AttemptOutcome { status: Some(429), result, ..refusal() }
}

/// Sends `count` events that are due at once. With `outage` every attempt until then is refused.
fn deliver(count: u64, outage: Duration, receiver: Receiver) -> Outcome {
    deliver_refused(count, outage, receiver, refusal)
}

/// The same with another refusal.
fn deliver_refused(
    count: u64,
    outage: Duration,
    mut receiver: Receiver,
    refusal: impl Fn() -> AttemptOutcome,
) -> Outcome {
    let (start, wall) = (Instant::now(), Time(1_800_000_000_000));
    let retry = RetryConfig { jitter: 0.0, ..RetryConfig::default() };
    let limits = Limits {
        retry: retry.clone(),
        max_in_flight: 16,
        first_in_flight: 16,
        max_per_second: None,
        ordered: false,
        breaker_attempts: breaker::MIN_ATTEMPTS,
    };
    let mut queue = Queue::new(limits, start);
    (0..count).for_each(|event| queue.schedule(DeliveryKey::new(event, "evt", "app"), start));
    let mut history: BTreeMap<DeliveryKey, History> = BTreeMap::new();
    let mut flying: BinaryHeap<Reverse<(Duration, DeliveryKey, u16)>> = BinaryHeap::new();
    let (mut now, mut outcome) = (Duration::ZERO, Outcome::default());
    while queue.counts().0 > 0 {
        let wait = match queue.release_next(start + now) {
            Next::Take(key) => {
                let (status, at) = match now < outage {
                    true => (503, now + Duration::from_millis(5)),
                    false => receiver.ask(now),
                };
                flying.push(Reverse((at, key, status)));
                continue;
            }
            Next::Wait(at) => at.map(|at| at - start),
        };
        let answer = flying.peek().map(|Reverse((at, ..))| *at);
        now = [wait, answer].into_iter().flatten().min().expect("something happens").max(now);
        if answer != Some(now) {
            continue;
        }
        let Some(Reverse((_, key, status))) = flying.pop() else { continue };
        let known = history.entry(key).or_default();
        known.passed_by = queue.passed_by(key);
        let attempt = if status == 204 { AttemptOutcome::delivered(Duration::ZERO) } else { refusal() };
        let at = start + now;
        let decision = decide(&attempt, *known, queue.is_taking(at), &retry, wall.after(now), 0.5);
        queue.update_breaker(key, decision.signal, attempt.retry_after(), at, 0.5);
        outcome.refused += usize::from(status == 503);
        let again = match decision.next_step {
            AttemptVerdict::Retry(at) => {
                (known.step, known.spared) = (known.step + 1, 0);
                Some(at)
            }
            AttemptVerdict::Defer(at) => {
                known.spared += 1;
                Some(at)
            }
            AttemptVerdict::Dead(_) => {
                outcome.dead += 1;
                None
            }
            AttemptVerdict::Delivered => None,
        };
        queue.finish(key, again.map(|at| start + at.since(wall)), start + now);
    }
    outcome.took = now;
    outcome
}

fn rate() -> Receiver {
    Receiver::Rate { tokens: 6.6, rate: 6.6, refilled: Duration::ZERO }
}

fn single() -> Receiver {
    Receiver::Single { takes: Duration::from_millis(150), busy_until: Duration::ZERO }
}

#[test]
fn a_backlog_reaches_a_slow_receiver_about_as_fast_as_it_can_take_it() {
    for (name, receiver) in [("6.6 a second", rate()), ("one at a time", single())] {
        let outcome = deliver(200, Duration::ZERO, receiver);
        println!("{name}: {outcome:?}");
        assert_eq!(outcome.dead, 0, "{name}");
        assert!(outcome.took < Duration::from_secs(50), "{name}: {outcome:?}");
        assert!(outcome.refused < 50, "{name}: {outcome:?}");
    }
}

#[test]
fn after_an_outage_it_is_the_same() {
    let outage = Duration::from_secs(30);
    for (name, receiver) in [("6.6 a second", rate()), ("one at a time", single())] {
        let outcome = deliver(200, outage, receiver);
        println!("{name} after an outage: {outcome:?}");
        assert_eq!(outcome.dead, 0, "{name}");
        assert!(outcome.took < outage + Duration::from_secs(60), "{name}: {outcome:?}");
    }
}

#[test]
fn a_receiver_that_asks_for_silence_is_found_out_once() {
    for seconds in [1, 2, 5] {
        let outcome = deliver_refused(200, Duration::ZERO, rate(), || limited(seconds));
        println!("6.6 a second, {seconds} s of silence: {outcome:?}");
        assert_eq!(outcome.dead, 0);
        assert!(outcome.took < Duration::from_secs(60), "{seconds}: {outcome:?}");
        assert!(outcome.refused < 30, "{seconds}: {outcome:?}");
    }
}
