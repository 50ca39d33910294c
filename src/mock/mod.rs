//! A mock upstream that speaks Retab's API for `tidings mock`, `tidings demo` and tests: the Jobs API, and the primitives that run
//! in the background.
//!
//! Jobs move along by themselves: the state of a job is a function of its creation, its plan and the
//! instant of the request. Everything random is drawn from a seed. This room stands aside: only the
//! command line imports it.
//!
//! ```text
//! server ─▶ routes (gate: counters, faults) ─▶ state ─▶ job, primitive ─▶ render ─▶ payload
//! ```

pub(crate) mod cli;

mod counters;
mod faults;
mod hooks;
mod job;
mod list;
mod payload;
mod primitive;
mod refusal;
mod render;
mod routes;
mod server;
mod state;

#[cfg(test)]
mod tests;

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;

pub use self::{
    counters::{Kind, LoggedRequest},
    faults::{Cut, Down, Faults, Lag, RateLimit, Raw},
    hooks::MockHooks,
    job::{Ending, Endings, FAILURE_CODE, JobPlan},
    render::Timestamps,
};
use self::{
    render::{Show, Warn},
    server::Server,
    state::{Shared, lock},
};
use crate::util::units::Size;

/// The configuration of a mock.
#[derive(Clone, Debug)]
pub struct MockConfig {
    /// The version of the API that it speaks.
    pub timestamps: Timestamps,
    /// How long a job takes by default.
    pub duration: Duration,
    /// The share (0 to 1) by which that varies either way.
    pub jitter: f64,
    /// How a job ends by default.
    pub endings: Endings,
    /// The size of `response.body`, or of `output`. `None`: a small one.
    pub size: Option<Size>,
    /// How long after its start a finished job turns `expired`.
    pub retention: Duration,
    /// The seed of everything random.
    pub seed: u64,
    /// The number of jobs beyond which the oldest are dropped.
    pub max_jobs: usize,
    /// The faults from the start.
    pub faults: Faults,
}

impl Default for MockConfig {
    fn default() -> Self {
        Self {
            timestamps: Timestamps::Iso,
            duration: Duration::from_secs(2),
            jitter: 0.2,
            endings: Endings::always(Ending::Completed),
            size: None,
            retention: Duration::from_hours(7 * 24),
            seed: 0,
            max_jobs: 200_000,
            faults: Faults::default(),
        }
    }
}

/// A running mock. Dropping it closes the port and every connection.
#[derive(Debug)]
pub struct Mock {
    shared: Arc<Shared>,
    addr: SocketAddr,
    server: Mutex<Option<Server>>,
}

impl Mock {
    /// Listens on `listen` (port 0 picks a free one) and serves until it is stopped or dropped.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub async fn start(config: MockConfig, listen: SocketAddr) -> io::Result<Self> {
        let shared = Arc::new(Shared::new(config));
        let (server, addr) = Server::start(Arc::clone(&shared), listen).await?;
        Ok(Self { shared, addr, server: Mutex::new(Some(server)) })
    }

    /// Returns the address it listens on.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns the base URL for a configuration, without `/v1`.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Creates a job without a request, and returns its id. It ignores a `mock_…` key of the
    /// metadata that cannot be read; a request with one would be refused.
    pub fn add_job(&self, mut plan: JobPlan) -> String {
        if let Err(error) = plan.heed_metadata() {
            tracing::warn!(error, "the mock passed over a wish");
        }
        self.shared.make(plan, None).id.to_string()
    }

    /// Changes the faults at once, also for open connections.
    pub fn set(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut lock(&self.shared.faults));
    }

    /// Sends hooks for the ends of jobs that are made or retried from now on. A hook waits by the real
    /// clock, whatever [`advance`](Self::advance) skips.
    ///
    /// # Errors
    /// If the client cannot be built.
    pub fn send_hooks(&self, hooks: MockHooks) -> io::Result<()> {
        let sender = hooks::HookSender::start(hooks, self.shared.config.seed).map_err(io::Error::other)?;
        *lock(&self.shared.hooks) = Some(sender);
        Ok(())
    }

    /// Answers with exact bytes for this id from now on.
    pub fn set_raw(&self, id: &str, raw: Raw) {
        self.set(|faults| {
            faults.raw.insert(id.to_owned(), raw);
        });
    }

    /// Speaks this version of the API from now on.
    pub fn set_timestamps(&self, timestamps: Timestamps) {
        self.shared.set_timestamps(timestamps);
    }

    /// Moves the mock's own clock forward, so that jobs finish without a wait.
    pub fn advance(&self, span: Duration) {
        self.shared.advance(span);
    }

    /// Returns the status word of a job now.
    #[must_use]
    pub fn status(&self, id: &str) -> Option<String> {
        let mut jobs = lock(&self.shared.jobs);
        let job = jobs.get_mut(id)?;
        Some(render::word(job, &job.life.at(self.shared.now())).to_owned())
    }

    /// Returns the bytes that a retrieve with the response or output would answer now, without
    /// faults. It holds all of them in memory.
    #[must_use]
    pub fn full_body(&self, id: &str) -> Option<Bytes> {
        if let Some(full) = lock(&self.shared.faults).raw.get(id).and_then(|raw| raw.full.clone()) {
            return Some(full);
        }
        let payload = {
            let mut jobs = lock(&self.shared.jobs);
            let job = jobs.get_mut(id)?;
            let show = Show { response: true, warnings: Warn::Nothing, ..Show::default() };
            render::job(job, &job.life.at(self.shared.now()), self.shared.timestamps(), show)
        };
        Some(payload.collect())
    }

    /// Returns the number of requests for this job or all, on this route or all. Refused ones
    /// count.
    #[must_use]
    pub fn requests(&self, job: Option<&str>, kind: Option<Kind>) -> u64 {
        self.shared.counters.requests(job, kind)
    }

    /// Returns the number of all requests.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.requests(None, None)
    }

    /// Returns the number of requests on each route that had one, such as `create=1 status=7`.
    #[must_use]
    pub fn requests_by_kind(&self) -> String {
        self.shared.counters.by_kind()
    }

    /// Returns the number of answers with this HTTP status. 0 stands for connections that were
    /// closed instead.
    #[must_use]
    pub fn answers(&self, code: u16) -> u64 {
        self.shared.counters.answers(code)
    }

    /// Returns the most requests that were in flight at the same time, bodies included.
    #[must_use]
    pub fn peak(&self) -> usize {
        self.shared.counters.peak()
    }

    /// Returns the latest requests (up to 100 000), oldest first.
    #[must_use]
    pub fn log(&self) -> Vec<LoggedRequest> {
        self.shared.counters.log()
    }

    /// Returns the most requests within any period of this length, as far as the log reaches.
    #[must_use]
    pub fn busiest(&self, window: Duration) -> usize {
        self.shared.counters.busiest(window)
    }

    /// Resets all counters.
    pub fn reset_counters(&self) {
        self.shared.counters.reset();
    }

    /// Closes the port and every connection at once, as if the machine were gone. Jobs, faults and
    /// counters stay.
    pub async fn go_dark(&self) {
        let server = lock(&self.server).take();
        if let Some(mut server) = server {
            server.abort().await;
        }
    }

    /// Listens again on the same port.
    ///
    /// # Errors
    /// If another process took the port meanwhile.
    pub async fn come_back(&self) -> io::Result<()> {
        if lock(&self.server).is_some() {
            return Ok(());
        }
        let (server, _) = Server::start(Arc::clone(&self.shared), self.addr).await?;
        *lock(&self.server) = Some(server);
        Ok(())
    }

    /// Accepts no more requests, finishes those in flight (for up to two seconds), and returns when
    /// the port is closed.
    pub async fn stop(self) {
        let server = lock(&self.server).take();
        if let Some(server) = server {
            server.stop().await;
        }
    }
}
