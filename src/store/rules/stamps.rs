//! Moves what a clock stamped that turned out to be wrong, so that ages stay what they are.

use super::put_pending;
use crate::{
    model::delivery::DeliveryState,
    store::{Delivery, DeliveryKey, StoreError, Watch, records::Txn},
    util::{clock::Period, units::Time},
};

/// Moves the stamps of a period by so many milliseconds.
#[derive(Clone, Copy)]
pub(in crate::store) struct Shift {
    pub(in crate::store) period: Period,
    pub(in crate::store) by: i64,
}

impl Shift {
    /// Moves the stamps of a watch. Returns whether it has one in the period.
    pub(in crate::store) fn watch(self, txn: &mut Txn<'_>, number: u64) -> Result<bool, StoreError> {
        let Some(watch) = txn.watch(number)? else { return Ok(false) };
        let moved = self.moved_watch(watch.clone());
        let changed = moved != watch;
        if changed {
            txn.put_watch(moved)?;
        }
        Ok(changed)
    }

    /// Moves the stamps of a pending delivery. Returns whether it has one in the period.
    pub(in crate::store) fn delivery(self, txn: &mut Txn<'_>, key: DeliveryKey) -> Result<bool, StoreError> {
        let delivery = txn.delivery(key)?.filter(|delivery| delivery.state == DeliveryState::Pending);
        let Some(delivery) = delivery else { return Ok(false) };
        let moved = self.moved_delivery(delivery.clone());
        let changed = moved != delivery;
        if changed {
            put_pending(txn, key, moved)?;
        }
        Ok(changed)
    }

    fn moved_watch(self, mut watch: Watch) -> Watch {
        if self.stamp(&mut watch.updated_at) {
            // It was told beside a clock that was wrong; the next poll tells it again.
            watch.job_created_at = None;
        }
        self.stamp(&mut watch.created_at);
        if self.stamp(&mut watch.registered_at) && !watch.deadline_is_fixed {
            watch.deadline = watch.deadline.map(|deadline| Time(deadline.0.saturating_add(self.by)));
        }
        if let Some(closed_at) = watch.closed_at.as_mut() {
            self.stamp(closed_at);
        }
        for step in &mut watch.history.steps {
            self.stamp(&mut step.at);
        }
        watch
    }

    fn moved_delivery(self, mut delivery: Delivery) -> Delivery {
        self.stamp(&mut delivery.created_at);
        // When the clock went ahead, an attempt may be due by it: one attempt too early is harmless, one too late is not.
        if self.stamp(&mut delivery.updated_at) && self.by < 0 {
            delivery.next_attempt_at = Time(delivery.next_attempt_at.0.saturating_add(self.by));
        }
        delivery
    }

    /// Moves a stamp that lies in the period. Returns `false` when it does not.
    fn stamp(self, stamp: &mut Time) -> bool {
        let is_in = self.period.contains(*stamp);
        if is_in {
            stamp.0 = stamp.0.saturating_add(self.by);
        }
        is_in
    }
}
