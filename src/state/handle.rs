//! What a process asks of its daemon: to stop, to reload, to watch jobs and to say when they are finished.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{AppState, components::SetupError};
use crate::{
    config::ConfigError,
    model::job::JobId,
    store::{Found, Registered, Registration, StoreError, Watch},
    util::clock,
};

/// Somebody waits for what comes of a reload.
pub type ReloadRequest = oneshot::Sender<Result<Reloaded, ReloadError>>;

/// What a reload came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Reloaded {
    /// The parts that are others now: `sinks.NAME`, `sources.NAME`, `routes`, `callbacks`, `watch`, `log.level`,
    /// `store.retention`.
    pub changed: Vec<String>,
    /// Keys that changed and hold only after a restart.
    pub restart: Vec<String>,
}

/// Why the configuration that held before holds on.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// It has mistakes.
    #[error("{}", .0.report("the previous configuration stays"))]
    Config(#[from] ConfigError),
    /// Its file, or one that it names, does not answer.
    #[error("reading the configuration takes longer than {}s: a file on a mount that hangs, or a pipe?", READING.as_secs())]
    Slow,
    /// A sink or a source cannot be set up.
    #[error("{}", with_cause(.0))]
    Setup(#[from] SetupError),
    /// The jobs that it names could not be recorded; the rest holds.
    #[error("the configuration holds, but for the jobs in `watch`: {0}")]
    Watch(#[from] StoreError),
    /// The daemon was started without a way to read it again.
    #[error("this daemon has no configuration that could be read again")]
    Nothing,
    /// The daemon is stopping.
    #[error("the daemon is stopping")]
    Stopping,
}

impl ReloadError {
    /// Whether the same configuration may hold a moment later: a secret's file that is not there yet, a full disk.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Config(error) => error.may_pass(),
            Self::Setup(_) | Self::Watch(_) | Self::Slow => true,
            Self::Nothing | Self::Stopping => false,
        }
    }
}

/// The longest time that reading the configuration may take.
pub(crate) const READING: Duration = Duration::from_secs(10);

fn with_cause(error: &SetupError) -> String {
    let cause = std::error::Error::source(error);
    cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

/// What a process keeps in hand while the daemon runs.
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

    /// The token that tells that it is stopping.
    #[must_use]
    pub fn stopping(&self) -> CancellationToken {
        self.state.shutdown.clone()
    }

    /// Waits until everything that was open is taken up, or the daemon stops.
    pub async fn loaded(&self) {
        let mut loaded = self.state.loaded.subscribe();
        tokio::select! {
            // The sender lives in the API, which this handle holds.
            _ = loaded.wait_for(|loaded| *loaded) => {}
            () = self.state.shutdown.cancelled() => {}
        }
    }

    /// Reads the configuration again and applies what changed.
    ///
    /// # Errors
    /// When it has mistakes or cannot be applied; what held before holds on then. It has been logged and counted.
    pub async fn reload(&self) -> Result<Reloaded, ReloadError> {
        let (answer, answered) = oneshot::channel();
        self.state.reloads.send(answer).await.map_err(|_| ReloadError::Stopping)?;
        answered.await.map_err(|_| ReloadError::Stopping)?
    }

    /// The source of a job that comes without one. The check of the configuration refuses a `watch` without it.
    #[must_use]
    pub fn default_source(&self) -> String {
        self.state.default_source().unwrap_or_default()
    }

    /// Watches jobs of the default source.
    ///
    /// # Errors
    /// When they could not be stored.
    pub async fn watch(&self, ids: &[JobId], only_new: bool) -> Result<Vec<Registered>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let source = self.default_source();
        let registration = |id: &JobId| Registration { only_new, ..Registration::new(&source, id.clone()) };
        self.state.store.register(ids.iter().map(registration).collect(), clock::now()).await
    }

    /// The watch of a job; `None` when there is none.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn find(&self, source: &str, job_id: &JobId) -> Result<Option<Watch>, StoreError> {
        match self.state.store.find(source, job_id)? {
            Found::Watch(watch) => Ok(Some(*watch)),
            Found::Dropped | Found::Nothing => Ok(None),
        }
    }

    /// Waits until a watch has nothing left to do; `None` when it is gone or the daemon stops first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn finished(&self, source: &str, job_id: &JobId) -> Result<Option<Watch>, StoreError> {
        loop {
            let Found::Watch(watch) = self.state.store.find(source, job_id)? else { return Ok(None) };
            let settled = self.state.waiters.wait(watch.number);
            // Read after arming, so that nothing is missed in between.
            match self.state.store.watch(watch.number)? {
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
