//! Many jobs of several kinds under one budget of requests: which one is polled first.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
};

use crate::schedule::learned::{
    curve::Curve,
    levels::{LEVELS, LevelQueue, Standing, leaves, level},
};

use super::{
    policies::Shipped,
    random::Random,
    truth::{LEAST_INTERVAL, ROUND_TRIP},
};

/// The order of polls if more are due than the budget allows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Order {
    /// A shipped policy, first due first.
    Shipped(Shipped),
    /// Polls by the expected wait, first due first.
    Fifo,
    /// Polls by the expected wait, longest average wait first, exactly.
    Largest,
    /// The same in levels of a factor of two.
    Levels,
}

/// A job: its creation, its duration and the curve of its kind.
#[derive(Clone, Copy, Debug)]
pub struct BudgetJob<'a> {
    /// In seconds.
    pub made: f64,
    /// In seconds.
    pub takes: f64,
    /// The known curve of its kind.
    pub curve: &'a Curve,
}

/// The result of a run under a budget.
#[derive(Clone, Copy, Debug)]
pub struct Spent {
    /// The average delay in seconds.
    pub delay: f64,
    /// The requests that were not sent although a job was ready.
    pub idle: u64,
}

/// The state of an open job.
#[derive(Clone, Copy, Debug)]
struct Open {
    known: f64,
    polls: i32,
}

/// Runs jobs, in the order of their creation, with `rate` requests a second.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "counts")]
pub fn run(jobs: &[BudgetJob], order: Order, rate: f64, theta: f64, random: &mut Random) -> Spent {
    let mut waiting = Waiting::new(order, jobs, theta);
    let (mut made, mut ended, mut delay, mut idle, mut turn) = (0, 0, 0.0, 0, 0.0);
    while ended < jobs.len() {
        let now = turn / rate;
        turn += 1.0;
        while made < jobs.len() && jobs[made].made <= now {
            waiting.put(made, now, random);
            made += 1;
        }
        let Some(number) = waiting.take(now) else {
            idle += u64::from(waiting.any_ready(now));
            continue;
        };
        let age = now - jobs[number].made;
        if age >= jobs[number].takes {
            delay += age - jobs[number].takes + ROUND_TRIP / 2.0;
            ended += 1;
        } else {
            waiting.open[number].known = age;
            waiting.put(number, now, random);
        }
    }
    let count = jobs.len() as f64;
    Spent { delay: delay / count, idle }
}

/// The jobs that wait for their next poll.
struct Waiting<'a> {
    order: Order,
    jobs: &'a [BudgetJob<'a>],
    theta: f64,
    open: Vec<Open>,
    due: BinaryHeap<Reverse<(u64, usize)>>,
    /// The ready jobs, the one that waited longest last. Sorted ten times a second.
    ready: VecDeque<usize>,
    sorted: f64,
    levels: LevelQueue,
}

impl<'a> Waiting<'a> {
    fn new(order: Order, jobs: &'a [BudgetJob<'a>], theta: f64) -> Self {
        let open = vec![Open { known: 0.0, polls: 0 }; jobs.len()];
        let levels = LevelQueue::default();
        Self {
            order,
            jobs,
            theta,
            open,
            due: BinaryHeap::new(),
            ready: VecDeque::new(),
            sorted: -1.0,
            levels,
        }
    }

    /// Returns when the expected wait of a job reaches a value.
    fn reaches(&self, number: usize, waiting: f64) -> f64 {
        let known = self.open[number].known;
        self.jobs[number].made + self.jobs[number].curve.next(known, waiting).max(known + LEAST_INTERVAL)
    }

    fn waited(&self, number: usize, now: f64) -> f64 {
        self.jobs[number].curve.waiting(self.open[number].known, now - self.jobs[number].made)
    }

    fn put(&mut self, number: usize, now: f64, random: &mut Random) {
        self.open[number].polls += 1;
        let due = match self.order {
            Order::Shipped(policy) => {
                let Open { known, polls } = self.open[number];
                let at_once = policy.at_once() && polls == 1;
                now + if at_once { 0.0 } else { policy.wait(polls, known, random) + ROUND_TRIP }
            }
            _ => self.reaches(number, self.theta),
        };
        match self.order {
            Order::Levels => self.levels.put(number as u64, Standing { level: None, until: ticks(due) }),
            _ => self.due.push(Reverse((ticks(due), number))),
        }
    }

    fn take(&mut self, now: f64) -> Option<usize> {
        match self.order {
            Order::Levels => self.take_level(now),
            Order::Largest => self.take_largest(now),
            _ => self.any_ready(now).then(|| self.due.pop().map(|Reverse((_, number))| number))?,
        }
    }

    fn any_ready(&self, now: f64) -> bool {
        let due = self.due.peek().is_some_and(|Reverse((at, _))| *at <= ticks(now));
        due || !self.ready.is_empty() || self.levels.ready() > 0
    }

    fn take_largest(&mut self, now: f64) -> Option<usize> {
        let mut came = false;
        while let Some(Reverse((_, number))) =
            self.due.peek().copied().filter(|Reverse((at, _))| *at <= ticks(now))
        {
            self.due.pop();
            self.ready.push_front(number);
            came = true;
        }
        if now - self.sorted > 0.1 || came && self.ready.len() < 200 {
            self.sorted = now;
            let mut ready: Vec<(f64, usize)> =
                self.ready.iter().map(|number| (self.waited(*number, now), *number)).collect();
            ready.sort_by(|a, b| a.0.total_cmp(&b.0));
            self.ready = ready.into_iter().map(|(_, number)| number).collect();
        }
        self.ready.pop_back()
    }

    fn take_level(&mut self, now: f64) -> Option<usize> {
        let mut levels = std::mem::take(&mut self.levels);
        levels.advance(ticks(now), usize::MAX, |number| {
            let number = usize::try_from(number).unwrap_or_default();
            let at = level(self.waited(number, now), self.theta);
            Standing { level: Some(at), until: ticks(self.reaches(number, leaves(at, self.theta))) }
        });
        let taken = levels.pop(0..LEVELS);
        self.levels = levels;
        taken.and_then(|(number, _)| usize::try_from(number).ok())
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "microseconds of a simulation")]
fn ticks(seconds: f64) -> u64 {
    (seconds * 1e6) as u64
}
