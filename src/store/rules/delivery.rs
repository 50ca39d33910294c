//! Records each attempt together with what is due next.

use super::{Step, count, is_there, put_pending};
use crate::{
    model::delivery::{DeliveryAttempt, DeliveryState},
    store::{AttemptVerdict, Delivery, DeliveryKey, FileMark, StoreError, records::Txn},
    util::units::Time,
};

/// Attempts that a delivery remembers in full.
const MAX_ATTEMPTS: usize = 20;

/// One attempt as it is recorded.
#[derive(Clone, Debug)]
pub struct AttemptDone {
    /// The delivery's generation when the attempt began.
    pub generation: u32,
    /// The number of the attempt, from 1.
    pub number: u32,
    /// The attempt itself.
    pub attempt: DeliveryAttempt,
    /// Its meaning for the delivery.
    pub verdict: AttemptVerdict,
}

/// Records an attempt and what follows from it.
pub(in crate::store) fn record_attempt(
    txn: &mut Txn<'_>,
    key: DeliveryKey,
    done: AttemptDone,
    now: Time,
) -> Result<(), StoreError> {
    // The watch may have been deleted during the attempt.
    let Some(mut delivery) = txn.delivery(key)? else { return Ok(()) };
    if delivery.attempt_count >= done.number {
        // Written before a failure that kept the answer back.
        return Ok(());
    }
    let is_current = delivery.generation == done.generation;
    delivery.add_attempt(done.attempt, now);
    // Restarted during the attempt: the fresh schedule stands.
    let settled = if is_current { delivery.judge(done.verdict, now) } else { false };
    if !settled {
        put_pending(txn, key, delivery)?;
        return Ok(());
    }
    let step = if delivery.state == DeliveryState::Dead { Step::Died } else { Step::Settled };
    let topic = delivery.topic.clone();
    txn.put_delivery(key, delivery)?;
    count(txn, key.event, &topic, step, now)?;
    Ok(())
}

impl Delivery {
    fn add_attempt(&mut self, attempt: DeliveryAttempt, now: Time) {
        self.updated_at = now;
        self.attempt_count += 1;
        self.attempts.push(attempt);
        if self.attempts.len() > MAX_ATTEMPTS {
            self.attempts.remove(0);
        }
    }

    /// Takes the verdict on its last attempt. Returns whether that settles it.
    fn judge(&mut self, verdict: AttemptVerdict, now: Time) -> bool {
        if let AttemptVerdict::Defer(at) = verdict {
            self.spared = self.spared.saturating_add(1);
            let wait = u64::try_from(at.since(now).as_millis()).unwrap_or(u64::MAX);
            self.spared_ms = self.spared_ms.saturating_add(wait);
        } else {
            self.step += 1;
            self.spared = 0;
        }
        match verdict {
            AttemptVerdict::Retry(at) | AttemptVerdict::Defer(at) => {
                self.next_attempt_at = at;
                return false;
            }
            AttemptVerdict::Delivered => (self.state, self.reason) = (DeliveryState::Delivered, None),
            AttemptVerdict::Dead(reason) => (self.state, self.reason) = (DeliveryState::Dead, Some(reason)),
        }
        true
    }
}

/// Sends a delivery again: same event, fresh schedule. Returns `false` when there is none.
pub(in crate::store) fn restart(txn: &mut Txn<'_>, key: DeliveryKey, now: Time) -> Result<bool, StoreError> {
    let Some(delivery) = txn.delivery(key)? else { return Ok(false) };
    let step = match delivery.state {
        DeliveryState::Pending => None,
        DeliveryState::Delivered => Some(Step::Added),
        DeliveryState::Dead => Some(Step::Revived),
    };
    let (topic, generation) = (delivery.topic.clone(), delivery.generation + 1);
    if !is_there(txn, key.event, &topic)? {
        return Ok(false);
    }
    put_pending(txn, key, Delivery { generation, ..delivery.restarted(now) })?;
    match step {
        Some(step) => count(txn, key.event, &topic, step, now),
        None => Ok(true),
    }
}

/// Records that a delivery is about to give the file `made` its name. Of those that it recorded before, the ones that are
/// `present` stay recorded.
pub(in crate::store) fn record_file(
    txn: &mut Txn<'_>,
    key: DeliveryKey,
    made: FileMark,
    present: &[FileMark],
) -> Result<(), StoreError> {
    // The watch may have been deleted meanwhile.
    let Some(mut delivery) = txn.delivery(key)? else { return Ok(()) };
    delivery.files.retain(|file| present.contains(file));
    delivery.files.push(made);
    txn.put_delivery(key, delivery)
}
