//! Who is looked at first when the budget does not suffice: those whose results have been waiting longest, in steps of
//! a factor of two. Within the budget nobody waits, and all are looked at when they are due.

mod heap;
mod index;
mod lists;

use self::index::Index;
use super::bins::within;

/// How many levels there are: the last is reached at a waiting of 2³¹ θ.
pub const LEVELS: u8 = 32;

/// The level of a job whose result has been waiting for `waiting` seconds in the mean: ⌊log₂(A / θ)⌋, at least zero.
#[must_use]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped before")]
pub fn level(waiting: f64, theta: f64) -> u8 {
    within((waiting / theta).log2(), 0.0, f64::from(LEVELS - 1)) as u8
}

/// The waiting in seconds at which a job leaves a level for the next: there its look is due with this θ.
#[must_use]
pub fn leaves(level: u8, theta: f64) -> f64 {
    theta * 2.0_f64.powi(i32::from(level.min(LEVELS)) + 1)
}

/// Where a watch stands, as its owner says when asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The level it waits on for the budget; none while it is not due.
    pub level: Option<u8>,
    /// When to ask again: at its due time, at a promotion, or before, to think again. In ticks.
    pub until: u64,
}

/// Watches that wait for their time or for the budget. Times are in ticks of whatever length the owner likes.
///
/// One record of 32 bytes for each watch is at the same time in a heap by time and, once it is ready, in the list of
/// its level; an index finds it by its number. All together stay below 64 bytes a watch.
#[derive(Clone, Debug)]
pub struct LevelQueue {
    slots: Vec<Slot>,
    heap: Vec<u32>,
    index: Index,
    lists: [List; LEVELS as usize],
    free: u32,
    ready: usize,
}

/// The first and the last of a level.
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

const NONE: u32 = u32::MAX;
const NO_LEVEL: u8 = u8::MAX;

impl Default for LevelQueue {
    fn default() -> Self {
        let lists = [List { first: NONE, last: NONE }; LEVELS as usize];
        Self { slots: Vec::new(), heap: Vec::new(), index: Index::default(), lists, free: NONE, ready: 0 }
    }
}

impl LevelQueue {
    /// Takes a watch in, or moves it. A watch on a level goes behind the others there, but keeps its place when it is on
    /// that level already.
    pub fn put(&mut self, number: u64, standing: Standing) {
        let at = self.index.find(number, &self.slots).unwrap_or_else(|| self.insert(number));
        self.stand(at, standing);
    }

    /// Forgets a watch. `false` when there is none.
    pub fn remove(&mut self, number: u64) -> bool {
        let Some(at) = self.index.find(number, &self.slots) else { return false };
        self.unlist(at);
        self.leave_heap(self.slot(at).heap);
        self.index.remove(number, &self.slots);
        self.slots[at as usize].after = self.free;
        self.free = at;
        true
    }

    /// When [`LevelQueue::advance`] has something to do next.
    #[must_use]
    pub fn next_time(&self) -> Option<u64> {
        self.heap.first().map(|at| self.slot(*at).until)
    }

    /// Asks the owner of each watch whose time has come where it stands now, `most` of them at the most. Whether there
    /// are more.
    pub fn advance(&mut self, now: u64, most: usize, mut standing: impl FnMut(u64) -> Standing) -> bool {
        for _ in 0..most {
            let Some(at) = self.heap.first().copied().filter(|at| self.slot(*at).until <= now) else {
                return false;
            };
            let said = standing(self.slot(at).number);
            // Whatever the owner says, each round gets on.
            self.stand(at, Standing { until: said.until.max(now.saturating_add(1)), ..said });
        }
        self.next_time().is_some_and(|next| next <= now)
    }

    /// Takes the watch that is first on the highest level, with that level.
    pub fn pop(&mut self) -> Option<(u64, u8)> {
        let level = (0..LEVELS).rev().find(|level| self.lists[usize::from(*level)].first != NONE)?;
        let number = self.slot(self.lists[usize::from(level)].first).number;
        self.remove(number);
        Some((number, level))
    }

    /// Where a watch stands.
    #[must_use]
    pub fn standing(&self, number: u64) -> Option<Standing> {
        let slot = self.slot(self.index.find(number, &self.slots)?);
        Some(Standing { level: (slot.level != NO_LEVEL).then_some(slot.level), until: slot.until })
    }

    /// How many watches wait for the budget.
    #[must_use]
    pub fn ready(&self) -> usize {
        self.ready
    }

    /// How many watches there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// The memory it holds in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.slots.capacity() * size_of::<Slot>()
            + (self.heap.capacity() + self.index.cells.capacity()) * size_of::<u32>()
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
        self.index.insert(at, &self.slots);
        at
    }

    fn stand(&mut self, at: u32, standing: Standing) {
        let level = standing.level.map_or(NO_LEVEL, |level| level.min(LEVELS - 1));
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

/// Makes room for one more, a fifth at a time: doubling would leave up to half of it unused.
fn reserve<T>(values: &mut Vec<T>) {
    if values.len() == values.capacity() {
        values.reserve_exact((values.len() / 5).max(16));
    }
}
