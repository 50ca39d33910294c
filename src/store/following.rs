//! What following a job writes down: a status that changed, the end, the event.

use super::{
    Change, Delivery, DeliveryKey, End, Event, News, Said, Stage, Step, Store, StoreError, StoredJob, Watch,
    keys, registering::load, removing, txn::Txn,
};
use crate::{
    model::{
        job::{EventType, Outcome, Progress, Run, event_id, progress_id},
        status_answer::StatusAnswer,
    },
    util::units::Time,
};

/// Settled events that a watch keeps for the runs before its last one.
const MAX_EVENTS: usize = 8;

/// Delivered progress events that a watch keeps.
const KEPT_PROGRESS: usize = 16;

/// While so many progress events of a watch are undelivered no further one is made: a source that changes its
/// word with every look must not fill the disk while a sink is down.
const MAX_PROGRESS: usize = 256;

/// What became of a watch whose end was seen.
#[derive(Clone, Debug, PartialEq)]
pub enum Ended {
    /// A new end: its job is to be fetched.
    Fetch(Box<Watch>),
    /// The end was known already; the watch went back to where it was.
    Known,
    /// There is no such watch, or it is no longer watched.
    Gone,
}

impl Store {
    /// Records a status that is not terminal and differs from the one recorded, or that the job is at work.
    /// Makes the progress events that `route` leads to some sink, and tells which.
    pub async fn observe<R>(
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
        self.write_surely(|| {
            let (seen, route) = (seen.clone(), route.clone());
            move |txn| {
                let Some(mut watch) = load(txn, number)?.filter(|watch| watch.stage == Stage::Watching)
                else {
                    return Ok(Vec::new());
                };
                let news = watch.progress_seen(&seen);
                watch.take_in(seen);
                watch.seen_running = true;
                watch.polls = polls;
                watch.updated_at = now;
                let made = make_progress(txn, &mut watch, &news, &route, now)?;
                txn.write(keys::watch(number), &watch)?;
                Ok(made)
            }
        })
        .await
    }

    /// Records that a poll saw the end of a job. The run and so the event's id are fixed here.
    pub async fn end(
        &self,
        number: u64,
        outcome: Outcome,
        seen: &StatusAnswer,
        polls: u64,
        now: Time,
    ) -> Ended {
        self.write_surely(|| {
            let seen = seen.clone();
            move |txn| end(txn, number, outcome, seen, polls, now)
        })
        .await
    }

    /// Records that a fetched job turned out not to have ended: a retry in place came between.
    pub async fn resume_watching(&self, number: u64, now: Time) {
        self.write_surely(|| {
            move |txn| {
                let Some(mut watch) = load(txn, number)?.filter(|watch| watch.stage == Stage::Fetching)
                else {
                    return Ok(());
                };
                watch.stage = Stage::Watching;
                watch.ending = None;
                watch.again = false;
                // It runs anew; a source that tells runs apart says so itself.
                watch.started = watch.started.filter(|run| !run.is_silent());
                watch.seen_running = true;
                watch.updated_at = now;
                txn.write(keys::watch(number), &watch)?;
                txn.tell(Change::Follow(watch));
                Ok(())
            }
        })
        .await;
    }

    /// Records that a job failed after all: the answer to the request for its result is its error.
    pub async fn refuse_result(&self, number: u64, now: Time) {
        self.write_surely(|| {
            move |txn| {
                let Some(mut watch) = load(txn, number)?.filter(|watch| watch.stage == Stage::Fetching)
                else {
                    return Ok(());
                };
                if let Some(end) = watch.ending.as_mut().filter(|end| !end.refused) {
                    end.refused = true;
                    end.outcome = Outcome::Failed;
                    end.event_id = event_id(&watch.source, &watch.job_id, end.outcome, &end.attempt);
                }
                watch.updated_at = now;
                txn.write(keys::watch(number), &watch)
            }
        })
        .await;
    }

    /// Makes the event of a job that was fetched, with a delivery to each sink that `route` names. What the job said of its
    /// own end counts. `false` when the watch is gone.
    pub async fn fan_out<R>(
        &self,
        number: u64,
        job: &StoredJob,
        said: Option<&Said>,
        route: R,
        now: Time,
    ) -> bool
    where
        R: Fn(&Watch, EventType) -> Vec<String> + Clone + Send + 'static,
    {
        self.write_surely(|| {
            let (job, said, route) = (job.clone(), said.cloned(), route.clone());
            move |txn| {
                let Some(mut watch) = load(txn, number)? else { return Ok(false) };
                if watch.stage != Stage::Fetching {
                    tell_again(txn, watch);
                    return Ok(true);
                }
                let Some(mut end) = watch.ending.take().map(|end| *end) else {
                    // No version writes such a record. The job is polled again.
                    watch.stage = Stage::Watching;
                    txn.write(keys::watch(number), &watch)?;
                    txn.tell(Change::Follow(watch));
                    return Ok(false);
                };
                if let Some(said) = said {
                    let corrected = end.clone().said_by(&watch, &said);
                    if corrected != end {
                        end = corrected;
                        watch.status = Some(said.status);
                        watch.last_error = said.error.filter(|_| end.outcome == Outcome::Failed);
                        if watch.end.as_ref().is_some_and(|known| known.event_id == end.event_id) {
                            restore(txn, watch, now)?;
                            return Ok(true);
                        }
                    }
                }
                end.job = Some(job);
                let sinks = route(&watch, EventType::Ended(end.outcome));
                make_end(txn, watch, end, &sinks, now)?;
                Ok(true)
            }
        })
        .await
    }

    /// Gives a job up and makes its `lost` event, unless an earlier end of the same run is known: then the
    /// watch goes back to where it was.
    pub async fn lose<R>(&self, number: u64, reason: &str, polls: u64, route: R, now: Time)
    where
        R: Fn(&Watch, EventType) -> Vec<String> + Clone + Send + 'static,
    {
        self.write_surely(|| {
            let (reason, route) = (reason.to_owned(), route.clone());
            move |txn| {
                let Some(mut watch) = load(txn, number)? else { return Ok(()) };
                if watch.stage == Stage::Ended {
                    tell_again(txn, watch);
                    return Ok(());
                }
                watch.polls = watch.polls.max(polls);
                watch.last_error = Some(reason.clone());
                if watch.end.is_some() && !watch.seen_running && watch.stage == Stage::Watching {
                    return restore(txn, watch, now);
                }
                let attempt = match watch.ending.take() {
                    Some(ending) => ending.attempt,
                    None => watch.fresh_run(Run::default()),
                };
                let end = End {
                    event_id: event_id(&watch.source, &watch.job_id, Outcome::Lost, &attempt),
                    outcome: Outcome::Lost,
                    attempt,
                    noticed_at: now,
                    ended_at: None,
                    clock_ahead: 0,
                    reason: Some(reason),
                    job: None,
                    result: None,
                    refused: false,
                };
                if watch.end.as_ref().is_some_and(|known| known.event_id == end.event_id) {
                    return restore(txn, watch, now);
                }
                let sinks = route(&watch, EventType::Ended(Outcome::Lost));
                make_end(txn, watch, end, &sinks, now)
            }
        })
        .await;
    }
}

impl Watch {
    fn take_in(&mut self, seen: StatusAnswer) {
        self.made_at = seen.by_wall_clock(seen.created_at).or(self.made_at);
        self.status = Some(seen.status);
        self.endpoint = seen.endpoint.or(self.endpoint.take());
        self.metadata = seen.metadata.or(self.metadata.take());
        self.last_body = seen.body.or(self.last_body.take());
        self.key = seen.key_fingerprint;
        self.last_error = None;
    }

    /// What an answer that is not the end is news of, and takes note of which run is at work.
    fn progress_seen(&mut self, seen: &StatusAnswer) -> Vec<Progress> {
        let mut news = Vec::new();
        if !seen.at_work {
            // Back in the queue: what starts next is another run.
            self.started = None;
        } else if self.started.as_ref().is_none_or(|known| !known.same_run(&seen.run)) {
            self.started = Some(Box::new(seen.run.clone()));
            news.push(Progress::Started);
        }
        if self.status.as_ref().is_some_and(|known| *known != seen.status) {
            news.push(Progress::Updated);
        }
        news
    }

    /// The run that ended now. For a source that says nothing about runs, seeing the job run again makes one.
    fn fresh_run(&self, mut attempt: Run) -> Run {
        if let Some(known) = &self.end
            && attempt.is_silent()
        {
            attempt.rerun = known.attempt.rerun + u32::from(self.seen_running);
        }
        attempt
    }
}

fn end(
    txn: &mut Txn<'_>,
    number: u64,
    outcome: Outcome,
    seen: StatusAnswer,
    polls: u64,
    now: Time,
) -> Result<Ended, StoreError> {
    let mut watch = match load(txn, number)? {
        Some(watch) if watch.stage == Stage::Watching => watch,
        Some(watch) => {
            tell_again(txn, watch);
            return Ok(Ended::Gone);
        }
        None => return Ok(Ended::Gone),
    };
    let attempt = watch.fresh_run(seen.run.clone());
    let (ended_at, clock_ahead) = (seen.ended_at, seen.clock_ahead);
    let (result, error) = (seen.result.clone(), seen.error.clone());
    watch.polls = polls;
    watch.updated_at = now;
    let known = watch.end.as_ref().is_some_and(|known| {
        // `completed` may turn into `expired` later: still the same run, and its news was told. Any other change
        // is another run, also when both ended in the same second and the source tells whole seconds. A lost job
        // that turns up after all is news.
        let same = known.outcome == outcome || outcome == Outcome::Expired;
        same && known.outcome != Outcome::Lost && known.attempt.same_run(&attempt)
    });
    watch.take_in(seen);
    if known {
        restore(txn, watch, now)?;
        return Ok(Ended::Known);
    }
    watch.stage = Stage::Fetching;
    watch.ending = Some(Box::new(End {
        event_id: event_id(&watch.source, &watch.job_id, outcome, &attempt),
        outcome,
        attempt,
        noticed_at: now,
        ended_at,
        clock_ahead,
        reason: None,
        job: None,
        result,
        refused: false,
    }));
    if outcome == Outcome::Failed {
        watch.last_error = error;
    }
    txn.write(keys::watch(number), &watch)?;
    txn.tell(Change::Follow(watch.clone()));
    Ok(Ended::Fetch(Box::new(watch)))
}

/// Tells where a watch stands. A step that finds itself done already may have been done by a commit that failed
/// after its writes reached the disk, and that nobody was told of.
fn tell_again(txn: &mut Txn<'_>, watch: Watch) {
    if watch.stage != Stage::Ended {
        return txn.tell(Change::Follow(watch));
    }
    txn.tell(Change::Unfollow { source: watch.source, watch: watch.number });
    txn.tell(Change::Settled { watch: watch.number });
}

/// Puts a watch back to where its last end had left it.
fn restore(txn: &mut Txn<'_>, mut watch: Watch, now: Time) -> Result<(), StoreError> {
    watch.ending = None;
    watch.stage = Stage::Ended;
    settle(txn, watch, now)
}

/// Writes a watch that has ended: it is no longer open, and closed once no delivery is pending.
pub(super) fn settle(txn: &mut Txn<'_>, mut watch: Watch, now: Time) -> Result<(), StoreError> {
    watch.updated_at = now;
    txn.delete(keys::open(watch.number));
    if let Some(at) = watch.closed_at.take() {
        txn.delete(keys::closed(at, watch.number));
    }
    if watch.pending == 0 {
        watch.closed_at = Some(now);
        txn.put(keys::closed(now, watch.number), Vec::new());
    }
    txn.write(keys::watch(watch.number), &watch)?;
    txn.tell(Change::Unfollow { source: watch.source, watch: watch.number });
    txn.tell(Change::Settled { watch: watch.number });
    Ok(())
}

/// Makes those of the progress events that go to some sink. The caller writes the watch.
fn make_progress(
    txn: &mut Txn<'_>,
    watch: &mut Watch,
    news: &[Progress],
    route: &impl Fn(&Watch, EventType) -> Vec<String>,
    now: Time,
) -> Result<Vec<EventType>, StoreError> {
    let mut made = Vec::new();
    for &kind in news {
        let sinks = route(watch, EventType::Progress(kind));
        if sinks.is_empty() {
            continue;
        }
        removing::drop_old_progress(txn, watch, KEPT_PROGRESS)?;
        if watch.progress.len() >= MAX_PROGRESS {
            tracing::warn!(source = watch.source, job_id = %watch.job_id, "no progress event is made: {MAX_PROGRESS} wait already");
            break;
        }
        watch.steps += 1;
        let step = Step {
            kind,
            status: watch.status.clone().unwrap_or_default(),
            event_id: progress_id(&watch.source, &watch.job_id, kind, watch.number, watch.steps),
            noticed_at: now,
        };
        let number = put_event(txn, watch, News::Progress(step), &sinks, now)?;
        watch.progress.push(number);
        made.push(EventType::Progress(kind));
    }
    Ok(made)
}

/// Makes the event of an end, and writes the watch.
fn make_end(
    txn: &mut Txn<'_>,
    mut watch: Watch,
    end: End,
    sinks: &[String],
    now: Time,
) -> Result<(), StoreError> {
    let number = put_event(txn, &mut watch, News::End(end.clone()), sinks, now)?;
    watch.events.push(number);
    watch.dead = std::mem::take(&mut watch.dead_since);
    if end.outcome != Outcome::Lost {
        // A job that turns up after all is still in the run that was seen to start.
        watch.started = None;
    }
    watch.end = Some(Box::new(end));
    watch.seen_running = false;
    removing::drop_old_events(txn, &mut watch, MAX_EVENTS)?;
    if std::mem::take(&mut watch.again) {
        watch.stage = Stage::Watching;
        watch.registered_at = now;
        watch.updated_at = now;
        txn.write(keys::watch(watch.number), &watch)?;
        txn.tell(Change::Settled { watch: watch.number });
        txn.tell(Change::Follow(watch));
        return Ok(());
    }
    watch.stage = Stage::Ended;
    settle(txn, watch, now)
}

/// Writes an event with a pending delivery to each of `sinks`, and counts those in the watch.
fn put_event(
    txn: &mut Txn<'_>,
    watch: &mut Watch,
    news: News,
    sinks: &[String],
    now: Time,
) -> Result<u64, StoreError> {
    let number = txn.next_number()?;
    let bodiless = news.job().is_none();
    let event = Event {
        watch: watch.number,
        source: watch.source.clone(),
        job_id: watch.job_id.clone(),
        labels: watch.labels.clone(),
        traceparent: watch.traceparent,
        last_body: watch.last_body.clone().filter(|_| bodiless),
        news,
        created_at: now,
    };
    let event_id = event.news.event_id();
    for sink in sinks {
        put_pending(txn, DeliveryKey::new(number, event_id, sink), &Delivery::new(&event, sink, now))?;
        watch.pending += 1;
    }
    if sinks.is_empty() {
        let (source, job_id) = (event.source.clone(), event.job_id.clone());
        txn.tell(Change::Unrouted { source, job_id, event_id: event_id.to_owned() });
    }
    txn.write(keys::event(number), &event)?;
    Ok(number)
}

/// Writes a pending delivery with its index entry.
pub(super) fn put_pending(
    txn: &mut Txn<'_>,
    key: DeliveryKey,
    delivery: &Delivery,
) -> Result<(), StoreError> {
    txn.write(key.key(keys::DELIVERY), delivery)?;
    let due = delivery.next_attempt_at;
    txn.put(key.key(keys::PENDING), [&due.0.to_be_bytes(), delivery.sink.as_bytes()].concat());
    txn.tell(Change::Deliver { sink: delivery.sink.clone(), key, due, as_of: delivery.updated_at });
    Ok(())
}
