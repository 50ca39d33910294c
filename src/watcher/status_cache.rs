//! The last status body of each job, for as long as the proxy may answer with it.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;

/// The most bytes of bodies that the cache of one source holds.
const MAX_BYTES: usize = 16 << 20;

/// The number of bodies at which the cache first drops old ones.
const SWEEP_AT: usize = 256;

/// The last status bodies of one source.
#[derive(Debug)]
pub struct StatusCache {
    max_age: Duration,
    answers: Mutex<CachedAnswers>,
}

#[derive(Debug, Default)]
struct CachedAnswers {
    by_watch: HashMap<u64, CachedAnswer>,
    bytes: usize,
    sweep_at: usize,
}

#[derive(Debug)]
struct CachedAnswer {
    at: Instant,
    body: Bytes,
    key: String,
}

impl StatusCache {
    /// Creates an empty cache, which drops bodies older than `max_age`.
    #[must_use]
    pub fn new(max_age: Duration) -> Self {
        Self { max_age, answers: Mutex::default() }
    }

    fn answers(&self) -> MutexGuard<'_, CachedAnswers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores the body of a poll that was sent at `at` with the key of this fingerprint.
    pub fn put(&self, watch: u64, body: &Bytes, key: String, at: Instant) {
        let mut answers = self.answers();
        answers.remove(watch);
        if answers.by_watch.len() >= answers.sweep_at.max(SWEEP_AT) || answers.bytes + body.len() > MAX_BYTES
        {
            answers.sweep(self.max_age, at);
        }
        if answers.bytes + body.len() <= MAX_BYTES {
            answers.bytes += body.len();
            answers.by_watch.insert(watch, CachedAnswer { at, body: body.clone(), key });
        }
    }

    /// Returns the last body of a job with its age, if it is no older than `max_age` and came with
    /// this key.
    #[must_use]
    pub fn get(&self, watch: u64, key: &str, max_age: Duration, now: Instant) -> Option<(Bytes, Duration)> {
        let answers = self.answers();
        let answer = answers.by_watch.get(&watch).filter(|answer| answer.key == key)?;
        let age = now.duration_since(answer.at);
        (age <= max_age).then(|| (answer.body.clone(), age))
    }

    /// Removes the last body of a job.
    pub fn remove(&self, watch: u64) {
        self.answers().remove(watch);
    }

    /// Removes all bodies.
    pub fn clear(&self) {
        *self.answers() = CachedAnswers::default();
    }
}

impl CachedAnswers {
    fn remove(&mut self, watch: u64) {
        if let Some(answer) = self.by_watch.remove(&watch) {
            self.bytes -= answer.body.len();
        }
    }

    /// Removes the bodies that are older than `max_age`.
    fn sweep(&mut self, max_age: Duration, now: Instant) {
        self.by_watch.retain(|_, answer| now.duration_since(answer.at) <= max_age);
        self.bytes = self.by_watch.values().map(|answer| answer.body.len()).sum();
        self.sweep_at = self.by_watch.len() * 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGE: Duration = Duration::from_secs(2);

    #[test]
    fn a_body_is_kept_for_its_time_and_its_key() {
        let (cache, start) = (StatusCache::new(AGE), Instant::now());
        cache.put(1, &Bytes::from_static(b"a"), "k".to_owned(), start);
        assert_eq!(cache.get(1, "k", AGE, start + AGE), Some((Bytes::from_static(b"a"), AGE)));
        assert_eq!(cache.get(1, "other", AGE, start), None);
        assert_eq!(cache.get(2, "k", AGE, start), None);
        assert_eq!(cache.get(1, "k", AGE, start + AGE + Duration::from_millis(1)), None);
        cache.remove(1);
        assert_eq!(cache.get(1, "k", AGE, start), None);
    }

    #[test]
    fn memory_is_bounded() {
        let (cache, start) = (StatusCache::new(AGE), Instant::now());
        let body = Bytes::from(vec![0; MAX_BYTES / 10]);
        for watch in 0..20 {
            cache.put(watch, &body, String::new(), start);
        }
        assert_eq!(cache.answers().by_watch.len(), 10);
        cache.put(30, &body, String::new(), start + AGE * 2);
        assert_eq!(cache.answers().by_watch.len(), 1, "the old ones made room");
        cache.remove(30);
        assert_eq!(cache.answers().bytes, 0);
    }
}
