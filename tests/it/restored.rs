//! A data folder that is replaced under a running daemon: what was put there stays as it is.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use serde_json::{Value, json};
use tidings::mock::{Ending, JobPlan, Mock};

use crate::harness::{Process, eventually, http, mock, write_config};

/// A daemon with a backup of its folder from before the last jobs.
struct BackedUp {
    mock: Mock,
    folder: tempfile::TempDir,
    process: Process,
    early: String,
}

async fn register(process: &Process, job: &str) -> u16 {
    let url = format!("{}/v1/watches", process.url);
    http().post(url).json(&json!({"job_id": job})).send().await.unwrap().status().as_u16()
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

/// Every file below a folder, with what is in it.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(contents(&path)),
            false => drop(found.insert(path.display().to_string(), fs::read(&path).unwrap())),
        }
    }
    found
}

impl BackedUp {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mock = mock().await;
        write_config(folder.path(), &mock.base_url(), "");
        let stuck = || mock.add_job(JobPlan::new().ending(Ending::Stuck));
        let process = Process::run(folder.path(), &[]).await;
        let early = stuck();
        assert_eq!(register(&process, &early).await, 202);
        process.terminate().await;
        copy(&folder.path().join("data"), &folder.path().join("backup"));
        let process = Process::run(folder.path(), &[]).await;
        for _ in 0..5 {
            assert_eq!(register(&process, &stuck()).await, 202);
        }
        Self { mock, folder, process, early }
    }

    /// Restores the backup by `restore`, and sees what the daemon makes of it, and that it is whole afterwards.
    async fn restored(self, restore: impl Fn(&Path)) {
        let Self { mock, folder, process, early } = self;
        restore(folder.path());
        let data = folder.path().join("data");
        let before = contents(&data);
        let job = mock.add_job(JobPlan::new().ending(Ending::Stuck));
        let answer = http().post(format!("{}/v1/watches", process.url)).json(&json!({"job_id": job}));
        let refused = answer.send().await.unwrap();
        assert_eq!(refused.status(), 503);
        let problem: Value = refused.json().await.unwrap();
        assert!(problem["detail"].as_str().unwrap().contains("while the daemon ran"), "{problem}");
        let ready = http().get(format!("{}/readyz", process.url)).send().await.unwrap();
        assert_eq!(ready.status(), 503);
        let (status, log) = process.terminate().await;
        assert_eq!(status, Some(0), "{log}");
        assert!(log.contains("data folder is not the one that was opened"), "{log}");
        assert_eq!(contents(&data), before, "not a byte of the backup has changed");
        // It is a whole store, with what the backup had.
        let process = Process::run(folder.path(), &[]).await;
        let url = format!("{}/v1/watches", process.url);
        let listed: Value = http().get(&url).send().await.unwrap().json().await.unwrap();
        let ids: Vec<&str> = listed["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|watch| watch["job_id"].as_str().unwrap())
            .collect();
        assert_eq!(ids, [early.as_str()]);
        process.terminate().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_takes_the_place_of_the_folder_stays_whole() {
    let backed_up = BackedUp::new().await;
    let restore = |folder: &Path| {
        fs::rename(folder.join("data"), folder.join("old")).unwrap();
        fs::rename(folder.join("backup"), folder.join("data")).unwrap();
    };
    backed_up.restored(restore).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_unpacked_into_the_emptied_folder_stays_whole() {
    let backed_up = BackedUp::new().await;
    let restore = |folder: &Path| {
        for name in ["db", "spool"] {
            fs::remove_dir_all(folder.join("data").join(name)).unwrap();
            copy(&folder.join("backup").join(name), &folder.join("data").join(name));
        }
        for name in ["tidings.json", "lock"] {
            fs::remove_file(folder.join("data").join(name)).unwrap();
            copy(&folder.join("backup").join(name), &folder.join("data").join(name));
        }
    };
    backed_up.restored(restore).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_copied_over_the_folder_stays_whole() {
    let backed_up = BackedUp::new().await;
    // The files are the same ones, with other bytes, and with the times of the backup.
    backed_up.restored(|folder| copy(&folder.join("backup/."), &folder.join("data"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_whose_modes_and_links_change_is_the_same_one() {
    let BackedUp { mock, folder, process, .. } = BackedUp::new().await;
    let marker = folder.path().join("data/tidings.json");
    fs::hard_link(&marker, folder.path().join("another-name")).unwrap();
    let mode = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o640);
    fs::set_permissions(&marker, mode).unwrap();
    let job = mock.add_job(JobPlan::new().ending(Ending::Stuck));
    assert_eq!(register(&process, &job).await, 202);
    process.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_gone_is_not_made_again() {
    let BackedUp { folder, process, .. } = BackedUp::new().await;
    let data = folder.path().join("data");
    fs::remove_dir_all(&data).unwrap();
    let ready =
        async || http().get(format!("{}/readyz", process.url)).send().await.unwrap().status().as_u16();
    eventually("it is noticed without a write", || async { (ready().await == 503).then_some(()) }).await;
    let (status, log) = process.terminate().await;
    assert_eq!(status, Some(0), "{log}");
    assert!(!data.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_counter_is_in_the_marker_after_a_clean_end_whoever_still_listens() {
    let BackedUp { folder, process, .. } = BackedUp::new().await;
    // A reader of events holds on to the daemon for as long as that lets it.
    let url = format!("{}/v1/events", process.url);
    let stream = http().get(url).header("accept", "text/event-stream").send().await.unwrap();
    let (status, log) = process.terminate().await;
    drop(stream);
    assert_eq!(status, Some(0), "{log}");
    let marker: Value =
        serde_json::from_slice(&fs::read(folder.path().join("data/tidings.json")).unwrap()).unwrap();
    assert_eq!(marker["reached"], 7, "six watches had the numbers from 1 on");
}
