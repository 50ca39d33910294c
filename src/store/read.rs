//! Looking things up. Lists look at a bounded number of records and say where to go on.

use super::{Delivery, DeliveryKey, Event, Store, StoreError, Watch, codec, keys};
use crate::{
    api::view::DeliveryState,
    job::{JobId, Outcome, Phase},
    units::Time,
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
}

impl DeliveryFilter {
    fn takes(&self, delivery: &Delivery) -> bool {
        self.state.is_none_or(|state| state == delivery.state)
            && self.sink.as_ref().is_none_or(|sink| *sink == delivery.sink)
            && self.source.as_ref().is_none_or(|source| *source == delivery.source)
            && self.job_id.as_ref().is_none_or(|job| job == delivery.job_id.as_str())
            && self.since.is_none_or(|since| delivery.created_at >= since)
            && self.until.is_none_or(|until| delivery.created_at < until)
    }

    fn is_pending(&self) -> bool {
        self.state == Some(DeliveryState::Pending)
    }
}

impl Store {
    /// What is known of a job id.
    ///
    /// # Errors
    /// When the store cannot be read; so for all that follow.
    pub fn find(&self, source: &str, job_id: &JobId) -> Result<Found, StoreError> {
        self.read(|db| match db.get(keys::id(source, job_id))?.as_deref() {
            Some([b'+', number @ ..]) => match keys::number_of(number) {
                Some(number) => Ok(load(db, number)?.map_or(Found::Nothing, |w| Found::Watch(Box::new(w)))),
                None => Err(StoreError::Record("an index entry has no number".to_owned())),
            },
            Some(_) => Ok(Found::Dropped),
            None => Ok(Found::Nothing),
        })
    }

    /// The watch with this number.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn watch(&self, number: u64) -> Result<Option<Watch>, StoreError> {
        self.read(|db| load(db, number))
    }

    /// The event with this number.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn event(&self, number: u64) -> Result<Option<Event>, StoreError> {
        self.read(|db| db.get(keys::event(number))?.map(|bytes| codec::decode(&bytes)).transpose())
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
            for entry in db.range(keys::event(after.saturating_add(1))..=keys::event(until)).take(limit) {
                let (key, value) = entry?;
                size += value.len();
                if let Some(number) = keys::number_of(&key) {
                    events.push((number, codec::decode(&value)?));
                }
                if size >= bytes {
                    break;
                }
            }
            Ok(events)
        })
    }

    /// One delivery.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn delivery(&self, key: DeliveryKey) -> Result<Option<Delivery>, StoreError> {
        self.read(|db| db.get(key.key(keys::DELIVERY))?.map(|bytes| codec::decode(&bytes)).transpose())
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
                    let delivery: Delivery = codec::decode(&value)?;
                    if let Some(key) = DeliveryKey::of_stored(&key)
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
                Ok(load(db, number)?.filter(|watch| filter.takes(watch)))
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
                let Some(bytes) = db.get(key.key(keys::DELIVERY))? else { return Ok(None) };
                let delivery: Delivery = codec::decode(&bytes)?;
                Ok(Some((key, delivery)).filter(|(_, delivery)| filter.takes(delivery)))
            })
        })
    }

    /// Calls `each` with every watch that is being followed, oldest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn each_open(&self, each: impl FnMut(Watch)) -> Result<(), StoreError> {
        self.read(|db| each_open(db, each))
    }

    /// Calls `each` with every pending delivery: its sink, its key and when it is due.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn each_pending(&self, each: impl FnMut(&str, DeliveryKey, Time)) -> Result<(), StoreError> {
        self.read(|db| each_pending(db, each))
    }
}

/// The number of the newest event; 0 when there is none.
pub(super) fn newest_event(db: &sled::Db) -> Result<u64, StoreError> {
    let last = db.scan_prefix([keys::EVENT]).keys().next_back().transpose()?;
    Ok(last.and_then(|key| keys::number_of(&key)).unwrap_or(0))
}

pub(super) fn each_open(db: &sled::Db, mut each: impl FnMut(Watch)) -> Result<(), StoreError> {
    for key in db.scan_prefix([keys::OPEN]).keys() {
        let key = key?;
        let Some(number) = keys::number_of(&key) else { continue };
        match load(db, number)? {
            Some(watch) => each(watch),
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

fn load(db: &sled::Db, number: u64) -> Result<Option<Watch>, StoreError> {
    let bytes = db.get(keys::watch(number))?;
    let watch = bytes.map(|bytes| codec::decode::<Watch>(&bytes)).transpose()?;
    Ok(watch.map(|watch| Watch { number, ..watch }))
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
