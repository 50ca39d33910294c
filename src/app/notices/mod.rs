//! Notices: news of tidings itself, for sinks that ask for them.
//!
//! The same task notes once a second what is wrong ([`observed`](crate::state::observed)), so that there is one to wake.
//!
//! Once a second the task compares what the API shows of sinks and sources with what was told of them. Nothing that
//! delivers or polls knows of notices.

mod teller;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use self::teller::{Due, Seen, Teller};
use crate::{
    deliver::{CALLBACK_SINK, DeadCount},
    model::{
        job::notice_id,
        notice::Notice,
        sink::{SinkState, SinkStatus},
    },
    schedule::HealthState,
    state::AppState,
    store::{NoticeGiven, StoreError},
    util::{clock, units::Time},
    watcher::SourceState,
};

/// How often sinks and sources are compared with what was told.
const ROUND: Duration = Duration::from_secs(1);

/// For how long a source is `limited` before that is told.
const LIMITED: Duration = Duration::from_mins(1);

const OF_SINKS: (Notice, Notice) = (Notice::SinkFailing, Notice::SinkRecovered);
const OF_SOURCES: (Notice, Notice) = (Notice::SourceUnhealthy, Notice::SourceRecovered);

/// Gives notices, until the daemon stops.
pub(super) async fn give(state: Arc<AppState>) {
    let began = tokio::time::Instant::now();
    let mut reporter = None;
    loop {
        tokio::select! {
            () = tokio::time::sleep(ROUND) => {}
            () = state.shutdown.cancelled() => return,
        }
        state.observe();
        if !state.resources.routing.router().takes_notices() {
            // Nobody is to be told later of what happens now.
            drop(state.metrics.sinks.dead.take());
            reporter = None;
            continue;
        }
        if reporter.is_none() {
            match Reporter::new(&state, began).await {
                Ok(new) => reporter = Some(new),
                Err(error) => {
                    tracing::warn!(%error, "notices not given yet: the store cannot be read");
                    continue;
                }
            }
        }
        if let Some(reporter) = &mut reporter {
            // A store that fails takes the notices of its failure later.
            tokio::select! {
                () = reporter.round() => {}
                () = observe(&state) => {}
                () = state.shutdown.cancelled() => return,
            }
        }
    }
}

/// Observes the daemon for as long as a notice waits for the store.
async fn observe(state: &AppState) {
    loop {
        tokio::time::sleep(ROUND).await;
        state.observe();
    }
}

/// What was told of every subject.
struct Reporter {
    state: Arc<AppState>,
    tellers: BTreeMap<String, Teller>,
    /// Since when a source is limited.
    limited: BTreeMap<String, Instant>,
    /// When the daemon started.
    began: tokio::time::Instant,
}

impl Reporter {
    async fn new(state: &Arc<AppState>, began: tokio::time::Instant) -> Result<Self, StoreError> {
        let told = state.store.notices().await?.into_iter();
        Ok(Self {
            state: Arc::clone(state),
            tellers: told.map(|(subject, told)| (subject, Teller::of(told))).collect(),
            limited: BTreeMap::new(),
            began,
        })
    }

    async fn round(&mut self) {
        let now = clock::now();
        let live = self.state.components();
        for sink in live.sinks.statuses().await {
            // Callbacks are many receivers, each with a breaker of its own.
            if sink.name != CALLBACK_SINK {
                self.see_sink(&sink, now).await;
            }
        }
        for watcher in live.watchers.values() {
            self.see_source(watcher, now).await;
        }
        let mut dead = self.state.metrics.sinks.dead.take();
        // What was held back is told although nothing new happens.
        let held = self.tellers.iter().filter(|(_, teller)| teller.told.dead.is_some());
        let held: Vec<String> =
            held.filter_map(|(subject, _)| subject.strip_prefix("sink:").map(str::to_owned)).collect();
        for sink in held {
            if !dead.contains_key(&sink) {
                self.tell_dead(&sink, None, now).await;
            }
        }
        while let Some((sink, count)) = dead.pop_first() {
            self.tell_dead(&sink, Some(count), now).await;
        }
    }

    async fn see_sink(&mut self, sink: &SinkStatus, now: Time) {
        let subject = format!("sink:{}", sink.name);
        let teller = self.tellers.entry(subject.clone()).or_default();
        let seen = match sink.state {
            SinkState::Failing => Seen::Bad,
            // Whether it takes anything is known once it took something.
            SinkState::Ok => match teller.bad_since() {
                Some(since) if sink.last_success_at.is_none_or(|at| at <= since) => Seen::Nothing,
                _ => Seen::Well,
            },
            SinkState::Paused | SinkState::NotConfigured => Seen::Nothing,
        };
        let Some(due) = teller.see(&seen, OF_SINKS, now) else { return };
        let data = json!({
            "sink": sink.name, "since": due.since, "count": due.count, "pending": sink.pending,
            "error": sink.last_error,
        });
        self.record(&subject, &sink.name, &due, data, now).await;
    }

    async fn see_source(&mut self, watcher: &SourceState, now: Time) {
        let name = watcher.source.name.as_str();
        let subject = format!("source:{name}");
        let teller = self.tellers.entry(subject.clone()).or_default();
        let (health, is_heard) = {
            let schedule = watcher.schedule();
            (schedule.shown_state(tokio::time::Instant::now()), schedule.was_heard_since(self.began))
        };
        let limited_for = if health == HealthState::Limited {
            self.limited.entry(name.to_owned()).or_insert_with(Instant::now).elapsed()
        } else {
            self.limited.remove(name);
            Duration::ZERO
        };
        let seen = match health {
            HealthState::Unauthorized | HealthState::Failing => Seen::Bad,
            HealthState::Limited if limited_for >= LIMITED => Seen::Bad,
            // Whether it answers is known once it was asked.
            HealthState::Ok if is_heard => Seen::Well,
            HealthState::Limited | HealthState::Ok => Seen::Nothing,
        };
        let Some(due) = teller.see(&seen, OF_SOURCES, now) else { return };
        let error = watcher.last_error();
        let data = json!({
            "source": name, "state": health.as_str(), "since": due.since, "count": due.count, "error": error,
        });
        self.record(&subject, name, &due, data, now).await;
    }

    /// Tells of dead letters of a sink, or holds them back.
    async fn tell_dead(&mut self, sink: &str, new: Option<DeadCount>, now: Time) {
        let subject = format!("sink:{sink}");
        let teller = self.tellers.entry(subject.clone()).or_default();
        let is_new = new.is_some();
        if let Some(DeadCount { count, last }) = new {
            teller.add_dead(count, serde_json::to_string(&last).unwrap_or_default());
        }
        match teller.tell_dead(now) {
            Some((due, last)) => {
                let last: Value = serde_json::from_str(&last).unwrap_or_default();
                let data = json!({"sink": sink, "count": due.count, "last": last});
                self.record(&subject, sink, &due, data, now).await;
            }
            None if is_new => self.state.store.hold_notice(&subject, &teller.told).await,
            None => {}
        }
    }

    /// Records that a notice was given, with its event if a sink takes it.
    async fn record(&self, subject: &str, name: &str, due: &Due, data: Value, now: Time) {
        let Some(teller) = self.tellers.get(subject) else { return };
        let sinks = self.state.resources.routing.router().notice_sinks(due.notice, name);
        let (store, notice, count) = (&self.state.store, due.notice, due.count);
        if sinks.is_empty() {
            return store.hold_notice(subject, &teller.told).await;
        }
        let event_id = notice_id(notice, name, due.since);
        tracing::debug!(notice = notice.as_str(), subject = name, count, event_id, "notice given");
        let given =
            NoticeGiven { notice, subject: name.to_owned(), event_id, at: now, data: data.to_string() };
        store.give_notice(subject, &teller.told, &given, &sinks, now).await;
    }
}
