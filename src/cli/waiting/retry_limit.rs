//! How long a command repeats its request to a daemon that does not answer.

use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::{
    cli::{
        client::{Client, ClientError},
        console::Console,
    },
    util::units::{HumanDuration, rounded},
};

/// The longest outage that a command without `--timeout` waits through: a restart takes less.
const OUTAGE: Duration = Duration::from_mins(1);

/// The pause before the first repetition, doubled up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// The time that a command may take; without one, the longest outage of the daemon that it waits through.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RetryLimit {
    /// The whole time of the command, with its end.
    timeout: Option<(Duration, Instant)>,
    outage: Duration,
}

impl RetryLimit {
    /// Starts the clock of `--timeout`. Without one only outages are bounded.
    #[must_use]
    pub(crate) fn start(timeout: Option<HumanDuration>) -> Self {
        let timeout = timeout.map(|HumanDuration(timeout)| (timeout, Instant::now() + timeout));
        Self { timeout, outage: OUTAGE }
    }

    /// Bounds outages alone.
    #[must_use]
    pub(crate) fn of_outages(outage: Duration) -> Self {
        Self { timeout: None, outage }
    }

    /// Returns the instant at which the command gives up, whatever happens.
    #[must_use]
    pub(super) fn end(&self) -> Option<Instant> {
        self.timeout.map(|(_, end)| end)
    }

    /// Returns the whole time of the command.
    #[must_use]
    pub(super) fn timeout(&self) -> Option<Duration> {
        self.timeout.map(|(timeout, _)| timeout)
    }

    /// Returns the instant at which an outage that began at `since` is too long.
    #[must_use]
    pub(super) fn outage_end(&self, since: Instant) -> Instant {
        self.end().unwrap_or(since + self.outage)
    }

    /// Repeats `ask` until the daemon answers, with a remark at the first failure.
    ///
    /// # Errors
    /// When the daemon refuses, or the outage is too long.
    pub(crate) async fn ask<T>(
        &self,
        client: &Client,
        console: &mut Console<'_>,
        mut ask: impl AsyncFnMut(&mut Console<'_>) -> Result<T, ClientError>,
    ) -> Result<T> {
        let started = Instant::now();
        let end = self.outage_end(started);
        let all = self.timeout().unwrap_or(self.outage);
        let (mut last_error, mut pause) = (None, FIRST_PAUSE);
        loop {
            match timeout_at(end, ask(console)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) if !error.is_transient() => return Err(error.into()),
                Ok(Err(error)) => {
                    if last_error.is_none() {
                        console.note(&format!("{error}; trying again for {}", rounded(all)));
                    }
                    last_error = Some(error);
                }
                Err(_) if last_error.is_none() => return Err(client.slow(all).into()),
                Err(_) => {}
            }
            let next = Instant::now() + pause;
            sleep_until(next.min(end)).await;
            if next >= end
                && let Some(error) = last_error
            {
                return Err(error).with_context(|| format!("gave up after {}", rounded(all)));
            }
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }
}
