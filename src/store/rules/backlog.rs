//! Drops the backlog of one sink, or moves it to another.

use super::{Step, count, delivery::restart, put_pending};
use crate::{
    model::{delivery::DeliveryState, job::EventType},
    store::{Change, Delivery, DeliveryKey, StoreError, records::Txn},
    util::units::Time,
};

/// What became of deliveries that were to be moved to another sink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handed {
    /// The other sink has them to deliver now.
    pub moved: u64,
    /// The other sink had the same event already, delivered or pending. They are dropped.
    pub existing: u64,
}

/// Drops a delivery that is pending at `sink`. Its event stays. Returns `false` when it is not pending there.
pub(in crate::store) fn drop_pending(
    txn: &mut Txn<'_>,
    key: DeliveryKey,
    sink: &str,
    now: Time,
) -> Result<bool, StoreError> {
    if !is_pending_at(txn, key, sink)? {
        return Ok(false);
    }
    // A delivery that cannot be read goes, too; its event knows what counts it.
    let topic = match txn.delivery(key)? {
        Some(delivery) => Some(delivery.topic),
        None => txn.event(key.event)?.map(|event| event.topic),
    };
    delete(txn, key, sink)?;
    if let Some(topic) = topic {
        count(txn, key.event, &topic, Step::Settled, now)?;
    }
    Ok(true)
}

/// Moves a delivery that is pending at `from` to the sink `to`, unless `takes` refuses its type.
pub(in crate::store) fn move_pending(
    txn: &mut Txn<'_>,
    key: DeliveryKey,
    (from, to): (&str, &str),
    takes: &impl Fn(EventType) -> bool,
    now: Time,
) -> Result<Handed, StoreError> {
    const STAYS: Handed = Handed { moved: 0, existing: 0 };
    const MOVED: Handed = Handed { moved: 1, existing: 0 };
    const EXISTING: Handed = Handed { moved: 0, existing: 1 };
    if !is_pending_at(txn, key, from)? {
        return Ok(STAYS);
    }
    let delivery = txn.delivery(key)?.filter(|delivery| takes(delivery.event_type));
    let Some(delivery) = delivery else { return Ok(STAYS) };
    let other = DeliveryKey::new(key.event, &delivery.event_id, to);
    let there = txn.delivery(other)?.map(|delivery| delivery.state);
    match there {
        None if txn.has_delivery(other)? => Ok(STAYS),
        None => {
            delete(txn, key, from)?;
            let fresh = delivery.restarted(now);
            put_pending(
                txn,
                other,
                Delivery { sink: to.to_owned(), attempt_count: 0, attempts: Vec::new(), ..fresh },
            )?;
            Ok(MOVED)
        }
        Some(DeliveryState::Dead) => {
            // The other sink never took it, and is to try again.
            let moved = restart(txn, other, now)?;
            drop_pending(txn, key, from, now)?;
            Ok(if moved { MOVED } else { EXISTING })
        }
        Some(DeliveryState::Pending | DeliveryState::Delivered) => {
            drop_pending(txn, key, from, now)?;
            Ok(EXISTING)
        }
    }
}

fn is_pending_at(txn: &Txn<'_>, key: DeliveryKey, sink: &str) -> Result<bool, StoreError> {
    Ok(txn.pending(key)?.is_some_and(|pending| pending.sink == sink))
}

fn delete(txn: &mut Txn<'_>, key: DeliveryKey, sink: &str) -> Result<(), StoreError> {
    txn.delete_delivery(key)?;
    txn.emit(Change::DeliveryGone { sink: sink.to_owned(), key });
    Ok(())
}
