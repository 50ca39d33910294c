//! The sharing of a budget, in virtual time: among claims, and among the schedules of sources.

use std::{cmp::Reverse, collections::BinaryHeap};

use proptest::prelude::*;

use super::*;
use crate::{
    schedule::{
        FailureRowKind, Next, PollingConfig, Schedule, Strategy as Polling,
        tests::{wall, watch},
    },
    store::WatchStage,
    util::units::HumanDuration,
};

const LONGEST: Duration = Duration::from_secs(30);

fn shared(rate: f64, max_in_flight: usize, now: Instant) -> Arc<SharedBudget> {
    let limits = Limits { rate, max_in_flight, longest_pause: LONGEST };
    Arc::new(SharedBudget::new(Some("one"), limits, now))
}

fn claims(budget: &Arc<SharedBudget>, count: usize) -> Vec<Claim> {
    (0..count).map(|_| Claim::new(budget, Arc::default())).collect()
}

proptest! {
    /// Claims that ask again at the time that they were told, or give up and leave their turn.
    #[test]
    fn claims_share_the_rate_and_no_token_is_lost(
        rate in 1.0..200.0f64,
        resting in prop::collection::vec(prop::option::of(1_u64..5000), 1..6),
        gives_up in prop::collection::vec(0_usize..6, 0..40),
    ) {
        let start = Instant::now();
        let budget = shared(rate, 4, start);
        let claims = claims(&budget, resting.len());
        let span = Duration::from_secs_f64(400.0 / rate);
        // When each asks next. One with a rest asks rarely, one without asks all the time.
        let mut asks: BinaryHeap<Reverse<(Instant, usize)>> = (0..claims.len()).map(|n| Reverse((start, n))).collect();
        let mut taken = vec![0_u32; claims.len()];
        let mut gives_up = gives_up.into_iter();
        let (mut ahead, mut last) = (0.0_f64, start);
        while let Some(Reverse((now, n))) = asks.pop().filter(|next| next.0.0 < start + span) {
            let mut state = budget.lock();
            let waited = state.begin(claims[n].id, 1);
            let rest = resting[n].map(Duration::from_millis);
            let next = if gives_up.next() == Some(n) {
                now + Duration::from_millis(20)
            } else {
                match state.take(claims[n].id, now) {
                    Ok(()) => {
                        taken[n] += 1;
                        ahead = (ahead - (now - last).as_secs_f64() * rate).max(0.0) + 1.0;
                        last = now;
                        prop_assert!(ahead <= (rate / 10.0).max(1.0) + 1e-6, "{ahead}");
                        now + rest.unwrap_or_default()
                    }
                    Err(at) => {
                        prop_assert!(at > now);
                        at
                    }
                }
            };
            state.end(claims[n].id, waited);
            drop(state);
            asks.push(Reverse((next, n)));
        }
        let busy: Vec<u32> = (0..claims.len()).filter(|n| resting[*n].is_none()).map(|n| taken[n]).collect();
        if let (Some(most), Some(least)) = (busy.iter().max(), busy.iter().min()) {
            prop_assert!(most - least <= 45, "they ask all the time: {taken:?}");
            let all: u32 = taken.iter().sum();
            prop_assert!(all >= 350, "tokens are lost: {taken:?} at {rate}/s");
            // A claim that asks rarely gets what it asks for, up to its share.
            for n in (0..claims.len()).filter(|n| resting[*n].is_some()) {
                #[expect(clippy::cast_precision_loss, reason = "a few claims")]
                let count = claims.len() as f64;
                let wanted = span.as_secs_f64() / (Duration::from_millis(resting[n].unwrap()).as_secs_f64() + count / rate);
                let share = wanted.min(400.0 / count);
                prop_assert!(f64::from(taken[n]) >= share * 0.8 - 42.0, "{taken:?}, {n} of {share}");
            }
        }
    }
}

/// A source in virtual time, whose jobs never end.
struct Polled {
    schedule: Schedule,
    polls: u32,
    flights: BinaryHeap<Reverse<(Instant, u64)>>,
}

impl Polled {
    fn new(budget: &Arc<SharedBudget>, numbers: std::ops::Range<u64>, every: Duration, now: Instant) -> Self {
        let interval = HumanDuration(every);
        let config = PollingConfig { strategy: Polling::Fixed, interval, ..PollingConfig::default() };
        let mut schedule = Schedule::with_claim(&config, Claim::new(budget, Arc::default()), now);
        for number in numbers {
            schedule.add(&watch(number, WatchStage::Watching), now, wall());
        }
        Self { schedule, polls: 0, flights: BinaryHeap::new() }
    }

    fn step(&mut self, now: Instant, takes: Duration) {
        while let Some(Reverse((_, number))) =
            self.flights.peek().filter(|next| next.0.0 <= now).map(|next| Reverse(next.0))
        {
            self.flights.pop();
            self.schedule.record_answer(RequestTimes { number, sent: now - takes, now });
            self.schedule.record_status(number, "in_progress", false);
            self.schedule.done(number, Task::Poll, true, now, wall(), 0.0);
        }
        loop {
            match self.schedule.next(now, wall()) {
                Next::List(_) => unreachable!("nobody asks for a list"),
                Next::Run(number) => {
                    self.polls += 1;
                    self.flights.push(Reverse((now + takes, number)));
                }
                Next::Yield => {}
                Next::Wait(_) | Next::Cut => return,
            }
        }
    }
}

/// Runs two sources for a minute. Returns their polls.
fn minute(rate: f64, max_in_flight: usize, takes: Duration, jobs: [u64; 2], few: Duration) -> [u32; 2] {
    let start = Instant::now();
    let budget = shared(rate, max_in_flight, start);
    let mut many = Polled::new(&budget, 0..jobs[0], Duration::from_secs(1), start);
    let mut others = Polled::new(&budget, 1_000_000..1_000_000 + jobs[1], few, start);
    for tick in 0..12_000 {
        let now = start + Duration::from_millis(5) * tick;
        // The one with many is always asked first.
        many.step(now, takes);
        others.step(now, takes);
    }
    assert!(f64::from(many.polls + others.polls) <= rate * 60.0 + rate / 10.0 + 1.0);
    [many.polls, others.polls]
}

#[tokio::test(start_paused = true)]
async fn a_few_jobs_are_polled_as_if_ten_thousand_others_were_not_there() {
    let round_trip = Duration::from_millis(50);
    let [many, few] = minute(20.0, 16, round_trip, [10_000, 3], Duration::from_secs(1));
    // Each of the three could be polled every second at best, and waits for two tokens at most.
    assert!((145..=180).contains(&few), "{few} beside {many}");
    assert!(many + few >= 1170, "{many} and {few} of 1200");
    let [one, other] = minute(20.0, 16, round_trip, [10_000, 10_000], Duration::from_secs(1));
    assert!(one.abs_diff(other) <= 2, "{one} and {other}");
}

#[tokio::test(start_paused = true)]
async fn places_are_shared_as_well_when_answers_take_long() {
    // Two places, half a second each: four polls a second.
    let [many, few] = minute(100.0, 2, Duration::from_millis(500), [1000, 3], Duration::from_secs(1));
    assert!((100..=180).contains(&few) && many >= 60, "{few} beside {many}");
    let [one, other] = minute(100.0, 2, Duration::from_millis(500), [1000, 1000], Duration::from_secs(1));
    assert!(one.abs_diff(other) <= 4 && one + other >= 220, "{one} and {other}");
}

fn two(now: Instant) -> (Arc<SharedBudget>, Schedule, Schedule) {
    let budget = shared(1000.0, 8, now);
    let source = |first: u64| {
        let claim = Claim::new(&budget, Arc::default());
        let mut schedule = Schedule::with_claim(&PollingConfig::default(), claim, now);
        for number in first..first + 4 {
            schedule.add(&watch(number, WatchStage::Watching), now, wall());
            schedule.poll_now(number, now);
        }
        schedule
    };
    let (one, other) = (source(0), source(10));
    (budget, one, other)
}

fn says(schedule: &mut Schedule, number: u64, sign: SourceSign, now: Instant) {
    let request = RequestTimes { number, sent: now, now };
    schedule.record_sign(request, sign, 0.0);
}

#[tokio::test(start_paused = true)]
async fn a_limit_of_one_source_pauses_all_and_one_answer_ends_it() {
    let start = Instant::now();
    let (_, mut one, mut other) = two(start);
    let Next::Run(number) = one.next(start, wall()) else { panic!("a poll is due") };
    says(&mut one, number, SourceSign::Ill(HealthState::Limited, Some(Duration::from_secs(7))), start);
    one.done(number, Task::Poll, true, start, wall(), 0.0);
    let end = start + Duration::from_secs(7);
    for source in [&mut one, &mut other] {
        assert_eq!(
            (source.state(), source.next(start, wall())),
            (HealthState::Limited, Next::Wait(Some(end)))
        );
    }
    // One probe, of the source whose turn it is, and its answer counts for both.
    let probes: Vec<Next> = [&mut one, &mut other].map(|source| source.next(end, wall())).into();
    let probe =
        probes.iter().filter_map(|next| if let Next::Run(number) = next { Some(*number) } else { None });
    let probe: Vec<u64> = probe.collect();
    assert_eq!(probe.len(), 1, "{probes:?}");
    let prober = if probe[0] < 10 { &mut one } else { &mut other };
    prober.record_answer(RequestTimes { number: probe[0], sent: end, now: end });
    prober.done(probe[0], Task::Poll, true, end, wall(), 0.0);
    for source in [&mut one, &mut other] {
        assert_eq!(source.state(), HealthState::Ok);
        assert!(matches!(source.next(end, wall()), Next::Run(_)));
    }
}

#[tokio::test(start_paused = true)]
async fn jobs_of_all_sources_together_show_that_the_key_is_refused() {
    let start = Instant::now();
    let (budget, mut one, mut other) = two(start);
    let refused = SourceSign::Suspect(HealthState::Unauthorized, None);
    let mut asked = 0;
    while one.state() == HealthState::Ok {
        for source in [&mut one, &mut other] {
            let Next::Run(number) = source.next(start, wall()) else { continue };
            asked += 1;
            says(source, number, refused, start);
            let request = RequestTimes { number, sent: start, now: start };
            if let Some((job, _)) = source.failure_facts(request, FailureRowKind::Rejected, wall()) {
                source.record_failure(number, job.history);
            }
            source.done(number, Task::Poll, true, start, wall(), 0.0);
        }
        assert!(asked <= 8);
    }
    assert_eq!((one.state(), other.state()), (HealthState::Unauthorized, HealthState::Unauthorized));
    budget.try_again();
    let runs = [&mut one, &mut other].map(|source| matches!(source.next(start, wall()), Next::Run(_)));
    assert_eq!(runs.iter().filter(|run| **run).count(), 1, "one request tries the new key");
}

#[tokio::test(start_paused = true)]
async fn a_host_that_is_down_is_no_matter_of_the_other_sources() {
    let start = Instant::now();
    let (_, mut one, mut other) = two(start);
    says(&mut one, 0, SourceSign::Ill(HealthState::Failing, None), start);
    assert_eq!((one.state(), other.state()), (HealthState::Failing, HealthState::Ok));
    assert!(matches!(other.next(start, wall()), Next::Run(_)));
    says(&mut one, 0, SourceSign::Ill(HealthState::Limited, None), start);
    assert_eq!((one.state(), other.state()), (HealthState::Limited, HealthState::Limited));
}

#[tokio::test(start_paused = true)]
async fn a_source_with_failing_jobs_alone_gets_its_turn_beside_a_busy_one() {
    let start = Instant::now();
    let budget = shared(20.0, 16, start);
    let mut many = Polled::new(&budget, 0..1000, Duration::from_millis(250), start);
    let config = PollingConfig { max_interval: Some(HumanDuration::secs(1)), ..PollingConfig::default() };
    let mut failing = Schedule::with_claim(&config, Claim::new(&budget, Arc::default()), start);
    failing.add(&watch(9_999_999, WatchStage::Watching), start, wall());
    failing.add(&watch(9_999_998, WatchStage::Watching), start, wall());
    let mut asked = 0;
    for tick in 0..12_000 {
        let now = start + Duration::from_millis(5) * tick;
        many.step(now, Duration::from_millis(50));
        while let Next::Run(number) = failing.next(now, wall()) {
            asked += 1;
            let request = RequestTimes { number, sent: now, now };
            let (job, _) = failing.failure_facts(request, FailureRowKind::Transient, wall()).unwrap();
            failing.record_failure(number, job.history);
            failing.record_sign(request, SourceSign::Heard, 0.0);
            failing.done(number, Task::Poll, true, now, wall(), 0.99);
        }
    }
    assert!((30..=120).contains(&asked), "{asked} in a minute");
}

#[tokio::test(start_paused = true)]
async fn a_source_that_moves_gets_no_new_allowance_and_keeps_its_pause() {
    let start = Instant::now();
    let before = shared(10.0, 4, start);
    let claim = Claim::new(&before, Arc::default());
    before.lock().take(claim.id, start).unwrap();
    let limited = SourceSign::Ill(HealthState::Limited, Some(Duration::from_secs(60)));
    before.lock().record(RequestTimes { number: 1, sent: start, now: start }, limited, 0.0);
    let after = shared(1000.0, 4, start);
    after.absorb(&before, start);
    let claim = Claim::new(&after, Arc::default());
    after.lock().take(claim.id, start).unwrap_err();
    assert_eq!(after.key_state(start), (HealthState::Limited, Some(start + Duration::from_secs(60))));
    // Other limits on the way change neither.
    after.set_limits(Limits { rate: 1e6, max_in_flight: 1, longest_pause: LONGEST }, start);
    after.lock().take(claim.id, start).unwrap_err();
    assert_eq!(after.key_state(start).0, HealthState::Limited);
}

#[tokio::test(start_paused = true)]
async fn who_stops_waiting_holds_up_nobody_and_wakes_the_others() {
    let budget = shared(1.0, 1, Instant::now());
    let [one, other] = [Arc::new(Notify::new()), Arc::new(Notify::new())];
    let (first, second) = (Claim::new(&budget, Arc::clone(&one)), Claim::new(&budget, Arc::clone(&other)));
    first.take().await;
    let mut waiting = Box::pin(second.take());
    assert!(futures_util::poll!(&mut waiting).is_pending());
    let mut again = Box::pin(first.take());
    assert!(futures_util::poll!(&mut again).is_pending());
    drop(waiting);
    let begun = Instant::now();
    again.await;
    assert!(begun.elapsed() < Duration::from_millis(1010), "{:?}", begun.elapsed());
    drop(second);
}
