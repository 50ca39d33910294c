//! `job.started` and `job.updated`: for the sinks that ask for them, and for nobody else.

use std::time::Duration;

use serde_json::{Value, json};
use tidings::{
    config::Config,
    deliver::SinkConfig,
    mock::{Ending, JobPlan, Mock},
};

use crate::harness::{Daemon, Receiver, Sinks, config, eventually, mock};

/// A job takes so long that it comes on only when the mock's clock is moved.
const LONG: Duration = Duration::from_hours(100);

const HOUR: Duration = Duration::from_hours(1);

fn asks(mut config: Config, sink: &str, events: &[&str]) -> Config {
    let Some(SinkConfig::Webhook(webhook)) = config.sinks.get_mut(sink) else { panic!("no webhook {sink}") };
    webhook.events = events.iter().map(ToString::to_string).collect();
    config
}

fn types(receiver: &Receiver) -> Vec<String> {
    let mut types: Vec<String> =
        receiver.requests().iter().map(|one| one.json()["type"].as_str().unwrap().to_owned()).collect();
    types.sort();
    types
}

/// Moves the job on and waits until the daemon has seen it.
async fn come_on(mock: &Mock, daemon: &Daemon, job: &str, by: Duration, status: &str) {
    mock.advance(by);
    daemon.until(job, status, |watch| watch["status"] == status).await;
}

async fn metric(daemon: &Daemon, line: &str) {
    eventually(line, || async {
        let (_, text) = daemon.get_bytes("/metrics").await;
        String::from_utf8(text).unwrap().lines().any(|one| one == line).then_some(())
    })
    .await;
}

#[tokio::test]
async fn whoever_asks_hears_of_progress_and_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let mock = mock().await;
    let (plain, starts, all) = (Receiver::start().await, Receiver::start().await, Receiver::start().await);
    let config = config(folder.path(), &mock)
        .webhook("plain", &plain.url(), 1)
        .webhook("starts", &starts.url(), 1)
        .webhook("all", &all.url(), 1);
    let config = asks(config, "starts", &["job.started"]);
    let config = asks(config, "all", &["*", "job.started", "job.updated"]);
    let daemon = Daemon::start(config).await;
    let job = mock.add_job(JobPlan::new().id("job_1").lasting(LONG));
    let body = json!({"job_id": job, "labels": {"team": "billing"}});
    assert_eq!(daemon.post("/v1/watches", &body).await.0, 202);
    daemon.until(&job, "is validated", |watch| watch["status"] == "validating").await;
    come_on(&mock, &daemon, &job, 10 * HOUR, "queued").await;
    come_on(&mock, &daemon, &job, 10 * HOUR, "in_progress").await;
    starts.at_least(1).await;
    all.at_least(3).await;
    assert_eq!(types(&starts), ["job.started"]);
    assert_eq!(types(&all), ["job.started", "job.updated", "job.updated"]);
    let request = &starts.requests()[0];
    let event = request.json();
    assert_eq!((&event["outcome"], &event["status"]), (&Value::Null, &"in_progress".into()));
    assert_eq!(event["labels"], json!({"team": "billing"}));
    assert_eq!((&event["data"]["status"], &event["data"]["id"]), (&"in_progress".into(), &"job_1".into()));
    assert_eq!(request.header("webhook-id"), event["id"]);
    let (_, watch) = daemon.get("/v1/watches/retab/job_1").await;
    assert_eq!((&watch["phase"], &watch["event_id"]), (&"watching".into(), &Value::Null), "{watch}");
    assert_eq!(watch["deliveries"].as_array().unwrap().len(), 4);
    come_on(&mock, &daemon, &job, 100 * HOUR, "completed").await;
    let watch = daemon.finished(&job).await;
    assert_eq!((&watch["phase"], &watch["outcome"]), (&"done".into(), &"completed".into()), "{watch}");
    assert_eq!(types(&plain), ["job.completed"]);
    assert_eq!(types(&starts), ["job.started"]);
    assert_eq!(types(&all), ["job.completed", "job.started", "job.updated", "job.updated"]);
    assert_eq!(plain.requests()[0].header("webhook-id"), watch["event_id"]);
    metric(&daemon, r#"tidings_events_total{outcome="updated",source="retab"} 2"#).await;
    metric(&daemon, r#"tidings_events_total{outcome="started",source="retab"} 1"#).await;
    let (_, deliveries) = daemon.get("/v1/deliveries?sink=starts").await;
    assert_eq!(deliveries["data"][0]["event_type"], "job.started");
    daemon.stop().await;
}

#[tokio::test]
async fn a_watch_that_names_its_sinks_is_not_flooded() {
    let folder = tempfile::tempdir().unwrap();
    let mock = mock().await;
    let (plain, updates) = (Receiver::start().await, Receiver::start().await);
    let config =
        config(folder.path(), &mock).webhook("plain", &plain.url(), 1).webhook("updates", &updates.url(), 1);
    let config = asks(config, "updates", &["job.updated"]);
    let daemon = Daemon::start(config).await;
    let job = mock.add_job(JobPlan::new().lasting(LONG).ending(Ending::Failed));
    let body = json!({"job_id": job, "sinks": ["plain", "updates"]});
    assert_eq!(daemon.post("/v1/watches", &body).await.0, 202);
    daemon.until(&job, "is validated", |watch| watch["status"] == "validating").await;
    come_on(&mock, &daemon, &job, 10 * HOUR, "queued").await;
    come_on(&mock, &daemon, &job, 100 * HOUR, "failed").await;
    assert_eq!(daemon.finished(&job).await["phase"], "done");
    assert_eq!(types(&plain), ["job.failed"]);
    // An end that a watch names a sink for goes there, whatever the sink's events say.
    assert_eq!(types(&updates), ["job.failed", "job.updated"]);
    daemon.stop().await;
}

#[tokio::test]
async fn progress_on_disk_has_a_file_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let mock = mock().await;
    let out = folder.path().join("out");
    let mut config = config(folder.path(), &mock).disk("archive", &out);
    let Some(SinkConfig::Disk(disk)) = config.sinks.get_mut("archive") else { panic!("a disk") };
    disk.events = vec!["job.*".to_owned(), "job.started".to_owned()];
    disk.path = "{job_id}.{outcome}.json".to_owned();
    let daemon = Daemon::start(config).await;
    let job = mock.add_job(JobPlan::new().id("job_1").lasting(LONG));
    daemon.watch(&job).await;
    come_on(&mock, &daemon, &job, 20 * HOUR, "in_progress").await;
    come_on(&mock, &daemon, &job, 100 * HOUR, "completed").await;
    assert_eq!(daemon.finished(&job).await["phase"], "done");
    let started: Value =
        serde_json::from_slice(&std::fs::read(out.join("job_1.started.json")).unwrap()).unwrap();
    assert_eq!(started["status"], "in_progress");
    assert_eq!(std::fs::read(out.join("job_1.completed.json")).unwrap(), mock.full_body(&job).unwrap());
    daemon.stop().await;
}
