//! Registers a job: its id becomes a durable watch.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    model::job::JobId,
    store::{
        Callback, Change, StoreError, Watch, WatchStage,
        records::{JobEntry, JobKey, Txn},
    },
    telemetry::TraceParent,
    util::units::Time,
};

/// The most labels that a watch can have.
pub const MAX_LABELS: usize = 16;

/// What a caller asks for.
#[derive(Clone, Debug)]
pub struct Registration {
    /// The source's name.
    pub source: String,
    /// The job.
    pub job_id: JobId,
    /// Values for the paths of its source, beside the id. They are part of the job's identity, so a watch keeps those it has.
    pub vars: BTreeMap<String, String>,
    /// Merged with those of an existing watch.
    pub labels: BTreeMap<String, String>,
    /// Replaces those of an existing watch.
    pub sinks: Option<Vec<String>>,
    /// Replaces that of an existing watch.
    pub callback: Option<Callback>,
    /// Replaces that of an existing watch.
    pub deadline: Option<Time>,
    /// The caller named that instant, rather than a span from now.
    pub deadline_is_fixed: bool,
    /// Replaces that of an existing watch.
    pub traceparent: Option<TraceParent>,
    /// Leaves a finished watch as it is, instead of watching its job again.
    pub only_new: bool,
}

impl Registration {
    /// Returns a plain registration.
    #[must_use]
    pub fn new(source: impl Into<String>, job_id: JobId) -> Self {
        Self {
            source: source.into(),
            job_id,
            vars: BTreeMap::new(),
            labels: BTreeMap::new(),
            sinks: None,
            callback: None,
            deadline: None,
            deadline_is_fixed: false,
            traceparent: None,
            only_new: false,
        }
    }
}

/// The result of a registration.
#[derive(Clone, Debug)]
pub enum Registered {
    /// The job is watched from now on.
    New(Arc<Watch>),
    /// Its watch was finished. The job is watched again.
    Again(Arc<Watch>),
    /// The job is being watched already.
    Existing(Arc<Watch>),
    /// The labels that the watch has and the new ones together are too many. Nothing was changed.
    TooManyLabels,
    /// The watch has a record that cannot be read, for this reason. Nothing was changed.
    Unreadable(String),
    /// The job with this id is watched with other variables, so it is another job. Nothing was changed.
    OtherVars,
}

/// Registers one job.
pub(in crate::store) fn register(
    txn: &mut Txn<'_>,
    asked: Registration,
    now: Time,
) -> Result<Registered, StoreError> {
    let job = JobKey::new(&asked.source, &asked.job_id);
    let found = txn.job(&job).and_then(|entry| Ok((txn.watch_of(entry)?, entry)));
    let watch = match found {
        Ok((Some(watch), _)) => watch,
        Ok((None, entry)) => return Ok(Registered::New(add(txn, job, entry, asked, now)?)),
        Err(StoreError::Record(reason)) => return Ok(Registered::Unreadable(reason)),
        Err(error) => return Err(error),
    };
    let was_finished = watch.stage == WatchStage::Finished;
    let watch = match merged(watch, asked, now) {
        Ok(watch) => watch,
        Err(unchanged) => return Ok(unchanged),
    };
    let watch = txn.put_watch(watch)?;
    txn.emit(Change::WatchOpened(Arc::clone(&watch)));
    Ok(if was_finished { Registered::Again(watch) } else { Registered::Existing(watch) })
}

/// Returns the watch with what was asked for, or else the answer that changes nothing.
fn merged(mut watch: Watch, asked: Registration, now: Time) -> Result<Watch, Registered> {
    if !asked.vars.is_empty() && watch.vars != asked.vars {
        return Err(Registered::OtherVars);
    }
    let mut labels = watch.labels.clone();
    labels.extend(asked.labels);
    if labels.len() > MAX_LABELS {
        return Err(Registered::TooManyLabels);
    }
    if watch.stage == WatchStage::Finished && asked.only_new {
        return Err(Registered::Existing(Arc::new(watch)));
    }
    watch.labels = labels;
    watch.sinks = asked.sinks.or(watch.sinks);
    watch.callback = asked.callback.or(watch.callback);
    if asked.deadline.is_some() {
        watch.deadline_is_fixed = asked.deadline_is_fixed;
    }
    watch.deadline = asked.deadline.or(watch.deadline.filter(|deadline| *deadline > now));
    watch.traceparent = asked.traceparent.or(watch.traceparent);
    watch.updated_at = now;
    match watch.stage {
        WatchStage::Finished => {
            watch.closed_at = None;
            watch.stage = WatchStage::Watching;
            watch.registered_at = now;
            watch.seen_running = false;
            watch.last_error = None;
        }
        // The run whose result is being fetched may not be the last.
        WatchStage::Fetching => watch.rewatch = true,
        WatchStage::Watching => {}
    }
    Ok(watch)
}

fn add(
    txn: &mut Txn<'_>,
    job: JobKey,
    old: Option<JobEntry>,
    asked: Registration,
    now: Time,
) -> Result<Arc<Watch>, StoreError> {
    let watch = new_watch(txn.next_number()?, asked, now);
    let watch = txn.add_watch(job, old, watch)?;
    txn.emit(Change::WatchOpened(Arc::clone(&watch)));
    Ok(watch)
}

fn new_watch(number: u64, asked: Registration, now: Time) -> Watch {
    Watch {
        vars: asked.vars,
        labels: asked.labels,
        sinks: asked.sinks,
        callback: asked.callback,
        traceparent: asked.traceparent,
        deadline: asked.deadline,
        deadline_is_fixed: asked.deadline_is_fixed,
        ..Watch::new(number, asked.source, asked.job_id, now)
    }
}
