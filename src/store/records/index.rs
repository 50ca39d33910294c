//! The index entries of records. Each follows from its record, so that they cannot disagree.

use crate::{
    model::{
        delivery::DeliveryState,
        group::MemberEnd,
        job::{JobId, Kind, Phase},
    },
    store::{Delivery, Group, Watch, WatchStage},
    util::units::Time,
};

/// A job: the name of its source, its id, and its kind unless that is the default one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::store) struct JobKey {
    pub(in crate::store) source: String,
    pub(in crate::store) job_id: JobId,
    pub(in crate::store) kind: Option<String>,
}

impl JobKey {
    pub(in crate::store) fn new(source: &str, job_id: &JobId, kind: Option<&Kind>) -> Self {
        let kind = kind.and_then(Kind::beside_id).map(str::to_owned);
        Self { source: source.to_owned(), job_id: job_id.clone(), kind }
    }

    pub(in crate::store) fn of(watch: &Watch) -> Self {
        Self::new(&watch.source, &watch.job_id, watch.kind.as_ref())
    }
}

/// The list of a source: the name of the source, and what tells its lists apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::store) struct ListKey {
    pub(in crate::store) source: String,
    pub(in crate::store) list: String,
}

/// What is known of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum JobEntry {
    /// The number of its watch.
    Watch(u64),
    /// Retention dropped its watch at this time: its tombstone.
    Dropped(Time),
}

/// The entries that lead to a watch beside the one of its job, and what its group knows of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::store) struct WatchEntries {
    /// What it counts as: its source and phase. `None` without a watch.
    pub(in crate::store) counted: Option<(String, Phase)>,
    /// Its source polls or fetches it.
    pub(in crate::store) is_open: bool,
    /// Retention counts from here.
    pub(in crate::store) closed_at: Option<Time>,
    /// What its group knows of it.
    pub(in crate::store) membership: Option<Membership>,
}

/// A watch as a member of its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct Membership {
    /// The number of the group.
    pub(in crate::store) group: u64,
    pub(in crate::store) job: JobKey,
    pub(in crate::store) kind: Option<Kind>,
    /// How it ended, with the id of the event. `None` while its job is watched.
    pub(in crate::store) end: Option<(MemberEnd, String)>,
}

impl WatchEntries {
    pub(in crate::store) fn of(watch: &Watch) -> Self {
        let is_open = watch.stage != WatchStage::Finished;
        let membership = watch.group.as_ref().map(|group| Membership {
            group: group.number,
            job: JobKey::of(watch),
            kind: watch.kind.clone(),
            end: watch
                .completion
                .as_ref()
                .filter(|_| !is_open)
                .map(|completion| (MemberEnd::Job(completion.outcome), completion.event_id.clone())),
        });
        Self {
            counted: Some((watch.source.clone(), watch.phase())),
            is_open,
            closed_at: watch.closed_at,
            membership,
        }
    }
}

/// Returns the entry that leads to a group whose event is to be made.
pub(super) fn due_entry(group: Option<&Group>) -> Option<()> {
    group.filter(|group| group.is_due()).map(|_| ())
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

/// Returns the sink at which a delivery is a dead letter; `None` when it is none.
pub(super) fn dead_at(delivery: &Delivery) -> Option<String> {
    (delivery.state == DeliveryState::Dead).then(|| delivery.sink.clone())
}
