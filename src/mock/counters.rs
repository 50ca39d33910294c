//! Counts the requests to the mock, so that a test can hold its subject to a budget.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use super::state::lock;

/// The requests that the log keeps, and the (job, kind) pairs that are counted apart.
const REMEMBERED: usize = 100_000;
const TRACKED: usize = 1_000_000;

/// The route of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `POST /v1/jobs`, `POST /v1/extractions` and the like.
    Create,
    /// `GET /v1/jobs/{id}/status`.
    Status,
    /// `GET /v1/jobs/{id}` without the response, `GET /v1/extractions/{id}` without the output.
    Light,
    /// `GET /v1/jobs/{id}?include_response=true`, `GET /v1/extractions/{id}` with the output.
    Full,
    /// `GET /v1/jobs`, `GET /v1/extractions` and the like.
    List,
    /// `POST /v1/jobs/{id}/cancel`, `POST /v1/extractions/{id}/cancel` and the like.
    Cancel,
    /// `POST /v1/jobs/{id}/retry`.
    Retry,
    /// Any other route.
    Other,
}

impl Kind {
    /// Every kind with the word for it, in the order of a job's life.
    const WORDS: [(Self, &str); 8] = [
        (Self::Create, "create"),
        (Self::Status, "status"),
        (Self::Light, "light"),
        (Self::Full, "full"),
        (Self::List, "list"),
        (Self::Cancel, "cancel"),
        (Self::Retry, "retry"),
        (Self::Other, "other"),
    ];
}

/// One request to the mock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedRequest {
    /// When it arrived, since the start of the mock.
    pub at: Duration,
    /// Its route.
    pub kind: Kind,
    /// The job that it names, or nothing.
    pub job: Arc<str>,
}

#[derive(Debug, Default)]
struct Book {
    jobs: HashMap<Arc<str>, HashMap<Kind, u64>>,
    tracked: usize,
    kinds: HashMap<Kind, u64>,
    answers: HashMap<u16, u64>,
    log: VecDeque<LoggedRequest>,
}

/// The counters of a mock.
#[derive(Debug)]
pub(super) struct Counters {
    started: Instant,
    book: Mutex<Book>,
    open: Arc<AtomicUsize>,
    peak: AtomicUsize,
}

/// A request in flight. It counts as open until this is dropped.
#[derive(Debug)]
pub(super) struct InFlight(Arc<AtomicUsize>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Counters {
    pub fn new(started: Instant) -> Self {
        Self { started, book: Mutex::default(), open: Arc::default(), peak: AtomicUsize::new(0) }
    }

    pub fn arrive(&self, kind: Kind, job: &str) -> InFlight {
        let open = self.open.fetch_add(1, Ordering::Relaxed) + 1;
        self.peak.fetch_max(open, Ordering::Relaxed);
        let mut book = lock(&self.book);
        let book = &mut *book;
        *book.kinds.entry(kind).or_default() += 1;
        let name = match book.jobs.get_key_value(job) {
            Some((name, _)) => Arc::clone(name),
            None => Arc::from(job),
        };
        if !job.is_empty() && (book.tracked < TRACKED || book.jobs.contains_key(job)) {
            let counts = book.jobs.entry(Arc::clone(&name)).or_default();
            book.tracked += usize::from(!counts.contains_key(&kind));
            *counts.entry(kind).or_default() += 1;
        }
        if book.log.len() == REMEMBERED {
            book.log.pop_front();
        }
        book.log.push_back(LoggedRequest { at: self.started.elapsed(), kind, job: name });
        InFlight(Arc::clone(&self.open))
    }

    pub fn answered(&self, code: u16) {
        *lock(&self.book).answers.entry(code).or_default() += 1;
    }

    pub fn requests(&self, job: Option<&str>, kind: Option<Kind>) -> u64 {
        let book = lock(&self.book);
        let counts = match job {
            Some(job) => book.jobs.get(job),
            None => Some(&book.kinds),
        };
        let Some(counts) = counts else { return 0 };
        kind.map_or_else(|| counts.values().sum(), |kind| counts.get(&kind).copied().unwrap_or_default())
    }

    /// Returns the counts of all kinds that occurred, as `create=1 status=7`.
    pub fn by_kind(&self) -> String {
        let book = lock(&self.book);
        let count = |kind| book.kinds.get(&kind).copied().filter(|&count| count > 0);
        let words = Kind::WORDS.iter().filter_map(|&(kind, word)| Some(format!("{word}={}", count(kind)?)));
        words.collect::<Vec<_>>().join(" ")
    }

    pub fn answers(&self, code: u16) -> u64 {
        lock(&self.book).answers.get(&code).copied().unwrap_or_default()
    }

    pub fn log(&self) -> Vec<LoggedRequest> {
        lock(&self.book).log.iter().cloned().collect()
    }

    /// Returns the most requests within any period of this length.
    pub fn busiest(&self, window: Duration) -> usize {
        let book = lock(&self.book);
        let mut first = 0;
        let mut most = 0;
        for (last, seen) in book.log.iter().enumerate() {
            while book.log.get(first).is_some_and(|early| early.at + window <= seen.at) {
                first += 1;
            }
            most = most.max(last + 1 - first);
        }
        most
    }

    pub fn peak(&self) -> usize {
        self.peak.load(Ordering::Relaxed)
    }

    pub fn reset(&self) {
        *lock(&self.book) = Book::default();
        self.peak.store(self.open.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_job_by_route_and_at_once() {
        let counters = Counters::new(Instant::now());
        let first = counters.arrive(Kind::Status, "a");
        let second = counters.arrive(Kind::Full, "a");
        drop((first, second));
        drop(counters.arrive(Kind::Status, "b"));
        drop(counters.arrive(Kind::List, ""));
        assert_eq!(counters.requests(Some("a"), None), 2);
        assert_eq!(counters.requests(Some("a"), Some(Kind::Full)), 1);
        assert_eq!(counters.requests(None, Some(Kind::Status)), 2);
        assert_eq!(counters.requests(None, None), 4);
        assert_eq!(counters.by_kind(), "status=2 full=1 list=1");
        assert_eq!(counters.requests(Some("c"), None), 0);
        assert_eq!(counters.peak(), 2);
        assert_eq!(counters.busiest(Duration::from_hours(1)), 4);
        assert_eq!(counters.log().len(), 4);
        counters.reset();
        assert_eq!((counters.requests(None, None), counters.peak()), (0, 0));
        assert_eq!(counters.by_kind(), "");
    }
}
