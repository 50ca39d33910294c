//! One round of a discovery: which jobs of a page are taken, whether the reading goes on, and the mark
//! that it leaves. Pure: pages and times go in.
//!
//! A list shows the newest jobs first. A round reads on until it reaches jobs that are older than
//! the newest job of the round before, by more than a margin: a job can turn up late, when its
//! source is slow to list it, or when a filter shows it at its end. The margin follows from how
//! late jobs turned up; once an hour it is a whole day.

use std::{collections::HashSet, time::Duration};

use super::order::Order;
use crate::{model::job::JobId, store::ListMark, upstream::ListedJob, util::units::Time};

/// The least margin.
const SHORTEST: Duration = Duration::from_mins(10);

/// The greatest margin. A reading also goes so far back beyond the first job that counts.
pub(super) const LONGEST: Duration = Duration::from_hours(24);

/// How often a round has the greatest margin.
const DEEP_EVERY: Duration = Duration::from_hours(1);

/// The most ids that a mark remembers.
const MAX_SEEN: usize = 8192;

/// One round.
#[derive(Debug)]
pub(super) struct Round {
    mark: ListMark,
    /// The ids that the mark has, and those of this round.
    seen: HashSet<u64>,
    /// The ids of this round, newest first as far as the list is.
    fresh: Vec<u64>,
    start: Time,
    is_deep: bool,
    is_newest_first: bool,
    /// Jobs of before are taken by no one.
    from: Time,
    /// A page that is older than this is the last one.
    until: Time,
    order: Order,
    /// The jobs without times that the list shows, up to one more than a mark remembers.
    undated: HashSet<u64>,
    latest: Duration,
    /// Whether nothing of the last page was new.
    all_seen: bool,
}

impl Round {
    /// Begins a round with the mark of the round before. `is_first` is true for the first round of
    /// a process, which reads deep.
    pub(super) fn new(mark: ListMark, is_newest_first: bool, is_first: bool, now: Time) -> Self {
        let late = Duration::from_millis(mark.late_ms.saturating_mul(2));
        let is_deep = is_first || mark.deep_at.is_none_or(|at| now.since(at) >= DEEP_EVERY || at > now);
        let margin = if is_deep { LONGEST } else { late.clamp(SHORTEST, LONGEST) };
        let (from, until) = match mark.through {
            Some(through) => {
                let from = through.min(now).before(margin);
                (from.max(mark.since), from)
            }
            None => (mark.since, mark.since.before(LONGEST)),
        };
        Self {
            seen: mark.seen.iter().copied().collect(),
            fresh: Vec::new(),
            mark,
            start: now,
            is_deep,
            is_newest_first,
            from,
            until,
            order: Order::default(),
            undated: HashSet::new(),
            latest: Duration::ZERO,
            all_seen: false,
        }
    }

    /// Returns the jobs of a page that may be new.
    pub(super) fn candidates<'a>(&mut self, page: &'a [ListedJob]) -> Vec<&'a ListedJob> {
        self.all_seen = true;
        let mut taken = Vec::new();
        for job in page {
            self.order.note(job.created_at);
            let sum = sum(&job.id);
            let is_seen = self.seen.contains(&sum);
            self.all_seen &= is_seen;
            let at = job.created_at.max(job.ended_at);
            if at.is_none() && self.undated.len() <= MAX_SEEN {
                self.undated.insert(sum);
            }
            match at {
                _ if is_seen => {}
                Some(at) if at >= self.from => taken.push(job),
                Some(_) => {}
                // Nobody knows how old it is. What is there at the first reading counts as older, and
                // so does what cannot be told from it.
                None if self.mark.through.is_none() || self.mark.is_full => self.see(&job.id),
                None => taken.push(job),
            }
        }
        taken
    }

    /// Records that a job is known: it was registered, or a watch of it exists or existed.
    pub(super) fn see(&mut self, id: &JobId) {
        let sum = sum(id);
        if self.fresh.len() < MAX_SEEN && self.seen.insert(sum) {
            self.fresh.push(sum);
        }
    }

    /// Records that a job was registered: it turned up so late.
    pub(super) fn took(&mut self, job: &ListedJob) {
        self.see(&job.id);
        if self.mark.through.is_some() {
            self.latest = self.latest.max(job.created_at.map_or(Duration::ZERO, |at| self.start.since(at)));
        }
    }

    /// Returns whether the page behind the last one may have something new.
    pub(super) fn goes_on(&self) -> bool {
        if self.is_read_whole() || self.order.is_unclear() {
            return true;
        }
        match self.order.last() {
            Some(last) => last >= self.until,
            None => self.mark.through.is_none() || !self.all_seen,
        }
    }

    /// Returns whether the list turned out not to be newest first.
    pub(super) fn is_unordered(&self) -> bool {
        self.is_newest_first && self.order.is_another()
    }

    /// Returns whether the reading goes to the end of the list.
    fn is_read_whole(&self) -> bool {
        !self.is_newest_first || self.order.is_another()
    }

    /// Returns the mark of a round that read all it had to.
    pub(super) fn finish(self) -> ListMark {
        let late = Duration::from_millis(self.mark.late_ms.saturating_mul(9) / 10).max(self.latest);
        let is_read_whole = self.is_read_whole();
        let mut seen = self.mark.seen;
        if is_read_whole {
            // What the list no longer shows is forgotten first.
            seen.sort_by_key(|sum| self.undated.contains(sum));
        }
        seen.extend(self.fresh.iter().rev());
        let too_many = seen.len().saturating_sub(MAX_SEEN);
        let is_forgotten = seen.drain(..too_many).any(|sum| self.undated.contains(&sum));
        ListMark {
            // A list that is empty so far, or tells no times, was read at least.
            through: self.order.newest().max(self.mark.through).or(Some(self.mark.since)),
            late_ms: u64::try_from(late.min(LONGEST).as_millis()).unwrap_or(u64::MAX),
            deep_at: if self.is_deep { Some(self.start) } else { self.mark.deep_at },
            seen,
            is_full: is_read_whole && (is_forgotten || self.undated.len() > MAX_SEEN),
            ..self.mark
        }
    }
}

/// The sum by which a mark remembers an id. It stays the same over versions of the program.
pub(super) fn sum(id: &JobId) -> u64 {
    // FNV-1a, 64 bits.
    id.as_str()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::status_answer::StatusAnswer;

    const HOUR: i64 = 3_600_000;

    fn at(seconds: i64) -> Time {
        Time(1_800_000_000_000 + seconds * 1000)
    }

    fn job(id: &str, created: Option<i64>, ended: Option<i64>) -> ListedJob {
        let (created_at, ended_at) = (created.map(at), ended.map(at));
        ListedJob { id: id.parse().unwrap(), answer: StatusAnswer::default(), created_at, ended_at }
    }

    fn taken(round: &mut Round, page: &[ListedJob]) -> Vec<String> {
        let taken: Vec<_> = round.candidates(page).into_iter().cloned().collect();
        for job in &taken {
            round.took(job);
        }
        taken.iter().map(|job| job.id.to_string()).collect()
    }

    fn mark(through: Option<i64>) -> ListMark {
        ListMark {
            since: at(0),
            through: through.map(at),
            deep_at: Some(at(through.unwrap_or(0))),
            ..ListMark::default()
        }
    }

    #[test]
    fn a_round_ends_behind_what_the_last_one_saw_and_takes_nothing_twice() {
        let mut round = Round::new(mark(Some(10_000)), true, false, at(10_100));
        let page =
            [job("new", Some(10_090), None), job("late", Some(9_500), None), job("old", Some(9_000), None)];
        assert_eq!(taken(&mut round, &page), ["new", "late"], "ten minutes back");
        assert!(!round.goes_on());
        let after = round.finish();
        assert_eq!((after.through, after.since, after.deep_at), (Some(at(10_090)), at(0), Some(at(10_000))));
        let mut again = Round::new(after, true, false, at(10_160));
        assert!(
            taken(&mut again, &page[..2]).is_empty(),
            "it remembers them, whatever becomes of their watches"
        );
        // The margin follows from how late jobs turn up, and shrinks again.
        let mut round = Round::new(mark(Some(10_000)), true, false, at(10_100));
        taken(&mut round, &[job("late", Some(9_500), None)]);
        assert_eq!(round.finish().late_ms, 600_000);
    }

    #[test]
    fn a_round_of_each_hour_reads_a_day_back() {
        let far = [job("new", Some(90_000), None), job("x", Some(20_000), None)];
        for (is_first, now, reads) in [(false, 1800, false), (true, 1800, true), (false, 3600, true)] {
            let mark = ListMark { through: Some(at(90_000)), deep_at: Some(at(90_000)), ..mark(None) };
            let mut round = Round::new(mark, true, is_first, at(90_000 + now));
            taken(&mut round, &far);
            assert_eq!(round.goes_on(), reads, "{is_first} {now}");
        }
    }

    #[test]
    fn since_decides_at_the_first_reading() {
        let mut round = Round::new(mark(None), true, true, at(0));
        let page = [
            job("new", Some(1), None),
            job("ended", Some(-100), Some(2)),
            job("running", Some(-100), None),
            job("over", Some(-100), Some(-50)),
            job("undated", None, None),
        ];
        assert_eq!(taken(&mut round, &page), ["new", "ended"]);
        assert!(round.goes_on(), "a job that was created before may have ended since");
        taken(&mut round, &[job("older", Some(-25 * HOUR / 1000), None)]);
        assert!(!round.goes_on());
        let mut next = Round::new(round.finish(), true, false, at(60));
        let page = [
            job("undated", None, None),
            job("new undated", None, None),
            job("running", Some(-100), Some(30)),
        ];
        assert_eq!(taken(&mut next, &page), ["new undated", "running"], "what ends is taken then");
    }

    #[test]
    fn a_list_in_another_order_is_read_whole() {
        let mut round = Round::new(mark(Some(100_000)), true, false, at(100_000));
        taken(&mut round, &[job("a", Some(1), None), job("b", Some(99_000), None)]);
        assert!(round.is_unordered() && round.goes_on());
        let mut round = Round::new(mark(Some(100_000)), false, false, at(100_000));
        taken(&mut round, &[job("a", Some(1), None)]);
        assert!(!round.is_unordered() && round.goes_on());
    }

    #[test]
    fn a_list_that_is_oldest_first_is_read_whole_however_close_its_jobs_are() {
        let mut round = Round::new(mark(Some(100_000)), true, true, at(100_000));
        let page: Vec<_> = (0..100).map(|n| job(&format!("old{n}"), Some(n), None)).collect();
        assert!(taken(&mut round, &page).is_empty() && round.goes_on(), "noticed on the first page");
        assert_eq!(taken(&mut round, &[job("new", Some(99_990), None)]), ["new"]);
        assert!(round.is_unordered());
        // One job tells no order, and a few of one moment tell it with the next page.
        let mut round = Round::new(mark(Some(100_000)), true, false, at(100_000));
        taken(&mut round, &[job("a", Some(10), None)]);
        assert!(round.goes_on() && !round.is_unordered());
        taken(&mut round, &[job("b", Some(11), None), job("c", Some(0), None)]);
        assert!(!round.goes_on() && !round.is_unordered());
    }

    #[test]
    fn of_a_long_list_without_times_and_order_the_past_is_not_taken() {
        let page = |jobs: std::ops::Range<usize>| -> Vec<ListedJob> {
            jobs.map(|number| job(&format!("job{number}"), None, None)).collect()
        };
        let long = page(0..MAX_SEEN + 10);
        let mut round = Round::new(mark(None), false, true, at(0));
        assert!(taken(&mut round, &long).is_empty());
        let mark = round.finish();
        assert!(mark.is_full);
        let mut round = Round::new(mark, false, false, at(60));
        assert!(taken(&mut round, &long).is_empty(), "nobody can tell which of them are new");
        let mark = round.finish();
        assert!(mark.is_full);
        // It is shorter now: its jobs can be remembered, and the next ones be told from them.
        let mut round = Round::new(mark, false, false, at(120));
        assert!(taken(&mut round, &page(20..MAX_SEEN + 12)).is_empty());
        let mark = round.finish();
        assert!(!mark.is_full);
        let mut round = Round::new(mark, false, false, at(180));
        assert_eq!(taken(&mut round, &page(22..MAX_SEEN + 13)), [format!("job{}", MAX_SEEN + 12)]);
        assert!(!round.finish().is_full, "what the list no longer shows made room");
    }

    #[test]
    fn a_list_without_times_is_read_until_nothing_on_a_page_is_new() {
        let mut round = Round::new(mark(None), true, true, at(0));
        let page = [job("a", None, None), job("b", None, None)];
        assert!(taken(&mut round, &page).is_empty() && round.goes_on());
        let mut next = Round::new(round.finish(), true, false, at(60));
        assert_eq!(taken(&mut next, &[job("c", None, None), job("a", None, None)]), ["c"]);
        assert!(next.goes_on());
        assert!(taken(&mut next, &page).is_empty() && !next.goes_on());
    }

    #[test]
    fn a_mark_is_bounded_and_keeps_the_newest() {
        let mut round = Round::new(mark(Some(0)), true, false, at(0));
        for number in (0..2 * MAX_SEEN).rev() {
            round.see(&format!("job{number}").parse().unwrap());
        }
        let mark = round.finish();
        assert_eq!(mark.seen.len(), MAX_SEEN);
        let newest: JobId = format!("job{}", 2 * MAX_SEEN - 1).parse().unwrap();
        assert_eq!(mark.seen.last(), Some(&sum(&newest)));
    }
}
