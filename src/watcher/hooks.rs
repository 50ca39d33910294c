//! What came of the hooks that a source sent.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::SourceState;
use crate::{
    model::status_answer::Hint,
    util::{clock, units::Time},
};

/// The shortest time between two warnings about hooks of one source.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// What came of a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookResult {
    /// The poll of its job is due.
    Polled,
    /// Its job was registered, and is polled.
    Registered,
    /// Its job has finished, or was dropped after retention.
    Finished,
    /// Nobody watches its job, and hooks of this source register none.
    Unknown,
    /// It names no job.
    NoId,
    /// It is not verified, so nothing happened.
    Unverified,
    /// Its body, a secret or the store cannot be used now. The source sends it again.
    Failed,
}

impl HookResult {
    /// Every result.
    pub const ALL: [Self; 7] = [
        Self::Polled,
        Self::Registered,
        Self::Finished,
        Self::Unknown,
        Self::NoId,
        Self::Unverified,
        Self::Failed,
    ];

    /// Returns the word of the metric.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Polled => "polled",
            Self::Registered => "registered",
            Self::Finished => "finished",
            Self::Unknown => "unknown",
            Self::NoId => "no_id",
            Self::Unverified => "unverified",
            Self::Failed => "failed",
        }
    }
}

/// The hooks of one source since the start.
#[derive(Debug, Default)]
pub struct HookLog {
    verified: AtomicU64,
    /// In milliseconds; zero before the first one.
    last_at: AtomicI64,
    refused: AtomicU64,
    /// Why the last hook was refused. Unset once a verified one follows.
    refusal: Mutex<Option<String>>,
    warned: Mutex<Option<Instant>>,
    /// Hooks since the last warning that would have been worth one.
    unsaid: AtomicU64,
}

impl HookLog {
    /// Returns how many hooks were verified, and when the last one came.
    #[must_use]
    pub fn verified(&self) -> (u64, Option<Time>) {
        let last = self.last_at.load(Ordering::Relaxed);
        (self.verified.load(Ordering::Relaxed), (last != 0).then_some(Time(last)))
    }

    /// Returns how many hooks were refused, and why the last one was unless a verified one followed.
    #[must_use]
    pub fn refused(&self) -> (u64, Option<String>) {
        let refusal = self.refusal.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (self.refused.load(Ordering::Relaxed), refusal)
    }

    /// Counts a hook, refused for this reason or verified.
    fn count(&self, refusal: Option<&str>) {
        if refusal.is_some() {
            self.refused.fetch_add(1, Ordering::Relaxed);
        } else {
            self.verified.fetch_add(1, Ordering::Relaxed);
            self.last_at.store(clock::now().0, Ordering::Relaxed);
        }
        *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = refusal.map(str::to_owned);
    }

    /// Returns how many hooks to warn of now, or `None` while a warning is recent: strangers must not
    /// fill the log.
    fn warns_of(&self, now: Instant) -> Option<u64> {
        self.unsaid.fetch_add(1, Ordering::Relaxed);
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if warned.is_some_and(|at| now < at + WARN_EVERY) {
            return None;
        }
        *warned = Some(now);
        Some(self.unsaid.swap(0, Ordering::Relaxed))
    }
}

impl SourceState {
    /// Makes the poll of a watch due now because of a hook. Returns `false` if the watch is not being
    /// polled.
    pub fn announce(&self, number: u64) -> bool {
        self.status_cache.remove(number);
        let is_polled = self.schedule().announce(number, Instant::now(), clock::steady());
        if is_polled {
            self.note_hint(number, Hint::Hook);
        }
        self.wake();
        is_polled
    }

    /// Counts a hook. `why` explains one that was no help; it holds nothing that the hook brought.
    pub fn record_hook(&self, result: HookResult, why: &str) {
        let source = self.source.name.as_str();
        self.metrics.hooks.with_label_values(&[source, result.word()]).inc();
        let is_refused = matches!(result, HookResult::Unverified | HookResult::Failed);
        self.hooks.count(is_refused.then_some(why));
        if (is_refused || result == HookResult::NoId)
            && let Some(hooks) = self.hooks.warns_of(Instant::now())
        {
            tracing::warn!(source, hooks, result = result.word(), error = why, "hook without effect");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_do_not_fill_the_log() {
        let (log, now) = (HookLog::default(), Instant::now());
        assert_eq!(log.warns_of(now), Some(1));
        for _ in 0..100 {
            assert_eq!(log.warns_of(now + WARN_EVERY / 2), None);
        }
        assert_eq!(log.warns_of(now + WARN_EVERY), Some(101));
    }
}
