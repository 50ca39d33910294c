//! What the jobs of a source have said about it: who answered, who is suspect, who fails alone.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use super::sign::{HealthState, RequestTimes};

/// Jobs in a row that must fail in the same way before the source is doubted.
const DOUBTERS: usize = 3;

/// Further jobs that the schedule then requests one after another. All of them must fail in the
/// same way before the source is to blame: jobs that fail come in crowds, and one witness may
/// belong to the crowd.
const WITNESSES: usize = 3;

/// Jobs that the source must limit again, while it answers about others, before limits count as
/// those of single jobs.
const OWN_LIMITS: usize = 2;

/// How long a source must answer no job before it is shown as failing, if all of its jobs fail for
/// their own reasons.
const SILENCE: Duration = Duration::from_secs(10);

/// Good answers that are remembered.
const ANSWERS: usize = 64;

/// What the last requests of a source said about it.
#[derive(Debug)]
pub(super) struct Evidence {
    /// Jobs whose last requests brought a sign of this state, without a good answer since.
    suspects: (HealthState, Vec<u64>),
    /// The job in flight that decides whether the doubt is right.
    witness: Option<u64>,
    /// Jobs that failed for their own reasons since the last good answer, and since when.
    own_failures: (Vec<u64>, Option<Instant>),
    /// The first jobs that the source limited again while it answered about others. Empty once a
    /// limited job was answered.
    own_limits: Vec<u64>,
    /// The last answer of any kind.
    heard: Option<Instant>,
    /// The last good answers, newest last.
    well: VecDeque<(Instant, u64)>,
}

impl Default for Evidence {
    fn default() -> Self {
        Self {
            suspects: (HealthState::Ok, Vec::new()),
            witness: None,
            own_failures: (Vec::new(), None),
            own_limits: Vec::new(),
            heard: None,
            well: VecDeque::new(),
        }
    }
}

impl Evidence {
    /// Records an answer of any kind.
    pub(super) fn heard(&mut self, request: RequestTimes) {
        self.heard = Some(request.now);
        self.suspects.1.clear();
    }

    /// Records a good answer.
    pub(super) fn well(&mut self, request: RequestTimes) {
        self.own_failures = (Vec::new(), None);
        if self.well.len() == ANSWERS {
            self.well.pop_front();
        }
        self.well.push_back((request.now, request.number));
    }

    /// Records that a job failed for its own reasons.
    pub(super) fn own_failure(&mut self, request: RequestTimes) {
        let (jobs, since) = &mut self.own_failures;
        note(jobs, request.number);
        since.get_or_insert(request.now);
    }

    /// Records that the source limited a job again, while it answered about others.
    pub(super) fn own_limit(&mut self, number: u64) {
        note(&mut self.own_limits, number);
    }

    /// Forgets the limits of single jobs: the limit was the source's.
    pub(super) fn forget_own_limits(&mut self) {
        self.own_limits.clear();
    }

    /// Records a sign of `state` from a source with `open` jobs. Returns whether enough jobs
    /// brought it, with no answer since this request was sent: the source is in this state already,
    /// all open jobs say so, or a witness was called for it.
    pub(super) fn suspect(
        &mut self,
        request: RequestTimes,
        state: HealthState,
        is_known: bool,
        open: usize,
    ) -> bool {
        if self.was_heard_since(request.sent) {
            return false;
        }
        if self.suspects.0 != state {
            self.suspects = (state, Vec::new());
        }
        let suspects = &mut self.suspects.1;
        if self.witness == Some(request.number) && suspects.len() >= DOUBTERS {
            suspects.push(request.number);
        } else {
            note(suspects, request.number);
        }
        is_known || suspects.len() >= DOUBTERS + WITNESSES || suspects.len() >= open
    }

    /// Returns the jobs that cast doubt on the source, while the schedule should call a witness.
    pub(super) fn doubters(&self) -> Option<&[u64]> {
        let doubters = &self.suspects.1;
        (doubters.len() >= DOUBTERS && self.witness.is_none()).then_some(doubters)
    }

    pub(super) fn call_witness(&mut self, number: u64) {
        self.witness = Some(number);
    }

    pub(super) fn dismiss(&mut self, number: u64) {
        self.witness = self.witness.filter(|witness| *witness != number);
    }

    pub(super) fn limits_are_own(&self) -> bool {
        self.own_limits.len() >= OWN_LIMITS
    }

    /// Returns whether every job that was requested of `open` ones fails for its own reasons.
    pub(super) fn all_fail(&self, open: usize, now: Instant) -> bool {
        let (jobs, since) = &self.own_failures;
        let is_silent = since.is_some_and(|since| now.saturating_duration_since(since) >= SILENCE);
        is_silent && jobs.len() >= DOUBTERS.min(open.max(1))
    }

    pub(super) fn was_heard_since(&self, since: Instant) -> bool {
        self.heard.is_some_and(|heard| heard >= since)
    }

    pub(super) fn was_well_since(&self, since: Instant) -> bool {
        self.well.back().is_some_and(|(at, _)| *at >= since)
    }

    pub(super) fn jobs_well_since(&self, since: Instant) -> usize {
        let recent = self.well.iter().filter(|(at, _)| *at >= since);
        recent.map(|(_, number)| *number).collect::<BTreeSet<u64>>().len()
    }
}

/// Adds a job to the first few different ones.
fn note(jobs: &mut Vec<u64>, number: u64) {
    if jobs.len() < DOUBTERS && !jobs.contains(&number) {
        jobs.push(number);
    }
}
