//! The entries of open watches by their number, in one table without gaps. A box for each would
//! cost its header, and leave holes in memory that nothing else fits.

use slab::Slab;

use super::{Entry, Task, learned::index::Index};

/// The entries of open watches.
#[derive(Debug, Default)]
pub(super) struct Entries {
    index: Index,
    table: Slab<Entry>,
    fetching: usize,
    /// The place of the entry that was chosen last.
    probed: usize,
}

impl Entries {
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    fn place(&self, number: u64) -> Option<usize> {
        self.index.find(number, number_in(&self.table)).map(|place| place as usize)
    }

    pub(super) fn get(&self, number: u64) -> Option<&Entry> {
        self.table.get(self.place(number)?)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Entry)> {
        self.table.iter().map(|(_, entry)| (entry.number, entry))
    }

    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut Entry> {
        let place = self.place(number)?;
        self.table.get_mut(place)
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
    #[expect(clippy::cast_possible_truncation, reason = "no machine holds four thousand million watches")]
    pub(super) fn insert(&mut self, number: u64, entry: Entry) {
        self.fetching += usize::from(entry.task == Task::Fetch);
        self.fetching -= usize::from(self.get(number).is_some_and(|before| before.task == Task::Fetch));
        if let Some(before) = self.get_mut(number) {
            *before = entry;
        } else {
            let place = self.table.insert(entry);
            self.index.insert(place as u32, number_in(&self.table));
        }
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<Entry> {
        let place = self.place(number)?;
        self.index.remove(number, number_in(&self.table));
        let entry = self.table.try_remove(place)?;
        self.fetching -= usize::from(entry.task == Task::Fetch);
        Some(entry)
    }
}

/// Tells the number of the watch at a place that the index holds.
fn number_in(table: &Slab<Entry>) -> impl Fn(u32) -> u64 {
    |place| table[place as usize].number
}
