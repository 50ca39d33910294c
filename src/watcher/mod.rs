//! The watcher: one task for each source, which polls its open jobs and fetches those that
//! finished.
//!
//! Read the modules in the order of the flow. [`SourceTask`] asks the schedule for the next
//! request. [`poll`] sends a status request, and [`fetch`] streams the result of a finished job
//! into the spool; both report to [`failing`] what came of it. [`failure`] decides what a failed
//! request means for its job and for the source. [`SourceState`] holds what the steps share,
//! [`learned`] saves what the schedule learned, and [`status_cache`] keeps the last answers for the
//! proxy.
//!
//! The watcher ends with the event of a job, made in the store. It knows nothing of sinks, of the
//! API or of the command line.

mod source_task;
mod source_state;
mod poll;
mod fetch;
mod failing;
mod failure;
mod events;
mod in_flight;
mod metrics;
pub(crate) mod learned;
pub(crate) mod status_cache;

pub(crate) use self::source_task::TaskResult;
pub use self::{metrics::SourceMetrics, source_state::SourceState, source_task::SourceTask};
