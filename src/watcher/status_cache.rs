//! The last answer at each job, for as long as it may be answered with.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;

/// Bytes kept for one source, at the most.
const MAX_BYTES: usize = 16 << 20;

/// Bodies kept before the old ones are looked for.
const SWEEP_AT: usize = 256;

/// The bodies of the last answers.
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
    /// Keeps what is no older than `max_age`.
    #[must_use]
    pub fn new(max_age: Duration) -> Self {
        Self { max_age, answers: Mutex::default() }
    }

    fn answers(&self) -> MutexGuard<'_, CachedAnswers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in a answer at `at`, made with the key of this print. What would not fit is not kept: it is only asked for again.
    pub fn put(&self, watch: u64, body: &Bytes, key: String, at: Instant) {
        let mut answers = self.answers();
        answers.forget(watch);
        if answers.by_watch.len() >= answers.sweep_at.max(SWEEP_AT) || answers.bytes + body.len() > MAX_BYTES
        {
            let old: Vec<u64> = answers
                .by_watch
                .iter()
                .filter(|(_, answer)| at.duration_since(answer.at) > self.max_age)
                .map(|(watch, _)| *watch)
                .collect();
            for watch in old {
                answers.forget(watch);
            }
            answers.sweep_at = answers.by_watch.len() * 2;
        }
        if answers.bytes + body.len() <= MAX_BYTES {
            answers.bytes += body.len();
            answers.by_watch.insert(watch, CachedAnswer { at, body: body.clone(), key });
        }
    }

    /// Forgets all of them: they may be older than they seem.
    pub fn clear(&self) {
        *self.answers() = CachedAnswers::default();
    }

    /// The last answer at a job, with its age, if it is no older than `max_age` and was made with this key.
    #[must_use]
    pub fn get(&self, watch: u64, key: &str, max_age: Duration, now: Instant) -> Option<(Bytes, Duration)> {
        let answers = self.answers();
        let answer = answers.by_watch.get(&watch).filter(|answer| answer.key == key)?;
        let age = now.duration_since(answer.at);
        (age <= max_age).then(|| (answer.body.clone(), age))
    }

    /// Forgets the last answer at a job.
    pub fn forget(&self, watch: u64) {
        self.answers().forget(watch);
    }
}

impl CachedAnswers {
    fn forget(&mut self, watch: u64) {
        if let Some(answer) = self.by_watch.remove(&watch) {
            self.bytes -= answer.body.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGE: Duration = Duration::from_secs(2);

    #[test]
    fn a_look_is_known_for_its_time_and_its_key() {
        let (cache, start) = (StatusCache::new(AGE), Instant::now());
        cache.put(1, &Bytes::from_static(b"a"), "k".to_owned(), start);
        assert_eq!(cache.get(1, "k", AGE, start + AGE), Some((Bytes::from_static(b"a"), AGE)));
        assert_eq!(cache.get(1, "other", AGE, start), None);
        assert_eq!(cache.get(2, "k", AGE, start), None);
        assert_eq!(cache.get(1, "k", AGE, start + AGE + Duration::from_millis(1)), None);
        cache.forget(1);
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
        cache.forget(30);
        assert_eq!(cache.answers().bytes, 0);
    }
}
