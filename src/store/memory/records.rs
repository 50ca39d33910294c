//! The typed records in ordered tables.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::{Bound, Range},
    sync::{Arc, PoisonError, RwLock},
};

use crate::{
    model::{group::GroupName, job::JobId},
    store::{
        ClockMark, Delivery, DeliveryKey, Event, Group, ListMark, Member, NoticeState, SegmentUse,
        StoreError, Watch,
        records::{Effects, JobEntry, JobKey, ListKey, Pending, Records, Scan, Selection, Table},
    },
    util::units::Time,
};

/// Everything that is stored.
#[derive(Debug)]
#[expect(clippy::zero_sized_map_values, reason = "one function merges and copies every table")]
pub(super) struct Tables {
    pub(super) next_number: u64,
    pub(super) clock_mark: Option<ClockMark>,
    pub(super) watches: BTreeMap<u64, Arc<Watch>>,
    pub(super) groups: BTreeMap<u64, Group>,
    /// By group and job. No job comes first, so that it stands for the begin of a group.
    pub(super) members: BTreeMap<(u64, Option<JobKey>), Member>,
    pub(super) events: BTreeMap<u64, Event>,
    pub(super) deliveries: BTreeMap<DeliveryKey, Delivery>,
    pub(super) paused: BTreeMap<String, Time>,
    pub(super) notices: BTreeMap<String, NoticeState>,
    pub(super) learned: BTreeMap<String, Vec<u8>>,
    pub(super) list_marks: BTreeMap<ListKey, ListMark>,
    pub(super) jobs: BTreeMap<JobKey, JobEntry>,
    pub(super) dropped: BTreeMap<(Time, JobKey), ()>,
    pub(super) open: BTreeMap<u64, ()>,
    pub(super) closed: BTreeMap<(Time, u64), ()>,
    pub(super) pending: BTreeMap<DeliveryKey, Pending>,
    pub(super) group_names: BTreeMap<GroupName, u64>,
    pub(super) due_groups: BTreeMap<u64, ()>,
    pub(super) segments: BTreeMap<u64, SegmentUse>,
}

impl Default for Tables {
    fn default() -> Self {
        Self {
            next_number: 1,
            clock_mark: None,
            watches: BTreeMap::new(),
            groups: BTreeMap::new(),
            members: BTreeMap::new(),
            events: BTreeMap::new(),
            deliveries: BTreeMap::new(),
            paused: BTreeMap::new(),
            notices: BTreeMap::new(),
            learned: BTreeMap::new(),
            list_marks: BTreeMap::new(),
            jobs: BTreeMap::new(),
            dropped: BTreeMap::new(),
            open: BTreeMap::new(),
            closed: BTreeMap::new(),
            pending: BTreeMap::new(),
            group_names: BTreeMap::new(),
            due_groups: BTreeMap::new(),
            segments: BTreeMap::new(),
        }
    }
}

impl Tables {
    fn apply(&mut self, effects: Effects) {
        self.next_number = effects.next_number.unwrap_or(self.next_number);
        self.clock_mark = effects.clock_mark.or_else(|| self.clock_mark.take());
        merge(&mut self.watches, effects.watches);
        merge(&mut self.groups, effects.groups);
        let members = effects.members.into_iter();
        merge(&mut self.members, members.map(|((group, job), one)| ((group, Some(job)), one)).collect());
        merge(&mut self.events, effects.events);
        merge(&mut self.deliveries, effects.deliveries);
        merge(&mut self.paused, effects.paused);
        merge(&mut self.notices, effects.notices);
        merge(&mut self.learned, effects.learned);
        merge(&mut self.list_marks, effects.list_marks);
        merge(&mut self.jobs, effects.jobs);
        merge(&mut self.dropped, effects.dropped);
        merge(&mut self.open, effects.open);
        merge(&mut self.closed, effects.closed);
        merge(&mut self.pending, effects.pending);
        merge(&mut self.group_names, effects.group_names);
        merge(&mut self.due_groups, effects.due_groups);
        merge(&mut self.segments, effects.segments);
    }
}

fn merge<K: Ord, V>(table: &mut BTreeMap<K, V>, writes: Table<K, V>) {
    for (key, value) in writes {
        match value {
            Some(value) => drop(table.insert(key, value)),
            None => drop(table.remove(&key)),
        }
    }
}

/// The records as each call finds them. A scan reads one entry at a time, so that it never holds the lock while its caller works.
pub(super) struct MemoryRecords<'a>(pub(super) &'a RwLock<Tables>);

impl MemoryRecords<'_> {
    #[expect(clippy::unnecessary_wraps, reason = "the seam lets every read fail")]
    fn get<T>(&self, read: impl FnOnce(&Tables) -> T) -> Result<T, StoreError> {
        Ok(read(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Scans by `next`, which finds the entry that follows on a key.
    fn scan<K: Clone, T>(
        &self,
        next: impl Fn(&Tables, Option<&K>) -> Option<(K, T)>,
    ) -> impl Iterator<Item = (K, T)> {
        let mut last = None;
        std::iter::from_fn(move || {
            let found = next(&self.0.read().unwrap_or_else(PoisonError::into_inner), last.as_ref())?;
            last = Some(found.0.clone());
            Some(found)
        })
    }
}

/// Behind a key, or from the start.
fn behind<K: Clone>(last: Option<&K>, first: &K) -> Bound<K> {
    last.map_or_else(|| Bound::Included(first.clone()), |last| Bound::Excluded(last.clone()))
}

/// Before a key, or up to the end.
fn before<K: Copy>(last: Option<&K>, end: Option<K>) -> Bound<K> {
    last.copied().or(end).map_or(Bound::Unbounded, Bound::Excluded)
}

fn cloned<K: Clone, V: Clone>((key, value): (&K, &V)) -> (K, V) {
    (key.clone(), value.clone())
}

impl Records for MemoryRecords<'_> {
    fn watch(&self, number: u64) -> Result<Option<Watch>, StoreError> {
        self.get(|tables| tables.watches.get(&number).map(|watch| Watch::clone(watch)))
    }

    fn has_watch(&self, number: u64) -> Result<bool, StoreError> {
        self.get(|tables| tables.watches.contains_key(&number))
    }

    fn job(&self, job: &JobKey) -> Result<Option<JobEntry>, StoreError> {
        self.get(|tables| tables.jobs.get(job).copied())
    }

    fn other_kinds(&self, source: &str, job_id: &JobId) -> Scan<'_, (JobKey, JobEntry)> {
        let key = JobKey { source: source.to_owned(), job_id: job_id.clone(), kind: None };
        let is_same = move |found: &JobKey| (&found.source, &found.job_id) == (&key.source, &key.job_id);
        let first = JobKey { source: source.to_owned(), job_id: job_id.clone(), kind: Some(String::new()) };
        let jobs = self.scan(move |tables, last: Option<&JobKey>| {
            let next = tables.jobs.range((behind(last, &first), Bound::Unbounded)).next()?;
            Some((next.0.clone(), *next.1)).filter(|(key, _)| is_same(key))
        });
        Box::new(jobs.map(Ok))
    }

    fn jobs_by_prefix(&self, source: Option<&str>, prefix: &str) -> Scan<'_, JobEntry> {
        let (source, prefix) = (source.map(str::to_owned), prefix.to_owned());
        let jobs = self.scan(move |tables, last: Option<&JobKey>| {
            let first = last.map_or(Bound::Unbounded, Bound::Excluded);
            tables.jobs.range::<JobKey, _>((first, Bound::Unbounded)).next().map(cloned)
        });
        let jobs = jobs.filter(move |(job, _)| {
            job.job_id.as_str().starts_with(&prefix)
                && source.as_ref().is_none_or(|source| *source == job.source)
        });
        Box::new(jobs.map(|(_, entry)| Ok(entry)))
    }

    fn is_open(&self, number: u64) -> Result<bool, StoreError> {
        self.get(|tables| tables.open.contains_key(&number))
    }

    fn group(&self, number: u64) -> Result<Option<Group>, StoreError> {
        self.get(|tables| tables.groups.get(&number).cloned())
    }

    fn group_named(&self, name: &GroupName) -> Result<Option<u64>, StoreError> {
        self.get(|tables| tables.group_names.get(name).copied())
    }

    fn groups(&self, after: Option<&GroupName>) -> Scan<'_, (GroupName, Option<Group>)> {
        let after = after.cloned();
        let groups = self.scan(move |tables, last: Option<&GroupName>| {
            let first = last.or(after.as_ref()).map_or(Bound::Unbounded, Bound::Excluded);
            let (name, number) =
                tables.group_names.range::<GroupName, _>((first, Bound::Unbounded)).next()?;
            Some((name.clone(), tables.groups.get(number).cloned()))
        });
        Box::new(groups.map(Ok))
    }

    fn due_groups(&self) -> Scan<'_, u64> {
        let due = self.scan(|tables, last| {
            tables.due_groups.range((behind(last, &0), Bound::Unbounded)).next().map(cloned)
        });
        Box::new(due.map(|(number, ())| Ok(number)))
    }

    fn member(&self, group: u64, job: &JobKey) -> Result<Option<Member>, StoreError> {
        self.get(|tables| tables.members.get(&(group, Some(job.clone()))).cloned())
    }

    fn members(&self, group: u64, after: Option<&JobKey>) -> Scan<'_, (JobKey, Option<Member>)> {
        let after = after.cloned();
        let members = self.scan(move |tables, last: Option<&JobKey>| {
            let first = Bound::Excluded((group, last.or(after.as_ref()).cloned()));
            let ((of, job), member) = tables.members.range((first, Bound::Unbounded)).next()?;
            job.clone().filter(|_| *of == group).map(|job| (job, Some(member.clone())))
        });
        Box::new(members.map(Ok))
    }

    fn event(&self, number: u64) -> Result<Option<Event>, StoreError> {
        self.get(|tables| tables.events.get(&number).cloned())
    }

    fn segment(&self, number: u64) -> Result<Option<SegmentUse>, StoreError> {
        self.get(|tables| tables.segments.get(&number).copied())
    }

    fn segments(&self) -> Scan<'_, (u64, SegmentUse)> {
        let segments = self.scan(|tables, last| {
            tables.segments.range((behind(last, &0), Bound::Unbounded)).next().map(cloned)
        });
        Box::new(segments.map(Ok))
    }

    fn delivery(&self, key: DeliveryKey) -> Result<Option<Delivery>, StoreError> {
        self.get(|tables| tables.deliveries.get(&key).cloned())
    }

    fn has_delivery(&self, key: DeliveryKey) -> Result<bool, StoreError> {
        self.get(|tables| tables.deliveries.contains_key(&key))
    }

    fn pending(&self, key: DeliveryKey) -> Result<Option<Pending>, StoreError> {
        self.get(|tables| tables.pending.get(&key).cloned())
    }

    fn paused(&self, sink: &str) -> Result<Option<Time>, StoreError> {
        self.get(|tables| tables.paused.get(sink).copied())
    }

    fn notice(&self, subject: &str) -> Result<Option<NoticeState>, StoreError> {
        self.get(|tables| tables.notices.get(subject).cloned())
    }

    fn notices(&self) -> Scan<'_, (String, Option<NoticeState>)> {
        let notices = self.scan(|tables, last| {
            tables.notices.range((behind(last, &String::new()), Bound::Unbounded)).next().map(cloned)
        });
        Box::new(notices.map(|(subject, state)| Ok((subject, Some(state)))))
    }

    fn learned(&self, source: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.get(|tables| tables.learned.get(source).cloned())
    }

    fn learned_sources(&self) -> Result<BTreeSet<String>, StoreError> {
        self.get(|tables| tables.learned.keys().cloned().collect())
    }

    fn clock_mark(&self) -> Result<Option<ClockMark>, StoreError> {
        self.get(|tables| tables.clock_mark.clone())
    }

    fn list_mark(&self, list: &ListKey) -> Result<Option<ListMark>, StoreError> {
        self.get(|tables| tables.list_marks.get(list).cloned())
    }

    fn next_number(&self) -> Result<u64, StoreError> {
        self.get(|tables| tables.next_number)
    }

    fn watches(&self, which: Selection, end: Option<u64>) -> Scan<'_, (u64, Option<Watch>)> {
        Box::new(
            self.scan(move |tables, last: Option<&u64>| {
                let range = (Bound::Unbounded, before(last, end));
                let number = match which {
                    Selection::All => *tables.watches.range(range).next_back()?.0,
                    Selection::Open => *tables.open.range(range).next_back()?.0,
                };
                Some((number, tables.watches.get(&number).map(|watch| Watch::clone(watch))))
            })
            .map(Ok),
        )
    }

    fn open_watches(&self, after: Option<u64>) -> Scan<'_, (u64, Option<Watch>)> {
        let open = self.scan(move |tables, last: Option<&u64>| {
            let first = last.copied().or(after).map_or(Bound::Unbounded, Bound::Excluded);
            let number = *tables.open.range((first, Bound::Unbounded)).next()?.0;
            Some((number, tables.watches.get(&number).map(|watch| Watch::clone(watch))))
        });
        Box::new(open.map(Ok))
    }

    fn open(&self) -> Scan<'_, u64> {
        let open = self
            .scan(|tables, last| tables.open.range((behind(last, &0), Bound::Unbounded)).next().map(cloned));
        Box::new(open.map(|(number, ())| Ok(number)))
    }

    fn closed(&self, period: Range<Time>) -> Scan<'_, (Time, u64)> {
        let closed = self.scan(move |tables, last| {
            let first = (period.start, 0);
            let found = tables.closed.range((behind(last, &first), Bound::Unbounded)).next().map(cloned)?;
            (found.0.0 < period.end).then_some(found)
        });
        Box::new(closed.map(|(entry, ())| Ok(entry)))
    }

    fn dropped(&self, end: Time) -> Scan<'_, (Time, JobKey)> {
        let dropped = self.scan(move |tables, last: Option<&(Time, JobKey)>| {
            let first = last.map_or(Bound::Unbounded, |last| Bound::Excluded(last.clone()));
            let found = tables.dropped.range((first, Bound::Unbounded)).next().map(cloned)?;
            (found.0.0 < end).then_some(found)
        });
        Box::new(dropped.map(|(entry, ())| Ok(entry)))
    }

    fn events(&self, after: u64, until: u64) -> Scan<'_, (u64, Option<Event>)> {
        let events = self.scan(move |tables, last: Option<&u64>| {
            let after = last.copied().unwrap_or(after);
            let range = (Bound::Excluded(after), Bound::Unbounded);
            tables.events.range(range).next().filter(|(number, _)| **number <= until).map(cloned)
        });
        Box::new(events.map(|(number, event)| Ok((number, Some(event)))))
    }

    fn events_before(&self, end: Option<u64>) -> Scan<'_, (u64, Option<Event>)> {
        let events = self.scan(move |tables, last| {
            tables.events.range((Bound::Unbounded, before(last, end))).next_back().map(cloned)
        });
        Box::new(events.map(|(number, event)| Ok((number, Some(event)))))
    }

    fn newest_event(&self) -> Result<u64, StoreError> {
        self.get(|tables| tables.events.keys().next_back().copied().unwrap_or(0))
    }

    fn events_of(&self, watch: u64) -> Result<Vec<u64>, StoreError> {
        self.get(|tables| {
            tables
                .events
                .iter()
                .filter(|(_, event)| event.topic.watch() == Some(watch))
                .map(|(number, _)| *number)
                .collect()
        })
    }

    fn deliveries(&self, event: u64) -> Scan<'_, (DeliveryKey, Option<Delivery>)> {
        let deliveries = self.scan(move |tables, last| {
            let first = behind(last, &DeliveryKey::first_of(event));
            tables.deliveries.range((first, Bound::Included(DeliveryKey::last_of(event)))).next().map(cloned)
        });
        Box::new(deliveries.map(|(key, delivery)| Ok((key, Some(delivery)))))
    }

    fn deliveries_before(
        &self,
        which: Selection,
        end: Option<DeliveryKey>,
    ) -> Scan<'_, (DeliveryKey, Option<Delivery>)> {
        Box::new(
            self.scan(move |tables, last: Option<&DeliveryKey>| {
                let range = (Bound::Unbounded, before(last, end));
                let key = match which {
                    Selection::All => *tables.deliveries.range(range).next_back()?.0,
                    Selection::Open => *tables.pending.range(range).next_back()?.0,
                };
                Some((key, tables.deliveries.get(&key).cloned()))
            })
            .map(Ok),
        )
    }

    fn all_pending(&self, after: Option<DeliveryKey>, until: u64) -> Scan<'_, (DeliveryKey, Pending)> {
        let pending = self.scan(move |tables, last: Option<&DeliveryKey>| {
            let first = last.copied().or(after).map_or(Bound::Unbounded, Bound::Excluded);
            let found = tables.pending.range((first, Bound::Unbounded)).next();
            found.filter(|(key, _)| key.event <= until).map(cloned)
        });
        Box::new(pending.map(Ok))
    }

    fn pending_of(&self, event: u64) -> Scan<'_, (DeliveryKey, Pending)> {
        let pending = self.scan(move |tables, last| {
            let first = behind(last, &DeliveryKey::first_of(event));
            tables.pending.range((first, Bound::Included(DeliveryKey::last_of(event)))).next().map(cloned)
        });
        Box::new(pending.map(Ok))
    }

    fn paused_sinks(&self) -> Scan<'_, (String, Time)> {
        let paused = self.scan(|tables, last| {
            tables.paused.range((behind(last, &String::new()), Bound::Unbounded)).next().map(cloned)
        });
        Box::new(paused.map(Ok))
    }

    fn apply(&self, effects: Effects) -> Result<(), StoreError> {
        self.0.write().unwrap_or_else(PoisonError::into_inner).apply(effects);
        Ok(())
    }

    fn max_writes(&self) -> usize {
        usize::MAX
    }
}
