//! A record that cannot be read costs its own watch.

use super::*;
use crate::{
    model::{delivery::DeliveryState, group::MemberEnd, job::Phase},
    store::{
        records::JobKey,
        tests::{named, seen},
    },
};

/// What may stand in place of a record: half of one, another version, JSON of something else.
const GARBAGE: [&[u8]; 6] = [b"\x02", b"\x01", b"\x01{\"watch\":", b"\x02{}", b"\x01{}", b"\xff\xfe\x00junk"];

/// Overwrites records of a store that is closed.
fn spoil(folder: &Path, keys: &[Vec<u8>], garbage: &[u8]) {
    let db = sled::Config::default().path(folder.join("db")).open().unwrap();
    for key in keys {
        assert!(db.insert(key, garbage).unwrap().is_some(), "{key:?} was there");
    }
    db.flush().unwrap();
}

fn names(watches: &[Watch]) -> Vec<String> {
    watches.iter().map(|watch| watch.job_id.to_string()).collect()
}

/// A store in which the watches `bad`, `ended` and `waiting`, a delivery and an event cannot be read, and others can.
async fn spoilt(garbage: &[u8]) -> Bench {
    let bench = Bench::new();
    let bad = bench.watch("bad").await;
    bench.watch("open").await;
    let ended = bench.finish("ended", &[]).await;
    bench.finish("done", &[]).await;
    let waiting = bench.finish("waiting", &["app"]).await;
    let pending = bench.finish("pending", &["app"]).await;
    let no_delivery = bench.finish("no_delivery", &["app"]).await;
    let no_event = bench.finish("no_event", &["app"]).await;
    let _ = pending;
    let delivery = keys::delivery(keys::DELIVERY, bench.key(&no_delivery, "app").await);
    let event = keys::event(no_event.end_events[0]);
    let folder = bench.close();
    let watches = [keys::open(bad.number), keys::watch(ended.number), keys::watch(waiting.number)];
    spoil(folder.path(), &[watches.as_slice(), &[delivery, event]].concat(), garbage);
    Bench::open(folder)
}

#[tokio::test]
async fn the_others_are_opened_listed_and_followed() {
    for garbage in GARBAGE {
        let bench = spoilt(garbage).await;
        assert_eq!(names(&bench.open_watches()), ["open"]);
        assert_eq!(bench.store.unreadable(), 1, "what is open was read");
        let all = bench.store.watches(&WatchFilter::default(), None, 100).await.unwrap().entries;
        assert_eq!(names(&all), ["no_event", "no_delivery", "pending", "done", "open"]);
        let open = WatchFilter { phase: Some(Phase::Watching), ..WatchFilter::default() };
        assert_eq!(names(&bench.store.watches(&open, None, 100).await.unwrap().entries), ["open"]);
        let deliveries = bench.store.deliveries(&DeliveryFilter::default(), None, 100).await.unwrap().entries;
        let jobs: Vec<String> =
            deliveries.iter().map(|(_, delivery)| delivery.topic.job().unwrap().job_id.to_string()).collect();
        assert_eq!(jobs, ["no_event", "pending", "waiting"]);
        let events = bench.store.events_after(0, u64::MAX, 100, usize::MAX).await.unwrap();
        let jobs: Vec<String> =
            events.iter().map(|(_, event)| event.topic.job().unwrap().job_id.to_string()).collect();
        assert_eq!(jobs, ["ended", "done", "waiting", "pending", "no_delivery"]);
        assert_eq!(bench.pending().len(), 4, "all are told; those that cannot be read are passed over later");
        assert_eq!(bench.store.unreadable(), 5, "each is counted once");
        assert_eq!(bench.store.stats().await.unwrap().unreadable, 4);
    }
}

#[tokio::test]
async fn a_page_of_events_does_not_end_at_one_that_cannot_be_read() {
    let bench = spoilt(GARBAGE[2]).await;
    let (mut jobs, mut after) = (Vec::new(), 0);
    while let [(number, event)] = &bench.store.events_after(after, u64::MAX, 1, usize::MAX).await.unwrap()[..]
    {
        jobs.push(event.topic.job().unwrap().job_id.to_string());
        after = *number;
    }
    assert_eq!(jobs, ["ended", "done", "waiting", "pending", "no_delivery"]);
}

#[tokio::test]
async fn it_is_named_and_can_be_removed() {
    for garbage in GARBAGE {
        let bench = spoilt(garbage).await;
        let find = async |job: &str| bench.store.find("retab", &id(job), None).await;
        for job in ["bad", "ended", "waiting"] {
            assert!(matches!(find(job).await, Err(StoreError::Record(_))), "{job}");
            let again = bench.register(Registration::new("retab", id(job)), at(50)).await;
            assert!(matches!(again, Registered::Unreadable(_)), "{again:?}");
        }
        let problems = bench.store.check(false).await.unwrap();
        for job in ["retab/bad", "retab/ended", "retab/waiting"] {
            assert!(problems.iter().any(|problem| problem.at == job), "{job}: {problems:#?}");
        }
        assert!(
            problems
                .iter()
                .any(|problem| problem.at.starts_with("e:") && problem.what.contains("cannot be read"))
        );
        assert!(
            problems
                .iter()
                .any(|problem| problem.at.starts_with("d:") && problem.what.contains("cannot be read"))
        );
        for job in ["bad", "ended", "waiting", "no_delivery", "no_event"] {
            assert!(bench.store.remove("retab", &id(job), None).await.unwrap(), "{job}");
            assert_eq!(find(job).await.unwrap(), Found::Nothing);
            assert!(!bench.store.remove("retab", &id(job), None).await.unwrap(), "{job} is gone");
        }
        assert_eq!(bench.store.unreadable(), 0);
        let problems = bench.store.check(true).await.unwrap();
        assert_eq!(problems, [], "{garbage:?}: nothing of them is left");
        assert_eq!(bench.pending().len(), 1);
        let found = bench.register(Registration::new("retab", id("bad")), at(60)).await;
        assert!(matches!(&found, Registered::New(_)), "{found:?}");
        // The counts are right, too: it opens.
        assert_eq!(names(&bench.reopen().open_watches()), ["open", "bad"]);
    }
}

#[tokio::test]
async fn a_batch_with_one_is_taken_but_for_that_one() {
    let bench = spoilt(GARBAGE[1]).await;
    let batch = ["one", "bad", "two"].map(|job| Registration::new("retab", id(job))).to_vec();
    let registered = bench.store.register(batch, at(50)).await.unwrap();
    assert!(
        matches!(registered[..], [Registered::New(_), Registered::Unreadable(_), Registered::New(_)]),
        "{registered:?}"
    );
}

#[tokio::test]
async fn what_follows_and_delivers_passes_over_it() {
    let bench = spoilt(GARBAGE[3]).await;
    // The numbers of `bad` and of its neighbours follow from their order.
    assert_eq!(bench.store.watch(1).await.unwrap(), None);
    assert_eq!(bench.store.record_running(1, &seen("in_progress", 1), 2, to(&["app"]), at(60)).await, []);
    let ended = bench.store.record_finished(1, Outcome::Completed, &seen("completed", 1), 3, at(60)).await;
    assert_eq!(ended, Finished::Gone);
    bench.store.lose(1, "gone", (1, None), to(&["app"]), at(60)).await;
    bench.store.resume_watching(1, at(60)).await;
    for (_, key, _) in bench.pending() {
        bench.store.record_attempt(key, &attempt(0, at(60), AttemptVerdict::Delivered), at(60)).await;
    }
    // One delivery cannot be read and is left, the others were recorded.
    assert_eq!(bench.pending().len(), 1);
    let delivered = DeliveryFilter { state: Some(DeliveryState::Delivered), ..DeliveryFilter::default() };
    assert_eq!(bench.store.deliveries(&delivered, None, 100).await.unwrap().entries.len(), 3);
}

#[tokio::test]
async fn retention_and_the_sweep_leave_it_and_drop_the_others() {
    let bench = spoilt(GARBAGE[4]).await;
    let bytes = bench.store.bodies().bytes();
    assert_eq!(bench.store.sweep_spool().await.unwrap(), 0, "the bodies of those that cannot be read stay");
    assert_eq!(bench.store.bodies().bytes(), bytes);
    let removed = bench.store.drop_finished(at(100), at(100)).await.unwrap();
    assert_eq!((removed.watches, removed.more), (1, false));
    assert_eq!(bench.store.find("retab", &id("done"), None).await.unwrap(), Found::Dropped);
    let found = bench.store.find("retab", &id("ended"), None).await;
    assert!(matches!(&found, Err(StoreError::Record(_))), "{found:?}");
}

#[tokio::test]
async fn an_export_has_it_and_says_so() {
    let bench = spoilt(GARBAGE[5]).await;
    let mut file = Vec::new();
    let exported = bench.store.export(&mut file).unwrap();
    assert_eq!(exported.unreadable, 5);
    let folder = tempfile::tempdir().unwrap();
    let imported = import(&mut file.as_slice(), &config(&folder.path().join("data"))).unwrap();
    assert_eq!((imported.records, imported.jobs), (exported.records, exported.jobs));
    let store = Store::open(&config(&folder.path().join("data"))).unwrap();
    assert_eq!(store.watches(&WatchFilter::default(), None, 100).await.unwrap().entries.len(), 5);
}

#[tokio::test]
async fn a_record_that_is_missing_is_still_damage() {
    let bench = Bench::new();
    let watch = bench.watch("open").await;
    let folder = bench.close();
    let db = sled::Config::default().path(folder.path().join("db")).open().unwrap();
    // As format 1 has it, without the record.
    db.insert(keys::open(watch.number), b"").unwrap().unwrap();
    db.flush().unwrap();
    drop(db);
    let bench = Bench::open(folder);
    let found = bench.store.each_open((), |(), _| ()).await;
    assert!(matches!(&found, Err(StoreError::Damaged(_))), "{found:?}");
}

#[tokio::test]
async fn what_the_first_version_wrote_of_absurd_times_is_read() {
    let bench = Bench::new();
    let watch = bench.watch("job").await;
    let folder = bench.close();
    let text = format!(
        "\u{1}{{\"source\":\"retab\",\"job_id\":\"job\",\"created_at\":\"{0}\",\"registered_at\":\"{0}\",\"updated_at\":\"{0}\",\
         \"deadline\":\"1000000000000000000\",\"made_at\":\"9223372036854775807\",\"stage\":\"watching\"}}",
        at(0)
    );
    spoil(folder.path(), &[keys::open(watch.number)], text.as_bytes());
    let read = Bench::open(folder).read(watch.number);
    assert_eq!((read.deadline, read.job_created_at), (Some(Time::MAX), Some(Time::MAX)));
}

#[tokio::test]
async fn a_group_does_not_wait_for_a_member_that_cannot_be_read() {
    for garbage in GARBAGE {
        let bench = Bench::new();
        let join = async |bench: &Bench, job: &str| {
            let group = Some(named("g"));
            bench.register(Registration { group, ..Registration::new("retab", id(job)) }, at(0)).await
        };
        let Registered::New(bad) = join(&bench, "bad").await else { panic!("it is new") };
        let Registered::New(good) = join(&bench, "good").await else { panic!("it is new") };
        let group = good.group.as_ref().unwrap().number;
        let folder = bench.close();
        // The watch of one, and what the group knows of the other.
        let member = keys::member(group, &JobKey::new("retab", &id("good"), None));
        spoil(folder.path(), &[keys::open(bad.number), member], garbage);
        let bench = Bench::open(folder);
        bench.store.close_group(&named("g"), at(1)).await.unwrap().unwrap();
        let end = (Outcome::Completed, seen("completed", 1));
        let Finished::Fetch(ended) = bench.store.record_finished(good.number, end.0, &end.1, 3, at(10)).await
        else {
            panic!("a new end")
        };
        bench.fan_out(&ended, &[], at(11)).await;
        assert_eq!(bench.store.due_groups().await.unwrap(), [], "one may still run");
        assert!(bench.store.remove("retab", &id("bad"), None).await.unwrap());
        let [due] = bench.store.due_groups().await.unwrap().try_into().unwrap();
        let (removed, completed) = (MemberEnd::Removed, MemberEnd::Job(Outcome::Completed));
        assert_eq!(due.counts, BTreeMap::from([(completed, 1), (removed, 1)]));
        assert_eq!(bench.store.check(true).await.unwrap(), []);
    }
}
