//! The typed records in sled's one tree.

use std::{collections::BTreeSet, ops::Range};

use super::{batch, snapshot::Snapshots, unreadable::Unreadable};
use crate::{
    store::{
        ClockMark, Delivery, DeliveryKey, Event, SegmentUse, StoreError, Watch,
        format::{
            codec::{self, Owned, Record},
            keys,
        },
        records::{Effects, JobEntry, JobKey, Pending, Records, Scan, Selection, passed_over},
    },
    util::units::Time,
};

/// The records of an open database.
#[derive(Clone, Copy)]
pub(super) struct SledRecords<'a> {
    pub(super) db: &'a sled::Db,
    pub(super) unreadable: &'a Unreadable,
    pub(super) snapshots: &'a Snapshots,
}

impl<'a> SledRecords<'a> {
    fn record<T: Record>(&self, key: &[u8]) -> Result<Option<T>, StoreError> {
        let Some(bytes) = self.db.get(key)? else { return Ok(None) };
        self.decode(key, &bytes).map(Some)
    }

    /// Decodes a record, and notes one that cannot be read.
    fn decode<T: Record>(&self, key: &[u8], bytes: &[u8]) -> Result<T, StoreError> {
        let decoded = codec::decode(bytes);
        if let Err(StoreError::Record(reason)) = &decoded {
            self.unreadable.note(key, reason);
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

    /// Reads each of `entries` by `read`, and passes over those without a typed key.
    fn scan<T: 'a>(
        &self,
        entries: impl Iterator<Item = sled::Result<(sled::IVec, sled::IVec)>> + 'a,
        read: impl Fn(Self, &[u8], &[u8]) -> Result<Option<T>, StoreError> + 'a,
    ) -> Scan<'a, T> {
        let this = *self;
        Box::new(entries.filter_map(move |entry| {
            let (key, value) = match entry {
                Ok(entry) => entry,
                Err(error) => return Some(Err(error.into())),
            };
            read(this, &key, &value).transpose()
        }))
    }

    /// The number of the last segment that events need; 0 when they need none.
    pub(super) fn last_segment(&self) -> Result<u64, StoreError> {
        let last = self.db.scan_prefix([keys::SEGMENT]).keys().next_back().transpose()?;
        Ok(last.and_then(|key| keys::number_of(&key)).unwrap_or(0))
    }

    /// The watch of an `o` key. `None` when it was removed just now.
    fn open_watch(self, key: &[u8], value: &[u8]) -> Result<Option<(u64, Option<Watch>)>, StoreError> {
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

    fn numbered_event(self, key: &[u8], value: &[u8]) -> Result<Option<(u64, Option<Event>)>, StoreError> {
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

/// The key and the value of a watch. It changes its place when it is finished, and when its job is watched again.
pub(super) fn place_of(db: &sled::Db, number: u64) -> Result<Option<(Vec<u8>, sled::IVec)>, StoreError> {
    for _ in 0..SEARCHES {
        for key in [keys::open(number), keys::watch(number)] {
            if let Some(value) = db.get(&key)?.filter(|value| key[0] == keys::WATCH || !value.is_empty()) {
                return Ok(Some((key, value)));
            }
        }
    }
    Ok(None)
}

impl<'a> SledRecords<'a> {
    /// The watches before number `before`, newest first, from both of their places. A commit that moves one waits for the turn
    /// of the reader, so each is found once.
    fn all_watches(
        self,
        before: Option<u64>,
    ) -> impl Iterator<Item = Result<(u64, Option<Watch>), StoreError>> + 'a {
        let (mut before, mut chunk, mut failed) = (before, Vec::new().into_iter(), false);
        std::iter::from_fn(move || {
            loop {
                if let Some((key, value)) = chunk.next() {
                    let (key, value): (sled::IVec, sled::IVec) = (key, value);
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
                match self.snapshots.between_commits(|| self.watches_before(before)) {
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

    /// The next records of watches before number `before`, newest first.
    fn watches_before(self, before: Option<u64>) -> Result<Vec<(sled::IVec, sled::IVec)>, StoreError> {
        let descending = |prefix: u8| {
            let end = before.map_or_else(|| vec![prefix + 1], |before| keys::numbered(prefix, before));
            self.db.range(vec![prefix]..end).rev()
        };
        let is_record = |entry: &sled::Result<(sled::IVec, sled::IVec)>| {
            entry.as_ref().map_or(true, |(_, value)| open_record(value).is_some())
        };
        let mut open = descending(keys::OPEN).filter(is_record).peekable();
        let mut others = descending(keys::WATCH).peekable();
        let mut found = Vec::with_capacity(CHUNK);
        while found.len() < CHUNK {
            let number = |entry: Option<&sled::Result<(sled::IVec, sled::IVec)>>| match entry {
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
                Some(entry) => found.push(entry?),
                None => break,
            }
        }
        Ok(found)
    }
}

impl Records for SledRecords<'_> {
    fn watch(&self, number: u64) -> Result<Option<Watch>, StoreError> {
        let Some((key, value)) = place_of(self.db, number)? else { return Ok(None) };
        Ok(Some(Watch { number, ..self.decode(&key, &value)? }))
    }

    fn has_watch(&self, number: u64) -> Result<bool, StoreError> {
        Ok(place_of(self.db, number)?.is_some())
    }

    fn job(&self, job: &JobKey) -> Result<Option<JobEntry>, StoreError> {
        self.db.get(keys::id(job))?.map(|value| codec::job_entry(&value)).transpose()
    }

    fn is_open(&self, number: u64) -> Result<bool, StoreError> {
        Ok(self.db.contains_key(keys::open(number))?)
    }

    fn event(&self, number: u64) -> Result<Option<Event>, StoreError> {
        self.record(&keys::event(number))
    }

    fn segment(&self, number: u64) -> Result<Option<SegmentUse>, StoreError> {
        Ok(self.db.get(keys::segment(number))?.and_then(|value| codec::segment(&value)))
    }

    fn segments(&self) -> Scan<'_, (u64, SegmentUse)> {
        self.scan(self.db.scan_prefix([keys::SEGMENT]), |_, key, value| {
            Ok(keys::number_of(key).zip(codec::segment(value)))
        })
    }

    fn delivery(&self, key: DeliveryKey) -> Result<Option<Delivery>, StoreError> {
        self.record(&keys::delivery(keys::DELIVERY, key))
    }

    fn has_delivery(&self, key: DeliveryKey) -> Result<bool, StoreError> {
        Ok(self.db.contains_key(keys::delivery(keys::DELIVERY, key))?)
    }

    fn pending(&self, key: DeliveryKey) -> Result<Option<Pending>, StoreError> {
        let value = self.db.get(keys::delivery(keys::PENDING, key))?;
        Ok(value.and_then(|value| codec::pending(&value)))
    }

    fn paused(&self, sink: &str) -> Result<Option<Time>, StoreError> {
        Ok(self.db.get(keys::paused(sink))?.and_then(|value| keys::time_of(&value)))
    }

    fn learned(&self, source: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let mut bytes = Vec::new();
        for part in self.db.scan_prefix(keys::curves(source)).values() {
            bytes.extend_from_slice(&part?);
        }
        Ok((!bytes.is_empty()).then_some(bytes))
    }

    fn learned_sources(&self) -> Result<BTreeSet<String>, StoreError> {
        let mut sources = BTreeSet::new();
        for key in self.db.scan_prefix([keys::CURVES]).keys() {
            let key = key?;
            let source = key[1..].split(|byte| *byte == 0).next().unwrap_or_default();
            sources.insert(String::from_utf8_lossy(source).into_owned());
        }
        Ok(sources)
    }

    fn clock_mark(&self) -> Result<Option<ClockMark>, StoreError> {
        self.record(keys::CLOCK)
    }

    fn next_number(&self) -> Result<u64, StoreError> {
        Ok(self.db.get(keys::NEXT)?.and_then(|bytes| keys::number_of(&bytes)).unwrap_or(1))
    }

    fn watches(&self, which: Selection, before: Option<u64>) -> Scan<'_, (u64, Option<Watch>)> {
        if which == Selection::All {
            return Box::new(self.all_watches(before));
        }
        let end = before.map_or_else(|| vec![keys::OPEN + 1], keys::open);
        self.scan(self.db.range(vec![keys::OPEN]..end).rev(), Self::open_watch)
    }

    fn open_watches(&self, after: Option<u64>) -> Scan<'_, (u64, Option<Watch>)> {
        let first = match after.map(|after| after.checked_add(1)) {
            Some(Some(next)) => keys::open(next),
            Some(None) => vec![keys::OPEN + 1],
            None => vec![keys::OPEN],
        };
        self.scan(self.db.range(first..vec![keys::OPEN + 1]), Self::open_watch)
    }

    fn open(&self) -> Scan<'_, u64> {
        self.scan(self.db.scan_prefix([keys::OPEN]), |_, key, _| Ok(keys::number_of(key)))
    }

    fn closed(&self, period: Range<Time>) -> Scan<'_, (Time, u64)> {
        let range = keys::before(keys::CLOSED, period.start)..keys::before(keys::CLOSED, period.end);
        self.scan(self.db.range(range), |_, key, _| Ok(keys::closed_of(key)))
    }

    fn dropped(&self, before: Time) -> Scan<'_, (Time, JobKey)> {
        let range = vec![keys::DROPPED]..keys::before(keys::DROPPED, before);
        self.scan(self.db.range(range), |_, key, _| Ok(keys::dropped_of(key)))
    }

    fn events(&self, after: u64, until: u64) -> Scan<'_, (u64, Option<Event>)> {
        let range = keys::event(after.saturating_add(1))..=keys::event(until.max(after.saturating_add(1)));
        let entries = self.db.range(range).take_while(move |_| after < until);
        self.scan(entries, Self::numbered_event)
    }

    fn events_before(&self, before: Option<u64>) -> Scan<'_, (u64, Option<Event>)> {
        let end = before.map_or_else(|| vec![keys::EVENT + 1], keys::event);
        self.scan(self.db.range(vec![keys::EVENT]..end).rev(), Self::numbered_event)
    }

    fn newest_event(&self) -> Result<u64, StoreError> {
        let last = self.db.scan_prefix([keys::EVENT]).keys().next_back().transpose()?;
        Ok(last.and_then(|key| keys::number_of(&key)).unwrap_or(0))
    }

    fn events_of(&self, watch: u64) -> Result<Vec<u64>, StoreError> {
        let mut events = Vec::new();
        for record in self.db.scan_prefix([keys::EVENT]) {
            let (key, value) = record?;
            if codec::decode::<Owned>(&value).is_ok_and(|event| event.watch == watch) {
                events.extend(keys::number_of(&key));
            }
        }
        Ok(events)
    }

    fn deliveries(&self, event: u64) -> Scan<'_, (DeliveryKey, Option<Delivery>)> {
        self.scan(self.db.scan_prefix(keys::numbered(keys::DELIVERY, event)), |this, key, value| {
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
        self.scan(self.db.range(vec![prefix]..end).rev(), move |this, key, value| {
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
        self.scan(self.db.range(first..behind), |_, key, value| {
            Ok(keys::delivery_of(key).zip(codec::pending(value)))
        })
    }

    fn pending_of(&self, event: u64) -> Scan<'_, (DeliveryKey, Pending)> {
        self.scan(self.db.scan_prefix(keys::numbered(keys::PENDING, event)), |_, key, value| {
            Ok(keys::delivery_of(key).zip(codec::pending(value)))
        })
    }

    fn paused_sinks(&self) -> Scan<'_, (String, Time)> {
        self.scan(self.db.scan_prefix([keys::PAUSED]), |_, key, value| {
            let sink = String::from_utf8_lossy(&key[1..]).into_owned();
            Ok(keys::time_of(value).map(|since| (sink, since)))
        })
    }

    fn apply(&self, effects: Effects) -> Result<(), StoreError> {
        batch::apply(*self, effects)
    }

    fn max_writes(&self) -> usize {
        batch::MAX_WRITES
    }
}
