//! Registers a job: its id becomes a durable watch.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    groups::{Joined, join},
    identity::{IdentifiedJob, identify},
};
use crate::{
    model::{
        group::GroupName,
        job::{JobId, Kind},
    },
    store::{
        Callback, Change, GroupRef, StepKind, StoreError, Watch, WatchStage,
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
    /// The kind of the job. Unset: its source has one kind alone.
    pub kind: Option<Kind>,
    /// Values for the paths of its source, beside the id. They are part of the job's identity, so a watch keeps those it has.
    pub vars: BTreeMap<String, String>,
    /// Merged with those of an existing watch.
    pub labels: BTreeMap<String, String>,
    /// The group that the job belongs to. A watch that has one keeps it.
    pub group: Option<GroupName>,
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
            kind: None,
            vars: BTreeMap::new(),
            labels: BTreeMap::new(),
            group: None,
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
    /// The watch belongs to this other group. Nothing was changed.
    OtherGroup(GroupName),
    /// The group is closed, and the job is none of its members. Nothing was changed.
    GroupClosed,
}

impl Registered {
    /// Returns whether nothing was changed because the registration was refused.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        !matches!(self, Self::New(_) | Self::Again(_) | Self::Existing(_))
    }
}

/// Registers jobs, each an operation of its own, so that a large batch stays within the batch size. Returns the result of each.
pub(in crate::store) fn register_all(
    txn: &mut Txn<'_>,
    registrations: Vec<Registration>,
    now: Time,
) -> Result<Vec<Registered>, StoreError> {
    let mut registered = Vec::with_capacity(registrations.len());
    for registration in registrations {
        registered.push(register(txn, registration, now)?);
        txn.end_operation()?;
    }
    Ok(registered)
}

/// Registers one job.
pub(in crate::store) fn register(
    txn: &mut Txn<'_>,
    asked: Registration,
    now: Time,
) -> Result<Registered, StoreError> {
    let found = identify(&asked.source, &asked.job_id, asked.kind.as_ref(), |key| {
        let entry = txn.job(key)?;
        Ok((entry, txn.watch_of(entry)?))
    });
    let (job, watch) = match found {
        Ok(IdentifiedJob { key, watch: Some(watch), .. }) => (key, watch),
        Ok(IdentifiedJob { key, kind, entry, watch: None }) => {
            let asked = Registration { kind, ..asked };
            let group = match joined(txn, None, &key, asked.group.as_ref(), now)? {
                Ok(group) => group,
                Err(unchanged) => return Ok(unchanged),
            };
            return Ok(Registered::New(add(txn, key, entry, asked, group, now)?));
        }
        Err(StoreError::Record(reason)) => return Ok(Registered::Unreadable(reason)),
        Err(error) => return Err(error),
    };
    let was_finished = watch.stage == WatchStage::Finished;
    let name = asked.group.clone();
    let mut watch = match merged(watch, asked, now) {
        Ok(watch) => watch,
        Err(unchanged) => return Ok(unchanged),
    };
    match joined(txn, Some(&watch), &job, name.as_ref(), now)? {
        Ok(group) => watch.group = group.or(watch.group),
        Err(unchanged) => return Ok(unchanged),
    }
    let watch = txn.put_watch(watch)?;
    txn.emit(Change::WatchOpened(Arc::clone(&watch)));
    Ok(if was_finished { Registered::Again(watch) } else { Registered::Existing(watch) })
}

/// Returns the group that a watch belongs to from now on, or else the answer that changes nothing.
fn joined(
    txn: &mut Txn<'_>,
    watch: Option<&Watch>,
    job: &JobKey,
    name: Option<&GroupName>,
    now: Time,
) -> Result<Result<Option<Box<GroupRef>>, Registered>, StoreError> {
    let Some(name) = name else { return Ok(Ok(None)) };
    match join(txn, watch, job, name, now) {
        Ok(Joined::Group(group)) => Ok(Ok(Some(Box::new(group)))),
        Ok(Joined::Other(present)) => Ok(Err(Registered::OtherGroup(present))),
        Ok(Joined::Closed) => Ok(Err(Registered::GroupClosed)),
        Err(StoreError::Record(reason)) => Ok(Err(Registered::Unreadable(reason))),
        Err(error) => Err(error),
    }
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
    watch.kind = watch.kind.or(asked.kind);
    watch.sinks = asked.sinks.or(watch.sinks);
    watch.callback = asked.callback.or(watch.callback);
    if asked.deadline.is_some() {
        watch.deadline_is_fixed = asked.deadline_is_fixed;
    }
    watch.deadline = asked.deadline.or(watch.deadline.filter(|deadline| *deadline > now));
    watch.traceparent = asked.traceparent.or(watch.traceparent);
    watch.updated_at = now;
    watch.history.push(now, StepKind::Again);
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
    group: Option<Box<GroupRef>>,
    now: Time,
) -> Result<Arc<Watch>, StoreError> {
    let watch = Watch { group, ..new_watch(txn.next_number()?, asked, now) };
    let watch = txn.add_watch(job, old, watch)?;
    txn.emit(Change::WatchOpened(Arc::clone(&watch)));
    Ok(watch)
}

fn new_watch(number: u64, asked: Registration, now: Time) -> Watch {
    Watch {
        kind: asked.kind,
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
