//! The list of ready watches of each level, first come first.

use super::{LevelQueue, NO_LEVEL, NONE, Slot};

impl LevelQueue {
    pub(super) fn enlist(&mut self, at: u32, level: u8) {
        let Some(list) = self.lists.get_mut(usize::from(level)) else { return };
        let before = std::mem::replace(&mut list.last, at);
        match before {
            NONE => list.first = at,
            _ => self.slots[before as usize].after = at,
        }
        let slot = &mut self.slots[at as usize];
        (slot.level, slot.before, slot.after) = (level, before, NONE);
        self.ready += 1;
    }

    pub(super) fn unlist(&mut self, at: u32) {
        let Slot { before, after, level, .. } = self.slot(at);
        let Some(list) = self.lists.get_mut(usize::from(level)) else { return };
        match before {
            NONE => list.first = after,
            _ => self.slots[before as usize].after = after,
        }
        match after {
            NONE => list.last = before,
            _ => self.slots[after as usize].before = before,
        }
        self.slots[at as usize].level = NO_LEVEL;
        self.ready -= 1;
    }
}
