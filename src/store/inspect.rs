//! A look at a whole store that nobody uses: what is in it, and whether it holds together.

use data_encoding::HEXLOWER;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
};

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::{Delivery, DeliveryKey, Event, Stage, Store, StoreError, StoredJob, Watch, codec, keys};
use crate::{
    model::{delivery::DeliveryState, job::Phase},
    util::units::Time,
};

/// What is in a store.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Stats {
    /// Watches by source and phase.
    pub watches: BTreeMap<String, BTreeMap<Phase, u64>>,
    /// Deliveries by sink and state.
    pub deliveries: BTreeMap<String, BTreeMap<DeliveryState, u64>>,
    /// Events.
    pub events: u64,
    /// Stored jobs.
    pub jobs: u64,
    /// Their bytes.
    pub job_bytes: u64,
    /// Bytes of the database on disk.
    pub database_bytes: u64,
    /// When the first of the watches was registered.
    pub oldest_watch: Option<Time>,
    /// When the last of them was.
    pub newest_watch: Option<Time>,
    /// Watches and deliveries whose records cannot be read. They are counted nowhere else.
    pub unreadable: u64,
    /// Sinks that are paused, each since when.
    pub paused: BTreeMap<String, Time>,
    /// Sources of whose jobs something was learned.
    pub learned: BTreeSet<String>,
}

/// Something that does not hold together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Flaw {
    /// Where: a record's key, or a file's name.
    pub at: String,
    /// What it is, and what it means.
    pub what: String,
}

impl Store {
    /// Counts what is there.
    ///
    /// # Errors
    /// When the store or the spool cannot be read.
    pub fn stats(&self) -> Result<Stats, StoreError> {
        let mut stats = Stats { paused: self.paused_sinks()?, ..Stats::default() };
        self.read(|db| {
            for entry in db.scan_prefix([keys::WATCH]).values() {
                let Ok(watch) = codec::decode::<Watch>(&entry?) else {
                    stats.unreadable += 1;
                    continue;
                };
                *stats.watches.entry(watch.source.clone()).or_default().entry(watch.phase()).or_default() +=
                    1;
                let made = watch.created_at;
                stats.oldest_watch = Some(stats.oldest_watch.map_or(made, |oldest| oldest.min(made)));
                stats.newest_watch = Some(stats.newest_watch.map_or(made, |newest| newest.max(made)));
            }
            for entry in db.scan_prefix([keys::DELIVERY]).values() {
                let Ok(delivery) = codec::decode::<Delivery>(&entry?) else {
                    stats.unreadable += 1;
                    continue;
                };
                *stats.deliveries.entry(delivery.sink).or_default().entry(delivery.state).or_default() += 1;
            }
            stats.events = db.scan_prefix([keys::EVENT]).keys().count() as u64;
            for key in db.scan_prefix([keys::CURVES]).keys() {
                let key = key?;
                let source = key[1..].split(|byte| *byte == 0).next().unwrap_or_default();
                stats.learned.insert(String::from_utf8_lossy(source).into_owned());
            }
            Ok(())
        })?;
        let bodies = self.spool().bodies()?;
        (stats.jobs, stats.job_bytes) = (bodies.len() as u64, bodies.iter().map(|(_, _, size)| size).sum());
        stats.database_bytes = size_of(self.shared.folder.database())?;
        Ok(stats)
    }

    /// Looks whether every record can be read and what they say of each other is so. With `hashes` every stored job is read,
    /// too. Nothing is changed.
    ///
    /// # Errors
    /// When the store as a whole cannot be read.
    pub fn check(&self, hashes: bool) -> Result<Vec<Flaw>, StoreError> {
        let mut check = Check { store: self, hashes, flaws: Vec::new() };
        self.read(|db| {
            check.watches(db)?;
            check.ids(db)?;
            check.events(db)?;
            check.deliveries(db)?;
            check.indexes(db)
        })?;
        for (number, event_id, _) in self.spool().bodies()? {
            if !self.has_watch(number)? {
                let name = self.spool().shown(number, &event_id);
                check.flaw(&name.display().to_string(), "belongs to no watch; the next start removes it");
            }
        }
        Ok(check.flaws)
    }
}

struct Check<'a> {
    store: &'a Store,
    hashes: bool,
    flaws: Vec<Flaw>,
}

impl Check<'_> {
    fn flaw(&mut self, at: &str, what: impl Into<String>) {
        self.flaws.push(Flaw { at: at.to_owned(), what: what.into() });
    }

    fn decoded<T: serde::de::DeserializeOwned>(&mut self, key: &[u8], value: &[u8]) -> Option<T> {
        let reason = match codec::decode(value) {
            Ok(record) => return Some(record),
            Err(StoreError::Record(reason)) => reason,
            Err(error) => error.to_string(),
        };
        self.flaw(&shown(key), format!("cannot be read: {reason}"));
        None
    }

    /// Names the jobs whose watches cannot be found by their ids, or cannot be read.
    fn ids(&mut self, db: &sled::Db) -> Result<(), StoreError> {
        for entry in db.scan_prefix([keys::ID]) {
            let (key, value) = entry?;
            let at = keys::source_and_job(&key);
            let Some(value) = value.strip_prefix(b"+") else {
                if !value.starts_with(b"-") {
                    self.flaw(&at, "has an index entry that cannot be read; `tidings unwatch` removes it");
                }
                continue;
            };
            let Some(number) = keys::number_of(value) else {
                self.flaw(&at, "has an index entry that cannot be read; `tidings unwatch` removes it");
                continue;
            };
            match db.get(keys::watch(number))? {
                Some(bytes) if codec::decode::<Watch>(&bytes).is_err() => {
                    let what =
                        format!("is watch {number}, which cannot be read; `tidings unwatch` removes it");
                    self.flaw(&at, what);
                }
                Some(_) => {}
                None => self.flaw(&at, format!("is watch {number}, which is missing")),
            }
        }
        Ok(())
    }

    fn watches(&mut self, db: &sled::Db) -> Result<(), StoreError> {
        for entry in db.scan_prefix([keys::WATCH]) {
            let (key, value) = entry?;
            let (Some(number), Some(watch)) = (keys::number_of(&key), self.decoded::<Watch>(&key, &value))
            else {
                continue;
            };
            let at = shown(&key);
            let lacks = |this: &mut Self, there: bool, what: &str| {
                if !there {
                    this.flaw(&at, format!("of job {} {what}", watch.job_id));
                }
            };
            let index = db.get(keys::id(&watch.source, &watch.job_id))?;
            let named = index.as_deref().and_then(|value| value.strip_prefix(b"+")).and_then(keys::number_of);
            lacks(self, named == Some(number), "is not found by its id: the API does not know it");
            let open = db.contains_key(keys::open(number))?;
            lacks(
                self,
                open == (watch.stage != Stage::Ended),
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
                for value in db.scan_prefix(keys::deliveries_of(event)).values() {
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
        for entry in db.scan_prefix([keys::EVENT]) {
            let (key, value) = entry?;
            let Some(event) = self.decoded::<Event>(&key, &value) else { continue };
            if !db.contains_key(keys::watch(event.watch))? {
                self.flaw(&shown(&key), format!("belongs to watch {}, which is missing", event.watch));
            }
            if let Some(job) = event.news.job() {
                self.body(event.watch, event.news.event_id(), job);
            }
        }
        Ok(())
    }

    /// The stored job of an event.
    fn body(&mut self, watch: u64, event_id: &str, job: &StoredJob) {
        let path = self.store.spool().path(watch, event_id);
        let measured = match self.hashes {
            true => digest(&path).map(|(size, sha256)| (size, sha256 == job.sha256)),
            false => fs::metadata(&path).map(|data| (data.len(), true)),
        };
        let what = match measured {
            Err(error) => {
                format!("the stored job cannot be read ({error}): what waits to be delivered of it fails")
            }
            Ok((size, _)) if size != job.size => {
                format!("the stored job has {size} bytes instead of {}", job.size)
            }
            Ok((_, false)) => "the stored job has other bytes than were fetched".to_owned(),
            Ok(_) => return,
        };
        let shown = self.store.spool().shown(watch, event_id);
        self.flaw(&shown.display().to_string(), what);
    }

    fn deliveries(&mut self, db: &sled::Db) -> Result<(), StoreError> {
        for entry in db.scan_prefix([keys::DELIVERY]) {
            let (key, value) = entry?;
            let Some(at) = DeliveryKey::of_stored(&key) else { continue };
            let Some(delivery) = self.decoded::<Delivery>(&key, &value) else { continue };
            if !db.contains_key(keys::event(at.event))? {
                self.flaw(&at.id(), format!("carries event {}, which is missing", at.event));
            }
            if db.contains_key(at.key(keys::PENDING))? != (delivery.state == DeliveryState::Pending) {
                self.flaw(&at.id(), "waits, or not, against its record: it may not be attempted");
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
                    && !db.contains_key(keys::watch(number))?
                {
                    self.flaw(&shown(&key), format!("leads to watch {number}, which is missing"));
                }
            }
        }
        for key in db.scan_prefix([keys::PENDING]).keys() {
            let key = key?;
            if let Some(at) = DeliveryKey::of_stored(&key)
                && !db.contains_key(at.key(keys::DELIVERY))?
            {
                self.flaw(&at.id(), "waits, and is missing");
            }
        }
        Ok(())
    }
}

/// A key as `w:0000000000000007`: its prefix, and the rest in hexadecimal.
pub(super) fn shown(key: &[u8]) -> String {
    let (prefix, rest) = key.split_first().map_or((b'?', key), |(prefix, rest)| (*prefix, rest));
    format!("{}:{}", char::from(prefix), HEXLOWER.encode(rest))
}

fn digest(path: &Path) -> io::Result<(u64, String)> {
    let mut hash = Sha256::new();
    let size = io::copy(&mut fs::File::open(path)?, &mut hash)?;
    Ok((size, HEXLOWER.encode(&hash.finalize())))
}

/// The bytes of the files in a folder and below.
fn size_of(folder: &Path) -> io::Result<u64> {
    let mut size = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let data = entry.metadata()?;
        size += if data.is_dir() { size_of(&entry.path())? } else { data.len() };
    }
    Ok(size)
}
