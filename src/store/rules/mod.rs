//! What each operation changes: records in, records and changes out. No rule knows a clock, a disk or a task.

pub(super) mod backfill;
pub(super) mod backlog;
pub(super) mod bodies;
pub(super) mod completion;
pub(super) mod delivery;
pub(super) mod polling;
pub(super) mod registration;
pub(super) mod removal;
pub(super) mod stamps;

use std::sync::Arc;

use super::{Change, Delivery, DeliveryKey, StoreError, Watch, WatchStage, records::Txn};
use crate::util::units::Time;

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
fn put_pending(txn: &mut Txn<'_>, key: DeliveryKey, delivery: Delivery) {
    let (sink, due, as_of) = (delivery.sink.clone(), delivery.next_attempt_at, delivery.updated_at);
    txn.put_delivery(key, delivery);
    txn.emit(Change::DeliveryDue { sink, key, due, as_of });
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
