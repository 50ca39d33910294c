//! A data folder that an earlier build wrote is read by this one.
//!
//! `UPDATE=1 cargo test --lib store::sled::tests::format` writes the fixture again. Do that only together with a change
//! of the format's version: the point of the fixture is that it was written by another build.

use super::*;
use crate::{
    model::{delivery::DeliveryState, job::Phase},
    util::secret::Secret,
};

/// Files of the data folder, each compressed: the database alone is half a megabyte of mostly nothing.
fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/store-v1")
}

/// Copies every file below `from`, with its name and content changed on the way.
fn copy(from: &Path, to: &Path, name: &dyn Fn(&str) -> Option<String>, change: &dyn Fn(&[u8]) -> Vec<u8>) {
    make_private(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let own = entry.file_name().into_string().unwrap();
        if entry.path().is_dir() {
            copy(&entry.path(), &to.join(own), name, change);
        } else if let Some(other) = name(&own) {
            fs::write(to.join(other), change(&fs::read(entry.path()).unwrap())).unwrap();
        }
    }
}

/// An open watch, a finished one with its job, a pending delivery and a dead letter.
async fn write_again() {
    let bench = Bench::new();
    bench.finish("dropped", &[]).await;
    assert_eq!(bench.store.drop_finished(at(12), at(13)).await.unwrap().watches, 1);
    let open = Registration {
        labels: labels([("team", "billing")]),
        callback: Some(Callback {
            url: "https://example.com/hook".to_owned(),
            secret: Some(Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")),
        }),
        deadline: Some(at(3600)),
        ..Registration::new("retab", id("open"))
    };
    let Registered::New(watch) = bench.register(open, at(0)).await else { panic!("new") };
    bench.store.record_running(watch.number, &seen("in_progress", 1), 2, to(&[]), at(1)).await;
    let fetching = bench.watch("fetching").await;
    bench.store.record_finished(fetching.number, Outcome::Failed, &seen("failed", 1), 2, at(2)).await;
    bench.finish("done", &[]).await;
    let pending = bench.finish("pending", &["app"]).await;
    let key = bench.key(&pending, "app").await;
    bench.store.record_attempt(key, &attempt(0, at(20), AttemptVerdict::Retry(at(25))), at(20)).await;
    let dead = bench.finish("dead", &["app"]).await;
    let key = bench.key(&dead, "app").await;
    bench
        .store
        .record_attempt(
            key,
            &attempt(0, at(20), AttemptVerdict::Dead("the last attempt failed".to_owned())),
            at(20),
        )
        .await;
    let lost = bench.watch("lost").await;
    bench.store.lose(lost.number, "nobody knows it", (4, None), to(&[]), at(30)).await;
    let folder = bench.close();
    let kept = |name: &str| (name != "lock").then(|| format!("{name}.zst"));
    let _ = fs::remove_dir_all(fixture());
    copy(folder.path(), &fixture(), &kept, &|bytes| zstd::encode_all(bytes, 19).unwrap());
}

#[tokio::test]
async fn a_data_folder_of_the_first_format_is_read_whole() {
    if std::env::var_os("UPDATE").is_some() {
        write_again().await;
    }
    let folder = tempfile::tempdir().unwrap();
    let unpacked = |name: &str| name.strip_suffix(".zst").map(str::to_owned);
    copy(&fixture(), folder.path(), &unpacked, &|bytes| zstd::decode_all(bytes).unwrap());
    let bench = Bench::open(folder);
    let find = async |job: &str| match bench.store.find("retab", &id(job), None).await.unwrap() {
        Found::Watch(watch) => *watch,
        other => panic!("{job}: {other:?}"),
    };
    let mut phases = Vec::new();
    for job in ["open", "fetching", "done", "pending", "dead", "lost"] {
        phases.push(find(job).await.phase());
    }
    let expected =
        [Phase::Watching, Phase::Fetching, Phase::Done, Phase::Delivering, Phase::Dead, Phase::Done];
    assert_eq!(phases, expected);
    let open = find("open").await;
    assert_eq!((open.labels, open.deadline), (labels([("team", "billing")]), Some(at(3600))));
    let secret = open.callback.unwrap().secret.unwrap();
    assert_eq!(secret.expose(), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    let mut followed: Vec<_> =
        bench.open_watches().into_iter().map(|watch| watch.job_id.to_string()).collect();
    followed.sort();
    assert_eq!(followed, ["fetching", "open"]);
    let done = find("done").await;
    let end = done.completion.as_ref().unwrap();
    // An event's id is a function of the job's run: it may never change, or receivers see old news as new.
    assert_eq!(end.event_id, "evt_vxdrpsvgo4zkwoybp4iirco3py");
    let body = bench.body(done.number, &end.event_id).unwrap();
    assert_eq!((body.as_slice(), end.job.as_ref().unwrap().size), (BODY, BODY.len() as u64));
    let pending = find("pending").await;
    let key = bench.key(&pending, "app").await;
    assert_eq!(bench.pending(), [("app".to_owned(), key, at(25))]);
    let delivery = bench.store.delivery(key).await.unwrap().unwrap();
    assert_eq!((delivery.attempt_count, delivery.attempts[0].status), (1, Some(503)));
    let dead = bench.store.delivery(bench.key(&find("dead").await, "app").await).await.unwrap().unwrap();
    assert_eq!((dead.state, dead.reason.as_deref()), (DeliveryState::Dead, Some("the last attempt failed")));
    assert_eq!(find("lost").await.completion.unwrap().reason.as_deref(), Some("nobody knows it"));
    assert_eq!(bench.store.find("retab", &id("dropped"), None).await.unwrap(), Found::Dropped);
    // And it is not only read: what waits in it goes on.
    bench.store.record_attempt(key, &nth(2, attempt(0, at(50), AttemptVerdict::Delivered)), at(50)).await;
    assert_eq!(bench.read(pending.number).phase(), Phase::Done);
    assert!(bench.watch("new").await.number > dead.topic.owner());
}

#[tokio::test]
async fn a_store_of_before_lists_and_delivers_what_no_sink_took() {
    let folder = tempfile::tempdir().unwrap();
    let unpacked = |name: &str| name.strip_suffix(".zst").map(str::to_owned);
    copy(&fixture(), folder.path(), &unpacked, &|bytes| zstd::decode_all(bytes).unwrap());
    let bench = Bench::open(folder);
    assert_eq!(bench.unrouted().await, ["lost", "done"]);
    assert_eq!(bench.deliver_all("new", at(100)).await, 4);
    assert!(bench.unrouted().await.is_empty());
    assert_eq!(bench.deliver_all("new", at(101)).await, 0);
    let Found::Watch(done) = bench.store.find("retab", &id("done"), None).await.unwrap() else {
        panic!("it is there")
    };
    assert_eq!((done.phase(), done.closed_at), (Phase::Delivering, None));
    let key = bench.key(&done, "new").await;
    let delivery = bench.store.delivery(key).await.unwrap().unwrap();
    assert_eq!((delivery.created_at, delivery.next_attempt_at, delivery.generation), (at(11), at(100), 1));
    bench.store.record_attempt(key, &attempt(1, at(102), AttemptVerdict::Delivered), at(102)).await;
    let done = bench.read(done.number);
    assert_eq!((done.phase(), done.closed_at), (Phase::Done, Some(at(102))));
    assert_eq!(bench.store.check(true).await.unwrap(), []);
}

/// The keys of watches, each with whether it has a record.
fn places(bench: &Bench) -> Vec<(u8, bool)> {
    let mut found = Vec::new();
    with_database(bench, |db| {
        for prefix in [keys::OPEN, keys::WATCH] {
            found.extend(db.scan_prefix([prefix]).map(|entry| (prefix, !entry.unwrap().1.is_empty())));
        }
    });
    found
}

#[tokio::test]
async fn a_watch_has_one_record_wherever_it_goes() {
    let bench = Bench::new();
    let watch = bench.watch("job").await;
    assert_eq!(places(&bench), [(keys::OPEN, true)]);
    // A large one stays out of what a start reads.
    let large = crate::model::status_answer::StatusAnswer {
        body: Some("y".repeat(8 << 10)),
        ..seen("in_progress", 1)
    };
    bench.store.record_running(watch.number, &large, 1, to(&[]), at(1)).await;
    assert_eq!(places(&bench), [(keys::OPEN, false), (keys::WATCH, true)]);
    assert_eq!(bench.open_watches(), [bench.read(watch.number)]);
    assert_eq!(bench.store.check(true).await.unwrap(), []);
    bench.store.record_running(watch.number, &seen("waiting", 2), 2, to(&[]), at(2)).await;
    assert_eq!(places(&bench), [(keys::OPEN, true)]);
    bench.store.lose(watch.number, "gone", (2, None), to(&[]), at(3)).await;
    assert_eq!(places(&bench), [(keys::WATCH, true)]);
    bench.register(Registration::new("retab", id("job")), at(4)).await;
    assert_eq!(bench.open_watches(), [bench.read(watch.number)]);
    assert_eq!(places(&bench), [(keys::OPEN, true)]);
    assert_eq!(bench.store.check(true).await.unwrap(), []);
    assert!(bench.store.remove("retab", &watch.job_id, None).await.unwrap());
    assert_eq!(places(&bench), []);
    assert_eq!(bench.reopen().store.check(true).await.unwrap(), []);
}

#[tokio::test]
async fn watches_are_listed_in_order_wherever_their_records_are() {
    let bench = Bench::new();
    let mut expected = Vec::new();
    for n in 0..300 {
        let job = format!("job_{n:03}");
        let _ = if n % 3 == 0 { bench.finish(&job, &[]).await } else { bench.watch(&job).await };
        expected.insert(0, job);
    }
    let (mut listed, mut cursor) = (Vec::new(), None);
    loop {
        let page = bench.store.watches(&WatchFilter::default(), cursor, 70).await.unwrap();
        listed.extend(page.entries.iter().map(|watch| watch.job_id.to_string()));
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(listed, expected);
}

#[tokio::test]
async fn an_export_is_of_the_first_format() {
    let bench = Bench::new();
    bench.watch("open").await;
    bench.finish("done", &[]).await;
    let mut file = Vec::new();
    bench.store.export(&mut file).unwrap();
    let text = String::from_utf8(file).unwrap();
    let lines = |start: &str| text.lines().filter(|line| line.contains(start)).collect::<Vec<_>>();
    assert_eq!(lines("\"key\":\"o:").len(), 1, "{text}");
    let records = lines("\"key\":\"w:");
    assert_eq!(records.len(), 2, "{text}");
    assert!(records.iter().all(|line| line.contains("\"json\":{\"source\":\"retab\"")), "{text}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    import(&mut text.as_bytes(), &config(&path)).unwrap();
    let store = Store::open(&config(&path)).unwrap();
    assert_eq!(store.check(true).await.unwrap(), []);
    assert_eq!(store.watches(&WatchFilter::default(), None, 10).await.unwrap().entries.len(), 2);
}
