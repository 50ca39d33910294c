//! A group of watches that makes one event when all of it has ended.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{StoredJob, is_default};
use crate::{
    model::{
        group::{GroupName, MemberEnd},
        job::{JobId, Kind},
    },
    util::units::Time,
};

/// A group of watches. It counts its members, which are records of their own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Its number, given once and never again; it is the key, not part of the record.
    #[serde(skip)]
    pub number: u64,
    /// Its name.
    pub name: GroupName,
    /// When a watch first named it.
    pub created_at: Time,
    /// When a caller closed it. Unset: it may grow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_at: Option<Time>,
    /// The id of its event, fixed when it was closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_id: Option<String>,
    /// Members that have not ended.
    #[serde(default, skip_serializing_if = "is_default")]
    pub open: u64,
    /// Members that ended, by how.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counts: BTreeMap<MemberEnd, u64>,
    /// Grows with every change of a member, so that a list which was read before one is not taken for the last.
    #[serde(default, skip_serializing_if = "is_default")]
    pub revision: u64,
    /// The number of its event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<u64>,
    /// When its event was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
}

impl Group {
    /// Returns a group without members.
    pub(in crate::store) fn new(number: u64, name: GroupName, now: Time) -> Self {
        Self {
            number,
            name,
            created_at: now,
            closed_at: None,
            event_id: None,
            open: 0,
            counts: BTreeMap::new(),
            revision: 0,
            event: None,
            finished_at: None,
        }
    }

    /// Returns how many members it has.
    #[must_use]
    pub fn members(&self) -> u64 {
        self.open + self.counts.values().sum::<u64>()
    }

    /// Returns whether its event is to be made: it is closed, and every member has ended.
    #[must_use]
    pub const fn is_due(&self) -> bool {
        self.closed_at.is_some() && self.open == 0 && self.event.is_none()
    }

    /// Counts a member whose end changed; `None` stands for one that is open. `old` is its record before, unless it is new.
    pub(in crate::store) fn count(&mut self, old: Option<&Member>, new: Option<MemberEnd>) {
        match old.map(|member| member.end) {
            None => {}
            Some(None) => self.open = self.open.saturating_sub(1),
            Some(Some(end)) => {
                let left = self.counts.get(&end).copied().unwrap_or_default().saturating_sub(1);
                match left {
                    0 => drop(self.counts.remove(&end)),
                    left => drop(self.counts.insert(end, left)),
                }
            }
        }
        match new {
            None => self.open += 1,
            Some(end) => *self.counts.entry(end).or_default() += 1,
        }
        self.revision += 1;
    }
}

/// A member of a group. It stays when retention drops its watch, because the event of the group tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The source's name.
    pub source: String,
    /// The job.
    pub job_id: JobId,
    /// The kind of the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// How it ended. Unset while its job is watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<MemberEnd>,
    /// The id of the event of its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_id: Option<String>,
}

/// What a watch knows of its group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupRef {
    /// The number of the group.
    pub number: u64,
    /// Its name.
    pub name: GroupName,
}

/// The end of a group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupEnd {
    /// The id of its event.
    pub event_id: String,
    /// When the last member had ended.
    pub finished_at: Time,
    /// The stored counts and jobs.
    pub job: StoredJob,
}
