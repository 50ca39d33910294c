//! `GET /v1/watches/{source}/{job_id}/timeline`: every step of a job, over restarts.

use std::time::Duration;

use serde_json::{Value, json};
use tidings::{
    mock::{JobPlan, Raw},
    upstream::{HooksConfig, VerifyMethod},
    util::secret::Secret,
};

use crate::harness::{
    Api, Daemon, Flow, Reply, Setup, Sinks, config, eventually, mock, polled_seldom, webhook,
};

/// A job takes so long that it comes on only when the mock's clock is moved.
const LONG: Duration = Duration::from_hours(100);

async fn timeline(api: &Api, job: &str) -> Value {
    let (status, timeline) = api.get(&format!("/v1/watches/retab/{job}/timeline")).await;
    assert_eq!(status, 200, "{timeline}");
    timeline
}

fn steps(timeline: &Value) -> Vec<&Value> {
    timeline["data"].as_array().unwrap().iter().collect()
}

fn types(timeline: &Value) -> Vec<String> {
    let of = |step: &&Value| match step["type"].as_str().unwrap() {
        "status" => step["status"].as_str().unwrap().to_owned(),
        other => other.to_owned(),
    };
    steps(timeline).iter().map(of).collect()
}

async fn come_on(flow: &Flow, job: &str, by: Duration, status: &str) {
    flow.mock.advance(by);
    flow.daemon.until(job, status, |watch| watch["status"] == status).await;
}

#[tokio::test]
async fn a_timeline_has_every_step_of_a_job_also_after_a_restart() {
    let hour = Duration::from_hours(1);
    let flow =
        Flow::quick(|config| *config = std::mem::take(config).webhook("gone", "http://127.0.0.1:9/", 0))
            .await;
    flow.receiver.then([Reply::status(503), Reply::status(500)]);
    let job = flow.mock.add_job(JobPlan::new().id("job_1").lasting(LONG));
    flow.daemon.watch(&job).await;
    flow.daemon.until(&job, "is validated", |watch| watch["status"] == "validating").await;
    come_on(&flow, &job, 10 * hour, "queued").await;
    come_on(&flow, &job, 10 * hour, "in_progress").await;
    let before = timeline(&flow.daemon, &job).await;
    assert_eq!(types(&before), ["registered", "validating", "queued", "in_progress"]);
    assert_eq!(
        (&before["source"], &before["job_id"], &before["kind"]),
        (&json!("retab"), &json!("job_1"), &json!("jobs"))
    );
    let flow = flow.restart(|_| {}).await;
    flow.daemon.watch(&job).await;
    come_on(&flow, &job, 100 * hour, "completed").await;
    let watch = flow.daemon.finished(&job).await;
    let told = timeline(&flow.daemon, &job).await;
    let types = types(&told);
    assert_eq!(
        types[..7],
        ["registered", "validating", "queued", "in_progress", "registered_again", "finished", "fetched"],
        "{told:#}"
    );
    assert_eq!(types[7..], ["attempt"; 4], "{told:#}");
    let steps = steps(&told);
    assert!(steps.windows(2).all(|two| two[0]["at"].as_str() <= two[1]["at"].as_str()), "{told:#}");
    let finished = steps[5];
    assert_eq!((&finished["outcome"], &finished["status"]), (&json!("completed"), &json!("completed")));
    assert_eq!((&finished["event_id"], &finished["at"]), (&watch["event_id"], &watch["finished_at"]));
    let fetched = steps[6];
    assert_eq!((&fetched["size"], &fetched["deliveries"]), (&watch["job_size"], &json!(2)));
    let of = |sink: &str| -> Vec<(u64, String, Value)> {
        let of_sink = steps[7..].iter().filter(|step| step["sink"] == sink);
        of_sink
            .map(|step| {
                assert_eq!(
                    (&step["event_type"], step["delivery_id"].is_string()),
                    (&json!("job.completed"), true)
                );
                let state = step["state"].as_str().unwrap().to_owned();
                (step["number"].as_u64().unwrap(), state, step["status"].clone())
            })
            .collect()
    };
    let to_app = [
        (1, "failed".to_owned(), json!(503)),
        (2, "failed".to_owned(), json!(500)),
        (3, "delivered".to_owned(), json!(204)),
    ];
    assert_eq!(of("app"), to_app);
    assert_eq!(of("gone"), [(1, "dead".to_owned(), Value::Null)]);
    assert!(steps[7..].iter().any(|step| step["error_class"] == "connect"), "{told:#}");
    assert_eq!(told["truncated"], false);
    let again = timeline(&flow.restart(|_| {}).await.daemon, &job).await;
    assert_eq!(again, told);
}

#[tokio::test]
async fn a_status_that_changes_all_the_time_is_bounded() {
    let flow = Flow::quick(|_| {}).await;
    let job = flow.mock.add_job(JobPlan::new().lasting(LONG));
    flow.daemon.watch(&job).await;
    for number in 0..40 {
        let status = format!("step {number}");
        flow.mock.set_raw(&job, Raw::new(json!({"id": job, "status": status}).to_string(), "{}"));
        flow.daemon.until(&job, &status, |watch| watch["status"] == *status).await;
    }
    let told = timeline(&flow.daemon, &job).await;
    let statuses: Vec<String> = (24..40).map(|number| format!("step {number}")).collect();
    assert_eq!((&types(&told)[1..], &told["truncated"]), (&statuses[..], &json!(true)));
    flow.stop().await;
}

#[tokio::test]
async fn hints_and_failures_are_steps() {
    let (folder, mock) = (tempfile::tempdir().unwrap(), mock().await);
    let mut config = config(folder.path(), &mock);
    let source = config.sources.get_mut("retab").unwrap();
    source.polling = polled_seldom();
    source.hooks = Some(HooksConfig {
        verify: Some(VerifyMethod::Token),
        secret: Some(Secret::new("a secret of the source")),
        header: Some("X-Token".to_owned()),
        id_at: Some(vec!["/id".to_owned()]),
        ..HooksConfig::default()
    });
    let daemon = Daemon::start(config.clone()).await;
    let job = mock.add_job(JobPlan::new().lasting(LONG));
    daemon.watch(&job).await;
    daemon.until(&job, "is validated", |watch| watch["status"] == "validating").await;
    mock.set_raw(&job, Raw::code(500));
    assert_eq!(daemon.post(&format!("/v1/watches/retab/{job}/poll"), &Value::Null).await.0, 202);
    let told = eventually("the failed poll is told", || async {
        let told = timeline(&daemon, &job).await;
        types(&told).contains(&"poll_failed".to_owned()).then_some(told)
    })
    .await;
    assert_eq!(types(&told), ["registered", "validating", "poll_requested", "poll_failed"]);
    assert!(steps(&told)[3]["error"].as_str().unwrap().contains("500"), "{told}");
    let hook =
        daemon.http.post(format!("{}/hooks/retab", daemon.url)).header("x-token", "a secret of the source");
    assert_eq!(hook.body(json!({"id": job}).to_string()).send().await.unwrap().status(), 204);
    mock.advance(LONG);
    mock.set(|faults| faults.raw.clear());
    daemon.finished(&job).await;
    let told = timeline(&daemon, &job).await;
    let expected = ["registered", "validating", "poll_requested", "hook", "finished", "fetched"];
    assert_eq!(types(&told), expected, "{told:#}");
    daemon.stop().await;
    let daemon = Daemon::start(config).await;
    assert_eq!(timeline(&daemon, &job).await, told, "hints are durable with the step that they led to");
    daemon.stop().await;
}

#[tokio::test]
async fn a_lost_job_and_progress_are_told() {
    let setup = Setup::new().await;
    let flow = setup
        .change(|config| {
            webhook(config, |app| app.events = vec!["job.*".to_owned(), "job.started".to_owned()]);
        })
        .start()
        .await;
    let job = flow.mock.add_job(JobPlan::new().lasting(Duration::ZERO));
    flow.daemon.watch("job_nobody_knows").await;
    let watch = flow.daemon.finished("job_nobody_knows").await;
    let told = timeline(&flow.daemon, "job_nobody_knows").await;
    assert_eq!(types(&told), ["registered", "finished", "attempt"]);
    let lost = steps(&told)[1];
    assert_eq!((&lost["outcome"], &lost["error"]), (&json!("lost"), &watch["last_error"]));
    assert_eq!((&lost["status"], &lost["detection_seconds"]), (&Value::Null, &Value::Null));
    assert_eq!(steps(&told)[2]["event_type"], "job.lost");
    flow.daemon.watch(&job).await;
    flow.daemon.finished(&job).await;
    let told = timeline(&flow.daemon, &job).await;
    assert_eq!(types(&told), ["registered", "finished", "fetched", "attempt"], "{told:#}");
    let finished = steps(&told)[1];
    assert!(finished["ended_at"].is_string() && finished["detection_seconds"].is_f64(), "{finished}");
    assert_eq!(flow.daemon.get("/v1/watches/retab/none/timeline").await.0, 404);
    flow.stop().await;
}
