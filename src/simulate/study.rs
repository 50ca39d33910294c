//! Compares policies on one kind of job: the cost of each, and its setting.

use std::{fmt, str::FromStr};

use serde::Serialize;

use crate::schedule::learned::{
    curve::Curve,
    decide::{EXPLORERS, Policy, explore},
    model::Model,
};

use super::{
    compare::{cost_of, learned, optimum_at},
    distribution::{BadDistribution, Distribution},
    fleet::{Setting, SimulatedJob, run},
    optimum::optimum,
    policies::{Shipped, expected_wait},
    random::Random,
    truth::{LEAST_INTERVAL, PolicyCost, Truth, percentile, schedule, solve, truth},
};

/// The schedules that a random policy is averaged over.
const SCHEDULES: usize = 60;
/// The curves, learned from other samples, that a learning policy is averaged over.
const CURVES: u64 = 5;
/// The greatest factor by which a policy is stretched or compressed.
const STRETCH: f64 = 4096.0;

/// A policy by its name on the command line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum NamedPolicy {
    /// A policy of another program.
    Shipped(Shipped),
    /// The learned policy of this program.
    Learned,
    /// The best possible schedule, for known durations.
    Optimum,
}

impl NamedPolicy {
    /// The policies that are compared by default.
    pub const ALL: [Self; 6] = [
        Self::Shipped(Shipped::Fixed(2.0)),
        Self::Shipped(Shipped::Backoff),
        Self::Shipped(Shipped::Waiter),
        Self::Shipped(Shipped::TenthOfAge),
        Self::Learned,
        Self::Optimum,
    ];
}

impl fmt::Display for NamedPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shipped(Shipped::Fixed(seconds)) => write!(f, "fixed={seconds}s"),
            Self::Shipped(Shipped::Backoff) => f.write_str("backoff"),
            Self::Shipped(Shipped::Waiter) => f.write_str("waiter"),
            Self::Shipped(Shipped::TenthOfAge) => f.write_str("age"),
            Self::Learned => f.write_str("learned"),
            Self::Optimum => f.write_str("optimum"),
        }
    }
}

impl FromStr for NamedPolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "fixed" => Self::Shipped(Shipped::Fixed(2.0)),
            "backoff" => Self::Shipped(Shipped::Backoff),
            "waiter" => Self::Shipped(Shipped::Waiter),
            "age" => Self::Shipped(Shipped::TenthOfAge),
            "learned" => Self::Learned,
            "optimum" => Self::Optimum,
            other => {
                let span = other.strip_prefix("fixed=").and_then(|span| humantime::parse_duration(span).ok());
                let seconds =
                    span.map(|span| span.as_secs_f64()).filter(|seconds| *seconds >= LEAST_INTERVAL);
                let seconds = seconds.ok_or(
                    "the policies are fixed (fixed=5s for another interval, 250ms or more), backoff, waiter, age, \
                     learned and optimum",
                )?;
                Self::Shipped(Shipped::Fixed(seconds))
            }
        })
    }
}

/// The settings at which policies are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum At {
    /// Each as it is shipped.
    #[default]
    AsShipped,
    /// Each stretched until it makes as many polls as the first one as shipped.
    EqualPolls,
    /// Each at its best for the same cost of a poll.
    EqualCost,
}

/// The question that a study answers.
#[derive(Clone, Debug)]
pub struct Question {
    /// The policies, in the order of the answer.
    pub policies: Vec<NamedPolicy>,
    /// The settings.
    pub at: At,
    /// θ: the delay in seconds that a poll is worth.
    pub theta: f64,
    /// The finishes that `learned` has learned from, for durations with a formula.
    pub finishes: usize,
    /// The seed of everything random.
    pub seed: u64,
}

/// The durations under which policies are compared.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Their name.
    pub name: String,
    distribution: Distribution,
    truth: Truth,
    /// Measured jobs in the order of their creation. `learned` goes through them as the daemon
    /// would.
    jobs: Option<Vec<SimulatedJob>>,
}

impl Subject {
    /// Creates a subject from durations with a formula.
    #[must_use]
    pub fn known(name: &str, distribution: Distribution) -> Self {
        Self { name: name.to_owned(), truth: truth(&distribution), distribution, jobs: None }
    }

    /// Creates a subject from measured jobs: when each was created and how long it took, in
    /// seconds.
    ///
    /// # Errors
    /// If there is none.
    pub fn measured(name: &str, mut jobs: Vec<(f64, f64)>) -> Result<Self, BadDistribution> {
        jobs.sort_by(|a, b| a.0.total_cmp(&b.0));
        let distribution = Distribution::empirical(jobs.iter().map(|(_, takes)| *takes))?;
        let jobs = jobs.into_iter().map(|(made, takes)| SimulatedJob {
            made,
            kind: 0,
            queued: None,
            takes,
            hook: None,
        });
        Ok(Self {
            name: name.to_owned(),
            truth: truth(&distribution),
            distribution,
            jobs: Some(jobs.collect()),
        })
    }

    /// Creates a subject from jobs that were created one after the other.
    ///
    /// # Errors
    /// If there is none.
    pub fn in_turn(name: &str, durations: &[f64]) -> Result<Self, BadDistribution> {
        let jobs = durations.iter().scan(0.0, |sum, takes| {
            let made = *sum;
            *sum += takes;
            Some((made, *takes))
        });
        Self::measured(name, jobs.collect())
    }
}

/// The cost of a policy on one subject.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StudyLine {
    /// Its name.
    pub policy: String,
    /// Its setting: an interval, a stretch, or the cost of a poll.
    pub setting: String,
    /// Polls per job.
    pub polls: f64,
    /// The average delay in seconds.
    pub delay: f64,
    /// The median of the delay.
    pub delay_p50: f64,
    /// The 99th percentile of the delay.
    pub delay_p99: f64,
    /// The polls at what they are worth plus the delay, in seconds.
    pub cost: f64,
    /// The delay as a multiple of the shortest possible with as many polls.
    pub times_optimum: f64,
}

/// Answers a question for one subject, a line for each policy.
#[must_use]
pub fn study(subject: &Subject, question: &Question) -> Vec<StudyLine> {
    let target = question.policies.first().map(|first| {
        let first = Candidate::new(subject, *first, question);
        first.costs(first.shipped).polls
    });
    let line = |named: &NamedPolicy| {
        let one = Candidate::new(subject, *named, question);
        let knob = one.knob(question.at, target.unwrap_or(1.0));
        one.line(knob)
    };
    question.policies.iter().map(line).collect()
}

/// Returns polls and delay of a policy over a range of its setting, from often to seldom.
#[must_use]
pub fn range(subject: &Subject, named: NamedPolicy, question: &Question) -> Vec<PolicyCost> {
    let one = Candidate::new(subject, named, question);
    (-6..=6).map(|step| one.costs(one.shipped * 2.0_f64.powf(f64::from(step) / 2.0))).collect()
}

/// A policy on a subject, with its learned curves. Its knob stretches the waits of a shipped
/// policy, and is θ for the others: the greater, the fewer polls.
struct Candidate<'a> {
    subject: &'a Subject,
    named: NamedPolicy,
    theta: f64,
    seed: u64,
    shipped: f64,
    curves: Vec<Curve>,
}

impl<'a> Candidate<'a> {
    fn new(subject: &'a Subject, named: NamedPolicy, question: &Question) -> Self {
        let learns = named == NamedPolicy::Learned && subject.jobs.is_none();
        let curve = |run| {
            let seed = question.seed.wrapping_mul(1000).wrapping_add(run);
            learned(&subject.distribution, question.finishes, &mut Random::new(seed))
        };
        Self {
            subject,
            named,
            theta: question.theta,
            seed: question.seed,
            shipped: if matches!(named, NamedPolicy::Shipped(_)) { 1.0 } else { question.theta },
            curves: (0..if learns { CURVES } else { 0 }).map(curve).collect(),
        }
    }

    /// Returns the setting to compare at.
    fn knob(&self, at: At, polls: f64) -> f64 {
        let (low, high) = (self.shipped / STRETCH, self.shipped * STRETCH);
        match (at, self.named) {
            (At::EqualPolls, _) => solve(low, high, true, |knob| self.costs(knob).polls < polls),
            (At::EqualCost, NamedPolicy::Shipped(_)) => {
                cheapest(low, high, |knob| self.costs(knob).cost(self.theta))
            }
            (At::AsShipped | At::EqualCost, _) => self.shipped,
        }
    }

    fn costs(&self, knob: f64) -> PolicyCost {
        match self.replayed(knob) {
            Some(records) => PolicyCost::mean(&records),
            None => cost_of(&self.subject.truth, &self.schedules(knob)),
        }
    }

    /// Returns the cost of each measured job, if the model learns from those before it.
    fn replayed(&self, knob: f64) -> Option<Vec<PolicyCost>> {
        let jobs = self.subject.jobs.as_ref().filter(|_| self.named == NamedPolicy::Learned)?;
        let policy = Policy { theta: knob, ..Policy::default() };
        let setting = Setting { policy, ..Setting::default() };
        let records = run(&mut Model::default(), &setting, jobs, &mut Random::new(self.seed));
        Some(records.into_iter().map(|record| record.cost).collect())
    }

    /// Returns equally likely schedules.
    fn schedules(&self, knob: f64) -> Vec<Vec<f64>> {
        let truth = &self.subject.truth;
        match self.named {
            NamedPolicy::Shipped(policy) => {
                policy.stretched(knob, truth, SCHEDULES, &mut Random::new(self.seed))
            }
            NamedPolicy::Optimum => vec![optimum(truth, knob)],
            NamedPolicy::Learned => {
                self.curves.iter().flat_map(|curve| learning(truth, curve, knob)).collect()
            }
        }
    }

    fn line(&self, knob: f64) -> StudyLine {
        let truth = &self.subject.truth;
        let (cost, [delay_p50, delay_p99]) = if let Some(records) = self.replayed(knob) {
            (PolicyCost::mean(&records), [0.5, 0.99].map(|share| quantile(&records, share)))
        } else {
            let schedules = self.schedules(knob);
            let percentiles = [0.5, 0.99].map(|share| percentile(truth, &schedules, share));
            (cost_of(truth, &schedules), percentiles)
        };
        let (_, best) = optimum_at(truth, cost.polls);
        StudyLine {
            policy: self.named.to_string(),
            setting: self.setting(knob),
            polls: cost.polls,
            delay: cost.delay,
            delay_p50,
            delay_p99,
            cost: cost.cost(self.theta),
            times_optimum: cost.delay / best.delay,
        }
    }

    fn setting(&self, knob: f64) -> String {
        match self.named {
            NamedPolicy::Shipped(Shipped::Fixed(seconds)) => format!("every {:.3} s", seconds * knob),
            NamedPolicy::Shipped(_) => format!("waits × {knob:.3}"),
            NamedPolicy::Learned | NamedPolicy::Optimum => format!("θ {knob:.3} s"),
        }
    }
}

/// Returns the schedules of the learning policy with a curve, in their proportion: most jobs follow
/// it, a few explore.
fn learning(truth: &Truth, curve: &Curve, theta: f64) -> Vec<Vec<f64>> {
    let next = |age: f64| curve.next(age, theta).min(explore(age)).max(age + LEAST_INTERVAL);
    let plain = expected_wait(truth, curve, theta);
    let explorer = schedule(truth, next(0.0), next);
    let most = (1.0 / EXPLORERS).round() - 1.0;
    let plain = std::iter::successors(Some(1.0), |at| Some(at + 1.0))
        .take_while(|at| *at <= most)
        .map(|_| plain.clone());
    plain.chain([explorer]).collect()
}

/// Returns where a function with one valley is least, by golden section on a log scale.
fn cheapest(low: f64, high: f64, cost: impl Fn(f64) -> f64) -> f64 {
    let golden = (5.0_f64.sqrt() - 1.0) / 2.0;
    let (mut low, mut high) = (low.ln(), high.ln());
    while high - low > 1e-3 {
        let step = golden * (high - low);
        if cost((high - step).exp()) < cost((low + step).exp()) {
            high = low + step;
        } else {
            low = high - step;
        }
    }
    f64::midpoint(low, high).exp()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a share of a count"
)]
fn quantile(records: &[PolicyCost], share: f64) -> f64 {
    let mut delays: Vec<f64> = records.iter().map(|record| record.delay).collect();
    delays.sort_by(f64::total_cmp);
    let at = (share * delays.len() as f64) as usize;
    delays.get(at.min(delays.len().saturating_sub(1))).copied().unwrap_or_default()
}
