//! Times in the answers of a source are hints: whatever they say, jobs are polled in time, and nothing wrong is learned.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use axum::{Json, Router, extract::Path, http::header, response::IntoResponse, routing::get};
use serde_json::{Value, json};
use tidings::util::units::{HumanDuration, Time};
use tokio::{task::JoinHandle, time::Instant};

use crate::harness::{Flow, Setup, eventually, serve, together};

/// How the source writes a time of its own clock.
type Written = fn(Time) -> Value;

/// A Retab-like API whose jobs end this long after they were made, by a clock that is `off` by so many milliseconds.
struct Upstream {
    url: SocketAddr,
    polls: Arc<Mutex<HashMap<String, Vec<Instant>>>>,
    server: JoinHandle<()>,
}

fn now() -> Time {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Time(i64::try_from(since.as_millis()).unwrap())
}

fn http_date(at: Time) -> String {
    let at = SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(at.0).unwrap());
    httpdate::fmt_http_date(at)
}

impl Upstream {
    /// A job is made when it is asked for first. One whose id begins with `odd` writes its times by `odd`.
    async fn start(off: i64, takes: Duration, odd: Written) -> Self {
        let polls: Arc<Mutex<HashMap<String, Vec<Instant>>>> = Arc::default();
        let (asked, made) = (Arc::clone(&polls), Arc::new(Mutex::new(HashMap::<String, Time>::new())));
        let answer = move |id: String, is_poll: bool| {
            if is_poll {
                asked.lock().unwrap().entry(id.clone()).or_default().push(Instant::now());
            }
            let created = *made.lock().unwrap().entry(id.clone()).or_insert_with(now);
            let ended = created.after(takes);
            let written = if id.starts_with("odd") { odd } else { |time: Time| json!(time.to_string()) };
            let theirs = |time: Time| written(Time(time.0 + off));
            let mut job = json!({"id": id, "status": "in_progress", "created_at": theirs(created)});
            if now() >= ended {
                job["status"] = json!("completed");
                job["completed_at"] = theirs(ended);
            }
            ([(header::DATE, http_date(Time(now().0 + off)))], Json(job)).into_response()
        };
        let (light, full) = (answer.clone(), answer);
        let router = Router::new()
            .route("/v1/jobs/{id}/status", get(|Path(id): Path<String>| async move { light(id, true) }))
            .route("/v1/jobs/{id}", get(|Path(id): Path<String>| async move { full(id, false) }));
        let (url, server) = serve(router).await;
        Self { url, polls, server }
    }

    fn polls(&self, job: &str) -> Vec<Instant> {
        self.polls.lock().unwrap().get(job).cloned().unwrap_or_default()
    }

    async fn flow(&self) -> Flow {
        let setup = Setup::new().await.retab(|source| {
            source.base_url = Some(format!("http://{}", self.url));
            source.max_requests_per_second = 50.0;
            source.polling.min_interval = HumanDuration::millis(250);
            source.polling.max_interval = None;
        });
        setup.start().await
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.server.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_with_absurd_times_is_polled_no_more_than_others() {
    let absurd: [Written; 6] = [
        |_| json!("0001-01-01T00:00:00Z"),
        |_| json!(0),
        |_| json!(-1),
        |_| json!(1e300),
        |_| json!("9999-12-31T23:59:59.9999999Z"),
        |_| json!("1999-12-31T23:59:59Z"),
    ];
    together(absurd.into_iter().map(is_polled_like_others)).await;
}

async fn is_polled_like_others(odd: Written) {
    let upstream = Upstream::start(0, Duration::from_secs(3600), odd).await;
    let flow = upstream.flow().await;
    let daemon = &flow.daemon;
    daemon.watch("odd").await;
    let honest: Vec<String> = (0..5).map(|n| format!("job_{n}")).collect();
    for job in &honest {
        daemon.watch(job).await;
    }
    for job in honest.iter().map(String::as_str).chain(["odd"]) {
        eventually(&format!("{job} is polled"), || async { (upstream.polls(job).len() >= 3).then_some(()) })
            .await;
    }
    let polls = upstream.polls("odd");
    for pair in polls.windows(2) {
        let gap = pair[1] - pair[0];
        assert!(gap >= Duration::from_millis(200), "{:?}: polled again after {gap:?}", odd(now()));
    }
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_whose_clock_is_off_teaches_the_right_ages() {
    together(
        [-3_600_000_i64, -600_000, 600_000, 3_600_000, 30 * 86_400_000]
            .into_iter()
            .map(right_ages_are_learned),
    )
    .await;
}

async fn right_ages_are_learned(off: i64) {
    let upstream = Upstream::start(off, Duration::from_millis(400), |_| Value::Null).await;
    let flow = upstream.flow().await;
    let daemon = &flow.daemon;
    let jobs: Vec<String> = (0..12).map(|n| format!("job_{n}")).collect();
    for job in &jobs {
        daemon.watch(job).await;
    }
    for job in &jobs {
        daemon.finished(job).await;
    }
    let (_, source) = daemon.get("/v1/sources/retab").await;
    let kind = &source["polling"]["kinds"][0];
    assert_eq!(kind["finishes"], 12, "{off}: {source}");
    let median = kind["median_seconds"].as_f64().unwrap();
    assert!((0.2..30.0).contains(&median), "off by {off} ms, and jobs seem to take {median} s");
    let delay = source["polling"]["mean_delay_seconds"].as_f64().unwrap();
    assert!(delay < 30.0, "off by {off} ms, and the mean delay seems to be {delay} s");
    let (_, metrics) = daemon.get_bytes("/metrics").await;
    let metrics = String::from_utf8(metrics).unwrap();
    let sum = metrics.lines().find(|line| line.starts_with("tidings_detection_delay_seconds_sum")).unwrap();
    assert!(sum.split_whitespace().last().unwrap().parse::<f64>().unwrap() < 300.0, "{off}: {sum}");
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_unit_of_an_epoch_teaches_the_same() {
    let units: [Written; 6] = [
        |time| json!(std::time::Duration::from_millis(u64::try_from(time.0).unwrap()).as_secs_f64()),
        |time| json!(time.0),
        |time| json!(time.0 * 1000),
        |time| json!(time.0 * 1_000_000),
        |time| json!((time.0 * 1_000_000).to_string()),
        |time| json!((time.0 * 1000).to_string()),
    ];
    together(units.into_iter().map(teaches_like_others)).await;
}

async fn teaches_like_others(unit: Written) {
    let upstream = Upstream::start(0, Duration::from_millis(400), unit).await;
    let flow = upstream.flow().await;
    let daemon = &flow.daemon;
    daemon.watch("odd").await;
    let watch = daemon.finished("odd").await;
    let (_, source) = daemon.get("/v1/sources/retab").await;
    let delay = source["polling"]["mean_delay_seconds"].as_f64();
    assert!(delay.is_some_and(|delay| delay < 30.0), "{}: {source}", unit(now()));
    assert_eq!(watch["outcome"], "completed");
    // And what was written can be read.
    let flow = flow.restart(|_| {}).await;
    assert_eq!(flow.daemon.get("/v1/watches/retab/odd").await.0, 200, "{}", unit(now()));
    flow.stop().await;
}
