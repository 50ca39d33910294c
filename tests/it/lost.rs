//! What an upstream says of one job: not yet known, unknown words, odd answers, and the ways to be lost.

use std::time::Duration;

use serde_json::{Value, json};
use tidings::{
    config::Config,
    mock::{JobPlan, Kind, Lag, Raw, Timestamps},
    util::units::{HumanDuration, Size, Time},
};

use crate::harness::{Flow, Request, eventually, together};

/// Longer than any test.
const LONG: Duration = Duration::from_hours(1);

const RUNNING: &str = "{ \"status\" : \"in_progress\", \"n\":1e-400 }\n";

impl Flow {
    /// The watch of a lost job with the event that says so; it came once and names the reason.
    async fn lost(&self, job: &str, reason: &str) -> (Value, Vec<u8>) {
        let watch = self.daemon.finished(job).await;
        assert_eq!((&watch["phase"], &watch["outcome"]), (&"done".into(), &"lost".into()), "{watch}");
        let requests = self.receiver.requests();
        let about: Vec<_> = requests.iter().filter(|request| request.json()["job_id"] == job).collect();
        assert_eq!(about.len(), 1);
        let event = about[0].json();
        assert_eq!((&event["type"], &event["outcome"]), (&"job.lost".into(), &"lost".into()));
        assert_eq!(about[0].header("webhook-id"), watch["event_id"]);
        let told = event["reason"].as_str().unwrap();
        assert!(told.contains(reason), "{told}");
        assert_eq!(watch["last_error"], told);
        let (status, problem) = self.daemon.get(&format!("/v1/watches/retab/{job}/job")).await;
        assert_eq!((status, &problem["code"]), (404, &"job_lost".into()));
        (watch, about[0].body.clone())
    }

    /// Waits until a job is completed and delivered.
    async fn completed(&self, job: &str) -> Value {
        let watch = self.done(job).await;
        assert_eq!(watch["outcome"], "completed", "{watch}");
        watch
    }
}

fn grace(span: HumanDuration) -> impl FnOnce(&mut Config) {
    move |config| config.sources.get_mut("retab").unwrap().not_found_grace = Some(span)
}

fn time(value: &Value) -> Time {
    Time::parse(value.as_str().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_turns_up_late_is_followed_to_its_end() {
    let flow = Flow::quick(grace(HumanDuration::secs(30))).await;
    flow.mock.set(|faults| faults.lag = Lag { requests: 12, period: Duration::ZERO });
    let job = flow.job().await;
    flow.completed(&job).await;
    assert_eq!(flow.mock.answers(404), 12);
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_nobody_knows_is_lost_at_the_fourth_404() {
    let flow = Flow::quick(grace(HumanDuration::secs(0))).await;
    flow.daemon.watch("job_none").await;
    let (watch, body) = flow.lost("job_none", "404").await;
    assert_eq!(watch["polls"], 4);
    assert_eq!(flow.mock.requests(Some("job_none"), Some(Kind::Status)), 4);
    assert_eq!(flow.mock.requests(Some("job_none"), Some(Kind::Full)), 0);
    assert!(body.ends_with(b"\"data\":null}"));
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_job_is_lost_before_its_grace_is_over() {
    const GRACE: HumanDuration = HumanDuration::millis(1500);
    let flow = Flow::quick(grace(GRACE)).await;
    flow.daemon.watch("job_none").await;
    let (watch, _) = flow.lost("job_none", "404").await;
    let lasted = time(&watch["finished_at"]).since(time(&watch["created_at"]));
    assert!(lasted >= GRACE.0, "{lasted:?}");
    assert!(watch["polls"].as_u64().unwrap() > 4, "{watch}");
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_vanishes_is_lost_with_its_last_status() {
    let flow = Flow::quick(grace(HumanDuration::secs(0))).await;
    flow.mock.set_raw("job_gone", Raw::new(RUNNING, ""));
    flow.daemon.watch("job_gone").await;
    flow.daemon.until("job_gone", "is seen", |watch| watch["status"] == "in_progress").await;
    flow.mock.set_raw("job_gone", Raw::code(404));
    let (watch, body) = flow.lost("job_gone", "404").await;
    assert_eq!(watch["status"], "in_progress");
    assert!(body.ends_with(format!("\"data\":{RUNNING}}}").as_bytes()), "spliced in unchanged");
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_gone_is_lost_at_the_fourth_410() {
    let flow = Flow::quick(grace(HumanDuration::secs(0))).await;
    flow.mock.set_raw("job_gone", Raw::code(410));
    flow.daemon.watch("job_gone").await;
    let (watch, _) = flow.lost("job_gone", "410").await;
    assert_eq!(watch["polls"], 4);
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_ends_a_watch_once_the_upstream_can_be_asked() {
    let flow = Flow::quick(|_| ()).await;
    let job = flow.mock.add_job(JobPlan::new().lasting(LONG));
    let asked = json!({"job_id": job, "deadline": "1500ms"});
    let (status, fresh) = flow.daemon.post("/v1/watches", &asked).await;
    assert_eq!(status, 202);
    let (watch, body) = flow.lost(&job, "deadline").await;
    let lasted = time(&watch["finished_at"]).since(time(&fresh["created_at"]));
    assert!(lasted >= Duration::from_millis(1500), "{lasted:?}");
    let text = String::from_utf8(body).unwrap();
    assert!(text.contains(&format!("\"data\":{{\"id\":\"{job}\"")), "{text}");
    // Two deadlines pass while nothing can be asked: one job goes on for ever, the other ended meanwhile.
    let (slow, quick) = (
        flow.mock.add_job(JobPlan::new().lasting(LONG * 5)),
        flow.mock.add_job(JobPlan::new().lasting(LONG)),
    );
    flow.mock.go_dark().await;
    let asked_before = flow.daemon.get("/v1/sources").await.1["data"][0]["requests"].as_u64().unwrap();
    for job in [&slow, &quick] {
        let asked = json!({"job_id": job, "deadline": "300ms"});
        assert_eq!(flow.daemon.post("/v1/watches", &asked).await.0, 202);
    }
    let since = std::time::Instant::now();
    eventually("a probe fails after the deadlines", || async {
        let (_, sources) = flow.daemon.get("/v1/sources").await;
        let is_late = since.elapsed() > Duration::from_millis(600);
        (is_late && sources["data"][0]["requests"].as_u64()? >= 3 + asked_before).then_some(())
    })
    .await;
    for job in [&slow, &quick] {
        let (_, watch) = flow.daemon.get(&format!("/v1/watches/retab/{job}")).await;
        assert_eq!(watch["phase"], "watching", "{watch}");
    }
    flow.mock.advance(LONG * 2);
    flow.mock.come_back().await.unwrap();
    flow.completed(&quick).await;
    flow.lost(&slow, "deadline").await;
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_status_route_is_remembered() {
    let flow = Flow::quick(|_| ()).await;
    flow.mock.set(|faults| faults.no_status_route = true);
    let first = flow.job().await;
    flow.completed(&first).await;
    assert_eq!(flow.mock.requests(None, Some(Kind::Status)), 2, "asked, and once more to be sure");
    let second = flow.job().await;
    flow.completed(&second).await;
    assert_eq!(flow.mock.requests(None, Some(Kind::Status)), 2, "and never again");
    assert!(flow.mock.requests(Some(&second), Some(Kind::Light)) > 0);
    assert_eq!(flow.mock.requests(None, Some(Kind::Full)), 2);
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_word_is_passed_on_and_counts_as_pending() {
    let flow = Flow::quick(|_| ()).await;
    let plan = JobPlan { word: Some("out_for_lunch".to_owned()), ..JobPlan::new().lasting(LONG) };
    let job = flow.mock.add_job(plan);
    flow.mock.advance(LONG / 2);
    flow.daemon.watch(&job).await;
    let seen = flow.daemon.until(&job, "is seen", |watch| watch["status"] == "out_for_lunch").await;
    assert_eq!((&seen["phase"], &seen["outcome"]), (&"watching".into(), &Value::Null));
    flow.mock.advance(LONG);
    flow.completed(&job).await;
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_generations_of_the_api_are_read() {
    let flow = Flow::quick(|_| ()).await;
    for timestamps in [Timestamps::Epoch, Timestamps::Iso] {
        flow.mock.set_timestamps(timestamps);
        let job = flow.job().await;
        flow.completed(&job).await;
        let full: Value = serde_json::from_slice(&flow.mock.full_body(&job).unwrap()).unwrap();
        let ended = match &full["completed_at"] {
            Value::Number(seconds) => seconds.as_i64().unwrap() * 1000,
            text => time(text).0,
        };
        let requests = flow.receiver.requests();
        let event = requests.iter().map(Request::json).find(|event| event["job_id"] == *job).unwrap();
        assert_eq!(time(&event["timestamp"]).0, ended, "{timestamps:?}");
    }
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_makes_no_sense_is_the_sources_failure() {
    let answers = [("<html>busy</html>", "no JSON"), ("{\"state\":\"completed\"}", "no status")];
    together(answers.into_iter().map(|(body, error)| is_the_sources_failure(body, error))).await;
}

async fn is_the_sources_failure(body: &'static str, error: &'static str) {
    let flow = Flow::quick(|_| ()).await;
    let job = flow.mock.add_job(JobPlan::new());
    flow.mock.set_raw(&job, Raw { code: 200, status: Some(body.into()), full: None });
    flow.daemon.watch(&job).await;
    let watch = flow
        .daemon
        .until(&job, "tells", |watch| watch["last_error"].as_str().is_some_and(|told| told.contains(error)))
        .await;
    assert_eq!(watch["phase"], "watching");
    eventually("the source is failing", || async {
        (flow.daemon.get("/v1/sources").await.1["data"][0]["state"] == "failing").then_some(())
    })
    .await;
    flow.mock.set(|faults| faults.raw.clear());
    assert_eq!(flow.completed(&job).await["last_error"], Value::Null);
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_too_large_waits_for_somebody_to_raise_the_limit() {
    let limit =
        |size: Size| move |config: &mut Config| config.sources.get_mut("retab").unwrap().max_job_size = size;
    let flow = Flow::quick(limit(Size::kib(64))).await;
    let job = flow.run(JobPlan::new().size(Size::kib(128))).await;
    let told = |watch: &Value| watch["last_error"].as_str().is_some_and(|told| told.contains("max_job_size"));
    let watch = flow.until(&job, "tells", told).await;
    assert_eq!((&watch["phase"], &watch["status"]), (&"fetching".into(), &"completed".into()));
    let fits = flow.run(JobPlan::new().size(Size::kib(60))).await;
    flow.completed(&fits).await;
    let flow = flow.restart(limit(Size::kib(256))).await;
    flow.completed(&job).await;
    flow.stop().await;
}
