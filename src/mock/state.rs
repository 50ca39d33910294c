//! The state of the mock: its clock, its jobs, its faults and its counters.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::value::RawValue;

use super::{
    MockConfig,
    counters::Counters,
    faults::{Faults, Lot},
    hooks::HookSender,
    job::{Defaults, JobPlan, Life, dice},
    primitive::{Primitive, Run},
    refusal::Refusal,
    render::Timestamps,
};
use crate::util::{
    clock,
    units::{Size, Time},
};

/// The characters that may follow the beginning of an id, such as `job_`.
const NANOID: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";

/// Locks a mutex, even after a panic of another holder: the mock has no invariant that one could
/// break.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A job of the mock, or a run of a primitive.
#[derive(Clone, Debug)]
pub(super) struct MockJob {
    pub id: Arc<str>,
    pub endpoint: String,
    pub request: Option<Box<RawValue>>,
    pub metadata: Option<BTreeMap<String, String>>,
    pub size: Option<Size>,
    pub life: Life,
    /// The run. `None`: it is a job of the Jobs API.
    pub run: Option<Run>,
    /// The number of reads, for the lag of fresh jobs.
    pub reads: u32,
    plan: JobPlan,
}

impl MockJob {
    pub fn retry(&mut self, now: Time, defaults: Defaults<'_>) -> bool {
        self.life.retry(&self.plan, &self.id, now, defaults)
    }

    /// Returns whether it is a run of this primitive, or with `None` a job of the Jobs API.
    pub fn is_of(&self, primitive: Option<&Primitive>) -> bool {
        self.run.as_ref().map(|run| run.primitive.path) == primitive.map(|primitive| primitive.path)
    }
}

/// All jobs, in the order of their creation.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    by_id: HashMap<Arc<str>, u64>,
    by_number: BTreeMap<u64, MockJob>,
    made: u64,
}

impl Jobs {
    pub fn get_mut(&mut self, id: &str) -> Option<&mut MockJob> {
        self.by_number.get_mut(self.by_id.get(id)?)
    }

    /// Returns the job or run that a route of a primitive, or with `None` of the Jobs API, finds.
    pub fn find(&mut self, primitive: Option<&Primitive>, id: &str) -> Result<&mut MockJob, Refusal> {
        self.get_mut(id).filter(|job| job.is_of(primitive)).ok_or_else(Refusal::unknown_job)
    }

    /// Returns all jobs, oldest first.
    pub fn all(&self) -> impl Iterator<Item = (u64, &MockJob)> {
        self.by_number.iter().map(|(&number, job)| (number, job))
    }

    fn insert(&mut self, job: MockJob, most: usize) {
        if let Some(old) = self.by_id.insert(Arc::clone(&job.id), self.made) {
            self.by_number.remove(&old);
        }
        self.by_number.insert(self.made, job);
        self.made += 1;
        while self.by_number.len() > most.max(1) {
            let Some((_, oldest)) = self.by_number.pop_first() else { break };
            self.by_id.remove(&oldest.id);
        }
    }
}

/// The state that the routes share.
#[derive(Debug)]
pub(super) struct Shared {
    pub config: MockConfig,
    pub faults: Mutex<Faults>,
    pub jobs: Mutex<Jobs>,
    pub counters: Counters,
    pub hooks: Mutex<Option<HookSender>>,
    form: Mutex<Timestamps>,
    dice: Mutex<StdRng>,
    serial: AtomicU64,
    started: Instant,
    origin: Time,
    skew_ms: AtomicI64,
}

impl Shared {
    pub fn new(config: MockConfig) -> Self {
        let started = Instant::now();
        Self {
            faults: Mutex::new(config.faults.clone()),
            jobs: Mutex::default(),
            counters: Counters::new(started),
            hooks: Mutex::default(),
            form: Mutex::new(config.timestamps),
            dice: Mutex::new(StdRng::seed_from_u64(config.seed)),
            serial: AtomicU64::new(0),
            started,
            origin: clock::now(),
            skew_ms: AtomicI64::new(0),
            config,
        }
    }

    /// Returns the mock's own time: the wall clock at its start, monotonic from there on, plus the
    /// skipped time.
    pub fn now(&self) -> Time {
        let skew = self.skew_ms.load(Ordering::Relaxed);
        Time(self.origin.after(self.started.elapsed()).0.saturating_add(skew))
    }

    pub fn advance(&self, span: Duration) {
        self.skew_ms.fetch_add(i64::try_from(span.as_millis()).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    pub fn timestamps(&self) -> Timestamps {
        *lock(&self.form)
    }

    pub fn set_timestamps(&self, form: Timestamps) {
        *lock(&self.form) = form;
    }

    pub fn defaults(&self) -> Defaults<'_> {
        Defaults {
            duration: self.config.duration,
            jitter: self.config.jitter,
            endings: &self.config.endings,
            retention: self.config.retention,
            seed: self.config.seed,
        }
    }

    /// Creates a job, or a run, by a plan whose metadata was read already.
    pub fn make(&self, plan: JobPlan, run: Option<Run>) -> MockJob {
        let mut jobs = lock(&self.jobs);
        let id: Arc<str> = if let Some(id) = &plan.id {
            Arc::from(id.as_str())
        } else {
            let prefix = run.as_ref().map_or("job_", |run| run.primitive.prefix);
            nanoid(prefix, self.config.seed, jobs.made).into()
        };
        let now = self.now();
        let age = i64::try_from(plan.age.as_millis()).unwrap_or(i64::MAX);
        let created = Time(now.0.saturating_sub(age));
        let endpoint = plan.endpoint.clone().unwrap_or_else(|| match self.timestamps() {
            Timestamps::Epoch => "/v1/documents/extract".to_owned(),
            Timestamps::Iso => "/v1/extractions".to_owned(),
        });
        let mut defaults = self.defaults();
        if run.is_some() {
            // Nothing is known of runs that expire.
            defaults.retention = Duration::MAX;
        }
        let job = MockJob {
            endpoint,
            request: plan.request.clone(),
            metadata: plan.metadata.clone(),
            size: plan.size.or(self.config.size),
            life: Life::new(&plan, &id, created, defaults),
            run,
            reads: 0,
            id,
            plan,
        };
        jobs.insert(job.clone(), self.config.max_jobs);
        self.announce(&job, now);
        job
    }

    /// Plans the hook for the end of the present run of a job.
    pub fn announce(&self, job: &MockJob, now: Time) {
        if let (Some(hooks), Some((number, end))) = (&*lock(&self.hooks), job.life.planned_end()) {
            hooks.plan(end.since(now), &job.id, number);
        }
    }

    /// Draws the random numbers of the next request. There are always two, so that switching one
    /// fault on does not move another one.
    pub fn lot(&self) -> Lot {
        let mut dice = lock(&self.dice);
        Lot {
            error: dice.random(),
            drop: dice.random(),
            serial: self.serial.fetch_add(1, Ordering::Relaxed) + 1,
        }
    }
}

fn nanoid(prefix: &str, seed: u64, number: u64) -> String {
    let mut dice = dice(seed, &format!("id {number}"), 0);
    let letters = std::iter::repeat_with(|| NANOID.choose(&mut dice).copied().unwrap_or(b'0'));
    let mut id = prefix.to_owned();
    id.extend(letters.take(21).map(char::from));
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_resemble_the_real_ones_and_repeat_with_the_seed() {
        let nanoid = |seed, number| nanoid("job_", seed, number);
        let id = nanoid(7, 0);
        let tail = id.strip_prefix("job_").unwrap();
        assert_eq!(tail.len(), 21);
        assert!(tail.bytes().all(|b| NANOID.contains(&b)));
        assert_eq!(id, nanoid(7, 0));
        assert_ne!(id, nanoid(7, 1));
        assert_ne!(id, nanoid(8, 0));
    }

    #[test]
    fn the_oldest_jobs_make_room() {
        let shared = Shared::new(MockConfig { max_jobs: 2, ..MockConfig::default() });
        for id in ["a", "b", "c", "c"] {
            shared.make(JobPlan::new().id(id), None);
        }
        let mut jobs = lock(&shared.jobs);
        assert!(jobs.get_mut("a").is_none());
        let kept: Vec<_> = jobs.all().map(|(_, job)| job.id.to_string()).collect();
        assert_eq!(kept, ["b", "c"]);
    }
}
