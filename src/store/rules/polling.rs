//! Records what polls and fetches find out about a job that is watched.

use std::sync::Arc;

use super::{
    completion::{complete, restore},
    emit_again, removal,
};
use crate::model::status_answer::StatusAnswer;
use crate::{
    model::job::{EventType, Outcome, Progress, Run, progress_id},
    store::{
        BodyPlace, Change, Completion, News, ProgressStep, Said, StepKind, StoreError, StoredJob, Watch,
        WatchStage, records::Txn, rules::completion::put_event,
    },
    util::units::Time,
};

/// Delivered progress events that a watch keeps.
const KEPT_PROGRESS: usize = 16;

/// While so many progress events of a watch are undelivered no further one is made. A source that changes its status
/// with every poll must not fill the disk while a sink is down.
const MAX_PROGRESS: usize = 256;

/// What became of a watch after a poll saw the end of its job.
#[derive(Clone, Debug, PartialEq)]
pub enum Finished {
    /// The end is new: the result of this watch is to be fetched.
    Fetch(Arc<Watch>),
    /// The end is new, and its event was made of the result that came with the poll.
    Complete(Arc<Watch>),
    /// The end was known already. The watch is finished again.
    Known,
    /// There is no such watch, or it is no longer watched.
    Gone,
}

/// Records a status that is not terminal. Returns the progress events that it made.
pub(in crate::store) fn record_running(
    txn: &mut Txn<'_>,
    number: u64,
    seen: StatusAnswer,
    polls: u64,
    route: &impl Fn(&Watch, EventType) -> Vec<String>,
    now: Time,
) -> Result<Vec<EventType>, StoreError> {
    let Some(mut watch) = watching(txn, number, WatchStage::Watching)? else { return Ok(Vec::new()) };
    let progress = watch.progress_in(&seen);
    watch.note_hints(&seen);
    if watch.status.as_ref() != Some(&seen.status) {
        watch.history.push(now, StepKind::Status(seen.status.clone()));
    }
    watch.take_in(seen);
    watch.seen_running = true;
    watch.polls = polls;
    watch.updated_at = now;
    let made = make_progress(txn, &mut watch, &progress, route, now)?;
    txn.put_watch(watch)?;
    Ok(made)
}

/// Records that a poll saw the end of a job. Fixes the run, and so the id of its event.
pub(in crate::store) fn record_finished(
    txn: &mut Txn<'_>,
    number: u64,
    outcome: Outcome,
    seen: StatusAnswer,
    polls: u64,
    now: Time,
) -> Result<Finished, StoreError> {
    let finished = finish(txn, number, outcome, seen, polls, now)?;
    if let Finished::Fetch(watch) = &finished {
        txn.emit(Change::WatchOpened(Arc::clone(watch)));
    }
    Ok(finished)
}

/// A result that came with the poll.
#[derive(Clone, Debug)]
pub(in crate::store) struct PolledResult {
    /// The stored body and its place.
    pub(in crate::store) job: (StoredJob, Option<BodyPlace>),
    /// What it says of the end.
    pub(in crate::store) said: Option<Said>,
    /// The event that it was stored for.
    pub(in crate::store) event_id: String,
}

/// Records the end of a job and makes its event in one step. When the watch changed since the poll was sent, so that the event
/// is another one, the result is fetched like any other.
pub(in crate::store) fn record_result(
    txn: &mut Txn<'_>,
    (number, outcome, polls): (u64, Outcome, u64),
    seen: StatusAnswer,
    result: PolledResult,
    route: &impl Fn(&Watch, EventType) -> Vec<String>,
    now: Time,
) -> Result<Finished, StoreError> {
    let finished = finish(txn, number, outcome, seen, polls, now)?;
    let Finished::Fetch(watch) = finished else { return Ok(finished) };
    let PolledResult { job, said, event_id } = result;
    let end = watch.pending_completion.as_deref().cloned();
    let end = end.map(|end| match &said {
        Some(said) => end.said_by(&watch, said),
        None => end,
    });
    if end.is_none_or(|end| end.event_id != event_id) {
        txn.emit(Change::WatchOpened(Arc::clone(&watch)));
        return Ok(Finished::Fetch(watch));
    }
    complete(txn, number, job, said, route, now)?;
    Ok(Finished::Complete(watch))
}

/// Fixes the run, and so the id of its event. Does not tell that the result is to be fetched.
fn finish(
    txn: &mut Txn<'_>,
    number: u64,
    outcome: Outcome,
    seen: StatusAnswer,
    polls: u64,
    now: Time,
) -> Result<Finished, StoreError> {
    let mut watch = match txn.watch(number)? {
        Some(watch) if watch.stage == WatchStage::Watching => watch,
        Some(watch) => {
            emit_again(txn, watch);
            return Ok(Finished::Gone);
        }
        None => return Ok(Finished::Gone),
    };
    let completion = watch.completion_in(outcome, &seen, now);
    let error = seen.error.clone();
    watch.polls = polls;
    watch.updated_at = now;
    watch.note_hints(&seen);
    watch.take_in(seen);
    if watch.knows(&completion) {
        restore(txn, watch, now)?;
        return Ok(Finished::Known);
    }
    watch.stage = WatchStage::Fetching;
    watch.pending_completion = Some(Box::new(completion));
    if outcome == Outcome::Failed {
        watch.last_error = error;
    }
    Ok(Finished::Fetch(txn.put_watch(watch)?))
}

/// Records that a fetched job still runs: a retry in place came between.
pub(in crate::store) fn resume(txn: &mut Txn<'_>, number: u64, now: Time) -> Result<(), StoreError> {
    let Some(mut watch) = watching(txn, number, WatchStage::Fetching)? else { return Ok(()) };
    watch.stage = WatchStage::Watching;
    watch.pending_completion = None;
    watch.rewatch = false;
    // It runs again; a source that tells runs apart says so itself.
    watch.started = watch.started.filter(|run| !run.is_silent());
    watch.seen_running = true;
    watch.updated_at = now;
    let watch = txn.put_watch(watch)?;
    txn.emit(Change::WatchOpened(watch));
    Ok(())
}

/// Records that a job failed after all: the source answered the request for its result with its error.
pub(in crate::store) fn record_refusal(txn: &mut Txn<'_>, number: u64, now: Time) -> Result<(), StoreError> {
    let Some(mut watch) = watching(txn, number, WatchStage::Fetching)? else { return Ok(()) };
    if let Some(mut completion) = watch.pending_completion.take() {
        if !completion.refused {
            completion.refused = true;
            completion.outcome = Outcome::Failed;
            completion.event_id = watch.event_id(Outcome::Failed, &completion.attempt);
        }
        watch.pending_completion = Some(completion);
    }
    watch.updated_at = now;
    txn.put_watch(watch)?;
    Ok(())
}

/// The watch with this number while it is in `stage`.
fn watching(txn: &mut Txn<'_>, number: u64, stage: WatchStage) -> Result<Option<Watch>, StoreError> {
    Ok(txn.watch(number)?.filter(|watch| watch.stage == stage))
}

impl Watch {
    fn take_in(&mut self, seen: StatusAnswer) {
        self.job_created_at = seen.by_wall_clock(seen.created_at).or(self.job_created_at);
        self.status = Some(seen.status);
        self.kind = self.kind.take().or(seen.kind);
        self.endpoint = seen.endpoint.or(self.endpoint.take());
        self.metadata = seen.metadata.or(self.metadata.take());
        self.last_body = seen.body.or(self.last_body.take());
        self.key = seen.key_fingerprint;
        self.last_error = None;
    }

    /// Notes what asked for the polls since the record was written last.
    fn note_hints(&mut self, seen: &StatusAnswer) {
        for (at, hint) in &seen.hints {
            self.history.push(*at, StepKind::Hint(*hint));
        }
    }

    /// Returns the progress in an answer that is not the end, and notes the run that is at work.
    fn progress_in(&mut self, seen: &StatusAnswer) -> Vec<Progress> {
        let mut progress = Vec::new();
        if !seen.at_work {
            // Back in the queue: what starts next is another run.
            self.started = None;
        } else if self.started.as_ref().is_none_or(|known| !known.same_run(&seen.run)) {
            self.started = Some(Box::new(seen.run.clone()));
            progress.push(Progress::Started);
        }
        if self.status.as_ref().is_some_and(|known| *known != seen.status) {
            progress.push(Progress::Updated);
        }
        progress
    }

    /// Returns the completion that an answer of its source tells.
    #[must_use]
    pub fn completion_in(&self, outcome: Outcome, seen: &StatusAnswer, now: Time) -> Completion {
        let attempt = self.run_of(seen.run.clone());
        Completion {
            event_id: self.event_id(outcome, &attempt),
            outcome,
            attempt,
            noticed_at: now,
            ended_at: seen.ended_at,
            clock_ahead: seen.clock_ahead,
            reason: None,
            job: None,
            result: seen.result.clone(),
            refused: false,
        }
    }

    /// Returns the run that ended now. For a source that tells nothing about runs, a job that was seen running again is another
    /// run.
    pub(super) fn run_of(&self, mut run: Run) -> Run {
        if let Some(known) = &self.completion
            && run.is_silent()
        {
            run.rerun = known.attempt.rerun + u32::from(self.seen_running);
        }
        run
    }

    /// Returns whether the event of `completion` was made before.
    fn knows(&self, completion: &Completion) -> bool {
        self.completion.as_ref().is_some_and(|known| {
            // `completed` may turn into `expired` later: still the same run, and its event was made. Any other change
            // is another run, also when both ended in the same second and the source tells whole seconds. A lost job
            // that turns up after all is news.
            let same = known.outcome == completion.outcome || completion.outcome == Outcome::Expired;
            same && known.outcome != Outcome::Lost && known.attempt.same_run(&completion.attempt)
        })
    }
}

/// Makes those of the progress events that go to some sink. The caller writes the watch.
fn make_progress(
    txn: &mut Txn<'_>,
    watch: &mut Watch,
    progress: &[Progress],
    route: &impl Fn(&Watch, EventType) -> Vec<String>,
    now: Time,
) -> Result<Vec<EventType>, StoreError> {
    let mut made = Vec::new();
    for &kind in progress {
        let sinks = route(watch, EventType::Progress(kind));
        if sinks.is_empty() {
            continue;
        }
        removal::drop_old_progress(txn, watch, KEPT_PROGRESS)?;
        if watch.progress_events.len() >= MAX_PROGRESS {
            tracing::warn!(
                source = watch.source, job_id = %watch.job_id, waiting = MAX_PROGRESS, "progress event skipped"
            );
            break;
        }
        watch.progress_count += 1;
        let step = ProgressStep {
            kind,
            status: watch.status.clone().unwrap_or_default(),
            event_id: progress_id(&watch.source, &watch.job_id, kind, watch.number, watch.progress_count),
            noticed_at: now,
        };
        let number = put_event(txn, watch, News::Progress(step), &sinks, now)?;
        watch.progress_events.push(number);
        made.push(EventType::Progress(kind));
    }
    Ok(made)
}
