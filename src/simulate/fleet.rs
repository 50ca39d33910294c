//! Many jobs at a time under the learning policy, poll by poll: drift, mixed kinds, queues, hooks.

use std::{cmp::Reverse, collections::BinaryHeap};

use crate::schedule::learned::{
    decide::{Policy, Situation, decide, reconsider_at},
    forecast::{Forecast, Progress},
    kind::RunEnd,
    model::{Key, Model},
};

use super::{
    random::Random,
    truth::{PolicyCost, ROUND_TRIP},
};

/// One simulated job. All times are in seconds.
#[derive(Clone, Debug)]
pub struct SimulatedJob {
    /// When it was created.
    pub made: f64,
    /// Its kind.
    pub kind: usize,
    /// How long it is queued, if the source tells when it starts.
    pub queued: Option<f64>,
    /// How long it takes in all.
    pub takes: f64,
    /// How long after its end a hook announces it, if one comes.
    pub hook: Option<f64>,
}

/// The cost of one job.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// When it was created.
    pub made: f64,
    /// Its kind.
    pub kind: usize,
    /// Its polls and its delay.
    pub cost: PolicyCost,
}

/// The settings of the source and the policy.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The bounds of the operator.
    pub policy: Policy,
    /// Whether the source tells when a job ended.
    pub told: bool,
    /// Whether jobs explore and polls are reconsidered.
    pub alert: bool,
    /// The curves to use instead of learning, one a kind.
    pub known: Option<Vec<Forecast>>,
    /// Whether the source sends hooks, so that polls thin out as far as hooks are reliable.
    pub hooks: bool,
}

impl Default for Setting {
    fn default() -> Self {
        Self { policy: Policy::default(), told: true, alert: true, known: None, hooks: false }
    }
}

/// What comes for a job next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    /// Its next poll is decided, or decided again.
    Think,
    /// It is polled.
    Poll,
    /// A hook announces its end, so it is polled.
    Hook,
}

/// An open job.
struct OpenJob {
    job: SimulatedJob,
    situation: Situation,
    polls: f64,
    /// When the next poll is, unless something learned brings it forward.
    due: f64,
}

/// Runs jobs, in the order of their creation, through a model. Returns the cost of each.
pub fn run(model: &mut Model, setting: &Setting, jobs: &[SimulatedJob], random: &mut Random) -> Vec<Record> {
    let kinds = jobs.iter().map(|job| job.kind + 1).max().unwrap_or_default();
    let keys: Vec<Key> = (0..kinds).map(|kind| Key { endpoint: kind.to_string(), label: None }).collect();
    let mut open: Vec<Option<OpenJob>> = Vec::with_capacity(jobs.len());
    let mut due: BinaryHeap<Reverse<(u64, usize, Step)>> = BinaryHeap::new();
    let mut records = Vec::new();
    for (number, job) in jobs.iter().enumerate() {
        due.push(Reverse((ticks(job.made), number, Step::Think)));
        if let Some(after) = job.hook.filter(|_| setting.hooks) {
            due.push(Reverse((ticks(job.made + job.takes + after), number, Step::Hook)));
        }
        let luck = if setting.alert { random.unit() } else { 1.0 };
        let situation = Situation { luck, jitter: random.unit(), ..Situation::default() };
        open.push(Some(OpenJob { job: job.clone(), situation, polls: 0.0, due: f64::INFINITY }));
    }
    while let Some(Reverse((at, number, step))) = due.pop() {
        let Some(one) = open[number].as_mut() else { continue };
        let (now, key) = (seconds(at), &keys[one.job.kind]);
        if step != Step::Think
            && let Some(cost) = one.poll(model, key, setting, now, random)
        {
            if setting.hooks {
                model.record_hook(key, step == Step::Hook, now);
            }
            records.push(Record { made: one.job.made, kind: one.job.kind, cost });
            open[number] = None;
            continue;
        }
        one.situation.now = now - one.job.made;
        let found = match &setting.known {
            Some(known) => decide(&known[one.job.kind], &setting.policy, &one.situation),
            None if setting.hooks => {
                let policy = setting.policy.with_hooks(model.missed(key));
                decide(&model.forecast(key, setting.policy.theta, now), &policy, &one.situation)
            }
            None => model.next_poll(key, &setting.policy, &one.situation, now),
        };
        one.due = one.due.min(one.job.made + found.age);
        let next = one.due;
        let think = if setting.alert { reconsider_at(now, next) } else { next };
        due.push(Reverse((ticks(think), number, if think >= next { Step::Poll } else { Step::Think })));
    }
    records
}

impl OpenJob {
    /// Polls the job. Returns its cost if it has finished.
    fn poll(
        &mut self,
        model: &mut Model,
        key: &Key,
        setting: &Setting,
        now: f64,
        random: &mut Random,
    ) -> Option<PolicyCost> {
        let (age, before) = (now - self.job.made, self.situation.known);
        let started = self.job.queued.filter(|queued| *queued <= age);
        let seen = Progress { age, started };
        self.polls += 1.0;
        self.due = f64::INFINITY;
        self.situation =
            Situation { known: seen, polled: Some(age), jitter: random.unit(), ..self.situation };
        let learns = setting.known.is_none();
        if age < self.job.takes {
            if learns {
                model.record_running(key, before, seen, now);
            }
            return None;
        }
        if learns {
            let end = RunEnd::Finished(setting.told.then_some(self.job.takes));
            model.record_finished(key, [before, seen], end, random.unit(), now);
        }
        Some(PolicyCost { polls: self.polls, delay: age - self.job.takes + ROUND_TRIP / 2.0 })
    }
}

/// Returns the average over the jobs that a condition picks.
#[must_use]
pub fn mean_of(records: &[Record], pick: impl Fn(&Record) -> bool) -> PolicyCost {
    let picked: Vec<PolicyCost> =
        records.iter().filter(|record| pick(record)).map(|record| record.cost).collect();
    PolicyCost::mean(&picked)
}

/// Returns jobs created at random at a rate (per second) from one time to another.
pub fn arrivals(
    (from, to): (f64, f64),
    rate: f64,
    random: &mut Random,
    mut job: impl FnMut(f64, &mut Random) -> SimulatedJob,
) -> Vec<SimulatedJob> {
    let (mut jobs, mut at) = (Vec::new(), from);
    loop {
        at += random.exponential() / rate;
        if at >= to {
            return jobs;
        }
        jobs.push(job(at, random));
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "microseconds of a simulation")]
fn ticks(seconds: f64) -> u64 {
    (seconds * 1e6).ceil() as u64
}

#[expect(clippy::cast_precision_loss, reason = "microseconds of a simulation")]
fn seconds(ticks: u64) -> f64 {
    ticks as f64 / 1e6
}
