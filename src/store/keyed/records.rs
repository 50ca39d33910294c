//! The typed records over pairs of keys and values.

use std::{collections::BTreeSet, ops::Range};

use super::{Found, Keyed, Pair, Pairs, below};
use crate::{
    model::{group::GroupName, job::JobId},
    store::{
        ClockMark, Delivery, DeliveryKey, Event, Group, ListMark, Member, NoticeState, SegmentUse,
        StoreError, Watch,
        format::{
            codec::{self, Owned, Record},
            keys,
        },
        records::{Effects, JobEntry, JobKey, ListKey, Pending, Records, Scan, Selection, passed_over},
    },
    util::units::Time,
};

impl<P: Pairs> Keyed<P> {
    fn record<T: Record>(&self, key: &[u8]) -> Result<Option<T>, StoreError> {
        let Some(bytes) = self.0.get(key)? else { return Ok(None) };
        self.decode(key, &bytes).map(Some)
    }

    /// Decodes a record, and notes one that cannot be read.
    fn decode<T: Record>(&self, key: &[u8], bytes: &[u8]) -> Result<T, StoreError> {
        let decoded = codec::decode(bytes);
        if let Err(StoreError::Record(reason)) = &decoded {
            self.0.unreadable().note(key, reason);
        }
        decoded
    }

    /// The same, with `None` for a record that cannot be read.
    fn readable<T: Record>(&self, key: &[u8], bytes: &[u8]) -> Result<Option<T>, StoreError> {
        match self.decode(key, bytes) {
            Err(StoreError::Record(_)) => Ok(None),
            decoded => decoded.map(Some),
        }
    }

    /// Reads each of `pairs` by `read`, and passes over those without a typed key.
    fn scan<'s, T: 's>(
        &'s self,
        pairs: impl Iterator<Item = Found<P>> + 's,
        read: impl Fn(&'s Self, &[u8], &[u8]) -> Result<Option<T>, StoreError> + 's,
    ) -> Scan<'s, T> {
        Box::new(pairs.filter_map(move |pair| {
            let (key, value) = match pair {
                Ok(pair) => pair,
                Err(error) => return Some(Err(error)),
            };
            read(self, &key, &value).transpose()
        }))
    }

    /// The number that the last key with this prefix ends with; 0 when there is none.
    fn last_number(&self, prefix: u8) -> Result<u64, StoreError> {
        let last = self.0.descending(below([prefix])).next().transpose()?;
        Ok(last.and_then(|(key, _)| keys::number_of(&key)).unwrap_or(0))
    }

    /// The number of the last segment that events need; 0 when they need none.
    pub(in crate::store) fn last_segment(&self) -> Result<u64, StoreError> {
        self.last_number(keys::SEGMENT)
    }

    /// The names of the sources of known jobs. It reads one key of each.
    fn sources(&self) -> impl Iterator<Item = Result<String, StoreError>> + '_ {
        let mut next = Some(vec![keys::ID]);
        std::iter::from_fn(move || {
            let first = next.take()?;
            let (key, _) = match self.0.ascending(first..vec![keys::ID + 1]).next()? {
                Ok(pair) => pair,
                Err(error) => return Some(Err(error)),
            };
            let name = key[1..].split(|byte| *byte == 0).next().unwrap_or_default();
            // The first key that no job of this source has.
            next = Some([&[keys::ID], name, &[1]].concat());
            Some(Ok(String::from_utf8_lossy(name).into_owned()))
        })
    }

    /// The watch of an `o` key. `None` when it was removed just now.
    fn open_watch(&self, key: &[u8], value: &[u8]) -> Result<Option<(u64, Option<Watch>)>, StoreError> {
        let Some(number) = keys::number_of(key) else { return Ok(None) };
        let watch = match open_record(value) {
            Some(record) => self.readable::<Watch>(key, record)?,
            None => match self.watch(number) {
                // Both are removed in one batch: without the entry it was removed just now, with it the record was lost.
                Ok(None) if self.is_open(number)? => {
                    return Err(StoreError::Damaged(format!("the record of open watch {number} is missing")));
                }
                Ok(None) => return Ok(None),
                read => passed_over(read)?,
            },
        };
        Ok(Some((number, watch.map(|watch| Watch { number, ..watch }))))
    }

    fn numbered_event(&self, key: &[u8], value: &[u8]) -> Result<Option<(u64, Option<Event>)>, StoreError> {
        let Some(number) = keys::number_of(key) else { return Ok(None) };
        Ok(Some((number, self.readable(key, value)?)))
    }
}

/// Watches that one turn of a scan reads.
const CHUNK: usize = 128;

/// How often a watch is sought that is in neither place: it may have changed its place in between.
const SEARCHES: usize = 2;

/// The record of a watch that is open, if its key has one.
fn open_record(value: &[u8]) -> Option<&[u8]> {
    Some(value).filter(|value| !value.is_empty())
}

/// Where a record is, and what is there.
type Place<P> = (Vec<u8>, <P as Pairs>::Bytes);

/// The key and the value of a watch. It changes its place when it is finished, and when its job is watched again.
pub(in crate::store) fn place_of<P: Pairs>(pairs: &P, number: u64) -> Result<Option<Place<P>>, StoreError> {
    for _ in 0..SEARCHES {
        for key in [keys::open(number), keys::watch(number)] {
            if let Some(value) = pairs.get(&key)?.filter(|value| key[0] == keys::WATCH || !value.is_empty()) {
                return Ok(Some((key, value)));
            }
        }
    }
    Ok(None)
}

impl<P: Pairs> Keyed<P> {
    /// The watches before number `before`, newest first, from both of their places. Both are read at one instant, so each is
    /// found once.
    fn all_watches(
        &self,
        before: Option<u64>,
    ) -> impl Iterator<Item = Result<(u64, Option<Watch>), StoreError>> + '_ {
        let (mut before, mut chunk, mut failed) = (before, Vec::new().into_iter(), false);
        std::iter::from_fn(move || {
            loop {
                if let Some((key, value)) = chunk.next() {
                    let (key, value): Pair<P> = (key, value);
                    let Some(number) = keys::number_of(&key) else { continue };
                    before = Some(number);
                    let watch = self.readable::<Watch>(&key, &value).transpose();
                    return Some(
                        watch.transpose().map(|watch| (number, watch.map(|watch| Watch { number, ..watch }))),
                    );
                }
                if failed {
                    return None;
                }
                match self.0.at_one_instant(|pairs| watches_before(pairs, before)) {
                    Ok(found) if found.is_empty() => return None,
                    Ok(found) => chunk = found.into_iter(),
                    Err(error) => {
                        failed = true;
                        return Some(Err(error));
                    }
                }
            }
        })
    }
}

/// The next records of watches before number `before`, newest first.
fn watches_before<P: Pairs>(pairs: &P, before: Option<u64>) -> Result<Vec<Pair<P>>, StoreError> {
    let descending = |prefix: u8| {
        let end = before.map_or_else(|| vec![prefix + 1], |before| keys::numbered(prefix, before));
        pairs.descending(vec![prefix]..end)
    };
    let is_record = |pair: &Found<P>| pair.as_ref().map_or(true, |(_, value)| open_record(value).is_some());
    let mut open = descending(keys::OPEN).filter(is_record).peekable();
    let mut others = descending(keys::WATCH).peekable();
    let mut found = Vec::with_capacity(CHUNK);
    while found.len() < CHUNK {
        let number = |pair: Option<&Found<P>>| match pair {
            // An error comes first.
            Some(Err(_)) => Some(u64::MAX),
            Some(Ok((key, _))) => keys::number_of(key),
            None => None,
        };
        let next = match number(open.peek()) > number(others.peek()) {
            true => open.next(),
            false => others.next(),
        };
        match next {
            Some(pair) => found.push(pair?),
            None => break,
        }
    }
    Ok(found)
}

impl<P: Pairs> Records for Keyed<P> {
    fn watch(&self, number: u64) -> Result<Option<Watch>, StoreError> {
        let Some((key, value)) = place_of(&self.0, number)? else { return Ok(None) };
        Ok(Some(Watch { number, ..self.decode(&key, &value)? }))
    }

    fn has_watch(&self, number: u64) -> Result<bool, StoreError> {
        Ok(place_of(&self.0, number)?.is_some())
    }

    fn job(&self, job: &JobKey) -> Result<Option<JobEntry>, StoreError> {
        self.0.get(&keys::id(job))?.map(|value| codec::job_entry(&value)).transpose()
    }

    fn other_kinds(&self, source: &str, job_id: &JobId) -> Scan<'_, (JobKey, JobEntry)> {
        let entries = self.0.ascending(below(keys::other_kinds(source, job_id)));
        self.scan(entries, |_, key, value| Ok(keys::job_of_id(key).zip(codec::job_entry(value).ok())))
    }

    fn jobs_by_prefix(&self, source: Option<&str>, prefix: &str) -> Scan<'_, JobEntry> {
        let sources: Box<dyn Iterator<Item = Result<String, StoreError>> + '_> = match source {
            Some(source) => Box::new(std::iter::once(Ok(source.to_owned()))),
            None => Box::new(self.sources()),
        };
        let prefix = prefix.to_owned();
        Box::new(sources.flat_map(move |source| match source {
            Ok(source) => {
                let pairs = self.0.ascending(below(keys::ids(&source, &prefix)));
                self.scan(pairs, |_, _, value| passed_over(codec::job_entry(value).map(Some)))
            }
            Err(error) => Box::new(std::iter::once(Err(error))),
        }))
    }

    fn is_open(&self, number: u64) -> Result<bool, StoreError> {
        self.0.contains(&keys::open(number))
    }

    fn group(&self, number: u64) -> Result<Option<Group>, StoreError> {
        Ok(self.record::<Group>(&keys::group(number))?.map(|group| Group { number, ..group }))
    }

    fn group_named(&self, name: &GroupName) -> Result<Option<u64>, StoreError> {
        Ok(self.0.get(&keys::group_name(name))?.and_then(|value| keys::number_of(&value)))
    }

    fn groups(&self, after: Option<&GroupName>) -> Scan<'_, (GroupName, Option<Group>)> {
        // The first key that is greater than the one before it.
        let first =
            after.map_or_else(|| vec![keys::GROUP_NAME], |name| [keys::group_name(name), vec![0]].concat());
        self.scan(self.0.ascending(first..vec![keys::GROUP_NAME + 1]), |this, key, value| {
            let Some((name, number)) = keys::group_name_of(key).zip(keys::number_of(value)) else {
                return Ok(None);
            };
            Ok(Some((name, passed_over(this.group(number))?)))
        })
    }

    fn due_groups(&self) -> Scan<'_, u64> {
        self.scan(self.0.ascending(below([keys::DUE_GROUP])), |_, key, _| Ok(keys::number_of(key)))
    }

    fn member(&self, group: u64, job: &JobKey) -> Result<Option<Member>, StoreError> {
        self.record(&keys::member(group, job))
    }

    fn members(&self, group: u64, after: Option<&JobKey>) -> Scan<'_, (JobKey, Option<Member>)> {
        let first = after.map_or_else(
            || keys::numbered(keys::MEMBER, group),
            |job| [keys::member(group, job), vec![0]].concat(),
        );
        let behind = match group.checked_add(1) {
            Some(next) => keys::numbered(keys::MEMBER, next),
            None => vec![keys::MEMBER + 1],
        };
        self.scan(self.0.ascending(first..behind), |this, key, value| {
            let Some((_, job)) = keys::member_of(key) else { return Ok(None) };
            Ok(Some((job, this.readable(key, value)?)))
        })
    }

    fn event(&self, number: u64) -> Result<Option<Event>, StoreError> {
        self.record(&keys::event(number))
    }

    fn segment(&self, number: u64) -> Result<Option<SegmentUse>, StoreError> {
        Ok(self.0.get(&keys::segment(number))?.and_then(|value| codec::segment(&value)))
    }

    fn segments(&self) -> Scan<'_, (u64, SegmentUse)> {
        self.scan(self.0.ascending(below([keys::SEGMENT])), |_, key, value| {
            Ok(keys::number_of(key).zip(codec::segment(value)))
        })
    }

    fn delivery(&self, key: DeliveryKey) -> Result<Option<Delivery>, StoreError> {
        self.record(&keys::delivery(keys::DELIVERY, key))
    }

    fn has_delivery(&self, key: DeliveryKey) -> Result<bool, StoreError> {
        self.0.contains(&keys::delivery(keys::DELIVERY, key))
    }

    fn pending(&self, key: DeliveryKey) -> Result<Option<Pending>, StoreError> {
        let value = self.0.get(&keys::delivery(keys::PENDING, key))?;
        Ok(value.and_then(|value| codec::pending(&value)))
    }

    fn paused(&self, sink: &str) -> Result<Option<Time>, StoreError> {
        Ok(self.0.get(&keys::paused(sink))?.and_then(|value| keys::time_of(&value)))
    }

    fn notice(&self, subject: &str) -> Result<Option<NoticeState>, StoreError> {
        self.record(&keys::notice(subject))
    }

    fn notices(&self) -> Scan<'_, (String, Option<NoticeState>)> {
        self.scan(self.0.ascending(below([keys::NOTICE])), |this, key, value| {
            let subject = String::from_utf8_lossy(&key[1..]).into_owned();
            Ok(Some((subject, this.readable(key, value)?)))
        })
    }

    fn learned(&self, source: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let mut bytes = Vec::new();
        for part in self.0.ascending(below(keys::curves(source))) {
            bytes.extend_from_slice(&part?.1);
        }
        Ok((!bytes.is_empty()).then_some(bytes))
    }

    fn learned_sources(&self) -> Result<BTreeSet<String>, StoreError> {
        let mut sources = BTreeSet::new();
        for pair in self.0.ascending(below([keys::CURVES])) {
            let (key, _) = pair?;
            let source = key[1..].split(|byte| *byte == 0).next().unwrap_or_default();
            sources.insert(String::from_utf8_lossy(source).into_owned());
        }
        Ok(sources)
    }

    fn clock_mark(&self) -> Result<Option<ClockMark>, StoreError> {
        self.record(keys::CLOCK)
    }

    fn list_mark(&self, list: &ListKey) -> Result<Option<ListMark>, StoreError> {
        self.record(&keys::list_mark(list))
    }

    fn next_number(&self) -> Result<u64, StoreError> {
        Ok(self.0.get(keys::NEXT)?.and_then(|bytes| keys::number_of(&bytes)).unwrap_or(1))
    }

    fn watches(&self, which: Selection, before: Option<u64>) -> Scan<'_, (u64, Option<Watch>)> {
        if which == Selection::All {
            return Box::new(self.all_watches(before));
        }
        let end = before.map_or_else(|| vec![keys::OPEN + 1], keys::open);
        self.scan(self.0.descending(vec![keys::OPEN]..end), Self::open_watch)
    }

    fn open_watches(&self, after: Option<u64>) -> Scan<'_, (u64, Option<Watch>)> {
        let first = match after.map(|after| after.checked_add(1)) {
            Some(Some(next)) => keys::open(next),
            Some(None) => vec![keys::OPEN + 1],
            None => vec![keys::OPEN],
        };
        self.scan(self.0.ascending(first..vec![keys::OPEN + 1]), Self::open_watch)
    }

    fn open(&self) -> Scan<'_, u64> {
        self.scan(self.0.ascending(below([keys::OPEN])), |_, key, _| Ok(keys::number_of(key)))
    }

    fn closed(&self, period: Range<Time>) -> Scan<'_, (Time, u64)> {
        let range = keys::before(keys::CLOSED, period.start)..keys::before(keys::CLOSED, period.end);
        self.scan(self.0.ascending(range), |_, key, _| Ok(keys::closed_of(key)))
    }

    fn dropped(&self, before: Time) -> Scan<'_, (Time, JobKey)> {
        let range = vec![keys::DROPPED]..keys::before(keys::DROPPED, before);
        self.scan(self.0.ascending(range), |_, key, _| Ok(keys::dropped_of(key)))
    }

    fn events(&self, after: u64, until: u64) -> Scan<'_, (u64, Option<Event>)> {
        let behind = until.checked_add(1).map_or_else(|| vec![keys::EVENT + 1], keys::event);
        let first = after.checked_add(1).map_or_else(|| behind.clone(), keys::event);
        let behind = behind.max(first.clone());
        let entries = self.0.ascending(first..behind);
        self.scan(entries, Self::numbered_event)
    }

    fn events_before(&self, before: Option<u64>) -> Scan<'_, (u64, Option<Event>)> {
        let end = before.map_or_else(|| vec![keys::EVENT + 1], keys::event);
        self.scan(self.0.descending(vec![keys::EVENT]..end), Self::numbered_event)
    }

    fn newest_event(&self) -> Result<u64, StoreError> {
        self.last_number(keys::EVENT)
    }

    fn events_of(&self, watch: u64) -> Result<Vec<u64>, StoreError> {
        let mut events = Vec::new();
        for record in self.0.ascending(below([keys::EVENT])) {
            let (key, value) = record?;
            if codec::decode::<Owned>(&value).is_ok_and(|event| event.watch == watch) {
                events.extend(keys::number_of(&key));
            }
        }
        Ok(events)
    }

    fn deliveries(&self, event: u64) -> Scan<'_, (DeliveryKey, Option<Delivery>)> {
        self.scan(self.0.ascending(below(keys::numbered(keys::DELIVERY, event))), |this, key, value| {
            let Some(at) = keys::delivery_of(key) else { return Ok(None) };
            Ok(Some((at, this.readable(key, value)?)))
        })
    }

    fn deliveries_before(
        &self,
        which: Selection,
        before: Option<DeliveryKey>,
    ) -> Scan<'_, (DeliveryKey, Option<Delivery>)> {
        let prefix = if which == Selection::Open { keys::PENDING } else { keys::DELIVERY };
        let end = before.map_or_else(|| vec![prefix + 1], |before| keys::delivery(prefix, before));
        self.scan(self.0.descending(vec![prefix]..end), move |this, key, value| {
            let Some(at) = keys::delivery_of(key) else { return Ok(None) };
            let delivery = match which {
                Selection::All => this.readable(key, value)?,
                Selection::Open => passed_over(this.delivery(at))?,
            };
            Ok(Some((at, delivery)))
        })
    }

    fn all_pending(&self, after: Option<DeliveryKey>, until: u64) -> Scan<'_, (DeliveryKey, Pending)> {
        // The first key that is greater than the one before it.
        let first = after.map_or_else(
            || vec![keys::PENDING],
            |after| [keys::delivery(keys::PENDING, after), vec![0]].concat(),
        );
        let behind = match until.checked_add(1) {
            Some(number) => keys::numbered(keys::PENDING, number),
            None => vec![keys::PENDING + 1],
        };
        let behind = behind.max(first.clone());
        self.scan(self.0.ascending(first..behind), |_, key, value| {
            Ok(keys::delivery_of(key).zip(codec::pending(value)))
        })
    }

    fn pending_of(&self, event: u64) -> Scan<'_, (DeliveryKey, Pending)> {
        self.scan(self.0.ascending(below(keys::numbered(keys::PENDING, event))), |_, key, value| {
            Ok(keys::delivery_of(key).zip(codec::pending(value)))
        })
    }

    fn paused_sinks(&self) -> Scan<'_, (String, Time)> {
        self.scan(self.0.ascending(below([keys::PAUSED])), |_, key, value| {
            let sink = String::from_utf8_lossy(&key[1..]).into_owned();
            Ok(keys::time_of(value).map(|since| (sink, since)))
        })
    }

    fn apply(&self, effects: Effects) -> Result<(), StoreError> {
        self.0.apply(effects)
    }

    fn max_writes(&self) -> usize {
        self.0.max_writes()
    }
}
