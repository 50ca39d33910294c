//! The way in and the way out.

use super::*;
use crate::model::job::{Kind as JobKind, Phase, Run};

async fn a_new_watch_is_found_by_its_id_followed_and_there_after_a_restart(kind: Kind) {
    let bench = Bench::on(kind);
    let asked =
        Registration { labels: labels([("team", "a")]), ..Registration::new("retab", id("job/1 ü")) };
    let Registered::New(watch) = bench.register(asked, at(0)).await else { panic!("it is new") };
    assert_eq!(
        (watch.stage, watch.phase(), watch.created_at),
        (WatchStage::Watching, Phase::Watching, at(0))
    );
    assert_eq!(bench.told(), [Change::WatchOpened(watch.clone())]);
    let bench = bench.reopen();
    assert_eq!(
        bench.store.find("retab", &id("job/1 ü"), None).await.unwrap(),
        Found::Watch(Box::new(Watch::clone(&watch)))
    );
    assert_eq!(bench.open_watches(), [Watch::clone(&watch)]);
    assert_eq!(bench.store.find("other", &id("job/1 ü"), None).await.unwrap(), Found::Nothing);
    assert_eq!(bench.store.find("retab", &id("job/1"), None).await.unwrap(), Found::Nothing);
}

async fn what_is_watched_already_takes_new_labels_and_replaces_the_rest(kind: Kind) {
    let bench = Bench::on(kind);
    let callback = Callback { url: "https://a.example/".to_owned(), secret: None };
    let first = Registration {
        labels: labels([("team", "a"), ("kept", "1")]),
        sinks: Some(vec!["app".to_owned()]),
        callback: Some(callback.clone()),
        ..Registration::new("retab", id("job_1"))
    };
    let Registered::New(new) = bench.register(first, at(0)).await else { panic!("it is new") };
    let second = Registration {
        labels: labels([("team", "b")]),
        sinks: Some(Vec::new()),
        deadline: Some(at(60)),
        ..Registration::new("retab", id("job_1"))
    };
    let Registered::Existing(watch) = bench.register(second, at(1)).await else { panic!("it is there") };
    assert_eq!(watch.number, new.number);
    assert_eq!(watch.labels, labels([("team", "b"), ("kept", "1")]));
    assert_eq!((watch.sinks.as_deref(), watch.deadline), (Some([].as_slice()), Some(at(60))));
    assert_eq!((watch.callback.as_ref(), watch.registered_at), (Some(&callback), at(0)));
    assert_eq!(bench.read(new.number), *watch);
}

async fn too_many_labels_change_nothing(kind: Kind) {
    let bench = Bench::on(kind);
    let many = |prefix: &str, count: usize| {
        let pairs = (0..count).map(|n| (format!("{prefix}{n}"), String::new())).collect();
        Registration { labels: pairs, sinks: Some(Vec::new()), ..Registration::new("retab", id("job_1")) }
    };
    let plain = bench.watch("job_1").await;
    let found = bench.register(many("a", 16), at(1)).await;
    assert!(matches!(&found, Registered::Existing(_)), "{found:?}");
    let before = bench.read(plain.number);
    let found = bench.register(many("b", 1), at(2)).await;
    assert!(matches!(&found, Registered::TooManyLabels), "{found:?}");
    assert_eq!(bench.read(plain.number), before);
    // The same keys again are not one more.
    let found = bench.register(many("a", 16), at(3)).await;
    assert!(matches!(&found, Registered::Existing(_)), "{found:?}");
}

async fn a_finished_watch_is_watched_again_unless_only_new_ones_are_wanted(kind: Kind) {
    let bench = Bench::on(kind);
    let done = bench.finish("job_1", &[]).await;
    assert_eq!((done.phase(), done.closed_at), (Phase::Done, Some(at(11))));
    let only_new = Registration { only_new: true, ..Registration::new("retab", id("job_1")) };
    let Registered::Existing(left) = bench.register(only_new, at(20)).await else { panic!("left alone") };
    assert_eq!(*left, done);
    bench.told();
    let Registered::Again(again) = bench.register(Registration::new("retab", id("job_1")), at(30)).await
    else {
        panic!("watched again")
    };
    assert_eq!((again.phase(), again.registered_at, again.closed_at), (Phase::Watching, at(30), None));
    assert_eq!((again.created_at, again.current_completion()), (at(0), None));
    assert_eq!(bench.told(), [Change::WatchOpened(again.clone())]);
    assert_eq!(bench.open_watches(), [Watch::clone(&again)]);
    // It is no longer finished, so retention leaves it alone.
    assert_eq!(bench.store.drop_finished(at(100), at(100)).await.unwrap(), Removed::default());
}

async fn one_batch_holds_the_same_job_twice(kind: Kind) {
    let bench = Bench::on(kind);
    let twice = ["job_1", "job_2", "job_1"].map(|job| Registration::new("retab", id(job))).to_vec();
    let registered = bench.store.register(twice, at(0)).await.unwrap();
    assert!(
        matches!(registered.as_slice(), [Registered::New(one), Registered::New(two), Registered::Existing(same)]
            if one.number == same.number && one.number != two.number),
        "{registered:?}"
    );
    assert_eq!(bench.open_watches().len(), 2);
}

async fn a_removed_watch_leaves_nothing_behind(kind: Kind) {
    let bench = Bench::on(kind);
    let kept = bench.finish("kept", &["app"]).await;
    let watch = bench.finish("job_1", &["app", "disk"]).await;
    let event_id = watch.completion.as_ref().unwrap().event_id.clone();
    assert_eq!(bench.body(watch.number, &event_id).as_deref(), Some(BODY));
    bench.told();
    assert!(bench.store.remove("retab", &id("job_1"), None).await.unwrap());
    assert_eq!(bench.body(watch.number, &event_id), None);
    let told = bench.told();
    assert!(
        told.contains(&Change::WatchClosed { source: "retab".to_owned(), watch: watch.number }),
        "{told:?}"
    );
    assert!(told.contains(&Change::WatchSettled { watch: watch.number }), "{told:?}");
    assert_eq!(bench.store.find("retab", &id("job_1"), None).await.unwrap(), Found::Nothing);
    assert_eq!(bench.store.watch(watch.number).await.unwrap(), None);
    assert_eq!(bench.store.event(watch.end_events[0]).await.unwrap(), None);
    assert_eq!(bench.pending().len(), 1);
    assert!(!bench.store.remove("retab", &id("job_1"), None).await.unwrap());
    // Only what the other watch needs is left, beside what stands alone.
    let mut snapshot = bench.store.backend.snapshot();
    let prefixes: Vec<u8> = snapshot.next().unwrap().iter().map(|(key, _)| key[0]).collect();
    assert_eq!(String::from_utf8(prefixes).unwrap().replace(['m', 'b'], ""), "deiqw");
    assert_eq!(bench.read(kept.number), kept);
}

async fn a_number_is_never_given_twice(kind: Kind) {
    let bench = Bench::on(kind);
    let first = bench.watch("job_1").await;
    assert!(bench.store.remove("retab", &id("job_1"), None).await.unwrap());
    let bench = bench.reopen();
    assert!(bench.watch("job_1").await.number > first.number);
}

async fn retention_drops_what_is_finished_and_remembers_it_for_as_long_again(kind: Kind) {
    let bench = Bench::on(kind);
    let old = bench.finish("old", &[]).await;
    let busy = bench.finish("busy", &["app"]).await;
    let open = bench.watch("open").await;
    let none = bench.store.drop_finished(at(11), at(50)).await.unwrap();
    assert_eq!(none, Removed::default(), "it was closed at that instant, not before");
    let removed = bench.store.drop_finished(at(12), at(50)).await.unwrap();
    let event_id = old.completion.as_ref().unwrap().event_id.clone();
    assert_eq!((removed.watches, removed.more), (1, false));
    assert_eq!(bench.body(old.number, &event_id), None);
    assert_eq!(bench.store.find("retab", &id("old"), None).await.unwrap(), Found::Dropped);
    assert_eq!(bench.store.watch(old.number).await.unwrap(), None);
    assert_eq!((bench.read(busy.number), bench.read(open.number)), (busy, open));
    let bench = bench.reopen();
    bench.store.drop_finished(at(50), at(60)).await.unwrap();
    assert_eq!(bench.store.find("retab", &id("old"), None).await.unwrap(), Found::Dropped);
    bench.store.drop_finished(at(51), at(61)).await.unwrap();
    assert_eq!(bench.store.find("retab", &id("old"), None).await.unwrap(), Found::Nothing);
}

async fn a_dropped_job_that_is_watched_again_is_not_forgotten_with_its_memory(kind: Kind) {
    let bench = Bench::on(kind);
    let old = bench.finish("job_1", &[]).await;
    bench.store.drop_finished(at(12), at(50)).await.unwrap();
    let new = bench.watch("job_1").await;
    assert!(new.number > old.number);
    bench.store.drop_finished(at(100), at(100)).await.unwrap();
    assert_eq!(bench.store.find("retab", &id("job_1"), None).await.unwrap(), Found::Watch(Box::new(new)));
}

async fn retention_goes_in_bounded_rounds(kind: Kind) {
    let bench = Bench::on(kind);
    for n in 0..12 {
        let registrations = (0..50).map(|m| Registration::new("retab", id(format!("job_{n}_{m}")))).collect();
        for registered in bench.store.register(registrations, at(0)).await.unwrap() {
            let Registered::New(watch) = registered else { panic!("new") };
            bench.store.lose(watch.number, "gone", (1, None), to(&[]), at(1)).await;
        }
    }
    let first = bench.store.drop_finished(at(2), at(3)).await.unwrap();
    assert_eq!((first.watches, first.more), (500, true));
    let second = bench.store.drop_finished(at(2), at(3)).await.unwrap();
    assert_eq!((second.watches, second.more), (100, false));
}

/// A job of a kind that was the default one when it was registered stays itself when another kind becomes that.
async fn a_change_of_the_default_kind_mixes_no_jobs_up(kind: Kind) {
    let bench = Bench::on(kind);
    let of = |name: &str, is_default| JobKind { name: name.to_owned(), is_default };
    let asked = |job: &str, kind| Registration { kind: Some(kind), ..Registration::new("retab", id(job)) };
    let number = |found| match found {
        Found::Watch(watch) => watch.number,
        other => panic!("{other:?}"),
    };
    let Registered::New(before) = bench.register(asked("x", of("a", true)), at(0)).await else { panic!() };
    let Registered::New(other) = bench.register(asked("x", of("b", false)), at(0)).await else { panic!() };
    let store = &bench.store;
    // Now b is the default one.
    for (name, is_default, expected) in [("a", false, before.number), ("b", true, other.number)] {
        let found = store.find("retab", &id("x"), Some(&of(name, is_default))).await.unwrap();
        assert_eq!(number(found), expected, "{name}");
        let Registered::Existing(again) = bench.register(asked("x", of(name, is_default)), at(1)).await
        else {
            panic!("{name}")
        };
        assert_eq!((again.number, &again.kind.as_ref().unwrap().name[..]), (expected, name));
    }
    let Registered::New(only) = bench.register(asked("y", of("a", true)), at(2)).await else { panic!() };
    assert_eq!(store.find("retab", &id("y"), Some(&of("b", true))).await.unwrap(), Found::Nothing);
    let Registered::New(b) = bench.register(asked("y", of("b", true)), at(2)).await else { panic!() };
    assert_ne!(b.number, only.number);
    assert_ne!(
        b.event_id(Outcome::Completed, &Run::default()),
        only.event_id(Outcome::Completed, &Run::default())
    );
    // Of several kinds, none of them at the plain key, one has to be named.
    for name in ["c", "d"] {
        bench.register(asked("z", of(name, false)), at(3)).await;
    }
    let found = store.find("retab", &id("z"), None).await.unwrap();
    assert_eq!(found, Found::Several(vec!["c".to_owned(), "d".to_owned()]));
    assert!(!store.remove("retab", &id("z"), None).await.unwrap());
    assert!(store.remove("retab", &id("z"), Some(&of("c", false))).await.unwrap());
    assert!(
        matches!(store.find("retab", &id("z"), None).await.unwrap(), Found::Watch(_)),
        "the only one left"
    );
}

/// A watch from before its source had kinds is of the default kind, and its event says so.
async fn a_watch_without_a_kind_gets_that_of_its_answer(kind: Kind) {
    let bench = Bench::on(kind);
    let default = JobKind { name: "jobs".to_owned(), is_default: true };
    let watch = bench.watch("job_1").await;
    let asked = Registration { kind: Some(default.clone()), ..Registration::new("retab", id("job_1")) };
    assert!(
        matches!(bench.register(asked, at(1)).await, Registered::Existing(found) if found.number == watch.number)
    );
    let old = bench.watch("job_2").await;
    let routed = |watch: &Watch, _| vec![watch.kind.as_ref().map_or("none", |kind| &kind.name).to_owned()];
    bench.store.lose(old.number, "gone", (1, Some(default)), routed, at(2)).await;
    let Found::Watch(lost) = bench.store.find("retab", &id("job_2"), None).await.unwrap() else { panic!() };
    let deliveries = bench.store.deliveries_of(&lost).await.unwrap();
    assert_eq!(deliveries[0].1.sink, "jobs");
}

async fn the_jobs_of_a_prefix_are_found_in_one_source_and_in_all(kind: Kind) {
    let bench = Bench::on(kind);
    let asked = |source: &str, job: String| Registration::new(source, id(job));
    // More than one page of a scan.
    let many = (0..40).map(|n| asked("retab", format!("job_a{n:02}")));
    let more = [("retab", "job_b"), ("retab", "é1"), ("other", "job_a"), ("others", "job_a1"), ("a", "job")];
    let more = more.map(|(source, job)| asked(source, job.to_owned()));
    bench.store.register(many.chain(more).collect(), at(0)).await.unwrap();
    let gone = bench.finish("job_a_gone", &[]).await;
    assert!(bench.store.remove("retab", &gone.job_id, None).await.unwrap());
    let found = async |source: Option<&str>, prefix: &str| {
        let (source, prefix) = (source.map(str::to_owned), Some(prefix.to_owned()));
        let filter = WatchFilter { source, job_id_prefix: prefix, ..WatchFilter::default() };
        let page = bench.store.watches(&filter, None, 100).await.unwrap();
        assert!(page.entries.is_sorted_by_key(|watch| std::cmp::Reverse(watch.number)), "newest first");
        page.entries.iter().map(|watch| format!("{} {}", watch.source, watch.job_id)).collect::<Vec<_>>()
    };
    assert_eq!(found(Some("retab"), "job_a").await.len(), 40);
    assert_eq!(found(None, "job_a").await.len(), 42);
    assert_eq!(found(None, "job").await.len(), 44);
    assert_eq!(found(None, "job_a1").await[0], "others job_a1");
    assert_eq!(found(Some("other"), "job").await, ["other job_a"]);
    assert_eq!(found(None, "é").await, ["retab é1"]);
    assert!(found(Some("none"), "job").await.is_empty() && found(None, "job_c").await.is_empty());
}

on_every_backend![
    the_jobs_of_a_prefix_are_found_in_one_source_and_in_all,
    a_change_of_the_default_kind_mixes_no_jobs_up,
    a_watch_without_a_kind_gets_that_of_its_answer,
    a_new_watch_is_found_by_its_id_followed_and_there_after_a_restart,
    what_is_watched_already_takes_new_labels_and_replaces_the_rest,
    too_many_labels_change_nothing,
    a_finished_watch_is_watched_again_unless_only_new_ones_are_wanted,
    one_batch_holds_the_same_job_twice,
    a_removed_watch_leaves_nothing_behind,
    a_number_is_never_given_twice,
    retention_drops_what_is_finished_and_remembers_it_for_as_long_again,
    a_dropped_job_that_is_watched_again_is_not_forgotten_with_its_memory,
    retention_goes_in_bounded_rounds,
];
