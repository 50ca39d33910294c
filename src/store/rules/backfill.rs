//! Delivers a past event to a sink that never got it.

use super::{Step, count, is_there, put_pending};
use crate::{
    store::{Delivery, DeliveryKey, StoreError, records::Txn},
    util::units::Time,
};

/// Makes a delivery of an event to `sink`. Returns `false` when there is one already, or no such event.
pub(in crate::store) fn deliver_past(
    txn: &mut Txn<'_>,
    number: u64,
    sink: &str,
    now: Time,
) -> Result<bool, StoreError> {
    // Retention may have dropped it since it was read.
    let Some(event) = txn.event(number)? else { return Ok(false) };
    let key = DeliveryKey::new(number, event.news.event_id(), sink);
    if txn.has_delivery(key)? {
        return Ok(false);
    }
    if !is_there(txn, number, &event.topic)? {
        return Ok(false);
    }
    // As after a redelivery: a late request says nothing about how long a delivery takes.
    put_pending(txn, key, Delivery { generation: 1, ..Delivery::new(&event, sink, now) })?;
    count(txn, number, &event.topic, Step::Added, now)
}
