//! The entries of open watches by their number, in one table without gaps. A box for each would
//! cost its header, and leave holes in memory that nothing else fits.

use std::collections::HashMap;

use slab::Slab;

use super::{Entry, Task};

/// The entries of open watches.
#[derive(Debug, Default)]
pub(super) struct Entries {
    places: HashMap<u64, usize>,
    table: Slab<Entry>,
    fetching: usize,
    /// The place of the entry that was chosen last.
    probed: usize,
}

impl Entries {
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    pub(super) fn get(&self, number: u64) -> Option<&Entry> {
        self.table.get(*self.places.get(&number)?)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Entry)> {
        self.places.iter().filter_map(|(number, place)| Some((*number, self.table.get(*place)?)))
    }

    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut Entry> {
        self.table.get_mut(*self.places.get(&number)?)
    }

    /// Returns the number of entries that wait for a fetch.
    pub(super) fn fetching(&self) -> usize {
        self.fetching
    }

    /// Returns the next fitting watch in turn, round and round.
    pub(super) fn in_turn(&mut self, fits: impl Fn(&Entry) -> bool) -> Option<u64> {
        let later = self.table.iter().filter(|(place, _)| *place > self.probed);
        let sooner = self.table.iter().filter(|(place, _)| *place <= self.probed);
        let (place, entry) = later.chain(sooner).find(|(_, entry)| fits(entry))?;
        self.probed = place;
        Some(entry.number)
    }

    /// Adds an entry, or replaces the one before.
    pub(super) fn insert(&mut self, number: u64, entry: Entry) {
        self.fetching += usize::from(entry.task == Task::Fetch);
        self.fetching -= usize::from(self.get(number).is_some_and(|before| before.task == Task::Fetch));
        match self.get_mut(number) {
            Some(before) => *before = entry,
            None => {
                self.places.insert(number, self.table.insert(entry));
            }
        }
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<Entry> {
        let entry = self.table.try_remove(self.places.remove(&number)?)?;
        self.fetching -= usize::from(entry.task == Task::Fetch);
        Some(entry)
    }
}
