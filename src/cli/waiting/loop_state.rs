//! The state of the loop that waits for jobs: which job to ask for next, and what an answer means for it.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use anyhow::{Context as _, Result};
use tokio::time::Instant;

use super::{AwaitedJob, Progress, RetryLimit};
use crate::{
    api::view::WatchView,
    cli::{
        client::{ClientError, Path},
        exit::ExitStatus,
        phrases::{clean, count},
    },
    model::job::Phase,
    util::units::rounded,
};

/// The longest wait of one request.
const LONG_POLL: Duration = Duration::from_secs(30);

/// The time of one round over all jobs when there are more of them than requests in flight.
const ROUND: Duration = Duration::from_secs(5);

/// The shortest wait of one request: any number of jobs costs at most 200 requests a second.
const SHORTEST: Duration = Duration::from_millis(80);

/// The least time between two requests about one job. An answer that comes too early must not make a busy loop.
const PACE: Duration = Duration::from_millis(250);

/// The time that the daemon may take beyond the wait of a request.
const GRACE: Duration = Duration::from_secs(15);

/// The limits of a wait.
#[derive(Clone, Debug)]
pub(crate) struct WaitLimits {
    /// Requests in flight, at most.
    pub in_flight: usize,
    /// The time for all of it, and the longest outage of the daemon.
    pub retry: RetryLimit,
    /// The longest pause between two requests about the deliveries of a job.
    pub settle_pause: Duration,
    /// Whether to wait for the deliveries of a job too.
    pub delivered: bool,
}

impl Default for WaitLimits {
    fn default() -> Self {
        let settle_pause = Duration::from_secs(5);
        Self { in_flight: 16, retry: RetryLimit::start(None), settle_pause, delivered: true }
    }
}

/// The results of a wait.
#[derive(Clone, Debug, Default)]
pub(crate) struct WaitResults {
    /// Jobs that have finished.
    pub finished: usize,
    /// Jobs that the daemon no longer watches.
    pub gone: usize,
    worst: Option<ExitStatus>,
}

impl WaitResults {
    pub(super) fn add(&mut self, watch: &WatchView) {
        self.finished += 1;
        self.worst = self.worst.max(Some(ExitStatus::of_watch(watch)));
    }

    /// Returns the status of the command: 4 outweighs 3, and a job that is gone outweighs both.
    #[must_use]
    pub(crate) fn status(&self) -> ExitStatus {
        if self.gone > 0 { ExitStatus::Failed } else { self.worst.unwrap_or(ExitStatus::Done) }
    }
}

/// The answer to one request about a job.
pub(super) struct WatchAnswer {
    pub job: usize,
    pub asked_at: Instant,
    pub result: Result<WatchView, ClientError>,
}

/// The time of a job's next request. Of two at one time the one that was queued first comes first.
type Due = Reverse<(Instant, u64, usize)>;

/// A daemon that does not answer.
struct Outage {
    since: Instant,
    /// The end of the pause before the next request.
    pause_until: Instant,
}

pub(super) struct LoopState<'a> {
    jobs: Vec<AwaitedJob>,
    limits: &'a WaitLimits,
    queue: BinaryHeap<Due>,
    queued: u64,
    /// For each job the requests about its deliveries so far, 0 while it is open.
    settling: Vec<u32>,
    outage: Option<Outage>,
    failures: u32,
    last_error: Option<ClientError>,
    results: WaitResults,
}

impl<'a> LoopState<'a> {
    pub(super) fn new(jobs: Vec<AwaitedJob>, limits: &'a WaitLimits) -> Self {
        let now = Instant::now();
        let queue: BinaryHeap<Due> = (0..jobs.len()).map(|job| Reverse((now, job as u64, job))).collect();
        let (queued, settling) = (jobs.len() as u64, vec![0; jobs.len()]);
        let results = WaitResults::default();
        Self { jobs, limits, queue, queued, settling, outage: None, failures: 0, last_error: None, results }
    }

    pub(super) fn job(&self, job: usize) -> &AwaitedJob {
        &self.jobs[job]
    }

    pub(super) fn into_results(self) -> WaitResults {
        self.results
    }

    fn open(&self) -> usize {
        self.jobs.len() - self.results.finished - self.results.gone
    }

    /// Returns the error of jobs that are open when the time is up. It names the daemon if that did not answer.
    pub(super) fn out_of_time(&mut self) -> anyhow::Error {
        let after = rounded(self.limits.retry.timeout().unwrap_or_default());
        let open = count(self.open() as u64, "job", "jobs");
        let open = format!("{open} of {} not settled after {after}", self.jobs.len());
        match self.last_error.take().filter(|_| self.outage.is_some()) {
            Some(error) => anyhow::Error::from(error).context(open),
            None => anyhow::anyhow!("{open}; the daemon continues its work on them"),
        }
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        let Reverse((due, ..)) = self.queue.peek()?;
        Some(self.outage.as_ref().map_or(*due, |outage| outage.pause_until.max(*due)))
    }

    pub(super) fn take_due(&mut self, now: Instant) -> Option<usize> {
        self.next_due().filter(|due| *due <= now)?;
        self.queue.pop().map(|Reverse((_, _, job))| job)
    }

    fn put(&mut self, job: usize, due: Instant) {
        self.queued += 1;
        self.queue.push(Reverse((due, self.queued, job)));
    }

    /// Returns the next request about `job`, and the longest wait for its answer.
    pub(super) fn request(&self, job: usize) -> (Path, Duration) {
        let AwaitedJob { source, job_id, kind } = &self.jobs[job];
        let path = |parts: &[&str]| Path::of(parts).maybe("kind", kind.as_deref());
        if self.settling[job] > 0 {
            return (path(&["v1", "watches", source, job_id.as_str()]), GRACE);
        }
        let wait = share(self.open(), self.limits.in_flight);
        let path = path(&["v1", "watches", source, job_id.as_str(), "wait"]);
        (path.with("timeout", &written(wait)), wait + GRACE)
    }

    pub(super) fn take(&mut self, answer: WatchAnswer, progress: &mut Progress<'_, '_>) -> Result<()> {
        let WatchAnswer { job, asked_at, result } = answer;
        match result {
            Ok(watch) => {
                self.outage = None;
                self.failures = 0;
                self.update(job, asked_at, &watch, progress)
            }
            Err(error) if error.is_not_found() => {
                self.results.gone += 1;
                progress.gone(&self.jobs[job])
            }
            Err(error) if error.is_transient() => self.wait_through_outage(job, error, progress),
            Err(error) => Err(error)
                .with_context(|| format!("cannot wait for {}", clean(self.jobs[job].job_id.as_str()))),
        }
    }

    fn update(
        &mut self,
        job: usize,
        asked_at: Instant,
        watch: &WatchView,
        progress: &mut Progress<'_, '_>,
    ) -> Result<()> {
        match watch.phase {
            Phase::Done | Phase::Dead => {
                self.results.add(watch);
                return progress.finished(&self.jobs[job], watch);
            }
            Phase::Delivering if !self.limits.delivered => {
                self.results.add(watch);
                return progress.finished(&self.jobs[job], watch);
            }
            Phase::Delivering => {
                let requests = &mut self.settling[job];
                let pause = (PACE * 2_u32.saturating_pow(*requests / 2)).min(self.limits.settle_pause);
                *requests = (*requests + 1).min(20);
                self.put(job, Instant::now() + pause);
            }
            Phase::Watching | Phase::Fetching => {
                self.settling[job] = 0;
                self.put(job, Instant::now().max(asked_at + PACE));
            }
        }
        progress.moved(&self.jobs[job], watch);
        Ok(())
    }

    /// Puts `job` back into the queue during an outage. The daemon keeps its jobs, so a later request loses nothing.
    fn wait_through_outage(
        &mut self,
        job: usize,
        error: ClientError,
        progress: &mut Progress<'_, '_>,
    ) -> Result<()> {
        let now = Instant::now();
        let since = self.outage.as_ref().map_or(now, |outage| outage.since);
        if now > self.limits.retry.outage_end(since) {
            return Err(error).context("gave up waiting for the jobs");
        }
        if self.outage.is_none() {
            progress.outage(&error)?;
        }
        self.last_error = Some(error);
        // Requests that fail together count as one failure.
        if self.outage.as_ref().is_none_or(|outage| now >= outage.pause_until) {
            self.failures += 1;
            let pause = (PACE * 2_u32.saturating_pow(self.failures.min(5))).min(self.limits.settle_pause);
            self.outage = Some(Outage { since, pause_until: now + pause });
        }
        self.put(job, now);
        Ok(())
    }
}

/// Returns the wait of one request when `open` jobs share `in_flight` requests: each gets its turn within a round.
fn share(open: usize, in_flight: usize) -> Duration {
    if open <= in_flight {
        return LONG_POLL;
    }
    let in_flight = u32::try_from(in_flight).unwrap_or(u32::MAX);
    let open = u32::try_from(open).unwrap_or(u32::MAX);
    (ROUND * in_flight / open).max(SHORTEST)
}

/// Returns `wait` with one unit, as the API takes it.
fn written(wait: Duration) -> String {
    match (wait.as_secs(), wait.subsec_millis()) {
        (seconds, 0) => format!("{seconds}s"),
        _ => format!("{}ms", wait.as_millis()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_jobs_share_the_requests_fairly() {
        assert_eq!(share(16, 16), LONG_POLL);
        assert_eq!(share(32, 16), Duration::from_millis(2500));
        assert_eq!(share(1_000_000, 16), SHORTEST);
    }

    #[test]
    fn a_job_that_is_gone_outweighs_the_others() {
        let mut results = WaitResults { worst: Some(ExitStatus::NotCompleted), ..WaitResults::default() };
        assert_eq!(results.status(), ExitStatus::NotCompleted);
        results.gone = 1;
        assert_eq!(results.status(), ExitStatus::Failed);
    }
}
