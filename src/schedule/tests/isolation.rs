//! How much later the good jobs of a source are noticed when as many others fail, in virtual time.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use super::{super::*, wall, watch};
use crate::store::WatchStage;

/// How the bad jobs fail.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Bad {
    /// There are no bad jobs.
    Absent,
    /// An error at once.
    Error,
    /// No answer within 30 s.
    Hang,
    /// A key that may not see this job.
    Forbid,
    /// A limit that asks for an hour.
    Limit,
}

const GOOD: u64 = 100;
const ROUND_TRIP: Duration = Duration::from_millis(50);

/// Returns the average delay of the good jobs in seconds: jobs of 5 to 20 s, all registered at
/// once, with as many bad ones.
fn mean_delay(bad: Bad, seed: u64) -> f64 {
    let start = Instant::now();
    let mut schedule = Schedule::new(&PollingConfig::default(), 20.0, 32, start);
    let mut random = StdRng::seed_from_u64(seed);
    let takes: Vec<f64> = (0..GOOD).map(|_| random.random_range(5.0..20.0)).collect();
    // The good ones have even numbers.
    let step = if bad == Bad::Absent { 2 } else { 1 };
    for number in (0..2 * GOOD).step_by(step) {
        schedule.add(&watch(number, WatchStage::Watching), start, wall());
    }
    let mut delays = Vec::new();
    // Requests in flight: when each ends, for which job, and when it was sent.
    let mut flights: BinaryHeap<Reverse<(Duration, u64, Duration)>> = BinaryHeap::new();
    let mut at = Duration::ZERO;
    while delays.len() < usize::try_from(GOOD).unwrap() {
        assert!(at < Duration::from_mins(10), "{bad:?}: {} of {GOOD} ended", delays.len());
        let (now, time) = (start + at, wall().after(at));
        while let Some(Reverse((_, number, sent))) =
            flights.peek().filter(|next| next.0.0 <= at).map(|next| Reverse(next.0))
        {
            flights.pop();
            let request = RequestTimes { number, sent: start + sent, now };
            let Some(takes) = takes.get(usize::try_from(number / 2).unwrap()).filter(|_| number % 2 == 0)
            else {
                let sign = match bad {
                    Bad::Hang => SourceSign::Suspect(HealthState::Failing, None),
                    Bad::Forbid => SourceSign::Suspect(HealthState::Unauthorized, None),
                    Bad::Limit => SourceSign::Suspect(HealthState::Limited, Some(Duration::from_hours(1))),
                    Bad::Error | Bad::Absent => SourceSign::Heard,
                };
                if let Some((job, _)) = schedule.failure_facts(request, FailureRowKind::Transient, time) {
                    let mut history = job.history;
                    history.asked = (bad == Bad::Limit).then_some(Duration::from_hours(1));
                    schedule.record_failure(number, history);
                }
                schedule.record_sign(request, sign, 0.5);
                schedule.done(number, Task::Poll, true, now, time, random.random());
                continue;
            };
            schedule.record_answer(request);
            let has_ended = at.as_secs_f64() >= *takes;
            if has_ended {
                delays.push(at.as_secs_f64() - takes);
                schedule.remove(number);
            } else {
                let seen = StatusAnswer { created_at: Some(wall()), ..StatusAnswer::default() };
                schedule.record_running(number, &seen, now, time);
                schedule.record_status(number, "in_progress", false);
            }
            schedule.done(number, Task::Poll, !has_ended, now, time, random.random());
        }
        loop {
            match schedule.next(now, time) {
                Next::List(_) => unreachable!("nobody asks for a list"),
                Next::Run(number) => {
                    let lasts = if number % 2 == 1 && bad == Bad::Hang {
                        Duration::from_secs(30)
                    } else {
                        ROUND_TRIP
                    };
                    flights.push(Reverse((at + lasts, number, at)));
                }
                Next::Cut => {
                    let slowest = flights.iter().map(|flight| flight.0).max().unwrap();
                    flights.retain(|flight| flight.0 != slowest);
                    flights.push(Reverse((at, slowest.1, slowest.2)));
                    break;
                }
                Next::Yield => {}
                Next::Wait(_) => break,
            }
        }
        at += Duration::from_millis(5);
    }
    delays.iter().sum::<f64>() / f64::from(u32::try_from(delays.len()).unwrap())
}

#[test]
fn the_others_are_noticed_as_soon_however_half_of_the_jobs_fail() {
    for bad in [Bad::Error, Bad::Hang, Bad::Forbid, Bad::Limit] {
        let mean = |bad| (0..5).map(|seed| mean_delay(bad, seed)).sum::<f64>() / 5.0;
        let (alone, beside) = (mean(Bad::Absent), mean(bad));
        println!("{bad:?}: {beside:.2} s beside as many bad jobs, {alone:.2} s alone");
        assert!(beside <= 1.2 * alone, "{bad:?}: {beside:.2} s instead of {alone:.2} s");
    }
}
