//! The watcher: one task for each source, which polls its open jobs and fetches those that
//! finished.
//!
//! Read the modules in the order of the flow. [`SourceTask`] asks the schedule for the next
//! request. [`poll`] sends a status request, and [`fetch`] streams the result of a finished job
//! into the spool; both report to [`failing`] what came of it. [`failure`] decides what a failed
//! request means for its job and for the source. [`lists`] reads the list of a source: it discovers
//! jobs, and answers polls. [`SourceState`] holds what the steps share,
//! [`learned`] saves what the schedule learned, and [`status_cache`] keeps the last answers for the
//! proxy.
//!
//! The watcher ends with the event of a job, made in the store. It knows nothing of sinks, of the
//! API or of the command line.

mod source_task;
mod source_state;
mod creations;
mod poll;
mod fetch;
mod failing;
mod failure;
mod events;
mod in_flight;
mod hints;
mod hooks;
mod lists;
mod metrics;
pub(crate) mod learned;
pub(crate) mod status_cache;

use crate::{store::Watch, upstream::JobRef};

pub(crate) use self::source_task::TaskResult;
pub use self::{
    creations::{Creations, Ticket},
    hooks::HookResult,
    lists::{ListStats, ReconcileRequest, Reconciliation},
    metrics::SourceMetrics,
    source_state::SourceState,
    source_task::SourceTask,
};

/// Returns the job of a watch, as requests name it.
fn job_of(watch: &Watch) -> JobRef<'_> {
    let kind = watch.kind.as_ref().map(|kind| kind.name.as_str());
    JobRef { id: &watch.job_id, kind, vars: &watch.vars }
}
