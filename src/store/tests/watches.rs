//! The way in and the way out.

use std::fs;

use super::*;
use crate::model::job::Phase;

#[tokio::test]
async fn a_new_watch_is_found_by_its_id_followed_and_there_after_a_restart() {
    let bench = Bench::new();
    let asked =
        Registration { labels: labels([("team", "a")]), ..Registration::new("retab", id("job/1 ü")) };
    let Registered::New(watch) = bench.register(asked, at(0)).await else { panic!("it is new") };
    assert_eq!(
        (watch.stage, watch.phase(), watch.created_at),
        (WatchStage::Watching, Phase::Watching, at(0))
    );
    assert_eq!(bench.told(), [Change::WatchOpened(watch.clone())]);
    let bench = bench.reopen();
    assert_eq!(bench.store.find("retab", &id("job/1 ü")).unwrap(), Found::Watch(Box::new(watch.clone())));
    assert_eq!(bench.open_watches(), [watch]);
    assert_eq!(bench.store.find("other", &id("job/1 ü")).unwrap(), Found::Nothing);
    assert_eq!(bench.store.find("retab", &id("job/1")).unwrap(), Found::Nothing);
}

#[tokio::test]
async fn what_is_watched_already_takes_new_labels_and_replaces_the_rest() {
    let bench = Bench::new();
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
    assert_eq!(bench.read(new.number), watch);
}

#[tokio::test]
async fn too_many_labels_change_nothing() {
    let bench = Bench::new();
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

#[tokio::test]
async fn a_finished_watch_is_watched_again_unless_only_new_ones_are_wanted() {
    let bench = Bench::new();
    let done = bench.finish("job_1", &[]).await;
    assert_eq!((done.phase(), done.closed_at), (Phase::Done, Some(at(11))));
    let only_new = Registration { only_new: true, ..Registration::new("retab", id("job_1")) };
    let Registered::Existing(left) = bench.register(only_new, at(20)).await else { panic!("left alone") };
    assert_eq!(left, done);
    bench.told();
    let Registered::Again(again) = bench.register(Registration::new("retab", id("job_1")), at(30)).await
    else {
        panic!("watched again")
    };
    assert_eq!((again.phase(), again.registered_at, again.closed_at), (Phase::Watching, at(30), None));
    assert_eq!((again.created_at, again.current_completion()), (at(0), None));
    assert_eq!(bench.told(), [Change::WatchOpened(again.clone())]);
    assert_eq!(bench.open_watches(), [again]);
    // It is no longer finished, so retention leaves it alone.
    assert_eq!(bench.store.drop_finished(at(100), at(100)).await.unwrap(), Removed::default());
}

#[tokio::test]
async fn one_batch_holds_the_same_job_twice() {
    let bench = Bench::new();
    let twice = ["job_1", "job_2", "job_1"].map(|job| Registration::new("retab", id(job))).to_vec();
    let registered = bench.store.register(twice, at(0)).await.unwrap();
    assert!(
        matches!(registered.as_slice(), [Registered::New(one), Registered::New(two), Registered::Existing(same)]
            if one.number == same.number && one.number != two.number),
        "{registered:?}"
    );
    assert_eq!(bench.open_watches().len(), 2);
}

#[tokio::test]
async fn a_removed_watch_leaves_nothing_behind() {
    let bench = Bench::new();
    let kept = bench.finish("kept", &["app"]).await;
    let watch = bench.finish("job_1", &["app", "disk"]).await;
    let event_id = watch.completion.as_ref().unwrap().event_id.clone();
    assert_eq!(bench.body(watch.number, &event_id).as_deref(), Some(BODY));
    bench.told();
    assert!(bench.store.remove("retab", &id("job_1")).await.unwrap());
    assert_eq!(bench.body(watch.number, &event_id), None);
    let told = bench.told();
    assert!(
        told.contains(&Change::WatchClosed { source: "retab".to_owned(), watch: watch.number }),
        "{told:?}"
    );
    assert!(told.contains(&Change::WatchSettled { watch: watch.number }), "{told:?}");
    assert_eq!(bench.store.find("retab", &id("job_1")).unwrap(), Found::Nothing);
    assert_eq!(bench.store.watch(watch.number).unwrap(), None);
    assert_eq!(bench.store.event(watch.end_events[0]).unwrap(), None);
    assert_eq!(bench.pending().len(), 1);
    assert!(!bench.store.remove("retab", &id("job_1")).await.unwrap());
    // Only what the other watch needs is left, beside what stands alone.
    let mut snapshot = bench.store.backend.snapshot();
    let prefixes: Vec<u8> = snapshot.next().unwrap().iter().map(|(key, _)| key[0]).collect();
    assert_eq!(String::from_utf8(prefixes).unwrap().replace('m', ""), "deiqw");
    assert_eq!(bench.read(kept.number), kept);
}

#[tokio::test]
async fn a_number_is_never_given_twice() {
    let bench = Bench::new();
    let first = bench.watch("job_1").await;
    assert!(bench.store.remove("retab", &id("job_1")).await.unwrap());
    let bench = bench.reopen();
    assert!(bench.watch("job_1").await.number > first.number);
}

#[tokio::test]
async fn retention_drops_what_is_finished_and_remembers_it_for_as_long_again() {
    let bench = Bench::new();
    let old = bench.finish("old", &[]).await;
    let busy = bench.finish("busy", &["app"]).await;
    let open = bench.watch("open").await;
    let none = bench.store.drop_finished(at(11), at(50)).await.unwrap();
    assert_eq!(none, Removed::default(), "it was closed at that instant, not before");
    let removed = bench.store.drop_finished(at(12), at(50)).await.unwrap();
    let event_id = old.completion.as_ref().unwrap().event_id.clone();
    assert_eq!(removed, Removed { watches: 1, bodies: vec![(old.number, event_id.clone())], more: false });
    assert_eq!(bench.body(old.number, &event_id), None);
    assert_eq!(bench.store.find("retab", &id("old")).unwrap(), Found::Dropped);
    assert_eq!(bench.store.watch(old.number).unwrap(), None);
    assert_eq!((bench.read(busy.number), bench.read(open.number)), (busy, open));
    let bench = bench.reopen();
    bench.store.drop_finished(at(50), at(60)).await.unwrap();
    assert_eq!(bench.store.find("retab", &id("old")).unwrap(), Found::Dropped);
    bench.store.drop_finished(at(51), at(61)).await.unwrap();
    assert_eq!(bench.store.find("retab", &id("old")).unwrap(), Found::Nothing);
}

#[tokio::test]
async fn a_dropped_job_that_is_watched_again_is_not_forgotten_with_its_memory() {
    let bench = Bench::new();
    let old = bench.finish("job_1", &[]).await;
    bench.store.drop_finished(at(12), at(50)).await.unwrap();
    let new = bench.watch("job_1").await;
    assert!(new.number > old.number);
    bench.store.drop_finished(at(100), at(100)).await.unwrap();
    assert_eq!(bench.store.find("retab", &id("job_1")).unwrap(), Found::Watch(Box::new(new)));
}

#[tokio::test]
async fn retention_goes_in_bounded_rounds() {
    let bench = Bench::new();
    for n in 0..12 {
        let registrations = (0..50).map(|m| Registration::new("retab", id(format!("job_{n}_{m}")))).collect();
        for registered in bench.store.register(registrations, at(0)).await.unwrap() {
            let Registered::New(watch) = registered else { panic!("new") };
            bench.store.lose(watch.number, "gone", 1, to(&[]), at(1)).await;
        }
    }
    let first = bench.store.drop_finished(at(2), at(3)).await.unwrap();
    assert_eq!((first.watches, first.more), (500, true));
    let second = bench.store.drop_finished(at(2), at(3)).await.unwrap();
    assert_eq!((second.watches, second.more), (100, false));
}

#[tokio::test]
async fn bodies_that_nobody_refers_to_are_swept_and_the_others_stay() {
    let bench = Bench::new();
    let watch = bench.finish("job_1", &["app"]).await;
    for (number, event_id) in [(watch.number, "evt_other"), (999, "evt_orphan")] {
        let mut incoming = bench.store.bodies().begin(number, event_id).await.unwrap();
        incoming.write(b"{}").await.unwrap();
        incoming.finish().await.unwrap();
    }
    drop(bench.store.bodies().begin(5, "evt_half").await.unwrap());
    let bench = bench.reopen();
    assert_eq!(fs::read_dir(bench.folder.path().join("spool/incoming")).unwrap().count(), 0);
    assert_eq!(bench.store.sweep_spool().unwrap(), 1);
    let mut left: Vec<_> =
        bench.store.bodies().entries().unwrap().into_iter().map(|body| body.event_id).collect();
    left.sort();
    let mut expected = vec!["evt_other".to_owned(), watch.completion.unwrap().event_id];
    expected.sort();
    assert_eq!(left, expected);
}

#[tokio::test]
async fn the_bytes_in_the_spool_are_counted_without_walking_it() {
    let bench = Bench::new();
    let put = async |bench: &Bench, watch: u64, event_id: &str, size: usize| {
        let mut incoming = bench.store.bodies().begin(watch, event_id).await.unwrap();
        incoming.write(&vec![b' '; size]).await.unwrap();
        incoming.finish().await.unwrap();
    };
    put(&bench, 1, "evt_old", 100).await;
    put(&bench, 2, "evt_replaced", 20).await;
    put(&bench, 3, "evt_gone", 3).await;
    put(&bench, 3, "evt_gone", 4).await;
    assert_eq!(bench.store.bodies().bytes(), 124);
    let bench = bench.reopen();
    // Before the walk has come upon them.
    put(&bench, 2, "evt_replaced", 50).await;
    put(&bench, 4, "evt_new", 1000).await;
    bench.store.bodies().remove(3, "evt_gone").unwrap();
    assert_eq!(bench.store.bodies().bytes(), 1050);
    for _ in 0..2 {
        bench.store.bodies().entries().unwrap();
        assert_eq!(bench.store.bodies().bytes(), 1150);
    }
    // And after it.
    put(&bench, 2, "evt_replaced", 10).await;
    bench.store.bodies().remove(1, "evt_old").unwrap();
    bench.store.bodies().remove(1, "evt_old").unwrap();
    assert_eq!(bench.store.bodies().bytes(), 1010);
}
