//! The store fails while it is used, and comes back by itself.

use std::process::Command;

use super::*;

#[tokio::test]
async fn what_a_failed_commit_wrote_after_all_is_followed_once_the_store_is_back() {
    let bench = Bench::new();
    let delivering = bench.finish("delivering", &["app"]).await;
    let key = bench.key(&delivering, "app").await;
    let watch = bench.watch("job_1").await;
    bench.told();
    let failed: Result<(), StoreError> = bench.store.write(|_| panic!("nobody knows what was written")).await;
    failed.unwrap_err();
    // The writer tells after it has declared the store healthy, in its own time.
    let mut told = Vec::new();
    eventually("both are told", || {
        told.extend(bench.told());
        let delivers = |change: &Change| {
            matches!(change, Change::DeliveryDue { sink, key: told, due, .. }
                if (sink.as_str(), *told, *due) == ("app", key, at(11)))
        };
        (told.contains(&Change::WatchOpened(watch.clone().into())) && told.iter().any(delivers)).then_some(())
    })
    .await;
    assert!(bench.store.is_healthy());
}

#[tokio::test]
async fn a_step_that_was_written_before_the_failure_is_told_when_it_is_done_again() {
    let bench = Bench::new();
    let watch = bench.watch("job_1").await;
    let end =
        bench.store.record_finished(watch.number, Outcome::Completed, &seen("completed", 1), 1, at(1)).await;
    let Finished::Fetch(fetching) = end else { panic!("a new end") };
    bench.told();
    bench.store.record_finished(watch.number, Outcome::Completed, &seen("completed", 1), 1, at(1)).await;
    assert_eq!(bench.told(), [Change::WatchOpened(fetching.clone())]);
    bench.fan_out(&fetching, &[], at(2)).await;
    bench.told();
    bench.fan_out(&fetching, &[], at(2)).await;
    let gone = Change::WatchClosed { source: "retab".to_owned(), watch: watch.number };
    assert_eq!(bench.told(), [gone, Change::WatchSettled { watch: watch.number }]);
}

#[tokio::test]
async fn a_counter_that_is_not_durable_is_not_saved_in_the_marker() {
    let bench = Bench::new();
    bench.watch("job_1").await;
    let shared = Arc::clone(&bench.sled().shared);
    let mut mark = marker::HighWaterMark::at_once();
    shared.healthy.store(false, std::sync::atomic::Ordering::Release);
    writer::save_when_due(&mut mark, &shared);
    let marker = || fs::read_to_string(bench.folder.path().join("tidings.json")).unwrap();
    assert!(marker().contains("\"reached\": 0"), "{}", marker());
    shared.healthy.store(true, std::sync::atomic::Ordering::Release);
    writer::save_when_due(&mut mark, &shared);
    assert!(marker().contains("\"reached\": 2"), "{}", marker());
}

#[tokio::test]
async fn a_record_that_cannot_be_read_fails_its_own_caller_and_no_other() {
    let bench = Bench::new();
    let bad = bench.watch("bad").await;
    let good = bench.watch("good").await;
    with_database(&bench, |db| db.insert(keys::open(bad.number), b"\x01{").unwrap());
    let both = tokio::join!(
        bench.store.register(vec![Registration::new("retab", id("bad"))], at(1)),
        bench.store.register(vec![Registration::new("retab", id("good"))], at(1)),
    );
    let found = both.0.unwrap();
    assert!(matches!(found.as_slice(), [Registered::Unreadable(_)]), "{found:?}");
    let found = both.1.unwrap();
    assert!(matches!(found.as_slice(), [Registered::Existing(_)]), "{found:?}");
    assert!(bench.store.is_healthy());
    assert_eq!(bench.read(good.number).updated_at, at(1));
}

/// Set in the child process of the test below, to the folder of a small file system.
const SMALL_DISK: &str = "TIDINGS_TEST_SMALL_DISK";

#[test]
fn trap_7_a_full_disk_refuses_writes_and_comes_back_when_there_is_room() {
    let name =
        "store::sled::tests::failing::trap_7_a_full_disk_refuses_writes_and_comes_back_when_there_is_room";
    on_a_small_disk(name, fill_and_free);
}

#[test]
fn a_small_body_waits_for_room_and_costs_no_other_caller() {
    let name = "store::sled::tests::failing::a_small_body_waits_for_room_and_costs_no_other_caller";
    on_a_small_disk(name, store_on_a_full_disk);
}

/// Runs a test on a small file system, in a child process.
fn on_a_small_disk<F: Future<Output = ()>>(name: &str, test: impl FnOnce(PathBuf) -> F) {
    if let Some(disk) = std::env::var_os(SMALL_DISK) {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        return runtime.block_on(test(disk.into()));
    }
    let folder = tempfile::tempdir().unwrap();
    // A mount namespace of its own: the file system goes with the process.
    let child = Command::new("unshare")
        .args(["--mount", "--map-root-user", "sh", "-c"])
        .arg(r#"mount -t tmpfs -o size=16m none "$0" && echo mounted && exec "$@""#)
        .arg(folder.path())
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(SMALL_DISK, folder.path())
        .output();
    let skip = match &child {
        Ok(output) if String::from_utf8_lossy(&output.stdout).contains("mounted") => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).into_owned()),
        Err(error) => Some(error.to_string()),
    };
    if let Some(reason) = skip {
        println!("skipped: no small file system can be mounted here: {}", reason.trim());
        return;
    }
    let output = child.unwrap();
    let text =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

/// All the room there is, in ever smaller pieces.
fn fill(ballast: &Path) {
    let mut file = fs::File::create(ballast).unwrap();
    for size in [1 << 20, 1 << 12] {
        while io::Write::write_all(&mut file, &vec![0; size]).is_ok() {}
    }
}

async fn store_on_a_full_disk(disk: PathBuf) {
    let bench = Bench::open(tempfile::tempdir_in(&disk).unwrap());
    let watch = bench.watch("job").await;
    let bytes = vec![b'1'; 200 << 10];
    let ended =
        bench.store.record_finished(watch.number, Outcome::Completed, &seen("completed", 1), 1, at(1)).await;
    let Finished::Fetch(fetching) = ended else { panic!("a new end") };
    let kept = bench.finish("kept", &[]).await;
    let ballast = disk.join("ballast");
    fill(&ballast);
    // Room for the records of the database, and not for the body.
    let file = fs::File::options().write(true).open(&ballast).unwrap();
    file.set_len(file.metadata().unwrap().len() - (128 << 10)).unwrap();
    drop(file);
    let event_id = fetching.pending_completion.as_ref().unwrap().event_id.clone();
    let body = bench.new_body(watch.number, &event_id, &bytes).await;
    let with_body = bench.store.write_with(body.small.iter().cloned().collect(), |_, _| Ok(()));
    let without = bench.store.write(|_| Ok(()));
    let (with_body, without) = tokio::join!(with_body, without);
    assert!(matches!(with_body, Err(StoreError::Full(_))), "{with_body:?}");
    assert!(without.is_ok() && bench.store.is_healthy(), "{without:?}");
    let store = bench.store.clone();
    let waiting =
        tokio::spawn(async move { store.complete(watch.number, &body, None, to(&[]), at(2)).await });
    fs::remove_file(&ballast).unwrap();
    assert!(waiting.await.unwrap());
    assert_eq!(bench.body(watch.number, &event_id), Some(bytes));
    assert_eq!(bench.body(kept.number, &kept.completion.unwrap().event_id).as_deref(), Some(BODY));
    assert_eq!(bench.store.check(true).await.unwrap(), []);
}

async fn fill_and_free(disk: PathBuf) {
    let store = Store::open(&config(&disk)).unwrap();
    let mut accepted = Vec::new();
    let ballast = disk.join("ballast");
    register(&store, "first").await.unwrap();
    accepted.push("first".to_owned());
    fill(&ballast);
    let mut refusal = None;
    for n in 0..20_000 {
        let job = format!("job_{n}_{}", "x".repeat(200));
        match register(&store, &job).await {
            Ok(()) => accepted.push(job),
            Err(error) => {
                refusal = Some(error);
                break;
            }
        }
    }
    let refusal = refusal.expect("a full disk refuses a write");
    assert!(matches!(refusal, StoreError::Full(_)), "{refusal}");
    assert_eq!(refusal.to_string(), "the disk is full: No space left on device");
    assert!(!store.is_healthy());
    fs::remove_file(&ballast).unwrap();
    eventually("it is open again", || store.is_healthy().then_some(())).await;
    register(&store, "after").await.unwrap();
    accepted.push("after".to_owned());
    for job in &accepted {
        assert!(
            matches!(store.find("retab", &id(job), None).await.unwrap(), Found::Watch(_)),
            "{job} is lost"
        );
    }
    println!("{} watches were accepted before and after the disk was full", accepted.len());
}

async fn register(store: &Store, job: &str) -> Result<(), StoreError> {
    store.register(vec![Registration::new("retab", id(job))], at(0)).await.map(drop)
}

#[test]
fn an_error_of_the_disk_is_told_in_the_words_of_the_system() {
    // sled clones an error by way of its debug text.
    let first = sled::Error::from(io::Error::from_raw_os_error(28));
    let (second, third) = (first.clone(), first.clone().clone());
    for error in [first, second, third] {
        let error = StoreError::from(error);
        assert!(matches!(error, StoreError::Full(_)), "{error:?}");
        assert_eq!(error.to_string(), "the disk is full: No space left on device");
    }
    let error = StoreError::from(sled::Error::from(io::Error::other("odd")));
    assert_eq!(error.to_string(), "the store is not available: odd");
}
