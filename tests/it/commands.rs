//! The commands as a person uses them: completion, status, and what they say of a real daemon.

use std::time::Duration;

use serde_json::{Value, json};
use tidings::{
    mock::JobPlan,
    util::units::{HumanDuration, Time},
};
use tokio::net::TcpListener;

use crate::harness::{
    Flow, LOOPBACK, Process, Receiver, Reply, binary, eventually, http, mock, once, write_config,
};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What fish offers for the last of these words, without flags.
async fn offered(folder: &std::path::Path, words: &[&str]) -> Vec<String> {
    let mut command = binary();
    command.env("_TIDINGS_COMPLETE", "fish").args(["--", "tidings"]).args(words).current_dir(folder);
    let output = command.output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(text(&output.stderr), "", "{words:?}");
    let word = |line: &str| line.split('\t').next().unwrap().to_owned();
    text(&output.stdout).lines().map(word).filter(|word| !word.starts_with("--")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_completed_by_the_running_daemon() {
    let (folder, receiver, mock) = (tempfile::tempdir().unwrap(), Receiver::start().await, mock().await);
    let sinks = format!(
        "[sinks.archive]\ntype = \"disk\"\ndir = \"out\"\n\n[sinks.app]\ntype = \"webhook\"\nurl = \"{}\"\n",
        receiver.url()
    );
    write_config(folder.path(), &mock.base_url(), &sinks);
    let daemon = Process::run(folder.path(), &[]).await;
    let job = mock.add_job(JobPlan::new());
    let body = json!({"job_id": job});
    let answer = http().post(format!("{}/v1/watches", daemon.url)).json(&body).send().await.unwrap();
    assert_eq!(answer.status(), 202);
    let url = daemon.url.as_str();
    let offer = async |words: &[&str]| offered(folder.path(), &[&["--url", url][..], words].concat()).await;
    assert_eq!(offer(&["sink", "test", ""]).await, ["app", "archive", "callback"]);
    assert_eq!(offer(&["sink", "pause", "ar"]).await, ["archive"]);
    assert_eq!(offer(&["deliveries", "--sink", "app"]).await, ["app"]);
    assert_eq!(offer(&["source", "show", ""]).await, ["retab"]);
    assert_eq!(offer(&["list", "--source", ""]).await, ["retab"]);
    assert_eq!(offer(&["get", "job_"]).await, [job.as_str()]);
    assert_eq!(offer(&["get", "--source", "other", "job_"]).await, [""; 0]);
    assert_eq!(offer(&["unwatch", "other", "job_"]).await, [job.as_str()]);
    for hostile in
        ["job_$(id)", "job_`id`", "job_;id", "job_\u{202e}x", "job_*", "job_ x", "job_'", "job_|id"]
    {
        let body = json!({"job_id": hostile});
        let answer = http().post(format!("{url}/v1/watches")).json(&body).send().await.unwrap();
        assert_eq!(answer.status(), 202, "{hostile}");
    }
    assert_eq!(offer(&["get", "job_"]).await, [job.as_str()], "a shell would run the others");
    eventually("deliveries are offered", || async {
        // The hostile ids are lost some time, and make deliveries, too.
        (offer(&["redeliver", "dlv_"]).await.len() >= 2).then_some(())
    })
    .await;
    assert!(offer(&["sink", ""]).await.contains(&"pause".to_owned()), "commands are still completed");
    daemon.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn completion_is_silent_without_a_daemon_and_with_one_that_hangs() {
    let folder = tempfile::tempdir().unwrap();
    let hung = TcpListener::bind(LOOPBACK).await.unwrap();
    let hung = hung.local_addr().unwrap().to_string();
    let free = TcpListener::bind(LOOPBACK).await.unwrap().local_addr().unwrap().to_string();
    for url in [&hung, &free] {
        assert_eq!(offered(folder.path(), &["--url", url, "sink", "test", ""]).await, [""; 0]);
        assert!(offered(folder.path(), &["--url", url, "si"]).await.contains(&"sink".to_owned()));
    }
    // No daemon of this machine is asked.
    let nonsense = format!("nonsense = 1\n[server]\nlisten = \"{free}\"\n");
    std::fs::write(folder.path().join("tidings.toml"), nonsense).unwrap();
    assert_eq!(offered(folder.path(), &["sink", "test", ""]).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pending_delivery_says_what_it_waits_for() {
    let flow = Flow::start(&[], |_| ()).await;
    let job = flow.mock.add_job(JobPlan::new());
    assert_eq!(flow.daemon.post("/v1/sinks/app/pause", &Value::Null).await.0, 200);
    flow.daemon.watch(&job).await;
    let waiting = flow.daemon.until(&job, "is delivering", |watch| watch["phase"] == "delivering").await;
    let brief = &waiting["deliveries"][0];
    assert_eq!((&brief["waits_for"], &brief["next_attempt_at"]), (&json!("paused"), &Value::Null), "{brief}");
    let listed = &flow.deliveries("state=pending").await[0];
    assert_eq!((&listed["waits_for"], &listed["next_attempt_at"]), (&json!("paused"), &Value::Null));
    let folder = tempfile::tempdir().unwrap();
    let table = once(folder.path(), &["--url", &flow.daemon.url, "deliveries"]).await;
    let row = text(&table.stdout).lines().nth(1).unwrap().to_owned();
    assert!(row.contains("  paused  ") && !row.contains("due"), "{row}");
    let status = text(&once(folder.path(), &["--url", &flow.daemon.url, "status"]).await.stdout);
    assert!(status.contains("1 delivery") && status.contains("sink app is paused"), "{status}");
    assert_eq!(flow.daemon.post("/v1/sinks/app/resume", &Value::Null).await.0, 200);
    let done = flow.daemon.finished(&job).await;
    assert_eq!(done["deliveries"][0]["waits_for"], Value::Null);
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_asked_for_silence_is_what_a_delivery_waits_for() {
    let flow = Flow::start(&[], |_| ()).await;
    flow.receiver.then([Reply::Status(429, vec![("retry-after", "3600".to_owned())])]);
    let job = flow.mock.add_job(JobPlan::new());
    flow.daemon.watch(&job).await;
    let limited = |watch: &Value| {
        let brief = &watch["deliveries"][0];
        brief["waits_for"] == "limited" && brief["attempts"] == 1
    };
    let waiting = flow.daemon.until(&job, "waits for the sink", limited).await;
    let next = Time::parse(waiting["deliveries"][0]["next_attempt_at"].as_str().unwrap()).unwrap();
    let asked = Time::parse(waiting["finished_at"].as_str().unwrap()).unwrap();
    assert!(next.since(asked) >= Duration::from_mins(59), "{waiting:#}");
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redelivering_since_a_time_goes_by_the_time_of_the_dead_letter() {
    let flow = Flow::start(&[HumanDuration::millis(50), HumanDuration::millis(50)], |_| ()).await;
    flow.receiver.then((0..3).map(|_| Reply::status(400)));
    let job = flow.mock.add_job(JobPlan::new());
    flow.daemon.watch(&job).await;
    assert_eq!(flow.daemon.finished(&job).await["phase"], "dead");
    let dead = flow.deliveries("state=dead").await[0].clone();
    let (made, died) = (&dead["created_at"], &dead["updated_at"]);
    assert_ne!(made, died);
    let redeliver = async |body: Value| flow.daemon.post("/v1/deliveries/redeliver", &body).await;
    assert_eq!(redeliver(json!({"until": died})).await, (202, json!({"count": 0})));
    assert_eq!(redeliver(json!({"since": died})).await, (202, json!({"count": 1})));
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_taken_is_blamed_on_the_key_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind(LOOPBACK).await.unwrap().local_addr().unwrap();
    let holder = TcpListener::bind(taken).await.unwrap();
    let config = format!("[server]\nadmin_listen = \"{taken}\"\n");
    std::fs::write(folder.path().join("tidings.toml"), config).unwrap();
    let admin = once(folder.path(), &["run", "--listen", "127.0.0.1:0"]).await;
    let said = text(&admin.stderr);
    assert_eq!(admin.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("`{taken}` of server.admin_listen")), "{said}");
    assert!(!said.contains("--listen"), "{said}");
    std::fs::remove_file(folder.path().join("tidings.toml")).unwrap();
    let api = once(folder.path(), &["run", "--listen", &taken.to_string()]).await;
    let said = text(&api.stderr);
    assert!(said.contains("of server.listen") && said.contains("--listen"), "{said}");
    drop(holder);
}

#[tokio::test(flavor = "multi_thread")]
async fn sinks_and_sources_are_filtered_by_state_and_type() {
    let flow = Flow::start(&[], |_| ()).await;
    let names = async |path: &str| {
        let (status, list) = flow.daemon.get(path).await;
        let names = list["data"]
            .as_array()
            .map(|data| data.iter().map(|one| one["name"].clone()).collect::<Vec<_>>());
        (status, names)
    };
    assert_eq!(flow.daemon.post("/v1/sinks/app/pause", &Value::Null).await.0, 200);
    assert_eq!(names("/v1/sinks?state=paused").await, (200, Some(vec![json!("app")])));
    assert_eq!(names("/v1/sinks?state=failing").await, (200, Some(vec![])));
    assert_eq!(names("/v1/sinks?type=disk").await, (200, Some(vec![])));
    assert_eq!(names("/v1/sinks?state=broken").await, (400, None));
    assert_eq!(names("/v1/sinks?colour=red").await, (400, None));
    assert_eq!(names("/v1/sources?state=ok").await, (200, Some(vec![json!("retab")])));
    assert_eq!(names("/v1/sources?state=limited").await, (200, Some(vec![])));
    assert_eq!(names("/v1/sources?state=broken").await, (400, None));
    flow.stop().await;
}
