//! `tidings run --once`: watches the given jobs, delivers them, and ends.

use std::{
    io::{self, Write as _},
    time::Duration,
};

use anyhow::Result;
use futures_util::future::try_join_all;
use tokio::{task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    api::{view::WatchView, watch_view},
    app::App,
    cli::{
        exit::{ExitStatus, Output},
        phrases::{brief, clean, count},
        waiting::summary,
    },
    model::{delivery::DeliveryState, job::JobId},
    state::handle::Handle,
    util::units::{HumanDuration, rounded},
};

/// The message of a run that a signal stopped.
pub(super) const INTERRUPTED: &str =
    "stopped before every job was delivered; the next start resumes the open ones";

/// The longest wait for requests in flight when the time of the run is up.
const LAST_MOMENTS: Duration = Duration::from_secs(2);

/// The longest wait for the reader of the results after a signal.
const PRINT_TIMEOUT: Duration = Duration::from_secs(1);

/// The reason why a run ended.
enum RunEnd {
    /// Every job is delivered.
    Settled,
    /// A signal came first, or the daemon ended by itself.
    Stopped,
    /// The time was up.
    OutOfTime(HumanDuration),
}

/// Watches the given jobs to their end, and stops.
pub(super) async fn run(
    app: App,
    ids: &[JobId],
    limit: Option<HumanDuration>,
    stop: &CancellationToken,
) -> Result<ExitStatus> {
    let handle = app.handle();
    let mut daemon = tokio::spawn(app.run());
    let source = handle.default_source();
    let settled = async {
        handle.loaded().await;
        // Finished ones are polled again: a retry may have begun a new run.
        handle.watch(ids, false).await?;
        try_join_all(ids.iter().map(|id| handle.finished(&source, id))).await
    };
    let end = tokio::select! {
        biased;
        watches = settled => {
            watches?;
            if handle.stopping().is_cancelled() { RunEnd::Stopped } else { RunEnd::Settled }
        }
        done = &mut daemon => {
            done??;
            RunEnd::Stopped
        }
        limit = out_of_time(limit) => RunEnd::OutOfTime(limit),
    };
    handle.stop();
    if !daemon.is_finished() {
        join(daemon, &end).await?;
    }
    let (lines, status, open) = results(&handle, &source, ids).await?;
    print(lines, stop).await?;
    match end {
        RunEnd::Settled => Ok(status),
        RunEnd::Stopped => anyhow::bail!(INTERRUPTED),
        RunEnd::OutOfTime(HumanDuration(limit)) => {
            let jobs = count(open, "job is", "jobs are");
            anyhow::bail!("{jobs} not done after {}; the next start resumes the open ones", rounded(limit))
        }
    }
}

/// Waits for the daemon to end. A run that is out of time cuts off what takes too long: the next start repeats it.
async fn join<E>(daemon: JoinHandle<Result<(), E>>, end: &RunEnd) -> Result<()>
where
    E: std::error::Error + Send + Sync + 'static,
{
    match end {
        RunEnd::OutOfTime(_) => {
            if let Ok(done) = timeout(LAST_MOMENTS, daemon).await {
                done??;
            } else {
                tracing::warn!("requests in flight cut off; the next start repeats them");
            }
        }
        RunEnd::Settled | RunEnd::Stopped => daemon.await??,
    }
    Ok(())
}

/// Returns a line for each job, the status of all, and the number of open ones.
async fn results(handle: &Handle, source: &str, ids: &[JobId]) -> Result<(String, ExitStatus, u64)> {
    let (mut lines, mut status, mut open) = (String::new(), ExitStatus::Done, 0);
    for id in ids {
        let view = match handle.find(source, id).await? {
            Some(watch) => Some(watch_view(handle.state(), &watch).await?),
            None => None,
        };
        match view {
            Some(view) if view.phase.is_final() => {
                status = status.max(ExitStatus::of_watch(&view));
                lines.push_str(&summary(&view));
            }
            view => {
                open += 1;
                let doing = still_open(view.as_ref());
                lines += &clean(id.as_str());
                lines += " is not done";
                lines += &doing;
            }
        }
        lines.push('\n');
    }
    Ok((lines, status, open))
}

/// Waits until the time is up; without a limit, for ever.
async fn out_of_time(limit: Option<HumanDuration>) -> HumanDuration {
    match limit {
        Some(limit) => {
            tokio::time::sleep(limit.0).await;
            limit
        }
        None => std::future::pending().await,
    }
}

/// Returns the state of an open watch, as an addition to a sentence.
fn still_open(view: Option<&WatchView>) -> String {
    let Some(view) = view else { return String::new() };
    let pending = view.deliveries.iter().filter(|one| one.state == DeliveryState::Pending);
    let sinks: Vec<&str> = pending.map(|one| one.sink.as_str()).collect();
    let doing = match &view.status {
        _ if !sinks.is_empty() => format!("delivering to {}", sinks.join(", ")),
        Some(status) => format!("{}, {status}", view.phase),
        None => view.phase.to_string(),
    };
    let error =
        view.last_error.as_deref().map(|error| format!(": {}", brief(error, 200))).unwrap_or_default();
    clean(&format!(" ({doing}){error}"))
}

/// Prints `text`. Gives up a moment after a signal, because the reader of stdout may not read.
async fn print(text: String, stop: &CancellationToken) -> Result<()> {
    let printing = tokio::task::spawn_blocking(move || {
        let mut out = Output(io::stdout());
        out.write_all(text.as_bytes())?;
        out.flush()
    });
    tokio::select! {
        printed = printing => Ok(printed??),
        () = async {
            stop.cancelled().await;
            tokio::time::sleep(PRINT_TIMEOUT).await;
        } => anyhow::bail!("stdout was not read"),
    }
}
