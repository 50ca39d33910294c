//! The policies that are compared, as schedules of polls.

use crate::schedule::learned::curve::Curve;

use super::{
    random::Random,
    truth::{LEAST_INTERVAL, ROUND_TRIP, Truth, schedule},
};

/// A policy as another program ships it. All of them wait after each answer, and all but the
/// backoff poll at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shipped {
    /// A poll every so many seconds.
    Fixed(f64),
    /// One second at first, half as long again each time, at most 30 s, give or take a half.
    Backoff,
    /// The waiter of the AWS SDKs: random between 2 s and twice as much each time, at most 120 s.
    Waiter,
    /// A tenth of the job's age.
    TenthOfAge,
}

impl Shipped {
    /// All policies, with their names.
    pub const ALL: [(&'static str, Self); 6] = [
        ("fixed 2 s", Self::Fixed(2.0)),
        ("fixed 5 s", Self::Fixed(5.0)),
        ("fixed 10 s", Self::Fixed(10.0)),
        ("backoff 1x1.5<=30", Self::Backoff),
        ("AWS waiter", Self::Waiter),
        ("10% of age", Self::TenthOfAge),
    ];

    /// Returns the wait before poll `number` (from 1) of a job of this age, in seconds.
    #[must_use]
    pub fn wait(self, number: i32, age: f64, random: &mut Random) -> f64 {
        match self {
            Self::Fixed(interval) => interval,
            Self::Backoff => 1.5_f64.powi(number - 1).min(30.0) * random.between(0.5, 1.5),
            Self::Waiter => random.between(2.0, 2.0 * 2.0_f64.powi(number - 1).min(60.0)),
            Self::TenthOfAge => (0.1 * age).max(LEAST_INTERVAL),
        }
    }

    /// Returns whether it polls as soon as a job is created.
    #[must_use]
    pub fn at_once(self) -> bool {
        self != Self::Backoff
    }

    /// Returns its schedules: one, or `count` equally likely ones if it is random.
    #[must_use]
    pub fn schedules(self, truth: &Truth, count: usize, random: &mut Random) -> Vec<Vec<f64>> {
        self.stretched(1.0, truth, count, random)
    }

    /// Returns its schedules with every wait this many times as long.
    #[must_use]
    pub fn stretched(self, times: f64, truth: &Truth, count: usize, random: &mut Random) -> Vec<Vec<f64>> {
        let wait =
            |number, age, random: &mut Random| (times * self.wait(number, age, random)).max(LEAST_INTERVAL);
        let count = if matches!(self, Self::Backoff | Self::Waiter) { count } else { 1 };
        let one = |_| {
            let mut number = 0;
            let first = if self.at_once() {
                0.0
            } else {
                number += 1;
                wait(number, 0.0, random)
            };
            schedule(truth, first + ROUND_TRIP / 2.0, |age| {
                number += 1;
                age + wait(number, age, random) + ROUND_TRIP
            })
        };
        (0..count).map(one).collect()
    }
}

/// Returns a poll every `interval` seconds, none at zero.
#[must_use]
pub fn tuned(truth: &Truth, interval: f64) -> Vec<f64> {
    schedule(truth, interval, |age| age + interval)
}

/// Returns a poll whenever a result would have been waiting for θ seconds on average, by the given
/// curve.
#[must_use]
pub fn expected_wait<A: AsRef<[f64]>>(truth: &Truth, curve: &Curve<A>, theta: f64) -> Vec<f64> {
    let next = |age: f64| curve.next(age, theta).max(age + LEAST_INTERVAL);
    schedule(truth, next(0.0), next)
}
