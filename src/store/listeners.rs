//! Who is told of what becomes durable.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::sync::watch;

use super::{
    Change, NewestEvent, StoreError,
    counts::Counting,
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
    pub(super) counts: Counting,
    /// Counts the commits that changed anything that callers see.
    pub(super) revision: watch::Sender<u64>,
    access: watch::Sender<Access>,
}

/// Whether the records can be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Access {
    /// Not yet: the database is away.
    #[default]
    Opening,
    Open,
    /// Never again, by this process: another one has the database.
    Lost(String),
}

impl Listeners {
    /// Tells what a durable commit changed.
    pub(super) fn emit(&self, committed: Committed) {
        let Committed { changes, newest, changes_shown, counted, .. } = committed;
        self.counts.apply(counted);
        if newest.count > 0 {
            self.newest.send_modify(|known| *known = known.followed_by(newest));
        }
        if let Some(listener) = self.change.get() {
            changes.into_iter().for_each(listener);
        }
        if changes_shown {
            // Last, so that anyone who learns of it finds the tasks told.
            self.revise();
        }
    }

    fn revise(&self) {
        self.revision.send_modify(|revision| *revision += 1);
    }

    /// Tells that the records can be read.
    pub(super) fn opened(&self) {
        self.access.send_replace(Access::Open);
    }

    /// Tells that the database is not this process's any more.
    pub(super) fn lost(&self, reason: &str) {
        self.access.send_replace(Access::Lost(reason.to_owned()));
    }

    /// Whether the records can be read, as that changes.
    pub(super) fn access(&self) -> watch::Receiver<Access> {
        self.access.subscribe()
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
        self.counts.begin_again();
        self.revise();
        let Some(listener) = self.change.get() else { return Ok(()) };
        watches::each_open(records, |watch| listener(Change::WatchOpened(Arc::new(watch))))?;
        if records.due_groups().next().transpose()?.is_some() {
            listener(Change::GroupDue);
        }
        for entry in records.all_pending(None, u64::MAX) {
            let (key, pending) = entry?;
            listener(Change::DeliveryDue { sink: pending.sink, key, due: pending.due, as_of: clock::now() });
        }
        Ok(())
    }
}
