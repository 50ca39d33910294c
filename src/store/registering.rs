//! The way in: a job id becomes a durable watch.

use std::collections::BTreeMap;

use super::{Callback, Change, Stage, Store, StoreError, Watch, codec, keys, txn::Txn};
use crate::{model::job::JobId, telemetry::TraceParent, util::units::Time};

/// The most labels a watch can have.
pub const MAX_LABELS: usize = 16;

/// What a caller asks for.
#[derive(Clone, Debug)]
pub struct Registration {
    /// The source's name.
    pub source: String,
    /// The job.
    pub job_id: JobId,
    /// What the paths of its source take beside the id. They say which job it is, so a watch keeps those it has.
    pub vars: BTreeMap<String, String>,
    /// Merged with those of a watch that is there already.
    pub labels: BTreeMap<String, String>,
    /// Replaces those of a watch that is there already.
    pub sinks: Option<Vec<String>>,
    /// Replaces that of a watch that is there already.
    pub callback: Option<Callback>,
    /// Replaces that of a watch that is there already.
    pub deadline: Option<Time>,
    /// It is an instant that the caller named, and not a span from now.
    pub deadline_is_fixed: bool,
    /// Replaces that of a watch that is there already.
    pub traceparent: Option<TraceParent>,
    /// Leave a finished watch as it is, instead of looking again.
    pub only_new: bool,
}

impl Registration {
    /// A plain registration.
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

/// What became of a registration.
#[derive(Clone, Debug)]
pub enum Registered {
    /// There was none: it is watched from now on.
    New(Watch),
    /// It had ended: it is watched again.
    Again(Watch),
    /// It is being watched already.
    Existing(Watch),
    /// The labels it has and the new ones together are too many; nothing was changed.
    TooManyLabels,
    /// It has a record that cannot be read, for this reason; nothing was changed.
    Unreadable(String),
    /// It is another job: one with this id is watched with other variables. Nothing was changed.
    OtherVars,
}

impl Store {
    /// Registers all of `registrations` in one durable commit and tells what became of each, in their order.
    ///
    /// # Errors
    /// When they could not be stored; none of them counts as accepted then.
    pub async fn register(
        &self,
        registrations: Vec<Registration>,
        now: Time,
    ) -> Result<Vec<Registered>, StoreError> {
        self.write(move |txn| {
            let mut registered = Vec::with_capacity(registrations.len());
            for registration in registrations {
                registered.push(register(txn, registration, now)?);
                // Each is an operation of its own, so that a large batch stays within the batch size.
                txn.end_operation()?;
            }
            Ok(registered)
        })
        .await
    }
}

fn register(txn: &mut Txn<'_>, asked: Registration, now: Time) -> Result<Registered, StoreError> {
    let mut watch = match find(txn, &asked.source, &asked.job_id) {
        Ok(Some(watch)) => watch,
        Ok(None) => return Ok(Registered::New(add(txn, asked, now)?)),
        Err(StoreError::Record(reason)) => return Ok(Registered::Unreadable(reason)),
        Err(error) => return Err(error),
    };
    if !asked.vars.is_empty() && watch.vars != asked.vars {
        return Ok(Registered::OtherVars);
    }
    let mut labels = watch.labels.clone();
    labels.extend(asked.labels);
    if labels.len() > MAX_LABELS {
        return Ok(Registered::TooManyLabels);
    }
    if watch.stage == Stage::Ended && asked.only_new {
        return Ok(Registered::Existing(watch));
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
    let finished = watch.stage == Stage::Ended;
    match watch.stage {
        Stage::Ended => {
            if let Some(at) = watch.closed_at.take() {
                txn.delete(keys::closed(at, watch.number));
            }
            watch.stage = Stage::Watching;
            watch.registered_at = now;
            watch.seen_running = false;
            watch.last_error = None;
            txn.put(keys::open(watch.number), Vec::new());
        }
        // The run whose end is being fetched may not be the last: look again afterwards.
        Stage::Fetching => watch.again = true,
        Stage::Watching => {}
    }
    txn.write(keys::watch(watch.number), &watch)?;
    txn.tell(Change::Follow(watch.clone()));
    Ok(if finished { Registered::Again(watch) } else { Registered::Existing(watch) })
}

fn add(txn: &mut Txn<'_>, asked: Registration, now: Time) -> Result<Watch, StoreError> {
    let watch = Watch {
        number: txn.next_number()?,
        source: asked.source,
        job_id: asked.job_id,
        vars: asked.vars,
        labels: asked.labels,
        sinks: asked.sinks,
        callback: asked.callback,
        traceparent: asked.traceparent,
        created_at: now,
        registered_at: now,
        updated_at: now,
        deadline: asked.deadline,
        deadline_is_fixed: asked.deadline_is_fixed,
        stage: Stage::Watching,
        status: None,
        made_at: None,
        endpoint: None,
        metadata: None,
        last_body: None,
        key: None,
        polls: 0,
        ending: None,
        end: None,
        seen_running: false,
        again: false,
        started: None,
        events: Vec::new(),
        progress: Vec::new(),
        steps: 0,
        pending: 0,
        dead: 0,
        dead_since: 0,
        closed_at: None,
        last_error: None,
    };
    txn.put(keys::id(&watch.source, &watch.job_id), [b"+".as_slice(), &watch.number.to_be_bytes()].concat());
    txn.put(keys::open(watch.number), Vec::new());
    txn.write(keys::watch(watch.number), &watch)?;
    txn.tell(Change::Follow(watch.clone()));
    Ok(watch)
}

/// The watch of a job, as this commit sees it. [`StoreError::Record`] when there is one that cannot be read.
pub(super) fn find(txn: &Txn<'_>, source: &str, job_id: &JobId) -> Result<Option<Watch>, StoreError> {
    match txn.get(&keys::id(source, job_id))?.as_deref() {
        Some([b'+', number @ ..]) => match keys::number_of(number) {
            Some(number) => match load(txn, number)? {
                // There, and not to be read: the error says why.
                None => txn.get(&keys::watch(number))?.map(|bytes| codec::decode(&bytes)).transpose(),
                found => Ok(found),
            },
            None => Err(StoreError::Record("an index entry has no number".to_owned())),
        },
        _ => Ok(None),
    }
}

/// The watch with this number, as this commit sees it; `None` also when its record cannot be read.
pub(super) fn load(txn: &Txn<'_>, number: u64) -> Result<Option<Watch>, StoreError> {
    let watch = txn.read::<Watch>(&keys::watch(number))?;
    Ok(watch.map(|watch| Watch { number, ..watch }))
}
