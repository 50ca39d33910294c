//! What an operation writes, and what it tells.

use std::{collections::BTreeMap, sync::Arc};

use super::{JobEntry, JobKey, ListKey, Pending};
use crate::{
    model::group::GroupName,
    store::{
        Change, ClockMark, Delivery, DeliveryKey, Event, Group, ListMark, Member, NewestEvent, NoticeState,
        SegmentUse, Watch, counts::CountChange,
    },
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
    pub(in crate::store) groups: Table<u64, Group>,
    pub(in crate::store) members: Table<(u64, JobKey), Member>,
    pub(in crate::store) events: Table<u64, Event>,
    pub(in crate::store) deliveries: Table<DeliveryKey, Delivery>,
    pub(in crate::store) paused: Table<String, Time>,
    pub(in crate::store) notices: Table<String, NoticeState>,
    pub(in crate::store) learned: Table<String, Vec<u8>>,
    pub(in crate::store) list_marks: Table<ListKey, ListMark>,
    // The index. Only the transaction writes these, from the records.
    pub(in crate::store) jobs: Table<JobKey, JobEntry>,
    pub(in crate::store) dropped: Table<(Time, JobKey), ()>,
    pub(in crate::store) open: Table<u64, ()>,
    pub(in crate::store) closed: Table<(Time, u64), ()>,
    pub(in crate::store) pending: Table<DeliveryKey, Pending>,
    pub(in crate::store) group_names: Table<GroupName, u64>,
    pub(in crate::store) due_groups: Table<u64, ()>,
    /// What events need of the segments. Follows from the events.
    pub(in crate::store) segments: Table<u64, SegmentUse>,
    /// The events that are new, and the number of the last.
    pub(in crate::store) made: NewestEvent,
    /// What changes for the counts. Only the transaction writes these, too.
    pub(in crate::store) counted: Vec<CountChange>,
    /// Told once all of it is durable.
    pub(in crate::store) changes: Vec<Change>,
}

impl Effects {
    /// Returns how many keys are written.
    pub(in crate::store) fn len(&self) -> usize {
        let Self { next_number, clock_mark, watches, events, deliveries, paused, learned, .. } = self;
        let Self { jobs, dropped, open, closed, pending, segments, .. } = self;
        let Self { groups, members, group_names, due_groups, notices, list_marks, .. } = self;
        usize::from(next_number.is_some())
            + usize::from(clock_mark.is_some())
            + [watches.len(), events.len(), deliveries.len(), paused.len(), learned.len()]
                .iter()
                .sum::<usize>()
            + list_marks.len()
            + [jobs.len(), dropped.len(), open.len(), closed.len(), pending.len(), segments.len()]
                .iter()
                .sum::<usize>()
            + [groups.len(), members.len(), group_names.len(), due_groups.len(), notices.len()]
                .iter()
                .sum::<usize>()
    }

    /// Returns whether anything is written that callers see.
    pub(in crate::store) fn changes_shown(&self) -> bool {
        let Self { watches, groups, events, deliveries, paused, .. } = self;
        !(watches.is_empty()
            && groups.is_empty()
            && events.is_empty()
            && deliveries.is_empty()
            && paused.is_empty())
    }

    /// Adds the effects of a later operation. They are few, so each is inserted: to append a table costs as much as
    /// both of them.
    pub(super) fn extend(&mut self, later: Self) {
        self.next_number = later.next_number.or(self.next_number);
        self.clock_mark = later.clock_mark.or_else(|| self.clock_mark.take());
        self.watches.extend(later.watches);
        self.groups.extend(later.groups);
        self.members.extend(later.members);
        self.events.extend(later.events);
        self.deliveries.extend(later.deliveries);
        self.paused.extend(later.paused);
        self.notices.extend(later.notices);
        self.learned.extend(later.learned);
        self.list_marks.extend(later.list_marks);
        self.jobs.extend(later.jobs);
        self.dropped.extend(later.dropped);
        self.open.extend(later.open);
        self.closed.extend(later.closed);
        self.pending.extend(later.pending);
        self.group_names.extend(later.group_names);
        self.due_groups.extend(later.due_groups);
        self.segments.extend(later.segments);
        self.made = self.made.followed_by(later.made);
        self.counted.extend(later.counted);
        self.changes.extend(later.changes);
    }
}
