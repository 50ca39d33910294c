//! Waits for jobs over the API: long polls, a few at a time and in turn, until every job has finished and its deliveries are
//! settled.

use std::time::Duration;

use anyhow::Result;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use http::Method;
use tokio::time::{Instant, sleep_until};

use super::{
    AwaitedJob, Progress,
    loop_state::{LoopState, WaitLimits, WaitResults, WatchAnswer},
};
use crate::cli::client::{Client, Path};

/// Waits until every job has finished and its deliveries are settled.
///
/// # Errors
/// When the outage of the daemon is too long, the daemon refuses, or the time is up.
pub(crate) async fn wait_for(
    client: &Client,
    jobs: Vec<AwaitedJob>,
    limits: &WaitLimits,
    progress: &mut Progress<'_, '_>,
) -> Result<WaitResults> {
    let end = limits.retry.end();
    let mut state = LoopState::new(jobs, limits);
    let mut requests = FuturesUnordered::new();
    loop {
        while requests.len() < limits.in_flight {
            let Some(job) = state.take_due(Instant::now()) else { break };
            progress.asking(state.job(job));
            requests.push(ask(client.clone(), state.request(job), job));
        }
        let next = state.next_due().filter(|_| requests.len() < limits.in_flight);
        if requests.is_empty() && next.is_none() {
            return Ok(state.into_results());
        }
        tokio::select! {
            Some(answer) = requests.next(), if !requests.is_empty() => state.take(answer, progress)?,
            () = until(next), if next.is_some() => {}
            () = until(end), if end.is_some() => return Err(state.out_of_time()),
        }
    }
}

/// Waits until `instant`; without one, for ever.
async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

async fn ask(client: Client, (path, within): (Path, Duration), job: usize) -> WatchAnswer {
    let asked_at = Instant::now();
    let result = async {
        let answer = client.send(Method::GET, &path, None, Some(within)).await?;
        client.parse(&client.read_text(answer).await?)
    };
    let result = result.await;
    WatchAnswer { job, asked_at, result }
}
