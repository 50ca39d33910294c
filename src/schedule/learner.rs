//! Learns from the answers about a source's jobs, and decides by that when the next poll is.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    Entry, PollingConfig, Strategy,
    entry::{HookState, Track},
    hooks::{EarlyHooks, HookStats, judged},
    learned::{
        decide::{NextPoll, Policy, decide},
        forecast::Progress,
        kind::RunEnd,
        levels::{LEVELS, Standing, leaves, level},
        model::{Key, Model},
    },
    pool::Pool,
};
use crate::{
    model::{job::Kind, status_answer::StatusAnswer},
    util::units::Time,
};

/// What finished jobs cost since the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct PollingStats {
    /// Jobs that finished.
    pub jobs: u64,
    /// Status requests sent for them.
    pub polls: u64,
    /// Jobs whose source told when they ended, and that ended while they were watched.
    pub timed: u64,
    /// The sum of the times from their end to the poll that noticed it, in seconds.
    pub delay: f64,
}

/// The model of a source, and the policy by which it is polled.
#[derive(Debug)]
pub(super) struct Learner {
    pub(super) strategy: Strategy,
    pub(super) policy: Policy,
    label: Option<String>,
    pub(super) model: Model,
    keys: Pool<Key>,
    pub(super) stats: PollingStats,
    /// The source sends hooks.
    pub(super) has_hooks: bool,
    pub(super) hooks: HookStats,
    pub(super) early_hooks: EarlyHooks,
    /// The number of observations, so that an unchanged model is not saved again.
    pub(super) lessons: u64,
    start: Instant,
}

/// Returns the name of what a job does: its kind, unless that is the default one, and its endpoint.
pub(super) fn operation(kind: Option<&str>, endpoint: Option<&str>) -> String {
    [kind, endpoint].into_iter().flatten().collect::<Vec<_>>().join(" ")
}

impl Learner {
    pub(super) fn new(config: &PollingConfig, start: Instant) -> Self {
        let seconds = |span: crate::util::units::HumanDuration| span.0.as_secs_f64();
        let policy = Policy {
            theta: seconds(config.cost_of_a_poll),
            min_interval: seconds(config.min_interval),
            max_interval: seconds(config.max_interval()),
            max_delay: config.max_delay.map(seconds),
        };
        Self {
            strategy: config.strategy,
            policy,
            label: config.learn_by_label.clone(),
            model: Model::default(),
            keys: Pool::default(),
            stats: PollingStats::default(),
            has_hooks: false,
            hooks: HookStats::default(),
            early_hooks: EarlyHooks::default(),
            lessons: 0,
            start,
        }
    }

    /// Returns what a job with this operation and this label learns by.
    pub(super) fn kind(&mut self, operation: String, label: Option<String>) -> Arc<Key> {
        self.keys.share(Key { endpoint: operation, label })
    }

    /// Returns the value of the label that separates kinds.
    pub(super) fn label_of(&self, labels: &std::collections::BTreeMap<String, String>) -> Option<String> {
        self.label.as_ref().and_then(|label| labels.get(label).cloned())
    }

    fn seconds(&self, now: Instant) -> f64 {
        now.saturating_duration_since(self.start).as_secs_f64()
    }

    /// Updates the progress of a job by an answer. Returns the progress before, on the same scale.
    fn date(&mut self, track: &mut Track, answer: &StatusAnswer, wall: Time) -> Progress {
        if answer.endpoint.is_some() {
            let operation =
                operation(answer.kind.as_ref().and_then(Kind::beside_id), answer.endpoint.as_deref());
            if operation != track.kind.endpoint {
                track.kind = self.kind(operation, track.kind.label.clone());
            }
        }
        let before_start = track.known().started.is_none();
        let [created, started] = [answer.created_at, answer.started_at].map(|at| answer.by_steady_clock(at));
        track.dated(created, started, wall);
        let known = track.known();
        Progress { started: known.started.filter(|_| !before_start), ..known }
    }

    /// Records that a job is still running.
    pub(super) fn record_running(
        &mut self,
        track: &mut Track,
        answer: &StatusAnswer,
        now: Instant,
        wall: Time,
    ) {
        let before = self.date(track, answer, wall);
        track.seen(wall);
        self.model.record_running(&track.kind, before, track.known(), self.seconds(now));
        self.lessons += 1;
    }

    /// Records that a job finished. `random` lies in [0, 1).
    pub(super) fn record_finished(
        &mut self,
        pending: &mut PendingCompletion,
        answer: &StatusAnswer,
        now: Instant,
        wall: Time,
        random: f64,
    ) {
        let track = &mut pending.track;
        let before = self.date(track, answer, wall);
        let ended_at = answer.by_steady_clock(answer.ended_at);
        let told = ended_at.filter(|at| track.is_exact() && *at >= track.born);
        let told = told.map(|at| track.age(at.min(wall)));
        let learns = pending.finished && (told.is_some() || track.is_bracketed(pending.registered_at));
        let end = if learns { RunEnd::Finished(told) } else { RunEnd::Dropped };
        let after = Progress { age: track.age(wall), started: track.known().started };
        // An end that a hook announced lies right before the poll.
        let random = if track.hook.has_announced() { 1.0 } else { random };
        self.model.record_finished(&track.kind, [before, after], end, random, self.seconds(now));
        self.lessons += 1;
        self.stats.jobs += 1;
        self.stats.polls += pending.polls;
        if let Some(at) = ended_at.filter(|at| *at >= pending.registered_at) {
            self.stats.timed += 1;
            self.stats.delay += wall.since(at).as_secs_f64();
        }
        if self.has_hooks && pending.finished {
            self.record_hook(pending, ended_at, now, wall);
        }
    }

    /// Learns from an end whether hooks announce them.
    fn record_hook(&mut self, pending: &PendingCompletion, ended_at: Option<Time>, now: Instant, wall: Time) {
        let listening = now.saturating_duration_since(self.start);
        let Some(is_announced) = judged(pending, ended_at, listening, wall) else { return };
        let time = self.seconds(now);
        self.model.record_hook(&pending.track.kind, is_announced, time);
        if !is_announced {
            self.hooks.missed += 1;
            return;
        }
        self.hooks.announced += 1;
        if let Some(at) = ended_at.filter(|at| *at >= pending.registered_at) {
            self.hooks.timed += 1;
            self.hooks.delay += wall.since(at).as_secs_f64();
        }
        if matches!(pending.track.hook, HookState::Polled(polls) if polls > 1) {
            self.early_hooks.record(true);
        }
    }

    /// Decides when the next poll of a job is.
    pub(super) fn next_poll(&mut self, number: u64, entry: &Entry, now: Instant, wall: Time) -> NextPoll {
        let time = self.seconds(now);
        let forecast = self.model.forecast(&entry.track.kind, self.policy.theta, time);
        let policy = self.policy_of(&entry.track.kind);
        decide(&forecast, &policy, &entry.track.situation(entry, number, wall))
    }

    /// Returns the policy for jobs of a kind, by how reliably hooks announce their ends.
    fn policy_of(&self, kind: &Key) -> Policy {
        if self.has_hooks { self.policy.with_hooks(self.model.missed(kind)) } else { self.policy }
    }

    /// Returns the level on which a due job waits for the budget, and how long it stays there.
    pub(super) fn level(&mut self, entry: &Entry, now: Instant, wall: Time) -> (u8, Duration) {
        let (known, age) = (entry.track.known(), entry.track.age(wall));
        let forecast = self.model.forecast(&entry.track.kind, self.policy.theta, self.seconds(now));
        let theta = self.policy_of(&entry.track.kind).theta;
        let level = level(forecast.waiting(known, age), theta);
        let promoted =
            if level + 1 < LEVELS { forecast.next(known, leaves(level, theta)) - age } else { f64::MAX };
        (level, span(promoted))
    }
}

/// The knowledge of a finished job, before its end was recorded.
#[derive(Clone, Debug)]
pub struct PendingCompletion {
    pub(super) track: Track,
    pub(super) registered_at: Time,
    pub(super) polls: u64,
    /// The job ended by its own doing, well or badly.
    pub finished: bool,
}

/// Converts seconds to a wait of at most a year.
pub(super) fn span(seconds: f64) -> Duration {
    Duration::from_secs_f64(super::learned::bins::within(seconds, 0.0, 3.2e7))
}

/// Returns the standing of a watch that waits on no level until a tick.
pub(super) fn waits(until: u64) -> Standing {
    Standing { level: None, until }
}
