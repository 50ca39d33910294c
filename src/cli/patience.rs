//! How long a command that waits bears a daemon that does not answer.

use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::{
    client::{Client, ClientError},
    output::Console,
};
use crate::util::units::{HumanDuration, rounded};

/// How long a daemon may be away where the caller set no limit: a restart takes less.
const OUTAGE: Duration = Duration::from_mins(1);

/// The pause before the first repetition, doubled up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// The time that a command may take, and the outage of the daemon that it bears without one.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// The whole time of the command, with its end.
    limit: Option<(Duration, Instant)>,
    outage: Duration,
}

impl Patience {
    /// Starts the clock of `--timeout`. Without one only outages are bounded.
    #[must_use]
    pub fn start(timeout: Option<HumanDuration>) -> Self {
        let limit = timeout.map(|HumanDuration(limit)| (limit, Instant::now() + limit));
        Self { limit, outage: OUTAGE }
    }

    /// Bears only outages shorter than `outage`.
    #[must_use]
    pub fn of_outages(outage: Duration) -> Self {
        Self { limit: None, outage }
    }

    /// The instant at which the command gives up, whatever happens.
    #[must_use]
    pub fn end(&self) -> Option<Instant> {
        self.limit.map(|(_, end)| end)
    }

    /// The time that was given to the command.
    #[must_use]
    pub fn limit(&self) -> Option<Duration> {
        self.limit.map(|(limit, _)| limit)
    }

    /// The instant at which an outage that began at `since` is borne no longer.
    #[must_use]
    pub fn bears_until(&self, since: Instant) -> Instant {
        self.end().unwrap_or(since + self.outage)
    }

    /// Asks until the daemon answers, with a remark when it does not at first.
    ///
    /// # Errors
    /// When the daemon refuses, or stays away too long.
    pub async fn ask<T>(
        &self,
        client: &Client,
        console: &mut Console<'_>,
        mut ask: impl AsyncFnMut(&mut Console<'_>) -> Result<T, ClientError>,
    ) -> Result<T> {
        let started = Instant::now();
        let give_up = self.bears_until(started);
        let all = self.limit().unwrap_or(self.outage);
        let (mut away, mut pause) = (None, FIRST_PAUSE);
        loop {
            match timeout_at(give_up, ask(console)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) if !error.may_pass() => return Err(error.into()),
                Ok(Err(error)) => {
                    if away.is_none() {
                        console.note(&format!("{error}; trying again for {}", rounded(all)));
                    }
                    away = Some(error);
                }
                Err(_) if away.is_none() => return Err(client.slow(all).into()),
                Err(_) => {}
            }
            let next = Instant::now() + pause;
            sleep_until(next.min(give_up)).await;
            if next >= give_up
                && let Some(error) = away
            {
                return Err(error).with_context(|| format!("gave up after {}", rounded(all)));
            }
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }
}
