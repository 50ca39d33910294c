//! The upstream in trouble: a crowd, an outage, errors, cut bodies, refused keys, wishes for patience.

use std::{
    collections::BTreeSet,
    path::Path,
    time::{Duration, Instant, SystemTime},
};

use serde_json::json;
use tidings::{
    config::Config,
    deliver::{Format, SinkConfig, WebhookConfig},
    mock::{Cut, JobPlan, Kind, Mock, RateLimit, Raw},
    schedule::ListPolling,
    util::units::{HumanDuration, Size, Time},
};

use crate::harness::{Daemon, Pulse, Receiver, Sinks, config, eventually, mock};

/// Longer than any test.
const LONG: Duration = Duration::from_hours(1);

fn with_source(mut config: Config, change: impl FnOnce(&mut tidings::upstream::SourceConfig)) -> Config {
    change(config.sources.get_mut("retab").unwrap());
    config
}

/// What `/v1/sources` says of the only source, as soon as it looks like this.
async fn source(daemon: &Daemon, state: &str) -> serde_json::Value {
    eventually(&format!("the source is {state}"), || async {
        let (_, sources) = daemon.get("/v1/sources").await;
        (sources["data"][0]["state"] == state).then(|| sources["data"][0].clone())
    })
    .await
}

/// Makes so many jobs and registers them in one batch.
async fn crowd(daemon: &Daemon, mock: &Mock, count: usize, plan: &JobPlan) -> Vec<String> {
    let jobs: Vec<String> = (0..count).map(|_| mock.add_job(plan.clone())).collect();
    let watches: Vec<_> = jobs.iter().map(|job| json!({"job_id": job})).collect();
    let (status, answer) = daemon.post("/v1/watches/batch", &json!({"watches": watches})).await;
    assert_eq!((status, answer["accepted"].as_u64()), (200, Some(count as u64)), "{answer}");
    jobs
}

/// Waits until all of these are done, and checks that each made exactly one event, delivered once.
async fn each_once(daemon: &Daemon, receiver: &Receiver, jobs: &[String]) {
    for job in jobs {
        let watch = daemon.finished(job).await;
        assert_eq!((&watch["phase"], &watch["outcome"]), (&"done".into(), &"completed".into()), "{watch}");
    }
    let requests = receiver.requests();
    let ids: BTreeSet<&str> = requests.iter().map(|request| request.header("webhook-id")).collect();
    let told: BTreeSet<String> =
        requests.iter().map(|request| request.json()["job_id"].as_str().unwrap().to_owned()).collect();
    assert_eq!((requests.len(), ids.len()), (jobs.len(), jobs.len()), "one event a job, sent once");
    assert_eq!(told, jobs.iter().cloned().collect());
}

async fn started(folder: &Path, mock: &Mock, receiver: &Receiver) -> Daemon {
    Daemon::start(config(folder, mock).webhook("app", &receiver.url(), 3)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_jobs_at_once_stay_inside_the_budget() {
    const RATE: u32 = 100;
    let folder = tempfile::tempdir().unwrap();
    let (pulse, begun) = (Pulse::start(), Instant::now());
    let (mock, receiver) = (mock().await, Receiver::start().await);
    let config = config(folder.path(), &mock).webhook("app", &receiver.url(), 3);
    let config = with_source(config, |source| source.max_requests_per_second = f64::from(RATE));
    let daemon = Daemon::start(config).await;
    let jobs = crowd(&daemon, &mock, 200, &JobPlan::new()).await;
    each_once(&daemon, &receiver, &jobs).await;
    assert_eq!(mock.requests(None, Some(Kind::Full)), 200, "each job is fetched once");
    let arrived: Vec<_> = mock.log().iter().map(|request| begun + request.at).collect();
    pulse.kept_to(&arrived, RATE.into(), f64::from(RATE) / 10.0);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_byte_survives_to_every_place() {
    let full = concat!(
        "\n{ \"id\" : \"job_odd\",\"status\":\t\"completed\" ,\"tiny\":1e-400,\"big\":1234567890123456789012345,",
        "\"lone\":\"\\ud83d \\ude00\\u0000\",\"dup\":1,\"dup\": 2.50,\"esc\":\"\\/\\u00e9é\",\"response\":{ } }\r\n\n"
    );
    let status = "{\"status\": \"completed\",\"completed_at\":\"2026-03-04T08:00:19Z\"}\n";
    let folder = tempfile::tempdir().unwrap();
    let (mock, app, plain) = (mock().await, Receiver::start().await, Receiver::start().await);
    mock.set_raw("job_odd", Raw::new(status, full));
    let out = folder.path().join("out");
    let mut config = config(folder.path(), &mock).webhook("app", &app.url(), 3).disk("disk", &out);
    let raw = WebhookConfig { format: Format::Raw, ..WebhookConfig::to(plain.url()) };
    config.sinks.insert("plain".to_owned(), SinkConfig::Webhook(raw));
    let daemon = Daemon::start(config).await;
    daemon.watch("job_odd").await;
    let watch = daemon.finished("job_odd").await;
    assert_eq!((&watch["phase"], watch["job_size"].as_u64()), (&"done".into(), Some(full.len() as u64)));
    let envelope = &app.requests()[0];
    assert!(envelope.body.ends_with(format!("\"data\":{full}}}").as_bytes()));
    assert_eq!(envelope.header("content-length"), envelope.body.len().to_string());
    assert!(String::from_utf8_lossy(&envelope.body).contains("\"timestamp\":\"2026-03-04T08:00:19"));
    assert_eq!(plain.requests()[0].body, full.as_bytes());
    assert_eq!(std::fs::read(out.join("retab/job_odd.json")).unwrap(), full.as_bytes());
    let (code, stored) = daemon.get_bytes("/v1/watches/retab/job_odd/job").await;
    assert_eq!((code, stored.as_slice()), (200, full.as_bytes()));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_loses_nothing_and_is_probed_gently() {
    let folder = tempfile::tempdir().unwrap();
    let (mock, receiver) = (mock().await, Receiver::start().await);
    let daemon = started(folder.path(), &mock, &receiver).await;
    let jobs = crowd(&daemon, &mock, 20, &JobPlan::new().lasting(LONG)).await;
    for job in &jobs {
        daemon.until(job, "is seen", |watch| !watch["status"].is_null()).await;
    }
    mock.go_dark().await;
    // The first pause is at most 250 ms: behind a longer one no request of before the outage is under way.
    let failing = eventually("a probe has failed", || async {
        let (_, sources) = daemon.get("/v1/sources").await;
        let until = Time::parse(sources["data"][0]["paused_until"].as_str()?)?;
        (until.since(tidings::util::clock::now()) > Duration::from_millis(300))
            .then(|| sources["data"][0].clone())
    })
    .await;
    let (since, sent) = (Instant::now(), failing["requests"].as_u64().unwrap());
    assert!(failing["last_error"].as_str().unwrap().contains("connection"), "{failing}");
    eventually("it is probed four times", || async {
        let (_, sources) = daemon.get("/v1/sources").await;
        (sources["data"][0]["requests"].as_u64().unwrap() >= sent + 4).then_some(())
    })
    .await;
    // Three whole pauses lie between four probes: at least 500 ms each, for all twenty watches together.
    assert!(since.elapsed() >= Duration::from_millis(1450), "four probes in {:?}", since.elapsed());
    mock.advance(LONG * 2);
    mock.come_back().await.unwrap();
    each_once(&daemon, &receiver, &jobs).await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn server_errors_and_dropped_connections_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (mock, receiver) = (mock().await, Receiver::start().await);
    let daemon = started(folder.path(), &mock, &receiver).await;
    mock.set(|faults| faults.error_rate = 1.0);
    let jobs = crowd(&daemon, &mock, 10, &JobPlan::new()).await;
    let failing = source(&daemon, "failing").await;
    assert_eq!(failing["last_error"], "the source answered 500");
    let watch = daemon.until(&jobs[0], "tells", |watch| !watch["last_error"].is_null()).await;
    assert_eq!(
        (&watch["phase"], &watch["last_error"]),
        (&"watching".into(), &"the source answered 500".into())
    );
    mock.set(|faults| (faults.error_rate, faults.drop_rate) = (0.0, 1.0));
    eventually("a connection is dropped", || async { (mock.answers(0) > 0).then_some(()) }).await;
    mock.set(|faults| faults.drop_rate = 0.0);
    each_once(&daemon, &receiver, &jobs).await;
    source(&daemon, "ok").await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_breaks_off_is_fetched_again_from_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let (mock, receiver) = (mock().await, Receiver::start().await);
    let daemon = started(folder.path(), &mock, &receiver).await;
    mock.set(|faults| faults.cut = Some(Cut { after: 400_000, times: 2 }));
    let jobs = crowd(&daemon, &mock, 1, &JobPlan::new().size(Size::kib(512))).await;
    each_once(&daemon, &receiver, &jobs).await;
    assert_eq!(mock.requests(Some(&jobs[0]), Some(Kind::Full)), 3, "two were cut");
    let full = mock.full_body(&jobs[0]).unwrap();
    assert!(receiver.requests()[0].body.ends_with(&[b"\"data\":".as_slice(), &full, b"}"].concat()));
    let incoming = std::fs::read_dir(folder.path().join("data/spool/incoming")).unwrap();
    assert_eq!(incoming.count(), 0, "no piece is left behind");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_key_degrades_until_its_file_changes() {
    let folder = tempfile::tempdir().unwrap();
    let (mock, receiver) = (mock().await, Receiver::start().await);
    let key = folder.path().join("key");
    std::fs::write(&key, "wrong-hunter2\n").unwrap();
    mock.set(|faults| faults.key = Some("right-hunter2-again".to_owned()));
    let config = config(folder.path(), &mock).webhook("app", &receiver.url(), 3);
    let daemon = Daemon::start(with_source(config, |source| source.api_key_file = Some(key.clone()))).await;
    let jobs = crowd(&daemon, &mock, 3, &JobPlan::new()).await;
    let refused = source(&daemon, "unauthorized").await;
    assert_eq!(refused["last_error"], "the source answered 401");
    let (status, ready) = daemon.get("/readyz").await;
    assert_eq!((status, &ready["status"]), (200, &"degraded".into()), "{ready}");
    let shown = format!("{refused} {ready}");
    assert!(!shown.contains("hunter2"), "{shown}");
    let watch = daemon.until(&jobs[0], "is still watched", |watch| watch["phase"] == "watching").await;
    assert_eq!(watch["outcome"], serde_json::Value::Null);
    std::fs::write(&key, "right-hunter2-again\n").unwrap();
    each_once(&daemon, &receiver, &jobs).await;
    source(&daemon, "ok").await;
    assert_eq!(daemon.get("/readyz").await.1["status"], "ready");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_that_is_asked_for_holds_for_the_whole_source() {
    const ASKED: Duration = Duration::from_secs(2);
    let folder = tempfile::tempdir().unwrap();
    let (mock, receiver) = (mock().await, Receiver::start().await);
    let config = config(folder.path(), &mock).webhook("app", &receiver.url(), 3);
    let config = with_source(config, |source| {
        source.polling.min_interval = HumanDuration::millis(500);
        source.polling.max_interval = Some(HumanDuration::millis(600));
        source.polling.list = ListPolling::Off;
    });
    let daemon = Daemon::start(config).await;
    // Nine looks are under way together: the fifth is asked to wait, those around it are answered as usual.
    mock.set(|faults| {
        faults.latency = Duration::from_millis(300);
        faults.rate_limit = Some(RateLimit { every: 5, retry_after: Some("2".to_owned()) });
    });
    let jobs = crowd(&daemon, &mock, 9, &JobPlan::new().lasting(LONG)).await;
    source(&daemon, "limited").await;
    mock.set(|faults| faults.rate_limit = None);
    eventually("it is asked again", || async { (mock.total() > 9).then_some(()) }).await;
    let log = mock.log();
    assert!(mock.answers(429) > 0);
    let early = log.iter().filter(|seen| seen.at < log[0].at + ASKED).count();
    assert!(early <= 9, "{early} requests before the wish was over: {log:?}");
    mock.advance(LONG * 2);
    each_once(&daemon, &receiver, &jobs).await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_until_a_date_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (mock, receiver) = (mock().await, Receiver::start().await);
    let daemon = started(folder.path(), &mock, &receiver).await;
    let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(3));
    let until = httpdate::parse_http_date(&date).unwrap();
    mock.set(|faults| faults.rate_limit = Some(RateLimit { every: 1, retry_after: Some(date) }));
    let jobs = crowd(&daemon, &mock, 1, &JobPlan::new()).await;
    let limited = source(&daemon, "limited").await;
    assert!(
        !limited["paused_until"].is_null() && limited["last_error"] == "the source answered 429",
        "{limited}"
    );
    mock.set(|faults| faults.rate_limit = None);
    eventually("it is asked again", || async { (mock.total() > 1).then_some(()) }).await;
    assert!(SystemTime::now() >= until, "it came too early");
    each_once(&daemon, &receiver, &jobs).await;
    daemon.stop().await;
}
