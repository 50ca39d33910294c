//! A daemon serves while it still schedules the open watches of earlier runs, and tells the truth meanwhile.

use std::path::Path;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Process, eventually};

/// Enough that their loading takes a while.
const OPEN: usize = 20_000;

/// An upstream that is polled rarely, and where a job may be unknown for long. Nobody answers at its address.
fn configure(folder: &Path, rate: usize) {
    let text = format!(
        "[sources.retab]\nbase_url = \"http://127.0.0.1:9\"\nnot_found_grace = \"1h\"\nmax_requests_per_second = {rate}\n"
    );
    std::fs::write(folder.join("tidings.toml"), text).unwrap();
}

fn job(n: usize) -> String {
    format!("job_{n:05}")
}

fn batch(jobs: impl Iterator<Item = usize>) -> Value {
    json!({"watches": jobs.map(|n| json!({"job_id": job(n)})).collect::<Vec<_>>()})
}

/// A data folder with open watches, whose daemon was killed.
async fn filled() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    configure(folder.path(), 1);
    let process = Process::run(folder.path(), &[]).await;
    for from in (0..OPEN).step_by(5000) {
        let (status, answer) = process.post("/v1/watches/batch", &batch(from..from + 5000)).await;
        assert_eq!((status, &answer["accepted"]), (200, &json!(5000)), "{answer}");
    }
    process.kill().await;
    folder
}

/// Waits until all is loaded. Returns the number of open watches.
async fn loaded(process: &Process) -> u64 {
    eventually("it is loaded", || async {
        let (_, ready) = process.get("/readyz").await;
        (ready["status"] != "loading").then_some(())
    })
    .await;
    let (_, sources) = process.get("/v1/sources").await;
    sources["data"][0]["open_watches"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_loaded_yet_is_known_all_the_same() {
    let folder = filled().await;
    let process = Process::run(folder.path(), &[]).await;
    let (status, ready) = process.get("/readyz").await;
    assert_eq!(status, 200);
    println!("at the first request it is {}", ready["status"]);
    if ready["status"] == "loading" {
        assert_eq!(ready["reasons"][0], "watches_loading", "{ready}");
    }
    // The last ones are loaded last.
    let path = |n: usize| format!("/v1/watches/retab/{}", job(n));
    let (status, watch) = process.get(&path(OPEN - 1)).await;
    assert_eq!((status, &watch["phase"]), (200, &json!("watching")), "{watch}");
    assert!(watch["next_poll_at"].is_string(), "{watch}");
    let (status, _) = process.post("/v1/watches", &json!({"job_id": job(OPEN - 2)})).await;
    assert_eq!(status, 200, "it is watched already");
    let (status, watch) = process.post("/v1/watches", &json!({"job_id": job(OPEN)})).await;
    assert_eq!(status, 202, "{watch}");
    let (_, answer) = process.post("/v1/watches/batch", &batch(OPEN - 10..OPEN + 10)).await;
    assert_eq!((&answer["accepted"], &answer["existing"]), (&json!(9), &json!(11)), "{answer}");
    let (status, watch) = process.post(&format!("{}/poll", path(OPEN - 3)), &json!({})).await;
    assert_eq!((status, &watch["phase"]), (202, &json!("watching")), "{watch}");
    let (status, _) = process.get(&format!("{}/wait?timeout=1ms", path(OPEN - 4))).await;
    assert_eq!(status, 202);
    // One that is ended now is not loaded later.
    process.forget(&job(OPEN - 5)).await;
    assert_eq!(loaded(&process).await, OPEN as u64 + 10 - 1);
    assert_eq!(process.get(&path(OPEN - 5)).await.0, 404);
    let (status, log) = process.terminate().await;
    assert_eq!(status, Some(0));
    assert!(!log.contains("ERROR") && !log.contains("panic"), "{log}");
    assert!(log.contains("open work restored"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_a_stop_and_a_kill_while_it_loads_lose_nothing() {
    let folder = filled().await;
    let process = Process::run(folder.path(), &[]).await;
    assert_eq!(process.post("/v1/watches", &json!({"job_id": job(OPEN)})).await.0, 202);
    process.kill().await;
    // The source is another object after the reload.
    let process = Process::run(folder.path(), &[]).await;
    configure(folder.path(), 2);
    process.signal(Signal::HUP);
    eventually("it is reloaded", || async { process.log().contains("configuration reloaded").then_some(()) })
        .await;
    eventually("all are there", || async { (loaded(&process).await == OPEN as u64 + 1).then_some(()) }).await;
    process.kill().await;
    let process = Process::start(folder.path(), &[]).await;
    let (status, log) = process.terminate().await;
    assert_eq!(status, Some(0), "{log}");
    assert!(!log.contains("ERROR") && !log.contains("panic"), "{log}");
    let process = Process::run(folder.path(), &[]).await;
    assert_eq!(loaded(&process).await, OPEN as u64 + 1);
    let (status, log) = process.terminate().await;
    assert_eq!(status, Some(0));
    assert!(log.contains(&format!("watches={}", OPEN + 1)), "{log}");
}
