//! The order of a list, as its pages show it. Pure.

use std::time::Duration;

use crate::util::units::Time;

/// The clocks of a list and of its database differ by less.
const SORT_MARGIN: Duration = Duration::from_secs(60);

/// In an ascending list, so many jobs are newer than the one before for each that is older.
const MOST_RISE: u32 = 3;

/// The order of the jobs that a reading showed so far, by their creation.
#[derive(Debug, Default)]
pub(super) struct Order {
    first: Option<Time>,
    last: Option<Time>,
    newest: Option<Time>,
    /// Jobs that were newer than the one before, and older.
    rises: u32,
    falls: u32,
    /// A newer job came behind an older one, by more than the margin of a sort.
    has_jumped: bool,
}

impl Order {
    /// Records the next job.
    pub(super) fn note(&mut self, created_at: Option<Time>) {
        let Some(at) = created_at else { return };
        if let Some(last) = self.last {
            self.rises += u32::from(at > last);
            self.falls += u32::from(at < last);
            self.has_jumped |= at.since(last) > SORT_MARGIN;
        }
        self.first = self.first.or(Some(at));
        self.newest = self.newest.max(Some(at));
        self.last = Some(at);
    }

    /// Returns the creation of the newest job.
    pub(super) const fn newest(&self) -> Option<Time> {
        self.newest
    }

    /// Returns the creation of the last job.
    pub(super) const fn last(&self) -> Option<Time> {
        self.last
    }

    /// Returns whether the list is not newest first. Jobs of nearly one time can be in any order, so
    /// a few that ascend say so only until older ones follow.
    pub(super) fn is_another(&self) -> bool {
        let ascends = self.last > self.first && self.rises > self.falls.saturating_mul(MOST_RISE);
        self.has_jumped || ascends
    }

    /// Returns whether dated jobs came, and all of one time: the next page tells the order.
    pub(super) const fn is_unclear(&self) -> bool {
        self.first.is_some() && self.rises == 0 && self.falls == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(seconds: &[i64]) -> Order {
        let mut order = Order::default();
        for second in seconds {
            order.note(Some(Time(second * 1000)));
        }
        order
    }

    #[test]
    fn an_ascending_list_is_noticed_and_a_disorder_within_a_moment_is_none() {
        for (seconds, is_another, is_unclear) in [
            (vec![], false, false),
            (vec![5], false, true),
            (vec![5, 5, 5], false, true),
            (vec![1, 2, 3], true, false),
            (vec![0, 1, 0, 2, 3, 4, 5], true, false),
            (vec![9, 10, 8, 9, 7], false, false),
            (vec![9, 10, 3, 2], false, false),
            (vec![900, 800, 861], true, false),
        ] {
            let order = order(&seconds);
            assert_eq!((order.is_another(), order.is_unclear()), (is_another, is_unclear), "{seconds:?}");
        }
    }
}
