//! Finds the slot of a watch by its number.

/// No slot.
pub(in crate::schedule) const NONE: u32 = u32::MAX;

/// The slots by the number of their watch: open addressing with linear probing, at most three
/// quarters full. The numbers themselves are in the slots: `number` tells that of a slot.
#[derive(Clone, Debug, Default)]
pub(in crate::schedule) struct Index {
    cells: Vec<u32>,
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

    fn cell_of(&self, wanted: u64, number: impl Fn(u32) -> u64) -> Option<usize> {
        if self.cells.is_empty() {
            return None;
        }
        let mut cell = self.home(wanted);
        while self.cells[cell] != NONE {
            if number(self.cells[cell]) == wanted {
                return Some(cell);
            }
            cell = self.after(cell);
        }
        None
    }

    /// Returns the memory in bytes.
    pub(in crate::schedule) fn bytes(&self) -> usize {
        self.cells.capacity() * size_of::<u32>()
    }

    pub(in crate::schedule) fn find(&self, wanted: u64, number: impl Fn(u32) -> u64) -> Option<u32> {
        self.cell_of(wanted, number).map(|cell| self.cells[cell])
    }

    /// Adds a slot whose number is in no other.
    pub(in crate::schedule) fn insert(&mut self, at: u32, number: impl Fn(u32) -> u64) {
        if self.used * 4 >= self.cells.len() * 3 {
            let old = std::mem::take(&mut self.cells);
            self.cells = vec![NONE; (old.len() * 3 / 2).max(16)];
            for slot in old.into_iter().filter(|slot| *slot != NONE) {
                self.fill(slot, number(slot));
            }
        }
        self.fill(at, number(at));
        self.used += 1;
    }

    fn fill(&mut self, at: u32, number: u64) {
        let mut cell = self.home(number);
        while self.cells[cell] != NONE {
            cell = self.after(cell);
        }
        self.cells[cell] = at;
    }

    /// Empties a cell, and moves the cells behind it forward that would no longer be found.
    pub(in crate::schedule) fn remove(&mut self, wanted: u64, number: impl Fn(u32) -> u64) {
        let Some(mut hole) = self.cell_of(wanted, &number) else { return };
        let mut cell = self.after(hole);
        while self.cells[cell] != NONE {
            let home = self.home(number(self.cells[cell]));
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
