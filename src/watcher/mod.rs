//! One task a source: it asks the schedule what is due, and has it polled or fetched. Knows nothing of sinks.

pub mod source_task;
pub mod poll;
pub mod fetch;
mod failure;
mod flight;
mod metrics;
pub mod learned;
pub mod status_cache;

pub(crate) use self::{flight::Flight, source_task::Step};
pub use self::{metrics::SourceMetrics, source_task::SourceState};
