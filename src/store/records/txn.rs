//! The typed transaction: the operations of many callers, each whole.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Effects, JobEntry, JobKey, ListKey, Membership, Pending, Records, Table, WatchEntries,
    index::{dead_at, due_entry},
    passed_over, pending_of,
};
use crate::{
    model::{
        group::{GroupName, MemberEnd},
        job::Kind,
    },
    store::{
        Change, ClockMark, Delivery, DeliveryKey, Event, Group, ListMark, Member, NewestEvent, NoticeState,
        SegmentUse, StoreError, StoredJob, Watch, counts::CountChange,
    },
    util::units::Time,
};

/// Reads see the writes of earlier operations of the same transaction. A record that cannot be read counts as missing.
pub(in crate::store) struct Txn<'a> {
    records: &'a dyn Records,
    /// Whole operations that the backend has not applied yet.
    staged: Effects,
    /// The current operation.
    current: Effects,
    /// The index entries of the watches that were read since the backend applied something.
    known: BTreeMap<u64, Option<WatchEntries>>,
    /// The same for deliveries: the sinks at which they are dead letters.
    known_dead: BTreeMap<DeliveryKey, KnownDead>,
    counted: Vec<CountChange>,
    changes: Vec<Change>,
    newest: NewestEvent,
    emptied: Vec<u64>,
    changes_shown: bool,
}

/// What a delivery was when it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
enum KnownDead {
    /// A dead letter at a sink, or `None`.
    At(Option<String>),
    Unreadable,
}

/// The outcome of a transaction, to be told once it is durable.
pub(in crate::store) struct Committed {
    pub(in crate::store) changes: Vec<Change>,
    /// How many events it made, and the number of the last.
    pub(in crate::store) newest: NewestEvent,
    /// The segments that no event needs any more.
    pub(in crate::store) emptied: Vec<u64>,
    /// Whether it wrote anything that callers see.
    pub(in crate::store) changes_shown: bool,
    pub(in crate::store) counted: Vec<CountChange>,
}

impl<'a> Txn<'a> {
    pub(in crate::store) fn new(records: &'a dyn Records) -> Self {
        Self {
            records,
            staged: Effects::default(),
            current: Effects::default(),
            known: BTreeMap::new(),
            known_dead: BTreeMap::new(),
            counted: Vec::new(),
            changes: Vec::new(),
            newest: NewestEvent::default(),
            emptied: Vec::new(),
            changes_shown: false,
        }
    }

    /// Ends an operation. Its writes are applied together, with those of others while there is room.
    pub(in crate::store) fn end_operation(&mut self) -> Result<(), StoreError> {
        if self.staged.len() + self.current.len() > self.records.max_writes() {
            self.apply()?;
        }
        self.staged.extend(std::mem::take(&mut self.current));
        Ok(())
    }

    /// Forgets the writes of the current operation.
    pub(in crate::store) fn abandon_operation(&mut self) {
        self.current = Effects::default();
        self.known.clear();
        self.known_dead.clear();
    }

    /// Applies all operations.
    pub(in crate::store) fn finish(mut self) -> Result<Committed, StoreError> {
        self.end_operation()?;
        self.apply()?;
        let Self { changes, newest, emptied, changes_shown, counted, .. } = self;
        Ok(Committed { changes, newest, emptied, changes_shown, counted })
    }

    fn apply(&mut self) -> Result<(), StoreError> {
        let mut effects = std::mem::take(&mut self.staged);
        self.changes.append(&mut effects.changes);
        self.counted.append(&mut effects.counted);
        self.newest = self.newest.followed_by(effects.made);
        self.changes_shown |= effects.changes_shown();
        for (number, left) in &effects.segments {
            // A later batch may need again what an earlier one let go.
            self.emptied.retain(|emptied| emptied != number);
            self.emptied.extend(left.is_none().then_some(*number));
        }
        self.known.clear();
        self.known_dead.clear();
        self.records.apply(effects)
    }

    /// Returns the value that this transaction wrote last: the value, its deletion, or nothing.
    fn written<'t, K: Ord, V>(
        &'t self,
        key: &K,
        table: fn(&'t Effects) -> &'t Table<K, V>,
    ) -> Option<&'t Option<V>> {
        table(&self.current).get(key).or_else(|| table(&self.staged).get(key))
    }
}

/// Watches and what is known of jobs.
impl Txn<'_> {
    pub(in crate::store) fn watch(&mut self, number: u64) -> Result<Option<Watch>, StoreError> {
        passed_over(self.watch_strictly(number))
    }

    fn watch_strictly(&mut self, number: u64) -> Result<Option<Watch>, StoreError> {
        let watch = match self.written(&number, |effects| &effects.watches) {
            Some(written) => written.as_deref().cloned(),
            None => self.records.watch(number)?,
        };
        self.known.insert(number, watch.as_ref().map(WatchEntries::of));
        Ok(watch)
    }

    pub(in crate::store) fn job(&self, job: &JobKey) -> Result<Option<JobEntry>, StoreError> {
        match self.written(job, |effects| &effects.jobs) {
            Some(written) => Ok(*written),
            None => self.records.job(job),
        }
    }

    /// Returns the watch of a job. [`StoreError::Record`] when there is one that cannot be read.
    pub(in crate::store) fn find(&mut self, job: &JobKey) -> Result<Option<Watch>, StoreError> {
        let entry = self.job(job)?;
        self.watch_of(entry)
    }

    /// Returns the watch that the entry of a job leads to. [`StoreError::Record`] when there is one that cannot be read.
    pub(in crate::store) fn watch_of(
        &mut self,
        entry: Option<JobEntry>,
    ) -> Result<Option<Watch>, StoreError> {
        match entry {
            Some(JobEntry::Watch(number)) => self.watch_strictly(number),
            Some(JobEntry::Dropped(_)) | None => Ok(None),
        }
    }

    /// Writes a watch. Returns it, shared with what is written.
    pub(in crate::store) fn put_watch(&mut self, watch: Watch) -> Result<Arc<Watch>, StoreError> {
        let old = self.index_watch(watch.number, Some(WatchEntries::of(&watch)))?;
        if old.is_none() {
            self.set_job(JobKey::of(&watch), Some(JobEntry::Watch(watch.number)))?;
        }
        Ok(self.stage_watch(watch))
    }

    /// Writes a watch with a number that was just given. `old` is the entry of its job, as it was read.
    pub(in crate::store) fn add_watch(
        &mut self,
        job: JobKey,
        old: Option<JobEntry>,
        watch: Watch,
    ) -> Result<Arc<Watch>, StoreError> {
        self.known.insert(watch.number, None);
        self.index_watch(watch.number, Some(WatchEntries::of(&watch)))?;
        self.replace_job(job, old, Some(JobEntry::Watch(watch.number)));
        Ok(self.stage_watch(watch))
    }

    fn stage_watch(&mut self, watch: Watch) -> Arc<Watch> {
        let watch = Arc::new(watch);
        self.current.watches.insert(watch.number, Some(Arc::clone(&watch)));
        watch
    }

    /// Deletes a watch. What was known of its job goes, too, or becomes its tombstone.
    pub(in crate::store) fn delete_watch(
        &mut self,
        watch: &Watch,
        tombstone: Option<Time>,
    ) -> Result<(), StoreError> {
        self.set_job(JobKey::of(watch), tombstone.map(JobEntry::Dropped))?;
        self.index_watch(watch.number, None)?;
        self.current.watches.insert(watch.number, None);
        Ok(())
    }

    /// Deletes a watch whose record cannot be read, with the index entries that were found for it.
    pub(in crate::store) fn purge_watch(&mut self, number: u64, closed: &[Time]) {
        self.current.watches.insert(number, None);
        self.current.open.insert(number, None);
        self.current.closed.extend(closed.iter().map(|at| ((*at, number), None)));
        self.known.remove(&number);
        self.current.counted.push(CountChange::Unknown);
    }

    /// Forgets what is known of a job: its tombstone, or an entry that leads nowhere.
    pub(in crate::store) fn forget_job(&mut self, job: JobKey) -> Result<(), StoreError> {
        self.set_job(job, None)
    }

    /// Forgets a tombstone that a later one replaced.
    pub(in crate::store) fn forget_tombstone(&mut self, at: Time, job: JobKey) {
        self.current.dropped.insert((at, job), None);
    }

    /// Writes what is known of a job, with the entry by which retention finds its tombstone.
    fn set_job(&mut self, job: JobKey, new: Option<JobEntry>) -> Result<(), StoreError> {
        let old = passed_over(self.job(&job))?;
        self.replace_job(job, old, new);
        Ok(())
    }

    fn replace_job(&mut self, job: JobKey, old: Option<JobEntry>, new: Option<JobEntry>) {
        if let Some(JobEntry::Dropped(at)) = old {
            self.current.dropped.insert((at, job.clone()), None);
        }
        if let Some(JobEntry::Dropped(at)) = new {
            self.current.dropped.insert((at, job.clone()), Some(()));
        }
        self.current.jobs.insert(job, new);
    }

    /// Writes the entries of `new` where they differ from those of the old record. Returns the old ones.
    fn index_watch(
        &mut self,
        number: u64,
        new: Option<WatchEntries>,
    ) -> Result<Option<WatchEntries>, StoreError> {
        if !self.known.contains_key(&number) {
            self.watch(number)?;
        }
        let old = self.known.insert(number, new.clone()).flatten();
        let (before, after) = (old.clone().unwrap_or_default(), new.unwrap_or_default());
        if before.counted != after.counted {
            let (from, to) = (before.counted, after.counted);
            self.current.counted.push(CountChange::Watch { number, from, to });
        }
        if before.is_open != after.is_open {
            self.current.open.insert(number, after.is_open.then_some(()));
        }
        if before.closed_at != after.closed_at {
            self.current.closed.extend(before.closed_at.map(|at| ((at, number), None)));
            self.current.closed.extend(after.closed_at.map(|at| ((at, number), Some(()))));
        }
        if before.membership != after.membership {
            self.index_member(before.membership, after.membership)?;
        }
        Ok(old)
    }

    /// Tells the group of a watch what became of it.
    fn index_member(&mut self, old: Option<Membership>, new: Option<Membership>) -> Result<(), StoreError> {
        match (old, new) {
            (old, Some(Membership { group, job, kind, end })) => {
                let before = old.and_then(|old| old.end).map(|(end, _)| end);
                let (end, event_id) = end.unzip();
                self.set_member(group, job, before, (kind, end, event_id))
            }
            // A watch that ended before it was removed counts as it ended.
            (Some(Membership { group, job, kind, end: None }), None) => {
                self.set_member(group, job, None, (kind, Some(MemberEnd::Removed), None))
            }
            (_, None) => Ok(()),
        }
    }
}

/// Groups and their members.
impl Txn<'_> {
    pub(in crate::store) fn group(&self, number: u64) -> Result<Option<Group>, StoreError> {
        match self.written(&number, |effects| &effects.groups) {
            Some(written) => Ok(written.clone()),
            None => passed_over(self.records.group(number)),
        }
    }

    /// Returns the group with this name. [`StoreError::Record`] when there is one that cannot be read.
    pub(in crate::store) fn group_named(&self, name: &GroupName) -> Result<Option<Group>, StoreError> {
        let number = match self.written(name, |effects| &effects.group_names) {
            Some(written) => *written,
            None => self.records.group_named(name)?,
        };
        let Some(number) = number else { return Ok(None) };
        match self.written(&number, |effects| &effects.groups) {
            Some(written) => Ok(written.clone()),
            None => self.records.group(number),
        }
    }

    pub(in crate::store) fn member(&self, group: u64, job: &JobKey) -> Result<Option<Member>, StoreError> {
        passed_over(self.member_strictly(group, job))
    }

    fn member_strictly(&self, group: u64, job: &JobKey) -> Result<Option<Member>, StoreError> {
        match self.written(&(group, job.clone()), |effects| &effects.members) {
            Some(written) => Ok(written.clone()),
            None => self.records.member(group, job),
        }
    }

    /// Writes a group of which `old` was read, and tells when its event is to be made.
    pub(in crate::store) fn put_group(&mut self, old: Option<&Group>, group: Group) {
        if old.is_none() {
            self.current.group_names.insert(group.name.clone(), Some(group.number));
        }
        let entry = due_entry(Some(&group));
        if entry != due_entry(old) {
            self.current.due_groups.insert(group.number, entry);
        }
        if entry.is_some() {
            self.emit(Change::GroupDue);
        }
        self.current.groups.insert(group.number, Some(group));
    }

    /// Deletes a group, whose members are gone.
    pub(in crate::store) fn delete_group(&mut self, group: &Group) {
        self.current.group_names.insert(group.name.clone(), None);
        self.current.due_groups.insert(group.number, None);
        self.current.groups.insert(group.number, None);
    }

    pub(in crate::store) fn delete_member(&mut self, group: u64, job: JobKey) {
        self.current.members.insert((group, job), None);
    }

    /// Writes what became of a member, and counts it. After the event of the group nothing changes. `before` is how its watch
    /// had ended, which counts if the record of the member cannot be read.
    pub(in crate::store) fn set_member(
        &mut self,
        group: u64,
        job: JobKey,
        before: Option<MemberEnd>,
        (kind, end, event_id): (Option<Kind>, Option<MemberEnd>, Option<String>),
    ) -> Result<(), StoreError> {
        let Some(old_group) = self.group(group)?.filter(|group| group.event.is_none()) else { return Ok(()) };
        let new = Member { source: job.source.clone(), job_id: job.job_id.clone(), kind, end, event_id };
        let old = match self.member_strictly(group, &job) {
            Err(StoreError::Record(_)) => Some(Member { end: before, event_id: None, ..new.clone() }),
            old => old?,
        };
        if old.as_ref() == Some(&new) {
            return Ok(());
        }
        let mut new_group = old_group.clone();
        new_group.count(old.as_ref(), end);
        self.put_group(Some(&old_group), new_group);
        self.current.members.insert((group, job), Some(new));
        Ok(())
    }
}

/// Events and deliveries.
impl Txn<'_> {
    pub(in crate::store) fn event(&self, number: u64) -> Result<Option<Event>, StoreError> {
        match self.written(&number, |effects| &effects.events) {
            Some(written) => Ok(written.clone()),
            None => passed_over(self.records.event(number)),
        }
    }

    /// Writes a new event. Numbers only grow.
    pub(in crate::store) fn put_event(&mut self, number: u64, event: Event) -> Result<(), StoreError> {
        self.index_body(None, event.news.job())?;
        self.index_closed(number, None, event.closed_at);
        self.current.made = self.current.made.followed_by(NewestEvent { number, count: 1 });
        self.current.events.insert(number, Some(event));
        Ok(())
    }

    /// Writes an event again, of which `old` was read.
    pub(in crate::store) fn replace_event(
        &mut self,
        number: u64,
        old: &Event,
        event: Event,
    ) -> Result<(), StoreError> {
        self.index_body(old.news.job(), event.news.job())?;
        self.index_closed(number, old.closed_at, event.closed_at);
        self.current.events.insert(number, Some(event));
        Ok(())
    }

    /// Deletes an event; `old` is `None` when it cannot be read.
    pub(in crate::store) fn delete_event(
        &mut self,
        number: u64,
        old: Option<&Event>,
    ) -> Result<(), StoreError> {
        self.index_body(old.and_then(|event| event.news.job()), None)?;
        self.index_closed(number, old.and_then(|event| event.closed_at), None);
        self.current.events.insert(number, None);
        Ok(())
    }

    /// Writes the entry by which retention finds an event that is about no job.
    fn index_closed(&mut self, number: u64, old: Option<Time>, new: Option<Time>) {
        if old != new {
            self.current.closed.extend(old.map(|at| ((at, number), None)));
            self.current.closed.extend(new.map(|at| ((at, number), Some(()))));
        }
    }

    /// Deletes an event about no job that cannot be read, with the entry that led to it.
    pub(in crate::store) fn purge_event(&mut self, number: u64, closed_at: Time) {
        self.current.closed.insert((closed_at, number), None);
        self.current.events.insert(number, None);
    }

    /// Counts what a segment has to keep once the body of an event is `new` instead of `old`.
    fn index_body(&mut self, old: Option<&StoredJob>, new: Option<&StoredJob>) -> Result<(), StoreError> {
        for (job, is_new) in old.map(|job| (job, false)).into_iter().chain(new.map(|job| (job, true))) {
            let Some(at) = job.at else { continue };
            let SegmentUse { bodies, bytes } = self.segment(at.segment)?.unwrap_or_default();
            let left = match is_new {
                true => SegmentUse { bodies: bodies + 1, bytes: bytes.saturating_add(job.size) },
                false => {
                    SegmentUse { bodies: bodies.saturating_sub(1), bytes: bytes.saturating_sub(job.size) }
                }
            };
            self.current.segments.insert(at.segment, Some(left).filter(|left| left.bodies > 0));
        }
        Ok(())
    }

    /// Returns what events need of a segment.
    pub(in crate::store) fn segment(&self, number: u64) -> Result<Option<SegmentUse>, StoreError> {
        match self.written(&number, |effects| &effects.segments) {
            Some(written) => Ok(*written),
            None => self.records.segment(number),
        }
    }

    pub(in crate::store) fn delivery(&mut self, key: DeliveryKey) -> Result<Option<Delivery>, StoreError> {
        let delivery = match self.written(&key, |effects| &effects.deliveries) {
            Some(written) => Ok(written.clone()),
            None => self.records.delivery(key),
        };
        let known = match &delivery {
            Err(StoreError::Record(_)) => KnownDead::Unreadable,
            Err(_) => return delivery,
            Ok(delivery) => KnownDead::At(delivery.as_ref().and_then(dead_at)),
        };
        self.known_dead.insert(key, known);
        passed_over(delivery)
    }

    /// Returns whether there is a delivery with this key, readable or not.
    pub(in crate::store) fn has_delivery(&self, key: DeliveryKey) -> Result<bool, StoreError> {
        match self.written(&key, |effects| &effects.deliveries) {
            Some(written) => Ok(written.is_some()),
            None => self.records.has_delivery(key),
        }
    }

    /// Returns the deliveries of an event. One that cannot be read is `None`.
    pub(in crate::store) fn deliveries(
        &mut self,
        event: u64,
    ) -> Result<BTreeMap<DeliveryKey, Option<Delivery>>, StoreError> {
        let mut found = self.records.deliveries(event).collect::<Result<BTreeMap<_, _>, _>>()?;
        let range = DeliveryKey::first_of(event)..=DeliveryKey::last_of(event);
        for effects in [&self.staged, &self.current] {
            for (key, delivery) in effects.deliveries.range(range.clone()) {
                match delivery {
                    Some(delivery) => drop(found.insert(*key, Some(delivery.clone()))),
                    None => drop(found.remove(key)),
                }
            }
        }
        for (key, delivery) in &found {
            let known = delivery.as_ref().map_or(KnownDead::Unreadable, |one| KnownDead::At(dead_at(one)));
            self.known_dead.insert(*key, known);
        }
        Ok(found)
    }

    pub(in crate::store) fn pending(&self, key: DeliveryKey) -> Result<Option<Pending>, StoreError> {
        match self.written(&key, |effects| &effects.pending) {
            Some(written) => Ok(written.clone()),
            None => self.records.pending(key),
        }
    }

    pub(in crate::store) fn put_delivery(
        &mut self,
        key: DeliveryKey,
        delivery: Delivery,
    ) -> Result<(), StoreError> {
        self.count_dead(key, dead_at(&delivery))?;
        self.current.pending.insert(key, pending_of(&delivery));
        self.current.deliveries.insert(key, Some(delivery));
        Ok(())
    }

    /// Tells that there is no delivery with this key, because its event is new. So none is read when it is written.
    pub(in crate::store) fn expect_no_delivery(&mut self, key: DeliveryKey) {
        self.known_dead.insert(key, KnownDead::At(None));
    }

    pub(in crate::store) fn delete_delivery(&mut self, key: DeliveryKey) -> Result<(), StoreError> {
        self.count_dead(key, None)?;
        self.current.pending.insert(key, None);
        self.current.deliveries.insert(key, None);
        Ok(())
    }

    /// Notes whether a delivery is a dead letter from now on.
    fn count_dead(&mut self, key: DeliveryKey, to: Option<String>) -> Result<(), StoreError> {
        if !self.known_dead.contains_key(&key) {
            self.delivery(key)?;
        }
        match self.known_dead.insert(key, KnownDead::At(to.clone())) {
            Some(KnownDead::Unreadable) => self.current.counted.push(CountChange::Unknown),
            Some(KnownDead::At(from)) if from != to => {
                self.current.counted.push(CountChange::Dead { key, from, to });
            }
            Some(KnownDead::At(_)) | None => {}
        }
        Ok(())
    }
}

/// What stands alone.
impl Txn<'_> {
    /// Takes the next number for a watch or an event. The counter is stored, so a number is never given twice, even
    /// after its record was dropped.
    pub(in crate::store) fn next_number(&mut self) -> Result<u64, StoreError> {
        let next = match self.current.next_number.or(self.staged.next_number) {
            Some(next) => next,
            None => self.records.next_number()?,
        };
        let after = next.checked_add(1);
        let after = after.ok_or_else(|| StoreError::Record("no number is left for a record".to_owned()))?;
        self.current.next_number = Some(after);
        Ok(next)
    }

    pub(in crate::store) fn paused(&self, sink: &str) -> Result<Option<Time>, StoreError> {
        match self.written(&sink.to_owned(), |effects| &effects.paused) {
            Some(written) => Ok(*written),
            None => self.records.paused(sink),
        }
    }

    pub(in crate::store) fn set_paused(&mut self, sink: String, since: Option<Time>) {
        self.current.paused.insert(sink, since);
    }

    pub(in crate::store) fn notice(&self, subject: &str) -> Result<Option<NoticeState>, StoreError> {
        match self.written(&subject.to_owned(), |effects| &effects.notices) {
            Some(written) => Ok(written.clone()),
            None => passed_over(self.records.notice(subject)),
        }
    }

    pub(in crate::store) fn set_notice(&mut self, subject: String, state: NoticeState) {
        self.current.notices.insert(subject, Some(state));
    }

    pub(in crate::store) fn set_learned(&mut self, source: String, bytes: Vec<u8>) {
        self.current.learned.insert(source, (!bytes.is_empty()).then_some(bytes));
    }

    pub(in crate::store) fn set_list_mark(&mut self, list: ListKey, mark: ListMark) {
        self.current.list_marks.insert(list, Some(mark));
    }

    pub(in crate::store) fn set_clock_mark(&mut self, mark: ClockMark) {
        self.current.clock_mark = Some(mark);
    }

    pub(in crate::store) fn emit(&mut self, change: Change) {
        self.current.changes.push(change);
    }
}
