//! Groups: joined, closed, finished once, and dropped.

use super::*;
use crate::model::group::MemberEnd;

impl Bench {
    async fn join(&self, job: &str, group: &str, now: Time) -> Registered {
        let group = Some(named(group));
        self.register(Registration { group, ..Registration::new("retab", id(job)) }, now).await
    }

    async fn group(&self, name: &str) -> Group {
        self.store.group(&named(name)).await.unwrap().unwrap()
    }

    async fn close_group(&self, name: &str, now: Time) -> bool {
        self.store.close_group(&named(name), now).await.unwrap().unwrap().1
    }

    /// Brings the job of a watch to its end, with this outcome.
    async fn end(&self, job: &str, outcome: Outcome, run: u32, now: Time) {
        let Found::Watch(watch) = self.store.find("retab", &id(job), None).await.unwrap() else {
            panic!("{job}")
        };
        let seen = seen("ended", run);
        match self.store.record_finished(watch.number, outcome, &seen, 1, now).await {
            Finished::Fetch(watch) => self.fan_out(&watch, &[], now).await,
            Finished::Known => {}
            other => panic!("{other:?}"),
        }
    }

    async fn finish_due(&self, sinks: &[&str], now: Time) -> usize {
        let due = self.store.due_groups().await.unwrap();
        for group in &due {
            let body = self.new_body(group.number, group.event_id.as_ref().unwrap(), BODY).await;
            let sinks: Vec<String> = sinks.iter().map(ToString::to_string).collect();
            assert!(self.store.finish_group((group.number, group.revision), &body, &sinks, now).await);
        }
        due.len()
    }

    async fn ends(&self, group: &Group) -> Vec<(String, Option<&'static str>)> {
        let members = self.store.members(group.number, None, 100).await.unwrap().entries;
        members.into_iter().map(|one| (one.job_id.to_string(), one.end.map(MemberEnd::as_str))).collect()
    }
}

async fn a_group_is_due_once_it_is_closed_and_all_of_it_has_ended(kind: Kind) {
    let bench = Bench::on(kind);
    assert!(bench.store.close_group(&named("g"), at(0)).await.unwrap().is_none());
    for job in ["a", "b"] {
        assert!(matches!(bench.join(job, "g", at(0)).await, Registered::New(_)));
    }
    bench.end("a", Outcome::Completed, 1, at(1)).await;
    assert!(bench.close_group("g", at(2)).await);
    assert!(!bench.close_group("g", at(3)).await, "idempotent");
    let closed = bench.group("g").await;
    assert_eq!((closed.open, closed.closed_at), (1, Some(at(2))));
    assert_eq!(bench.finish_due(&["app"], at(3)).await, 0);
    // Those it has may come again, and no others.
    assert!(matches!(bench.join("b", "g", at(4)).await, Registered::Existing(_)));
    assert!(matches!(bench.join("c", "g", at(4)).await, Registered::GroupClosed));
    assert!(
        matches!(bench.join("b", "other", at(4)).await, Registered::OtherGroup(name) if name == named("g"))
    );
    assert_eq!(bench.store.find("retab", &id("c"), None).await.unwrap(), Found::Nothing);
    assert!(bench.store.group(&named("other")).await.unwrap().is_none());
    bench.told();
    bench.end("b", Outcome::Failed, 1, at(5)).await;
    assert!(bench.told().contains(&Change::GroupDue));
    let bench = bench.reopen();
    let [due] = bench.store.due_groups().await.unwrap().try_into().unwrap();
    assert_eq!(
        due.counts,
        BTreeMap::from([(MemberEnd::Job(Outcome::Completed), 1), (MemberEnd::Job(Outcome::Failed), 1),])
    );
    assert_eq!(bench.finish_due(&["app"], at(6)).await, 1);
    assert_eq!(bench.finish_due(&["app"], at(6)).await, 0);
    let done = bench.group("g").await;
    let event = bench.store.event(done.event.unwrap()).await.unwrap().unwrap();
    assert_eq!(Some(event.news.event_id()), closed.event_id.as_deref(), "it is a function of the closing");
    assert_eq!((event.news.event_type(), event.closed_at), (EventType::GroupFinished, None));
    // After the event nothing changes.
    assert!(matches!(bench.join("a", "g", at(7)).await, Registered::Again(_)));
    bench.end("a", Outcome::Failed, 2, at(8)).await;
    assert_eq!(bench.group("g").await, done);
    assert_eq!(bench.store.check(true).await.unwrap(), []);
}

async fn a_member_that_is_watched_again_counts_as_open_until_it_ends_again(kind: Kind) {
    let bench = Bench::on(kind);
    bench.join("a", "g", at(0)).await;
    bench.end("a", Outcome::Failed, 1, at(1)).await;
    bench.close_group("g", at(2)).await;
    let due = bench.store.due_groups().await.unwrap().remove(0);
    let body = bench.new_body(due.number, due.event_id.as_ref().unwrap(), BODY).await;
    assert!(matches!(bench.join("a", "g", at(3)).await, Registered::Again(_)));
    assert!(
        !bench.store.finish_group((due.number, due.revision), &body, &[], at(4)).await,
        "a job of it runs again"
    );
    assert_eq!(bench.finish_due(&[], at(4)).await, 0);
    // The same run is known, and no second event of it is made.
    bench.end("a", Outcome::Failed, 1, at(5)).await;
    assert!(
        !bench.store.finish_group((due.number, due.revision), &body, &[], at(5)).await,
        "what was read is from before"
    );
    bench.join("a", "g", at(6)).await;
    bench.end("a", Outcome::Completed, 2, at(7)).await;
    assert_eq!(bench.finish_due(&[], at(8)).await, 1);
    let group = bench.group("g").await;
    assert_eq!(bench.ends(&group).await, [("a".to_owned(), Some("completed"))]);
    assert_eq!(group.counts, BTreeMap::from([(MemberEnd::Job(Outcome::Completed), 1)]));
}

async fn members_that_are_removed_or_dropped_are_counted_and_listed(kind: Kind) {
    let bench = Bench::on(kind);
    for job in ["dropped", "ended", "removed"] {
        bench.join(job, "g", at(0)).await;
    }
    bench.end("dropped", Outcome::Lost, 1, at(1)).await;
    assert_eq!(bench.store.drop_finished(at(2), at(2)).await.unwrap().watches, 1);
    bench.end("ended", Outcome::Completed, 1, at(3)).await;
    for job in ["ended", "removed"] {
        assert!(bench.store.remove("retab", &id(job), None).await.unwrap());
    }
    bench.close_group("g", at(4)).await;
    assert_eq!(bench.finish_due(&[], at(5)).await, 1, "it does not wait for what is gone");
    let group = bench.group("g").await;
    let expected = [("dropped", "lost"), ("ended", "completed"), ("removed", "removed")];
    let expected = expected.map(|(job, end)| (job.to_owned(), Some(end)));
    assert_eq!(bench.ends(&group).await, expected);
    // A registration of before the close is the same member.
    let bench = bench.reopen();
    assert_eq!(bench.store.check(true).await.unwrap(), []);
}

async fn a_group_stays_until_retention_drops_its_settled_event(kind: Kind) {
    let bench = Bench::on(kind);
    bench.join("a", "g", at(0)).await;
    bench.end("a", Outcome::Completed, 1, at(1)).await;
    bench.close_group("g", at(2)).await;
    bench.finish_due(&["app"], at(3)).await;
    let group = bench.group("g").await;
    let event = group.event.unwrap();
    bench.store.drop_finished(at(100), at(100)).await.unwrap();
    assert!(bench.store.group(&named("g")).await.unwrap().is_some(), "a delivery of it is pending");
    let [(_, key, _)] = bench.pending().try_into().unwrap();
    bench
        .store
        .record_attempt(key, &attempt(0, at(101), AttemptVerdict::Dead("no".to_owned())), at(101))
        .await;
    assert_eq!(bench.store.event(event).await.unwrap().unwrap().closed_at, Some(at(101)));
    // A redelivery keeps it.
    assert_eq!(bench.store.redeliver(vec![key], at(102)).await.unwrap(), 1);
    assert_eq!(bench.store.event(event).await.unwrap().unwrap().closed_at, None);
    let done = attempt(1, at(103), AttemptVerdict::Delivered);
    bench.store.record_attempt(key, &nth(2, done), at(103)).await;
    assert_eq!(bench.store.deliver_past("other", vec![event], at(104)).await.unwrap(), 1);
    let keys = bench.store.pending_of("other", None, u64::MAX, 9).await.unwrap();
    let moved = bench.store.move_pending("other", "third", keys, |_| true, at(105)).await.unwrap();
    assert_eq!(moved, Handed { moved: 1, existing: 0 });
    let keys = bench.store.pending_of("third", None, u64::MAX, 9).await.unwrap();
    assert_eq!(bench.store.drop_pending("third", keys, at(106)).await.unwrap(), 1);
    assert_eq!(bench.store.event(event).await.unwrap().unwrap().closed_at, Some(at(106)));
    assert_eq!(bench.store.check(true).await.unwrap(), []);
    assert_eq!(bench.store.drop_finished(at(106), at(106)).await.unwrap().events, 0);
    let body = bench.body(group.number, group.event_id.as_ref().unwrap());
    assert_eq!(body.as_deref(), Some(BODY));
    assert_eq!(bench.store.drop_finished(at(107), at(107)).await.unwrap().events, 1);
    assert!(bench.store.group(&named("g")).await.unwrap().is_none());
    assert!(bench.store.members(group.number, None, 9).await.unwrap().entries.is_empty());
    assert!(bench.store.event(event).await.unwrap().is_none());
    // The name is free.
    bench.join("a", "g", at(108)).await;
    assert_ne!(bench.group("g").await.number, group.number);
    assert_eq!(bench.store.check(true).await.unwrap(), []);
}

async fn a_batch_closes_its_groups_unless_an_entry_is_refused(kind: Kind) {
    let bench = Bench::on(kind);
    let asked = |jobs: &[&str]| -> Vec<Registration> {
        let one =
            |job: &&str| Registration { group: Some(named("g")), ..Registration::new("retab", id(job)) };
        jobs.iter().map(one).collect()
    };
    bench.join("x", "other", at(0)).await;
    let (registered, closed) = bench.store.register_and_close(asked(&["a", "x"]), at(0)).await.unwrap();
    assert!(matches!(registered.as_slice(), [Registered::New(_), Registered::OtherGroup(_)]));
    assert_eq!((closed, bench.group("g").await.closed_at), (vec![], None));
    let (registered, closed) = bench.store.register_and_close(asked(&["a", "b"]), at(1)).await.unwrap();
    assert!(matches!(registered.as_slice(), [Registered::Existing(_), Registered::New(_)]));
    assert_eq!((closed, bench.group("g").await.closed_at), (vec![named("g")], Some(at(1))));
    // A caller that was cut off sends it again.
    let (again, closed) = bench.store.register_and_close(asked(&["a", "b"]), at(2)).await.unwrap();
    assert!(matches!(again.as_slice(), [Registered::Existing(_), Registered::Existing(_)]));
    assert_eq!((closed, bench.group("g").await.closed_at), (vec![named("g")], Some(at(1))));
}

async fn an_export_with_kinds_of_job_is_not_one_of_the_first_format(kind: Kind) {
    let bench = Bench::on(kind);
    let job_kind = |name: &str, is_default| crate::model::job::Kind { name: name.to_owned(), is_default };
    let export = || {
        let mut text = Vec::new();
        bench.store.export(&mut text).unwrap();
        String::from_utf8(text).unwrap().lines().next().unwrap().to_owned()
    };
    let default = Registration { kind: Some(job_kind("jobs", true)), ..Registration::new("retab", id("a")) };
    bench.store.register(vec![default.clone()], at(0)).await.unwrap();
    assert!(export().starts_with("{\"tidings_export\":{\"format\":1,"), "the id alone names it");
    let other = Registration { kind: Some(job_kind("parses", false)), ..default };
    assert!(matches!(bench.store.register(vec![other], at(0)).await.unwrap()[..], [Registered::New(_)]));
    assert!(
        export().starts_with("{\"tidings_export\":{\"format\":2,"),
        "an earlier version would misread it"
    );
}

async fn an_export_holds_groups_and_their_events(kind: Kind) {
    let bench = Bench::on(kind);
    let mut text = Vec::new();
    bench.store.export(&mut text).unwrap();
    assert!(text.starts_with(b"{\"tidings_export\":{\"format\":1,"), "an earlier version takes it");
    for job in ["a", "b"] {
        bench.join(job, "g", at(0)).await;
    }
    bench.join("c", "open", at(0)).await;
    bench.end("a", Outcome::Completed, 1, at(1)).await;
    bench.end("b", Outcome::Failed, 1, at(1)).await;
    bench.close_group("g", at(2)).await;
    bench.finish_due(&["app"], at(3)).await;
    let (closed, open) = (bench.group("g").await, bench.group("open").await);
    let mut text = Vec::new();
    bench.store.export(&mut text).unwrap();
    assert!(text.starts_with(b"{\"tidings_export\":{\"format\":2,"), "an earlier version refuses it");
    if bench.sled.is_none() {
        // What is in memory has no mark that a start would search for.
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("data");
    let done = import(&mut text.as_slice(), &config(&to)).unwrap();
    assert_eq!((done.unreadable, done.lost), (0, 0));
    let listeners = Arc::default();
    let backend = sled::SledStore::open(&config(&to), &listeners).unwrap();
    let store = Store { backend: Arc::new(backend), listeners };
    for group in [&closed, &open] {
        assert_eq!(store.group(&group.name).await.unwrap().as_ref(), Some(group));
        assert_eq!(
            store.members(group.number, None, 9).await.unwrap().entries,
            bench.store.members(group.number, None, 9).await.unwrap().entries
        );
    }
    let event = store.event(closed.event.unwrap()).await.unwrap().unwrap();
    assert!(store.has_body(&event).await.unwrap());
    assert_eq!(store.check(true).await.unwrap(), []);
}

on_every_backend!(
    a_group_is_due_once_it_is_closed_and_all_of_it_has_ended,
    a_member_that_is_watched_again_counts_as_open_until_it_ends_again,
    members_that_are_removed_or_dropped_are_counted_and_listed,
    a_group_stays_until_retention_drops_its_settled_event,
    a_batch_closes_its_groups_unless_an_entry_is_refused,
    an_export_with_kinds_of_job_is_not_one_of_the_first_format,
    an_export_holds_groups_and_their_events,
);
