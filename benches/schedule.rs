//! Measures what it takes to decide which job is polled next: the time for a poll, the memory for a
//! watch, and the longest call that holds up the others. `cargo bench --bench schedule`

#![expect(clippy::cast_precision_loss, reason = "counts of a measurement")]

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use tidings::{
    model::{job::JobId, status_answer::StatusAnswer},
    schedule::{
        Next, PollingConfig, Schedule, Task,
        learned::{
            decide::{Policy, Situation},
            forecast::Progress,
            kind::RunEnd,
            levels::{LevelQueue, Standing},
            model::{Key, Model},
        },
    },
    store::{Watch, WatchStage},
    util::units::Time,
};

const POLL_LIMIT: f64 = 2e-6;
const WATCH_LIMIT: f64 = 64.0;
const PAUSE_LIMIT: f64 = 10e-3;
const KINDS: u64 = 50;

fn key(number: u64) -> Key {
    Key { endpoint: format!("/v1/kind/{}", number % KINDS), label: None }
}

/// Fifty kinds that have learned from a thousand finishes each.
fn taught() -> Model {
    let mut model = Model::default();
    for number in 0..KINDS * 1000 {
        let takes = 5.0 + (number % KINDS) as f64 + (number / KINDS % 97) as f64 / 10.0;
        let mut before = Progress::default();
        for poll in 1..4 {
            let now = Progress { age: takes * f64::from(poll) / 4.0, started: None };
            model.record_running(&key(number), before, now, 0.0);
            before = now;
        }
        let now = Progress { age: takes + 0.5, started: None };
        model.record_finished(&key(number), [before, now], RunEnd::Finished(Some(takes)), 0.5, 0.0);
    }
    model
}

fn row(what: &str, figure: &str, limit: &str, ratio: f64) {
    println!("{what:<58}{figure:>12}{limit:>12}{ratio:>8.2}");
}

fn polls() {
    let (mut model, policy) = (taught(), Policy::default());
    let keys: Vec<Key> = (0..KINDS).map(key).collect();
    for key in &keys {
        black_box(model.forecast(key, policy.theta, 1.0));
    }
    let built = Instant::now();
    for key in &keys {
        model.record_running(key, Progress::default(), Progress { age: 1.0, started: None }, 100.0);
        black_box(model.forecast(key, policy.theta, 100.0));
    }
    let a_curve = built.elapsed().as_secs_f64() / KINDS as f64;
    let count = 2_000_000_u32;
    let begun = Instant::now();
    for number in 0..count {
        let age = f64::from(number % 600) / 10.0;
        let known = Progress { age, started: None };
        let luck = f64::from(number % 100) / 100.0;
        let job = Situation {
            known,
            now: age,
            polled: Some(age),
            deadline: Some(6e5),
            luck,
            jitter: luck,
            ..Situation::default()
        };
        black_box(model.next_poll(&keys[number as usize % keys.len()], &policy, &job, 100.0));
    }
    let a_poll = begun.elapsed().as_secs_f64() / f64::from(count);
    row("deciding one poll", &format!("{:.0} ns", a_poll * 1e9), "2000 ns", a_poll / POLL_LIMIT);
    row(
        "building one curve, once a second at the most",
        &format!("{:.0} us", a_curve * 1e6),
        "10 ms",
        a_curve / PAUSE_LIMIT,
    );
}

fn memory() {
    let count = 1_000_000_u64;
    let mut queue = LevelQueue::default();
    let begun = Instant::now();
    for number in 0..count {
        queue.put(number, Standing { level: None, until: number * 7919 % count });
    }
    queue.advance(count / 2, usize::MAX, |number| Standing {
        level: Some((number % 20) as u8),
        until: count * 2,
    });
    let took = begun.elapsed().as_secs_f64() / count as f64;
    let bytes = queue.bytes() as f64 / count as f64;
    row("the queue of 1 000 000 watches, each", &format!("{bytes:.1} B"), "64 B", bytes / WATCH_LIMIT);
    row(
        "putting one in, half of them on a level",
        &format!("{:.0} ns", took * 1e9),
        "2000 ns",
        took / POLL_LIMIT,
    );
}

fn watch(number: u64, wall: Time) -> Watch {
    let json = serde_json::json!({
        "source": "retab", "job_id": format!("job_{number}"), "created_at": wall, "registered_at": wall, "updated_at": wall,
        "stage": "watching", "endpoint": key(number).endpoint, "seen_running": true,
    });
    Watch { number, stage: WatchStage::Watching, job_id: id(number), ..serde_json::from_value(json).unwrap() }
}

fn id(number: u64) -> JobId {
    format!("job_{number}").parse().unwrap()
}

/// The longest call into the schedule, with 100 000 watches of fifty kinds, while each second all
/// fifty curves change.
fn pauses() {
    let (start, wall) = (tokio::time::Instant::now(), Time(1_800_000_000_000));
    let mut schedule = Schedule::new(&PollingConfig::default(), 2000.0, 64, start);
    schedule.restore(taught());
    let registered = Time(wall.0 - 30_000);
    let mut taking_in = Calls::default();
    for number in 0..100_000 {
        let watch = watch(number, registered);
        taking_in.time(|| schedule.add(&watch, start, wall));
    }
    let mut calls = Calls::default();
    let mut polls = 0_u32;
    for tick in 0..2000_u64 {
        let span = Duration::from_millis(tick * 5);
        let (now, wall) = (start + span, wall.after(span));
        loop {
            let number = match calls.time(|| schedule.next(now, wall)) {
                Next::List(_) => unreachable!("nobody asks for a list"),
                Next::Run(number) => number,
                Next::Yield => continue,
                Next::Wait(_) | Next::Cut => break,
            };
            polls += 1;
            calls.time(|| {
                if number % 3 == 0 {
                    let mut ended = schedule.pending_completion(number, true).unwrap();
                    let seen = StatusAnswer {
                        created_at: Some(registered),
                        ended_at: Some(wall),
                        ..StatusAnswer::default()
                    };
                    schedule.record_finished(&mut ended, &seen, now, wall, 0.5);
                    schedule.remove(number);
                    schedule.done(number, Task::Poll, false, now, wall, 0.5);
                } else {
                    schedule.record_running(number, &StatusAnswer::default(), now, wall);
                    schedule.done(number, Task::Poll, true, now, wall, 0.5);
                }
            });
        }
    }
    println!("\n100 000 watches, {polls} polls");
    taking_in.row("taking a watch in");
    calls.row("looking: whom, and what it taught");
}

/// The durations of calls.
#[derive(Default)]
struct Calls {
    took: Vec<Duration>,
}

impl Calls {
    fn time<T>(&mut self, call: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let value = call();
        self.took.push(begun.elapsed());
        value
    }

    fn row(&self, what: &str) {
        let mean = self.took.iter().sum::<Duration>().as_secs_f64() / self.took.len() as f64;
        let longest = self.took.iter().max().map_or(0.0, Duration::as_secs_f64);
        row(&format!("{what}, in the mean"), &format!("{:.2} us", mean * 1e6), "10 ms", mean / PAUSE_LIMIT);
        row(
            &format!("{what}, at the longest"),
            &format!("{:.2} ms", longest * 1e3),
            "10 ms",
            longest / PAUSE_LIMIT,
        );
    }
}

fn main() {
    println!("{:<58}{:>12}{:>12}{:>8}", "", "measured", "limit", "ratio");
    polls();
    memory();
    pauses();
}
