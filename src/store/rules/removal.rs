//! Removes watches that a caller ended, and finished ones after retention.

use super::{emit_closed, groups::forget_member};
use crate::{
    model::delivery::DeliveryState,
    store::{
        Change, Completion, News, StoreError, Topic, Watch,
        records::{JobEntry, JobKey, Txn},
    },
    util::units::Time,
};

/// The body of an event that is a file of its own: the number of its watch, and its id.
pub(in crate::store) type BodyKey = (u64, String);

/// Removes the watch of a job. Returns the bodies that nothing refers to any more; `None` when there is no watch.
pub(in crate::store) fn remove(txn: &mut Txn<'_>, job: &JobKey) -> Result<Option<Vec<BodyKey>>, StoreError> {
    match txn.find(job)? {
        Some(watch) => delete_watch(txn, watch, None).map(Some),
        None => Ok(None),
    }
}

/// A watch whose record, or whose index entry, cannot be read, and all that belongs to it.
#[derive(Debug, Default)]
pub(in crate::store) struct UnreadableWatch {
    /// Unset when its index entry cannot be read.
    pub(in crate::store) number: Option<u64>,
    pub(in crate::store) events: Vec<u64>,
    pub(in crate::store) closed: Vec<Time>,
    /// The groups that know its job as a member.
    pub(in crate::store) groups: Vec<u64>,
}

/// Removes a watch that cannot be read. Returns `false` when another one took its place since.
pub(in crate::store) fn remove_unreadable(
    txn: &mut Txn<'_>,
    job: JobKey,
    found: &UnreadableWatch,
) -> Result<bool, StoreError> {
    let number = match txn.job(&job) {
        Ok(Some(JobEntry::Watch(number))) => Some(number),
        Err(StoreError::Record(_)) => None,
        Ok(_) => return Ok(false),
        Err(error) => return Err(error),
    };
    if number != found.number {
        return Ok(false);
    }
    let source = job.source.clone();
    for group in &found.groups {
        forget_member(txn, *group, &job)?;
    }
    txn.forget_job(job)?;
    let Some(number) = number else { return Ok(true) };
    for event in &found.events {
        delete_event(txn, number, *event)?;
    }
    txn.purge_watch(number, &found.closed);
    emit_closed(txn, source, number);
    Ok(true)
}

/// Drops a watch that was closed before then, and leaves its tombstone. Returns the bodies that nothing refers to any more;
/// `None` when it was registered or redelivered again since it was read.
pub(in crate::store) fn drop_finished(
    txn: &mut Txn<'_>,
    number: u64,
    before: Time,
    now: Time,
) -> Result<Option<Vec<BodyKey>>, StoreError> {
    let watch = txn.watch(number)?.filter(|watch| watch.closed_at.is_some_and(|at| at < before));
    watch.map(|watch| delete_watch(txn, watch, Some(now))).transpose()
}

/// Drops an event about no job that was closed at `at`, and the group that it is about, whose members are gone. Returns its body,
/// if it is a file; `None` for one that was redelivered since it was read.
pub(in crate::store) fn drop_event(
    txn: &mut Txn<'_>,
    number: u64,
    at: Time,
    before: Time,
) -> Result<Option<Vec<BodyKey>>, StoreError> {
    let Some(event) = txn.event(number)? else {
        // Nothing else leads to one that cannot be read.
        delete_event(txn, 0, number)?;
        txn.purge_event(number, at);
        return Ok(Some(Vec::new()));
    };
    if event.closed_at.is_none_or(|at| at >= before) {
        return Ok(None);
    }
    if let Topic::Group(group) = &event.topic
        && let Some(group) = txn.group(group.number)?
    {
        txn.delete_group(&group);
    }
    Ok(Some(delete_event(txn, event.topic.owner(), number)?.into_iter().collect()))
}

/// Forgets a job that retention dropped at that time.
pub(in crate::store) fn forget_dropped(txn: &mut Txn<'_>, at: Time, job: JobKey) -> Result<(), StoreError> {
    // A later tombstone of the same job stays, and so does a watch.
    if let Ok(Some(JobEntry::Dropped(last))) = txn.job(&job)
        && last <= at
    {
        txn.forget_job(job.clone())?;
    }
    txn.forget_tombstone(at, job);
    Ok(())
}

/// Deletes a watch with its events and deliveries.
fn delete_watch(
    txn: &mut Txn<'_>,
    watch: Watch,
    tombstone: Option<Time>,
) -> Result<Vec<BodyKey>, StoreError> {
    let mut bodies = Vec::new();
    for event in watch.all_events() {
        bodies.extend(delete_event(txn, watch.number, event)?);
    }
    // The event of the last completion tells its body, too, unless its record cannot be read.
    for completion in watch.pending_completion.iter().chain(&watch.completion) {
        if !is_small(completion) && !bodies.iter().any(|(_, event_id)| *event_id == completion.event_id) {
            bodies.push((watch.number, completion.event_id.clone()));
        }
    }
    txn.delete_watch(&watch, tombstone)?;
    emit_closed(txn, watch.source, watch.number);
    Ok(bodies)
}

/// Deletes an event with its deliveries. Returns the body that is a file, under the number `watch`.
fn delete_event(txn: &mut Txn<'_>, watch: u64, number: u64) -> Result<Option<BodyKey>, StoreError> {
    let event = txn.event(number)?;
    txn.delete_event(number, event.as_ref())?;
    for key in txn.deliveries(number)?.into_keys() {
        // The entry names the sink, so that a delivery which cannot be read goes as well.
        if let Some(pending) = txn.pending(key)? {
            txn.emit(Change::DeliveryGone { sink: pending.sink, key });
        }
        txn.delete_delivery(key)?;
    }
    Ok(event.and_then(|event| match event.news {
        News::Completion(completion) if !is_small(&completion) => Some((watch, completion.event_id)),
        News::Group(end) if end.job.at.is_none() => Some((watch, end.event_id)),
        News::Completion(_) | News::Progress(_) | News::Group(_) | News::Notice(_) => None,
    }))
}

/// Returns whether a body goes with its segment.
fn is_small(completion: &Completion) -> bool {
    completion.job.as_ref().is_some_and(|job| job.at.is_some())
}

/// Drops the oldest events of a watch whose job runs again and again, as long as they are settled. Their bodies
/// files stay until the watch goes, so a delivery in flight keeps what it reads.
pub(super) fn drop_old_events(txn: &mut Txn<'_>, watch: &mut Watch, keep: usize) -> Result<(), StoreError> {
    while watch.end_events.len() > keep {
        let oldest = watch.end_events[0];
        if any_delivery(txn, oldest, |state| state == DeliveryState::Pending)? {
            return Ok(());
        }
        delete_event(txn, watch.number, oldest)?;
        watch.end_events.remove(0);
    }
    Ok(())
}

/// Drops the oldest progress events of a watch that every sink has taken, until `keep` are left. Dead letters
/// stay, so there may be more.
pub(super) fn drop_old_progress(txn: &mut Txn<'_>, watch: &mut Watch, keep: usize) -> Result<(), StoreError> {
    let mut surplus = watch.progress_events.len().saturating_sub(keep);
    let mut left = Vec::with_capacity(watch.progress_events.len());
    for event in std::mem::take(&mut watch.progress_events) {
        if surplus > 0 && !any_delivery(txn, event, |state| state != DeliveryState::Delivered)? {
            delete_event(txn, watch.number, event)?;
            surplus -= 1;
        } else {
            left.push(event);
        }
    }
    watch.progress_events = left;
    Ok(())
}

fn any_delivery(txn: &mut Txn<'_>, event: u64, is: fn(DeliveryState) -> bool) -> Result<bool, StoreError> {
    Ok(txn.deliveries(event)?.into_values().flatten().any(|delivery| is(delivery.state)))
}
