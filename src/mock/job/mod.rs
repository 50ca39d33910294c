//! The life of one job, computed from its plan and an instant. Pure: no clock, no lock, no socket.

mod ending;
mod plan;

use std::time::Duration;

use rand::{Rng, SeedableRng, rngs::StdRng};
use sha2::{Digest, Sha256};

pub use self::{
    ending::{Ending, Endings},
    plan::JobPlan,
};
use crate::util::units::Time;

/// The `error.code` of every job that fails here.
pub const FAILURE_CODE: &str = "MODEL_TIMEOUT";

/// The defaults of the mock for what a plan leaves open.
#[derive(Clone, Copy, Debug)]
pub(super) struct Defaults<'a> {
    pub duration: Duration,
    pub jitter: f64,
    pub endings: &'a Endings,
    pub retention: Duration,
    pub seed: u64,
}

/// One run of a job.
#[derive(Clone, Copy, Debug)]
struct MockRun {
    start: Time,
    lasts: Duration,
    ending: Ending,
}

impl MockRun {
    /// Draws what the plan leaves open: a function of seed, id and number, whatever the order of
    /// requests.
    fn draw(plan: &JobPlan, id: &str, number: u32, start: Time, defaults: Defaults<'_>) -> Self {
        let mut rng = dice(defaults.seed, id, number);
        let (stretch, point) = (rng.random::<f64>(), rng.random::<f64>());
        let factor = 1.0 + defaults.jitter.clamp(0.0, 1.0) * (2.0 * stretch - 1.0);
        let lasts = plan.duration.unwrap_or_else(|| defaults.duration.mul_f64(factor));
        let ending = match (number, plan.ending, plan.retry_ending) {
            (0, Some(ending), _) | (1.., _, Some(ending)) => ending,
            (0, None, _) => defaults.endings.at(point),
            // A retry completes unless the plan says otherwise.
            (1.., _, None) => Ending::Completed,
        };
        Self { start, lasts, ending }
    }

    fn at(&self, percent: u32) -> Time {
        self.start.after(self.lasts * percent / 100)
    }
}

/// Returns the random generator of one name.
pub(super) fn dice(seed: u64, name: &str, number: u32) -> StdRng {
    let mut hash = Sha256::new();
    hash.update(seed.to_be_bytes());
    hash.update(number.to_be_bytes());
    hash.update(name.as_bytes());
    StdRng::from_seed(hash.finalize().into())
}

/// The life of a job over all its runs.
#[derive(Clone, Debug)]
pub(super) struct Life {
    created: Time,
    run: MockRun,
    number: u32,
    word: Option<String>,
    retention: Duration,
    cancelled: Option<Time>,
    taken: u32,
    last_attempt: Option<Time>,
    last_failure: Option<&'static str>,
}

/// A job at one instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct JobSnapshot<'a> {
    pub status: &'a str,
    pub terminal: bool,
    pub created_at: Time,
    pub started_at: Option<Time>,
    pub completed_at: Option<Time>,
    pub expires_at: Time,
    pub attempt_count: u32,
    pub last_attempt_at: Option<Time>,
    pub last_failure_code: Option<&'static str>,
}

impl Life {
    pub fn new(plan: &JobPlan, id: &str, created: Time, defaults: Defaults<'_>) -> Self {
        Self {
            created,
            run: MockRun::draw(plan, id, 0, created, defaults),
            number: 0,
            word: plan.word.clone(),
            retention: defaults.retention,
            cancelled: None,
            taken: 0,
            last_attempt: None,
            last_failure: None,
        }
    }

    /// Returns when it was created.
    pub const fn created(&self) -> Time {
        self.created
    }

    /// Returns the number of its present run and when that ends by itself, if ever.
    pub fn planned_end(&self) -> Option<(u32, Time)> {
        (self.run.ending != Ending::Stuck).then(|| (self.number, self.run.at(100)))
    }

    /// Returns the job as the answer to its creation or retry shows it: even a run that takes no
    /// time starts at the beginning.
    pub fn fresh(&self) -> JobSnapshot<'_> {
        JobSnapshot {
            status: if self.number == 0 { "validating" } else { "queued" },
            terminal: false,
            created_at: self.created,
            started_at: None,
            completed_at: None,
            expires_at: self.run.start.after(self.retention),
            attempt_count: self.taken,
            last_attempt_at: self.last_attempt,
            last_failure_code: self.last_failure,
        }
    }

    /// Returns the job at an instant.
    pub fn at(&self, now: Time) -> JobSnapshot<'_> {
        // A worker takes it after 15 % of its time. Only the first run is validated, for the first
        // 5 %.
        let (validated, begun, end) = (self.run.at(5), self.run.at(15), self.run.at(100));
        let ran_out = self.run.ending != Ending::Stuck && now >= end;
        let over = self.cancelled.or_else(|| ran_out.then_some(end));
        let started_at = (begun <= over.unwrap_or(now)).then_some(begun);
        let mut expires_at = self.run.start.after(self.retention);
        let failed = ran_out && self.cancelled.is_none() && self.run.ending == Ending::Failed;
        let status = if over.is_some() {
            let ending = if self.cancelled.is_some() { Ending::Cancelled } else { self.run.ending };
            if ending == Ending::Expired {
                expires_at = end;
            }
            // A job that ended long ago is cleaned up.
            if now >= expires_at { Ending::Expired.as_str() } else { ending.as_str() }
        } else if self.number == 0 && now < validated {
            "validating"
        } else if now < begun {
            "queued"
        } else {
            self.word.as_deref().unwrap_or("in_progress")
        };
        JobSnapshot {
            status,
            terminal: over.is_some(),
            created_at: self.created,
            started_at,
            completed_at: over,
            expires_at,
            attempt_count: self.taken + u32::from(started_at.is_some()),
            last_attempt_at: started_at.or(self.last_attempt),
            last_failure_code: if failed { Some(FAILURE_CODE) } else { self.last_failure },
        }
    }

    /// Cancels the job. Returns `false` if it has ended.
    pub fn cancel(&mut self, now: Time) -> bool {
        let open = !self.at(now).terminal;
        if open {
            self.cancelled = Some(now);
        }
        open
    }

    /// Queues the job again. Returns `false` unless it failed, expired or was cancelled.
    pub fn retry(&mut self, plan: &JobPlan, id: &str, now: Time, defaults: Defaults<'_>) -> bool {
        let moment = self.at(now);
        let (taken, last_attempt, last_failure) =
            (moment.attempt_count, moment.last_attempt_at, moment.last_failure_code);
        if !moment.terminal || moment.status == Ending::Completed.as_str() {
            return false;
        }
        self.number += 1;
        self.run = MockRun::draw(plan, id, self.number, now, defaults);
        (self.taken, self.last_attempt, self.last_failure) = (taken, last_attempt, last_failure);
        self.cancelled = None;
        true
    }
}

#[cfg(test)]
mod tests;
