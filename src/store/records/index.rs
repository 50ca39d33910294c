//! The index entries of records. Each follows from its record, so that they cannot disagree.

use crate::{
    model::{delivery::DeliveryState, job::JobId},
    store::{Delivery, Watch, WatchStage},
    util::units::Time,
};

/// A job: the name of its source and its id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::store) struct JobKey {
    pub(in crate::store) source: String,
    pub(in crate::store) job_id: JobId,
}

impl JobKey {
    pub(in crate::store) fn new(source: &str, job_id: &JobId) -> Self {
        Self { source: source.to_owned(), job_id: job_id.clone() }
    }

    pub(in crate::store) fn of(watch: &Watch) -> Self {
        Self::new(&watch.source, &watch.job_id)
    }
}

/// What is known of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum JobEntry {
    /// The number of its watch.
    Watch(u64),
    /// Retention dropped its watch at this time: its tombstone.
    Dropped(Time),
}

/// The entries that lead to a watch beside the one of its job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::store) struct WatchEntries {
    /// Its source polls or fetches it.
    pub(in crate::store) is_open: bool,
    /// Retention counts from here.
    pub(in crate::store) closed_at: Option<Time>,
}

impl WatchEntries {
    pub(in crate::store) fn of(watch: &Watch) -> Self {
        Self { is_open: watch.stage != WatchStage::Finished, closed_at: watch.closed_at }
    }
}

/// The entry that leads to a pending delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct Pending {
    pub(in crate::store) due: Time,
    pub(in crate::store) sink: String,
}

/// The entry of a delivery; `None` when it is settled.
pub(in crate::store) fn pending_of(delivery: &Delivery) -> Option<Pending> {
    let due = delivery.next_attempt_at;
    (delivery.state == DeliveryState::Pending).then(|| Pending { due, sink: delivery.sink.clone() })
}
