//! The seam of the store: what a backend supplies, and the typed transaction over it.

mod effects;
mod index;
mod txn;

use std::{collections::BTreeSet, ops::Range};

pub(super) use effects::{Effects, Table};
pub(super) use index::{JobEntry, JobKey, ListKey, Membership, Pending, WatchEntries, pending_of};
pub(super) use txn::{Committed, Txn};

use super::{
    ClockMark, Delivery, DeliveryKey, Event, Group, ListMark, Member, NoticeState, SegmentUse, StoreError,
    Watch,
};
use crate::{
    model::{group::GroupName, job::JobId},
    util::units::Time,
};

/// Records in the order of their keys. One that cannot be read is `None`; the backend has counted it by then.
pub(super) type Scan<'a, T> = Box<dyn Iterator<Item = Result<T, StoreError>> + 'a>;

/// Which watches, or which deliveries, a scan goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Selection {
    All,
    /// Open watches, or pending deliveries: a short index leads to them.
    Open,
}

/// The records of a backend as they are now. A call may block.
///
/// A single record that cannot be read is [`StoreError::Record`], and costs no other one.
pub(super) trait Records {
    fn watch(&self, number: u64) -> Result<Option<Watch>, StoreError>;

    /// Whether there is a watch with this number, readable or not.
    fn has_watch(&self, number: u64) -> Result<bool, StoreError>;

    fn job(&self, job: &JobKey) -> Result<Option<JobEntry>, StoreError>;

    /// The jobs with this id whose kind is not the default one.
    fn other_kinds(&self, source: &str, job_id: &JobId) -> Scan<'_, (JobKey, JobEntry)>;

    /// What is known of the jobs whose id begins like this, in no order: of this source, or of all.
    fn jobs_by_prefix(&self, source: Option<&str>, prefix: &str) -> Scan<'_, JobEntry>;

    fn is_open(&self, number: u64) -> Result<bool, StoreError>;

    fn group(&self, number: u64) -> Result<Option<Group>, StoreError>;

    /// The number of the group with this name.
    fn group_named(&self, name: &GroupName) -> Result<Option<u64>, StoreError>;

    /// The groups behind this name, by their names.
    fn groups(&self, after: Option<&GroupName>) -> Scan<'_, (GroupName, Option<Group>)>;

    /// The numbers of the groups whose event is to be made, oldest first.
    fn due_groups(&self) -> Scan<'_, u64>;

    fn member(&self, group: u64, job: &JobKey) -> Result<Option<Member>, StoreError>;

    /// The members of a group behind this job, by source and id.
    fn members(&self, group: u64, after: Option<&JobKey>) -> Scan<'_, (JobKey, Option<Member>)>;

    fn event(&self, number: u64) -> Result<Option<Event>, StoreError>;

    /// What events need of a segment; `None` when that is nothing.
    fn segment(&self, number: u64) -> Result<Option<SegmentUse>, StoreError>;

    /// The segments that events need, oldest first.
    fn segments(&self) -> Scan<'_, (u64, SegmentUse)>;

    fn delivery(&self, key: DeliveryKey) -> Result<Option<Delivery>, StoreError>;

    /// Whether there is a delivery with this key, readable or not.
    fn has_delivery(&self, key: DeliveryKey) -> Result<bool, StoreError>;

    fn pending(&self, key: DeliveryKey) -> Result<Option<Pending>, StoreError>;

    /// When an operator paused the sink.
    fn paused(&self, sink: &str) -> Result<Option<Time>, StoreError>;

    /// What was told of a sink or a source.
    fn notice(&self, subject: &str) -> Result<Option<NoticeState>, StoreError>;

    /// What was told, by subject.
    fn notices(&self) -> Scan<'_, (String, Option<NoticeState>)>;

    /// What was learned of a source's jobs.
    fn learned(&self, source: &str) -> Result<Option<Vec<u8>>, StoreError>;

    /// The sources with something learned.
    fn learned_sources(&self) -> Result<BTreeSet<String>, StoreError>;

    fn clock_mark(&self) -> Result<Option<ClockMark>, StoreError>;

    /// How far a list was read.
    fn list_mark(&self, list: &ListKey) -> Result<Option<ListMark>, StoreError>;

    /// The next number for a watch or an event; none was given twice.
    fn next_number(&self) -> Result<u64, StoreError>;

    /// Watches before number `before`, newest first.
    fn watches(&self, which: Selection, before: Option<u64>) -> Scan<'_, (u64, Option<Watch>)>;

    /// Open watches behind number `after`, oldest first.
    fn open_watches(&self, after: Option<u64>) -> Scan<'_, (u64, Option<Watch>)>;

    /// The numbers of the open watches, oldest first.
    fn open(&self) -> Scan<'_, u64>;

    /// Finished watches, and events about no job, that were closed in `period`, oldest first.
    fn closed(&self, period: Range<Time>) -> Scan<'_, (Time, u64)>;

    /// Jobs that retention dropped before then, oldest first.
    fn dropped(&self, before: Time) -> Scan<'_, (Time, JobKey)>;

    /// Events after number `after` up to `until`, oldest first.
    fn events(&self, after: u64, until: u64) -> Scan<'_, (u64, Option<Event>)>;

    /// Events before number `before`, newest first.
    fn events_before(&self, before: Option<u64>) -> Scan<'_, (u64, Option<Event>)>;

    /// The number of the newest event; 0 when there is none.
    fn newest_event(&self) -> Result<u64, StoreError>;

    /// The events of a watch, by what each says itself, as far as that can be read.
    fn events_of(&self, watch: u64) -> Result<Vec<u64>, StoreError>;

    /// The deliveries of one event.
    fn deliveries(&self, event: u64) -> Scan<'_, (DeliveryKey, Option<Delivery>)>;

    /// Deliveries before `before`, newest event first.
    fn deliveries_before(
        &self,
        which: Selection,
        before: Option<DeliveryKey>,
    ) -> Scan<'_, (DeliveryKey, Option<Delivery>)>;

    /// Pending deliveries behind `after` of the events up to `until`, oldest event first.
    fn all_pending(&self, after: Option<DeliveryKey>, until: u64) -> Scan<'_, (DeliveryKey, Pending)>;

    /// The pending deliveries of one event.
    fn pending_of(&self, event: u64) -> Scan<'_, (DeliveryKey, Pending)>;

    /// Paused sinks, each with the time at which it was paused.
    fn paused_sinks(&self) -> Scan<'_, (String, Time)>;

    /// Applies `effects`, all of them or none.
    fn apply(&self, effects: Effects) -> Result<(), StoreError>;

    /// How many writes one call of [`apply`](Self::apply) should have at most.
    fn max_writes(&self) -> usize;
}

/// Passes over one record that cannot be read.
pub(super) fn passed_over<T>(read: Result<Option<T>, StoreError>) -> Result<Option<T>, StoreError> {
    match read {
        Err(StoreError::Record(_)) => Ok(None),
        read => read,
    }
}
