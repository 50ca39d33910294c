//! Which clock stamped the records, and what becomes of its stamps when the clock turns out to have been wrong.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    Store, StoreError,
    records::passed_over,
    rules::{each, stamps::Shift},
};
use crate::util::{clock::Period, units::Time};

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
    pub watches: u64,
    /// Pending deliveries.
    pub deliveries: u64,
}

impl Store {
    /// Returns the clock that stamped the last records; `None` when it was never written down.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn clock_mark(&self) -> Result<Option<ClockMark>, StoreError> {
        self.get(|records| passed_over(records.clock_mark())).await
    }

    /// Records which clock stamps the records from now on.
    ///
    /// # Errors
    /// When it could not be stored.
    pub async fn set_clock_mark(&self, mark: ClockMark) -> Result<(), StoreError> {
        self.write(move |txn| {
            txn.set_clock_mark(mark);
            Ok(())
        })
        .await
    }

    /// Returns when the newest event was made: a time that the clock had reached.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn newest_stamp(&self) -> Result<Option<Time>, StoreError> {
        let number = self.newest_event().borrow().number;
        Ok(self.event(number).await?.map(|event| event.created_at))
    }

    /// Moves what the clock stamped in `period` by so many milliseconds, so that ages stay what they are: open watches,
    /// finished ones that wait for retention, and pending deliveries. Events keep their times: they were told.
    ///
    /// # Errors
    /// When it could not be stored. What was moved by then does not lie in the period any more.
    pub async fn move_stamps(&self, period: Period, by: i64) -> Result<Moved, StoreError> {
        let stamped = self.scan(move |records| {
            let mut watches = records.open().collect::<Result<Vec<_>, _>>()?;
            for closed in records.closed(period.since..period.until.after(Duration::from_millis(1))) {
                watches.push(closed?.1);
            }
            let pending = records.all_pending(None, u64::MAX).map(|entry| Ok(entry?.0));
            Ok((watches, pending.collect::<Result<Vec<_>, StoreError>>()?))
        });
        let (watches, deliveries) = stamped.await?;
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
