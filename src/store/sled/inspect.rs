//! Checks whether a whole store holds together, record by record.

use data_encoding::HEXLOWER;
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

use sha2::{Digest as _, Sha256};

use super::{Shared, records::place_of};
use crate::{
    model::delivery::DeliveryState,
    store::{
        BodyEntry, Delivery, Event, SegmentUse, StoreError, StoreProblem, StoredBody, StoredJob, Watch,
        WatchStage,
        format::{
            codec::{self, Record},
            keys, shown,
        },
        records::JobKey,
    },
};

/// Checks whether every record can be read and agrees with the others. With `hashes` it reads every stored job, too. It
/// changes nothing.
pub(super) fn check(shared: &Shared, hashes: bool) -> Result<Vec<StoreProblem>, StoreError> {
    let mut check = Check { shared, hashes, problems: Vec::new() };
    shared.read(|records| {
        let db = records.db;
        check.watches(db)?;
        check.ids(db)?;
        check.events(db)?;
        check.deliveries(db)?;
        check.indexes(db)?;
        for BodyEntry { watch: number, event_id, .. } in shared.spool.entries()? {
            if place_of(db, number)?.is_none() {
                let name = shared.spool.shown(number, &event_id, None);
                check.problem(&name.display().to_string(), "belongs to no watch; the next start removes it");
            }
        }
        Ok(())
    })?;
    Ok(check.problems)
}

struct Check<'a> {
    shared: &'a Shared,
    hashes: bool,
    problems: Vec<StoreProblem>,
}

impl Check<'_> {
    fn problem(&mut self, at: &str, what: impl Into<String>) {
        self.problems.push(StoreProblem { at: at.to_owned(), what: what.into() });
    }

    fn decoded<T: Record>(&mut self, key: &[u8], value: &[u8]) -> Option<T> {
        let reason = match codec::decode(value) {
            Ok(record) => return Some(record),
            Err(StoreError::Record(reason)) => reason,
            Err(error) => error.to_string(),
        };
        self.problem(&shown(key), format!("cannot be read: {reason}"));
        None
    }

    /// Names the jobs whose watches cannot be found by their ids, or cannot be read.
    fn ids(&mut self, db: &sled::Db) -> Result<(), StoreError> {
        for entry in db.scan_prefix([keys::ID]) {
            let (key, value) = entry?;
            let at = keys::source_and_job(&key);
            let Some(value) = value.strip_prefix(b"+") else {
                if !value.starts_with(b"-") {
                    self.problem(&at, "has an index entry that cannot be read; `tidings unwatch` removes it");
                }
                continue;
            };
            let Some(number) = keys::number_of(value) else {
                self.problem(&at, "has an index entry that cannot be read; `tidings unwatch` removes it");
                continue;
            };
            match place_of(db, number)?.map(|(_, bytes)| bytes) {
                Some(bytes) if codec::decode::<Watch>(&bytes).is_err() => {
                    let what =
                        format!("is watch {number}, which cannot be read; `tidings unwatch` removes it");
                    self.problem(&at, what);
                }
                Some(_) => {}
                None => self.problem(&at, format!("is watch {number}, which is missing")),
            }
        }
        Ok(())
    }

    fn watches(&mut self, db: &sled::Db) -> Result<(), StoreError> {
        // Format 1 has nothing in the key of an open watch.
        let records = |entry: &sled::Result<(sled::IVec, sled::IVec)>| {
            entry.as_ref().map_or(true, |(_, value)| !value.is_empty())
        };
        let open = db.scan_prefix([keys::OPEN]).filter(records);
        for entry in db.scan_prefix([keys::WATCH]).chain(open) {
            let (key, value) = entry?;
            let (Some(number), Some(watch)) = (keys::number_of(&key), self.decoded::<Watch>(&key, &value))
            else {
                continue;
            };
            let at = shown(&key);
            let lacks = |this: &mut Self, there: bool, what: &str| {
                if !there {
                    this.problem(&at, format!("of job {} {what}", watch.job_id));
                }
            };
            let index = db.get(keys::id(&JobKey::of(&watch)))?;
            let named = index.as_deref().and_then(|value| value.strip_prefix(b"+")).and_then(keys::number_of);
            lacks(self, named == Some(number), "is not found by its id: the API does not know it");
            let open = db.contains_key(keys::open(number))?;
            lacks(
                self,
                open == (watch.stage != WatchStage::Finished),
                "is open, or not, against its record: it may not be followed",
            );
            if let Some(closed) = watch.closed_at {
                let there = db.contains_key(keys::closed(closed, number))?;
                lacks(self, there, "is finished and has no date: retention never drops it");
            }
            for event in watch.all_events() {
                let there = db.contains_key(keys::event(event))?;
                lacks(self, there, &format!("names event {event}, which is missing"));
            }
            let mut pending = 0;
            for event in watch.all_events() {
                for value in db.scan_prefix(keys::numbered(keys::DELIVERY, event)).values() {
                    let delivery = codec::decode::<Delivery>(&value?);
                    pending += u32::from(delivery.is_ok_and(|one| one.state == DeliveryState::Pending));
                }
            }
            let counts = format!("counts {} pending deliveries, and there are {pending}", watch.pending);
            lacks(self, pending == watch.pending, &counts);
        }
        Ok(())
    }

    fn events(&mut self, db: &sled::Db) -> Result<(), StoreError> {
        let mut needed: BTreeMap<u64, SegmentUse> = BTreeMap::new();
        for entry in db.scan_prefix([keys::EVENT]) {
            let (key, value) = entry?;
            let Some(event) = self.decoded::<Event>(&key, &value) else { continue };
            if place_of(db, event.watch)?.is_none() {
                self.problem(&shown(&key), format!("belongs to watch {}, which is missing", event.watch));
            }
            if let Some(job) = event.news.job() {
                self.body(event.watch, event.news.event_id(), job);
                if let Some(at) = job.at {
                    let needed = needed.entry(at.segment).or_default();
                    (needed.bodies, needed.bytes) =
                        (needed.bodies + 1, needed.bytes.saturating_add(job.size));
                }
            }
        }
        self.segments(db, &needed)
    }

    /// Holds the count of each segment against the events that name it.
    fn segments(&mut self, db: &sled::Db, needed: &BTreeMap<u64, SegmentUse>) -> Result<(), StoreError> {
        let mut counted = BTreeMap::new();
        for entry in db.scan_prefix([keys::SEGMENT]) {
            let (key, value) = entry?;
            counted.extend(keys::number_of(&key).zip(codec::segment(&value)));
        }
        let numbers: BTreeSet<u64> = counted.keys().chain(needed.keys()).copied().collect();
        for number in numbers {
            let of = |uses: &BTreeMap<u64, SegmentUse>| uses.get(&number).copied().unwrap_or_default();
            let (counted, needed) = (of(&counted), of(needed));
            // One that counts too many is removed later; an event that could not be read when it was removed still counts.
            if counted.bodies < needed.bodies {
                let shown = self.shared.spool.shown_segment(number);
                let (counted, needed) = (counted.bodies, needed.bodies);
                let what = format!(
                    "counts {counted} stored jobs, and events name {needed}: it may be removed too early"
                );
                self.problem(&shown.display().to_string(), what);
            }
        }
        Ok(())
    }

    /// The stored job of an event.
    fn body(&mut self, watch: u64, event_id: &str, job: &StoredJob) {
        let stored = self.shared.spool.get(watch, event_id, job);
        let measured = match self.hashes {
            true => digest(&stored).map(|(size, sha256)| (size, sha256 == job.sha256)),
            false => stored.size().map(|size| (size, true)),
        };
        let what = match measured {
            Err(error) => {
                format!("cannot be read ({error}): what waits to be delivered of it fails")
            }
            Ok((size, _)) if size != job.size => format!("has {size} bytes instead of {}", job.size),
            Ok((_, false)) => "has other bytes than were fetched".to_owned(),
            Ok(_) => return,
        };
        let what = format!("the stored job of event {event_id} {what}");
        let shown = self.shared.spool.shown(watch, event_id, job.at);
        self.problem(&shown.display().to_string(), what);
    }

    fn deliveries(&mut self, db: &sled::Db) -> Result<(), StoreError> {
        for entry in db.scan_prefix([keys::DELIVERY]) {
            let (key, value) = entry?;
            let Some(at) = keys::delivery_of(&key) else { continue };
            let Some(delivery) = self.decoded::<Delivery>(&key, &value) else { continue };
            if !db.contains_key(keys::event(at.event))? {
                self.problem(&at.id(), format!("carries event {}, which is missing", at.event));
            }
            if db.contains_key(keys::delivery(keys::PENDING, at))?
                != (delivery.state == DeliveryState::Pending)
            {
                self.problem(&at.id(), "waits, or not, against its record: it may not be attempted");
            }
        }
        Ok(())
    }

    /// What leads to records that are not there.
    fn indexes(&mut self, db: &sled::Db) -> Result<(), StoreError> {
        for prefix in [keys::OPEN, keys::CLOSED] {
            for key in db.scan_prefix([prefix]).keys() {
                let key = key?;
                if let Some(number) = keys::number_of(&key)
                    && place_of(db, number)?.is_none()
                {
                    self.problem(&shown(&key), format!("leads to watch {number}, which is missing"));
                }
            }
        }
        for key in db.scan_prefix([keys::PENDING]).keys() {
            let key = key?;
            if let Some(at) = keys::delivery_of(&key)
                && !db.contains_key(keys::delivery(keys::DELIVERY, at))?
            {
                self.problem(&at.id(), "waits, and is missing");
            }
        }
        Ok(())
    }
}

fn digest(body: &StoredBody) -> io::Result<(u64, String)> {
    let mut hash = Sha256::new();
    let size = io::copy(&mut body.read()?, &mut hash)?;
    Ok((size, HEXLOWER.encode(&hash.finalize())))
}
