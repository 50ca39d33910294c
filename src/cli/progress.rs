//! How a person, or a log, sees jobs being followed.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Result;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::{
    client::ClientError,
    follow::Followed,
    output::{Console, brief, clean, count},
};
use crate::{
    api::view::WatchView,
    model::{delivery::DeliveryState, job::Outcome},
};

/// Jobs with a line of their own below the bar.
const SPINNERS: usize = 4;

/// Up to so many jobs, a line stays for each one that ended; of more, only for what went wrong.
const FEW: usize = 30;

/// A display that moves on a terminal; a line for each job that ended elsewhere.
pub struct Progress<'a, 'b> {
    console: &'a mut Console<'b>,
    live: Option<Live>,
    /// Each watch that is settled is a line of JSON.
    json: bool,
    total: usize,
    outcomes: BTreeMap<Outcome, u64>,
    dead: u64,
}

struct Live {
    lines: MultiProgress,
    bar: ProgressBar,
    spinners: Vec<(Followed, ProgressBar)>,
}

impl<'a, 'b> Progress<'a, 'b> {
    /// A display for `total` jobs.
    pub fn new(console: &'a mut Console<'b>, total: usize) -> Self {
        let live = console.live.then(|| Live::new(total));
        Self { console, live, json: false, total, outcomes: BTreeMap::new(), dead: 0 }
    }

    /// The same for programs: a line of JSON for each watch that is settled.
    #[must_use]
    pub fn as_json(self) -> Self {
        Self { live: None, json: true, ..self }
    }

    /// `job` is being looked at.
    pub fn look(&mut self, job: &Followed) {
        if let Some(live) = &mut self.live {
            live.spin(job);
        }
    }

    /// `job` has not ended, or its deliveries are on their way.
    pub fn moved(&mut self, job: &Followed, watch: &WatchView) {
        if let Some(live) = &mut self.live
            && let Some((_, line)) = live.spinners.iter().find(|(one, _)| one == job)
        {
            line.set_message(state(watch));
        }
    }

    /// `job` ended and is settled.
    ///
    /// # Errors
    /// When the output is closed.
    pub fn ended(&mut self, job: &Followed, watch: &WatchView) -> Result<()> {
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

    /// The daemon is away; the jobs are asked for again until it is back.
    ///
    /// # Errors
    /// When the terminal is closed.
    pub fn away(&mut self, error: &ClientError) -> Result<()> {
        let line = format!("{error}; trying again");
        match &mut self.live {
            None => self.console.note(&line),
            Some(display) => display.lines.println(line)?,
        }
        Ok(())
    }

    /// The daemon does not know `job` any more.
    ///
    /// # Errors
    /// When the terminal is closed.
    pub fn gone(&mut self, job: &Followed) -> Result<()> {
        let line = format!(
            "{} of the source {} is not watched (any more)",
            clean(job.job_id.as_str()),
            clean(&job.source)
        );
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

    /// Takes the display away and leaves one line of summary in its place.
    ///
    /// # Errors
    /// When the output is closed.
    pub fn finish(self) -> Result<()> {
        let counts = self.counts();
        if let Some(live) = self.live {
            live.lines.clear()?;
            writeln!(self.console.out, "{}: {counts}", count(self.total as u64, "job", "jobs"))?;
        }
        Ok(())
    }

    /// `9 completed, 1 failed, 2 dead letters`.
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

    /// Gives `job` a line when there is room for one.
    fn spin(&mut self, job: &Followed) {
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

    fn end(&mut self, job: &Followed, counts: &str) {
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

/// What a job does that is not settled.
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

/// `job_1 completed (3 polls, 1 delivery)`.
pub(super) fn summary(watch: &WatchView) -> String {
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
