//! Past events for a sink that never got them.

use std::{collections::HashSet, fs};

use super::{
    Delivery, DeliveryKey, Event, EventFilter, Store, StoreError, codec, delivering::write_watch,
    following::put_pending, keys, read::is_routed, registering::load, txn::Txn,
};
use crate::{model::job::EventType, util::units::Time};

/// Records that one step reads at most.
const MAX_READ: usize = 20_000;

/// A step through the events, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// The numbers of the events that the sink never got.
    pub events: Vec<u64>,
    /// Events that match, and whose stored job is not in the spool.
    pub bodiless: u64,
    /// The number after which the next step begins; `None` after the last.
    pub next: Option<u64>,
}

impl Store {
    /// Returns at most `limit` events after number `after` up to `until` that match `filter` and that `sink`
    /// never got, of the types that it `takes`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn past(
        &self,
        sink: &str,
        filter: &EventFilter,
        takes: impl Fn(EventType) -> bool,
        (after, until): (u64, u64),
        limit: usize,
    ) -> Result<Past, StoreError> {
        self.read(|db| {
            let mut past = Past::default();
            if until <= after {
                return Ok(past);
            }
            let range = keys::event(after.saturating_add(1))..=keys::event(until);
            for (read, entry) in db.range(range).enumerate() {
                let (key, value) = entry?;
                let Some(number) = keys::number_of(&key) else { continue };
                let is_left = match filter.routed {
                    Some(routed) => is_routed(db, number)? == routed,
                    None => true,
                };
                let event = self.shared.unreadable.pass_over(&key, codec::decode::<Event>(&value))?;
                let wanted = |event: &Event| is_left && filter.takes(event) && takes(event.news.event_type());
                if let Some(event) = event.filter(wanted)
                    && !db.contains_key(key_of(number, &event, sink).key(keys::DELIVERY))?
                {
                    match self.has_body(&event) {
                        true => past.events.push(number),
                        false => past.bodiless += 1,
                    }
                }
                if past.events.len() == limit || read + 1 == MAX_READ {
                    past.next = Some(number);
                    break;
                }
            }
            Ok(past)
        })
    }

    /// Returns the events with these ids and their numbers, in the order in which they were made.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn events_named(&self, ids: &[String]) -> Result<Vec<(u64, Event)>, StoreError> {
        let mut wanted: HashSet<&str> = ids.iter().map(String::as_str).collect();
        let mut found = Vec::new();
        self.read(|db| {
            for entry in db.scan_prefix([keys::EVENT]) {
                if wanted.is_empty() {
                    break;
                }
                let (key, value) = entry?;
                let event = self.shared.unreadable.pass_over(&key, codec::decode::<Event>(&value))?;
                if let Some(event) = event
                    && wanted.remove(event.news.event_id())
                {
                    found.extend(keys::number_of(&key).map(|number| (number, event)));
                }
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// Whether everything that a delivery of `event` sends is there.
    #[must_use]
    pub fn has_body(&self, event: &Event) -> bool {
        event.news.job().is_none_or(|job| {
            let path = self.spool().path(event.watch, event.news.event_id());
            fs::metadata(path).is_ok_and(|file| file.len() == job.size)
        })
    }

    /// Whether `sink` has a delivery of an event, in any state.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn has_delivery(&self, number: u64, event: &Event, sink: &str) -> Result<bool, StoreError> {
        self.read(|db| Ok(db.contains_key(key_of(number, event, sink).key(keys::DELIVERY))?))
    }

    /// Makes a delivery to `sink` for each of these events that has none yet. Returns how many it made. Doing it
    /// twice makes each once.
    ///
    /// # Errors
    /// When it could not be stored.
    pub async fn deliver_past(&self, sink: &str, events: Vec<u64>, now: Time) -> Result<u64, StoreError> {
        let sink = sink.to_owned();
        self.write(move |txn| {
            let mut count = 0;
            for number in events {
                count += u64::from(deliver(txn, number, &sink, now)?);
                txn.end_operation()?;
            }
            Ok(count)
        })
        .await
    }
}

fn key_of(number: u64, event: &Event, sink: &str) -> DeliveryKey {
    DeliveryKey::new(number, event.news.event_id(), sink)
}

fn deliver(txn: &mut Txn<'_>, number: u64, sink: &str, now: Time) -> Result<bool, StoreError> {
    // Retention may have dropped it since it was read.
    let Some(event) = txn.read::<Event>(&keys::event(number))? else { return Ok(false) };
    let key = key_of(number, &event, sink);
    if txn.get(&key.key(keys::DELIVERY))?.is_some() {
        return Ok(false);
    }
    let Some(mut watch) = load(txn, event.watch)? else { return Ok(false) };
    // As after a redelivery: what was asked for later says nothing about how long a delivery takes.
    put_pending(txn, key, &Delivery { generation: 1, ..Delivery::new(&event, sink, now) })?;
    watch.pending += 1;
    write_watch(txn, watch, now)?;
    Ok(true)
}
