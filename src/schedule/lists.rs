//! When a page of a source's list is requested: because a reader of the list waits for one, or
//! because it answers several polls that are due, at the price of one request.
//!
//! A page pays while it answers at least [`PAYS`] polls that would be sent otherwise. How many it
//! answers is learned from the pages before. A list that does not pay is tried again after rests
//! that double. A page takes the token of one poll, so the polls behind it wait as long as for that
//! poll, and the others go on meanwhile.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    HealthState, RequestTimes, Schedule, SourceSign, Task, health::MAX_RETRY_AFTER,
    learned::decide::PollReason,
};
use crate::{model::status_answer::StatusAnswer, util::units::Time};

/// The least number of polls that a page has to answer.
const PAYS: f64 = 2.0;

/// What the first page is hoped to answer.
const HOPE: f64 = 4.0;

/// While so many polls wait for the budget, a page is worth a try.
const FEW: usize = 4;

/// The first rest of a list that does not pay, and the longest.
const RESTS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(5));

/// How long a list rests that shows jobs as running which have finished, or whose pages are heavy.
const LONG_REST: Duration = Duration::from_mins(30);

/// What an item costs that was wrong: the poll that it was counted for, and the one it led to.
const WRONG: f64 = 2.0;

/// A job that the list showed as finished is polled at once, but not so soon after a poll.
const AGAIN: Duration = Duration::from_secs(1);

/// The share of due polls that are sent although the list shows their jobs as running.
const STILL_SENT: f64 = 0.1;

/// One request in this many is for a reader of the list, while polls and fetches are ready.
const TURN: usize = 8;

/// A list that shows a job as running so long after its end is behind. Clocks may differ by less.
const TOLERANCE: Duration = Duration::from_secs(6);

/// The number that stands for the list in the health of the source, where jobs have theirs.
const LIST: u64 = u64::MAX;

/// Why a page is requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListUse {
    /// A reader of the list asked for it.
    Asked,
    /// It answers polls of this kind of job, by the order of the kinds.
    Polls(usize),
}

/// What an item of a list changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Nothing.
    None,
    /// The job runs: its poll, which is due, is not sent, and the next one is decided.
    Running {
        /// The status word is another than before.
        is_new: bool,
    },
    /// The job seems to have finished: its poll is due now.
    Finished,
}

/// The list of one kind of job.
#[derive(Clone, Debug)]
struct KindList {
    /// The kind has a list.
    is_there: bool,
    /// Jobs of the kind were watched since the start.
    is_used: bool,
    /// How many polls a page answers, on average.
    answers: f64,
    rest: Duration,
    rests_until: Option<Instant>,
    /// Polls that wrong items cost since the last page: the next ones have to make up for them.
    owed: f64,
    /// The last limit, if the list was not read since.
    limited_at: Option<Instant>,
    /// The rest after the next limit of the list's own, and the end of the present one.
    limit_rest: Duration,
    limited_until: Option<Instant>,
}

impl KindList {
    fn new(is_there: bool) -> Self {
        Self {
            is_there,
            is_used: false,
            answers: HOPE,
            rest: RESTS.0,
            rests_until: None,
            owed: 0.0,
            limited_at: None,
            limit_rest: RESTS.0,
            limited_until: None,
        }
    }

    /// Lets the list rest, because its pages do not pay.
    fn rest(&mut self, now: Instant) {
        self.rests_until = self.rests_until.max(Some(now + self.rest));
        self.rest = (self.rest * 2).min(RESTS.1);
        self.answers = PAYS;
    }

    fn rests(&self, now: Instant) -> bool {
        self.rests_until.max(self.limited_until).is_some_and(|until| now < until)
    }
}

/// The requests for pages of a source's lists.
#[derive(Debug, Default)]
pub(super) struct Lists {
    kinds: Vec<KindList>,
    answers_polls: bool,
    is_asked: bool,
    /// A page that answers polls is in flight.
    in_flight: Option<usize>,
    /// A list showed a job as running after its end.
    is_behind: bool,
}

impl Lists {
    /// Returns the kind whose page answers most of the polls that are ready, if one pays.
    fn paying(&self, ready: usize, now: Instant) -> Option<usize> {
        if !self.answers_polls || self.in_flight.is_some() || ready < FEW {
            return None;
        }
        let kinds = self.kinds.iter().enumerate();
        let fit = kinds
            .filter(|(_, kind)| kind.is_there && kind.is_used && kind.answers >= PAYS && !kind.rests(now));
        fit.max_by(|(_, a), (_, b)| a.answers.total_cmp(&b.answers)).map(|(at, _)| at)
    }

    /// Records that a poll found a job running which a list had shown as finished. The item counted
    /// as an answer and was none, and it cost a poll. Once the items of a page cost as much as they
    /// were counted for, the list rests.
    pub(super) fn were_wrong(&mut self, now: Instant) {
        for list in self.kinds.iter_mut().filter(|list| list.is_there && list.is_used) {
            list.owed += WRONG;
            if list.owed >= list.answers && !list.rests(now) {
                list.rest(now);
            }
        }
    }

    fn answered(&mut self, kind: usize, polls: usize, now: Instant) {
        let Some(list) = self.kinds.get_mut(kind) else { return };
        #[expect(clippy::cast_precision_loss, reason = "a count of items")]
        let polls = polls as f64;
        let worth = (polls - list.owed).max(0.0);
        // A list that is right again has paid what it owes with one more page.
        list.owed = (list.owed - polls).clamp(0.0, polls);
        list.answers = f64::midpoint(list.answers, worth);
        match list.answers >= PAYS {
            true => list.rest = RESTS.0,
            false => list.rest(now),
        }
    }
}

impl Schedule {
    /// Says which kinds have a list, and whether lists may answer polls.
    pub fn set_lists(&mut self, kinds: impl IntoIterator<Item = bool>, answers_polls: bool) {
        self.lists.kinds = kinds.into_iter().map(KindList::new).collect();
        self.lists.answers_polls = answers_polls;
    }

    /// Records that jobs of a kind are watched.
    pub fn uses_list(&mut self, kind: usize) {
        if let Some(list) = self.lists.kinds.get_mut(kind) {
            list.is_used = true;
        }
    }

    /// Asks for a page, for a reader of the list. [`Next::List`](super::Next::List) grants it.
    pub fn ask_for_list(&mut self) {
        self.lists.is_asked = true;
    }

    /// Returns the use of a page that has its turn now, before every poll and fetch.
    pub(super) fn list_turn(&self, is_any_ready: bool) -> bool {
        self.lists.is_asked && (!is_any_ready || self.turn.is_multiple_of(TURN))
    }

    /// Returns the page that takes the place of the poll whose turn it is.
    pub(super) fn list_instead(&self, now: Instant) -> Option<ListUse> {
        self.lists.paying(self.polls.ready(), now).map(ListUse::Polls)
    }

    /// Returns whether a reader of the list has to find out whether the source is well, because no
    /// watch can.
    pub(super) fn list_probes(&self) -> bool {
        self.lists.is_asked && self.entries.len() == 0
    }

    pub(super) fn begin_list(&mut self, list: ListUse) {
        self.turn = self.turn.wrapping_add(1);
        match list {
            ListUse::Asked => self.lists.is_asked = false,
            ListUse::Polls(kind) => self.lists.in_flight = Some(kind),
        }
    }

    /// Records the end of a request for a page.
    pub fn list_done(&mut self, list: ListUse) {
        if let ListUse::Polls(_) = list {
            self.lists.in_flight = None;
        }
    }

    /// Records that the task of a page for polls panicked: it answered none.
    pub fn lists_panicked(&mut self, now: Instant) {
        if let Some(kind) = self.lists.in_flight.take() {
            self.lists.answered(kind, 0, now);
        }
    }

    /// Records how many polls a page answered that was requested for polls.
    pub fn list_answered(&mut self, kind: usize, polls: usize, now: Instant) {
        self.lists.answered(kind, polls, now);
    }

    /// Records that a page costs its source more than the polls whose place it takes. The list rests.
    pub fn list_is_heavy(&mut self, kind: usize, now: Instant) {
        if let Some(list) = self.lists.kinds.get_mut(kind) {
            list.rests_until = Some(now + LONG_REST);
        }
    }

    /// Records what a failed request for the list of a kind says about the source. `Suspect` counts
    /// only while no watch could tell more, and a limit unless the list keeps giving it while polls
    /// are answered: then the list rests alone. `random` lies in [0, 1).
    pub fn list_failed(
        &mut self,
        kind: usize,
        sent: Instant,
        sign: SourceSign,
        now: Instant,
        random: f64,
    ) -> Option<Duration> {
        let is_alone = self.entries.len() == 0;
        let sign = match sign {
            SourceSign::Ill(HealthState::Limited, asked) if !is_alone && self.is_own_limit(kind, now) => {
                self.rest_limited(kind, asked, now);
                return None;
            }
            SourceSign::Ill(..) => sign,
            SourceSign::Suspect(..) if is_alone => sign,
            _ => return None,
        };
        self.record_sign(RequestTimes { number: LIST, sent, now }, sign, random)
    }

    /// Returns whether polls were answered since the list was limited before.
    fn is_own_limit(&mut self, kind: usize, now: Instant) -> bool {
        let Some(list) = self.lists.kinds.get_mut(kind) else { return false };
        let before = list.limited_at.replace(now);
        before.is_some_and(|at| self.claim.lock().key.was_well_since(at))
    }

    fn rest_limited(&mut self, kind: usize, asked: Option<Duration>, now: Instant) {
        let Some(list) = self.lists.kinds.get_mut(kind) else { return };
        let rest = list.limit_rest.max(asked.unwrap_or_default().min(MAX_RETRY_AFTER));
        list.limited_until = Some(now + rest);
        list.limit_rest = (list.limit_rest * 2).min(RESTS.1);
    }

    /// Returns until when the list of a kind rests because it alone is limited.
    #[must_use]
    pub fn list_limited_until(&self, kind: usize) -> Option<Instant> {
        self.lists.kinds.get(kind)?.limited_until
    }

    /// Records that the list of a kind answered. While no watch could tell, the source is well.
    pub fn list_is_well(&mut self, kind: usize, sent: Instant, now: Instant) {
        if let Some(list) = self.lists.kinds.get_mut(kind) {
            (list.limited_at, list.limited_until, list.limit_rest) = (None, None, RESTS.0);
        }
        if self.entries.len() == 0 || self.state() != HealthState::Ok {
            self.record_sign(RequestTimes { number: LIST, sent, now }, SourceSign::Well, 0.0);
        }
    }

    /// Takes an item of a list as evidence about the job of a watch: `answer` is what the item
    /// says, and the page was requested at `sent`, on the steady clock.
    pub fn listed(
        &mut self,
        number: u64,
        answer: &StatusAnswer,
        has_finished: bool,
        sent: Time,
        now: Instant,
        random: f64,
    ) -> Evidence {
        let (min, is_short) = (self.config.min_interval.0, self.polls.ready() >= FEW);
        let Some(entry) = self.entries.get_mut(number) else { return Evidence::None };
        // What a caller or a hook asked for, and what fails or is late, is for a poll to decide.
        let is_open = entry.task == Task::Poll && !self.polls.is_running(number) && entry.failures.is_none();
        let due = entry.due.filter(|due| *due <= now);
        let is_asked = match entry.reason {
            PollReason::Hook => true,
            PollReason::Asked | PollReason::Deadline => due.is_some(),
            _ => false,
        };
        let unseen = entry.track.unseen_for(sent);
        if !is_open || is_asked || sent >= entry.deadline || entry.relapses > 0 || unseen.is_zero() {
            return Evidence::None;
        }
        // The list said before that it has finished. Now a poll has to tell, whatever the list says.
        if due.is_some() && entry.reason == PollReason::Listed {
            if !has_finished {
                self.lists.were_wrong(now);
            }
            return Evidence::None;
        }
        if has_finished {
            if unseen < min.max(AGAIN) {
                return Evidence::None;
            }
            self.poll_at(number, now, PollReason::Listed);
            return Evidence::Finished;
        }
        // While the budget suffices, polls are sent. Otherwise one in a few is, so that a list which is
        // behind hides no end for long.
        if due.is_none() || !is_short || random < STILL_SENT {
            return Evidence::None;
        }
        let random = (random - STILL_SENT) / (1.0 - STILL_SENT);
        let is_new = entry.status.as_ref().is_none_or(|known| **known != answer.status);
        if is_new {
            entry.status = Some(self.statuses.share(answer.status.clone()));
            entry.track.at_work = answer.at_work;
        }
        entry.answered = true;
        self.learner.record_running(&mut entry.track, answer, now, sent);
        self.again(number, Task::Poll, now, sent, random);
        Evidence::Running { is_new }
    }

    /// Compares the end of a job with when it was last seen running. A list that showed it as
    /// running after its end is behind, and rests.
    pub(super) fn compare_with_lists(&mut self, ended_at: Option<Time>, seen: Option<Time>, now: Instant) {
        let (Some(ended_at), Some(seen)) = (ended_at, seen) else { return };
        if self.lists.answers_polls && seen.since(ended_at) > TOLERANCE {
            self.lists.is_behind = true;
            for kind in &mut self.lists.kinds {
                kind.rests_until = Some(now + LONG_REST);
            }
        }
    }

    /// Returns whether a list turned out to be behind since the last call.
    pub fn take_list_is_behind(&mut self) -> bool {
        std::mem::take(&mut self.lists.is_behind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lists() -> Lists {
        let mut schedule = Schedule::new(&super::super::PollingConfig::default(), 20.0, 8, Instant::now());
        schedule.set_lists([true, true, false], true);
        schedule.uses_list(0);
        schedule.uses_list(2);
        schedule.lists
    }

    #[test]
    fn a_list_is_read_while_it_pays_and_rests_otherwise() {
        let (mut lists, start) = (lists(), Instant::now());
        assert_eq!(lists.paying(3, start), None, "so few polls are sent");
        assert_eq!(lists.paying(100, start), Some(0), "a kind without watches or without a list is none");
        lists.answered(0, 60, start);
        assert_eq!(lists.paying(100, start), Some(0));
        for _ in 0..5 {
            lists.answered(0, 0, start);
        }
        assert_eq!(lists.paying(100, start), None);
        let mut now = start;
        let mut pages = 0;
        for second in 0..3600 {
            now = start + Duration::from_secs(second);
            if lists.paying(100, now).is_some() {
                pages += 1;
                lists.answered(0, 0, now);
            }
        }
        assert!(pages < 25, "{pages} pages in an hour without an answer");
        now += RESTS.1;
        assert_eq!(lists.paying(100, now), Some(0));
        lists.answered(0, 10, now);
        assert_eq!(lists.paying(100, now), Some(0), "it pays again");
        lists.in_flight = Some(0);
        assert_eq!(lists.paying(100, now), None, "one page at a time");
    }

    #[test]
    fn a_list_whose_items_are_wrong_rests_although_its_pages_are_full() {
        let pages_of = |wrong: usize| {
            let (mut lists, start) = (lists(), Instant::now());
            let mut pages = 0;
            for second in 0..1800 {
                let now = start + Duration::from_secs(second);
                if lists.paying(100, now).is_none() {
                    continue;
                }
                pages += 1;
                lists.answered(0, 24, now);
                for _ in 0..wrong {
                    lists.were_wrong(now);
                }
            }
            pages
        };
        assert!(pages_of(16) < 20, "{} pages", pages_of(16));
        assert_eq!(pages_of(1), 1800, "one wrong item among many is no reason");
        let (mut lists, start) = (lists(), Instant::now());
        for _ in 0..1000 {
            lists.were_wrong(start);
        }
        let later = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(lists.paying(100, start), None);
        for second in [10, 20, 30] {
            lists.answered(0, 24, later(second));
        }
        assert_eq!(lists.paying(100, later(40)), Some(0), "it is right again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_that_takes_back_what_it_said_keeps_no_job_from_its_poll() {
        let start = Instant::now();
        let config = super::super::PollingConfig::default();
        let mut schedule = Schedule::new(&config, 20.0, 8, start);
        schedule.set_lists([true], true);
        schedule.uses_list(0);
        let wall = crate::schedule::tests::wall();
        for number in 0..8 {
            let watch = crate::schedule::tests::watch(number, crate::store::WatchStage::Watching);
            schedule.add(&watch, start, wall);
        }
        let (now, later) = (start + Duration::from_mins(1), Time(wall.0 + 60_000));
        let _ = schedule.next(now, later);
        let says = |schedule: &mut Schedule, has_finished| {
            schedule.listed(7, &StatusAnswer::default(), has_finished, later, now, 0.5)
        };
        assert_eq!(says(&mut schedule, true), Evidence::Finished);
        assert_eq!(says(&mut schedule, false), Evidence::None, "its poll is not postponed");
        assert_eq!(says(&mut schedule, true), Evidence::None, "and it counts once");
        assert!(schedule.lists.kinds[0].owed > 0.0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_that_is_limited_while_polls_are_answered_rests_alone() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut schedule = Schedule::new(&super::super::PollingConfig::default(), 20.0, 8, start);
        schedule.set_lists([true, true], true);
        let watch = crate::schedule::tests::watch(1, crate::store::WatchStage::Watching);
        schedule.add(&watch, start, crate::schedule::tests::wall());
        let limited = SourceSign::Ill(HealthState::Limited, Some(Duration::from_secs(2)));
        let answer = |schedule: &mut Schedule, now| {
            schedule.record_answer(RequestTimes { number: 1, sent: now, now });
            assert_eq!(schedule.state(), HealthState::Ok);
        };
        assert!(
            schedule.list_failed(0, start, limited, start, 0.0).is_some(),
            "the first one is the source's"
        );
        assert!(schedule.list_failed(0, at(3), limited, at(3), 0.0).is_some(), "no poll was answered");
        answer(&mut schedule, at(6));
        let mut rests = Vec::new();
        for minute in 1..12 {
            let now = at(minute * 60);
            answer(&mut schedule, now);
            assert_eq!(schedule.list_failed(0, now, limited, now, 0.0), None);
            assert_eq!(schedule.state(), HealthState::Ok);
            rests.push((schedule.list_limited_until(0).unwrap() - now).as_secs());
        }
        assert_eq!(rests, [2, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(schedule.list_limited_until(1), None, "another list does not rest");
        schedule.list_is_well(0, at(700), at(700));
        assert_eq!(schedule.list_limited_until(0), None);
        assert!(schedule.list_failed(0, at(701), limited, at(701), 0.0).is_some());
    }
}
