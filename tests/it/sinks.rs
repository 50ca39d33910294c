//! Sinks that fail for long, are paused, are taken out of the configuration, or want one thing after another.

use std::time::Duration;

use serde_json::{Value, json};
use tidings::{
    config::Config,
    deliver::{SinkConfig, WebhookConfig},
    mock::{Ending, JobPlan},
    util::units::{HumanDuration, Time},
};

use crate::harness::{Flow, Receiver, Reply, eventually, webhook};

fn at(attempt: &Value) -> Time {
    Time::parse(attempt["at"].as_str().unwrap()).unwrap()
}

/// The configuration that the document shows works as it stands, but for the address.
#[tokio::test(flavor = "multi_thread")]
async fn the_sink_of_the_document_delivers() {
    let text =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/concepts/delivery.md")).unwrap();
    let block = text.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let shown: Config = toml::from_str(block).unwrap();
    let flow = Flow::start(&[], |config| {
        let url = webhook_url(config);
        config.sinks = shown.sinks;
        webhook(config, |app| app.url = url);
    })
    .await;
    let job = flow.job().await;
    assert_eq!(flow.daemon.finished(&job).await["phase"], "done");
    assert_eq!(flow.receiver.requests().len(), 1);
    flow.stop().await;
}

fn webhook_url(config: &mut Config) -> Option<String> {
    let mut url = None;
    webhook(config, |app| url.clone_from(&app.url));
    url
}

async fn breaker(flow: &Flow, state: &str) -> Value {
    eventually(&format!("the breaker is {state}"), || async {
        flow.sink("app").await.filter(|sink| sink["breaker"] == state)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_keeps_failing_is_probed_and_gets_everything_once_it_works() {
    let flow = Flow::start(&[HumanDuration::secs(1); 20], |_| ()).await;
    flow.receiver.always(Reply::status(500));
    let jobs = flow.jobs(40).await;
    let sink = breaker(&flow, "open").await;
    assert_eq!((&sink["state"], &sink["last_error"]), (&"failing".into(), &"answered 500".into()));
    assert_eq!(sink["success_share"], 0.0);
    for job in &jobs {
        flow.daemon.until(job, "ended", |watch| watch["phase"] == "delivering").await;
    }
    let (_, ready) = flow.daemon.get("/readyz").await;
    assert_eq!(ready["status"], "degraded", "{ready}");
    let (_, metrics) = flow.daemon.get_bytes("/metrics").await;
    let metrics = String::from_utf8(metrics).unwrap();
    for line in
        ["tidings_sink_breaker_open{sink=\"app\"} 1", "tidings_sink_breaker_opened_total{sink=\"app\"} 1"]
    {
        assert!(metrics.contains(line), "{metrics}");
    }
    // Sixteen are in flight at once; without the breaker every one of the forty would be tried each second.
    let before = flow.receiver.requests().len();
    flow.receiver.at_least(before + 2).await;
    let waiting = flow.deliveries("state=pending").await;
    let waiting = waiting.iter().filter(|delivery| delivery["attempt_count"].as_u64().unwrap() < 2).count();
    assert!(waiting >= 40 - 16 - 4, "{waiting} of 40 were left alone");
    flow.receiver.always(Reply::status(204));
    for job in &jobs {
        let watch = flow.daemon.finished(job).await;
        assert_eq!(watch["phase"], "done", "{watch}");
    }
    assert_eq!(breaker(&flow, "closed").await["state"], "ok");
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_attempts_use_up_a_schedule_and_dead_letters_can_be_sent_again() {
    let flow = Flow::start(&[HumanDuration::millis(700); 2], |_| ()).await;
    flow.receiver.always(Reply::status(500));
    for job in flow.jobs(12).await {
        let watch = flow.daemon.finished(&job).await;
        assert_eq!(watch["phase"], "dead", "{watch}");
    }
    for delivery in flow.deliveries("state=dead").await {
        let reason = "the last attempt failed: answered 500";
        assert_eq!(
            (&delivery["attempt_count"], &delivery["reason"]),
            (&3.into(), &reason.into()),
            "{delivery}"
        );
    }
    flow.receiver.always(Reply::status(204));
    flow.daemon.post("/v1/sinks/app/resume", &Value::Null).await;
    let (_, answer) = flow.daemon.post("/v1/deliveries/redeliver", &json!({"sink": "app"})).await;
    assert_eq!(answer["count"], 12);
    eventually("all are delivered", || async {
        (flow.deliveries("state=delivered").await.len() == 12).then_some(())
    })
    .await;
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_sink_keeps_what_comes_in_over_a_restart() {
    let flow = Flow::start(&[], |_| ()).await;
    let (status, sink) = flow.daemon.post("/v1/sinks/app/pause", &Value::Null).await;
    assert_eq!((status, &sink["state"]), (200, &"paused".into()), "{sink}");
    let jobs = flow.jobs(3).await;
    for job in &jobs {
        flow.daemon.until(job, "ended", |watch| watch["phase"] == "delivering").await;
    }
    let flow = flow.restart(|_| ()).await;
    let again = flow.sink("app").await.unwrap();
    assert_eq!((&again["state"], &again["pending"]), (&"paused".into(), &3.into()), "{again}");
    assert_eq!(again["paused_at"], sink["paused_at"]);
    let first = flow.deliveries("state=pending").await.last().unwrap()["created_at"].clone();
    assert_eq!(again["oldest_pending_at"], first);
    assert_eq!(flow.receiver.requests().len(), 0, "nothing went out");
    let (status, sink) = flow.daemon.post("/v1/sinks/app/resume", &Value::Null).await;
    assert_eq!((status, &sink["state"], &sink["paused_at"]), (200, &"ok".into(), &Value::Null));
    for job in &jobs {
        assert_eq!(flow.daemon.finished(job).await["phase"], "done");
    }
    let flow = flow.restart(|_| ()).await;
    assert_eq!(flow.sink("app").await.unwrap()["state"], "ok", "it was resumed for good");
    let (status, problem) = flow.daemon.post("/v1/sinks/nobody/pause", &Value::Null).await;
    assert_eq!((status, &problem["code"]), (404, &"unknown_sink".into()));
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_to_a_sink_that_was_taken_out_wait_for_it() {
    let flow = Flow::start(&[HumanDuration::millis(1); 9], |_| ()).await;
    flow.daemon.post("/v1/sinks/app/pause", &Value::Null).await;
    let job = flow.job().await;
    flow.daemon.until(&job, "ended", |watch| watch["phase"] == "delivering").await;
    let sinks = flow.config.sinks.clone();
    let flow = flow.restart(|config| config.sinks.clear()).await;
    let sink = flow.sink("app").await.unwrap();
    assert_eq!((&sink["state"], &sink["pending"]), (&"not_configured".into(), &1.into()), "{sink}");
    let delivery = flow.deliveries("sink=app&state=pending").await.remove(0);
    assert!(delivery["reason"].as_str().unwrap().contains("`app` is not configured"), "{delivery}");
    assert_eq!(delivery["next_attempt_at"], Value::Null);
    let path = format!("/v1/deliveries/{}/redeliver", delivery["id"].as_str().unwrap());
    let (status, again) = flow.daemon.post(&path, &Value::Null).await;
    assert_eq!((status, &again["state"], &again["attempt_count"]), (202, &"pending".into(), &0.into()));
    assert_eq!(flow.sink("app").await.unwrap()["pending"], 1);
    let flow = flow.restart(|config| config.sinks = sinks).await;
    flow.daemon.post("/v1/sinks/app/resume", &Value::Null).await;
    assert_eq!(flow.daemon.finished(&job).await["phase"], "done");
    assert_eq!(flow.receiver.requests().len(), 1);
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ordered_sink_gets_the_events_of_a_job_one_after_another() {
    let flow =
        Flow::start(&[HumanDuration::millis(300); 9], |config| webhook(config, |app| app.ordered = true))
            .await;
    flow.receiver.then([Reply::status(500)]);
    let job = flow.mock.add_job(JobPlan::new().ending(Ending::Failed));
    flow.daemon.watch(&job).await;
    flow.receiver.at_least(1).await;
    let url = format!("{}/v1/jobs/{job}/retry", flow.mock.base_url());
    assert!(flow.daemon.http.post(url).send().await.unwrap().status().is_success());
    flow.daemon.watch(&job).await;
    assert_eq!(flow.daemon.finished(&job).await["outcome"], "completed");
    let told: Vec<_> = flow.receiver.requests().iter().map(|told| told.json()["type"].clone()).collect();
    assert_eq!(told, ["job.failed", "job.failed", "job.completed"]);
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ordered_sink_gets_the_end_of_a_job_after_its_progress_over_restarts() {
    let hour = Duration::from_hours(1);
    let retries = [vec![HumanDuration::secs(2)], vec![HumanDuration::millis(300); 9]].concat();
    let flow = Flow::start(&retries, |config| {
        webhook(config, |app| {
            app.ordered = true;
            app.events = ["job.started", "job.updated", "job.*"].map(str::to_owned).to_vec();
        });
    })
    .await;
    flow.receiver.then([Reply::status(500)]);
    let job = flow.mock.add_job(JobPlan::new().lasting(hour * 100));
    flow.daemon.watch(&job).await;
    flow.daemon.until(&job, "is validated", |watch| watch["status"] == "validating").await;
    flow.mock.advance(hour * 20);
    flow.receiver.at_least(1).await;
    flow.mock.advance(hour * 100);
    flow.daemon.until(&job, "ended", |watch| watch["phase"] == "delivering").await;
    assert_eq!(flow.deliveries("state=pending").await.len(), 3);
    let flow = flow.restart(|_| ()).await;
    assert_eq!(flow.daemon.finished(&job).await["phase"], "done");
    let types =
        || -> Vec<_> { flow.receiver.requests().iter().map(|told| told.json()["type"].clone()).collect() };
    assert_eq!(types(), ["job.started", "job.started", "job.updated", "job.completed"]);
    // Sent again they go in the same order, one after another, although the first one fails at first.
    flow.receiver.then([Reply::status(500)]);
    let again = json!({"sink": "app", "state": "delivered"});
    assert_eq!(flow.daemon.post("/v1/deliveries/redeliver", &again).await.1["count"], 3);
    flow.receiver.at_least(8).await;
    assert_eq!(types()[4..], ["job.started", "job.started", "job.updated", "job.completed"]);
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_earlier_event_sent_again_waits_for_the_attempt_in_flight() {
    let flow = Flow::start(&[HumanDuration::millis(300); 9], |config| {
        webhook(config, |app| {
            app.ordered = true;
            app.timeout = HumanDuration::millis(1500);
        });
    })
    .await;
    let job = flow.mock.add_job(JobPlan::new().ending(Ending::Failed));
    flow.daemon.watch(&job).await;
    let first = flow.daemon.finished(&job).await;
    let url = format!("{}/v1/jobs/{job}/retry", flow.mock.base_url());
    assert!(flow.daemon.http.post(url).send().await.unwrap().status().is_success());
    flow.receiver.then([Reply::Hang]);
    flow.daemon.watch(&job).await;
    flow.receiver.at_least(2).await;
    let failed = first["deliveries"][0]["id"].as_str().unwrap();
    let path = format!("/v1/deliveries/{failed}/redeliver");
    assert_eq!(flow.daemon.post(&path, &json!({})).await.0, 202);
    flow.receiver.at_least(4).await;
    flow.daemon.finished(&job).await;
    let mut attempts: Vec<(Time, Duration)> = Vec::new();
    for delivery in flow.deliveries("").await {
        for attempt in delivery["attempts"].as_array().unwrap() {
            attempts.push((at(attempt), Duration::from_millis(attempt["duration_ms"].as_u64().unwrap())));
        }
    }
    attempts.sort();
    assert_eq!(attempts.len(), 4);
    for two in attempts.windows(2) {
        assert!(two[1].0 >= two[0].0.after(two[0].1), "never two at once: {attempts:?}");
    }
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_holds_over_all_deliveries_of_a_sink() {
    let flow = Flow::start(&[], |config| webhook(config, |app| app.max_per_second = Some(4.0))).await;
    for job in flow.jobs(5).await {
        flow.daemon.finished(&job).await;
    }
    let mut times: Vec<Time> =
        flow.deliveries("").await.iter().map(|delivery| at(&delivery["attempts"][0])).collect();
    times.sort();
    let took = times[4].since(times[0]);
    assert!(took >= Duration::from_millis(990), "five at four a second in {took:?}");
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_asks_for_fewer_requests_is_left_alone_for_that_long() {
    let flow = Flow::start(&[HumanDuration::millis(1); 3], |_| ()).await;
    flow.receiver.then([Reply::Status(429, vec![("retry-after", "2".to_owned())])]);
    let first = flow.job().await;
    flow.receiver.at_least(1).await;
    let (_, deliveries) = flow.daemon.get(&format!("/v1/deliveries?job_id={first}")).await;
    flow.daemon.until(&first, "was refused", |watch| watch["deliveries"][0]["attempts"] == 1).await;
    let second = flow.job().await;
    for job in [&first, &second] {
        assert_eq!(flow.daemon.finished(job).await["phase"], "done");
    }
    let of = async |job: &str| flow.deliveries(&format!("job_id={job}")).await.remove(0)["attempts"].clone();
    let (refused, other) = (of(&first).await, of(&second).await);
    assert!(at(&other[0]).since(at(&refused[0])) >= Duration::from_secs(2), "{deliveries} {other}");
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callback_that_hangs_leaves_room_for_the_others() {
    let flow = Flow::start(&[], |config| {
        config.sinks.clear();
        config.callbacks.allow = vec!["127.0.0.0/8".parse().unwrap()];
    })
    .await;
    let other = Receiver::start().await;
    flow.receiver.always(Reply::Hang);
    let register = async |url: String| {
        let job = flow.mock.add_job(JobPlan::new());
        let body = json!({"job_id": job, "callback": {"url": url}});
        assert_eq!(flow.daemon.post("/v1/watches", &body).await.0, 202);
        job
    };
    for _ in 0..40 {
        register(flow.receiver.url()).await;
    }
    flow.receiver.at_least(1).await;
    let job = register(other.url()).await;
    assert_eq!(flow.daemon.finished(&job).await["phase"], "done");
    assert_eq!((other.requests().len(), flow.receiver.requests().len()), (1, 1));
    // Those that hang would use up the drain time.
    drop(flow.receiver);
    flow.daemon.handle.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_hangs_opens_its_own_breaker_alone() {
    let other = Receiver::start().await;
    let flow = Flow::start(&[HumanDuration::millis(200); 9], |config| {
        webhook(config, |app| app.timeout = HumanDuration::millis(100));
        config.sinks.insert("other".to_owned(), SinkConfig::Webhook(WebhookConfig::to(other.url())));
    })
    .await;
    flow.receiver.always(Reply::Hang);
    flow.jobs(20).await;
    breaker(&flow, "open").await;
    assert_eq!(flow.sink("other").await.unwrap()["breaker"], "closed");
    other.at_least(20).await;
    flow.stop().await;
}
