//! The lists of a source: discovers jobs, finds those that nobody watched, and answers polls.
//!
//! Every page is requested when the schedule grants it: within the budget, and not while the source
//! is paused. An item is a hint: what it shows is registered and polled like any other job, and what
//! it says of an open watch moves the next poll. No end is told by a list.

mod discover;
mod evidence;
mod order;
mod reconcile;
mod round;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Mutex as FairMutex, Notify},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

pub use self::reconcile::{Reconciliation, Request as ReconcileRequest};
use super::{SourceState, failure::list_sign};
use crate::{
    model::job::JobId,
    schedule::ListUse,
    store::{JobKnowledge, Registered, Registration, StoreError},
    upstream::{Failure, ListFilter, ListPage, ListProfile, ListReading, ListedJob, SourceKind},
    util::{clock, units::Time},
};

/// The pause before the task of a source's lists starts again after a panic.
const AGAIN: Duration = Duration::from_secs(1);

/// A larger page costs its source more than a hundred polls.
const HEAVY: u64 = 1 << 20;

/// The age at which a reading that answers polls begins again with the first page.
const STALE: Duration = Duration::from_secs(5);

/// What was read of the lists of a source since the start of its task.
#[derive(Clone, Debug, Default)]
pub struct ListStats {
    /// Pages that were read.
    pub pages: u64,
    /// Jobs that were discovered or recovered.
    pub discovered: u64,
    /// Polls that were not sent, because a page answered them.
    pub answered: u64,
    /// When the last page was read.
    pub last_page_at: Option<Time>,
    /// The jobs on it.
    pub last_page_jobs: usize,
    /// Why the last page could not be read. Unset once one was.
    pub last_error: Option<String>,
    /// Why the last round of the discovery ended early. Unset once one did not.
    pub discovery_error: Option<String>,
}

/// The readings of a source's lists.
#[derive(Debug, Default)]
pub struct Lists {
    /// Notified when the schedule grants the page that was asked for.
    granted: Notify,
    /// Held by the reader that asks for a page, so that one is in flight at a time.
    reader: FairMutex<()>,
    stats: Mutex<ListStats>,
    reconciliation: Mutex<Option<Reconciliation>>,
    reconcile: Notify,
    polls: FairMutex<PollReading>,
}

/// The reading that answers polls.
#[derive(Debug, Default)]
struct PollReading {
    kind: usize,
    begun: Option<Instant>,
    reading: Option<ListReading>,
}

impl Lists {
    /// Returns what was read so far.
    #[must_use]
    pub fn stats(&self) -> ListStats {
        self.lock_stats().clone()
    }

    fn lock_stats(&self) -> MutexGuard<'_, ListStats> {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes the page that the schedule granted to the reader that asked for it.
    pub(super) fn grant(&self) {
        self.granted.notify_one();
    }

    /// Takes over what the lists of the same source said before.
    pub(super) fn inherit(&self, before: &Self) {
        // The discovery begins again, and will tell whether it can read.
        *self.lock_stats() = ListStats { discovery_error: None, ..before.stats() };
        self.inherit_reconciliation(before);
    }
}

/// Reads the lists of a source until it is stopped. A panic costs the present reading alone.
pub(super) async fn run(state: Arc<SourceState>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let (state, until) = (Arc::clone(&state), stop.clone());
        let metrics = Arc::clone(&state.metrics);
        let work = tokio::spawn(async move {
            let both = async { tokio::join!(discover::run(&state), reconcile::run(&state)) };
            until.run_until_cancelled(both).await;
        });
        if work.await.is_err_and(|error| error.is_panic()) {
            metrics.panics.inc();
            tokio::select! {
                () = tokio::time::sleep(AGAIN) => {}
                () = stop.cancelled() => {}
            }
        }
    }
}

/// Returns a kind and its list, if it has one that can be requested.
///
/// # Errors
/// A message that names the keys.
pub(super) fn list_of<'a>(
    state: &'a SourceState,
    kind: Option<&str>,
) -> Result<(&'a SourceKind, &'a ListProfile), String> {
    let source = &state.source;
    let Some(found) = source.kind(kind) else {
        let kind = kind.unwrap_or_default();
        return Err(format!("the source `{}` has no kind `{kind}`", source.name));
    };
    let whose = || match found.name() {
        Some(kind) => format!("the kind `{kind}` of the source `{}`", source.name),
        None => format!("the source `{}`", source.name),
    };
    let Some(list) = found.profile.list.as_deref() else {
        return Err(format!("{} has no list; list_path, list_at and list_id_at describe one", whose()));
    };
    let missing = found.profile.missing_list_vars().chain(found.profile.wanted_vars()).next();
    match missing {
        Some(name) => Err(format!("the list of {} needs the variable `{name}`; set it in vars", whose())),
        None => Ok((found, list)),
    }
}

/// Returns the place of a kind among those of the source.
fn place_of(state: &SourceState, kind: &SourceKind) -> usize {
    state.source.kinds().iter().position(|other| other.name() == kind.name()).unwrap_or_default()
}

/// Requests the next page of a reading, once the schedule grants it. What it says of open watches is
/// recorded.
async fn next_page(
    state: &SourceState,
    (kind, list): (&SourceKind, &ListProfile),
    reading: &mut ListReading,
) -> Result<ListPage, Failure> {
    let rests_until = state.schedule().list_limited_until(place_of(state, kind));
    if let Some(until) = rests_until {
        tokio::time::sleep_until(until).await;
    }
    let _one = state.lists.reader.lock().await;
    state.schedule().ask_for_list();
    state.wake();
    state.lists.granted.notified().await;
    let (page, sent) = request(state, (kind, list), reading, ListUse::Asked).await?;
    evidence::apply(state, kind, &page, sent).await;
    Ok(page)
}

/// Requests a page that the schedule granted. Returns it with the time of its request, on the
/// steady clock.
async fn request(
    state: &SourceState,
    (kind, list): (&SourceKind, &ListProfile),
    reading: &mut ListReading,
    list_use: ListUse,
) -> Result<(ListPage, Time), Failure> {
    let (sent, steady) = (Instant::now(), clock::steady());
    let result = reading.next(&state.source, kind, list).await;
    let (now, name) = (Instant::now(), state.source.name.as_str());
    let label = result.as_ref().map_or_else(Failure::label, |_| "read");
    state.metrics.lists.with_label_values(&[name, label]).inc();
    let place = place_of(state, kind);
    let mut schedule = state.schedule();
    let before = schedule.state();
    schedule.list_done(list_use);
    schedule.pay(state.source.take_unpaid(), now);
    match result {
        Ok(page) => {
            schedule.list_is_well(place, sent, now);
            let after = schedule.state();
            drop(schedule);
            state.log_recovery(before, after);
            let odd = (page.odd > 0).then(|| format!("{} items of the list have no id of a job", page.odd));
            if let Some(error) = &odd {
                tracing::debug!(source = name, error, "page of the list read");
            }
            let mut stats = state.lists.lock_stats();
            stats.pages += 1;
            (stats.last_page_at, stats.last_page_jobs) = (Some(clock::now()), page.jobs.len());
            stats.last_error = odd;
            Ok((page, steady))
        }
        Err(failure) => {
            let pause = schedule.list_failed(place, sent, list_sign(&failure), now, rand::random());
            let after = schedule.state();
            drop(schedule);
            let (kind, error) = (kind.name(), failure.to_string());
            if pause.is_some() && before != after {
                tracing::warn!(source = name, kind, error, "list not read; the source is paused");
            } else {
                tracing::debug!(source = name, kind, error, "list not read");
            }
            state.set_last_error(match kind {
                Some(kind) => format!("list of `{kind}`: {error}"),
                None => format!("list: {error}"),
            });
            state.lists.lock_stats().last_error = Some(match kind {
                Some(kind) => format!("`{kind}`: {error}"),
                None => error,
            });
            Err(failure)
        }
    }
}

/// Requests a page that answers polls which are due.
pub(super) async fn answer_polls(state: &SourceState, at: usize) {
    let list_use = ListUse::Polls(at);
    let mut polls = state.lists.polls.lock().await;
    let kind = state.source.kinds().get(at).filter(|kind| kind.profile.list.is_some());
    let Some((kind, list)) = kind.and_then(|kind| list_of(state, kind.name()).ok()) else {
        let mut schedule = state.schedule();
        schedule.list_done(list_use);
        return schedule.list_answered(at, 0, Instant::now());
    };
    let is_stale = polls.begun.is_none_or(|begun| begun.elapsed() > STALE) || polls.kind != at;
    let begun = polls.reading.take().filter(|reading| !is_stale && reading.has_next());
    let mut reading = if let Some(reading) = begun {
        reading
    } else {
        let Ok(address) = state.source.list_address(list, &ListFilter::new()) else {
            let mut schedule = state.schedule();
            schedule.list_done(list_use);
            return schedule.list_answered(at, 0, Instant::now());
        };
        (polls.kind, polls.begun) = (at, Some(Instant::now()));
        ListReading::new(address)
    };
    let mut is_heavy = false;
    let answered = match request(state, (kind, list), &mut reading, list_use).await {
        Ok((page, sent)) => {
            let answered = evidence::apply(state, kind, &page, sent).await;
            // A page that answers nothing is the end of what the list can tell now.
            polls.reading = (answered > 0).then_some(reading);
            is_heavy = page.bytes > HEAVY;
            answered
        }
        // It is logged and kept where it happened.
        Err(_) => 0,
    };
    let mut schedule = state.schedule();
    schedule.list_answered(at, answered, Instant::now());
    if is_heavy {
        schedule.list_is_heavy(at, Instant::now());
    }
    drop(schedule);
    state.wake();
}

/// Returns what is known of these jobs, in their order.
async fn knowledge(
    state: &SourceState,
    kind: &SourceKind,
    jobs: impl Iterator<Item = &JobId>,
) -> Result<Vec<JobKnowledge>, StoreError> {
    state.store.known(&state.source.name, state.source.recorded(kind), jobs.cloned().collect()).await
}

/// Registers jobs that nobody watches, in one durable commit. Returns how many are watched now that
/// were not before.
async fn register(state: &SourceState, kind: &SourceKind, jobs: &[&ListedJob]) -> Result<u64, StoreError> {
    if jobs.is_empty() {
        return Ok(0);
    }
    state.store.check_space()?;
    let discover = state.source.config.discover.as_ref();
    let kind = state.source.recorded(kind);
    let labels = discover.map(|discover| discover.labels.clone()).unwrap_or_default();
    let registration = |job: &&ListedJob| Registration {
        labels: labels.clone(),
        kind: kind.clone(),
        only_new: true,
        ..Registration::new(&state.source.name, job.id.clone())
    };
    let registered = state.store.register(jobs.iter().map(registration).collect(), clock::now()).await?;
    let new = registered.iter().filter(|registered| matches!(registered, Registered::New(_))).count() as u64;
    state.lists.lock_stats().discovered += new;
    state.metrics.discovered.with_label_values(&[state.source.name.as_str()]).inc_by(new);
    Ok(new)
}
