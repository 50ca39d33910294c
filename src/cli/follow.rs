//! Follows jobs to their end over the API: long polls a few at a time, in turn, until every job ended and
//! its deliveries are settled.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use anyhow::{Context as _, Result};
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use http::Method;
use tokio::time::{Instant, sleep_until};

use super::{
    client::{Client, ClientError},
    exit::ExitStatus,
    output::{clean, count},
    patience::Patience,
    progress::Progress,
    target::Path,
};
use crate::{
    api::view::WatchView,
    model::job::{JobId, Phase},
    util::units::rounded,
};

/// The longest that one request waits for a job to end.
const LONG_POLL: Duration = Duration::from_secs(30);

/// How long one round over all jobs takes when there are more of them than requests in flight.
const ROUND: Duration = Duration::from_secs(5);

/// The shortest wait: a great many jobs cost at most 200 requests a second.
const SHORTEST: Duration = Duration::from_millis(80);

/// Before the same job is asked for again, whatever the answer was; an answer that comes too early must
/// not become a busy loop.
const PACE: Duration = Duration::from_millis(250);

/// What the daemon may take beyond the wait that was asked for.
const GRACE: Duration = Duration::from_secs(15);

/// A job that is followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Followed {
    /// Its source.
    pub source: String,
    /// Its id.
    pub job_id: JobId,
}

/// The patience of [`follow`].
#[derive(Clone, Debug)]
pub struct Limits {
    /// Requests in flight.
    pub slots: usize,
    /// How long all of it may take, and how long the daemon may be away.
    pub patience: Patience,
    /// The longest pause between two looks at deliveries.
    pub settle: Duration,
    /// A job is done when its deliveries are settled, not when it has ended.
    pub delivered: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { slots: 16, patience: Patience::start(None), settle: Duration::from_secs(5), delivered: true }
    }
}

/// How the jobs ended.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Jobs that ended.
    pub ended: usize,
    /// Jobs that the daemon knows no more.
    pub gone: usize,
    worst: Option<ExitStatus>,
}

impl Tally {
    fn add(&mut self, watch: &WatchView) {
        self.ended += 1;
        self.worst = self.worst.max(Some(ExitStatus::of_watch(watch)));
    }

    /// The status of the command: 4 wins over 3, and a job that is gone over both, since not every job
    /// ended.
    #[must_use]
    pub fn status(&self) -> ExitStatus {
        if self.gone > 0 { ExitStatus::Failed } else { self.worst.unwrap_or(ExitStatus::Done) }
    }
}

/// When to look at which job; the tie goes to who waits longer.
type Due = Reverse<(Instant, u64, usize)>;

/// What one look came to.
struct Look {
    job: usize,
    started: Instant,
    result: Result<WatchView, ClientError>,
}

struct Follower<'a> {
    jobs: Vec<Followed>,
    limits: &'a Limits,
    queue: BinaryHeap<Due>,
    turn: u64,
    /// Looks at the deliveries of a job that ended; 0 while it has not.
    settling: Vec<u32>,
    /// Since when the daemon is away, and until when it is left alone.
    away: Option<(Instant, Instant)>,
    failures: u32,
    last_error: Option<ClientError>,
    tally: Tally,
}

/// Follows `jobs` until every one ended and its deliveries are settled.
///
/// # Errors
/// When the daemon stays away, refuses, or the time is up.
pub async fn follow(
    client: &Client,
    jobs: Vec<Followed>,
    limits: &Limits,
    progress: &mut Progress<'_, '_>,
) -> Result<Tally> {
    let all = jobs.len();
    let end = limits.patience.end();
    let mut follower = Follower::new(jobs, limits);
    let mut looks = FuturesUnordered::new();
    loop {
        while looks.len() < limits.slots {
            let Some(job) = follower.take_due(Instant::now()) else { break };
            progress.look(&follower.jobs[job]);
            looks.push(look(client.clone(), follower.request(job), job));
        }
        let next = follower.next_due().filter(|_| looks.len() < limits.slots);
        if looks.is_empty() && next.is_none() {
            return Ok(follower.tally);
        }
        tokio::select! {
            Some(done) = looks.next(), if !looks.is_empty() => follower.take(done, progress)?,
            () = wait_until(next), if next.is_some() => {}
            () = wait_until(end), if end.is_some() => {
                let open = all - follower.tally.ended - follower.tally.gone;
                return Err(follower.out_of_time(open, all));
            }
        }
    }
}

/// Until `instant`; for ever without one.
async fn wait_until(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

/// How long one request waits when `open` jobs share `slots`: each gets its turn within a round.
fn share(open: usize, slots: usize) -> Duration {
    if open <= slots {
        return LONG_POLL;
    }
    let slots = u32::try_from(slots).unwrap_or(u32::MAX);
    let open = u32::try_from(open).unwrap_or(u32::MAX);
    (ROUND * slots / open).max(SHORTEST)
}

/// `wait` with one unit.
fn written(wait: Duration) -> String {
    match (wait.as_secs(), wait.subsec_millis()) {
        (seconds, 0) => format!("{seconds}s"),
        _ => format!("{}ms", wait.as_millis()),
    }
}

async fn look(client: Client, (path, patience): (Path, Duration), job: usize) -> Look {
    let started = Instant::now();
    let result = async {
        let answer = client.send(Method::GET, &path, None, Some(patience)).await?;
        client.parse(&client.read_text(answer).await?)
    };
    let result = result.await;
    Look { job, started, result }
}

impl<'a> Follower<'a> {
    fn new(jobs: Vec<Followed>, limits: &'a Limits) -> Self {
        let now = Instant::now();
        let queue: BinaryHeap<Due> = (0..jobs.len()).map(|job| Reverse((now, job as u64, job))).collect();
        let (turn, settling) = (jobs.len() as u64, vec![0; jobs.len()]);
        let tally = Tally::default();
        Self { jobs, limits, queue, turn, settling, away: None, failures: 0, last_error: None, tally }
    }

    /// The error of jobs that are not settled when the time is up. It names the daemon when that was away.
    fn out_of_time(&mut self, open: usize, all: usize) -> anyhow::Error {
        let after = rounded(self.limits.patience.limit().unwrap_or_default());
        let open = format!("{} of {all} not settled after {after}", count(open as u64, "job", "jobs"));
        match self.last_error.take().filter(|_| self.away.is_some()) {
            Some(error) => anyhow::Error::from(error).context(open),
            None => anyhow::anyhow!("{open}; the daemon goes on with them"),
        }
    }

    fn next_due(&self) -> Option<Instant> {
        let Reverse((due, ..)) = self.queue.peek()?;
        Some(self.away.map_or(*due, |(_, until)| until.max(*due)))
    }

    fn take_due(&mut self, now: Instant) -> Option<usize> {
        self.next_due().filter(|due| *due <= now)?;
        self.queue.pop().map(|Reverse((_, _, job))| job)
    }

    fn put(&mut self, job: usize, due: Instant) {
        self.turn += 1;
        self.queue.push(Reverse((due, self.turn, job)));
    }

    /// The request for a look at `job`, and how long it may take.
    fn request(&self, job: usize) -> (Path, Duration) {
        let Followed { source, job_id } = &self.jobs[job];
        if self.settling[job] > 0 {
            return (Path::of(&["v1", "watches", source, job_id.as_str()]), GRACE);
        }
        let open = self.jobs.len() - self.tally.ended - self.tally.gone;
        let wait = share(open, self.limits.slots);
        let path = Path::of(&["v1", "watches", source, job_id.as_str(), "wait"]);
        (path.with("timeout", &written(wait)), wait + GRACE)
    }

    fn take(&mut self, look: Look, progress: &mut Progress<'_, '_>) -> Result<()> {
        let Look { job, started, result } = look;
        match result {
            Ok(watch) => {
                self.away = None;
                self.failures = 0;
                self.seen(job, started, &watch, progress)
            }
            Err(error) if error.is_not_found() => {
                self.tally.gone += 1;
                progress.gone(&self.jobs[job])
            }
            Err(error) if error.may_pass() => self.sit_out(job, error, progress),
            Err(error) => Err(error)
                .with_context(|| format!("{} cannot be followed", clean(self.jobs[job].job_id.as_str()))),
        }
    }

    fn seen(
        &mut self,
        job: usize,
        started: Instant,
        watch: &WatchView,
        progress: &mut Progress<'_, '_>,
    ) -> Result<()> {
        match watch.phase {
            Phase::Done | Phase::Dead => {
                self.tally.add(watch);
                return progress.ended(&self.jobs[job], watch);
            }
            Phase::Delivering if !self.limits.delivered => {
                self.tally.add(watch);
                return progress.ended(&self.jobs[job], watch);
            }
            Phase::Delivering => {
                let looks = &mut self.settling[job];
                let pause = (PACE * 2_u32.saturating_pow(*looks / 2)).min(self.limits.settle);
                *looks = (*looks + 1).min(20);
                self.put(job, Instant::now() + pause);
            }
            Phase::Watching | Phase::Fetching => {
                self.settling[job] = 0;
                self.put(job, Instant::now().max(started + PACE));
            }
        }
        progress.moved(&self.jobs[job], watch);
        Ok(())
    }

    /// The daemon is away: its jobs keep, so nothing is lost by asking again later.
    fn sit_out(&mut self, job: usize, error: ClientError, progress: &mut Progress<'_, '_>) -> Result<()> {
        let now = Instant::now();
        let since = self.away.map_or(now, |(since, _)| since);
        if now > self.limits.patience.bears_until(since) {
            return Err(error).context("the jobs cannot be followed any longer");
        }
        if self.away.is_none() {
            progress.away(&error)?;
        }
        self.last_error = Some(error);
        // Requests that fail together count as one failure.
        if self.away.is_none_or(|(_, until)| now >= until) {
            self.failures += 1;
            let pause = (PACE * 2_u32.saturating_pow(self.failures.min(5))).min(self.limits.settle);
            self.away = Some((since, now + pause));
        }
        self.put(job, now);
        Ok(())
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
        let mut tally = Tally { worst: Some(ExitStatus::NotCompleted), ..Tally::default() };
        assert_eq!(tally.status(), ExitStatus::NotCompleted);
        tally.gone = 1;
        assert_eq!(tally.status(), ExitStatus::Failed);
    }
}
