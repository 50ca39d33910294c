//! The JSON of groups.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::DeliveryBrief;
use crate::{
    model::{group::MemberEnd, job::JobId},
    store::{Group, Member},
    util::units::Time,
};

/// A group of watches.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct GroupView {
    /// The name.
    pub name: String,
    /// `open`: it may grow; `closed`: it waits for its last members; `finished`: its event was made.
    pub state: String,
    /// Whether it is closed: no new job can join it.
    pub closed: bool,
    /// The members.
    pub jobs: u64,
    /// The members whose jobs are still watched.
    pub open: u64,
    /// The members that ended, by outcome; `removed` counts those whose watch was removed before
    /// their job ended.
    pub counts: BTreeMap<String, u64>,
    /// The time at which a watch first named it.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Time,
    /// The time at which it was closed.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub closed_at: Option<Time>,
    /// The time at which its event was made.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Time>,
    /// The id of its event, fixed when it is closed; the event follows when every member has ended.
    pub event_id: Option<String>,
    /// The deliveries of its event. The list of groups leaves them out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deliveries: Option<Vec<DeliveryBrief>>,
}

impl From<Group> for GroupView {
    fn from(group: Group) -> Self {
        let state = match (group.event, group.closed_at) {
            (Some(_), _) => "finished",
            (None, Some(_)) => "closed",
            (None, None) => "open",
        };
        Self {
            state: state.to_owned(),
            closed: group.closed_at.is_some(),
            jobs: group.members(),
            open: group.open,
            counts: counts(&group),
            created_at: group.created_at,
            closed_at: group.closed_at,
            finished_at: group.finished_at,
            deliveries: None,
            name: group.name.into(),
            event_id: group.event_id,
        }
    }
}

/// Returns how many members ended, by every way in which one can.
pub(crate) fn counts(group: &Group) -> BTreeMap<String, u64> {
    let count = |end: MemberEnd| group.counts.get(&end).copied().unwrap_or_default();
    MemberEnd::ALL.into_iter().map(|end| (end.as_str().to_owned(), count(end))).collect()
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MemberView {
    /// The source's name.
    pub source: String,
    /// The job.
    pub job_id: JobId,
    /// The kind of the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The outcome of the job, or `removed`; null while the job is watched.
    #[schema(value_type = Option<String>)]
    pub outcome: Option<MemberEnd>,
    /// The id of the event of its end.
    pub event_id: Option<String>,
}

impl From<Member> for MemberView {
    fn from(member: Member) -> Self {
        let Member { source, job_id, kind, end, event_id } = member;
        Self { source, job_id, kind: kind.map(|kind| kind.name), outcome: end, event_id }
    }
}
