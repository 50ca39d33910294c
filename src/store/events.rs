//! Events: read in their order, listed, and found for sinks that never got them.

use std::collections::{BTreeMap, HashSet};

use super::{
    Bodies, DeliveryKey, Event, Listing, Store, StoreError,
    records::{Records, passed_over},
    rules::{backfill, each},
    watches::{MAX_READ, page},
};
use crate::{
    model::job::{EventType, Outcome},
    util::{glob, units::Time},
};

/// The newest event that is durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NewestEvent {
    /// Its number; 0 when there is none.
    pub number: u64,
    /// How many were made since the start.
    pub count: u64,
}

impl NewestEvent {
    /// Returns what is known once `later` events were made, too.
    pub(super) const fn followed_by(self, later: Self) -> Self {
        let number = if later.count > 0 { later.number } else { self.number };
        Self { number, count: self.count + later.count }
    }
}

/// Which events to list, or to deliver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Only those with a delivery to some sink, or only those without one.
    pub routed: Option<bool>,
    /// Only of types that one of these patterns matches. Empty: of every type.
    pub types: Vec<String>,
    /// Only completions with this outcome.
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
    /// Returns whether the filter takes an event by its own record.
    #[must_use]
    pub fn takes(&self, event: &Event) -> bool {
        let name = event.news.event_type().as_str();
        (self.types.is_empty() || self.types.iter().any(|pattern| glob::matches(pattern, name)))
            && self.outcome.is_none_or(|outcome| event.news.event_type().outcome() == Some(outcome))
            && self.source.as_deref().is_none_or(|source| event.topic.source() == Some(source))
            && self.labels.iter().all(|(key, value)| event.labels.get(key) == Some(value))
            && self.since.is_none_or(|since| event.created_at >= since)
            && self.until.is_none_or(|until| event.created_at < until)
    }

    /// Returns whether the filter takes an event by its deliveries.
    fn takes_routed(&self, records: &dyn Records, number: u64) -> Result<bool, StoreError> {
        // No index says which events have no delivery, so none can be wrong.
        match self.routed {
            Some(routed) => Ok(is_routed(records, number)? == routed),
            None => Ok(true),
        }
    }
}

/// A step through the events, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// The numbers of the events that the sink never got.
    pub events: Vec<u64>,
    /// How many events match that the sink has a delivery of.
    pub existing: u64,
    /// How many events match whose stored job is missing.
    pub bodiless: u64,
    /// The number after which the next step begins; `None` after the last.
    pub next: Option<u64>,
}

impl Store {
    /// Returns the event with this number; `None` also when its record cannot be read.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn event(&self, number: u64) -> Result<Option<Event>, StoreError> {
        self.get(move |records| passed_over(records.event(number))).await
    }

    /// Returns the number of the last event that a reader of the store sees; 0 when there is none. It may not be durable yet.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn last_event(&self) -> Result<u64, StoreError> {
        self.get(|records| records.newest_event()).await
    }

    /// Returns the newest event, and word of each that follows once it is durable.
    #[must_use]
    pub fn newest_event(&self) -> tokio::sync::watch::Receiver<NewestEvent> {
        self.listeners.newest.subscribe()
    }

    /// Returns the events after number `after` up to `until`, oldest first: at most `limit`, and no further one once
    /// they take `bytes` of memory. Empty when there is none.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn events_after(
        &self,
        after: u64,
        until: u64,
        limit: usize,
        bytes: usize,
    ) -> Result<Vec<(u64, Event)>, StoreError> {
        self.scan(move |records| {
            let (mut events, mut size) = (Vec::new(), 0);
            for entry in records.events(after, until) {
                let (number, event) = entry?;
                size += event.as_ref().map_or(0, Event::weight);
                events.extend(event.map(|event| (number, event)));
                if size >= bytes || events.len() >= limit {
                    break;
                }
            }
            Ok(events)
        })
        .await
    }

    /// Returns whether an event has a delivery to some sink, in any state.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn is_routed(&self, event: u64) -> Result<bool, StoreError> {
        self.get(move |records| is_routed(records, event)).await
    }

    /// Returns a page of events, newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn events(
        &self,
        filter: &EventFilter,
        cursor: Option<u64>,
        limit: usize,
    ) -> Result<Listing<Event>, StoreError> {
        let filter = filter.clone();
        self.scan(move |records| {
            page(records.events_before(cursor), limit, |number, event| {
                let event = event.filter(|event| filter.takes(event));
                Ok(if event.is_some() && filter.takes_routed(records, number)? { event } else { None })
            })
        })
        .await
    }

    /// Returns at most `limit` events after number `after` up to `until` that match `filter` and that `sink`
    /// never got, of the types that it `takes`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn past(
        &self,
        sink: &str,
        filter: &EventFilter,
        takes: impl Fn(EventType) -> bool + Send + 'static,
        (after, until): (u64, u64),
        limit: usize,
    ) -> Result<Past, StoreError> {
        let (sink, filter, bodies) = (sink.to_owned(), filter.clone(), self.bodies().clone());
        self.scan(move |records| {
            let mut past = Past::default();
            for (read, entry) in records.events(after, until).enumerate() {
                let (number, event) = entry?;
                let wanted = |event: &Event| filter.takes(event) && takes(event.news.event_type());
                if let Some(event) = event.filter(wanted)
                    && filter.takes_routed(records, number)?
                {
                    if records.has_delivery(delivery_key(number, &event, &sink))? {
                        past.existing += 1;
                    } else if has_body(&bodies, &event)? {
                        past.events.push(number);
                    } else {
                        past.bodiless += 1;
                    }
                }
                if past.events.len() == limit || read + 1 == MAX_READ {
                    past.next = Some(number);
                    break;
                }
            }
            Ok(past)
        })
        .await
    }

    /// Returns the events with these ids and their numbers, in the order in which they were made.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn events_named(&self, ids: &[String]) -> Result<Vec<(u64, Event)>, StoreError> {
        let mut wanted: HashSet<String> = ids.iter().cloned().collect();
        self.scan(move |records| {
            let mut found = Vec::new();
            // Recent ones are asked for most of the time.
            for entry in records.events_before(None) {
                if wanted.is_empty() {
                    break;
                }
                let (number, event) = entry?;
                if let Some(event) = event
                    && wanted.remove(event.news.event_id())
                {
                    found.push((number, event));
                }
            }
            found.reverse();
            Ok(found)
        })
        .await
    }

    /// Returns whether everything that a delivery of `event` sends is there.
    ///
    /// # Errors
    /// When the place of its body cannot be asked now.
    pub async fn has_body(&self, event: &Event) -> Result<bool, StoreError> {
        let (bodies, event) = (self.bodies().clone(), event.clone());
        let asked = tokio::task::spawn_blocking(move || has_body(&bodies, &event)).await;
        asked.unwrap_or_else(|error| Err(StoreError::Unavailable(error.to_string())))
    }

    /// Returns whether `sink` has a delivery of an event, in any state.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn has_delivery(&self, number: u64, event: &Event, sink: &str) -> Result<bool, StoreError> {
        let key = delivery_key(number, event, sink);
        self.get(move |records| records.has_delivery(key)).await
    }

    /// Makes a delivery to `sink` for each of these events that has none yet. Returns how many it made. Doing it
    /// twice makes each once.
    ///
    /// # Errors
    /// When it could not be stored.
    pub async fn deliver_past(&self, sink: &str, events: Vec<u64>, now: Time) -> Result<u64, StoreError> {
        let sink = sink.to_owned();
        self.write(move |txn| {
            each(txn, events, |txn, number| backfill::deliver_past(txn, number, &sink, now))
        })
        .await
    }
}

fn has_body(bodies: &Bodies, event: &Event) -> Result<bool, StoreError> {
    let Some(job) = event.news.job() else { return Ok(true) };
    Ok(bodies.has(event.topic.owner(), event.news.event_id(), job)?)
}

fn delivery_key(number: u64, event: &Event, sink: &str) -> DeliveryKey {
    DeliveryKey::new(number, event.news.event_id(), sink)
}

fn is_routed(records: &dyn Records, event: u64) -> Result<bool, StoreError> {
    Ok(records.deliveries(event).next().transpose()?.is_some())
}
