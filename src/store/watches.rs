//! Watches: registered, recorded, found, listed, removed.

use super::{
    BodyEntry, Finished, Listing, NewBody, Registered, Registration, Said, Store, StoreError, Topic, Watch,
    records::{JobEntry, JobKey, Records, Selection, passed_over},
    rules::{
        completion,
        identity::{IdentifiedJob, identify},
        polling::{self, PolledResult},
        registration,
        removal::{self, BodyKey, UnreadableWatch},
    },
};
use crate::model::status_answer::StatusAnswer;
use crate::{
    model::job::{EventType, JobId, Kind, Outcome, Phase},
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
    /// Watches of several kinds, none of them the default one, and the request names none.
    Several(Vec<String>),
    /// Nothing.
    Nothing,
}

/// Bodies that nothing refers to any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// How many watches were dropped.
    pub watches: usize,
    /// How many events about no job were dropped, each with its group if it is about one.
    pub events: usize,
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
    /// Only this kind of job.
    pub kind: Option<String>,
    /// Only this last status.
    pub status: Option<String>,
    /// Only this outcome.
    pub outcome: Option<Outcome>,
    /// Every one of these labels.
    pub labels: Vec<(String, String)>,
    /// Only of the group with this name.
    pub group: Option<String>,
    /// Only of jobs whose id begins like this.
    pub job_id_prefix: Option<String>,
}

impl WatchFilter {
    fn takes(&self, watch: &Watch) -> bool {
        let outcome = watch.current_completion().map(|completion| completion.outcome);
        self.phase.is_none_or(|phase| phase == watch.phase())
            && self.source.as_ref().is_none_or(|source| *source == watch.source)
            && self
                .kind
                .as_ref()
                .is_none_or(|kind| watch.kind.as_ref().is_some_and(|known| known.name == *kind))
            && self.status.as_ref().is_none_or(|status| Some(status) == watch.status.as_ref())
            && self.outcome.is_none_or(|wanted| outcome == Some(wanted))
            && self.labels.iter().all(|(key, value)| watch.labels.get(key) == Some(value))
            && self
                .group
                .as_ref()
                .is_none_or(|name| watch.group.as_ref().is_some_and(|group| group.name.as_str() == name))
            && self
                .job_id_prefix
                .as_ref()
                .is_none_or(|prefix| watch.job_id.as_str().starts_with(prefix.as_str()))
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
        self.write(move |txn| registration::register_all(txn, registrations, now)).await
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
    /// watch is finished again. `kind` is that of a watch which records none.
    pub async fn lose<R>(
        &self,
        number: u64,
        reason: &str,
        (polls, kind): (u64, Option<Kind>),
        route: R,
        now: Time,
    ) where
        R: Fn(&Watch, EventType) -> Vec<String> + Clone + Send + 'static,
    {
        self.write_until_durable(|| {
            let (reason, kind, route) = (reason.to_owned(), kind.clone(), route.clone());
            move |txn| completion::lose(txn, number, reason, (polls, kind), &route, now)
        })
        .await;
    }
}

/// Reads.
impl Store {
    /// Returns what is known of a job: of this kind. Without a kind, of the default one, else of the only other one.
    ///
    /// # Errors
    /// When the store cannot be read, and [`StoreError::Record`] when the record of this watch alone cannot.
    pub async fn find(&self, source: &str, job_id: &JobId, kind: Option<&Kind>) -> Result<Found, StoreError> {
        let (source, job_id, kind) = (source.to_owned(), job_id.clone(), kind.cloned());
        self.get(move |records| {
            Ok(match entry(records, &source, &job_id, kind.as_ref())? {
                Ok(IdentifiedJob { watch: Some(watch), .. }) => Found::Watch(Box::new(watch)),
                Ok(IdentifiedJob { entry: Some(JobEntry::Dropped(_)), .. }) => Found::Dropped,
                Ok(_) => Found::Nothing,
                Err(kinds) => Found::Several(kinds),
            })
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
            let pick = |_, watch: Option<Watch>| Ok(watch.filter(|watch| filter.takes(watch)));
            if let Some(prefix) = &filter.job_id_prefix
                && let Some(numbers) = few_by_prefix(records, filter.source.as_deref(), prefix, cursor)?
            {
                let scan = numbers.into_iter().filter_map(|number| {
                    let read = passed_over(records.watch(number)).transpose()?;
                    Some(read.map(|watch| (number, Some(watch))))
                });
                return page(scan, limit, pick);
            }
            page(records.watches(filter.selection(), cursor), limit, pick)
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

/// Returns the numbers before `cursor` of the watches whose job id begins like this, newest first. `None` when so many ids do that
/// a scan of the watches meets enough of them.
fn few_by_prefix(
    records: &dyn Records,
    source: Option<&str>,
    prefix: &str,
    cursor: Option<u64>,
) -> Result<Option<Vec<u64>>, StoreError> {
    let mut numbers = Vec::new();
    for (read, entry) in records.jobs_by_prefix(source, prefix).enumerate() {
        if read == MAX_READ {
            return Ok(None);
        }
        if let JobEntry::Watch(number) = entry?
            && cursor.is_none_or(|cursor| number < cursor)
        {
            numbers.push(number);
        }
    }
    numbers.sort_unstable_by_key(|number| std::cmp::Reverse(*number));
    Ok(Some(numbers))
}

/// Finds what is known of a job. Without a kind, the only watch of another kind with the same id stands in for one of the
/// default kind that is not there; the kinds of several are the error.
fn entry(
    records: &dyn Records,
    source: &str,
    job_id: &JobId,
    kind: Option<&Kind>,
) -> Result<Result<IdentifiedJob, Vec<String>>, StoreError> {
    let read = |key: &JobKey| {
        let entry = records.job(key)?;
        let watch = match entry {
            Some(JobEntry::Watch(number)) => records.watch(number)?,
            _ => None,
        };
        Ok((entry, watch))
    };
    let found = identify(source, job_id, kind, read)?;
    if kind.is_some() || found.watch.is_some() {
        return Ok(Ok(found));
    }
    let others = records.other_kinds(source, job_id).collect::<Result<Vec<_>, _>>()?;
    let watched: Vec<&(JobKey, JobEntry)> =
        others.iter().filter(|(_, entry)| matches!(entry, JobEntry::Watch(_))).collect();
    Ok(match (watched.as_slice(), others.first()) {
        ([], Some((key, entry))) if found.entry.is_none() => {
            Ok(IdentifiedJob { key: key.clone(), entry: Some(*entry), ..found })
        }
        ([], _) => Ok(found),
        ([(key, entry)], _) => {
            let (_, watch) = read(key)?;
            Ok(IdentifiedJob { key: key.clone(), entry: Some(*entry), watch, kind: None })
        }
        (several, _) => Err(several.iter().filter_map(|(key, _)| key.kind.clone()).collect()),
    })
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
    /// Removes a watch with its deliveries; its job is polled no more. Returns `false` when there is none, or when the kind is
    /// missing: [`find`](Self::find) tells the kinds then.
    ///
    /// # Errors
    /// When it could not be stored; the watch stays then.
    pub async fn remove(
        &self,
        source: &str,
        job_id: &JobId,
        kind: Option<&Kind>,
    ) -> Result<bool, StoreError> {
        let (named, id, own_kind) = (source.to_owned(), job_id.clone(), kind.cloned());
        let found = self.get(move |records| {
            match entry(records, &named, &id, own_kind.as_ref()) {
                // What cannot be read can be removed.
                Err(StoreError::Record(_)) => Ok(Some(JobKey::new(&named, &id, own_kind.as_ref()))),
                found => Ok(found?.ok().map(|found| found.key)),
            }
        });
        let Some(job) = found.await? else { return Ok(false) };
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
        for group in closed.iter().filter_map(|closed| closed.group) {
            self.drop_members(group).await?;
        }
        let (watches, events, bodies) = self
            .write(move |txn| {
                let mut bodies = Vec::new();
                let (mut watches, mut events) = (0, 0);
                for Closed { at, number, is_event, .. } in closed {
                    match is_event {
                        true => {
                            if let Some(dropped) = removal::drop_event(txn, number, at, before)? {
                                bodies.extend(dropped);
                                events += 1;
                            }
                        }
                        false => {
                            if let Some(dropped) = removal::drop_finished(txn, number, before, now)? {
                                bodies.extend(dropped);
                                watches += 1;
                            }
                        }
                    }
                    txn.end_operation()?;
                }
                for (at, job) in dropped {
                    removal::forget_dropped(txn, at, job)?;
                    txn.end_operation()?;
                }
                Ok((watches, events, bodies))
            })
            .await?;
        self.remove_bodies(bodies.clone()).await;
        Ok(Removed { watches, events, bodies, more })
    }

    /// Removes bodies of watches that are gone: a killed process may have stored one and not recorded it, or
    /// dropped a watch and not removed its body. Returns how many files there were.
    ///
    /// # Errors
    /// When the spool or the store cannot be read.
    pub async fn sweep_spool(&self) -> Result<usize, StoreError> {
        // What is left from now on is for the next sweep.
        self.bodies().set_unswept(false);
        let swept = self.aside(Self::sweep_now).await;
        self.bodies().set_unswept(self.bodies().are_unswept() || swept.is_err());
        self.sweep_segments().await?;
        swept
    }

    /// Removes the files of bodies as [`sweep_spool`](Self::sweep_spool) does, on the caller's thread.
    pub(super) fn sweep_now(&self) -> Result<usize, StoreError> {
        let mut orphans = Vec::new();
        self.bodies().survey(|entry| {
            // A body of a watch that is still there is left alone: it may be the one being fetched right now,
            // and an old one goes with its watch.
            if !self.read(|records| has_owner(records, entry.watch))? {
                orphans.push(entry);
            }
            Ok::<_, StoreError>(())
        })?;
        for BodyEntry { watch, event_id, .. } in &orphans {
            self.bodies().remove(*watch, event_id)?;
        }
        Ok(orphans.len())
    }

    async fn remove_bodies(&self, bodies: Vec<BodyKey>) {
        if bodies.is_empty() {
            return;
        }
        let stored = self.bodies().clone();
        let removal = tokio::task::spawn_blocking(move || {
            for (watch, event_id) in bodies {
                if let Err(error) = stored.remove(watch, &event_id) {
                    stored.set_unswept(true);
                    tracing::warn!(%error, event_id, "stored job not removed; the next sweep does");
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
    let mut groups = Vec::new();
    for entry in records.groups(None) {
        // The record that would tell its group cannot be read.
        if let Some(group) = entry?.1
            && passed_over(records.member(group.number, job))?.is_some()
        {
            groups.push(group.number);
        }
    }
    Ok(UnreadableWatch { number: Some(number), events: records.events_of(number)?, closed, groups })
}

/// Whether there is a watch or a group with this number, under which bodies are stored.
fn has_owner(records: &dyn Records, number: u64) -> Result<bool, StoreError> {
    Ok(records.has_watch(number)? || !matches!(records.group(number), Ok(None)))
}

/// A watch, or an event about no job, that is finished.
struct Closed {
    at: Time,
    number: u64,
    is_event: bool,
    /// The number of the group whose event it is.
    group: Option<u64>,
}

/// The first watches, and events about no job, that were finished before then. A watch that cannot be read waits until its job
/// is removed.
fn closed_before(records: &dyn Records, before: Time) -> Result<Vec<Closed>, StoreError> {
    let mut closed = Vec::new();
    for entry in records.closed(Time(0)..before) {
        let (at, number) = entry?;
        match records.watch(number) {
            Err(StoreError::Record(_)) => {}
            Err(error) => return Err(error),
            Ok(Some(_)) => closed.push(Closed { at, number, is_event: false, group: None }),
            Ok(None) => {
                let event = passed_over(records.event(number))?;
                let group = event.and_then(|event| match event.topic {
                    Topic::Group(group) => Some(group.number),
                    Topic::Job(_) | Topic::Daemon => None,
                });
                closed.push(Closed { at, number, is_event: true, group });
            }
        }
        if closed.len() == MAX_DROPPED {
            break;
        }
    }
    Ok(closed)
}
