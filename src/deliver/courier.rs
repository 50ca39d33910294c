//! One sink's queue: what is due is attempted, what an attempt came to is recorded together with what follows.

use std::{
    collections::HashMap,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt as _;
use tokio::{
    select,
    sync::Notify,
    task::{Id, JoinError, JoinSet},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    Body, Carrier, Parcel, Report, RetryConfig, Subject, Webhook, report::Verdict as Attempted,
    retry::next_attempt,
};
use crate::{
    api::view::{AttemptView, DeliveryState, SinkView},
    clock,
    due_queue::{DueQueue, wait_until},
    job::Outcome,
    store::{AttemptDone, Delivery, DeliveryKey, Event, Store, StoreError, Verdict, panic_text},
    telemetry::Metrics,
    units::Time,
};

/// The wait before a delivery is looked at again when the store could not be read.
const STORE_PATIENCE: Duration = Duration::from_secs(1);

/// One sink with its deliveries.
pub struct Courier {
    /// The sink's name.
    pub name: String,
    carrier: Carrier,
    retry: RetryConfig,
    max_in_flight: usize,
    store: Store,
    metrics: Arc<Metrics>,
    queue: Mutex<DueQueue<DeliveryKey>>,
    wake: Notify,
    tally: Mutex<Tally>,
}

/// What came of the attempts since the start.
#[derive(Clone, Debug, Default)]
struct Tally {
    delivered: u64,
    failed: u64,
    dead: u64,
    last_success_at: Option<Time>,
    last_error: Option<String>,
}

impl Courier {
    /// A sink with an empty queue.
    #[must_use]
    pub fn new(
        name: &str,
        carrier: Carrier,
        retry: &RetryConfig,
        max_in_flight: usize,
        store: Store,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            carrier,
            retry: retry.clone(),
            max_in_flight,
            store,
            metrics,
            queue: Mutex::default(),
            wake: Notify::new(),
            tally: Mutex::default(),
        }
    }

    /// Makes a delivery due.
    pub fn schedule(&self, key: DeliveryKey, due: Time) {
        let at = Instant::now() + due.since(clock::now());
        self.queue().schedule(key, at);
        self.wake.notify_one();
    }

    /// Forgets a delivery that is gone. An attempt under way goes on; the store finds that it no longer counts.
    pub fn forget(&self, key: DeliveryKey) {
        self.queue().remove(key);
    }

    /// How the sink is doing.
    #[must_use]
    pub fn view(&self) -> SinkView {
        let tally = self.tally().clone();
        let queue = self.queue();
        SinkView {
            name: self.name.clone(),
            kind: self.carrier.kind().to_owned(),
            target: self.carrier.target(),
            pending: queue.len() as u64,
            in_flight: queue.running() as u64,
            delivered: tally.delivered,
            failed: tally.failed,
            dead: tally.dead,
            last_success_at: tally.last_success_at,
            last_error: tally.last_error,
        }
    }

    /// Sends a test event, once, outside the queue.
    pub async fn test(&self) -> AttemptView {
        let now = clock::now();
        let id = format!("evt_test{:016x}", rand::random::<u64>());
        let parcel = Parcel::test(id, now, "If you can read this, tidings can reach this sink.");
        let report = match &self.carrier {
            Carrier::Sink(sink) => sink.attempt(&parcel, now).await,
            Carrier::Callbacks(_) => Report::refused("callbacks have no address of their own to test"),
        };
        view_of(&report, now)
    }

    /// Delivers until `stop`, then waits for the attempts under way.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut tasks = JoinSet::new();
        let mut running: HashMap<Id, DeliveryKey> = HashMap::new();
        while !stop.is_cancelled() {
            let until = {
                let mut queue = self.queue();
                while queue.running() < self.max_in_flight
                    && let Some(key) = queue.take(Instant::now())
                {
                    let courier = Arc::clone(&self);
                    let task = tasks.spawn(async move { courier.deliver(key).await });
                    running.insert(task.id(), key);
                }
                queue.next_due().filter(|_| queue.running() < self.max_in_flight)
            };
            select! {
                () = wait_until(until) => {}
                () = self.wake.notified() => {}
                Some(done) = tasks.join_next_with_id() => self.finish(done, &mut running),
                () = stop.cancelled() => {}
            }
        }
        while let Some(done) = tasks.join_next_with_id().await {
            self.finish(done, &mut running);
        }
    }

    fn finish(
        &self,
        done: Result<(Id, Result<(), StoreError>), JoinError>,
        running: &mut HashMap<Id, DeliveryKey>,
    ) {
        let (id, kept) = match done {
            Ok((id, result)) => (id, result.is_err()),
            Err(error) => {
                self.metrics.panics.inc();
                (error.id(), true)
            }
        };
        let Some(key) = running.remove(&id) else { return };
        let mut queue = self.queue();
        if kept && queue.due(&key).is_none() {
            queue.schedule(key, Instant::now() + STORE_PATIENCE);
        }
        queue.finish(key);
    }

    /// One attempt, and what follows from it.
    async fn deliver(&self, key: DeliveryKey) -> Result<(), StoreError> {
        let Some(delivery) = self.store.delivery(key)?.filter(|d| d.state == DeliveryState::Pending) else {
            return Ok(());
        };
        let Some(event) = self.store.event(key.event)? else { return Ok(()) };
        let begun = clock::now();
        let attempt = AssertUnwindSafe(self.attempt(&event, begun)).catch_unwind();
        let report = match attempt.await {
            Ok(report) => report?,
            Err(panic) => {
                self.metrics.panics.inc();
                Report::broken(format!("an internal error: {}", panic_text(&*panic)))
            }
        };
        let now = clock::now();
        let verdict = self.judge(&delivery, &report, now);
        self.count(&delivery, &report, &verdict, now);
        let done = AttemptDone {
            generation: delivery.generation,
            number: delivery.attempt_count + 1,
            attempt: view_of(&report, begun),
            verdict,
        };
        self.store.attempted(key, &done, now).await;
        Ok(())
    }

    async fn attempt(&self, event: &Event, now: Time) -> Result<Report, StoreError> {
        let parcel = parcel(event, &self.store);
        let callbacks = match &self.carrier {
            Carrier::Sink(sink) => return Ok(sink.attempt(&parcel, now).await),
            Carrier::Callbacks(callbacks) => callbacks,
        };
        // Read afresh: a callback that was given again replaces the one before.
        let Some(callback) = self.store.watch(event.watch)?.and_then(|watch| watch.callback) else {
            return Ok(Report::refused("the watch names no callback"));
        };
        Ok(match Webhook::callback(callbacks, &callback.url, callback.secret.as_ref()) {
            Ok(webhook) => webhook.attempt(&parcel, now).await,
            Err(error) => Report::refused(error.to_string()),
        })
    }

    fn judge(&self, delivery: &Delivery, report: &Report, now: Time) -> Verdict {
        match &report.verdict {
            Attempted::Delivered => Verdict::Delivered,
            Attempted::Dead { reason } => Verdict::Dead(reason.clone()),
            Attempted::Retry { not_before } => {
                let next = next_attempt(&self.retry, delivery.step + 1, *not_before, now, rand::random());
                let error = report.error.as_deref().unwrap_or("it failed");
                next.map_or_else(
                    || Verdict::Dead(format!("the last attempt failed: {error}")),
                    Verdict::Retry,
                )
            }
        }
    }

    fn count(&self, delivery: &Delivery, report: &Report, verdict: &Verdict, now: Time) {
        let (sink, source, job_id) = (&self.name, &delivery.source, &delivery.job_id);
        let (event_id, attempt) = (&delivery.event_id, delivery.attempt_count + 1);
        let error = report.error.as_deref().unwrap_or_default();
        let mut tally = self.tally();
        let result = match verdict {
            Verdict::Delivered => {
                tally.delivered += 1;
                tally.last_success_at = Some(now);
                tracing::debug!(sink, source, %job_id, event_id, attempt, "delivered");
                "delivered"
            }
            Verdict::Retry(next) => {
                tally.failed += 1;
                tally.last_error = Some(error.to_owned());
                tracing::warn!(sink, source, %job_id, event_id, attempt, error, %next, "an attempt to deliver failed");
                "failed"
            }
            Verdict::Dead(reason) => {
                tally.failed += 1;
                tally.dead += 1;
                tally.last_error = Some(error.to_owned());
                tracing::error!(sink, source, %job_id, event_id, attempt, reason, "a delivery became a dead letter");
                "dead"
            }
        };
        self.metrics.attempts.with_label_values(&[sink.as_str(), result]).inc();
    }

    fn queue(&self) -> MutexGuard<'_, DueQueue<DeliveryKey>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An event with the bytes that belong to it.
fn parcel(event: &Event, store: &Store) -> Parcel {
    let end = &event.end;
    let body = match (&end.job, &event.last_body) {
        (Some(job), _) => Body::File { path: store.spool().path(event.watch, &end.event_id), size: job.size },
        (None, Some(body)) => Body::Inline(Bytes::from(body.clone())),
        (None, None) => Body::Null,
    };
    let subject = Subject {
        source: event.source.clone(),
        job_id: event.job_id.clone(),
        outcome: end.outcome,
        labels: event.labels.clone(),
        reason: end.reason.clone().filter(|_| end.outcome == Outcome::Lost),
    };
    Parcel::job(end.event_id.clone(), end.ended_at.unwrap_or(end.noticed_at), subject, body)
}

fn view_of(report: &Report, at: Time) -> AttemptView {
    AttemptView {
        at,
        duration_ms: u64::try_from(report.duration.as_millis()).unwrap_or(u64::MAX),
        status: report.status,
        error: report.error.clone(),
        error_class: report.error_class,
        response: report.response.clone(),
    }
}
