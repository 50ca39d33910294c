//! Which clock stamped the records, and what becomes of its stamps when the clock turns out to have been wrong.

use serde::{Deserialize, Serialize};

use super::{
    Delivery, DeliveryKey, Store, StoreError, Watch, following::put_pending, keys, registering::load,
    txn::Txn,
};
use crate::{
    model::delivery::DeliveryState,
    util::{clock::Period, units::Time},
};

/// Records that one commit moves at most.
const AT_ONCE: usize = 500;

/// The clock that stamps the records: written when it starts, and when it jumps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockMark {
    /// The id that the kernel gave this start of the machine; empty when it is unknown.
    pub boot_id: String,
    /// The milliseconds since that start when this was written.
    pub boot_ms: u64,
    /// The wall clock when this was written.
    pub wall: Time,
    /// The wall clock at the start of the stretch in which it did not jump.
    pub since: Time,
    /// The last time that the clock went ahead without this store's process. Unset when it went back since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leap: Option<Leap>,
}

/// The wall clock went ahead, and it is unknown whether so much time has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leap {
    /// The wall clock afterwards.
    pub at: Time,
    /// By how many milliseconds.
    pub by_ms: i64,
}

/// How many records were moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Watches.
    pub watches: usize,
    /// Pending deliveries.
    pub deliveries: usize,
}

impl Store {
    /// The clock that stamped the last records; `None` when it was never written down.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn clock_mark(&self) -> Result<Option<ClockMark>, StoreError> {
        self.read(|db| self.record(db, keys::CLOCK))
    }

    /// Writes down which clock stamps the records from now on.
    ///
    /// # Errors
    /// When it could not be stored.
    pub async fn set_clock_mark(&self, mark: ClockMark) -> Result<(), StoreError> {
        self.write(move |txn| txn.write(keys::CLOCK.to_vec(), &mark)).await
    }

    /// When the newest event was made: a time that the clock had reached.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn newest_stamp(&self) -> Result<Option<Time>, StoreError> {
        let number = self.newest_event().borrow().number;
        Ok(self.event(number)?.map(|event| event.created_at))
    }

    /// Moves what the clock stamped in `period` by so many milliseconds, so that ages stay what they are: open watches,
    /// finished ones that wait for retention, and pending deliveries. Events keep their times: they were told.
    ///
    /// # Errors
    /// When it could not be stored. What was moved by then does not lie in the period any more.
    pub async fn move_stamps(&self, period: Period, by: i64) -> Result<Moved, StoreError> {
        let (mut watches, mut deliveries) = (Vec::new(), Vec::new());
        self.read(|db| {
            for key in db.scan_prefix([keys::OPEN]).keys() {
                watches.extend(keys::number_of(&key?));
            }
            let until = keys::before(keys::CLOSED, period.until.after(std::time::Duration::from_millis(1)));
            for key in db.range(keys::before(keys::CLOSED, period.since)..until).keys() {
                watches.extend(keys::number_of(&key?));
            }
            for key in db.scan_prefix([keys::PENDING]).keys() {
                deliveries.extend(DeliveryKey::of_stored(&key?));
            }
            Ok(())
        })?;
        let shift = Shift { period, by };
        let mut moved = Moved::default();
        for some in watches.chunks(AT_ONCE) {
            let some = some.to_vec();
            moved.watches += self.write(move |txn| each(txn, some, |txn, n| shift.watch(txn, n))).await?;
        }
        for some in deliveries.chunks(AT_ONCE) {
            let some = some.to_vec();
            moved.deliveries +=
                self.write(move |txn| each(txn, some, |txn, key| shift.delivery(txn, key))).await?;
        }
        Ok(moved)
    }
}

/// Does the same for each of many records, each an operation of its own. Returns how many changed.
fn each<T>(
    txn: &mut Txn<'_>,
    records: Vec<T>,
    change: impl Fn(&mut Txn<'_>, T) -> Result<bool, StoreError>,
) -> Result<usize, StoreError> {
    let mut count = 0;
    for record in records {
        count += usize::from(change(txn, record)?);
        txn.end_operation()?;
    }
    Ok(count)
}

#[derive(Clone, Copy)]
struct Shift {
    period: Period,
    by: i64,
}

impl Shift {
    /// Moves a stamp that lies in the period. `false` when it does not.
    fn stamp(self, stamp: &mut Time) -> bool {
        let is_in = self.period.contains(*stamp);
        if is_in {
            stamp.0 = stamp.0.saturating_add(self.by);
        }
        is_in
    }

    fn watch(self, txn: &mut Txn<'_>, number: u64) -> Result<bool, StoreError> {
        let Some(mut watch) = load(txn, number)? else { return Ok(false) };
        let before = watch.clone();
        if self.stamp(&mut watch.updated_at) {
            // It was told beside a clock that was wrong; the next poll tells it again.
            watch.made_at = None;
        }
        self.stamp(&mut watch.created_at);
        if self.stamp(&mut watch.registered_at) && !watch.deadline_is_fixed {
            watch.deadline = watch.deadline.map(|deadline| Time(deadline.0.saturating_add(self.by)));
        }
        if let Some(closed_at) = watch.closed_at.as_mut() {
            let old = *closed_at;
            if self.stamp(closed_at) {
                txn.delete(keys::closed(old, number));
                txn.put(keys::closed(*closed_at, number), Vec::new());
            }
        }
        let changed = watch != before;
        if changed {
            txn.write::<Watch>(keys::watch(number), &watch)?;
        }
        Ok(changed)
    }

    fn delivery(self, txn: &mut Txn<'_>, key: DeliveryKey) -> Result<bool, StoreError> {
        let Some(mut delivery) = txn.read::<Delivery>(&key.key(keys::DELIVERY))? else { return Ok(false) };
        if delivery.state != DeliveryState::Pending {
            return Ok(false);
        }
        let before = delivery.clone();
        self.stamp(&mut delivery.created_at);
        // When the clock went ahead, an attempt may be due by it: one attempt too early is harmless, one too late is not.
        if self.stamp(&mut delivery.updated_at) && self.by < 0 {
            delivery.next_attempt_at = Time(delivery.next_attempt_at.0.saturating_add(self.by));
        }
        let changed = delivery != before;
        if changed {
            put_pending(txn, key, &delivery)?;
        }
        Ok(changed)
    }
}
