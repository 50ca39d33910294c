//! The way out: watches that a caller ended, and finished ones after retention.

use serde::Deserialize;

use super::{
    Change, Delivery, DeliveryKey, Event, News, Store, StoreError, Watch, codec, keys, registering::find,
    registering::load, txn::Txn,
};
use crate::{
    model::{delivery::DeliveryState, job::JobId},
    util::units::Time,
};

/// Watches that one round of retention drops at the most, so that callers never wait long behind it.
const MAX_DROPPED: usize = 500;

/// Bodies that nothing refers to any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// How many watches went.
    pub watches: usize,
    /// The bodies to remove from the spool: watch and event id.
    pub bodies: Vec<(u64, String)>,
    /// There may be more to drop.
    pub more: bool,
}

impl Store {
    /// Ends a watch: no more polls, its deliveries are dropped. `false` when there is none.
    ///
    /// # Errors
    /// When it could not be stored; the watch goes on then.
    pub async fn remove(&self, source: &str, job_id: &JobId) -> Result<bool, StoreError> {
        let id = (source.to_owned(), job_id.clone());
        let removed = self
            .write(move |txn| {
                let Some(watch) = find(txn, &id.0, &id.1)? else { return Ok(None) };
                txn.delete(keys::id(&id.0, &id.1));
                drop_watch(txn, watch).map(Some)
            })
            .await;
        let bodies = match removed {
            Ok(Some(bodies)) => bodies,
            Ok(None) => return Ok(false),
            Err(StoreError::Record(_)) => self.remove_unreadable(source, job_id).await?,
            Err(error) => return Err(error),
        };
        self.remove_bodies(bodies).await;
        Ok(true)
    }

    /// Drops watches that were finished before `before`, a bounded number at a time, and forgets those that
    /// were dropped before `before` themselves.
    ///
    /// # Errors
    /// When it could not be stored.
    pub async fn drop_finished(&self, before: Time, now: Time) -> Result<Removed, StoreError> {
        let closed = self.closed_before(before)?;
        let dropped =
            self.read(|db| first_keys(db, &[keys::DROPPED], &keys::before(keys::DROPPED, before)))?;
        let more = closed.len() == MAX_DROPPED || dropped.len() == MAX_DROPPED;
        let (watches, bodies) = self
            .write(move |txn| {
                let mut bodies = Vec::new();
                let mut watches = 0;
                for number in closed {
                    let watch = load(txn, number)?;
                    // It may have been registered or redelivered again since it was read.
                    let Some(watch) = watch.filter(|watch| watch.closed_at.is_some_and(|at| at < before))
                    else {
                        continue;
                    };
                    let tombstone = [b"-".as_slice(), &now.0.to_be_bytes()].concat();
                    txn.put(keys::id(&watch.source, &watch.job_id), tombstone);
                    txn.put(keys::dropped(now, &watch.source, &watch.job_id), Vec::new());
                    bodies.extend(drop_watch(txn, watch)?);
                    watches += 1;
                    txn.end_operation()?;
                }
                for key in dropped {
                    if let Some(id) = keys::id_of_dropped(&key)
                        && txn.get(&id)?.is_some_and(|value| value.starts_with(b"-"))
                    {
                        txn.delete(id);
                    }
                    txn.delete(key);
                    txn.end_operation()?;
                }
                Ok((watches, bodies))
            })
            .await?;
        self.remove_bodies(bodies.clone()).await;
        Ok(Removed { watches, bodies, more })
    }

    /// Removes bodies that no watch refers to: a killed process may have stored one and not recorded it, or
    /// dropped a watch and not removed its body. Returns how many there were.
    ///
    /// # Errors
    /// When the spool or the store cannot be read.
    pub fn sweep_spool(&self) -> Result<usize, StoreError> {
        let mut swept = 0;
        for (number, event_id, _) in self.spool().bodies()? {
            // A body of a watch that is still there is left alone: it may be the one being fetched right now,
            // and an old one goes with its watch.
            if !self.has_watch(number)? {
                self.spool().remove(number, &event_id)?;
                swept += 1;
            }
        }
        Ok(swept)
    }

    async fn remove_bodies(&self, bodies: Vec<(u64, String)>) {
        let spool = self.spool().clone();
        let removal = tokio::task::spawn_blocking(move || {
            for (watch, event_id) in bodies {
                if let Err(error) = spool.remove(watch, &event_id) {
                    tracing::warn!(%error, event_id, "a stored job could not be removed; the next start sweeps it");
                }
            }
        });
        // A panic in there has been reported, and the next start sweeps what is left.
        let _ = removal.await;
    }
}

fn first_keys(db: &sled::Db, from: &[u8], to: &[u8]) -> Result<Vec<Vec<u8>>, StoreError> {
    db.range(from.to_vec()..to.to_vec()).keys().take(MAX_DROPPED).map(|key| Ok(key?.to_vec())).collect()
}

/// The part of an event that tells whose it is.
#[derive(Deserialize)]
struct Owned {
    watch: u64,
}

impl Store {
    /// Whether there is a watch with this number, readable or not.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(super) fn has_watch(&self, number: u64) -> Result<bool, StoreError> {
        self.read(|db| Ok(db.contains_key(keys::watch(number))?))
    }

    /// The first watches that were finished before then. One that cannot be read waits for whoever removes it.
    fn closed_before(&self, before: Time) -> Result<Vec<u64>, StoreError> {
        self.read(|db| {
            let mut closed = Vec::new();
            for key in db.range(vec![keys::CLOSED]..keys::before(keys::CLOSED, before)).keys() {
                let Some(number) = keys::number_of(&key?) else { continue };
                if !self.is_unreadable(db, number)? {
                    closed.push(number);
                }
                if closed.len() == MAX_DROPPED {
                    break;
                }
            }
            Ok(closed)
        })
    }

    fn is_unreadable(&self, db: &sled::Db, number: u64) -> Result<bool, StoreError> {
        let key = keys::watch(number);
        let Some(bytes) = db.get(&key)? else { return Ok(false) };
        let watch = self.shared.unreadable.pass_over(&key, codec::decode::<Watch>(&bytes))?;
        Ok(watch.is_none())
    }

    /// Removes a watch whose record, or whose index entry, cannot be read: what belongs to it is found by its number.
    async fn remove_unreadable(
        &self,
        source: &str,
        job_id: &JobId,
    ) -> Result<Vec<(u64, String)>, StoreError> {
        let index = keys::id(source, job_id);
        let entry = self.read(|db| Ok(db.get(&index)?))?;
        let number = entry.as_deref().and_then(|entry| keys::number_of(entry.strip_prefix(b"+")?));
        let (mut events, mut closed, mut bodies) = (Vec::new(), Vec::new(), Vec::new());
        if let Some(number) = number {
            self.read(|db| {
                for record in db.scan_prefix([keys::EVENT]) {
                    let (key, value) = record?;
                    if codec::decode::<Owned>(&value).is_ok_and(|event| event.watch == number) {
                        events.extend(keys::number_of(&key));
                    }
                }
                for key in db.scan_prefix([keys::CLOSED]).keys() {
                    let key = key?;
                    if keys::number_of(&key) == Some(number) {
                        closed.push(key.to_vec());
                    }
                }
                Ok(())
            })?;
            let stored = self.spool().bodies()?.into_iter();
            bodies
                .extend(stored.filter(|body| body.0 == number).map(|(watch, event_id, _)| (watch, event_id)));
        }
        let source = source.to_owned();
        self.write(move |txn| {
            if txn.get(&index)?.as_deref() != entry.as_deref() {
                // It was removed and registered again meanwhile.
                return Ok(Vec::new());
            }
            txn.delete(index);
            let Some(number) = number else { return Ok(bodies) };
            for event in events {
                drop_event(txn, number, event)?;
            }
            for key in closed {
                txn.delete(key);
            }
            txn.delete(keys::watch(number));
            txn.delete(keys::open(number));
            txn.tell(Change::Unfollow { source, watch: number });
            txn.tell(Change::Settled { watch: number });
            Ok(bodies)
        })
        .await
    }
}

/// Deletes a watch with its events and deliveries; the index entry of its id is the caller's.
fn drop_watch(txn: &mut Txn<'_>, watch: Watch) -> Result<Vec<(u64, String)>, StoreError> {
    let mut bodies = Vec::new();
    for event in watch.all_events() {
        bodies.extend(drop_event(txn, watch.number, event)?);
    }
    // The event of the last end tells its body, too, unless its record cannot be read.
    for end in watch.ending.iter().chain(&watch.end) {
        if !bodies.iter().any(|(_, event_id)| *event_id == end.event_id) {
            bodies.push((watch.number, end.event_id.clone()));
        }
    }
    txn.delete(keys::watch(watch.number));
    txn.delete(keys::open(watch.number));
    if let Some(at) = watch.closed_at {
        txn.delete(keys::closed(at, watch.number));
    }
    txn.tell(Change::Unfollow { source: watch.source, watch: watch.number });
    txn.tell(Change::Settled { watch: watch.number });
    Ok(bodies)
}

fn drop_event(txn: &mut Txn<'_>, watch: u64, event: u64) -> Result<Option<(u64, String)>, StoreError> {
    let key = keys::event(event);
    let record = txn.read::<Event>(&key)?;
    txn.delete(key);
    for (stored, _) in txn.scan(&keys::deliveries_of(event))? {
        if let Some(key) = DeliveryKey::of_stored(&stored) {
            let pending = key.key(keys::PENDING);
            // The index names the sink, too, so that a delivery which cannot be read goes as well.
            if let Some(sink) = txn.get(&pending)?.as_ref().and_then(|entry| entry.get(8..)) {
                txn.tell(Change::Drop { sink: String::from_utf8_lossy(sink).into_owned(), key });
            }
            txn.delete(pending);
        }
        txn.delete(stored);
    }
    Ok(record.and_then(|record| match record.news {
        News::End(end) => Some((watch, end.event_id)),
        News::Progress(_) => None,
    }))
}

/// Drops the oldest events of a watch that keeps being run again, as long as they are settled. Their bodies
/// stay until the watch goes, so a delivery under way keeps what it reads.
pub(super) fn drop_old_events(txn: &mut Txn<'_>, watch: &mut Watch, keep: usize) -> Result<(), StoreError> {
    while watch.events.len() > keep {
        let oldest = watch.events[0];
        if any_delivery(txn, oldest, |state| state == DeliveryState::Pending)? {
            return Ok(());
        }
        drop_event(txn, watch.number, oldest)?;
        watch.events.remove(0);
    }
    Ok(())
}

/// Drops the oldest progress events of a watch that every sink has taken, until `keep` are left. Dead letters
/// stay, so there may be more.
pub(super) fn drop_old_progress(txn: &mut Txn<'_>, watch: &mut Watch, keep: usize) -> Result<(), StoreError> {
    let mut surplus = watch.progress.len().saturating_sub(keep);
    let mut left = Vec::with_capacity(watch.progress.len());
    for event in std::mem::take(&mut watch.progress) {
        if surplus > 0 && !any_delivery(txn, event, |state| state != DeliveryState::Delivered)? {
            drop_event(txn, watch.number, event)?;
            surplus -= 1;
        } else {
            left.push(event);
        }
    }
    watch.progress = left;
    Ok(())
}

fn any_delivery(txn: &Txn<'_>, event: u64, is: fn(DeliveryState) -> bool) -> Result<bool, StoreError> {
    for (key, value) in txn.scan(&keys::deliveries_of(event))? {
        let Some(value) = value else { continue };
        if txn.decode::<Delivery>(&key, &value)?.is_some_and(|delivery| is(delivery.state)) {
            return Ok(true);
        }
    }
    Ok(false)
}
