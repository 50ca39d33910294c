//! The progress of a wait, for a person at a terminal, a log, or a program.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Result;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::AwaitedJob;
use crate::{
    api::view::WatchView,
    cli::{
        client::ClientError,
        console::Console,
        phrases::{brief, clean, count},
    },
    model::{delivery::DeliveryState, job::Outcome},
};

/// Jobs with a line of their own below the bar.
const SPINNERS: usize = 4;

/// The most jobs of which each keeps a line. Of more, only those that went wrong do.
const FEW: usize = 30;

/// A moving display on a terminal; elsewhere a line for each finished job.
pub(crate) struct Progress<'a, 'b> {
    console: &'a mut Console<'b>,
    live: Option<Live>,
    /// Whether each settled watch is a line of JSON.
    json: bool,
    total: usize,
    outcomes: BTreeMap<Outcome, u64>,
    dead: u64,
}

struct Live {
    lines: MultiProgress,
    bar: ProgressBar,
    spinners: Vec<(AwaitedJob, ProgressBar)>,
}

impl<'a, 'b> Progress<'a, 'b> {
    /// Starts the display of `total` jobs.
    pub(crate) fn new(console: &'a mut Console<'b>, total: usize) -> Self {
        let live = console.live.then(|| Live::new(total));
        Self { console, live, json: false, total, outcomes: BTreeMap::new(), dead: 0 }
    }

    /// Prints a line of JSON for each settled watch instead.
    #[must_use]
    pub(crate) fn in_json(self) -> Self {
        Self { live: None, json: true, ..self }
    }

    /// Shows that a request about `job` is in flight.
    pub(crate) fn asking(&mut self, job: &AwaitedJob) {
        if let Some(live) = &mut self.live {
            live.spin(job);
        }
    }

    /// Shows the state of a job that is not settled.
    pub(crate) fn moved(&mut self, job: &AwaitedJob, watch: &WatchView) {
        if let Some(live) = &mut self.live
            && let Some((_, line)) = live.spinners.iter().find(|(one, _)| one == job)
        {
            line.set_message(state(watch));
        }
    }

    /// Shows a job that is settled.
    ///
    /// # Errors
    /// When the output is closed.
    pub(crate) fn finished(&mut self, job: &AwaitedJob, watch: &WatchView) -> Result<()> {
        if let Some(outcome) = watch.outcome {
            *self.outcomes.entry(outcome).or_default() += 1;
        }
        let dead = dead(watch);
        self.dead += dead;
        let line = summary(watch);
        let smooth = dead == 0 && watch.outcome == Some(Outcome::Completed);
        let counts = self.counts();
        match &mut self.live {
            None if self.json => writeln!(self.console.out, "{}", serde_json::to_string(watch)?)?,
            None => writeln!(self.console.out, "{line}")?,
            Some(display) => {
                display.end(job, &counts);
                if self.total <= FEW || !smooth {
                    display.lines.println(line)?;
                }
            }
        }
        Ok(())
    }

    /// Shows that the daemon does not answer.
    ///
    /// # Errors
    /// When the terminal is closed.
    pub(crate) fn outage(&mut self, error: &ClientError) -> Result<()> {
        let line = format!("{error}; trying again");
        match &mut self.live {
            None => self.console.note(&line),
            Some(display) => display.lines.println(line)?,
        }
        Ok(())
    }

    /// Shows a job that the daemon no longer watches.
    ///
    /// # Errors
    /// When the terminal is closed.
    pub(crate) fn gone(&mut self, job: &AwaitedJob) -> Result<()> {
        let line =
            format!("{} of the source {} is not watched", clean(job.job_id.as_str()), clean(&job.source));
        let counts = self.counts();
        match &mut self.live {
            None => self.console.note(&line),
            Some(display) => {
                display.end(job, &counts);
                display.lines.println(line)?;
            }
        }
        Ok(())
    }

    /// Replaces the display with one line of summary.
    ///
    /// # Errors
    /// When the output is closed.
    pub(crate) fn finish(self) -> Result<()> {
        let counts = self.counts();
        if let Some(live) = self.live {
            live.lines.clear()?;
            writeln!(self.console.out, "{}: {counts}", count(self.total as u64, "job", "jobs"))?;
        }
        Ok(())
    }

    /// Returns the results so far: `9 completed, 1 failed, 2 dead letters`.
    fn counts(&self) -> String {
        let mut parts: Vec<String> =
            self.outcomes.iter().map(|(outcome, number)| format!("{number} {outcome}")).collect();
        if self.dead > 0 {
            parts.push(count(self.dead, "dead letter", "dead letters"));
        }
        if parts.is_empty() { "none settled".to_owned() } else { parts.join(", ") }
    }
}

impl Live {
    fn new(total: usize) -> Self {
        let lines = MultiProgress::new();
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len}  {msg}  {elapsed}");
        let bar =
            ProgressBar::new(total as u64).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        let bar = lines.add(bar);
        bar.enable_steady_tick(Duration::from_millis(500));
        Self { lines, bar, spinners: Vec::new() }
    }

    /// Gives `job` a line if there is room for one.
    fn spin(&mut self, job: &AwaitedJob) {
        if self.spinners.len() >= SPINNERS || self.spinners.iter().any(|(one, _)| one == job) {
            return;
        }
        let style = ProgressStyle::with_template("{spinner} {prefix} {wide_msg}");
        let line = ProgressBar::new_spinner()
            .with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
            .with_prefix(clean(job.job_id.as_str()));
        let line = self.lines.add(line);
        line.enable_steady_tick(Duration::from_millis(120));
        self.spinners.push((job.clone(), line));
    }

    fn end(&mut self, job: &AwaitedJob, counts: &str) {
        if let Some(place) = self.spinners.iter().position(|(one, _)| one == job) {
            let (_, line) = self.spinners.remove(place);
            line.finish_and_clear();
            self.lines.remove(&line);
        }
        self.bar.set_message(counts.to_owned());
        self.bar.inc(1);
    }
}

fn dead(watch: &WatchView) -> u64 {
    watch.deliveries.iter().filter(|one| one.state == DeliveryState::Dead).count() as u64
}

/// Returns the state of a job that is not settled.
fn state(watch: &WatchView) -> String {
    match watch.outcome {
        Some(outcome) => {
            let pending = watch.deliveries.iter().filter(|one| one.state == DeliveryState::Pending);
            let sinks: Vec<&str> = pending.map(|one| one.sink.as_str()).collect();
            clean(&format!("{outcome}, delivering to {}", sinks.join(", ")))
        }
        None => clean(watch.status.as_deref().unwrap_or(watch.phase.as_str())),
    }
}

/// Returns a settled job on one line: `job_1 completed (3 polls, 1 delivery)`.
pub(crate) fn summary(watch: &WatchView) -> String {
    let mut parts = vec![
        count(watch.polls, "poll", "polls"),
        count(watch.deliveries.len() as u64, "delivery", "deliveries"),
    ];
    let dead = dead(watch);
    if dead > 0 {
        parts.push(format!("{dead} dead"));
    }
    let outcome = watch.outcome.map_or("ended", |outcome| outcome.as_str());
    let mut line = format!("{} {outcome} ({})", clean(watch.job_id.as_str()), parts.join(", "));
    if watch.outcome == Some(Outcome::Lost)
        && let Some(error) = &watch.last_error
    {
        line.push_str(": ");
        line.push_str(&brief(error, 200));
    }
    line
}
