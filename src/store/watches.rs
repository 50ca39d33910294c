//! Watches: registered, recorded, found, listed, removed.

use super::{
    BodyEntry, Finished, Listing, NewBody, Registered, Registration, Said, Store, StoreError, Watch,
    records::{JobEntry, JobKey, Records, Selection, passed_over},
    rules::{
        completion,
        polling::{self, PolledResult},
        registration,
        removal::{self, BodyKey, UnreadableWatch},
    },
};
use crate::model::status_answer::StatusAnswer;
use crate::{
    model::job::{EventType, JobId, Outcome, Phase},
    util::units::Time,
};

/// One page goes through so many records at most.
pub(super) const MAX_READ: usize = 20_000;

/// One round of retention drops so many watches at most, so that callers never wait long behind it.
const MAX_DROPPED: usize = 500;

/// What is known of a job id.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// Its watch.
    Watch(Box<Watch>),
    /// It was watched, finished, and dropped after retention.
    Dropped,
    /// Nothing.
    Nothing,
}

/// Bodies that nothing refers to any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// How many watches were dropped.
    pub watches: usize,
    /// The bodies whose files are removed from the spool: watch and event id.
    pub bodies: Vec<(u64, String)>,
    /// There may be more to drop.
    pub more: bool,
}

/// Which watches to list.
#[derive(Clone, Debug, Default)]
pub struct WatchFilter {
    /// Only this phase.
    pub phase: Option<Phase>,
    /// Only this source.
    pub source: Option<String>,
    /// Only this last status.
    pub status: Option<String>,
    /// Only this outcome.
    pub outcome: Option<Outcome>,
    /// Every one of these labels.
    pub labels: Vec<(String, String)>,
}

impl WatchFilter {
    fn takes(&self, watch: &Watch) -> bool {
        let outcome = watch.current_completion().map(|completion| completion.outcome);
        self.phase.is_none_or(|phase| phase == watch.phase())
            && self.source.as_ref().is_none_or(|source| *source == watch.source)
            && self.status.as_ref().is_none_or(|status| Some(status) == watch.status.as_ref())
            && self.outcome.is_none_or(|wanted| outcome == Some(wanted))
            && self.labels.iter().all(|(key, value)| watch.labels.get(key) == Some(value))
    }

    /// Only open watches can match, so the short index of them will do.
    fn selection(&self) -> Selection {
        match self.phase {
            Some(Phase::Watching | Phase::Fetching) => Selection::Open,
            _ => Selection::All,
        }
    }
}

/// What polls and fetches record.
impl Store {
    /// Registers all of `registrations` in one durable commit. Returns the result of each, in their order.
    ///
    /// # Errors
    /// When they could not be stored; none of them counts as accepted then.
    pub async fn register(
        &self,
        registrations: Vec<Registration>,
        now: Time,
    ) -> Result<Vec<Registered>, StoreError> {
        self.write(move |txn| {
            let mut registered = Vec::with_capacity(registrations.len());
            for registration in registrations {
                registered.push(registration::register(txn, registration, now)?);
                // Each is an operation of its own, so that a large batch stays within the batch size.
                txn.end_operation()?;
            }
            Ok(registered)
        })
        .await
    }

    /// Records a status that is not terminal and differs from the one recorded, or that the job is at work.
    /// Makes the progress events that `route` leads to some sink, and returns them.
    pub async fn record_running<R>(
        &self,
        number: u64,
        seen: &StatusAnswer,
        polls: u64,
        route: R,
        now: Time,
    ) -> Vec<EventType>
    where
        R: Fn(&Watch, EventType) -> Vec<String> + Clone + Send + 'static,
    {
        self.write_until_durable(|| {
            let (seen, route) = (seen.clone(), route.clone());
            move |txn| polling::record_running(txn, number, seen, polls, &route, now)
        })
        .await
    }

    /// Records that a poll saw the end of a job. Fixes the run, and so the id of its event.
    pub async fn record_finished(
        &self,
        number: u64,
        outcome: Outcome,
        seen: &StatusAnswer,
        polls: u64,
        now: Time,
    ) -> Finished {
        self.write_until_durable(|| {
            let seen = seen.clone();
            move |txn| polling::record_finished(txn, number, outcome, seen, polls, now)
        })
        .await
    }

    /// Records that a poll saw the end of a job and brought its result, and makes the event, with a delivery to each sink that
    /// `route` names: all in one commit. `event_id` is the event that `body` was made for.
    pub async fn record_result<R>(
        &self,
        (number, outcome, polls): (u64, Outcome, u64),
        seen: &StatusAnswer,
        (body, event_id): (&NewBody, &str),
        said: Option<&Said>,
        route: R,
        now: Time,
    ) -> Finished
    where
        R: Fn(&Watch, EventType) -> Vec<String> + Clone + Send + 'static,
    {
        self.write_until_durable_with(body.small.as_ref(), || {
            let (seen, route, job) = (seen.clone(), route.clone(), body.job.clone());
            let (said, event_id) = (said.cloned(), event_id.to_owned());
            move |txn, places| {
                let result = PolledResult { job: (job, places.first().copied()), said, event_id };
                polling::record_result(txn, (number, outcome, polls), seen, result, &route, now)
            }
        })
        .await
    }

    /// Records that a fetched job still runs: a retry in place came between.
    pub async fn resume_watching(&self, number: u64, now: Time) {
        self.write_until_durable(|| move |txn| polling::resume(txn, number, now)).await;
    }

    /// Records that a job failed after all: the source answered the request for its result with its error.
    pub async fn record_refusal(&self, number: u64, now: Time) {
        self.write_until_durable(|| move |txn| polling::record_refusal(txn, number, now)).await;
    }

    /// Makes the event of a fetched job, with a delivery to each sink that `route` names. What the job says of its own end
    /// counts. Returns `false` when the watch is gone.
    pub async fn complete<R>(
        &self,
        number: u64,
        body: &NewBody,
        said: Option<&Said>,
        route: R,
        now: Time,
    ) -> bool
    where
        R: Fn(&Watch, EventType) -> Vec<String> + Clone + Send + 'static,
    {
        self.write_until_durable_with(body.small.as_ref(), || {
            let (job, said, route) = (body.job.clone(), said.cloned(), route.clone());
            move |txn, places| {
                completion::complete(txn, number, (job, places.first().copied()), said, &route, now)
            }
        })
        .await
    }

    /// Gives a job up and makes its `lost` event, unless an earlier end of the same run is known: then the
    /// watch is finished again.
    pub async fn lose<R>(&self, number: u64, reason: &str, polls: u64, route: R, now: Time)
    where
        R: Fn(&Watch, EventType) -> Vec<String> + Clone + Send + 'static,
    {
        self.write_until_durable(|| {
            let (reason, route) = (reason.to_owned(), route.clone());
            move |txn| completion::lose(txn, number, reason, polls, &route, now)
        })
        .await;
    }
}

/// Reads.
impl Store {
    /// Returns what is known of a job id.
    ///
    /// # Errors
    /// When the store cannot be read, and [`StoreError::Record`] when the record of this watch alone cannot.
    pub async fn find(&self, source: &str, job_id: &JobId) -> Result<Found, StoreError> {
        let job = JobKey::new(source, job_id);
        self.get(move |records| match records.job(&job)? {
            Some(JobEntry::Watch(number)) => {
                Ok(records.watch(number)?.map_or(Found::Nothing, |watch| Found::Watch(Box::new(watch))))
            }
            Some(JobEntry::Dropped(_)) => Ok(Found::Dropped),
            None => Ok(Found::Nothing),
        })
        .await
    }

    /// Returns the watch with this number; `None` also when its record cannot be read.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn watch(&self, number: u64) -> Result<Option<Watch>, StoreError> {
        self.get(move |records| passed_over(records.watch(number))).await
    }

    /// Returns what [`watch`](Self::watch) does, read on the caller's thread: for one that may block, and that holds a lock
    /// over several reads.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn watch_now(&self, number: u64) -> Result<Option<Watch>, StoreError> {
        self.read(|records| passed_over(records.watch(number)))
    }

    /// Returns a page of watches, newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn watches(
        &self,
        filter: &WatchFilter,
        cursor: Option<u64>,
        limit: usize,
    ) -> Result<Listing<Watch>, StoreError> {
        let filter = filter.clone();
        self.scan(move |records| {
            let scan = records.watches(filter.selection(), cursor);
            page(scan, limit, |_, watch| Ok(watch.filter(|watch| filter.takes(watch))))
        })
        .await
    }

    /// Returns the open watches behind number `after` that can be read, oldest first, up to `most` of all; and the number to go on
    /// from, `None` after the last. It blocks.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn open_watches_now(
        &self,
        after: Option<u64>,
        most: usize,
    ) -> Result<(Vec<Watch>, Option<u64>), StoreError> {
        self.read(|records| {
            let (mut watches, mut last) = (Vec::with_capacity(most), None);
            for entry in records.open_watches(after).take(most) {
                let (number, watch) = entry?;
                last = Some(number);
                watches.extend(watch);
            }
            Ok((watches, last))
        })
    }

    /// Calls `each` with `found` and every open watch that can be read, oldest first, beside the runtime. Returns what
    /// became of `found`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn each_open<T: Send + 'static>(
        &self,
        mut found: T,
        mut each: impl FnMut(&mut T, Watch) + Send + 'static,
    ) -> Result<T, StoreError> {
        self.scan(move |records| {
            each_open(records, |watch| each(&mut found, watch))?;
            Ok(found)
        })
        .await
    }
}

pub(super) fn each_open(records: &dyn Records, mut each: impl FnMut(Watch)) -> Result<(), StoreError> {
    for watch in records.open_watches(None) {
        watch?.1.map(&mut each);
    }
    Ok(())
}

/// Goes through a scan and keeps what `pick` picks of the records that can be read.
pub(super) fn page<K: Copy, R, T>(
    scan: impl Iterator<Item = Result<(K, Option<R>), StoreError>>,
    limit: usize,
    mut pick: impl FnMut(K, Option<R>) -> Result<Option<T>, StoreError>,
) -> Result<Listing<T, K>, StoreError> {
    let mut entries = Vec::new();
    for (read, entry) in scan.enumerate() {
        let (key, record) = entry?;
        entries.extend(pick(key, record)?);
        if entries.len() == limit || read + 1 == MAX_READ {
            return Ok(Listing { entries, next: Some(key) });
        }
    }
    Ok(Listing { entries, next: None })
}

/// Removal and retention.
impl Store {
    /// Removes a watch with its deliveries; its job is polled no more. Returns `false` when there is none.
    ///
    /// # Errors
    /// When it could not be stored; the watch stays then.
    pub async fn remove(&self, source: &str, job_id: &JobId) -> Result<bool, StoreError> {
        let job = JobKey::new(source, job_id);
        let removed = self.write({
            let job = job.clone();
            move |txn| removal::remove(txn, &job)
        });
        let bodies = match removed.await {
            Ok(Some(bodies)) => bodies,
            Ok(None) => return Ok(false),
            Err(StoreError::Record(_)) => self.remove_unreadable(job).await?,
            Err(error) => return Err(error),
        };
        self.remove_bodies(bodies).await;
        Ok(true)
    }

    /// Drops watches that were finished before `before`, a bounded number at a time, and forgets jobs that
    /// were dropped before `before` themselves.
    ///
    /// # Errors
    /// When it could not be stored.
    pub async fn drop_finished(&self, before: Time, now: Time) -> Result<Removed, StoreError> {
        let finished = self.scan(move |records| {
            let dropped = records.dropped(before).take(MAX_DROPPED).collect::<Result<Vec<_>, _>>()?;
            Ok((closed_before(records, before)?, dropped))
        });
        let (closed, dropped) = finished.await?;
        let more = closed.len() == MAX_DROPPED || dropped.len() == MAX_DROPPED;
        let (watches, bodies) = self
            .write(move |txn| {
                let mut bodies = Vec::new();
                let mut watches = 0;
                for number in closed {
                    if let Some(dropped) = removal::drop_finished(txn, number, before, now)? {
                        bodies.extend(dropped);
                        watches += 1;
                    }
                    txn.end_operation()?;
                }
                for (at, job) in dropped {
                    removal::forget_dropped(txn, at, job)?;
                    txn.end_operation()?;
                }
                Ok((watches, bodies))
            })
            .await?;
        self.remove_bodies(bodies.clone()).await;
        Ok(Removed { watches, bodies, more })
    }

    /// Removes bodies of watches that are gone: a killed process may have stored one and not recorded it, or
    /// dropped a watch and not removed its body. Returns how many files there were.
    ///
    /// # Errors
    /// When the spool or the store cannot be read.
    pub async fn sweep_spool(&self) -> Result<usize, StoreError> {
        let swept = self.aside(Self::sweep_now).await?;
        self.sweep_segments().await?;
        Ok(swept)
    }

    /// Removes the files of bodies as [`sweep_spool`](Self::sweep_spool) does, on the caller's thread.
    pub(super) fn sweep_now(&self) -> Result<usize, StoreError> {
        let mut swept = 0;
        for BodyEntry { watch: number, event_id, .. } in self.bodies().entries()? {
            // A body of a watch that is still there is left alone: it may be the one being fetched right now,
            // and an old one goes with its watch.
            if !self.read(|records| records.has_watch(number))? {
                self.bodies().remove(number, &event_id)?;
                swept += 1;
            }
        }
        Ok(swept)
    }

    async fn remove_bodies(&self, bodies: Vec<BodyKey>) {
        if bodies.is_empty() {
            return;
        }
        let stored = self.bodies().clone();
        let removal = tokio::task::spawn_blocking(move || {
            for (watch, event_id) in bodies {
                if let Err(error) = stored.remove(watch, &event_id) {
                    tracing::warn!(%error, event_id, "stored job not removed; the next start sweeps it");
                }
            }
        });
        // A panic in there has been reported, and the next start sweeps what is left.
        let _ = removal.await;
    }

    /// Removes a watch whose record, or whose index entry, cannot be read. Its number leads to what belongs to it.
    async fn remove_unreadable(&self, job: JobKey) -> Result<Vec<BodyKey>, StoreError> {
        let wanted = job.clone();
        let reading = self.aside(move |store| {
            let found = store.read(|records| unreadable_watch(records, &wanted))?;
            let mut bodies = Vec::new();
            if let Some(number) = found.number {
                let stored = store.bodies().entries()?.into_iter();
                let own = stored.filter(|body| body.watch == number);
                bodies.extend(own.map(|body| (body.watch, body.event_id)));
            }
            Ok((found, bodies))
        });
        let (found, bodies) = reading.await?;
        let removed = self.write(move |txn| removal::remove_unreadable(txn, job, &found)).await?;
        Ok(if removed { bodies } else { Vec::new() })
    }
}

fn unreadable_watch(records: &dyn Records, job: &JobKey) -> Result<UnreadableWatch, StoreError> {
    let Some(JobEntry::Watch(number)) = passed_over(records.job(job))? else {
        return Ok(UnreadableWatch::default());
    };
    let mut closed = Vec::new();
    for entry in records.closed(Time(0)..Time(i64::MAX)) {
        let (at, watch) = entry?;
        closed.extend((watch == number).then_some(at));
    }
    Ok(UnreadableWatch { number: Some(number), events: records.events_of(number)?, closed })
}

/// The first watches that were finished before then. One that cannot be read waits until its job is removed.
fn closed_before(records: &dyn Records, before: Time) -> Result<Vec<u64>, StoreError> {
    let mut closed = Vec::new();
    for entry in records.closed(Time(0)..before) {
        let (_, number) = entry?;
        match records.watch(number) {
            Err(StoreError::Record(_)) => {}
            Err(error) => return Err(error),
            Ok(_) => closed.push(number),
        }
        if closed.len() == MAX_DROPPED {
            break;
        }
    }
    Ok(closed)
}
