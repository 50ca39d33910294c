//! Who is told of what becomes durable.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::sync::watch;

use super::{
    Change, NewestEvent, StoreError,
    records::{Committed, Records},
    watches,
};
use crate::util::clock;

type ChangeListener = Box<dyn Fn(Change) + Send + Sync>;
type FlushListener = Box<dyn Fn(Duration) + Send + Sync>;

/// A backend calls these from the thread that commits.
#[derive(Default)]
pub(super) struct Listeners {
    pub(super) change: OnceLock<ChangeListener>,
    pub(super) flush: OnceLock<FlushListener>,
    pub(super) newest: watch::Sender<NewestEvent>,
}

impl Listeners {
    /// Tells what a durable commit changed.
    pub(super) fn emit(&self, Committed { changes, newest, .. }: Committed) {
        if newest.count > 0 {
            self.newest.send_modify(|known| *known = known.followed_by(newest));
        }
        if let Some(listener) = self.change.get() {
            changes.into_iter().for_each(listener);
        }
    }

    /// Tells how long a group of writes took to become durable.
    pub(super) fn emit_flush(&self, took: Duration) {
        if let Some(listener) = self.flush.get() {
            listener(took);
        }
    }

    /// Tells everything that is open, as at the start. A commit that failed may have become durable all the same, and nobody
    /// was told of it.
    pub(super) fn emit_open(&self, records: &dyn Records) -> Result<(), StoreError> {
        let number = records.newest_event()?;
        self.newest.send_modify(|newest| newest.number = newest.number.max(number));
        let Some(listener) = self.change.get() else { return Ok(()) };
        watches::each_open(records, |watch| listener(Change::WatchOpened(Arc::new(watch))))?;
        for entry in records.all_pending(None, u64::MAX) {
            let (key, pending) = entry?;
            listener(Change::DeliveryDue { sink: pending.sink, key, due: pending.due, as_of: clock::now() });
        }
        Ok(())
    }
}
