//! The heap of slots by time, with four children a node.

use super::LevelQueue;

/// The children of a node: four share a cache line.
const CHILDREN: usize = 4;

impl LevelQueue {
    fn until(&self, place: usize) -> u64 {
        self.slot(self.heap[place]).until
    }

    #[expect(clippy::cast_possible_truncation, reason = "places came from a u32")]
    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        for place in [a, b] {
            self.slots[self.heap[place] as usize].heap = place as u32;
        }
    }

    pub(super) fn rise(&mut self, place: u32) {
        let mut place = place as usize;
        while place > 0 && self.until(place) < self.until((place - 1) / CHILDREN) {
            self.swap(place, (place - 1) / CHILDREN);
            place = (place - 1) / CHILDREN;
        }
    }

    pub(super) fn sink(&mut self, place: u32) {
        let mut place = place as usize;
        loop {
            let children = CHILDREN * place + 1..(CHILDREN * place + 1 + CHILDREN).min(self.heap.len());
            let Some(least) = children.min_by_key(|child| self.until(*child)) else { return };
            if self.until(least) >= self.until(place) {
                return;
            }
            self.swap(place, least);
            place = least;
        }
    }

    pub(super) fn leave_heap(&mut self, place: u32) {
        let last = self.heap.len() - 1;
        self.swap(place as usize, last);
        self.heap.pop();
        if (place as usize) < last {
            self.rise(place);
            self.sink(place);
        }
    }
}
