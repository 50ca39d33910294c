//! A record that cannot be read, from damage or a fault of an earlier version: it costs one watch, and never the start.

use std::{path::Path, time::Duration};

use serde_json::{Value, json};
use tidings::mock::JobPlan;

use crate::harness::{Daemon, Flow, Home, config, eventually, http, mock, show};

/// What version 0.1 wrote of `"deadline": "9000y"` before durations were bounded, cut short by a fault.
const GARBAGE: &[u8] = b"\x01{\"source\":\"retab\",\"job_id\":\"x\",\"deadline\":\"in 9000 years";

/// Overwrites the record of the watch with this number. The daemon has let the folder go.
async fn spoil(data: &Path, number: u64) {
    let db = eventually("the database is let go", || async {
        sled::Config::default().path(data.join("db")).open().ok()
    })
    .await;
    let key = [b"o".as_slice(), &number.to_be_bytes()].concat();
    db.insert(key, GARBAGE).unwrap().unwrap();
    db.flush().unwrap();
}

async fn metric(daemon: &Daemon, name: &str) -> f64 {
    let (_, text) = daemon.get_bytes("/metrics").await;
    let text = String::from_utf8(text).unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name} in {text}"));
    line.split_whitespace().last().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_starts_lists_and_delivers_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let mock = mock().await;
    let config = config(folder.path(), &mock);
    let daemon = Daemon::start(config.clone()).await;
    let slow = || mock.add_job(JobPlan::new().lasting(Duration::from_secs(3600)));
    let (bad, other, done) = (slow(), slow(), mock.add_job(JobPlan::new()));
    for job in [&bad, &other, &done] {
        daemon.watch(job).await;
    }
    daemon.finished(&done).await;
    daemon.stop().await;
    spoil(&folder.path().join("data"), 1).await;

    let daemon = Daemon::start(config).await;
    let (status, list) = daemon.get("/v1/watches").await;
    let jobs: Vec<&Value> = list["data"].as_array().unwrap().iter().map(|watch| &watch["job_id"]).collect();
    assert_eq!((status, jobs), (200, vec![&json!(done), &json!(other)]));
    assert!((metric(&daemon, "tidings_store_unreadable_records").await - 1.0).abs() < 0.1);
    let path = format!("/v1/watches/retab/{bad}");
    let (status, problem) = daemon.get(&path).await;
    assert_eq!((status, &problem["code"]), (500, &json!("record_unreadable")), "{problem}");
    let (status, problem) = daemon.post("/v1/watches", &json!({"job_id": bad})).await;
    assert_eq!((status, &problem["code"]), (500, &json!("record_unreadable")), "{problem}");
    let fresh = mock.add_job(JobPlan::new());
    let batch = json!({"watches": [{"job_id": bad}, {"job_id": fresh}]});
    let (status, answer) = daemon.post("/v1/watches/batch", &batch).await;
    assert_eq!((status, &answer["accepted"]), (200, &json!(1)), "{answer}");
    assert_eq!(answer["rejected"][0]["code"], "record_unreadable");
    daemon.finished(&fresh).await;
    let (status, _) = daemon.get("/v1/deliveries").await;
    assert_eq!(status, 200);

    let removed = daemon.http.delete(format!("{}{path}", daemon.url)).send().await.unwrap();
    assert_eq!(removed.status(), 204);
    assert!(metric(&daemon, "tidings_store_unreadable_records").await.abs() < 0.1);
    assert_eq!(daemon.get(&path).await.0, 404);
    let (status, _) = daemon.post("/v1/watches", &json!({"job_id": bad})).await;
    assert_eq!(status, 202);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_names_it() {
    let home = Home::new("").await;
    let process = home.run().await;
    let job = home.mock.add_job(JobPlan::new().lasting(Duration::from_secs(3600)));
    let url = format!("{}/v1/watches", process.url);
    assert_eq!(http().post(url).json(&json!({"job_id": job})).send().await.unwrap().status(), 202);
    assert_eq!(process.terminate().await.0, Some(0));
    let checked = home.once(&["store", "check"]).await;
    assert_eq!(checked.status.code(), Some(0), "{}", show(&checked));
    spoil(&home.path().join("data"), 1).await;

    let checked = home.once(&["store", "check"]).await;
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert_eq!(checked.status.code(), Some(1), "{}", show(&checked));
    assert!(said.contains(&format!("retab/{job}")) && said.contains("cannot be read"), "{said}");
    let exported = home.once(&["store", "export", "all.jsonl"]).await;
    assert_eq!(exported.status.code(), Some(0), "{}", show(&exported));
    assert!(String::from_utf8_lossy(&exported.stderr).contains("1 of the records cannot be read"));

    let process = home.run().await;
    let log = process.log();
    assert_eq!(log.matches("passed over a record that cannot be read").count(), 1, "{log}");
    assert!(log.contains("o:0000000000000001"), "{log}");
    assert_eq!(process.terminate().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_is_bounded_where_it_is_asked_for() {
    let flow = Flow::start(&[], |_| {}).await;
    let job = flow.mock.add_job(JobPlan::new().lasting(Duration::from_secs(3600)));
    for deadline in ["9000y", "36501d", "18446744073709551615s", "9999-12-30T00:00:00Z"] {
        let body = json!({"job_id": job, "deadline": deadline});
        let (status, problem) = flow.daemon.post("/v1/watches", &body).await;
        assert_eq!((status, &problem["code"]), (422, &json!("invalid_deadline")), "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains("at most 36500d"), "{problem}");
    }
    let (status, _) = flow.daemon.post("/v1/watches", &json!({"job_id": job, "deadline": "36500d"})).await;
    assert_eq!(status, 202);
    let flow = flow.restart(|_| {}).await;
    assert_eq!(flow.daemon.get(&format!("/v1/watches/retab/{job}")).await.0, 200);
    flow.stop().await;
}
