//! A backup of a daemon that runs: `GET /v1/export` and `tidings store export --from-daemon`.

use std::{fs, path::Path, time::Duration};

use serde_json::{Value, json};
use tidings::{
    mock::{JobPlan, Mock},
    util::units::Size,
};

use crate::harness::{Home, Process, Receiver, binary, eventually, http, once, show};

async fn done(process: &Process, mock: &Mock, id: &str, size: Size) {
    mock.add_job(JobPlan::new().id(id).lasting(Duration::ZERO).size(size));
    process.watch(id).await;
    let url = format!("{}/v1/watches/retab/{id}", process.url);
    // Unoptimised, a large job takes a while.
    assert_eq!(http().get(format!("{url}/wait?timeout=5m")).send().await.unwrap().status(), 200);
    process.until(id, "is done", |watch| watch["phase"] == "done").await;
}

/// Makes a data folder of an export, checks it, and says what is in it.
async fn imported(folder: &Path, export: &str, into: &str) -> Value {
    let import = once(folder, &["store", "import", export, "--data-dir", into]).await;
    assert_eq!(import.status.code(), Some(0), "{}", show(&import));
    let check = once(folder, &["store", "check", "--hashes", "--data-dir", into]).await;
    assert_eq!(check.status.code(), Some(0), "{}", show(&check));
    let stats = once(folder, &["store", "stats", "--output", "json", "--data-dir", into]).await;
    serde_json::from_slice(&stats.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_shows_one_instant_whatever_happens_while_it_is_read() {
    let home = Home::new("").await;
    let process = home.run().await;
    // More than what goes into the buffers between the daemon and a reader that does not read.
    for n in 0..4 {
        done(&process, &home.mock, &format!("big_{n}"), Size::mib(6)).await;
    }
    home.mock.add_job(JobPlan::new().id("open").lasting(Duration::from_secs(3600)));
    process.watch("open").await;
    let mut answer = http().get(format!("{}/v1/export", process.url)).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "application/x-ndjson");
    let mut export = answer.chunk().await.unwrap().unwrap().to_vec();
    let (status, problem) = process.get("/v1/export").await;
    assert_eq!((status, &problem["code"]), (409, &json!("export_running")), "{problem}");
    // New ones come, all that was there goes, with its jobs.
    done(&process, &home.mock, "later", Size(10)).await;
    for job in ["big_0", "big_1", "big_2", "big_3", "open"] {
        let url = format!("{}/v1/watches/retab/{job}", process.url);
        assert_eq!(http().delete(url).send().await.unwrap().status(), 204);
    }
    while let Some(part) = answer.chunk().await.unwrap() {
        export.extend_from_slice(&part);
    }
    fs::write(home.path().join("backup.jsonl"), &export).unwrap();
    let stats = imported(home.path(), "backup.jsonl", "restored").await;
    assert_eq!(stats["watches"], json!({"retab": {"watching": 1, "done": 4}}), "{stats}");
    assert_eq!((&stats["jobs"], &stats["events"]), (&json!(4), &json!(4)), "{stats}");
    // What was kept for the export goes when it is done.
    let spool = home.path().join("data/spool");
    eventually("no file is left; the job of the last watch is small", || async {
        let bodies = fs::read_dir(&spool).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_file());
        (bodies.count() == 0).then_some(())
    })
    .await;
    let (status, _) = process.get("/v1/watches/retab/later").await;
    assert_eq!(status, 200);
    assert_eq!(process.terminate().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_backs_up_a_daemon_at_work_and_the_backup_goes_on() {
    let receiver = Receiver::start().await;
    let sink = format!("[sinks.app]\ntype = \"webhook\"\nurl = \"{}\"\n", receiver.url());
    let home = Home::new(&sink).await;
    let process = home.run().await;
    let url = format!("{}/v1/watches/batch", process.url);
    let batch = |round: usize| {
        let ids = (0..100).map(|n| {
            home.mock
                .add_job(JobPlan::new().id(format!("job_{round}_{n:02}")).lasting(Duration::from_millis(300)))
        });
        json!({"watches": ids.map(|id| json!({"job_id": id})).collect::<Vec<_>>()})
    };
    assert_eq!(http().post(&url).json(&batch(0)).send().await.unwrap().status(), 200);
    // Jobs are registered, end and are delivered all the while.
    let busy = {
        let (batches, url): (Vec<Value>, _) = ((1..8).map(batch).collect(), url.clone());
        tokio::spawn(async move {
            for batch in batches {
                assert_eq!(http().post(&url).json(&batch).send().await.unwrap().status(), 200);
            }
        })
    };
    for round in 0..4 {
        let name = format!("backup_{round}.jsonl");
        let args = ["--url", &process.url, "store", "export", "--from-daemon", &name];
        let output = home.once(&args).await;
        assert_eq!(output.status.code(), Some(0), "{}", show(&output));
        let data = fs::metadata(home.path().join(&name)).unwrap();
        assert_eq!(std::os::unix::fs::MetadataExt::mode(&data) & 0o777, 0o600);
        let again = home.once(&args).await;
        assert_eq!(again.status.code(), Some(1), "a file that is there is not written over");
    }
    busy.await.unwrap();
    process.kill().await;
    for round in 0..4 {
        let name = format!("backup_{round}.jsonl");
        let stats = imported(home.path(), &name, &format!("restored_{round}")).await;
        let phases = stats["watches"]["retab"].as_object().unwrap();
        let watches: u64 = phases.values().map(|count| count.as_u64().unwrap()).sum();
        assert!((100..=800).contains(&watches), "what was acknowledged is in it: {stats}");
    }
    // The first of them goes on where that daemon stood.
    let restored = home.run_with(&["--data-dir", "restored_0"]).await;
    for phase in ["watching", "fetching", "delivering"] {
        eventually(&format!("nothing is {phase}"), || async {
            let (_, page) = restored.get(&format!("/v1/watches?phase={phase}&limit=1")).await;
            page["data"].as_array()?.is_empty().then_some(())
        })
        .await;
    }
    let (_, watch) = restored.get("/v1/watches/retab/job_0_00").await;
    assert_eq!((&watch["phase"], &watch["outcome"]), (&json!("done"), &json!("completed")));
    assert_eq!(restored.terminate().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_cut_short_is_none() {
    let home = Home::new("").await;
    let process = home.run().await;
    for n in 0..4 {
        done(&process, &home.mock, &format!("big_{n}"), Size::mib(6)).await;
    }
    let mut answer = http().get(format!("{}/v1/export", process.url)).send().await.unwrap();
    answer.chunk().await.unwrap().unwrap();
    // A reader that takes nothing holds up no stop, and is not told that it has all.
    assert_eq!(process.terminate().await.0, Some(0));
    let mut end = Ok(());
    while end.is_ok() {
        match answer.chunk().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the answer ended as if it were whole"),
            Err(error) => end = Err(error),
        }
    }
    // The command leaves no file behind.
    let nobody = home.once(&["--url", "http://127.0.0.1:9", "store", "export", "--from-daemon", "x"]).await;
    assert_eq!(nobody.status.code(), Some(1));
    assert!(!home.path().join("x").exists());
    let mixed =
        binary().args(["store", "export", "--from-daemon", "x", "--data-dir", "y"]).output().await.unwrap();
    assert_eq!(mixed.status.code(), Some(2));
}

/// Resident memory grows by no more than this while a backup is read.
const MOST_GROWTH: u64 = 16 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_read_in_bounded_memory() {
    let home = Home::new("").await;
    let process = home.run().await;
    for n in 0..2 {
        done(&process, &home.mock, &format!("big_{n}"), Size::mib(32)).await;
    }
    let read = || async {
        let mut answer = http().get(format!("{}/v1/export", process.url)).send().await.unwrap();
        let mut bytes = 0;
        while let Some(part) = answer.chunk().await.unwrap() {
            bytes += part.len();
        }
        bytes
    };
    assert!(read().await > 64 << 20);
    let before = process.rss();
    process.reset_peak();
    let bytes = read().await;
    let growth = process.peak().saturating_sub(before);
    println!("{} MiB were exported; resident memory grew by at most {} KiB", bytes >> 20, growth >> 10);
    assert!(growth < MOST_GROWTH, "it grew by {} KiB", growth >> 10);
    assert_eq!(process.terminate().await.0, Some(0));
}
