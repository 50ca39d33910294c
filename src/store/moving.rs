//! The backlog of one sink: ended, or handed to another.

use super::{
    Change, Delivery, DeliveryKey, Event, Store, StoreError,
    delivering::{redeliver, write_watch},
    following::put_pending,
    keys,
    registering::load,
    txn::Txn,
};
use crate::{
    model::{delivery::DeliveryState, job::EventType},
    util::units::Time,
};

/// What became of deliveries that were to be handed to another sink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handed {
    /// The other sink has them to deliver now.
    pub moved: u64,
    /// The other sink had the same event already, delivered or pending; they ended.
    pub existing: u64,
}

impl Store {
    /// Returns at most `limit` pending deliveries to `sink` behind `after`, oldest event first, of the events up to
    /// number `until`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn pending_of(
        &self,
        sink: &str,
        after: Option<DeliveryKey>,
        until: u64,
        limit: usize,
    ) -> Result<Vec<DeliveryKey>, StoreError> {
        // The first key that is greater than the one before it.
        let from =
            after.map_or_else(|| vec![keys::PENDING], |key| [key.key(keys::PENDING), vec![0]].concat());
        self.read(|db| {
            let mut found = Vec::new();
            let behind = match until.checked_add(1) {
                Some(number) => keys::numbered(keys::PENDING, number),
                None => vec![keys::PENDING + 1],
            };
            if behind < from {
                return Ok(found);
            }
            for entry in db.range(from..behind) {
                let (key, value) = entry?;
                if value.get(8..) == Some(sink.as_bytes()) {
                    found.extend(DeliveryKey::of_stored(&key));
                }
                if found.len() == limit {
                    break;
                }
            }
            Ok(found)
        })
    }

    /// Ends these deliveries as far as they are pending at `sink`: nothing is left of them, their events stay.
    /// Returns how many there were.
    ///
    /// # Errors
    /// When it could not be stored.
    pub async fn drop_pending(
        &self,
        sink: &str,
        keys: Vec<DeliveryKey>,
        now: Time,
    ) -> Result<u64, StoreError> {
        let sink = sink.to_owned();
        self.write(move |txn| {
            let mut count = 0;
            for key in keys {
                count += u64::from(drop_one(txn, key, &sink, now)?);
                txn.end_operation()?;
            }
            Ok(count)
        })
        .await
    }

    /// Hands these deliveries, as far as they are pending at `from`, to the sink `to`, with a fresh schedule. Those
    /// of types that `takes` refuses stay.
    ///
    /// # Errors
    /// When it could not be stored.
    pub async fn move_pending(
        &self,
        from: &str,
        to: &str,
        keys: Vec<DeliveryKey>,
        takes: impl Fn(EventType) -> bool + Send + 'static,
        now: Time,
    ) -> Result<Handed, StoreError> {
        let (from, to) = (from.to_owned(), to.to_owned());
        self.write(move |txn| {
            let mut handed = Handed::default();
            for key in keys {
                let (moved, existing) = move_one(txn, key, (&from, &to), &takes, now)?;
                handed.moved += u64::from(moved);
                handed.existing += u64::from(existing);
                txn.end_operation()?;
            }
            Ok(handed)
        })
        .await
    }
}

/// Whether the delivery is pending at `sink`, as this commit sees it.
fn is_pending_at(txn: &Txn<'_>, key: DeliveryKey, sink: &str) -> Result<bool, StoreError> {
    let entry = txn.get(&key.key(keys::PENDING))?;
    Ok(entry.is_some_and(|entry| entry.get(8..) == Some(sink.as_bytes())))
}

/// Deletes a delivery with its index entry, and says so.
fn delete(txn: &mut Txn<'_>, key: DeliveryKey, sink: &str) {
    txn.delete(key.key(keys::DELIVERY));
    txn.delete(key.key(keys::PENDING));
    txn.tell(Change::Drop { sink: sink.to_owned(), key });
}

fn drop_one(txn: &mut Txn<'_>, key: DeliveryKey, sink: &str, now: Time) -> Result<bool, StoreError> {
    if !is_pending_at(txn, key, sink)? {
        return Ok(false);
    }
    // A delivery that cannot be read goes, too; its event knows the watch that counts it.
    let watch = match txn.read::<Delivery>(&key.key(keys::DELIVERY))? {
        Some(delivery) => Some(delivery.watch),
        None => txn.read::<Event>(&keys::event(key.event))?.map(|event| event.watch),
    };
    delete(txn, key, sink);
    if let Some(number) = watch
        && let Some(mut watch) = load(txn, number)?
    {
        watch.pending = watch.pending.saturating_sub(1);
        write_watch(txn, watch, now)?;
    }
    Ok(true)
}

/// Whether the delivery was moved, and whether it ended because the other sink has the event.
fn move_one(
    txn: &mut Txn<'_>,
    key: DeliveryKey,
    (from, to): (&str, &str),
    takes: &impl Fn(EventType) -> bool,
    now: Time,
) -> Result<(bool, bool), StoreError> {
    const STAYS: (bool, bool) = (false, false);
    if !is_pending_at(txn, key, from)? {
        return Ok(STAYS);
    }
    let delivery = txn.read::<Delivery>(&key.key(keys::DELIVERY))?;
    let Some(delivery) = delivery.filter(|delivery| takes(delivery.event_type)) else { return Ok(STAYS) };
    let other = DeliveryKey::new(key.event, &delivery.event_id, to);
    let there = txn.read::<Delivery>(&other.key(keys::DELIVERY))?.map(|delivery| delivery.state);
    match there {
        None if txn.get(&other.key(keys::DELIVERY))?.is_some() => Ok(STAYS),
        None => {
            delete(txn, key, from);
            let fresh = Delivery {
                sink: to.to_owned(),
                updated_at: now,
                next_attempt_at: now,
                step: 0,
                spared: 0,
                spared_ms: 0,
                attempt_count: 0,
                attempts: Vec::new(),
                reason: None,
                ..delivery
            };
            put_pending(txn, other, &fresh)?;
            Ok((true, false))
        }
        Some(DeliveryState::Dead) => {
            // The other sink never took it, and is to try again.
            let moved = redeliver(txn, other, now)?;
            drop_one(txn, key, from, now)?;
            Ok((moved, !moved))
        }
        Some(DeliveryState::Pending | DeliveryState::Delivered) => {
            drop_one(txn, key, from, now)?;
            Ok((false, true))
        }
    }
}
