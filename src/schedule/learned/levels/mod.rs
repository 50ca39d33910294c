//! The queue of due polls when the budget does not suffice: jobs whose results have been waiting
//! longest come first, in levels of a factor of two. Within the budget no job waits, and each is
//! polled when it is due.

mod heap;
mod lists;

use std::ops::Range;

use super::{
    bins::within,
    index::{Index, NONE},
};

/// The number of levels by wait. The last is reached at a wait of 2³¹ θ.
pub const LEVELS: u8 = 32;

/// The level of polls that somebody asked for, beside the levels by wait.
pub const ASKED: u8 = LEVELS;

/// Returns the level of a job whose result has been waiting for `waiting` seconds on average:
/// ⌊log₂(A / θ)⌋, at least zero.
#[must_use]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped before")]
pub fn level(waiting: f64, theta: f64) -> u8 {
    within((waiting / theta).log2(), 0.0, f64::from(LEVELS - 1)) as u8
}

/// Returns the wait in seconds at which a job leaves a level for the next: its poll is due there
/// with this θ.
#[must_use]
pub fn leaves(level: u8, theta: f64) -> f64 {
    theta * 2.0_f64.powi(i32::from(level.min(LEVELS)) + 1)
}

/// The standing of a watch, as its owner says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The level on which the watch waits for the budget, or `None` before it is due.
    pub level: Option<u8>,
    /// When to ask the owner again: at the due time, at a promotion, or before to reconsider. In
    /// ticks.
    pub until: u64,
}

/// Watches that wait for their time or for the budget. The owner chooses the length of a tick.
///
/// Each watch has one record of 32 bytes. The record is in a heap by time and, once the watch is
/// ready, in the list of its level; an index finds it by number. All together stay below 64 bytes a
/// watch.
#[derive(Clone, Debug)]
pub struct LevelQueue {
    slots: Vec<Slot>,
    heap: Vec<u32>,
    index: Index,
    lists: [List; LISTS],
    free: u32,
    ready: usize,
}

/// The first and the last watch of a level.
#[derive(Clone, Copy, Debug)]
struct List {
    first: u32,
    last: u32,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    number: u64,
    until: u64,
    heap: u32,
    before: u32,
    after: u32,
    level: u8,
}

const NO_LEVEL: u8 = u8::MAX;

/// One for each level.
const LISTS: usize = ASKED as usize + 1;

impl Default for LevelQueue {
    fn default() -> Self {
        let lists = [List { first: NONE, last: NONE }; LISTS];
        Self { slots: Vec::new(), heap: Vec::new(), index: Index::default(), lists, free: NONE, ready: 0 }
    }
}

impl LevelQueue {
    /// Adds or moves a watch. A watch goes behind the others on its level, but keeps its place if
    /// it is there already.
    pub fn put(&mut self, number: u64, standing: Standing) {
        let at = self.index.find(number, number_in(&self.slots)).unwrap_or_else(|| self.insert(number));
        self.stand(at, standing);
    }

    /// Removes a watch. Returns `false` if there is none.
    pub fn remove(&mut self, number: u64) -> bool {
        let Some(at) = self.index.find(number, number_in(&self.slots)) else { return false };
        self.unlist(at);
        self.leave_heap(self.slot(at).heap);
        self.index.remove(number, number_in(&self.slots));
        self.slots[at as usize].after = self.free;
        self.free = at;
        true
    }

    /// Returns when [`LevelQueue::advance`] has something to do next.
    #[must_use]
    pub fn next_time(&self) -> Option<u64> {
        self.heap.first().map(|at| self.slot(*at).until)
    }

    /// Asks the owner for the standing of up to `most` watches whose timer has fired. Returns
    /// whether any are left.
    pub fn advance(&mut self, now: u64, most: usize, mut standing: impl FnMut(u64) -> Standing) -> bool {
        for _ in 0..most {
            let Some(at) = self.heap.first().copied().filter(|at| self.slot(*at).until <= now) else {
                return false;
            };
            let said = standing(self.slot(at).number);
            // Whatever the owner says, each round advances.
            self.stand(at, Standing { until: said.until.max(now.saturating_add(1)), ..said });
        }
        self.next_time().is_some_and(|next| next <= now)
    }

    /// Takes the first watch on the highest of some levels, with its level.
    pub fn pop(&mut self, levels: Range<u8>) -> Option<(u64, u8)> {
        let first = |level: u8| self.lists.get(usize::from(level)).map_or(NONE, |list| list.first);
        let level = levels.rev().find(|level| first(*level) != NONE)?;
        let number = self.slot(first(level)).number;
        self.remove(number);
        Some((number, level))
    }

    /// Returns the standing of a watch.
    #[must_use]
    pub fn standing(&self, number: u64) -> Option<Standing> {
        let slot = self.slot(self.index.find(number, number_in(&self.slots))?);
        Some(Standing { level: (slot.level != NO_LEVEL).then_some(slot.level), until: slot.until })
    }

    /// Returns the number of watches that wait for the budget.
    #[must_use]
    pub fn ready(&self) -> usize {
        self.ready
    }

    /// Returns the number of watches.
    #[must_use]
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Returns whether the queue is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// Returns the memory in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.slots.capacity() * size_of::<Slot>()
            + self.heap.capacity() * size_of::<u32>()
            + self.index.bytes()
    }

    fn slot(&self, at: u32) -> Slot {
        self.slots[at as usize]
    }

    #[expect(clippy::cast_possible_truncation, reason = "no machine holds four thousand million watches")]
    fn insert(&mut self, number: u64) -> u32 {
        let heap = self.heap.len() as u32;
        let slot = Slot { number, until: u64::MAX, heap, before: NONE, after: NONE, level: NO_LEVEL };
        let at = match self.free {
            NONE => {
                reserve(&mut self.slots);
                self.slots.push(slot);
                (self.slots.len() - 1) as u32
            }
            free => {
                self.free = self.slot(free).after;
                self.slots[free as usize] = slot;
                free
            }
        };
        reserve(&mut self.heap);
        self.heap.push(at);
        self.index.insert(at, number_in(&self.slots));
        at
    }

    fn stand(&mut self, at: u32, standing: Standing) {
        let level = standing.level.map_or(NO_LEVEL, |level| level.min(ASKED));
        if level != self.slot(at).level {
            self.unlist(at);
            self.enlist(at, level);
        }
        self.slots[at as usize].until = standing.until;
        let place = self.slot(at).heap;
        self.rise(place);
        self.sink(self.slot(at).heap);
    }
}

fn number_in(slots: &[Slot]) -> impl Fn(u32) -> u64 {
    |at| slots[at as usize].number
}

/// Makes room for one more, a fifth at a time. Doubling would leave up to half of it unused.
fn reserve<T>(values: &mut Vec<T>) {
    if values.len() == values.capacity() {
        values.reserve_exact((values.len() / 5).max(16));
    }
}
