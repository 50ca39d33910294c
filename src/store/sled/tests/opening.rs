//! A data folder is opened whole or not at all.

use super::*;

/// A closed store with enough in it to fill more than one segment.
async fn filled() -> tempfile::TempDir {
    let bench = Bench::new();
    bench.finish("job_1", &["app"]).await;
    for round in 0..4 {
        let name = |n: usize| Registration::new("retab", id(format!("{round}_{n}_{}", "x".repeat(200))));
        bench.store.register((0..500).map(name).collect(), at(0)).await.unwrap();
    }
    bench.close()
}

/// Every file below a folder with its bytes.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            found.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    found
}

/// Opens a folder that must be refused as damaged, and must be refused again afterwards.
#[track_caller]
fn refused(folder: &Path, why: &str) {
    // sled repairs a damaged file in place while it reads it (it overwrites what it takes for a torn segment), so
    // the second attempt may find it in another state. It must not pass for whole or for new.
    for attempt in 1..=2 {
        match Store::open(&config(folder)) {
            Err(OpenError::Damaged { reason, .. }) => {
                assert!(attempt == 2 || reason.contains(why), "attempt {attempt}: {reason}");
            }
            Err(other) => panic!("attempt {attempt}: refused for another reason: {other}"),
            Ok(_) => panic!("attempt {attempt}: a damaged store was opened"),
        }
    }
}

/// The same for what is found before the database is opened: nothing is changed at all.
#[track_caller]
fn refused_untouched(folder: &Path, why: &str) {
    let before = contents(folder);
    refused(folder, why);
    let after = contents(folder);
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>(), "the same files");
    for (path, bytes) in &before {
        assert!(after[path] == *bytes, "{} was changed", path.display());
    }
}

#[tokio::test]
async fn a_missing_database_is_not_replaced_by_an_empty_one() {
    let folder = filled().await;
    fs::remove_file(folder.path().join("db/db")).unwrap();
    refused_untouched(folder.path(), "db/db is missing");
    fs::remove_dir_all(folder.path().join("db")).unwrap();
    refused_untouched(folder.path(), "db/db is missing");
    assert!(!folder.path().join("db").exists());
}

#[tokio::test]
async fn an_emptied_database_is_refused() {
    let folder = filled().await;
    fs::write(folder.path().join("db/db"), "").unwrap();
    refused_untouched(folder.path(), "emptied");
}

#[tokio::test]
async fn a_database_of_zeros_is_refused() {
    let folder = filled().await;
    let path = folder.path().join("db/db");
    let length = fs::metadata(&path).unwrap().len();
    fs::write(&path, vec![0; usize::try_from(length).unwrap()]).unwrap();
    refused(folder.path(), "emptied");
}

#[tokio::test]
async fn another_database_under_the_same_marker_is_refused() {
    let folder = filled().await;
    let other = Bench::new();
    other.watch("job_1").await;
    let other = other.close();
    fs::remove_dir_all(folder.path().join("db")).unwrap();
    fs::rename(other.path().join("db"), folder.path().join("db")).unwrap();
    refused(folder.path(), "belongs to another database");
}

#[tokio::test]
async fn flipped_bytes_are_refused_or_harmless_and_never_an_empty_store() {
    let whole = filled().await;
    let path = whole.path().join("db/db");
    let original = fs::read(&path).unwrap();
    let mut refusals = 0;
    for round in 0..12 {
        let mut bytes = original.clone();
        let place = bytes.len() * round / 12;
        bytes[place..place + 64].iter_mut().for_each(|byte| *byte ^= 0xa5);
        fs::write(&path, &bytes).unwrap();
        let before = contents(whole.path());
        match Store::open(&config(whole.path())) {
            Ok(store) => {
                // Room that nothing lies in, and then everything is there; or damage that a read comes upon, which the
                // start of the daemon does.
                match store.each_open(0, |open, _| *open += 1).await {
                    Ok(open) => assert_eq!(open, 2000, "round {round}"),
                    Err(StoreError::Damaged(_)) => refusals += 1,
                    Err(other) => panic!("round {round}: {other}"),
                }
                drop(store);
                drop(marker::lock(whole.path()).unwrap());
            }
            Err(OpenError::Damaged { .. }) => {
                refusals += 1;
                refused(whole.path(), "");
            }
            Err(other) => panic!("round {round}: {other}"),
        }
        restore(whole.path(), &before);
    }
    assert!(refusals > 0, "no flip hit anything");
}

#[tokio::test]
async fn a_lost_open_watch_or_pending_delivery_is_noticed_by_its_count() {
    for (prefix, why) in
        [(keys::OPEN, "1 open watches instead of 2"), (keys::PENDING, "0 pending deliveries instead of 1")]
    {
        let bench = Bench::new();
        bench.finish("job_1", &["app"]).await;
        bench.watch("job_2").await;
        bench.watch("job_3").await;
        // What sled does with a page that it gives up.
        with_database(&bench, |db| {
            let key = db.scan_prefix([prefix]).keys().next().unwrap().unwrap();
            db.remove(key).unwrap();
        });
        refused(bench.close().path(), why);
    }
}

#[tokio::test]
async fn a_lost_record_of_an_open_watch_is_noticed_when_it_is_taken_up() {
    let bench = Bench::new();
    let watch = bench.watch("job_1").await;
    // As format 1 has it, without the record.
    with_database(&bench, |db| db.insert(keys::open(watch.number), b"").unwrap());
    let error = bench.store.each_open((), |(), _| ()).await.unwrap_err();
    assert!(matches!(&error, StoreError::Damaged(reason) if reason.contains("is missing")), "{error}");
}

/// Puts files back as they were.
fn restore(folder: &Path, before: &BTreeMap<PathBuf, Vec<u8>>) {
    for path in contents(folder).into_keys() {
        fs::remove_file(path).unwrap();
    }
    for (path, bytes) in before {
        fs::write(path, bytes).unwrap();
    }
}

#[tokio::test]
async fn a_lost_tail_is_noticed_by_the_counter_in_the_marker() {
    let bench = Bench::new();
    bench.watch("job_1").await;
    let folder = bench.close();
    let early = contents(folder.path());
    let bench = Bench::open(folder);
    bench.watch("job_2").await;
    let reached = with_database(&bench, |db| keys::number_of(&db.get(keys::NEXT).unwrap().unwrap()).unwrap());
    let folder = bench.close();
    let path = folder.path().join("tidings.json");
    let mut marker: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    marker["reached"] = reached.into();
    let marker = serde_json::to_vec(&marker).unwrap();
    fs::write(&path, &marker).unwrap();
    // With that counter the database is whole, and an earlier state of it is not.
    let bench = Bench::open(folder);
    assert_eq!(bench.open_watches().len(), 2);
    let folder = bench.close();
    restore(folder.path(), &early);
    fs::write(&path, &marker).unwrap();
    refused(folder.path(), "last records are missing");
}

#[tokio::test]
async fn a_marker_of_a_later_format_or_none_at_all_is_refused() {
    let folder = filled().await;
    let path = folder.path().join("tidings.json");
    let marker = fs::read_to_string(&path).unwrap();
    fs::write(&path, marker.replace("\"format\": 4", "\"format\": 5")).unwrap();
    let before = contents(folder.path());
    let error = Store::open(&config(folder.path())).err().unwrap();
    assert!(matches!(error, OpenError::Newer { found: 5, known: 4, .. }), "{error}");
    assert!(error.to_string().contains("Use the newer version"), "nothing is damaged: {error}");
    assert_eq!(contents(folder.path()), before);
    fs::write(&path, "{").unwrap();
    refused_untouched(folder.path(), "cannot be read");
}

#[tokio::test]
async fn a_store_whose_process_died_before_the_marker_is_taken_up() {
    let folder = filled().await;
    fs::remove_file(folder.path().join("tidings.json")).unwrap();
    let bench = Bench::open(folder);
    assert_eq!(bench.open_watches().len(), 2000);
    assert!(bench.folder.path().join("tidings.json").exists());
}

#[tokio::test]
async fn a_folder_in_use_is_refused_with_what_to_do() {
    let bench = Bench::new();
    let error = Store::open(&config(bench.folder.path())).err().unwrap();
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
    assert!(error.to_string().contains("--data-dir"), "{error}");
    // The one that has it is not disturbed.
    bench.watch("job_1").await;
}

#[tokio::test]
async fn only_the_owner_can_read_the_folder() {
    use std::os::unix::fs::PermissionsExt as _;
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("data");
    let store = Store::open(&config(&folder)).unwrap();
    for place in [".", "db", "spool"] {
        let mode = fs::metadata(folder.join(place)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{place}");
    }
    drop(store);
}
