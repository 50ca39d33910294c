//! What delivering writes down: each attempt together with what is due next.

use super::{
    Delivery, DeliveryKey, FileMark, Store, StoreError, Verdict, Watch, codec,
    following::{put_pending, settle},
    keys,
    record::Stage,
    registering::load,
    txn::Txn,
};
use crate::{
    model::delivery::{DeliveryAttempt, DeliveryState},
    util::units::Time,
};

/// Attempts that a delivery remembers in full.
const MAX_ATTEMPTS: usize = 20;

/// One attempt as it is recorded.
#[derive(Clone, Debug)]
pub struct AttemptDone {
    /// The delivery's generation when the attempt began.
    pub generation: u32,
    /// Which attempt of the delivery it is, from 1.
    pub number: u32,
    /// What happened.
    pub attempt: DeliveryAttempt,
    /// What it means.
    pub verdict: Verdict,
}

/// Who wrote a file, as far as deliveries tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A delivery of the same job to the same sink, of the same event or an earlier one.
    Same,
    /// A delivery of the same job to another sink, or of a later event.
    Other,
    /// Nobody who is known.
    Unknown,
}

impl Store {
    /// Records that a delivery is about to give the file `made` its name. Of those that it recorded before, the ones that are
    /// `present` stay recorded.
    ///
    /// # Errors
    /// When it could not be stored; the file must not get its name then.
    pub async fn name_file(
        &self,
        key: DeliveryKey,
        made: FileMark,
        present: Vec<FileMark>,
    ) -> Result<(), StoreError> {
        self.write(move |txn| {
            let key = key.key(keys::DELIVERY);
            // The watch may have been deleted meanwhile.
            let Some(mut delivery) = txn.read::<Delivery>(&key)? else { return Ok(()) };
            delivery.files.retain(|file| present.contains(file));
            delivery.files.push(made);
            txn.write(key, &delivery)
        })
        .await
    }

    /// Who of a watch wrote `file`, for the delivery `key` to `sink`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn owner_of_file(
        &self,
        watch: u64,
        (key, sink): (DeliveryKey, &str),
        file: FileMark,
    ) -> Result<Owner, StoreError> {
        let Some(watch) = self.watch(watch)? else { return Ok(Owner::Unknown) };
        self.read(|db| {
            for event in watch.all_events() {
                for value in db.scan_prefix(keys::deliveries_of(event)).values() {
                    // One that cannot be read tells of no file.
                    let Ok(delivery) = codec::decode::<Delivery>(&value?) else { continue };
                    if delivery.files.contains(&file) {
                        let is_same = delivery.sink == sink && event <= key.event;
                        return Ok(if is_same { Owner::Same } else { Owner::Other });
                    }
                }
            }
            Ok(Owner::Unknown)
        })
    }

    /// Records an attempt and what follows from it, in one write.
    pub async fn attempted(&self, key: DeliveryKey, done: &AttemptDone, now: Time) {
        self.write_surely(|| {
            let done = done.clone();
            move |txn| attempted(txn, key, done, now)
        })
        .await;
    }

    /// The first pending delivery to `sink` among all events of a watch, its progress included, and the time at
    /// which it is due. With `before`, among the events before that one.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn first_pending(
        &self,
        watch: u64,
        sink: &str,
        before: Option<u64>,
    ) -> Result<Option<(DeliveryKey, Time)>, StoreError> {
        let Some(watch) = self.watch(watch)? else { return Ok(None) };
        self.read(|db| {
            let events = watch.all_events().into_iter();
            for event in events.take_while(|event| before.is_none_or(|before| *event < before)) {
                for entry in db.scan_prefix(keys::numbered(keys::PENDING, event)) {
                    let (key, value) = entry?;
                    if let Some((due, name)) = value.split_first_chunk::<8>()
                        && name == sink.as_bytes()
                        && let Some(key) = DeliveryKey::of_stored(&key)
                    {
                        return Ok(Some((key, Time(i64::from_be_bytes(*due)))));
                    }
                }
            }
            Ok(None)
        })
    }

    /// Sends deliveries again: same event, fresh schedule. Returns how many there were.
    ///
    /// # Errors
    /// When it could not be stored; none is sent again then.
    pub async fn redeliver(&self, keys: Vec<DeliveryKey>, now: Time) -> Result<u64, StoreError> {
        self.write(move |txn| {
            let mut count = 0;
            for key in keys {
                count += u64::from(redeliver(txn, key, now)?);
                txn.end_operation()?;
            }
            Ok(count)
        })
        .await
    }
}

fn attempted(txn: &mut Txn<'_>, key: DeliveryKey, done: AttemptDone, now: Time) -> Result<(), StoreError> {
    // The watch may have been deleted while the attempt was under way.
    let Some(mut delivery) = txn.read::<Delivery>(&key.key(keys::DELIVERY))? else { return Ok(()) };
    if delivery.attempt_count >= done.number {
        // Written before a failure that kept the answer back.
        return Ok(());
    }
    delivery.updated_at = now;
    delivery.attempt_count += 1;
    delivery.attempts.push(done.attempt);
    if delivery.attempts.len() > MAX_ATTEMPTS {
        delivery.attempts.remove(0);
    }
    if delivery.generation != done.generation {
        // Redelivered meanwhile: the fresh schedule stands.
        return put_pending(txn, key, &delivery);
    }
    if let Verdict::PutOff(at) = done.verdict {
        delivery.spared = delivery.spared.saturating_add(1);
        let wait = u64::try_from(at.since(now).as_millis()).unwrap_or(u64::MAX);
        delivery.spared_ms = delivery.spared_ms.saturating_add(wait);
    } else {
        delivery.step += 1;
        delivery.spared = 0;
    }
    match done.verdict {
        Verdict::Retry(at) | Verdict::PutOff(at) => {
            delivery.next_attempt_at = at;
            put_pending(txn, key, &delivery)
        }
        Verdict::Delivered => conclude(txn, key, delivery, None, now),
        Verdict::Dead(reason) => conclude(txn, key, delivery, Some(reason), now),
    }
}

/// Ends a delivery: delivered, or dead for a reason.
fn conclude(
    txn: &mut Txn<'_>,
    key: DeliveryKey,
    mut delivery: Delivery,
    dead: Option<String>,
    now: Time,
) -> Result<(), StoreError> {
    delivery.state = if dead.is_some() { DeliveryState::Dead } else { DeliveryState::Delivered };
    delivery.reason = dead;
    delivery.updated_at = now;
    txn.write(key.key(keys::DELIVERY), &delivery)?;
    txn.delete(key.key(keys::PENDING));
    let Some(mut watch) = load(txn, delivery.watch)? else { return Ok(()) };
    watch.pending = watch.pending.saturating_sub(1);
    if delivery.state == DeliveryState::Dead
        && let Some(dead) = watch.dead_letters_of(key.event)
    {
        *dead += 1;
    }
    write_watch(txn, watch, now)
}

pub(super) fn redeliver(txn: &mut Txn<'_>, key: DeliveryKey, now: Time) -> Result<bool, StoreError> {
    let Some(mut delivery) = txn.read::<Delivery>(&key.key(keys::DELIVERY))? else { return Ok(false) };
    let Some(mut watch) = load(txn, delivery.watch)? else { return Ok(false) };
    match delivery.state {
        DeliveryState::Pending => {}
        DeliveryState::Delivered => watch.pending += 1,
        DeliveryState::Dead => {
            watch.pending += 1;
            if let Some(dead) = watch.dead_letters_of(key.event) {
                *dead = dead.saturating_sub(1);
            }
        }
    }
    delivery.state = DeliveryState::Pending;
    (delivery.step, delivery.spared, delivery.spared_ms) = (0, 0, 0);
    delivery.generation += 1;
    delivery.reason = None;
    delivery.next_attempt_at = now;
    delivery.updated_at = now;
    put_pending(txn, key, &delivery)?;
    write_watch(txn, watch, now)?;
    Ok(true)
}

/// Writes a watch whose count of pending deliveries changed.
pub(super) fn write_watch(txn: &mut Txn<'_>, mut watch: Watch, now: Time) -> Result<(), StoreError> {
    if watch.stage == Stage::Ended {
        return settle(txn, watch, now);
    }
    watch.updated_at = now;
    txn.write(keys::watch(watch.number), &watch)
}
