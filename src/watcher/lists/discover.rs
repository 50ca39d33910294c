//! The discovery: reads the list at intervals, and registers what appears in it.

use std::time::Duration;

use super::{JobKnowledge, knowledge, list_of, next_page, register, round::Round};
use crate::{
    store::{ListMark, StoreError},
    upstream::{DiscoverConfig, Failure, ListReading, ListedJob, Since},
    util::clock,
    watcher::SourceState,
};

/// How often the time between two readings doubles while they fail.
const MOST_DOUBLINGS: u32 = 3;

/// A job can be created in the second of the first start, and its source may tell whole seconds.
const START_MARGIN: Duration = Duration::from_secs(5);

/// Why a round ended early. The next one begins again, so nothing is lost.
#[derive(Debug, thiserror::Error)]
enum RoundError {
    #[error("{0}")]
    Keys(String),
    #[error(transparent)]
    Source(#[from] Failure),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Discovers jobs for as long as the configuration asks for it.
pub(super) async fn run(state: &SourceState) {
    let Some(config) = &state.source.config.discover else { return };
    let default = state.source.default_kind().name().map(str::to_owned);
    let kinds: Vec<Option<String>> = match config.kinds.as_slice() {
        [] => vec![default],
        kinds => kinds.iter().cloned().map(Some).collect(),
    };
    let mut progress: Vec<Progress> = kinds.iter().map(|_| Progress::default()).collect();
    let mut failures = 0_u32;
    loop {
        let mut failed = None;
        for (kind, progress) in kinds.iter().zip(&mut progress) {
            match discover(state, config, kind.as_deref(), progress).await {
                Ok(()) => progress.was_read = true,
                Err(error) => {
                    let (source, kind, error) = (&state.source.name, kind.as_deref(), error.to_string());
                    if failures == 0 {
                        tracing::warn!(
                            source,
                            kind,
                            error,
                            "list not read to its end; the next reading begins again"
                        );
                    }
                    failed = Some(kind.map_or_else(|| error.clone(), |kind| format!("`{kind}`: {error}")));
                }
            }
        }
        failures = if failed.is_some() { failures.saturating_add(1) } else { 0 };
        state.lists.lock_stats().discovery_error = failed;
        tokio::time::sleep(config.every.0.saturating_mul(2_u32.pow(failures.min(MOST_DOUBLINGS)))).await;
    }
}

/// What one list has come to since the start.
#[derive(Debug, Default)]
struct Progress {
    was_read: bool,
    has_told_order: bool,
    has_told_full: bool,
}

/// Reads one list as far as something new can be in it.
async fn discover(
    state: &SourceState,
    config: &DiscoverConfig,
    kind: Option<&str>,
    progress: &mut Progress,
) -> Result<(), RoundError> {
    let (kind, list) = list_of(state, kind).map_err(RoundError::Keys)?;
    let (source, name) = (&state.source.name, kind.name().unwrap_or_default());
    let asked = asked(config);
    let mark = state.store.list_mark(source, name).await?.filter(|mark| mark.asked == asked);
    let mark = if let Some(mark) = mark {
        mark
    } else {
        // Kept before the first page is read, so that a restart does not move the start.
        let since = config.since.from(clock::now());
        let since = if config.since == Since::Start { since.before(START_MARGIN) } else { since };
        let mark = ListMark { asked, since, ..ListMark::default() };
        state.store.set_list_mark(source, name, mark.clone()).await?;
        mark
    };
    let mut round = Round::new(mark.clone(), list.newest_first, !progress.was_read, clock::now());
    let mut reading = ListReading::new(state.source.list_address(list, &config.filter)?);
    let mut new = 0;
    while reading.has_next() && (reading.pages() == 0 || round.goes_on()) {
        let page = next_page(state, (kind, list), &mut reading).await?;
        let candidates = round.candidates(&page.jobs);
        let known = knowledge(state, kind, candidates.iter().map(|job| &job.id)).await?;
        let mut unknown: Vec<&ListedJob> = Vec::new();
        for (job, knowledge) in candidates.into_iter().zip(known) {
            match knowledge {
                JobKnowledge::Nothing => unknown.push(job),
                JobKnowledge::Watch(_) | JobKnowledge::Dropped => round.see(&job.id),
            }
        }
        new += register(state, kind, &unknown).await?;
        for job in unknown {
            round.took(job);
        }
    }
    if round.is_unordered() && !std::mem::replace(&mut progress.has_told_order, true) {
        tracing::warn!(source, "list is not newest first; every reading goes to its end");
    }
    if new > 0 {
        tracing::debug!(source, new, pages = reading.pages(), "jobs discovered");
    }
    let after = round.finish();
    let is_full = after.is_full;
    if after != mark {
        state.store.set_list_mark(source, name, after).await?;
    }
    if is_full {
        let error = "the list shows too many jobs without a time to tell new ones from old ones, so those are \
                     not watched; list_created_at names the time";
        if !std::mem::replace(&mut progress.has_told_full, true) {
            tracing::warn!(source, error, "jobs without times not discovered");
        }
        state.lists.lock_stats().last_error = Some(error.to_owned());
    }
    Ok(())
}

/// Returns what tells one discovery from another: with another answer it begins from the start.
fn asked(config: &DiscoverConfig) -> String {
    serde_json::to_string(&(config.since, &config.filter)).unwrap_or_default()
}
