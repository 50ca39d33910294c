//! All records as they were at one instant, in the format of an export.

use super::records::Tables;
use crate::store::{
    StoreError,
    backend::{Pair, Snapshot},
    format::writes,
    records::{Effects, Table},
};

/// Records that are read in one turn.
const CHUNK: usize = 256;

/// The records in the order of their keys, last first.
pub(super) struct Pairs(Result<Vec<Pair>, StoreError>);

impl Pairs {
    pub(super) fn of(tables: &Tables) -> Self {
        let pairs = writes(tables.effects());
        Self(pairs.map(|pairs| {
            pairs.into_iter().rev().filter_map(|(key, value)| value.map(|value| (key, value))).collect()
        }))
    }
}

impl Snapshot for Pairs {
    fn next(&mut self) -> Result<Vec<Pair>, StoreError> {
        let pairs = self.0.as_mut().map_err(|error| error.clone())?;
        let rest = pairs.len().saturating_sub(CHUNK);
        Ok(pairs.split_off(rest).into_iter().rev().collect())
    }
}

impl Tables {
    /// The effects that make these tables out of nothing.
    fn effects(&self) -> Effects {
        fn all<K: Clone + Ord, V: Clone>(table: &std::collections::BTreeMap<K, V>) -> Table<K, V> {
            table.iter().map(|(key, value)| (key.clone(), Some(value.clone()))).collect()
        }
        Effects {
            next_number: Some(self.next_number),
            clock_mark: self.clock_mark.clone(),
            watches: all(&self.watches),
            groups: all(&self.groups),
            members: self
                .members
                .iter()
                .filter_map(|((group, job), member)| {
                    job.clone().map(|job| ((*group, job), Some(member.clone())))
                })
                .collect(),
            events: all(&self.events),
            deliveries: all(&self.deliveries),
            paused: all(&self.paused),
            notices: all(&self.notices),
            learned: all(&self.learned),
            list_marks: all(&self.list_marks),
            jobs: all(&self.jobs),
            dropped: all(&self.dropped),
            open: all(&self.open),
            closed: all(&self.closed),
            pending: all(&self.pending),
            group_names: all(&self.group_names),
            due_groups: all(&self.due_groups),
            segments: all(&self.segments),
            ..Effects::default()
        }
    }
}
