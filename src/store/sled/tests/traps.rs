//! What sled 0.34 gets wrong, as far as a test can show that it does not reach us.

use super::*;

/// The crate's own sources, but for its tests.
fn sources() -> Vec<(PathBuf, String)> {
    fn walk(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    let mut found = Vec::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    found.retain(|(path, _)| !path.components().any(|part| part.as_os_str() == "tests"));
    assert!(found.len() > 50, "the sources are here: {}", found.len());
    found
}

/// The lines of code, without comments, that hold `word`.
fn lines_with(word: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for (path, text) in sources() {
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//") && line.contains(word));
        lines.extend(code.map(|line| format!("{}: {}", path.file_name().unwrap().display(), line.trim())));
    }
    lines
}

#[test]
fn trap_1_and_2_there_is_one_flush_and_it_is_followed_by_a_sync() {
    assert_eq!(lines_with("flush_async"), Vec::<String>::new());
    let flushes = lines_with("db.flush()");
    // The writer's, that of a new store, that of an import.
    assert_eq!(flushes.len(), 3, "{flushes:?}");
    for (path, text) in sources() {
        let mut rest = text.as_str();
        while let Some(at) = rest.find("db.flush()") {
            rest = &rest[at + 1..];
            let next = rest.lines().nth(1).unwrap();
            assert!(next.contains("sync"), "{}: after a flush: {next}", path.display());
        }
    }
}

#[tokio::test]
async fn trap_1_what_is_answered_is_in_the_file() {
    // The bytes of the data file right after the answer, in a folder of their own, are a whole store.
    let bench = Bench::new();
    for n in 0..5 {
        let watch = bench.watch(&format!("job_{n}")).await;
        let copy = tempfile::tempdir().unwrap();
        fs::create_dir(copy.path().join("db")).unwrap();
        for name in ["db/db", "db/conf", "tidings.json"] {
            fs::copy(bench.folder.path().join(name), copy.path().join(name)).unwrap();
        }
        let copy = Bench::open(copy);
        assert_eq!(copy.read(watch.number), watch);
        assert_eq!(copy.open_watches().len(), n + 1);
    }
}

#[tokio::test]
async fn trap_2_many_callers_at_once_are_all_answered() {
    let bench = Bench::new();
    let callers = (0..256).map(|n| {
        let store = bench.store.clone();
        tokio::spawn(async move {
            store.register(vec![Registration::new("retab", id(format!("job_{n}")))], at(0)).await.unwrap()
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        let found = caller.await.unwrap();
        assert!(matches!(found.as_slice(), [Registered::New(_)]), "{found:?}");
    }
    assert_eq!(bench.open_watches().len(), 256);
}

#[tokio::test]
async fn trap_3_a_large_registration_is_one_durable_commit_of_small_batches() {
    // The size of the batches is shown beside `Txn`; here that nothing is lost at their borders.
    let bench = Bench::new();
    let registrations = (0..3000).map(|n| Registration::new("retab", id(format!("job_{n}")))).collect();
    let registered = bench.store.register(registrations, at(0)).await.unwrap();
    assert_eq!(registered.len(), 3000);
    let bench = bench.reopen();
    assert_eq!(bench.open_watches().len(), 3000);
    for n in [0, 32, 33, 34, 99, 100, 101, 2999] {
        let found = bench.store.find("retab", &id(format!("job_{n}")), None).await.unwrap();
        assert!(matches!(found, Found::Watch(_)), "job_{n}: {found:?}");
    }
}

#[tokio::test]
async fn trap_4_a_panic_is_an_error_and_the_store_comes_back() {
    let bench = Bench::new();
    let watch = bench.watch("job_1").await;
    let read: Result<(), StoreError> = bench.sled().shared.read(|_| panic!("as sled does on damage"));
    assert!(matches!(&read, Err(StoreError::Damaged(text)) if text.contains("as sled does")), "{read:?}");
    let write: Result<(), StoreError> = bench.store.write(|_| panic!("as sled does on damage")).await;
    assert!(matches!(&write, Err(StoreError::Damaged(text)) if text.contains("as sled does")), "{write:?}");
    eventually("it is open again", || bench.store.is_healthy().then_some(())).await;
    assert_eq!(bench.read(watch.number), watch);
    bench.watch("job_2").await;
}

#[tokio::test]
async fn trap_5_room_of_dropped_watches_is_used_again() {
    let bench = Bench::new();
    let path = bench.folder.path().join("db/db");
    let mut sizes = Vec::new();
    for round in 0..12_i64 {
        let name = |n: usize| Registration::new("retab", id(format!("{round}_{n}_{}", "x".repeat(200))));
        for registered in bench.store.register((0..300).map(name).collect(), at(round)).await.unwrap() {
            let Registered::New(watch) = registered else { panic!("new") };
            bench.store.remove("retab", &watch.job_id, None).await.unwrap();
        }
        sizes.push(fs::metadata(&path).unwrap().len());
    }
    // 3600 watches came and went. What none of them needed any more carried the later ones.
    let (half, end) = (sizes[5], sizes[11]);
    assert!(end <= half * 2, "{sizes:?}");
}

#[tokio::test]
async fn trap_6_no_record_becomes_a_file_of_its_own() {
    let bench = Bench::new();
    let most = Registration {
        labels: (0..16).map(|n| (format!("{n:064}"), "ü".repeat(512))).collect(),
        callback: Some(Callback { url: "x".repeat(2048), secret: None }),
        ..Registration::new("retab", id("x".repeat(256)))
    };
    let Registered::New(watch) = bench.register(most, at(0)).await else { panic!("new") };
    let large = crate::model::status_answer::StatusAnswer {
        body: Some("y".repeat(16 << 10)),
        metadata: Some((0..16).map(|n| (format!("{n:064}"), "ü".repeat(512))).collect()),
        ..seen("in_progress", 1)
    };
    bench.store.record_running(watch.number, &large, 1, to(&[]), at(1)).await;
    bench.store.lose(watch.number, "gone", (2, None), to(&["app"]), at(2)).await;
    let bench = bench.reopen();
    let blobs = fs::read_dir(bench.folder.path().join("db/blobs")).map_or(0, Iterator::count);
    assert_eq!(blobs, 0);
    assert_eq!(
        bench.store.event(bench.read(watch.number).end_events[0]).await.unwrap().unwrap().last_body,
        large.body
    );
}
