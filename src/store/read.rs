//! Looking things up. Lists look at a bounded number of records and say where to go on.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;

use super::{Delivery, DeliveryKey, Event, Store, StoreError, Watch, codec, keys, unreadable::Unreadable};
use crate::{
    model::{
        delivery::DeliveryState,
        job::{JobId, Outcome, Phase},
    },
    util::units::Time,
};

/// Records that one page looks at, at the most.
const MAX_LOOKED_AT: usize = 20_000;

/// What is known of a job id.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// Its watch.
    Watch(Box<Watch>),
    /// It was watched, finished, and dropped after retention.
    Dropped,
    /// Nothing.
    Nothing,
}

/// One page, newest first.
#[derive(Clone, Debug, PartialEq)]
pub struct Listing<T> {
    /// The entries.
    pub entries: Vec<T>,
    /// Where the next page begins; `None` on the last.
    pub next: Option<Vec<u8>>,
}

/// The newest event that is durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Newest {
    /// Its number; 0 when there is none.
    pub number: u64,
    /// How many were made since the start.
    pub count: u64,
}

/// Which watches to list.
#[derive(Clone, Debug, Default)]
pub struct WatchFilter {
    /// Only these phases; all when empty.
    pub phase: Option<Phase>,
    /// Only this source.
    pub source: Option<String>,
    /// Only this last word.
    pub status: Option<String>,
    /// Only this outcome.
    pub outcome: Option<Outcome>,
    /// Every one of these labels.
    pub labels: Vec<(String, String)>,
}

impl WatchFilter {
    fn takes(&self, watch: &Watch) -> bool {
        self.phase.is_none_or(|phase| phase == watch.phase())
            && self.source.as_ref().is_none_or(|source| *source == watch.source)
            && self.status.as_ref().is_none_or(|status| Some(status) == watch.status.as_ref())
            && self
                .outcome
                .is_none_or(|outcome| watch.current_end().is_some_and(|end| end.outcome == outcome))
            && self.labels.iter().all(|(key, value)| watch.labels.get(key) == Some(value))
    }

    /// Only open watches can match, so the short index of them will do.
    fn is_open(&self) -> bool {
        matches!(self.phase, Some(Phase::Watching | Phase::Fetching))
    }
}

/// Which deliveries to list.
#[derive(Clone, Debug, Default)]
pub struct DeliveryFilter {
    /// Only this state.
    pub state: Option<DeliveryState>,
    /// Only this sink.
    pub sink: Option<String>,
    /// Only this source.
    pub source: Option<String>,
    /// Only this job.
    pub job_id: Option<String>,
    /// Only those made then or later.
    pub since: Option<Time>,
    /// Only those made before then.
    pub until: Option<Time>,
    /// Whether `since` and `until` go by the time at which a delivery was settled, where it is.
    pub by_end: bool,
}

impl DeliveryFilter {
    fn time(&self, delivery: &Delivery) -> Time {
        let settled = delivery.state != DeliveryState::Pending;
        if self.by_end && settled { delivery.updated_at } else { delivery.created_at }
    }

    fn takes(&self, delivery: &Delivery) -> bool {
        self.state.is_none_or(|state| state == delivery.state)
            && self.sink.as_ref().is_none_or(|sink| *sink == delivery.sink)
            && self.source.as_ref().is_none_or(|source| *source == delivery.source)
            && self.job_id.as_ref().is_none_or(|job| job == delivery.job_id.as_str())
            && self.since.is_none_or(|since| self.time(delivery) >= since)
            && self.until.is_none_or(|until| self.time(delivery) < until)
    }

    fn is_pending(&self) -> bool {
        self.state == Some(DeliveryState::Pending)
    }
}

/// Which events to list, or to deliver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Only those with a delivery to some sink, or only those without one.
    pub routed: Option<bool>,
    /// Only ends with this outcome.
    pub outcome: Option<Outcome>,
    /// Only of this source.
    pub source: Option<String>,
    /// Every one of these labels.
    pub labels: BTreeMap<String, String>,
    /// Only those made then or later.
    pub since: Option<Time>,
    /// Only those made before then.
    pub until: Option<Time>,
}

impl EventFilter {
    /// Whether the filter takes an event by what its own record says.
    #[must_use]
    pub fn takes(&self, event: &Event) -> bool {
        self.outcome.is_none_or(|outcome| event.news.event_type().outcome() == Some(outcome))
            && self.source.as_ref().is_none_or(|source| *source == event.source)
            && self.labels.iter().all(|(key, value)| event.labels.get(key) == Some(value))
            && self.since.is_none_or(|since| event.created_at >= since)
            && self.until.is_none_or(|until| event.created_at < until)
    }
}

impl Store {
    /// What is known of a job id.
    ///
    /// # Errors
    /// When the store cannot be read, and [`StoreError::Record`] when the record of this watch alone cannot.
    pub fn find(&self, source: &str, job_id: &JobId) -> Result<Found, StoreError> {
        self.read(|db| match db.get(keys::id(source, job_id))?.as_deref() {
            Some([b'+', number @ ..]) => match keys::number_of(number) {
                Some(number) => {
                    Ok(self.load_strictly(db, number)?.map_or(Found::Nothing, |w| Found::Watch(Box::new(w))))
                }
                None => Err(StoreError::Record("an index entry has no number".to_owned())),
            },
            Some(_) => Ok(Found::Dropped),
            None => Ok(Found::Nothing),
        })
    }

    /// The watch with this number; `None` also when its record cannot be read.
    ///
    /// # Errors
    /// When the store cannot be read; so for all that follow.
    pub fn watch(&self, number: u64) -> Result<Option<Watch>, StoreError> {
        self.read(|db| load(db, number, &self.shared.unreadable))
    }

    /// The event with this number; `None` also when its record cannot be read.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn event(&self, number: u64) -> Result<Option<Event>, StoreError> {
        self.read(|db| self.record(db, &keys::event(number)))
    }

    /// The record at `key`; `None` also when it cannot be read.
    pub(super) fn record<T: DeserializeOwned>(
        &self,
        db: &sled::Db,
        key: &[u8],
    ) -> Result<Option<T>, StoreError> {
        match db.get(key)? {
            Some(bytes) => self.shared.unreadable.pass_over(key, codec::decode(&bytes)),
            None => Ok(None),
        }
    }

    fn load_strictly(&self, db: &sled::Db, number: u64) -> Result<Option<Watch>, StoreError> {
        let watch = load(db, number, &self.shared.unreadable)?;
        match watch.is_none() {
            true => strictly::<Watch>(db, &keys::watch(number)),
            false => Ok(watch),
        }
    }

    /// The number of the last event that whoever reads the store sees; 0 when there is none. It may not be durable yet.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn last_event(&self) -> Result<u64, StoreError> {
        self.read(newest_event)
    }

    /// The newest event, and word of each that follows once it is durable.
    #[must_use]
    pub fn newest_event(&self) -> tokio::sync::watch::Receiver<Newest> {
        self.shared.newest.subscribe()
    }

    /// The events after number `after` up to `until`, oldest first: at most `limit`, and no further one once
    /// their records have `bytes`. Empty when there is none.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn events_after(
        &self,
        after: u64,
        until: u64,
        limit: usize,
        bytes: usize,
    ) -> Result<Vec<(u64, Event)>, StoreError> {
        self.read(|db| {
            let (mut events, mut size) = (Vec::new(), 0);
            if until <= after {
                return Ok(events);
            }
            for entry in db.range(keys::event(after.saturating_add(1))..=keys::event(until)) {
                let (key, value) = entry?;
                size += value.len();
                let event = self.shared.unreadable.pass_over(&key, codec::decode(&value))?;
                events.extend(keys::number_of(&key).zip(event));
                if size >= bytes || events.len() >= limit {
                    break;
                }
            }
            Ok(events)
        })
    }

    /// Whether an event has a delivery to some sink, in any state.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn is_routed(&self, event: u64) -> Result<bool, StoreError> {
        self.read(|db| is_routed(db, event))
    }

    /// A page of events, newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn events(
        &self,
        filter: &EventFilter,
        cursor: Option<&[u8]>,
        limit: usize,
    ) -> Result<Listing<Event>, StoreError> {
        self.read(|db| {
            page(db, keys::EVENT, cursor, limit, |key, value| {
                let Some(number) = keys::number_of(key) else { return Ok(None) };
                // No index says which events have no delivery, so none can be wrong.
                if filter.routed.is_some() && filter.routed != Some(is_routed(db, number)?) {
                    return Ok(None);
                }
                let event = self.shared.unreadable.pass_over(key, codec::decode::<Event>(value))?;
                Ok(event.filter(|event| filter.takes(event)))
            })
        })
    }

    /// One delivery; `None` also when its record cannot be read.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn delivery(&self, key: DeliveryKey) -> Result<Option<Delivery>, StoreError> {
        self.read(|db| self.record(db, &key.key(keys::DELIVERY)))
    }

    /// One delivery.
    ///
    /// # Errors
    /// When the store cannot be read, and [`StoreError::Record`] when this delivery alone cannot.
    pub fn find_delivery(&self, key: DeliveryKey) -> Result<Option<Delivery>, StoreError> {
        match self.delivery(key)? {
            None => self.read(|db| strictly(db, &key.key(keys::DELIVERY))),
            found => Ok(found),
        }
    }

    /// The deliveries of the last run that ended and of the one under way, and those of earlier ones that are
    /// still pending.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn deliveries_of(&self, watch: &Watch) -> Result<Vec<(DeliveryKey, Delivery)>, StoreError> {
        self.read(|db| {
            let mut deliveries = Vec::new();
            for event in watch.all_events() {
                for entry in db.scan_prefix(keys::deliveries_of(event)) {
                    let (key, value) = entry?;
                    let delivery =
                        self.shared.unreadable.pass_over(&key, codec::decode::<Delivery>(&value))?;
                    if let Some((key, delivery)) = DeliveryKey::of_stored(&key).zip(delivery)
                        && (watch.is_recent(event) || delivery.state == DeliveryState::Pending)
                    {
                        deliveries.push((key, delivery));
                    }
                }
            }
            Ok(deliveries)
        })
    }

    /// A page of watches, newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn watches(
        &self,
        filter: &WatchFilter,
        cursor: Option<&[u8]>,
        limit: usize,
    ) -> Result<Listing<Watch>, StoreError> {
        let prefix = if filter.is_open() { keys::OPEN } else { keys::WATCH };
        self.read(|db| {
            page(db, prefix, cursor, limit, |key, _| {
                let Some(number) = keys::number_of(key) else { return Ok(None) };
                Ok(load(db, number, &self.shared.unreadable)?.filter(|watch| filter.takes(watch)))
            })
        })
    }

    /// A page of deliveries, newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn deliveries(
        &self,
        filter: &DeliveryFilter,
        cursor: Option<&[u8]>,
        limit: usize,
    ) -> Result<Listing<(DeliveryKey, Delivery)>, StoreError> {
        let prefix = if filter.is_pending() { keys::PENDING } else { keys::DELIVERY };
        self.read(|db| {
            page(db, prefix, cursor, limit, |key, _| {
                let Some(key) = DeliveryKey::of_stored(key) else { return Ok(None) };
                let delivery = self.record::<Delivery>(db, &key.key(keys::DELIVERY))?;
                Ok(delivery.filter(|delivery| filter.takes(delivery)).map(|delivery| (key, delivery)))
            })
        })
    }

    /// Calls `each` with every watch that is being followed and can be read, oldest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn each_open(&self, each: impl FnMut(Watch)) -> Result<(), StoreError> {
        self.read(|db| each_open(db, &self.shared.unreadable, each))
    }

    /// Calls `each` with every pending delivery: its sink, its key and when it is due.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn each_pending(&self, each: impl FnMut(&str, DeliveryKey, Time)) -> Result<(), StoreError> {
        self.read(|db| each_pending(db, each))
    }
}

/// Whether an event has a delivery in any state.
pub(super) fn is_routed(db: &sled::Db, event: u64) -> Result<bool, StoreError> {
    Ok(db.scan_prefix(keys::deliveries_of(event)).keys().next().transpose()?.is_some())
}

/// The number of the newest event; 0 when there is none.
pub(super) fn newest_event(db: &sled::Db) -> Result<u64, StoreError> {
    let last = db.scan_prefix([keys::EVENT]).keys().next_back().transpose()?;
    Ok(last.and_then(|key| keys::number_of(&key)).unwrap_or(0))
}

pub(super) fn each_open(
    db: &sled::Db,
    unreadable: &Unreadable,
    mut each: impl FnMut(Watch),
) -> Result<(), StoreError> {
    for key in db.scan_prefix([keys::OPEN]).keys() {
        let key = key?;
        let Some(number) = keys::number_of(&key) else { continue };
        match load(db, number, unreadable)? {
            Some(watch) => each(watch),
            None if db.contains_key(keys::watch(number))? => {}
            // Both are removed in one batch: without the entry it was removed just now, with it the record was lost.
            None if db.contains_key(&key)? => {
                return Err(StoreError::Damaged(format!("the record of open watch {number} is missing")));
            }
            None => {}
        }
    }
    Ok(())
}

pub(super) fn each_pending(
    db: &sled::Db,
    mut each: impl FnMut(&str, DeliveryKey, Time),
) -> Result<(), StoreError> {
    for entry in db.scan_prefix([keys::PENDING]) {
        let (key, value) = entry?;
        if let Some(key) = DeliveryKey::of_stored(&key)
            && let Some((due, sink)) = value.split_first_chunk::<8>()
        {
            each(&String::from_utf8_lossy(sink), key, Time(i64::from_be_bytes(*due)));
        }
    }
    Ok(())
}

fn load(db: &sled::Db, number: u64, unreadable: &Unreadable) -> Result<Option<Watch>, StoreError> {
    let key = keys::watch(number);
    let Some(bytes) = db.get(&key)? else { return Ok(None) };
    let watch = unreadable.pass_over(&key, codec::decode::<Watch>(&bytes))?;
    Ok(watch.map(|watch| Watch { number, ..watch }))
}

fn strictly<T: DeserializeOwned>(db: &sled::Db, key: &[u8]) -> Result<Option<T>, StoreError> {
    db.get(key)?.map(|bytes| codec::decode(&bytes)).transpose()
}

/// Walks the keys of `prefix` backwards from `cursor` and keeps what `pick` picks.
fn page<T>(
    db: &sled::Db,
    prefix: u8,
    cursor: Option<&[u8]>,
    limit: usize,
    mut pick: impl FnMut(&[u8], &[u8]) -> Result<Option<T>, StoreError>,
) -> Result<Listing<T>, StoreError> {
    // The cursor is the stored key without its prefix, so that it holds for either index of a kind.
    let end = match cursor {
        Some(cursor) => [&[prefix], cursor].concat(),
        None => vec![prefix + 1],
    };
    let mut entries = Vec::new();
    for (looked_at, entry) in db.range(vec![prefix]..end).rev().enumerate() {
        let (key, value) = entry?;
        if let Some(picked) = pick(&key, &value)? {
            entries.push(picked);
        }
        if entries.len() == limit || looked_at + 1 == MAX_LOOKED_AT {
            return Ok(Listing { entries, next: key.get(1..).map(<[u8]>::to_vec) });
        }
    }
    Ok(Listing { entries, next: None })
}
