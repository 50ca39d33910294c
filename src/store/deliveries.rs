//! Deliveries: recorded, restarted, dropped, moved, and listed.

use super::{
    AttemptDone, Delivery, DeliveryKey, Event, FileMark, Handed, Listing, Store, StoreError, Topic, Watch,
    records::{JobKey, Records, Selection, passed_over},
    rules::{backlog, delivery, each},
    watches::page,
};
use crate::{
    model::{delivery::DeliveryState, job::EventType},
    util::units::Time,
};

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
    /// `since` and `until` go by the time at which a delivery was settled, where it is.
    pub by_end: bool,
}

impl DeliveryFilter {
    fn time(&self, delivery: &Delivery) -> Time {
        let settled = delivery.state != DeliveryState::Pending;
        if self.by_end && settled { delivery.updated_at } else { delivery.created_at }
    }

    fn takes(&self, delivery: &Delivery) -> bool {
        self.state.is_none_or(|state| state == delivery.state)
            && self.sink.as_ref().is_none_or(|sink| *sink == delivery.sink)
            && self.source.as_deref().is_none_or(|source| delivery.topic.source() == Some(source))
            && self
                .job_id
                .as_deref()
                .is_none_or(|job_id| delivery.topic.job().is_some_and(|job| job.job_id.as_str() == job_id))
            && self.since.is_none_or(|since| self.time(delivery) >= since)
            && self.until.is_none_or(|until| self.time(delivery) < until)
    }

    fn selection(&self) -> Selection {
        if self.state == Some(DeliveryState::Pending) { Selection::Open } else { Selection::All }
    }
}

/// An event with its deliveries.
#[derive(Clone, Debug, PartialEq)]
pub struct SentEvent {
    /// Its number.
    pub number: u64,
    /// The event.
    pub event: Event,
    /// Its deliveries that can be read.
    pub deliveries: Vec<(DeliveryKey, Delivery)>,
}

/// The writer of a file, as far as deliveries tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A delivery of the same job to the same sink, of the same event or an earlier one.
    Same,
    /// A delivery of the same job to another sink, or of a later event.
    Other,
    /// No delivery that is known.
    Unknown,
}

/// What sinks and operators record.
impl Store {
    /// Records an attempt and what follows from it, in one write.
    pub async fn record_attempt(&self, key: DeliveryKey, done: &AttemptDone, now: Time) {
        self.write_until_durable(|| {
            let done = done.clone();
            move |txn| delivery::record_attempt(txn, key, done, now)
        })
        .await;
    }

    /// Records that a delivery is about to give the file `made` its name. Of those that it recorded before, the ones that are
    /// `present` stay recorded.
    ///
    /// # Errors
    /// When it could not be stored; the file must not get its name then.
    pub async fn record_file(
        &self,
        key: DeliveryKey,
        made: FileMark,
        present: Vec<FileMark>,
    ) -> Result<(), StoreError> {
        self.write(move |txn| delivery::record_file(txn, key, made, &present)).await
    }

    /// Sends deliveries again: same event, fresh schedule. Returns how many there were.
    ///
    /// # Errors
    /// When it could not be stored; none is sent again then.
    pub async fn redeliver(&self, keys: Vec<DeliveryKey>, now: Time) -> Result<u64, StoreError> {
        self.write(move |txn| each(txn, keys, |txn, key| delivery::restart(txn, key, now))).await
    }

    /// Drops these deliveries as far as they are pending at `sink`. Their events stay. Returns how many there were.
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
        self.write(move |txn| each(txn, keys, |txn, key| backlog::drop_pending(txn, key, &sink, now))).await
    }

    /// Moves these deliveries, as far as they are pending at `from`, to the sink `to`, with a fresh schedule. Those
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
                let one = backlog::move_pending(txn, key, (&from, &to), &takes, now)?;
                handed.moved += one.moved;
                handed.existing += one.existing;
                txn.end_operation()?;
            }
            Ok(handed)
        })
        .await
    }
}

/// Reads.
impl Store {
    /// Returns one delivery; `None` also when its record cannot be read.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn delivery(&self, key: DeliveryKey) -> Result<Option<Delivery>, StoreError> {
        self.get(move |records| passed_over(records.delivery(key))).await
    }

    /// Returns one delivery.
    ///
    /// # Errors
    /// When the store cannot be read, and [`StoreError::Record`] when this delivery alone cannot.
    pub async fn find_delivery(&self, key: DeliveryKey) -> Result<Option<Delivery>, StoreError> {
        self.get(move |records| records.delivery(key)).await
    }

    /// Returns the deliveries of the last run that ended and of the current one, and those of earlier ones that are
    /// still pending.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn deliveries_of(&self, watch: &Watch) -> Result<Vec<(DeliveryKey, Delivery)>, StoreError> {
        let events = events_shown(watch);
        if events.is_empty() {
            return Ok(Vec::new());
        }
        self.get(move |records| deliveries_of(records, &events)).await
    }

    /// Returns the deliveries of one event.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn deliveries_of_event(&self, event: u64) -> Result<Vec<(DeliveryKey, Delivery)>, StoreError> {
        self.get(move |records| deliveries_of(records, &[(event, true)])).await
    }

    /// Returns what [`deliveries_of`](Self::deliveries_of) does for each of `watches`, in their order.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn deliveries_of_each(
        &self,
        watches: &[Watch],
    ) -> Result<Vec<Vec<(DeliveryKey, Delivery)>>, StoreError> {
        let events: Vec<_> = watches.iter().map(events_shown).collect();
        self.scan(move |records| events.iter().map(|events| deliveries_of(records, events)).collect()).await
    }

    /// Returns the events of a watch that can be read, oldest first, each with its deliveries.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn events_of(&self, watch: &Watch) -> Result<Vec<SentEvent>, StoreError> {
        let numbers = watch.all_events();
        self.scan(move |records| {
            let mut events = Vec::with_capacity(numbers.len());
            for number in numbers {
                let deliveries = deliveries_of(records, &[(number, true)])?;
                let event = passed_over(records.event(number))?;
                events.extend(event.map(|event| SentEvent { number, event, deliveries }));
            }
            Ok(events)
        })
        .await
    }

    /// Returns a page of deliveries, newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn deliveries(
        &self,
        filter: &DeliveryFilter,
        cursor: Option<DeliveryKey>,
        limit: usize,
    ) -> Result<Listing<(DeliveryKey, Delivery), DeliveryKey>, StoreError> {
        let filter = filter.clone();
        self.scan(move |records| {
            page(records.deliveries_before(filter.selection(), cursor), limit, |key, delivery| {
                Ok(delivery.filter(|delivery| filter.takes(delivery)).map(|delivery| (key, delivery)))
            })
        })
        .await
    }

    /// Returns at most `limit` pending deliveries to `sink` behind `after`, oldest event first, of the events up to
    /// number `until`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn pending_of(
        &self,
        sink: &str,
        after: Option<DeliveryKey>,
        until: u64,
        limit: usize,
    ) -> Result<Vec<DeliveryKey>, StoreError> {
        let sink = sink.to_owned();
        self.scan(move |records| {
            let of_sink = records.all_pending(after, until).filter_map(|entry| match entry {
                Ok((key, pending)) => (pending.sink == sink).then_some(Ok(key)),
                Err(error) => Some(Err(error)),
            });
            of_sink.take(limit).collect()
        })
        .await
    }

    /// Returns the first pending delivery to `sink` among all events of the job of a delivery, its progress included, and the
    /// time at which it is due. With `before`, among the events before that one. `None` for a delivery about no job: its event is
    /// the only one.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn first_pending(
        &self,
        topic: &Topic,
        sink: &str,
        before: Option<u64>,
    ) -> Result<Option<(DeliveryKey, Time)>, StoreError> {
        let Some(watch) = topic.watch() else { return Ok(None) };
        let sink = sink.to_owned();
        self.get(move |records| {
            let Some(watch) = passed_over(records.watch(watch))? else { return Ok(None) };
            let events = watch.all_events().into_iter();
            for event in events.take_while(|event| before.is_none_or(|before| *event < before)) {
                for entry in records.pending_of(event) {
                    let (key, pending) = entry?;
                    if pending.sink == sink {
                        return Ok(Some((key, pending.due)));
                    }
                }
            }
            Ok(None)
        })
        .await
    }

    /// Calls `each` with every pending delivery, beside the runtime: its sink, its key and when it is due. Returns how
    /// many there are.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn each_pending(
        &self,
        mut each: impl FnMut(&str, DeliveryKey, Time) + Send + 'static,
    ) -> Result<u64, StoreError> {
        self.scan(move |records| {
            let mut count = 0;
            for entry in records.all_pending(None, u64::MAX) {
                let (key, pending) = entry?;
                each(&pending.sink, key, pending.due);
                count += 1;
            }
            Ok(count)
        })
        .await
    }

    /// Returns who of a watch, or of an event about no job, wrote `file`, for the delivery `key` to `sink`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn owner_of_file(
        &self,
        watch: Option<u64>,
        (key, sink): (DeliveryKey, &str),
        file: FileMark,
    ) -> Result<Owner, StoreError> {
        let sink = sink.to_owned();
        self.get(move |records| {
            let watch = match watch.map(|watch| passed_over(records.watch(watch))).transpose()? {
                Some(None) => return Ok(Owner::Unknown),
                watch => watch.flatten(),
            };
            for event in watch.as_ref().map_or_else(|| vec![key.event], Watch::all_events) {
                for entry in records.deliveries(event) {
                    // One that cannot be read tells of no file.
                    let Some(delivery) = entry?.1 else { continue };
                    if delivery.files.contains(&file) {
                        let is_same = delivery.sink == sink && event <= key.event;
                        return Ok(if is_same { Owner::Same } else { Owner::Other });
                    }
                }
            }
            match watch {
                Some(watch) if shares_its_id(records, &watch)? => Ok(Owner::Other),
                _ => Ok(Owner::Unknown),
            }
        })
        .await
    }
}

/// Returns whether a job of another kind has the id of a watch, or had it.
fn shares_its_id(records: &dyn Records, watch: &Watch) -> Result<bool, StoreError> {
    let own = JobKey::of(watch);
    let default = JobKey { kind: None, ..own.clone() };
    if own != default && records.job(&default)?.is_some() {
        return Ok(true);
    }
    for other in records.other_kinds(&watch.source, &watch.job_id) {
        if other?.0 != own {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The events of a watch, each with whether it belongs to the last run that ended or to the current one.
fn events_shown(watch: &Watch) -> Vec<(u64, bool)> {
    watch.all_events().into_iter().map(|event| (event, watch.is_recent(event))).collect()
}

fn deliveries_of(
    records: &dyn Records,
    events: &[(u64, bool)],
) -> Result<Vec<(DeliveryKey, Delivery)>, StoreError> {
    let mut deliveries = Vec::new();
    for (event, is_recent) in events {
        for entry in records.deliveries(*event) {
            let (key, Some(delivery)) = entry? else { continue };
            if *is_recent || delivery.state == DeliveryState::Pending {
                deliveries.push((key, delivery));
            }
        }
    }
    Ok(deliveries)
}
