//! The lists of sources: which of their jobs are known, and how far they were read.

use serde::{Deserialize, Serialize};

use super::{
    Store, StoreError,
    records::{JobEntry, JobKey, ListKey, passed_over},
};
use crate::{
    model::job::{JobId, Kind},
    util::units::Time,
};

/// How far a list was read. It changes after every job up to there was registered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListMark {
    /// The configuration that it belongs to. Another one begins from the start.
    pub asked: String,
    /// Jobs from then on are watched.
    pub since: Time,
    /// When the newest job was created that a whole reading showed. Unset before there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub through: Option<Time>,
    /// How late jobs turned up in the list after their creation, in milliseconds.
    #[serde(default)]
    pub late_ms: u64,
    /// When the list was last read for a whole day back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deep_at: Option<Time>,
    /// Sums of the ids of jobs that were taken or passed over, newest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seen: Vec<u64>,
    /// The list shows more jobs without times than there is room for here, in no known order. New
    /// ones cannot be told from old ones.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_full: bool,
}

/// What the store knows of a job id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobKnowledge {
    /// Nothing.
    Nothing,
    /// Its watch has this number.
    Watch(u64),
    /// It was watched, and dropped after retention; or its record cannot be read.
    Dropped,
}

impl Store {
    /// Returns what is known of these jobs of a source and of one kind, in their order.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn known(
        &self,
        source: &str,
        kind: Option<Kind>,
        ids: Vec<JobId>,
    ) -> Result<Vec<JobKnowledge>, StoreError> {
        let source = source.to_owned();
        self.get(move |records| {
            let knowledge = |id: &JobId| match records.job(&JobKey::new(&source, id, kind.as_ref())) {
                Ok(None) => Ok(JobKnowledge::Nothing),
                Ok(Some(JobEntry::Watch(number))) => Ok(JobKnowledge::Watch(number)),
                Ok(Some(JobEntry::Dropped(_))) | Err(StoreError::Record(_)) => Ok(JobKnowledge::Dropped),
                Err(error) => Err(error),
            };
            ids.iter().map(knowledge).collect()
        })
        .await
    }

    /// Returns how far a list of a source was read. `None`: it was never read to its end, or the
    /// record cannot be read.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn list_mark(&self, source: &str, list: &str) -> Result<Option<ListMark>, StoreError> {
        let list = ListKey { source: source.to_owned(), list: list.to_owned() };
        self.get(move |records| passed_over(records.list_mark(&list))).await
    }

    /// Keeps how far a list of a source was read.
    ///
    /// # Errors
    /// When it could not be stored.
    pub async fn set_list_mark(&self, source: &str, list: &str, mark: ListMark) -> Result<(), StoreError> {
        let list = ListKey { source: source.to_owned(), list: list.to_owned() };
        self.write(move |txn| {
            txn.set_list_mark(list, mark);
            Ok(())
        })
        .await
    }
}
