//! The index says what the records say, whatever was done.

use std::collections::BTreeSet;

use proptest::{prelude::*, sample::Index};

use super::*;
use crate::{
    model::{job::notice_id, notice::Notice},
    store::records::{JobEntry, JobKey, Records, Selection, WatchEntries, pending_of},
    util::clock::Period,
};

/// An operation on one of a few jobs, some of them with another outcome by the number.
#[derive(Clone, Debug)]
enum Act {
    Register(u8),
    Join(u8, u8),
    Close(u8),
    FinishGroup(u8),
    Notice(u8),
    Run(u8, u8),
    Finish(u8, u8),
    FanOut(u8, bool),
    Resume(u8),
    Refuse(u8),
    Lose(u8),
    Attempt(Index, u8),
    Redeliver(Index),
    Move(u8, u8),
    Drop(u8),
    Deliver(u8),
    Shift,
    Retain(u8),
    Remove(u8),
    Seal,
    Compact(bool),
    Count(u8),
}

fn act() -> impl Strategy<Value = Act> {
    let job = 0u8..4;
    prop_oneof![
        6 => job.clone().prop_map(Act::Register),
        4 => (job.clone(), 0u8..2).prop_map(|(job, group)| Act::Join(job, group)),
        2 => (0u8..2).prop_map(Act::Close),
        3 => (0u8..3).prop_map(Act::FinishGroup),
        1 => (0u8..3).prop_map(Act::Notice),
        3 => (job.clone(), 0u8..4).prop_map(|(job, run)| Act::Run(job, run)),
        5 => (job.clone(), 0u8..4).prop_map(|(job, run)| Act::Finish(job, run)),
        5 => (job.clone(), any::<bool>()).prop_map(|(job, said)| Act::FanOut(job, said)),
        1 => job.clone().prop_map(Act::Resume),
        1 => job.clone().prop_map(Act::Refuse),
        1 => job.clone().prop_map(Act::Lose),
        5 => (any::<Index>(), 0u8..3).prop_map(|(one, verdict)| Act::Attempt(one, verdict)),
        1 => any::<Index>().prop_map(Act::Redeliver),
        1 => (0u8..3, 0u8..3).prop_map(|(from, to)| Act::Move(from, to)),
        1 => (0u8..3).prop_map(Act::Drop),
        1 => (0u8..3).prop_map(Act::Deliver),
        1 => Just(Act::Shift),
        2 => (0u8..10).prop_map(Act::Retain),
        2 => job.prop_map(Act::Remove),
        1 => Just(Act::Seal),
        2 => any::<bool>().prop_map(Act::Compact),
        4 => (1u8..5).prop_map(Act::Count),
    ]
}

const SINKS: [&str; 3] = ["a", "b", "c"];

fn job(number: u8) -> String {
    format!("job_{number}")
}

impl Bench {
    async fn number(&self, job: &str) -> u64 {
        match self.store.find("retab", &id(job), None).await.unwrap() {
            Found::Watch(watch) => watch.number,
            Found::Dropped | Found::Nothing | Found::Several(_) => 0,
        }
    }

    #[expect(clippy::too_many_lines, reason = "one arm for each act")]
    async fn carry_out(&self, act: Act, now: Time) {
        let store = &self.store;
        match act {
            Act::Register(one) => drop(self.register(Registration::new("retab", id(job(one))), now).await),
            Act::Join(one, group) => {
                let group = Some(named(format!("group {group}")));
                let asked = Registration { group, ..Registration::new("retab", id(job(one))) };
                drop(self.register(asked, now).await);
            }
            Act::Close(group) => {
                drop(store.close_group(&named(format!("group {group}")), now).await.unwrap());
            }
            Act::FinishGroup(sinks) => {
                for group in store.due_groups().await.unwrap() {
                    let sinks =
                        SINKS[..usize::from(sinks)].iter().map(ToString::to_string).collect::<Vec<_>>();
                    let body = self.new_body(group.number, group.event_id.as_ref().unwrap(), BODY).await;
                    let at = (group.number, group.revision);
                    assert!(store.finish_group(at, &body, &sinks, now).await);
                    assert!(!store.finish_group(at, &body, &sinks, now).await, "once");
                }
            }
            Act::Notice(sinks) => {
                let sinks = SINKS[..usize::from(sinks)].iter().map(ToString::to_string).collect::<Vec<_>>();
                let (notice, subject) = (Notice::SinkFailing, "x".to_owned());
                let event_id = notice_id(notice, &subject, now);
                let given = NoticeGiven { notice, subject, event_id, at: now, data: "{}".to_owned() };
                let state = NoticeState { since: Some(now), ..NoticeState::default() };
                store.give_notice("sink:x", &state, &given, &sinks, now).await;
            }
            Act::Run(one, run) => {
                let seen = StatusAnswer { at_work: run % 2 == 1, ..seen("running", run.into()) };
                store.record_running(self.number(&job(one)).await, &seen, 1, to(&SINKS[..1]), now).await;
            }
            Act::Finish(one, run) => {
                let outcome = if run % 2 == 0 { Outcome::Completed } else { Outcome::Failed };
                store
                    .record_finished(
                        self.number(&job(one)).await,
                        outcome,
                        &seen("ended", run.into()),
                        1,
                        now,
                    )
                    .await;
            }
            Act::FanOut(one, told) => {
                let number = self.number(&job(one)).await;
                let said = Said { status: "failed".to_owned(), outcome: Outcome::Failed, error: None };
                let said = told.then_some(&said);
                let watch = store.watch(number).await.unwrap();
                let end = watch.as_ref().and_then(|watch| {
                    let end = watch.pending_completion.as_deref()?.clone();
                    Some(said.map_or_else(|| end.clone(), |said| end.clone().said_by(watch, said)))
                });
                let event_id = end.map_or_else(|| "evt_none".to_owned(), |end| end.event_id);
                let body = self.new_body(number, &event_id, BODY).await;
                store.complete(number, &body, said, to(&SINKS[..2]), now).await;
            }
            Act::Resume(one) => store.resume_watching(self.number(&job(one)).await, now).await,
            Act::Refuse(one) => store.record_refusal(self.number(&job(one)).await, now).await,
            Act::Lose(one) => {
                store.lose(self.number(&job(one)).await, "gone", (1, None), to(&SINKS), now).await;
            }
            Act::Attempt(one, verdict) => {
                let pending = self.pending();
                if let Some((_, key, _)) = pending.get(one.index(pending.len().max(1))) {
                    let delivery = store.delivery(*key).await.unwrap().unwrap();
                    let verdict = match verdict {
                        0 => AttemptVerdict::Delivered,
                        1 => AttemptVerdict::Retry(now.after(Duration::from_secs(9))),
                        _ => AttemptVerdict::Dead("no".to_owned()),
                    };
                    let done = nth(delivery.attempt_count + 1, attempt(delivery.generation, now, verdict));
                    store.record_attempt(*key, &done, now).await;
                }
            }
            Act::Redeliver(one) => {
                let all = store.deliveries(&DeliveryFilter::default(), None, 1000).await.unwrap().entries;
                if let Some((key, _)) = all.get(one.index(all.len().max(1))) {
                    store.redeliver(vec![*key], now).await.unwrap();
                }
            }
            Act::Move(from, to) => {
                let (from, to) = (SINKS[usize::from(from)], SINKS[usize::from(to)]);
                let keys = store.pending_of(from, None, u64::MAX, usize::MAX).await.unwrap();
                if from != to {
                    store.move_pending(from, to, keys, |_| true, now).await.unwrap();
                }
            }
            Act::Drop(sink) => {
                let sink = SINKS[usize::from(sink)];
                let keys = store.pending_of(sink, None, u64::MAX, usize::MAX).await.unwrap();
                store.drop_pending(sink, keys, now).await.unwrap();
            }
            Act::Deliver(sink) => drop(self.deliver_all(SINKS[usize::from(sink)], now).await),
            Act::Shift => {
                let period = Period { since: at(0), until: now };
                store.move_stamps(period, -1000).await.unwrap();
            }
            Act::Retain(ago) => {
                let before = Time(now.0 - i64::from(ago) * 1000);
                store.drop_finished(before, now).await.unwrap();
            }
            Act::Remove(one) => drop(store.remove("retab", &id(job(one)), None).await.unwrap()),
            Act::Seal => store.bodies().seal(),
            Act::Count(most) => store.count_piece(most.into()).await.unwrap(),
            Act::Compact(later) => {
                store.compact_bodies().await.unwrap();
                if later {
                    self.end_grace().await;
                }
            }
        }
    }
}

impl Bench {
    /// Holds what is counted on the way against a full count. Returns whether all that is stored was read by then.
    async fn counts_hold(&self) -> Result<bool, TestCaseError> {
        let Some(counts) = self.store.counts() else { return Ok(false) };
        prop_assert_eq!(counts, counts::full(&self.store.stats().await.unwrap()));
        Ok(true)
    }

    /// Holds what is counted of each segment against the events, and reads the body of each event.
    fn bodies_hold(&self) -> Result<(), TestCaseError> {
        let (mut needed, mut counted) = (BTreeMap::<u64, SegmentUse>::new(), BTreeMap::new());
        let mut jobs = Vec::new();
        let read = self.store.read(|records| {
            counted = records.segments().collect::<Result<_, _>>()?;
            for entry in records.events(0, u64::MAX) {
                let event = entry?.1.unwrap();
                jobs.extend(
                    event
                        .news
                        .job()
                        .map(|job| (event.topic.owner(), event.news.event_id().to_owned(), job.clone())),
                );
            }
            Ok(())
        });
        read.unwrap();
        for (watch, event_id, job) in jobs {
            if let Some(at) = job.at {
                let left = needed.entry(at.segment).or_default();
                *left = SegmentUse { bodies: left.bodies + 1, bytes: left.bytes + job.size };
            }
            let mut bytes = Vec::new();
            self.store.bodies().get(watch, &event_id, &job).read().unwrap().read_to_end(&mut bytes).unwrap();
            prop_assert_eq!(bytes, BODY, "{}", event_id);
        }
        prop_assert_eq!(counted, needed);
        Ok(())
    }
}

/// Holds what is counted of each group against its members, and those against their watches.
fn groups_hold(records: &dyn Records) -> Result<(), TestCaseError> {
    let mut due = BTreeSet::new();
    for entry in records.groups(None) {
        let (name, group) = entry.unwrap();
        let group = group.unwrap();
        prop_assert_eq!(&name, &group.name);
        due.extend(group.is_due().then_some(group.number));
        let mut counted = Group::new(group.number, name, group.created_at);
        for member in records.members(group.number, None) {
            let (job, member) = member.unwrap();
            let member = member.unwrap();
            counted.count(None, member.end);
            let watch = match records.job(&job).unwrap() {
                Some(JobEntry::Watch(number)) => records.watch(number).unwrap(),
                Some(JobEntry::Dropped(_)) | None => None,
            };
            let watch =
                watch.filter(|watch| watch.group.as_ref().is_some_and(|of| of.number == group.number));
            let end = watch.map(|watch| WatchEntries::of(&watch).membership.unwrap().end.map(|(end, _)| end));
            if group.event.is_none() {
                // Without a watch it ended before that was dropped, or was removed.
                prop_assert_eq!(end.unwrap_or(member.end), member.end);
                prop_assert!(end.is_some() || member.end.is_some());
            }
        }
        prop_assert_eq!((counted.open, counted.counts), (group.open, group.counts));
    }
    prop_assert_eq!(records.due_groups().map(Result::unwrap).collect::<BTreeSet<_>>(), due);
    Ok(())
}

/// Holds each index against the one that the records make.
fn holds(records: &dyn Records) -> Result<(), TestCaseError> {
    let (mut open, mut closed) = (BTreeSet::new(), BTreeSet::new());
    let (mut watched, mut pending) = (BTreeMap::new(), BTreeMap::new());
    for entry in records.watches(Selection::All, None) {
        let (number, watch) = entry.unwrap();
        let watch = watch.unwrap();
        let entries = WatchEntries::of(&watch);
        open.extend(entries.is_open.then_some(number));
        closed.extend(entries.closed_at.map(|at| (at, number)));
        prop_assert_eq!(watched.insert(JobKey::of(&watch), number), None, "two watches of a job");
    }
    for entry in records.events(0, u64::MAX) {
        let (number, event) = entry.unwrap();
        let event = event.unwrap();
        closed.extend(event.closed_at.map(|at| (at, number)));
        let is_pending = records.pending_of(number).next().is_some();
        prop_assert_eq!(event.topic.job().is_none() && !is_pending, event.closed_at.is_some());
    }
    groups_hold(records)?;
    for entry in records.deliveries_before(Selection::All, None) {
        let (key, delivery) = entry.unwrap();
        pending.extend(pending_of(&delivery.unwrap()).map(|entry| (key, entry)));
    }
    prop_assert_eq!(records.open().map(Result::unwrap).collect::<BTreeSet<_>>(), open);
    let all = Time(0)..Time(i64::MAX);
    prop_assert_eq!(records.closed(all).map(Result::unwrap).collect::<BTreeSet<_>>(), closed);
    prop_assert_eq!(
        records.all_pending(None, u64::MAX).map(Result::unwrap).collect::<BTreeMap<_, _>>(),
        pending
    );
    let dropped: BTreeMap<JobKey, Time> =
        records.dropped(Time(i64::MAX)).map(|entry| entry.map(|(at, job)| (job, at)).unwrap()).collect();
    for number in 0..4 {
        let job = JobKey::new("retab", &id(job(number)), None);
        let expected = watched.get(&job).copied().map(JobEntry::Watch);
        let expected = expected.or(dropped.get(&job).copied().map(JobEntry::Dropped));
        prop_assert_eq!(records.job(&job).unwrap(), expected);
        prop_assert!(
            !(watched.contains_key(&job) && dropped.contains_key(&job)),
            "a tombstone of a watched job"
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_index_follows_from_the_records_whatever_is_done(acts in prop::collection::vec(act(), 1..60)) {
        carried_out(&[Kind::Sled, Kind::Memory], &acts)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    #[ignore = "needs a server of PostgreSQL; .ci/run has one"]
    fn the_index_follows_from_the_records_in_postgres(acts in prop::collection::vec(act(), 1..60)) {
        carried_out(&[Kind::Postgres], &acts)?;
    }
}

/// Carries out `acts` on each backend, and holds the index against the records after each.
fn carried_out(kinds: &[Kind], acts: &[Act]) -> Result<(), TestCaseError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for kind in kinds {
        let bench = Bench::on(*kind);
        for (n, act) in (0..).zip(acts.to_vec()) {
            runtime.block_on(bench.carry_out(act, at(n)));
            let mut held = Ok(());
            bench
                .store
                .backend
                .read(&mut |records| {
                    held = holds(records);
                    Ok(())
                })
                .unwrap();
            held?;
            bench.bodies_hold()?;
            runtime.block_on(bench.counts_hold())?;
        }
        // A start knows nothing of it, and reads all of it.
        let bench = bench.reopen();
        for most in [1, 3].into_iter().cycle() {
            if runtime.block_on(bench.counts_hold())? {
                break;
            }
            runtime.block_on(bench.store.count_piece(most)).unwrap();
        }
        runtime.block_on(bench.end_grace());
        // A body whose event was not made, which its writer or a start removes.
        runtime.block_on(bench.store.sweep_spool()).unwrap();
        prop_assert_eq!(runtime.block_on(bench.store.check(true)).unwrap(), []);
    }
    Ok(())
}
