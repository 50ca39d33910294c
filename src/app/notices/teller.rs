//! When a notice about one sink or source is given. Pure.

use std::time::Duration;

use crate::{
    model::notice::Notice,
    store::{HeldDead, NoticeState},
    util::units::Time,
};

/// The least time between two notices of one type about one subject.
const EVERY: Duration = Duration::from_mins(1);

/// What is seen of a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// It works.
    Well,
    /// It does not.
    Bad,
    /// Nothing that says either.
    Nothing,
}

/// A notice that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) notice: Notice,
    /// When what it tells began.
    pub(super) since: Time,
    /// How often it happened since the last notice of this type, this time included.
    pub(super) count: u64,
}

/// What was told of a subject, and what is seen of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Teller {
    /// What was told; it is kept in the store.
    pub(super) told: NoticeState,
    /// Since when it does not work.
    bad_since: Option<Time>,
    onsets: u64,
    recoveries: u64,
}

impl Teller {
    /// Continues with what was told before a restart.
    pub(super) fn of(told: NoticeState) -> Self {
        Self { told, ..Self::default() }
    }

    /// Returns since when it does not work, by what is seen or was told.
    pub(super) fn bad_since(&self) -> Option<Time> {
        self.bad_since.or(self.told.since)
    }

    /// Takes what is seen now. Returns the notice that is due, and records it as told. `bad` and `well` are the types
    /// of notices about this kind of subject.
    pub(super) fn see(&mut self, seen: &Seen, (bad, well): (Notice, Notice), now: Time) -> Option<Due> {
        match seen {
            Seen::Nothing => return None,
            Seen::Bad => {
                self.onsets += u64::from(self.bad_since.is_none());
                self.bad_since.get_or_insert(now);
            }
            Seen::Well => self.recoveries += u64::from(self.bad_since.take().is_some()),
        }
        match (self.bad_since, self.told.since) {
            (Some(since), None) if self.may_tell(bad, now) => {
                self.told.since = Some(since);
                self.told.given.insert(bad, now);
                Some(Due { notice: bad, since, count: std::mem::take(&mut self.onsets) })
            }
            (None, Some(since)) if self.may_tell(well, now) => {
                self.told.since = None;
                self.told.given.insert(well, now);
                // After a restart the beginning was seen by the process before.
                Some(Due { notice: well, since, count: std::mem::take(&mut self.recoveries).max(1) })
            }
            _ => None,
        }
    }

    /// Adds dead letters, the last of them as JSON.
    pub(super) fn add_dead(&mut self, count: u64, last: String) {
        let before = self.told.dead.as_ref().map_or(0, |dead| dead.count);
        self.told.dead = Some(HeldDead { count: before + count, last });
    }

    /// Returns the notice of dead letters that is due, with the last of them, and records it as told.
    pub(super) fn tell_dead(&mut self, now: Time) -> Option<(Due, String)> {
        if !self.may_tell(Notice::DeliveryDead, now) {
            return None;
        }
        let HeldDead { count, last } = self.told.dead.take()?;
        self.told.given.insert(Notice::DeliveryDead, now);
        Some((Due { notice: Notice::DeliveryDead, since: now, count }, last))
    }

    fn may_tell(&self, notice: Notice, now: Time) -> bool {
        // A clock that was set back must not silence it.
        self.told.given.get(&notice).is_none_or(|last| *last > now || now.since(*last) >= EVERY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPES: (Notice, Notice) = (Notice::SinkFailing, Notice::SinkRecovered);

    fn at(seconds: i64) -> Time {
        Time(1_800_000_000_000 + seconds * 1000)
    }

    fn told(teller: &mut Teller, seen: &Seen, second: i64) -> Option<(Notice, Time, u64)> {
        teller.see(seen, TYPES, at(second)).map(|due| (due.notice, due.since, due.count))
    }

    #[test]
    fn a_subject_that_flaps_is_told_of_once_a_minute_with_what_was_held_back() {
        let mut teller = Teller::default();
        assert_eq!(told(&mut teller, &Seen::Well, 0), None, "all was well before");
        assert_eq!(told(&mut teller, &Seen::Bad, 1), Some((Notice::SinkFailing, at(1), 1)));
        assert_eq!(told(&mut teller, &Seen::Bad, 2), None, "once");
        assert_eq!(told(&mut teller, &Seen::Nothing, 3), None);
        assert_eq!(told(&mut teller, &Seen::Well, 4), Some((Notice::SinkRecovered, at(1), 1)));
        for second in 5..60 {
            let seen = if second % 2 == 0 { Seen::Bad } else { Seen::Well };
            assert_eq!(told(&mut teller, &seen, second), None, "{second}");
        }
        // It began at 6, 8, …, 58, and now at 62.
        assert_eq!(told(&mut teller, &Seen::Bad, 62), Some((Notice::SinkFailing, at(62), 28)));
        assert_eq!(told(&mut teller, &Seen::Well, 63), None, "the last recovery was told at 4");
        assert_eq!(told(&mut teller, &Seen::Well, 64), Some((Notice::SinkRecovered, at(62), 28)));
    }

    #[test]
    fn a_restart_tells_nothing_twice_and_the_end_of_what_was_told() {
        let mut teller = Teller::default();
        told(&mut teller, &Seen::Bad, 1);
        let mut teller = Teller::of(teller.told);
        assert_eq!(teller.bad_since(), Some(at(1)));
        assert_eq!(told(&mut teller, &Seen::Nothing, 100), None);
        assert_eq!(told(&mut teller, &Seen::Bad, 101), None, "it was told");
        let mut teller = Teller::of(teller.told);
        assert_eq!(told(&mut teller, &Seen::Well, 200), Some((Notice::SinkRecovered, at(1), 1)));
        assert_eq!(told(&mut teller, &Seen::Well, 201), None);
    }

    #[test]
    fn dead_letters_are_summed_over_a_minute_and_over_a_restart() {
        let mut teller = Teller::default();
        assert_eq!(teller.tell_dead(at(0)), None);
        teller.add_dead(2, "b".to_owned());
        let (due, last) = teller.tell_dead(at(1)).unwrap();
        assert_eq!((due.count, last.as_str()), (2, "b"));
        teller.add_dead(3, "c".to_owned());
        teller.add_dead(4, "d".to_owned());
        assert_eq!(teller.tell_dead(at(30)), None);
        let mut teller = Teller::of(teller.told);
        let (due, last) = teller.tell_dead(at(61)).unwrap();
        assert_eq!((due.count, last.as_str()), (7, "d"));
        teller.add_dead(1, "e".to_owned());
        assert!(teller.tell_dead(at(0)).is_some(), "the clock was set back");
    }
}
