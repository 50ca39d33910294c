//! What a process asks of its daemon: to stop, to reload, to watch jobs and to say when they are finished.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{AppState, StartStage, components::SetupError};
use crate::{
    config::ConfigError,
    model::job::JobId,
    store::{Found, Registered, Registration, StoreError, Watch},
    util::clock,
};

/// A request to reload; the result goes to its sender.
pub type ReloadRequest = oneshot::Sender<Result<Reloaded, ReloadError>>;

/// The result of a reload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Reloaded {
    /// The parts that changed: `sinks.NAME`, `sources.NAME`, `budgets.NAME`, `routes`, `callbacks`, `page`, `watch`, `log.level`,
    /// `store.retention`.
    pub changed: Vec<String>,
    /// Changed keys that take effect after a restart.
    pub restart: Vec<String>,
}

/// Why a reload kept the previous configuration.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The configuration has mistakes.
    #[error("{}", .0.report("the previous configuration stays"))]
    Config(#[from] ConfigError),
    /// Its file, or a file that it names, blocks the reader.
    #[error("reading the configuration takes longer than {}s: a file on a mount that hangs, or a pipe?", READING.as_secs())]
    Slow,
    /// A sink or a source cannot be set up.
    #[error("{}", with_cause(.0))]
    Setup(#[from] SetupError),
    /// The jobs of `watch` could not be registered. The rest of the configuration is current.
    #[error("configuration reloaded, but the jobs of `watch` are not registered: {0}")]
    Watch(#[from] StoreError),
    /// The daemon was started without a configuration to read.
    #[error("this daemon has no configuration to reload")]
    Nothing,
    /// The daemon is stopping.
    #[error("the daemon is stopping")]
    Stopping,
}

impl ReloadError {
    /// Returns whether a later attempt with the same configuration may succeed: a secret's file is still missing, or the disk
    /// is full.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Config(error) => error.is_transient(),
            Self::Setup(_) | Self::Watch(_) | Self::Slow => true,
            Self::Nothing | Self::Stopping => false,
        }
    }
}

impl ReloadError {
    /// Returns the reason in one line: the first of several mistakes, and how many there are beside it.
    #[must_use]
    pub fn in_short(&self) -> String {
        let Self::Config(error) = self else { return self.to_string() };
        let first = error.problems.first().map(ToString::to_string).unwrap_or_default();
        let first = first.lines().next().unwrap_or_default().replace("  ", " ");
        match error.problems.len() {
            0 | 1 => first,
            count => format!("{first}, and {} more", count - 1),
        }
    }
}

/// The longest time for reading the configuration.
pub(crate) const READING: Duration = Duration::from_secs(10);

fn with_cause(error: &SetupError) -> String {
    let cause = std::error::Error::source(error);
    cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

/// Asks a daemon to reload: one that runs, or one that waits as a standby.
#[derive(Clone)]
pub struct Reloads {
    requests: mpsc::Sender<ReloadRequest>,
    stop: CancellationToken,
}

impl Reloads {
    /// Creates the side that asks, and the requests for the side that answers, of a daemon that stops when `stop` is cancelled.
    #[must_use]
    pub fn new(stop: CancellationToken) -> (Self, mpsc::Receiver<ReloadRequest>) {
        let (requests, asked) = mpsc::channel(16);
        (Self { requests, stop }, asked)
    }

    /// Returns the token that is cancelled when the daemon stops.
    #[must_use]
    pub fn stopping(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Reloads the configuration.
    ///
    /// # Errors
    /// When it has mistakes or cannot be applied; the daemon keeps the previous one. The result is logged and counted.
    pub async fn reload(&self) -> Result<Reloaded, ReloadError> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(answer).await.map_err(|_| ReloadError::Stopping)?;
        answered.await.map_err(|_| ReloadError::Stopping)?
    }

    /// Gives a request back that could not be answered yet.
    pub(crate) fn defer(&self, request: ReloadRequest) {
        // Among so many others one of them reads the same configuration.
        let _ = self.requests.try_send(request);
    }
}

/// A handle on a running daemon.
#[derive(Clone)]
pub struct Handle {
    state: Arc<AppState>,
}

impl Handle {
    pub(crate) fn new(state: &Arc<AppState>) -> Self {
        Self { state: Arc::clone(state) }
    }

    /// Returns the state of the daemon.
    #[must_use]
    pub fn state(&self) -> &Arc<AppState> {
        &self.state
    }

    /// Tells the daemon to stop.
    pub fn stop(&self) {
        self.state.shutdown.cancel();
    }

    /// Returns the token that is cancelled when the daemon stops.
    #[must_use]
    pub fn stopping(&self) -> CancellationToken {
        self.state.shutdown.clone()
    }

    /// Waits until jobs are accepted, or the daemon stops.
    pub async fn serving(&self) {
        self.reached(StartStage::Loading).await;
    }

    /// Waits until all open work is scheduled, or the daemon stops.
    pub async fn loaded(&self) {
        self.reached(StartStage::Loaded).await;
    }

    async fn reached(&self, stage: StartStage) {
        let mut start = self.state.start.subscribe();
        tokio::select! {
            // The sender lives in the state, which this handle holds.
            _ = start.wait_for(|reached| *reached >= stage) => {}
            () = self.state.shutdown.cancelled() => {}
        }
    }

    /// Returns what asks the daemon to reload.
    #[must_use]
    pub fn reloads(&self) -> Reloads {
        self.state.reloads.clone()
    }

    /// Returns the source of a job that names none. The check of the configuration rejects a `watch` that would need one.
    #[must_use]
    pub fn default_source(&self) -> String {
        self.state.default_source().unwrap_or_default()
    }

    /// Registers jobs of the default source; with `only_new`, finished jobs stay as they are.
    ///
    /// # Errors
    /// When they could not be stored.
    pub async fn watch(&self, ids: &[JobId], only_new: bool) -> Result<Vec<Registered>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let source = self.default_source();
        let registration = |id: &JobId| Registration {
            kind: self.state.kind_by_id(&source, id),
            only_new,
            ..Registration::new(&source, id.clone())
        };
        self.state.store.register(ids.iter().map(registration).collect(), clock::now()).await
    }

    /// Returns the watch of a job, if there is one.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn find(&self, source: &str, job_id: &JobId) -> Result<Option<Watch>, StoreError> {
        match self.state.store.find(source, job_id, None).await? {
            Found::Watch(watch) => Ok(Some(*watch)),
            Found::Dropped | Found::Nothing | Found::Several(_) => Ok(None),
        }
    }

    /// Waits until a watch is done, with all its deliveries. Returns `None` when it is gone or the daemon stops first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn finished(&self, source: &str, job_id: &JobId) -> Result<Option<Watch>, StoreError> {
        loop {
            let Found::Watch(watch) = self.state.store.find(source, job_id, None).await? else {
                return Ok(None);
            };
            let settled = self.state.waiters.wait(watch.number);
            // Read after the waiter is armed, so that no change falls in between.
            match self.state.store.watch(watch.number).await? {
                Some(watch) if watch.phase().is_final() => return Ok(Some(watch)),
                Some(_) => {}
                None => return Ok(None),
            }
            tokio::select! {
                () = settled => {}
                () = self.state.shutdown.cancelled() => return Ok(None),
            }
        }
    }
}
