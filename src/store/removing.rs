//! The way out: watches that a caller ended, and finished ones after retention.

use super::{
    Change, Delivery, DeliveryKey, Event, News, Store, StoreError, Watch, codec, keys, registering::find,
    registering::load, txn::Txn,
};
use crate::{api::view::DeliveryState, job::JobId, units::Time};

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
        let (source, job_id) = (source.to_owned(), job_id.clone());
        let removed = self
            .write(move |txn| {
                let Some(watch) = find(txn, &source, &job_id)? else { return Ok(None) };
                txn.delete(keys::id(&source, &job_id));
                drop_watch(txn, watch).map(Some)
            })
            .await?;
        let Some(bodies) = removed else { return Ok(false) };
        self.remove_bodies(bodies).await;
        Ok(true)
    }

    /// Drops watches that were finished before `before`, a bounded number at a time, and forgets those that
    /// were dropped before `before` themselves.
    ///
    /// # Errors
    /// When it could not be stored.
    pub async fn drop_finished(&self, before: Time, now: Time) -> Result<Removed, StoreError> {
        let closed =
            self.read(|db| first_numbers(db, &[keys::CLOSED], &keys::before(keys::CLOSED, before)))?;
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
            let owner = self.watch(number)?;
            // A body of a watch that is still there is left alone: it may be the one being fetched right now,
            // and an old one goes with its watch.
            if owner.is_none() {
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

fn first_numbers(db: &sled::Db, from: &[u8], to: &[u8]) -> Result<Vec<u64>, StoreError> {
    Ok(first_keys(db, from, to)?.iter().filter_map(|key| keys::number_of(key)).collect())
}

/// Deletes a watch with its events and deliveries; the index entry of its id is the caller's.
fn drop_watch(txn: &mut Txn<'_>, watch: Watch) -> Result<Vec<(u64, String)>, StoreError> {
    let mut bodies = Vec::new();
    for event in watch.all_events() {
        bodies.extend(drop_event(txn, watch.number, event)?);
    }
    if let Some(ending) = &watch.ending {
        bodies.push((watch.number, ending.event_id.clone()));
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
    for (stored, value) in txn.scan(&keys::deliveries_of(event))? {
        if let (Some(key), Some(value)) = (DeliveryKey::of_stored(&stored), value) {
            txn.delete(key.key(keys::PENDING));
            txn.tell(Change::Drop { sink: codec::decode::<Delivery>(&value)?.sink, key });
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
    for value in txn.scan(&keys::deliveries_of(event))?.into_values().flatten() {
        if is(codec::decode::<Delivery>(&value)?.state) {
            return Ok(true);
        }
    }
    Ok(false)
}
