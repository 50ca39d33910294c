//! Finds the slot of a watch by its number.

use super::{NONE, Slot};

/// The slots by the number of their watch: open addressing with linear probing, at most three
/// quarters full. The numbers themselves are in the slots.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    pub(super) cells: Vec<u32>,
    used: usize,
}

impl Index {
    fn home(&self, number: u64) -> usize {
        // Fibonacci hashing (Knuth 6.4): numbers in a row spread evenly.
        let mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        usize::try_from((mixed * self.cells.len() as u64) >> 32).unwrap_or_default()
    }

    fn after(&self, cell: usize) -> usize {
        if cell + 1 == self.cells.len() { 0 } else { cell + 1 }
    }

    fn cell_of(&self, number: u64, slots: &[Slot]) -> Option<usize> {
        if self.cells.is_empty() {
            return None;
        }
        let mut cell = self.home(number);
        while self.cells[cell] != NONE {
            if slots[self.cells[cell] as usize].number == number {
                return Some(cell);
            }
            cell = self.after(cell);
        }
        None
    }

    pub(super) fn find(&self, number: u64, slots: &[Slot]) -> Option<u32> {
        self.cell_of(number, slots).map(|cell| self.cells[cell])
    }

    pub(super) fn insert(&mut self, at: u32, slots: &[Slot]) {
        if self.used * 4 >= self.cells.len() * 3 {
            let old = std::mem::take(&mut self.cells);
            self.cells = vec![NONE; (old.len() * 3 / 2).max(16)];
            for slot in old.into_iter().filter(|slot| *slot != NONE) {
                self.fill(slot, slots);
            }
        }
        self.fill(at, slots);
        self.used += 1;
    }

    fn fill(&mut self, at: u32, slots: &[Slot]) {
        let mut cell = self.home(slots[at as usize].number);
        while self.cells[cell] != NONE {
            cell = self.after(cell);
        }
        self.cells[cell] = at;
    }

    /// Empties a cell, and moves the cells behind it forward that would no longer be found.
    pub(super) fn remove(&mut self, number: u64, slots: &[Slot]) {
        let Some(mut hole) = self.cell_of(number, slots) else { return };
        let mut cell = self.after(hole);
        while self.cells[cell] != NONE {
            let home = self.home(slots[self.cells[cell] as usize].number);
            // Whether the hole lies between the home of a cell and the cell, around the end.
            let size = self.cells.len();
            if (cell + size - home) % size >= (cell + size - hole) % size {
                self.cells[hole] = self.cells[cell];
                hole = cell;
            }
            cell = self.after(cell);
        }
        self.cells[hole] = NONE;
        self.used -= 1;
    }
}
