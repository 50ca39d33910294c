//! One sink's task: what its queue says is due is attempted, what an attempt came to is recorded together with
//! what follows.

use std::{
    collections::HashMap,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::FutureExt as _;
use tokio::{
    select,
    sync::Notify,
    task::{Id, JoinError, JoinSet},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    Carrier, Parcel, Report,
    queue::{Gate, Limits, Next, Queue},
    report::{ErrorClass, Verdict as Attempted},
    retry::{next_attempt, time_left},
    tally::Tally,
    turns::{Turn, Turns},
};
use crate::{
    api::view::{AttemptView, DeliveryState, SinkState, SinkView},
    clock,
    due_queue::wait_until,
    store::{AttemptDone, Delivery, DeliveryKey, News, Store, StoreError, Verdict, panic_text},
    telemetry::{Metrics, Span, SpanKind, TraceParent, number, text},
    units::Time,
};

/// The wait before a delivery is looked at again when the store could not be read.
const STORE_PATIENCE: Duration = Duration::from_secs(1);

/// The wait before a delivery that has to wait for another one is looked at again, should nobody wake it before.
const TURN_PATIENCE: Duration = Duration::from_secs(30);

/// One sink with its deliveries.
pub struct Courier {
    /// The sink's name.
    pub name: String,
    carrier: Carrier,
    store: Store,
    metrics: Arc<Metrics>,
    queue: Mutex<Queue>,
    wake: Notify,
    tally: Mutex<Tally>,
    turns: Turns,
}

impl Courier {
    /// A sink with an empty queue.
    #[must_use]
    pub fn new(name: &str, carrier: Carrier, limits: Limits, store: Store, metrics: Arc<Metrics>) -> Self {
        metrics.begin_sink(name);
        Self {
            name: name.to_owned(),
            carrier,
            store,
            metrics,
            queue: Mutex::new(Queue::new(limits, Instant::now())),
            wake: Notify::new(),
            tally: Mutex::default(),
            turns: Turns::default(),
        }
    }

    /// Makes a delivery due.
    pub fn schedule(&self, key: DeliveryKey, due: Time) {
        let at = Instant::now() + due.since(clock::now());
        self.queue().schedule(key, at);
        self.wake.notify_one();
    }

    /// Everything that waits, each with the time at which it is due; the queue is empty afterwards.
    pub(super) fn drain(&self) -> Vec<(DeliveryKey, Instant)> {
        self.queue().drain(Instant::now())
    }

    /// Makes a delivery due that another courier left, unless it is known here.
    pub(super) fn take_over(&self, key: DeliveryKey, at: Instant) {
        self.queue().take_over(key, at);
        self.wake.notify_one();
    }

    /// Forgets a delivery that is gone. An attempt under way goes on; the store finds that it no longer counts.
    pub fn forget(&self, key: DeliveryKey) {
        self.queue().forget(key);
    }

    /// Stops taking deliveries from `since` on, or goes on. Attempts under way go on.
    pub fn pause(&self, since: Option<Time>) {
        self.tally().paused_at = since;
        self.queue().pause(since.is_some());
        self.wake.notify_one();
    }

    /// How the sink is doing.
    #[must_use]
    pub fn view(&self) -> SinkView {
        let (now, wall) = (Instant::now(), clock::now());
        let (state, oldest, mut view) = {
            let queue = self.queue();
            let (pending, in_flight) = queue.counts();
            let breaker = queue.breaker();
            let failing = breaker.state() != crate::api::view::BreakerState::Closed;
            let view = SinkView {
                pending: pending as u64,
                in_flight: in_flight as u64,
                breaker: breaker.state(),
                next_probe_at: breaker.probe_at().map(|at| wall.after(at.saturating_duration_since(now))),
                success_share: breaker.success_share(now),
                ..SinkView::new(&self.name, self.carrier.kind(), &self.carrier.target())
            };
            (if failing { SinkState::Failing } else { SinkState::Ok }, queue.oldest(), view)
        };
        self.tally().show(&mut view);
        view.state = if view.paused_at.is_some() { SinkState::Paused } else { state };
        view.oldest_pending_at = oldest.and_then(|key| made_at(&self.store, key));
        view
    }

    /// Sends a test event, once, outside the queue.
    pub async fn test(&self) -> AttemptView {
        let now = clock::now();
        let id = format!("evt_test{:016x}", rand::random::<u64>());
        let parcel = Parcel::test(id, now, "If you can read this, tidings can reach this sink.");
        let report = self.carrier.test(&parcel, now).await;
        view_of(&report, now)
    }

    /// Delivers until `stop`, then waits for the attempts under way.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut tasks = JoinSet::new();
        let mut running: HashMap<Id, DeliveryKey> = HashMap::new();
        while !stop.is_cancelled() {
            let next = self.queue().next(Instant::now());
            let until = match next {
                Next::Take(key) => {
                    let courier = Arc::clone(&self);
                    let task = tasks.spawn(async move { courier.deliver(key).await });
                    running.insert(task.id(), key);
                    continue;
                }
                Next::Wait(until) => until,
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
        let now = Instant::now();
        self.queue().finish(key, kept.then(|| now + STORE_PATIENCE), now);
    }

    /// One delivery that is due: an attempt, if the sink may be asked, and what follows from it.
    async fn deliver(&self, key: DeliveryKey) -> Result<(), StoreError> {
        let Some(delivery) = self.store.delivery(key)?.filter(|d| d.state == DeliveryState::Pending) else {
            return Ok(());
        };
        let ordered = self.queue().limits().ordered;
        let turn = if ordered { self.turn(key, &delivery)? } else { None };
        if (ordered && turn.is_none()) || !self.may_go(key, &delivery).await? {
            return Ok(());
        }
        let Some(event) = self.store.event(key.event)? else {
            let reason = "the record of its event cannot be read";
            tracing::error!(
                sink = self.name,
                event_id = delivery.event_id,
                reason,
                "a delivery became a dead letter"
            );
            self.store.give_up(key, delivery.generation, reason, clock::now()).await;
            return self.let_next_go(&delivery);
        };
        let (begun, trace) = (clock::now(), event.trace());
        let span = trace.child();
        let attempt =
            AssertUnwindSafe(self.carrier.carry(&self.store, key, &event, span, begun)).catch_unwind();
        let carried = attempt.await;
        if let Some(next) = self.carrier.leave(key) {
            self.schedule(next, clock::now());
        }
        let report = match carried {
            Ok(Ok(Some(report))) => report,
            Ok(Ok(None)) => {
                self.queue().put_off(key, Instant::now() + TURN_PATIENCE);
                return Ok(());
            }
            Ok(Err(error)) => return Err(error),
            Err(panic) => {
                self.metrics.panics.inc();
                Report::broken(format!("an internal error: {}", panic_text(&*panic)))
            }
        };
        let now = clock::now();
        self.learn(key, &report);
        let verdict = self.judge(&delivery, &report, now);
        self.count(&delivery, &report, &verdict, now);
        self.metrics.spans.record(&trace, SpanKind::Client, || span_of(&delivery, &report, span, begun, now));
        // A delivery that somebody asked for again says nothing about how long it took.
        if verdict == Verdict::Delivered
            && delivery.generation == 0
            && let News::End(_) = event.news
        {
            let delay = now.since(event.news.time()).as_secs_f64();
            self.metrics.sinks.delivered_delay.with_label_values(&[self.name.as_str()]).observe(delay);
        }
        let done = AttemptDone {
            generation: delivery.generation,
            number: delivery.attempt_count + 1,
            attempt: view_of(&report, begun),
            verdict,
        };
        self.store.attempted(key, &done, now).await;
        drop(turn);
        self.wake_next(&delivery)
    }

    /// Takes the turn of a delivery to an ordered sink. `None` when another delivery of its job goes first; the
    /// delivery is put off, and woken when the other one ends.
    fn turn(&self, key: DeliveryKey, delivery: &Delivery) -> Result<Option<Turn<'_>>, StoreError> {
        let first = self.store.first_pending(delivery.watch, &self.name, Some(key.event))?;
        let wait = match first {
            Some((_, due)) => due.since(clock::now()),
            None => match self.turns.take(delivery.watch) {
                Some(turn) => return Ok(Some(turn)),
                None => Duration::ZERO,
            },
        };
        self.queue().put_off(key, Instant::now() + wait + TURN_PATIENCE);
        Ok(None)
    }

    /// Whether a due delivery may be attempted now. One that may not comes back by itself, or is given up.
    async fn may_go(&self, key: DeliveryKey, delivery: &Delivery) -> Result<bool, StoreError> {
        let now = clock::now();
        let gate = {
            let mut queue = self.queue();
            let left = time_left(&queue.limits().retry, delivery.step);
            queue.gate(key, left, Instant::now())
        };
        if gate == Gate::Over {
            let error = self.tally().last_error.clone().unwrap_or_default();
            let reason =
                format!("the sink kept failing until the schedule was over; the last failure: {error}");
            self.tally().dead += 1;
            let (sink, source, job_id) = (&self.name, &delivery.source, &delivery.job_id);
            let event_id = &delivery.event_id;
            tracing::error!(sink, source, %job_id, event_id, reason, "a delivery became a dead letter");
            self.metrics.sinks.attempts.with_label_values(&[sink.as_str(), "given_up"]).inc();
            self.metrics.sinks.dead_letters.with_label_values(&[sink.as_str()]).inc();
            self.store.give_up(key, delivery.generation, &reason, now).await;
            self.wake_next(delivery)?;
        }
        Ok(gate == Gate::Open)
    }

    /// Wakes the delivery whose turn it is after this one.
    fn wake_next(&self, delivery: &Delivery) -> Result<(), StoreError> {
        if self.queue().limits().ordered
            && let Some((next, due)) = self.store.first_pending(delivery.watch, &self.name, None)?
        {
            self.schedule(next, due);
        }
        Ok(())
    }

    /// What an attempt says about the sink as a whole.
    fn learn(&self, key: DeliveryKey, report: &Report) {
        let now = Instant::now();
        let mut queue = self.queue();
        match &report.verdict {
            Attempted::Delivered if queue.taken(now) => {
                tracing::info!(sink = self.name, "the sink works again; its breaker is closed");
            }
            Attempted::Retry { .. }
                if report.error_class.is_none_or(ErrorClass::blames_sink)
                    && queue.failed(key, now, rand::random()) =>
            {
                self.metrics.sinks.breaker_opened.with_label_values(&[self.name.as_str()]).inc();
                let error = report.error.as_deref().unwrap_or_default();
                tracing::warn!(
                    sink = self.name,
                    error,
                    "the sink keeps failing; its breaker is open: one delivery at a time finds out whether it works again"
                );
            }
            _ => {}
        }
        if let (Some(429), Attempted::Retry { not_before: Some(wait) }) = (report.status, &report.verdict) {
            queue.keep_quiet(*wait, now);
        }
        drop(queue);
        // What was held may go, or the wait has become another.
        self.wake.notify_one();
    }

    fn judge(&self, delivery: &Delivery, report: &Report, now: Time) -> Verdict {
        match &report.verdict {
            Attempted::Delivered => Verdict::Delivered,
            Attempted::Dead { reason } => Verdict::Dead(reason.clone()),
            Attempted::Retry { not_before } => {
                let retry = self.queue().limits().retry.clone();
                let next = next_attempt(&retry, delivery.step + 1, *not_before, now, rand::random());
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
        let result = self.tally().count(verdict, error, now);
        match verdict {
            Verdict::Delivered => {
                tracing::debug!(sink, source, %job_id, event_id, attempt, "delivered");
            }
            Verdict::Retry(next) => {
                tracing::warn!(sink, source, %job_id, event_id, attempt, error, %next, "an attempt to deliver failed");
            }
            Verdict::Dead(reason) => {
                tracing::error!(sink, source, %job_id, event_id, attempt, reason, "a delivery became a dead letter");
                self.metrics.sinks.dead_letters.with_label_values(&[sink.as_str()]).inc();
            }
        }
        self.metrics.sinks.attempts.with_label_values(&[sink.as_str(), result]).inc();
        if let Some(class) = report.error_class {
            self.metrics.sinks.failures.with_label_values(&[sink.as_str(), class.as_str()]).inc();
        }
        let seconds = report.duration.as_secs_f64();
        self.metrics.sinks.attempt_seconds.with_label_values(&[sink.as_str()]).observe(seconds);
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When the event of a delivery was made; `None` when it is gone or the store cannot be read now.
pub(super) fn made_at(store: &Store, key: DeliveryKey) -> Option<Time> {
    store.delivery(key).ok().flatten().map(|delivery| delivery.created_at)
}

fn span_of(delivery: &Delivery, report: &Report, span: TraceParent, start: Time, end: Time) -> Span {
    let mut attributes = vec![
        ("tidings.sink", text(&delivery.sink)),
        ("tidings.event_id", text(&delivery.event_id)),
        ("tidings.attempt", number(delivery.attempt_count + 1)),
    ];
    attributes.extend(report.status.map(|status| ("http.response.status_code", number(status))));
    Span { name: "deliver", id: Some(span.span_id), start, end, attributes, error: report.error.clone() }
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
