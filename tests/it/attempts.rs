//! One job, several runs: each makes one event, however often the job is registered.

use std::time::Duration;

use serde_json::{Value, json};
use tidings::{
    mock::{Ending, JobPlan, Kind, Raw},
    util::units::HumanDuration,
};

use crate::harness::{Flow, Reply};

impl Flow {
    /// Every delivery of a job: one for each event that it made.
    async fn deliveries_of(&self, job: &str) -> Vec<Value> {
        self.deliveries(&format!("job_id={job}")).await
    }

    /// Registers a job: the answer's status and the watch.
    async fn register(&self, body: Value) -> (u16, Value) {
        self.daemon.post("/v1/watches", &body).await
    }

    /// Registers a finished job again and waits until it is back where it was.
    async fn again(&self, job: &str) -> Value {
        let before = self.polls(job).await;
        let (status, watch) = self.register(json!({"job_id": job})).await;
        assert_eq!((status, &watch["phase"], &watch["event_id"]), (202, &"watching".into(), &Value::Null));
        let watch = self.daemon.finished(job).await;
        assert!(watch["polls"].as_u64().unwrap() > before, "it was looked at again: {watch}");
        watch
    }

    async fn polls(&self, job: &str) -> u64 {
        self.daemon.finished(job).await["polls"].as_u64().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_in_place_makes_a_second_event() {
    let flow = Flow::start(&[HumanDuration::millis(20)], |_| ()).await;
    let job = flow.mock.add_job(JobPlan::new().ending(Ending::Failed));
    flow.daemon.watch(&job).await;
    let failed = flow.daemon.finished(&job).await;
    assert_eq!(failed["outcome"], "failed");
    let url = format!("{}/v1/jobs/{job}/retry", flow.mock.base_url());
    assert!(flow.daemon.http.post(url).send().await.unwrap().status().is_success());
    let completed = flow.again(&job).await;
    assert_eq!((&completed["outcome"], &completed["phase"]), (&"completed".into(), &"done".into()));
    assert_ne!(completed["event_id"], failed["event_id"]);
    assert_eq!(completed["created_at"], failed["created_at"], "it is the same watch");
    let told: Vec<_> =
        flow.receiver.requests().iter().map(|told| told.header("webhook-id").to_owned()).collect();
    assert_eq!(told, [failed["event_id"].as_str().unwrap(), completed["event_id"].as_str().unwrap()]);
    let types: Vec<_> = flow.receiver.requests().iter().map(|told| told.json()["type"].clone()).collect();
    assert_eq!(types, ["job.failed", "job.completed"]);
    let (_, stored) = flow.daemon.get_bytes(&format!("/v1/watches/retab/{job}/job")).await;
    assert_eq!(stored, flow.mock.full_body(&job).unwrap(), "the job of the last run");
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_did_not_run_again_makes_no_second_event() {
    let flow = Flow::start(&[HumanDuration::millis(20)], |_| ()).await;
    let job = flow.mock.add_job(JobPlan::new());
    flow.daemon.watch(&job).await;
    let first = flow.daemon.finished(&job).await;
    for _ in 0..3 {
        let again = flow.again(&job).await;
        for field in ["event_id", "outcome", "status", "phase", "job_sha256", "deliveries", "finished_at"] {
            assert_eq!(again[field], first[field], "{field}");
        }
    }
    assert_eq!(flow.deliveries_of(&job).await.len(), 1);
    assert_eq!(flow.receiver.requests().len(), 1);
    assert_eq!(flow.mock.requests(Some(&job), Some(Kind::Full)), 1, "nothing was fetched again");
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_completed_job_that_expires_later_makes_no_second_event() {
    let flow = Flow::start(&[HumanDuration::millis(20)], |_| ()).await;
    let job = flow.mock.add_job(JobPlan::new());
    flow.daemon.watch(&job).await;
    let first = flow.daemon.finished(&job).await;
    let full = flow.mock.full_body(&job).unwrap();
    flow.mock.advance(Duration::from_hours(24 * 8));
    assert_eq!(flow.mock.status(&job).as_deref(), Some("expired"));
    let again = flow.again(&job).await;
    assert_eq!((&again["status"], &again["outcome"]), (&"expired".into(), &"completed".into()));
    assert_eq!(again["event_id"], first["event_id"]);
    assert_eq!((flow.deliveries_of(&job).await.len(), flow.receiver.requests().len()), (1, 1));
    let (_, stored) = flow.daemon.get_bytes(&format!("/v1/watches/retab/{job}/job")).await;
    assert_eq!(stored, full, "the stored job outlives the upstream's");
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_may_be_registered_again_while_it_is_delivered() {
    let flow = Flow::start(&[HumanDuration::secs(3600)], |_| ()).await;
    flow.receiver.then([Reply::status(500)]);
    let job = flow.mock.add_job(JobPlan::new());
    flow.daemon.watch(&job).await;
    let tried = |watch: &Value| watch["phase"] == "delivering" && watch["deliveries"][0]["attempts"] == 1;
    let first = flow.daemon.until(&job, "was tried once", tried).await;
    assert_eq!(flow.register(json!({"job_id": job})).await.0, 202);
    let polls = first["polls"].as_u64().unwrap();
    let back = |watch: &Value| tried(watch) && watch["polls"].as_u64().unwrap() > polls;
    let again = flow.daemon.until(&job, "is back where it was", back).await;
    assert_eq!(again["deliveries"], first["deliveries"]);
    assert_eq!(again["event_id"], first["event_id"]);
    let delivery = first["deliveries"][0]["id"].as_str().unwrap();
    let (status, _) = flow.daemon.post(&format!("/v1/deliveries/{delivery}/redeliver"), &json!({})).await;
    assert_eq!(status, 202);
    assert_eq!(flow.daemon.finished(&job).await["phase"], "done");
    let told = flow.receiver.requests();
    assert_eq!((told.len(), flow.deliveries_of(&job).await.len()), (2, 1), "two attempts of one delivery");
    assert_eq!(told[0].header("webhook-id"), told[1].header("webhook-id"));
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_again_is_merged_or_replaced() {
    let flow = Flow::start(&[HumanDuration::millis(20)], |_| ()).await;
    let hour = Duration::from_hours(1);
    let job = flow.mock.add_job(JobPlan::new().lasting(hour));
    let (status, _) = flow.register(json!({"job_id": job, "labels": {"team": "a", "kept": "x"}})).await;
    assert_eq!(status, 202);
    let (status, watch) =
        flow.register(json!({"job_id": job, "labels": {"team": "b", "new": "y"}, "sinks": []})).await;
    assert_eq!(status, 200);
    let merged = json!({"team": "b", "kept": "x", "new": "y"});
    assert_eq!(watch["labels"], merged);
    let many: serde_json::Map<_, _> = (0..14).map(|n| (format!("k{n}"), json!("v"))).collect();
    let (status, problem) = flow.register(json!({"job_id": job, "labels": many})).await;
    assert_eq!((status, &problem["code"]), (422, &"invalid_labels".into()));
    flow.mock.advance(hour * 2);
    let silent = flow.daemon.finished(&job).await;
    assert_eq!((&silent["phase"], &silent["labels"]), (&"done".into(), &merged));
    assert_eq!(silent["deliveries"], json!([]), "it was told to go nowhere");
    assert!(flow.receiver.requests().is_empty());
    // A finished watch is watched again, and keeps its labels.
    let (status, watch) = flow.register(json!({"job_id": job, "labels": {"late": "z"}})).await;
    assert_eq!((status, &watch["labels"]["late"], &watch["labels"]["kept"]), (202, &"z".into(), &"x".into()));
    flow.daemon.finished(&job).await;
    let other = flow.mock.add_job(JobPlan::new());
    assert_eq!(flow.register(json!({"job_id": other, "labels": {"team": "c"}})).await.0, 202);
    assert_eq!(flow.receiver.at_least(1).await[0].json()["labels"], json!({"team": "c"}));
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_are_told_apart_for_an_upstream_without_timestamps() {
    const ENDED: &str = "{\"status\":\"completed\"}";
    let flow = Flow::start(&[HumanDuration::millis(20)], |_| ()).await;
    flow.mock.set_raw("job_mute", Raw::new(ENDED, "{\"status\":\"completed\",\"run\":1}"));
    flow.daemon.watch("job_mute").await;
    let first = flow.daemon.finished("job_mute").await;
    assert_eq!(flow.again("job_mute").await["event_id"], first["event_id"]);
    flow.mock.set_raw("job_mute", Raw::new("{\"status\":\"queued\"}", "{\"status\":\"queued\"}"));
    assert_eq!(flow.register(json!({"job_id": "job_mute"})).await.0, 202);
    flow.daemon.until("job_mute", "runs again", |watch| watch["status"] == "queued").await;
    flow.mock.set_raw("job_mute", Raw::new(ENDED, "{\"status\":\"completed\",\"run\":2}"));
    let second = flow.daemon.finished("job_mute").await;
    assert_ne!(second["event_id"], first["event_id"]);
    assert_eq!(flow.again("job_mute").await["event_id"], second["event_id"]);
    let runs: Vec<_> =
        flow.receiver.requests().iter().map(|told| told.json()["data"]["run"].clone()).collect();
    assert_eq!(runs, [1, 2]);
    flow.stop().await;
}
