//! Whose failure an attempt is: the event's, the sink's, or that of too many at once.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tidings::{mock::JobPlan, util::units::HumanDuration};
use tokio::net::TcpListener;

use crate::harness::{Flow, Reply, Request, eventually, together};

const HOUR: Duration = Duration::from_hours(1);

/// Whether an event is about a job whose id begins like this.
fn about(request: &Request, prefix: &str) -> bool {
    request.json()["job_id"].as_str().is_some_and(|job| job.starts_with(prefix))
}

/// Answers events of jobs whose id begins with `bad` like this.
fn refuses_bad_ones(flow: &Flow, status: u16) {
    flow.receiver.rule(move |request| about(request, "bad").then(|| Reply::status(status)));
}

/// Registers jobs `NAME_0` and so on.
async fn jobs(flow: &Flow, name: &str, count: usize) -> Vec<String> {
    let mut jobs = Vec::new();
    for n in 0..count {
        jobs.push(flow.mock.add_job(JobPlan::new().id(format!("{name}_{n}"))));
    }
    let watches: Vec<_> = jobs.iter().map(|job| json!({"job_id": job})).collect();
    let (status, answer) = flow.daemon.post("/v1/watches/batch", &json!({"watches": watches})).await;
    assert_eq!((status, &answer["accepted"]), (200, &count.into()), "{answer}");
    jobs
}

async fn delivered(flow: &Flow, jobs: &[String]) {
    for job in jobs {
        let watch = flow.daemon.finished(job).await;
        assert_eq!(watch["phase"], "done", "{watch}");
    }
}

async fn sink_is(flow: &Flow, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let wanted = &wanted;
    eventually(what, || async { flow.sink("app").await.filter(|sink| wanted(sink)) }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_are_refused_hold_up_no_other_and_show_the_sink_as_failing() {
    let flow = Flow::start(&[HumanDuration::secs(2); 2], |_| ()).await;
    refuses_bad_ones(&flow, 422);
    let bad = jobs(&flow, "bad", 40).await;
    let sink = sink_is(&flow, "fails for all", |sink| sink["failures_in_row"].as_u64() >= Some(40)).await;
    assert_eq!((&sink["state"], &sink["breaker"]), (&"failing".into(), &"closed".into()), "{sink}");
    let (_, ready) = flow.daemon.get("/readyz").await;
    assert_eq!(ready["status"], "degraded", "{ready}");
    delivered(&flow, &jobs(&flow, "good", 40).await).await;
    for job in &bad {
        let watch = flow.daemon.finished(job).await;
        assert_eq!(
            (&watch["phase"], &watch["deliveries"][0]["attempts"]),
            (&"dead".into(), &3.into()),
            "{watch}"
        );
    }
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_break_the_receiver_become_dead_letters_alone() {
    // Its attempts last for longer than a breaker wants failures to last before it opens, however fast this machine is.
    let flow = Flow::start(&[HumanDuration::millis(300); 5], |_| ()).await;
    refuses_bad_ones(&flow, 500);
    let bad = jobs(&flow, "bad", 12).await;
    sink_is(&flow, "opens its breaker", |sink| sink["breaker"] != "closed").await;
    delivered(&flow, &jobs(&flow, "good", 60).await).await;
    for job in &bad {
        let watch = flow.daemon.finished(job).await;
        assert_eq!(
            (&watch["phase"], &watch["deliveries"][0]["attempts"]),
            (&"dead".into(), &6.into()),
            "{watch}"
        );
    }
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_few_failures_show_a_sink_as_failing_and_a_success_as_well() {
    let flow = Flow::start(&[HumanDuration::secs(1), HumanDuration::secs(3600)], |_| ()).await;
    delivered(&flow, &[flow.job().await]).await;
    let worked = flow.sink("app").await.unwrap();
    assert_eq!((&worked["state"], &worked["failures_in_row"]), (&"ok".into(), &0.into()));
    flow.receiver.always(Reply::status(500));
    jobs(&flow, "three", 3).await;
    let sink = sink_is(&flow, "fails", |sink| sink["state"] == "failing").await;
    assert_eq!((&sink["breaker"], &sink["last_success_at"]), (&"closed".into(), &worked["last_success_at"]));
    assert!(sink["failures_in_row"].as_u64() >= Some(3), "{sink}");
    let (_, ready) = flow.daemon.get("/readyz").await;
    assert_eq!(ready["status"], "degraded", "{ready}");
    let (_, metrics) = flow.daemon.get_bytes("/metrics").await;
    let metrics = String::from_utf8(metrics).unwrap();
    assert!(metrics.lines().any(|line| line == "tidings_sink_failing{sink=\"app\"} 1"), "{metrics}");
    flow.receiver.always(Reply::status(204));
    delivered(&flow, &[flow.job().await]).await;
    assert_eq!(flow.sink("app").await.unwrap()["state"], "ok");
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_event_that_is_taken_shows_that_a_sink_works_but_not_that_it_takes_each_event() {
    // No delivery is tried a second time while the test runs.
    let flow = Flow::start(&[HumanDuration(HOUR)], |_| ()).await;
    for (status, shown) in [(500, "ok"), (400, "failing")] {
        flow.receiver.always(Reply::status(status));
        jobs(&flow, &format!("answered_{status}"), 3).await;
        sink_is(&flow, "fails", |sink| sink["state"] == "failing").await;
        flow.receiver.always(Reply::status(204));
        let (_, attempt) = flow.daemon.post("/v1/sinks/app/test", &Value::Null).await;
        assert_eq!(attempt["status"], 204, "{attempt}");
        let sink = flow.sink("app").await.unwrap();
        assert_eq!((&sink["state"], &sink["breaker"]), (&shown.into(), &"closed".into()), "{status}: {sink}");
    }
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_event_that_is_taken_closes_the_breaker_and_so_does_resume() {
    together(["/v1/sinks/app/test", "/v1/sinks/app/resume"].into_iter().map(closes_the_breaker)).await;
}

async fn closes_the_breaker(route: &'static str) {
    // A schedule so long that no probe is made while the test runs.
    let flow = Flow::start(&[HumanDuration(HOUR)], |_| ()).await;
    flow.receiver.always(Reply::status(500));
    let mut all = Vec::new();
    while flow.sink("app").await.unwrap()["breaker"] != "open" {
        all.push(flow.job().await);
    }
    all.extend(jobs(&flow, "late", 3).await);
    flow.receiver.always(Reply::status(204));
    assert_eq!(flow.daemon.post(route, &Value::Null).await.0, 200);
    delivered(&flow, &all[all.len() - 13..]).await;
    assert_eq!(flow.sink("app").await.unwrap()["breaker"], "closed");
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn waits_that_the_receiver_asks_for_cost_no_step() {
    let flow = Flow::start(&[], |_| ()).await;
    flow.receiver.then((0..2).map(|_| Reply::Status(429, vec![("retry-after", "1".to_owned())])));
    let job = flow.job().await;
    delivered(&flow, std::slice::from_ref(&job)).await;
    let delivery = flow.deliveries("").await.remove(0);
    let statuses: Vec<_> =
        delivery["attempts"].as_array().unwrap().iter().map(|attempt| attempt["status"].clone()).collect();
    assert_eq!(statuses, [429, 429, 204]);
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_that_hang_delay_no_callback_of_another() {
    let flow = Flow::start(&[], |config| {
        config.sinks.clear();
        config.callbacks.allow = vec!["127.0.0.0/8".parse().unwrap()];
    })
    .await;
    // Four hosts, and five ports of one host, that take a connection and never answer.
    let mut silent = Vec::new();
    for host in [2, 3, 4, 5, 6, 6, 6, 6, 6] {
        silent.push(TcpListener::bind(format!("127.0.0.{host}:0")).await.unwrap());
    }
    let mut watches = Vec::new();
    for n in 0..180 {
        let job = flow.mock.add_job(JobPlan::new().id(format!("slow_{n}")));
        let url = format!("http://{}/", silent[n % silent.len()].local_addr().unwrap());
        watches.push(json!({"job_id": job, "callback": {"url": url}}));
    }
    let (status, answer) = flow.daemon.post("/v1/watches/batch", &json!({"watches": watches})).await;
    assert_eq!((status, &answer["accepted"]), (200, &180.into()), "{answer}");
    let callback = eventually("all wait", || async {
        flow.sink("callback").await.filter(|sink| sink["pending"] == 180 && sink["in_flight"] == 9)
    })
    .await;
    let shown = &callback["origins"].as_array().unwrap()[0];
    assert!(shown["origin"].as_str().unwrap().starts_with("http://127.0.0."), "{callback}");
    for _ in 0..20 {
        let job = flow.mock.add_job(JobPlan::new());
        let body = json!({"job_id": job, "callback": {"url": flow.receiver.url()}});
        assert_eq!(flow.daemon.post("/v1/watches", &body).await.0, 202);
        assert_eq!(flow.daemon.finished(&job).await["phase"], "done");
    }
    // An attempt is in flight for a moment after its delivery is recorded.
    eventually("only those that hang are in flight", || async {
        flow.sink("callback").await.filter(|sink| sink["in_flight"] == 9)
    })
    .await;
    // Those that hang would use up the drain time.
    drop(silent);
    flow.daemon.handle.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_at_a_receiver_with_a_limit_goes_out_as_fast_as_it_takes_it() {
    const RATE: f64 = 20.0;
    let flow = Flow::start(&[HumanDuration::secs(1), HumanDuration(HOUR)], |_| ()).await;
    flow.daemon.post("/v1/sinks/app/pause", &Value::Null).await;
    let all = jobs(&flow, "job", 100).await;
    for job in &all {
        flow.daemon.until(job, "ended", |watch| watch["phase"] == "delivering").await;
    }
    let (mut tokens, mut refilled) = (5.0_f64, Instant::now());
    flow.receiver.rule(move |_| {
        let now = Instant::now();
        tokens = (tokens + (now - refilled).as_secs_f64() * RATE).min(5.0);
        refilled = now;
        let full = tokens < 1.0;
        tokens -= if full { 0.0 } else { 1.0 };
        full.then(|| Reply::status(503))
    });
    flow.daemon.post("/v1/sinks/app/resume", &Value::Null).await;
    delivered(&flow, &all).await;
    let ids: BTreeSet<String> =
        flow.receiver.requests().iter().map(|request| request.header("webhook-id").to_owned()).collect();
    let refused = flow.receiver.requests().len() - 100;
    assert_eq!(ids.len(), 100);
    assert!(refused < 50, "{refused} were refused");
    let (_, page) = flow.daemon.get("/v1/deliveries?state=dead").await;
    assert_eq!(page["data"], json!([]));
    flow.stop().await;
}
