//! What asked for polls of late. The next write of a watch takes its hints into its history, so a hint costs no write.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::SourceState;
use crate::{
    model::status_answer::Hint,
    util::{clock, units::Time},
};

/// The most hints that a source remembers, for all of its jobs.
const MAX_HINTS: usize = 1024;

/// The hints of one source that no record has yet.
#[derive(Debug, Default)]
pub(super) struct Hints(Mutex<VecDeque<(u64, Time, Hint)>>);

impl Hints {
    fn lock(&self) -> MutexGuard<'_, VecDeque<(u64, Time, Hint)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a hint. Of one kind for one watch it remembers the last.
    fn note(&self, number: u64, hint: Hint, now: Time) {
        let mut hints = self.lock();
        hints.retain(|(known, _, kind)| (*known, *kind) != (number, hint));
        if hints.len() == MAX_HINTS {
            hints.pop_front();
        }
        hints.push_back((number, now, hint));
    }

    /// Returns the hints for a watch, oldest first.
    fn of(&self, number: u64) -> Vec<(Time, Hint)> {
        let hints = self.lock();
        hints.iter().filter(|(known, ..)| *known == number).map(|(_, at, hint)| (*at, *hint)).collect()
    }

    /// Removes the hints for a watch and returns them.
    pub(super) fn take(&self, number: u64) -> Vec<(Time, Hint)> {
        let mut taken = Vec::new();
        self.lock().retain(|(known, at, hint)| {
            let is_its = *known == number;
            taken.extend(is_its.then_some((*at, *hint)));
            !is_its
        });
        taken
    }

    /// Takes over the hints of the previous state of the same source.
    pub(super) fn inherit(&self, before: &Self) {
        *self.lock() = std::mem::take(&mut *before.lock());
    }
}

impl SourceState {
    /// Remembers what asked for a poll.
    pub(super) fn note_hint(&self, number: u64, hint: Hint) {
        self.hints.note(number, hint, clock::now());
    }

    /// Returns what asked for polls of a watch since its record was written last.
    #[must_use]
    pub fn hints(&self, number: u64) -> Vec<(Time, Hint)> {
        self.hints.of(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_are_bounded_and_taken_once() {
        let hints = Hints::default();
        for number in 0..2000 {
            hints.note(number, Hint::Hook, Time(1));
        }
        assert_eq!(hints.of(975), []);
        assert_eq!(hints.lock().len(), MAX_HINTS);
        for at in 2..50 {
            hints.note(1999, Hint::Hook, Time(at));
            hints.note(1999, Hint::Caller, Time(at));
        }
        assert_eq!(hints.take(1999), [(Time(49), Hint::Hook), (Time(49), Hint::Caller)]);
        assert_eq!(hints.take(1999), []);
        assert_eq!(hints.lock().len(), MAX_HINTS - 2);
    }
}
