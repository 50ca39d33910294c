//! Makes the event of the end of a run, with its deliveries.

use super::{emit_again, put_pending, removal, settle};
use crate::{
    model::job::{EventType, Kind, Outcome, Run},
    store::{
        BodyPlace, Change, Completion, Delivery, DeliveryKey, Event, JobTopic, News, Said, StoreError,
        StoredJob, Topic, Watch, WatchStage, records::Txn,
    },
    util::units::Time,
};

/// Settled events that a watch keeps for the runs before its last one.
const MAX_EVENTS: usize = 8;

/// Makes the event of a fetched job, with a delivery to each sink that `route` names. What the job says of its own end counts.
/// Returns `false` when the watch is gone.
pub(in crate::store) fn complete(
    txn: &mut Txn<'_>,
    number: u64,
    (job, at): (StoredJob, Option<BodyPlace>),
    said: Option<Said>,
    route: &impl Fn(&Watch, EventType) -> Vec<String>,
    now: Time,
) -> Result<bool, StoreError> {
    let Some(mut watch) = txn.watch(number)? else { return Ok(false) };
    if watch.stage != WatchStage::Fetching {
        emit_again(txn, watch);
        return Ok(true);
    }
    let Some(mut completion) = watch.pending_completion.take().map(|completion| *completion) else {
        // No version writes such a record. The job is polled again.
        watch.stage = WatchStage::Watching;
        let watch = txn.put_watch(watch)?;
        txn.emit(Change::WatchOpened(watch));
        return Ok(false);
    };
    if let Some(said) = said {
        let corrected = completion.clone().said_by(&watch, &said);
        if corrected != completion {
            completion = corrected;
            watch.status = Some(said.status);
            watch.last_error = said.error.filter(|_| completion.outcome == Outcome::Failed);
            if watch.has_told(&completion) {
                restore(txn, watch, now)?;
                return Ok(true);
            }
        }
    }
    // One that is stored already may have moved since it was read.
    let known =
        watch.completion.as_ref().filter(|known| at.is_none() && known.event_id == completion.event_id);
    let job = known.and_then(|known| known.job.clone()).unwrap_or(job);
    completion.job = Some(StoredJob { at: at.or(job.at), ..job });
    let sinks = route(&watch, EventType::Ended(completion.outcome));
    make_end(txn, watch, completion, &sinks, now)?;
    Ok(true)
}

/// Gives a job up and makes its `lost` event, unless an earlier end of the same run is known: then the watch is finished
/// again.
pub(in crate::store) fn lose(
    txn: &mut Txn<'_>,
    number: u64,
    reason: String,
    (polls, kind): (u64, Option<Kind>),
    route: &impl Fn(&Watch, EventType) -> Vec<String>,
    now: Time,
) -> Result<(), StoreError> {
    let Some(mut watch) = txn.watch(number)? else { return Ok(()) };
    if watch.stage == WatchStage::Finished {
        emit_again(txn, watch);
        return Ok(());
    }
    watch.polls = watch.polls.max(polls);
    watch.kind = watch.kind.or(kind);
    watch.last_error = Some(reason.clone());
    if watch.completion.is_some() && !watch.seen_running && watch.stage == WatchStage::Watching {
        return restore(txn, watch, now);
    }
    let attempt = match watch.pending_completion.take() {
        Some(completion) => completion.attempt,
        None => watch.run_of(Run::default()),
    };
    let completion = Completion {
        event_id: watch.event_id(Outcome::Lost, &attempt),
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
    if watch.has_told(&completion) {
        return restore(txn, watch, now);
    }
    let sinks = route(&watch, EventType::Ended(Outcome::Lost));
    make_end(txn, watch, completion, &sinks, now)
}

impl Watch {
    /// Returns whether the last completion has the same event.
    fn has_told(&self, completion: &Completion) -> bool {
        self.completion.as_ref().is_some_and(|known| known.event_id == completion.event_id)
    }
}

/// Puts a watch back to where its last completion had left it.
pub(super) fn restore(txn: &mut Txn<'_>, mut watch: Watch, now: Time) -> Result<(), StoreError> {
    watch.pending_completion = None;
    watch.stage = WatchStage::Finished;
    settle(txn, watch, now)
}

/// Makes the event of a completion, and writes the watch.
fn make_end(
    txn: &mut Txn<'_>,
    mut watch: Watch,
    completion: Completion,
    sinks: &[String],
    now: Time,
) -> Result<(), StoreError> {
    let number = put_event(txn, &mut watch, News::Completion(completion.clone()), sinks, now)?;
    watch.end_events.push(number);
    watch.dead = std::mem::take(&mut watch.dead_current_run);
    if completion.outcome != Outcome::Lost {
        // A job that turns up after all is still in the run that was seen to start.
        watch.started = None;
    }
    watch.completion = Some(Box::new(completion));
    watch.seen_running = false;
    removal::drop_old_events(txn, &mut watch, MAX_EVENTS)?;
    if std::mem::take(&mut watch.rewatch) {
        watch.stage = WatchStage::Watching;
        watch.registered_at = now;
        watch.updated_at = now;
        let watch = txn.put_watch(watch)?;
        txn.emit(Change::WatchSettled { watch: watch.number });
        txn.emit(Change::WatchOpened(watch));
        return Ok(());
    }
    watch.stage = WatchStage::Finished;
    settle(txn, watch, now)
}

/// Writes an event with a pending delivery to each of `sinks`, and counts those in the watch.
pub(super) fn put_event(
    txn: &mut Txn<'_>,
    watch: &mut Watch,
    news: News,
    sinks: &[String],
    now: Time,
) -> Result<u64, StoreError> {
    let number = txn.next_number()?;
    let bodiless = news.job().is_none();
    let event = Event {
        topic: Topic::Job(JobTopic {
            watch: watch.number,
            source: watch.source.clone(),
            job_id: watch.job_id.clone(),
            kind: watch.kind.clone(),
        }),
        labels: watch.labels.clone(),
        traceparent: watch.traceparent,
        last_body: watch.last_body.clone().filter(|_| bodiless),
        news,
        created_at: now,
        closed_at: None,
    };
    let event_id = event.news.event_id();
    for sink in sinks {
        let key = DeliveryKey::new(number, event_id, sink);
        txn.expect_no_delivery(key);
        put_pending(txn, key, Delivery::new(&event, sink, now))?;
        watch.pending += 1;
    }
    if sinks.is_empty() {
        let (source, job_id) = (watch.source.clone(), watch.job_id.clone());
        txn.emit(Change::EventUnrouted { source, job_id, event_id: event_id.to_owned() });
    }
    txn.put_event(number, event)?;
    Ok(number)
}
