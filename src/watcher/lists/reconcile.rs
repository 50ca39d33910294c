//! The reconciliation: reads the list back to a time, and registers the jobs that have finished while
//! nobody watched them.

use std::{collections::HashMap, mem, sync::PoisonError, time::Duration};

use super::{
    JobKnowledge, Lists, knowledge, list_of, next_page,
    order::Order,
    register,
    round::{LONGEST, sum},
};
use crate::{
    upstream::{Failure, ListFilter, ListPage, ListProfile, ListReading, ListedJob, SourceKind},
    util::{clock, units::Time},
    watcher::SourceState,
};

/// How often a page is requested before the reconciliation fails.
const ATTEMPTS: u32 = 5;

/// The pause before the second attempt. It doubles.
const PAUSE: Duration = Duration::from_millis(500);

/// At least so many of the last jobs are remembered.
const REMEMBERED: usize = 1 << 16;

/// What a caller asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Jobs count that were created or finished since then.
    pub since: Time,
    /// Whether nothing is registered.
    pub dry_run: bool,
    /// The kinds whose lists are read. Each has a list.
    pub kinds: Vec<Option<String>>,
}

/// How far a reconciliation is.
#[derive(Clone, Debug)]
pub struct Reconciliation {
    /// What was asked for.
    pub request: Request,
    /// Jobs of the list since then.
    pub checked: u64,
    /// Those that are or were watched.
    pub known: u64,
    /// Those that go on, and that nobody watches.
    pub running: u64,
    /// Those that have finished, and that nobody watched. They are watched now, unless it is a dry
    /// run.
    pub recovered: u64,
    /// Pages that were read.
    pub pages: u64,
    /// When it began.
    pub started_at: Time,
    /// When it ended. Unset while it goes on.
    pub finished_at: Option<Time>,
    /// Why it ended early, or why the present page is requested again. What was recovered until then
    /// is watched.
    pub error: Option<String>,
}

impl Lists {
    /// Returns the last reconciliation.
    #[must_use]
    pub fn reconciliation(&self) -> Option<Reconciliation> {
        self.reconciliation.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Begins a reconciliation.
    ///
    /// # Errors
    /// The present one, while it goes on.
    pub fn begin_reconciliation(&self, request: Request) -> Result<Reconciliation, Box<Reconciliation>> {
        let mut present = self.reconciliation.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(present) = present.as_ref().filter(|present| present.finished_at.is_none()) {
            return Err(Box::new(present.clone()));
        }
        let new = Reconciliation {
            request,
            checked: 0,
            known: 0,
            running: 0,
            recovered: 0,
            pages: 0,
            started_at: clock::now(),
            finished_at: None,
            error: None,
        };
        *present = Some(new.clone());
        drop(present);
        self.reconcile.notify_one();
        Ok(new)
    }

    /// Takes over the last reconciliation. One that goes on begins again.
    pub(super) fn inherit_reconciliation(&self, before: &Self) {
        let Some(last) = before.reconciliation() else { return };
        match last.finished_at {
            None => drop(self.begin_reconciliation(last.request)),
            Some(_) => self.update(|present| *present = Some(last)),
        }
    }

    fn update<T>(&self, change: impl FnOnce(&mut Option<Reconciliation>) -> T) -> T {
        change(&mut self.reconciliation.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn count(&self, change: impl FnOnce(&mut Reconciliation)) {
        self.update(|present| present.as_mut().map(change));
    }
}

/// Reconciles whenever a caller asks for it.
pub(super) async fn run(state: &SourceState) {
    loop {
        let open = state.lists.reconciliation().filter(|present| present.finished_at.is_none());
        let Some(open) = open else {
            state.lists.reconcile.notified().await;
            continue;
        };
        let mut error = None;
        for kind in &open.request.kinds {
            error = reconcile(state, &open.request, kind.as_deref()).await.err();
            if error.is_some() {
                break;
            }
        }
        if let Some(error) = &error {
            tracing::warn!(source = state.source.name, error, "reconciliation ended early");
        }
        state.lists.count(|present| {
            (present.finished_at, present.error) = (Some(clock::now()), error);
        });
    }
}

async fn reconcile(state: &SourceState, asked: &Request, kind: Option<&str>) -> Result<(), String> {
    let (kind, list) = list_of(state, kind)?;
    let address = state.source.list_address(list, &ListFilter::new()).map_err(|error| error.to_string())?;
    let mut reading = ListReading::new(address);
    let until = asked.since.before(LONGEST);
    let mut order = Order::default();
    let mut counted = Counted::default();
    let mut is_old = false;
    while reading.has_next() && !is_old {
        let page = page(state, (kind, list), &mut reading).await.map_err(|error| error.to_string())?;
        let counts = |job: &&ListedJob| job.created_at.max(job.ended_at).is_none_or(|at| at >= asked.since);
        let jobs: Vec<&ListedJob> = page.jobs.iter().filter(counts).collect();
        let known = knowledge(state, kind, jobs.iter().map(|job| &job.id)).await;
        let known = known.map_err(|error| error.to_string())?;
        let mut ended = Vec::new();
        let (mut checked, mut running, mut recovered) = (0, 0, 0);
        for (job, knowledge) in jobs.iter().zip(&known) {
            let before = counted.note(job);
            checked += i64::from(before.is_none());
            match knowledge {
                JobKnowledge::Nothing if job.has_finished() => {
                    running -= i64::from(before == Some(false));
                    recovered += i64::from(before != Some(true));
                    ended.push(*job);
                }
                JobKnowledge::Nothing => running += i64::from(before.is_none()),
                JobKnowledge::Watch(_) | JobKnowledge::Dropped => {}
            }
        }
        if !asked.dry_run {
            let new = register(state, kind, &ended).await.map_err(|error| error.to_string())?;
            recovered = i64::try_from(new).unwrap_or(i64::MAX);
        }
        state.lists.count(|present| {
            present.pages += 1;
            present.checked = present.checked.saturating_add_signed(checked);
            present.running = present.running.saturating_add_signed(running);
            present.recovered = present.recovered.saturating_add_signed(recovered);
            present.known = present.known.saturating_add_signed(checked - running - recovered);
        });
        // Only a list in that order says by an old job that older ones follow.
        page.jobs.iter().for_each(|job| order.note(job.created_at));
        let newest = page.jobs.iter().filter_map(|job| job.created_at).max();
        let is_ordered = list.newest_first && !order.is_another() && !order.is_unclear();
        is_old = is_ordered && newest.is_some_and(|newest| newest < until);
    }
    if list.newest_first && order.is_another() {
        let source = &state.source.name;
        tracing::warn!(source, "list is not newest first; the reconciliation read it to its end");
    }
    Ok(())
}

/// The jobs of a list that were counted, each with whether it had finished: a list that moves while it
/// is read shows a job on two pages. In bounded memory, so the last ones.
#[derive(Debug, Default)]
struct Counted {
    last: HashMap<u64, bool>,
    before: HashMap<u64, bool>,
}

impl Counted {
    /// Records a job. Returns whether it had finished when it was counted before, if it was.
    fn note(&mut self, job: &ListedJob) -> Option<bool> {
        let (sum, has_finished) = (sum(&job.id), job.has_finished());
        let before = self.last.get(&sum).or_else(|| self.before.get(&sum)).copied();
        if self.last.len() >= REMEMBERED {
            self.before = mem::take(&mut self.last);
        }
        self.last.insert(sum, has_finished || before == Some(true));
        before
    }
}

/// Requests a page, again after a pause if it fails.
async fn page(
    state: &SourceState,
    of: (&SourceKind, &ListProfile),
    reading: &mut ListReading,
) -> Result<ListPage, Failure> {
    let mut attempt = 0;
    loop {
        match next_page(state, of, reading).await {
            Ok(page) => {
                state.lists.count(|present| present.error = None);
                return Ok(page);
            }
            Err(failure @ Failure::Refused(_)) => return Err(failure),
            Err(failure) if attempt + 1 == ATTEMPTS => return Err(failure),
            Err(failure) => {
                state.lists.count(|present| present.error = Some(failure.to_string()));
                tokio::time::sleep(PAUSE * 2_u32.pow(attempt)).await;
            }
        }
        attempt += 1;
    }
}
