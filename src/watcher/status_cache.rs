//! The last look at each job, for as long as it may be answered with.

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

/// The bodies of the last looks.
#[derive(Debug)]
pub struct Recent {
    max_age: Duration,
    looks: Mutex<Looks>,
}

#[derive(Debug, Default)]
struct Looks {
    by_watch: HashMap<u64, Look>,
    bytes: usize,
    sweep_at: usize,
}

#[derive(Debug)]
struct Look {
    at: Instant,
    body: Bytes,
    key: String,
}

impl Recent {
    /// Keeps what is no older than `max_age`.
    #[must_use]
    pub fn new(max_age: Duration) -> Self {
        Self { max_age, looks: Mutex::default() }
    }

    fn looks(&self) -> MutexGuard<'_, Looks> {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in a look at `at`, made with the key of this print. What would not fit is not kept: it is only asked for again.
    pub fn put(&self, watch: u64, body: &Bytes, key: String, at: Instant) {
        let mut looks = self.looks();
        looks.forget(watch);
        if looks.by_watch.len() >= looks.sweep_at.max(SWEEP_AT) || looks.bytes + body.len() > MAX_BYTES {
            let old: Vec<u64> = looks
                .by_watch
                .iter()
                .filter(|(_, look)| at.duration_since(look.at) > self.max_age)
                .map(|(watch, _)| *watch)
                .collect();
            for watch in old {
                looks.forget(watch);
            }
            looks.sweep_at = looks.by_watch.len() * 2;
        }
        if looks.bytes + body.len() <= MAX_BYTES {
            looks.bytes += body.len();
            looks.by_watch.insert(watch, Look { at, body: body.clone(), key });
        }
    }

    /// Forgets all of them: they may be older than they seem.
    pub fn clear(&self) {
        *self.looks() = Looks::default();
    }

    /// The last look at a job, with its age, if it is no older than `max_age` and was made with this key.
    #[must_use]
    pub fn get(&self, watch: u64, key: &str, max_age: Duration, now: Instant) -> Option<(Bytes, Duration)> {
        let looks = self.looks();
        let look = looks.by_watch.get(&watch).filter(|look| look.key == key)?;
        let age = now.duration_since(look.at);
        (age <= max_age).then(|| (look.body.clone(), age))
    }

    /// Forgets the last look at a job.
    pub fn forget(&self, watch: u64) {
        self.looks().forget(watch);
    }
}

impl Looks {
    fn forget(&mut self, watch: u64) {
        if let Some(look) = self.by_watch.remove(&watch) {
            self.bytes -= look.body.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGE: Duration = Duration::from_secs(2);

    #[test]
    fn a_look_is_known_for_its_time_and_its_key() {
        let (recent, start) = (Recent::new(AGE), Instant::now());
        recent.put(1, &Bytes::from_static(b"a"), "k".to_owned(), start);
        assert_eq!(recent.get(1, "k", AGE, start + AGE), Some((Bytes::from_static(b"a"), AGE)));
        assert_eq!(recent.get(1, "other", AGE, start), None);
        assert_eq!(recent.get(2, "k", AGE, start), None);
        assert_eq!(recent.get(1, "k", AGE, start + AGE + Duration::from_millis(1)), None);
        recent.forget(1);
        assert_eq!(recent.get(1, "k", AGE, start), None);
    }

    #[test]
    fn memory_is_bounded() {
        let (recent, start) = (Recent::new(AGE), Instant::now());
        let body = Bytes::from(vec![0; MAX_BYTES / 10]);
        for watch in 0..20 {
            recent.put(watch, &body, String::new(), start);
        }
        assert_eq!(recent.looks().by_watch.len(), 10);
        recent.put(30, &body, String::new(), start + AGE * 2);
        assert_eq!(recent.looks().by_watch.len(), 1, "the old ones made room");
        recent.forget(30);
        assert_eq!(recent.looks().bytes, 0);
    }
}
