//! What each operation changes: records in, records and changes out. No rule knows a clock, a disk or a task.

pub(super) mod backfill;
pub(super) mod backlog;
pub(super) mod bodies;
pub(super) mod completion;
pub(super) mod delivery;
pub(super) mod groups;
pub(super) mod identity;
pub(super) mod notices;
pub(super) mod polling;
pub(super) mod registration;
pub(super) mod removal;
pub(super) mod stamps;

use std::sync::Arc;

use super::{Change, Delivery, DeliveryKey, Event, StoreError, Topic, Watch, WatchStage, records::Txn};
use crate::{model::delivery::DeliveryState, util::units::Time};

/// Writes a finished watch. It is closed once no delivery is pending.
fn settle(txn: &mut Txn<'_>, mut watch: Watch, now: Time) -> Result<(), StoreError> {
    watch.updated_at = now;
    watch.closed_at = (watch.pending == 0).then_some(now);
    let watch = txn.put_watch(watch)?;
    emit_closed(txn, watch.source.clone(), watch.number);
    Ok(())
}

/// Writes a watch whose count of pending deliveries changed.
fn put_watch(txn: &mut Txn<'_>, mut watch: Watch, now: Time) -> Result<(), StoreError> {
    if watch.stage == WatchStage::Finished {
        return settle(txn, watch, now);
    }
    watch.updated_at = now;
    txn.put_watch(watch)?;
    Ok(())
}

/// What changes for the subject of an event when one of its deliveries changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// A delivery is pending that was not.
    Added,
    /// A delivery is no longer pending, and no dead letter.
    Settled,
    /// A delivery is a dead letter that was pending.
    Died,
    /// A dead letter is pending again.
    Revived,
}

/// Counts a change of a delivery for what its event is about. Returns `false` when that is gone.
fn count(txn: &mut Txn<'_>, event: u64, topic: &Topic, step: Step, now: Time) -> Result<bool, StoreError> {
    let Some(number) = topic.watch() else { return close_event(txn, event, now) };
    let Some(mut watch) = txn.watch(number)? else { return Ok(false) };
    match step {
        Step::Added | Step::Revived => watch.pending += 1,
        Step::Settled | Step::Died => watch.pending = watch.pending.saturating_sub(1),
    }
    if let Some(dead) = watch.dead_letters_of(event) {
        match step {
            Step::Died => *dead += 1,
            Step::Revived => *dead = dead.saturating_sub(1),
            Step::Added | Step::Settled => {}
        }
    }
    put_watch(txn, watch, now)?;
    Ok(true)
}

/// Returns whether what an event is about, which counts its deliveries, is still there.
fn is_there(txn: &mut Txn<'_>, event: u64, topic: &Topic) -> Result<bool, StoreError> {
    match topic.watch() {
        Some(number) => Ok(txn.watch(number)?.is_some()),
        None => Ok(txn.event(event)?.is_some()),
    }
}

/// Writes since when no delivery of an event about no job is pending. Returns `false` when the event is gone.
fn close_event(txn: &mut Txn<'_>, number: u64, now: Time) -> Result<bool, StoreError> {
    let Some(old) = txn.event(number)? else { return Ok(false) };
    let deliveries = txn.deliveries(number)?;
    let is_pending = deliveries.values().flatten().any(|one| one.state == DeliveryState::Pending);
    let closed_at = if is_pending { None } else { old.closed_at.or(Some(now)) };
    if closed_at != old.closed_at {
        txn.replace_event(number, &old, Event { closed_at, ..old.clone() })?;
    }
    Ok(true)
}

/// Tells that a watch is finished or gone.
fn emit_closed(txn: &mut Txn<'_>, source: String, watch: u64) {
    txn.emit(Change::WatchClosed { source, watch });
    txn.emit(Change::WatchSettled { watch });
}

/// Tells the stage of a watch again. A commit that failed after its writes reached the disk may have told nobody of it.
fn emit_again(txn: &mut Txn<'_>, watch: Watch) {
    if watch.stage == WatchStage::Finished {
        return emit_closed(txn, watch.source, watch.number);
    }
    txn.emit(Change::WatchOpened(Arc::new(watch)));
}

/// Writes a pending delivery, and tells when it is due.
fn put_pending(txn: &mut Txn<'_>, key: DeliveryKey, delivery: Delivery) -> Result<(), StoreError> {
    let (sink, due, as_of) = (delivery.sink.clone(), delivery.next_attempt_at, delivery.updated_at);
    txn.put_delivery(key, delivery)?;
    txn.emit(Change::DeliveryDue { sink, key, due, as_of });
    Ok(())
}

/// Does the same for each of many records, each an operation of its own. Returns how many changed.
pub(super) fn each<T>(
    txn: &mut Txn<'_>,
    records: Vec<T>,
    change: impl Fn(&mut Txn<'_>, T) -> Result<bool, StoreError>,
) -> Result<u64, StoreError> {
    let mut count = 0;
    for record in records {
        count += u64::from(change(txn, record)?);
        txn.end_operation()?;
    }
    Ok(count)
}
