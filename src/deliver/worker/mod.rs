//! One sink's task: what its queue says is due is attempted, what an attempt came to is recorded together with
//! what follows.

pub mod sinks;
pub mod target;
mod stats;
mod status;

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

use crate::{
    deliver::{
        message::Message,
        metrics::SinkMetrics,
        outcome::AttemptOutcome,
        queue::{
            BreakerChange, Next, Queue,
            backlog::Backlog,
            decision::{Decision, History, decide},
            order::{JobOrder, JobTurn},
            retry::wait_for,
        },
        worker::{
            stats::SinkStats,
            status::{attempt_record, attempt_span, show},
            target::Target,
        },
    },
    model::{
        delivery::{DeliveryAttempt, DeliveryState, WaitsFor},
        sink::{SinkState, SinkStatus},
    },
    store::{AttemptDone, AttemptVerdict, Delivery, DeliveryKey, Event, News, Store, StoreError},
    telemetry::SpanKind,
    util::{clock, due_queue::wait_until, panic::panic_text, units::Time},
};

/// The wait before a delivery is looked at again when the store could not be read.
const STORE_PATIENCE: Duration = Duration::from_secs(1);

/// The wait before a delivery that has to wait for another one is looked at again, should nobody wake it before.
const TURN_PATIENCE: Duration = Duration::from_secs(30);

/// New callbacks that are looked up before the next attempt.
const PLACED_AT_ONCE: usize = 64;

/// One sink with its deliveries.
pub struct SinkWorker {
    /// The sink's name.
    pub name: String,
    target: Target,
    store: Store,
    metrics: Arc<SinkMetrics>,
    backlog: Mutex<Backlog>,
    wake: Notify,
    stats: Mutex<SinkStats>,
    order: JobOrder,
}

impl SinkWorker {
    /// A sink with an empty queue.
    #[must_use]
    pub fn new(
        name: &str,
        target: Target,
        backlog: Backlog,
        store: Store,
        metrics: Arc<SinkMetrics>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            target,
            store,
            metrics,
            backlog: Mutex::new(backlog),
            wake: Notify::new(),
            stats: Mutex::default(),
            order: JobOrder::default(),
        }
    }

    /// Makes a delivery due at `due`, which was decided when the wall clock said `as_of`.
    pub fn schedule(&self, key: DeliveryKey, due: Time, as_of: Time) {
        let at = Instant::now() + wait_for(self.backlog().retry(), due, as_of);
        self.backlog().schedule(key, at);
        self.wake.notify_one();
    }

    /// How long a delivery that is due then still waits.
    pub(super) fn wait_for(&self, due: Time) -> Duration {
        wait_for(self.backlog().retry(), due, clock::now())
    }

    /// Everything that waits, each with the time at which it is due; the queue is empty afterwards.
    pub(super) fn drain(&self) -> Vec<(DeliveryKey, Instant)> {
        self.backlog().drain()
    }

    /// Makes a delivery due that another worker left, unless it is known here.
    pub(super) fn take_over(&self, key: DeliveryKey, at: Instant) {
        self.backlog().take_over(key, at);
        self.wake.notify_one();
    }

    /// Forgets a delivery that is gone. An attempt under way goes on; the store finds that it no longer counts.
    pub fn forget(&self, key: DeliveryKey) {
        self.backlog().forget(key);
    }

    /// Stops taking deliveries from `since` on, or goes on. Attempts under way go on.
    pub fn pause(&self, since: Option<Time>) {
        self.stats().paused_at = since;
        self.backlog().pause(since.is_some());
        self.wake.notify_one();
    }

    /// Asks the sink as if it worked, whatever happened before: its breaker closes, a silence that it asked for ends.
    pub fn reset(&self) {
        let reset = self.backlog().reset(Instant::now());
        if reset {
            tracing::info!(sink = self.name, "the sink is asked again; its breaker is closed");
        }
        self.wake.notify_one();
    }

    /// What keeps a pending delivery from being attempted, and until when; without a time until somebody acts.
    pub(super) fn waits_for(&self, key: DeliveryKey) -> Option<(WaitsFor, Option<Time>)> {
        if self.stats().paused_at.is_some() {
            return Some((WaitsFor::Paused, None));
        }
        let (now, wall) = (Instant::now(), clock::now());
        let until = |at: Instant| Some(wall.after(at.saturating_duration_since(now)));
        let asked = |queue: &mut Queue| {
            let quiet = queue.quiet_until(now).map(|at| (WaitsFor::Limited, until(at)));
            quiet.or_else(|| queue.breaker().probe_at().map(|at| (WaitsFor::Failing, until(at))))
        };
        self.backlog().with(key, asked).flatten()
    }

    /// How the sink is doing.
    #[must_use]
    pub fn status(&self) -> SinkStatus {
        let (now, wall) = (Instant::now(), clock::now());
        let mut status = SinkStatus::new(&self.name, self.target.kind(), &self.target.target());
        let oldest = {
            let mut backlog = self.backlog();
            let (pending, in_flight) = backlog.counts();
            (status.pending, status.in_flight) = (pending as u64, in_flight as u64);
            match &mut *backlog {
                Backlog::Sink(queue) => show(queue, &mut status, now, wall),
                Backlog::Callbacks(origins) => status.origins = origins.statuses(now),
            }
            backlog.oldest()
        };
        self.stats().show(&mut status);
        if status.paused_at.is_some() {
            status.state = SinkState::Paused;
        }
        status.oldest_pending_at = oldest.and_then(|key| event_created_at(&self.store, key));
        status
    }

    /// Sends a test event, once, outside the queue. When it is taken the sink is asked again at once.
    pub async fn test(&self) -> DeliveryAttempt {
        let now = clock::now();
        let id = format!("evt_test{:016x}", rand::random::<u64>());
        let message = Message::test(id, now, "If you can read this, tidings can reach this sink.");
        let outcome = self.target.test(&message, now).await;
        if outcome.error.is_none() {
            self.reset();
        }
        attempt_record(&outcome, now)
    }

    /// Delivers until `stop`, then waits for the attempts under way.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut tasks = JoinSet::new();
        let mut running: HashMap<Id, DeliveryKey> = HashMap::new();
        while !stop.is_cancelled() {
            let again = self.assign_origins();
            let next = self.backlog().next(Instant::now());
            let until = match next {
                Next::Take(key) => {
                    let worker = Arc::clone(&self);
                    let task = tasks.spawn(async move { worker.deliver(key).await });
                    running.insert(task.id(), key);
                    continue;
                }
                Next::Wait(until) => [until, again].into_iter().flatten().min(),
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

    /// Finds out where callbacks go that are new, a bounded number at a time. Returns when to go on.
    fn assign_origins(&self) -> Option<Instant> {
        for _ in 0..PLACED_AT_ONCE {
            let key = self.backlog().callbacks()?.unassigned()?;
            let Ok(origin) = Target::callback_origin(&self.store, key) else {
                return Some(Instant::now() + STORE_PATIENCE);
            };
            self.backlog().callbacks()?.assign_origin(key, origin.as_ref(), Instant::now());
        }
        Some(Instant::now())
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
        self.backlog().finish(key, kept.then(|| now + STORE_PATIENCE), now);
    }

    /// One delivery that is due: an attempt, if it is its turn, and what follows from it.
    async fn deliver(&self, key: DeliveryKey) -> Result<(), StoreError> {
        let Some((delivery, turn)) = self.prepare(key)? else {
            self.backlog().with(key, |queue| queue.refund(Instant::now()));
            return Ok(());
        };
        let begun = clock::now();
        let Some(event) = self.store.event(key.event)? else {
            let outcome = AttemptOutcome::unreadable("the record of its event cannot be read");
            self.conclude(key, &delivery, &outcome, begun).await;
            drop(turn);
            return self.wake_next(&delivery);
        };
        let trace = event.trace();
        let span = trace.child();
        let of = (key, self.name.as_str());
        let attempt =
            AssertUnwindSafe(self.target.attempt(&self.store, of, &event, span, begun)).catch_unwind();
        let outcome = match attempt.await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => return Err(error),
            Err(panic) => {
                self.metrics.panics.inc();
                AttemptOutcome::broken(format!("an internal error: {}", panic_text(&*panic)))
            }
        };
        let now = clock::now();
        self.metrics
            .spans
            .record(&trace, SpanKind::Client, || attempt_span(&delivery, &outcome, span, begun, now));
        // A delivery that somebody asked for again says nothing about how long it took.
        if self.conclude(key, &delivery, &outcome, begun).await == AttemptVerdict::Delivered
            && delivery.generation == 0
            && let News::Completion(_) = event.news
        {
            let delay = now.since(ended_at(&event, &delivery)).as_secs_f64();
            self.metrics.delivered_delay.with_label_values(&[self.name.as_str()]).observe(delay);
        }
        drop(turn);
        self.wake_next(&delivery)
    }

    /// Decides what an attempt means, and records it.
    async fn conclude(
        &self,
        key: DeliveryKey,
        delivery: &Delivery,
        outcome: &AttemptOutcome,
        begun: Time,
    ) -> AttemptVerdict {
        let now = clock::now();
        let host = self.backlog().callbacks().and_then(|origins| origins.host(key));
        let verdict = self.judge(key, delivery, outcome, host.as_deref(), now);
        self.count(delivery, outcome, &verdict, host.as_deref(), now);
        let done = AttemptDone {
            generation: delivery.generation,
            number: delivery.attempt_count + 1,
            attempt: attempt_record(outcome, begun),
            verdict: verdict.clone(),
        };
        self.store.attempted(key, &done, now).await;
        verdict
    }

    /// What an attempt needs; `None` when there is nothing to do or it is not its turn.
    fn prepare(&self, key: DeliveryKey) -> Result<Option<Prepared<'_>>, StoreError> {
        let pending = self.store.delivery(key)?.filter(|delivery| delivery.state == DeliveryState::Pending);
        let Some(delivery) = pending else { return Ok(None) };
        let ordered = self.backlog().is_ordered();
        let turn = if ordered { self.turn(key, &delivery)? } else { None };
        Ok((!ordered || turn.is_some()).then_some((delivery, turn)))
    }

    /// Takes the turn of a delivery to an ordered sink. `None` when another delivery of its job goes first; the
    /// delivery is put off, and woken when the other one ends.
    fn turn(&self, key: DeliveryKey, delivery: &Delivery) -> Result<Option<JobTurn<'_>>, StoreError> {
        let first = self.store.first_pending(delivery.watch, &self.name, Some(key.event))?;
        let wait = match first {
            Some((_, due)) => due.since(clock::now()),
            None => match self.order.take(delivery.watch) {
                Some(turn) => return Ok(Some(turn)),
                None => Duration::ZERO,
            },
        };
        self.backlog().with(key, |queue| queue.defer(key, Instant::now() + wait + TURN_PATIENCE));
        Ok(None)
    }

    /// Wakes the delivery whose turn it is after this one.
    fn wake_next(&self, delivery: &Delivery) -> Result<(), StoreError> {
        if self.backlog().is_ordered()
            && let Some((next, due)) = self.store.first_pending(delivery.watch, &self.name, None)?
        {
            self.schedule(next, due, clock::now());
        }
        Ok(())
    }

    /// Decides what an attempt means, and lets the queue know what it says about the sink.
    fn judge(
        &self,
        key: DeliveryKey,
        delivery: &Delivery,
        outcome: &AttemptOutcome,
        host: Option<&str>,
        wall: Time,
    ) -> AttemptVerdict {
        let now = Instant::now();
        let mut backlog = self.backlog();
        let judge = |queue: &mut Queue| {
            let history = History {
                step: delivery.step,
                spared: delivery.spared,
                spared_for: Duration::from_millis(delivery.spared_ms),
                passed_by: queue.passed_by(key),
            };
            let (taking, retry) = (queue.is_taking(now), &queue.limits().retry);
            let Decision { next, signal } = decide(outcome, history, taking, retry, wall, rand::random());
            let change = queue.record(key, signal, outcome.asked(), now, rand::random());
            (next, signal, change)
        };
        // A callback that was forgotten meanwhile has no queue, and no delivery that its verdict could change.
        let judged = backlog.with(key, judge);
        let Some((next, signal, change)) = judged else { return AttemptVerdict::Defer(wall) };
        if let Some(origins) = backlog.callbacks() {
            origins.record(key, signal, outcome.error.as_deref());
        }
        drop(backlog);
        let sink = &self.name;
        match change {
            Some(BreakerChange::Closed) => {
                tracing::info!(sink, host, "the sink works again; its breaker is closed");
            }
            Some(BreakerChange::Opened) => {
                self.metrics.breaker_opened.with_label_values(&[self.name.as_str()]).inc();
                let error = outcome.error.as_deref().unwrap_or_default();
                tracing::warn!(
                    sink,
                    host,
                    error,
                    "the sink keeps failing; its breaker is open: one delivery at a time finds out whether it works again"
                );
            }
            None => {}
        }
        // What waits for the sink may go, or its wait has become another.
        self.wake.notify_one();
        next
    }

    fn count(
        &self,
        delivery: &Delivery,
        outcome: &AttemptOutcome,
        verdict: &AttemptVerdict,
        host: Option<&str>,
        now: Time,
    ) {
        let (sink, source, job_id) = (&self.name, &delivery.source, &delivery.job_id);
        let (event_id, attempt) = (&delivery.event_id, delivery.attempt_count + 1);
        let error = outcome.error.as_deref().unwrap_or_default();
        let result = self.stats().count(verdict, error, now);
        match verdict {
            AttemptVerdict::Delivered => {
                tracing::debug!(sink, host, source, %job_id, event_id, attempt, "delivered");
            }
            AttemptVerdict::Retry(next) | AttemptVerdict::Defer(next) => {
                tracing::warn!(sink, host, source, %job_id, event_id, attempt, error, %next, "an attempt to deliver failed");
            }
            AttemptVerdict::Dead(reason) => {
                tracing::error!(sink, host, source, %job_id, event_id, attempt, reason, "a delivery became a dead letter");
                self.metrics.dead_letters.with_label_values(&[sink.as_str()]).inc();
            }
        }
        self.metrics.attempts.with_label_values(&[sink.as_str(), result]).inc();
        if let Some(class) = outcome.error_class {
            self.metrics.failures.with_label_values(&[sink.as_str(), class.as_str()]).inc();
        }
        let seconds = outcome.duration.as_secs_f64();
        self.metrics.attempt_seconds.with_label_values(&[sink.as_str()]).observe(seconds);
    }

    fn backlog(&self) -> MutexGuard<'_, Backlog> {
        self.backlog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stats(&self) -> MutexGuard<'_, SinkStats> {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A delivery that is pending, and its turn at an ordered sink.
type Prepared<'a> = (Delivery, Option<JobTurn<'a>>);

/// When the event of a delivery was made; `None` when it is gone or the store cannot be read now.
pub(super) fn event_created_at(store: &Store, key: DeliveryKey) -> Option<Time> {
    store.delivery(key).ok().flatten().map(|delivery| delivery.created_at)
}

/// When the job of an event ended by our clock. When that jumped since, the delivery's stamp was moved, and the event's was not.
fn ended_at(event: &Event, delivery: &Delivery) -> Time {
    let moved = delivery.created_at.0.saturating_sub(event.created_at.0);
    Time(event.news.time_by_our_clock().0.saturating_add(moved))
}
