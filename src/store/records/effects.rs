//! What an operation writes, and what it tells.

use std::{collections::BTreeMap, sync::Arc};

use super::{JobEntry, JobKey, Pending};
use crate::{
    store::{Change, ClockMark, Delivery, DeliveryKey, Event, NewestEvent, SegmentUse, Watch},
    util::units::Time,
};

/// Values to write, and `None` for keys to delete.
pub(in crate::store) type Table<K, V> = BTreeMap<K, Option<V>>;

/// The writes of whole operations. A backend applies all of them or none.
#[derive(Debug, Default)]
pub(in crate::store) struct Effects {
    pub(in crate::store) next_number: Option<u64>,
    pub(in crate::store) clock_mark: Option<ClockMark>,
    pub(in crate::store) watches: Table<u64, Arc<Watch>>,
    pub(in crate::store) events: Table<u64, Event>,
    pub(in crate::store) deliveries: Table<DeliveryKey, Delivery>,
    pub(in crate::store) paused: Table<String, Time>,
    pub(in crate::store) learned: Table<String, Vec<u8>>,
    // The index. Only the transaction writes these, from the records.
    pub(in crate::store) jobs: Table<JobKey, JobEntry>,
    pub(in crate::store) dropped: Table<(Time, JobKey), ()>,
    pub(in crate::store) open: Table<u64, ()>,
    pub(in crate::store) closed: Table<(Time, u64), ()>,
    pub(in crate::store) pending: Table<DeliveryKey, Pending>,
    /// What events need of the segments. Follows from the events.
    pub(in crate::store) segments: Table<u64, SegmentUse>,
    /// The events that are new, and the number of the last.
    pub(in crate::store) made: NewestEvent,
    /// Told once all of it is durable.
    pub(in crate::store) changes: Vec<Change>,
}

impl Effects {
    /// Returns how many keys are written.
    pub(in crate::store) fn len(&self) -> usize {
        let Self { next_number, clock_mark, watches, events, deliveries, paused, learned, .. } = self;
        let Self { jobs, dropped, open, closed, pending, segments, .. } = self;
        usize::from(next_number.is_some())
            + usize::from(clock_mark.is_some())
            + [watches.len(), events.len(), deliveries.len(), paused.len(), learned.len()]
                .iter()
                .sum::<usize>()
            + [jobs.len(), dropped.len(), open.len(), closed.len(), pending.len(), segments.len()]
                .iter()
                .sum::<usize>()
    }

    /// Adds the effects of a later operation. They are few, so each is inserted: to append a table costs as much as
    /// both of them.
    pub(super) fn extend(&mut self, later: Self) {
        self.next_number = later.next_number.or(self.next_number);
        self.clock_mark = later.clock_mark.or_else(|| self.clock_mark.take());
        self.watches.extend(later.watches);
        self.events.extend(later.events);
        self.deliveries.extend(later.deliveries);
        self.paused.extend(later.paused);
        self.learned.extend(later.learned);
        self.jobs.extend(later.jobs);
        self.dropped.extend(later.dropped);
        self.open.extend(later.open);
        self.closed.extend(later.closed);
        self.pending.extend(later.pending);
        self.segments.extend(later.segments);
        self.made = self.made.followed_by(later.made);
        self.changes.extend(later.changes);
    }
}
