//! The life of one job, computed from its plan and an instant. Pure: no clock, no lock, no socket.

use std::{collections::BTreeMap, fmt, str::FromStr, time::Duration};

use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::util::units::{HumanDuration, Size, Time};

/// The `error.code` of every job that fails here.
pub const FAILURE_CODE: &str = "MODEL_TIMEOUT";

/// How a run of a job ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ending {
    /// With a response.
    Completed,
    /// With an error.
    Failed,
    /// As if somebody had cancelled it.
    Cancelled,
    /// Its data is gone by the time it ends.
    Expired,
    /// Never: it stays in progress.
    Stuck,
}

impl Ending {
    /// Every ending.
    pub const ALL: [Self; 5] = [Self::Completed, Self::Failed, Self::Cancelled, Self::Expired, Self::Stuck];

    /// The word for it; of all but `stuck` also the status the API shows.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Stuck => "stuck",
        }
    }
}

impl FromStr for Ending {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|ending| ending.as_str() == text).ok_or_else(|| {
            format!("`{text}` is not an outcome; use completed, failed, cancelled, expired or stuck")
        })
    }
}

/// Endings with weights, written `completed` or `completed=8,failed=1,stuck=1`.
#[derive(Clone, Debug, PartialEq)]
pub struct Endings(Vec<(Ending, f64)>);

impl Endings {
    /// The same ending for every job.
    #[must_use]
    pub fn always(ending: Ending) -> Self {
        Self(vec![(ending, 1.0)])
    }

    /// Completes, but for this share (0 to 1) which fails.
    #[must_use]
    pub fn failing(share: f64) -> Self {
        let share = share.clamp(0.0, 1.0);
        Self(vec![(Ending::Completed, 1.0 - share), (Ending::Failed, share)])
    }

    /// The ending at `point`, a place between 0 and 1 on the line of all weights.
    fn at(&self, point: f64) -> Ending {
        let total: f64 = self.0.iter().map(|(_, weight)| weight).sum();
        let mut left = point * total;
        for &(ending, weight) in &self.0 {
            left -= weight;
            if left < 0.0 {
                return ending;
            }
        }
        self.0.last().map_or(Ending::Completed, |&(ending, _)| ending)
    }
}

impl FromStr for Endings {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut list = Vec::new();
        for part in text.split(',') {
            let (word, weight) = part.split_once('=').unwrap_or((part, "1"));
            let weight: f64 = weight.trim().parse().map_err(|_| format!("`{weight}` is not a weight"))?;
            if !(weight.is_finite() && weight >= 0.0) {
                return Err(format!("a weight is zero or more, not {weight}"));
            }
            list.push((word.trim().parse()?, weight));
        }
        if list.iter().all(|&(_, weight)| weight == 0.0) {
            return Err("at least one weight must be above zero".to_owned());
        }
        Ok(Self(list))
    }
}

impl fmt::Display for Endings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (ending, weight)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{}={weight}", ending.as_str())?;
        }
        Ok(())
    }
}

/// What a test or the demo wants of a job. What is left `None` is asked of the metadata (`mock_…`
/// keys) and then of the mock's defaults.
#[derive(Clone, Debug, Default)]
pub struct JobPlan {
    /// Its id; generated when absent. An id that exists already is replaced.
    pub id: Option<String>,
    /// The endpoint it claims to run.
    pub endpoint: Option<String>,
    /// The request it echoes with `include_request`.
    pub request: Option<Box<RawValue>>,
    /// Its metadata, echoed as given.
    pub metadata: Option<BTreeMap<String, String>>,
    /// How long a run takes.
    pub duration: Option<Duration>,
    /// How the first run ends.
    pub ending: Option<Ending>,
    /// How runs after a retry end; they complete by default.
    pub retry_ending: Option<Ending>,
    /// The size of `response.body` when it completes.
    pub size: Option<Size>,
    /// A status word shown in place of `in_progress`.
    pub word: Option<String>,
    /// How long ago it was created.
    pub age: Duration,
}

impl JobPlan {
    /// A plan that leaves everything to the mock.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Names the job.
    #[must_use]
    pub fn id(self, id: impl Into<String>) -> Self {
        Self { id: Some(id.into()), ..self }
    }

    /// Ends after `duration`.
    #[must_use]
    pub fn lasting(self, duration: Duration) -> Self {
        Self { duration: Some(duration), ..self }
    }

    /// Ends like this.
    #[must_use]
    pub fn ending(self, ending: Ending) -> Self {
        Self { ending: Some(ending), ..self }
    }

    /// Answers with a `response.body` of this size.
    #[must_use]
    pub fn size(self, size: Size) -> Self {
        Self { size: Some(size), ..self }
    }

    /// Carries one more pair of metadata.
    #[must_use]
    pub fn with_metadata(mut self, key: &str, value: &str) -> Self {
        self.metadata.get_or_insert_default().insert(key.to_owned(), value.to_owned());
        self
    }

    /// Fills what is still open from the `mock_…` keys of the metadata.
    ///
    /// # Errors
    ///
    /// Names the key whose value cannot be read.
    pub fn heed_metadata(&mut self) -> Result<(), String> {
        let Some(metadata) = &self.metadata else { return Ok(()) };
        let duration = wish::<HumanDuration>(metadata, "mock_duration")?;
        let ending = wish(metadata, "mock_outcome")?;
        let retry_ending = wish(metadata, "mock_retry_outcome")?;
        let size = wish(metadata, "mock_size")?;
        let word = metadata.get("mock_status").cloned();
        self.duration = self.duration.or(duration.map(|span| span.0));
        self.ending = self.ending.or(ending);
        self.retry_ending = self.retry_ending.or(retry_ending);
        self.size = self.size.or(size);
        self.word = self.word.take().or(word);
        Ok(())
    }
}

fn wish<T>(metadata: &BTreeMap<String, String>, key: &str) -> Result<Option<T>, String>
where
    T: FromStr<Err = String>,
{
    let text = metadata.get(key);
    text.map(|text| text.parse().map_err(|error| format!("metadata.{key}: {error}"))).transpose()
}

/// What the mock does with a job whose plan says nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Defaults<'a> {
    pub duration: Duration,
    pub jitter: f64,
    pub endings: &'a Endings,
    pub retention: Duration,
    pub seed: u64,
}

/// One stay in the queue and what came of it.
#[derive(Clone, Copy, Debug)]
struct Run {
    start: Time,
    lasts: Duration,
    ending: Ending,
}

impl Run {
    /// Draws what the plan leaves open: a function of seed, id and number, whatever the order of requests.
    fn draw(plan: &JobPlan, id: &str, number: u32, start: Time, defaults: Defaults<'_>) -> Self {
        let mut rng = dice(defaults.seed, id, number);
        let (stretch, point) = (rng.random::<f64>(), rng.random::<f64>());
        let factor = 1.0 + defaults.jitter.clamp(0.0, 1.0) * (2.0 * stretch - 1.0);
        let lasts = plan.duration.unwrap_or_else(|| defaults.duration.mul_f64(factor));
        let ending = match (number, plan.ending, plan.retry_ending) {
            (0, Some(ending), _) | (1.., _, Some(ending)) => ending,
            (0, None, _) => defaults.endings.at(point),
            // A retry exists to make things well.
            (1.., _, None) => Ending::Completed,
        };
        Self { start, lasts, ending }
    }

    fn at(&self, percent: u32) -> Time {
        self.start.after(self.lasts * percent / 100)
    }
}

/// Randomness that belongs to one name.
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
    run: Run,
    number: u32,
    word: Option<String>,
    retention: Duration,
    cancelled: Option<Time>,
    taken: u32,
    last_attempt: Option<Time>,
    last_failure: Option<&'static str>,
}

/// What a job looks like at one instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Moment<'a> {
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
            run: Run::draw(plan, id, 0, created, defaults),
            number: 0,
            word: plan.word.clone(),
            retention: defaults.retention,
            cancelled: None,
            taken: 0,
            last_attempt: None,
            last_failure: None,
        }
    }

    /// When it was created.
    pub const fn created(&self) -> Time {
        self.created
    }

    /// What the answer to its creation or retry shows: even a run that takes no time starts at the beginning.
    pub fn fresh(&self) -> Moment<'_> {
        Moment {
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

    /// What it is at this instant.
    pub fn at(&self, now: Time) -> Moment<'_> {
        // A worker takes it after 15 % of its time; only the first run is validated, for the first 5 %.
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
            // What ended long ago is cleaned up.
            if now >= expires_at { Ending::Expired.as_str() } else { ending.as_str() }
        } else if self.number == 0 && now < validated {
            "validating"
        } else if now < begun {
            "queued"
        } else {
            self.word.as_deref().unwrap_or("in_progress")
        };
        Moment {
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

    /// Cancels it; `false` when it is over.
    pub fn cancel(&mut self, now: Time) -> bool {
        let open = !self.at(now).terminal;
        if open {
            self.cancelled = Some(now);
        }
        open
    }

    /// Puts it back into the queue; `false` unless it failed, expired or was cancelled.
    pub fn retry(&mut self, plan: &JobPlan, id: &str, now: Time, defaults: Defaults<'_>) -> bool {
        let moment = self.at(now);
        let (taken, last_attempt, last_failure) =
            (moment.attempt_count, moment.last_attempt_at, moment.last_failure_code);
        if !moment.terminal || moment.status == Ending::Completed.as_str() {
            return false;
        }
        self.number += 1;
        self.run = Run::draw(plan, id, self.number, now, defaults);
        (self.taken, self.last_attempt, self.last_failure) = (taken, last_attempt, last_failure);
        self.cancelled = None;
        true
    }
}

#[cfg(test)]
#[path = "job_tests.rs"]
mod tests;
